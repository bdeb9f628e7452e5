"""What invoices are worth, by brute force: the whole history from its beginning, in fractions, with arithmetic of its own.

Only data classes come from the product; nothing here calls its functions.
"""

from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction

from connector.loyalty.earning import Invoice, Status
from connector.loyalty.program import Program, Rounding, SpendableOn, Tier, Window


@dataclass
class Worth:
    """Points by document, total spend, spendable points by last usable day, points not spendable yet, tier code."""

    points: dict[str, int] = field(default_factory=dict)
    spend: Fraction = Fraction(0)
    lots: dict[date, int] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    tier: str = ""


def worth(program: Program, invoices: Iterable[Invoice], since: date | None, now: datetime) -> Worth:
    result = Worth()
    past: list[tuple[date, Fraction, int]] = []
    for invoice in sorted(invoices, key=lambda i: (i.invoiced_on, i.document)):
        result.points[invoice.document] = 0
        if invoice.status is Status.CANCELLED:
            continue
        day = invoice.invoiced_on.date()
        multiplier = Fraction(tier_on(program, past, since, day).multiplier)
        points = int(base(program, invoice) * multiplier)
        past.append((day, Fraction(invoice.net), points))
        result.points[invoice.document] = points
        result.spend += Fraction(invoice.net)
        spendable = spendable_day(program, invoice)
        if not points:
            continue
        if spendable is None or spendable > now.date():
            result.pending[invoice.document] = points
        else:
            expiry = last_day(program, spendable)
            result.lots[expiry] = result.lots.get(expiry, 0) + points
    result.tier = tier_on(program, past, since, now.date()).code
    return result


def base(program: Program, invoice: Invoice) -> Fraction:
    """Points before the multiplier."""
    rate, excluded = Fraction(0), frozenset[str]()
    for rule in program.rules:  # in order of their first day
        if rule.valid_from <= invoice.invoiced_on.date():
            rate, excluded = Fraction(rule.points_per_unit), rule.excluded_categories
    if not invoice.lines:
        return Fraction(invoice.net) * rate
    total = sum((Fraction(line.net) for line in invoice.lines), Fraction(0))
    earning = sum((Fraction(line.net) for line in invoice.lines if line.category.lower() not in excluded), Fraction(0))
    return earning * Fraction(invoice.net) * rate / total if total else Fraction(0)


def tier_on(program: Program, past: list[tuple[date, Fraction, int]], since: date | None, on: date) -> Tier:
    """Walks from each month's end down the tiers, month by month, to the day."""
    tiers, best, end = program.tiers, 0, on
    for ago in range(sum(tier.grace_months for tier in tiers) + len(tiers) + 1):
        for place in reached_on(program, past, since, end):
            grace = tiers[place].grace_months
            for _ in range(ago):
                if grace:
                    grace -= 1
                elif place:
                    place = place - 1 if tiers[place].soft_landing else 0
                    grace = tiers[place].grace_months
            best = max(best, place)
        end = end.replace(day=1) - timedelta(days=1)
    return tiers[best]


def reached_on(program: Program, past: list[tuple[date, Fraction, int]], since: date | None, on: date) -> list[int]:
    """The places of the tiers whose every condition holds."""
    reached = []
    for place, tier in enumerate(program.tiers):
        counted = [(spend, points) for day, spend, points in past if in_window(tier, day, on)]
        spend = sum((s for s, _ in counted), Fraction(0))
        points = sum(p for _, p in counted)
        tenured = not tier.minimum_tenure_months or (
            since is not None and tenure(since, on) >= tier.minimum_tenure_months
        )
        if tenured and spend >= Fraction(tier.minimum_spend) and points >= tier.minimum_points:
            reached.append(place)
    return reached


def in_window(tier: Tier, day: date, on: date) -> bool:
    age = (on.year - day.year) * 12 + on.month - day.month
    match tier.window:
        case Window.LIFETIME:
            return True
        case Window.ROLLING_MONTHS:
            return 0 <= age < tier.window_months
        case Window.CALENDAR_YEAR:
            return day.year == on.year and age >= 0


def tenure(since: date, on: date) -> int:
    """Anniversaries by month that have passed, counted one by one."""
    months = 0
    while later(since, months + 1) <= on:
        months += 1
    return months


def later(day: date, months: int) -> date:
    """The same day of the month so many months on, or the last day that month has."""
    year, month = day.year, day.month
    for _ in range(months):
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def spendable_day(program: Program, invoice: Invoice) -> date | None:
    if program.spendable_on is SpendableOn.ISSUE:
        return invoice.invoiced_on.date()
    if invoice.status is not Status.PAID or invoice.paid_on is None:
        return None
    if program.spendable_on is SpendableOn.DAYS_AFTER_PAYMENT:
        return invoice.paid_on + timedelta(days=program.spendable_days)
    return invoice.paid_on


def last_day(program: Program, spendable: date) -> date:
    """Walks day by day to the end of the period."""
    day = later(spendable, program.lifetime_months)
    if program.lifetime_months == 0:
        return date.max
    ends = {
        Rounding.DAY: lambda d: True,
        Rounding.MONTH: lambda d: (d + timedelta(days=1)).day == 1,
        Rounding.QUARTER: lambda d: (d + timedelta(days=1)).day == 1 and d.month in (3, 6, 9, 12),
        Rounding.YEAR: lambda d: (d.month, d.day) == (12, 31),
    }[program.rounding]
    while not ends(day):
        day += timedelta(days=1)
    return day
