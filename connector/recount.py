"""What invoices should have earned, counted from their rows for the audit, without the product's arithmetic: in whole numbers.

A history is replayed in the order of its invoices; each is looked at with what was before it, never with sums that were kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from math import lcm

from connector.loyalty.program import EarnRule, Program, Tier, Window
from connector.rows.values import Row

type Month = tuple[int, int]


@dataclass(slots=True)
class Recount:
    """One customer's invoices in order. `since` is the day on which their tenure began; `before` what each month has so far."""

    program: Program
    since: date | None
    before: dict[Month, tuple[Decimal, int]] = field(default_factory=dict)

    def next(self, row: Row, on: date, rule: EarnRule | None) -> tuple[Decimal, int]:
        """The spend and the points that an invoice counts, by a rule; None is in force for an invoice that earns nothing."""
        spend, points = Decimal(0), 0
        if rule and row["statecode"] != 3 and (row["statecode"], row["statuscode"]) not in {(1, 3), (1, 100003)}:
            spend = row["totalamount_base"] - (row["totaltax_base"] or 0) - (row["freightamount_base"] or 0)
            points = self._points(row, spend, rule, on)
        had_spend, had_points = self.before.get((on.year, on.month), (Decimal(0), 0))
        self.before[on.year, on.month] = (had_spend + spend, had_points + points)
        return spend, points

    def _points(self, row: Row, spend: Decimal, rule: EarnRule, on: date) -> int:
        """spend * earning lines / all lines * rate * multiplier, rounded down once."""
        lines = [
            (line["loy_productcategory"] or "", line["extendedamount_base"] - (line["tax_base"] or 0))
            for line in row["invoice_details"]
        ] or [("", spend)]
        every = sum(net for _, net in lines)
        earning = sum(net for category, net in lines if category.casefold() not in rule.excluded_categories)
        if not every:
            return 0
        factors = _integers([spend, earning, rule.points_per_unit, self._multiplier(on), every])
        scale, (*above, below) = factors
        product = 1
        for factor in above:
            product *= factor
        # Four factors above, one below: three scales are left over.
        points = product // (below * scale**3) if below > 0 else -product // (-below * scale**3)
        return max(0, points)

    def _multiplier(self, on: date) -> Decimal:
        """Of the best tier that was reached on the day or at the end of a month before, as far as it is kept until now."""
        tiers = self.program.tiers_on(on)
        kept = any(tier.grace_months or tier.soft_landing for tier in tiers)
        best, day = 0, on
        for ago in range(sum(1 + tier.grace_months for tier in tiers) + 1 if kept else 1):
            reached = (place for place, tier in enumerate(tiers) if self._reached(tier, day))
            best = max([best, *(_left_of(tiers, place, ago) for place in reached)])
            day = date.fromordinal(day.replace(day=1).toordinal() - 1)
        return tiers[best].multiplier

    def _reached(self, tier: Tier, on: date) -> bool:
        if tier.minimum_tenure_months and (
            self.since is None or _full_months(self.since, on) < tier.minimum_tenure_months
        ):
            return False
        inside = [sums for month, sums in self.before.items() if _in_window(tier, month, on)]
        return (
            sum((spend for spend, _ in inside), Decimal(0)) >= tier.minimum_spend
            and sum(points for _, points in inside) >= tier.minimum_points
        )


def _left_of(tiers: Sequence[Tier], place: int, months: int) -> int:
    """Where somebody stands so many months after they reached a place for the last time."""
    while place and months > tiers[place].grace_months:
        months -= 1 + tiers[place].grace_months
        place = place - 1 if tiers[place].soft_landing else 0
    return place


def _in_window(tier: Tier, month: Month, on: date) -> bool:
    ago = (on.year - month[0]) * 12 + on.month - month[1]
    match tier.window:
        case Window.LIFETIME:
            return True
        case Window.CALENDAR_YEAR:
            return month[0] == on.year and ago >= 0
        case Window.ROLLING_MONTHS:
            return 0 <= ago < tier.window_months


def _full_months(since: date, on: date) -> int:
    months = (on.year - since.year) * 12 + on.month - since.month
    return months if on.day >= since.day or _last_of_month(on) else months - 1


def _last_of_month(day: date) -> bool:
    return date.fromordinal(day.toordinal() + 1).month != day.month


def _integers(amounts: Iterable[Decimal]) -> tuple[int, Iterator[int]]:
    """Amounts as whole numbers of one unit, and how many of it make one."""
    ratios = [Decimal(amount).as_integer_ratio() for amount in amounts]
    scale = lcm(*(below for _, below in ratios))
    return scale, (above * (scale // below) for above, below in ratios)
