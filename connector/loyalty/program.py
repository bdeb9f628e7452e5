"""A loyalty programme as the decisions see it: earn rules, tiers and settings."""

from calendar import monthrange
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Self


class SpendableOn(Enum):
    """When earned points become spendable."""

    ISSUE = "issue"
    PAYMENT = "payment"
    DAYS_AFTER_PAYMENT = "days_after_payment"


class Rounding(Enum):
    """The period at whose end points expire."""

    DAY = "day"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


class Window(Enum):
    """The months of spend that a tier looks at. Windows are whole months; the month of the question is the last of them."""

    LIFETIME = "lifetime"
    ROLLING_MONTHS = "rolling_months"
    CALENDAR_YEAR = "calendar_year"


@dataclass(frozen=True, slots=True)
class EarnRule:
    """One version of the rule that turns money into points; in force from `valid_from` until a later version begins.

    `excluded_categories` are casefolded: an invoice line may write its category in any case. `revision` is the version of
    the programme in which this row was edited; 0 for the row as it was first published.
    """

    version: int
    valid_from: date
    points_per_unit: Decimal
    excluded_categories: frozenset[str] = frozenset()
    revision: int = 0

    @property
    def name(self) -> str:
        """What an entry calls it: `2`, or `2.5` once the row was edited."""
        return f"{self.version}.{self.revision}" if self.revision else str(self.version)


@dataclass(frozen=True, slots=True)
class Tier:
    """Conditions (all must hold) and what they bring. Spend is in the base currency, net of tax.

    Whoever meets the conditions no more keeps the tier for `grace_months` full months. After them a `soft_landing` leads to the
    next lower tier and its own months of grace, and so on; without it only what conditions give remains.
    """

    code: str
    name: str
    rank: int
    multiplier: Decimal = Decimal(1)
    minimum_tenure_months: int = 0
    minimum_spend: Decimal = Decimal(0)
    minimum_points: int = 0
    window: Window = Window.LIFETIME
    window_months: int = 12
    grace_months: int = 0
    soft_landing: bool = False
    rating_code: int | None = None
    id: str | None = None
    valid_from: date = date.min


@dataclass(frozen=True, slots=True, kw_only=True)
class Accrual:
    """When earned points become spendable and how long they live (0 months: for ever); ISO codes of the currencies that earn,
    none meaning all."""

    spendable_on: SpendableOn = SpendableOn.PAYMENT
    spendable_days: int = 0
    lifetime_months: int = 24
    rounding: Rounding = Rounding.MONTH
    currencies: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Program(Accrual):
    """`rules` in order of `valid_from`; `tiers` in order of rank, the first being the one everybody starts in.

    `tier_history` and `accrual_history` have the tiers and settings by the day on which they came or will come into force; those
    of the programme itself are the newest. Without a history they are in force on every day.

    An adjustment of more than `adjustment_limit` points needs a second person; None: none does.
    """

    code: str
    rules: tuple[EarnRule, ...]
    tiers: tuple[Tier, ...]
    courtesy_days: int = 30
    point_value: Decimal = Decimal("0.01")
    minimum_redemption: int = 1
    adjustment_limit: int | None = None
    writes_rating: bool = True
    notice_kinds: frozenset[str] = frozenset()
    notice_template: str = ""
    id: str | None = None
    tier_history: tuple[tuple[date, tuple[Tier, ...]], ...] = ()
    accrual_history: tuple[tuple[date, Accrual], ...] = ()

    def announcing(self, notices: bool, template: str = "") -> Self:
        """The same programme for the entries of a run: whether they announce anything, and by which template."""
        return replace(self, notice_kinds=self.notice_kinds if notices else frozenset(), notice_template=template)

    def rule_on(self, day: date) -> EarnRule | None:
        """The version in force on a day, or None before the first."""
        return next((rule for rule in reversed(self.rules) if rule.valid_from <= day), None)

    def rule_named(self, name: str) -> EarnRule | None:
        """The version that an entry names, or None when the programme never had it."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def tiers_on(self, day: date) -> tuple[Tier, ...]:
        """The tiers in force on a day."""
        in_force = (tiers for begins, tiers in reversed(self.tier_history) if begins <= day)
        return next(in_force, self.tier_history[0][1] if self.tier_history else self.tiers)

    def accrual_on(self, day: date) -> Accrual:
        """The settings in force on a day."""
        in_force = (accrual for begins, accrual in reversed(self.accrual_history) if begins <= day)
        return next(in_force, self.accrual_history[0][1] if self.accrual_history else self)

    @property
    def tier_sets(self) -> tuple[tuple[Tier, ...], ...]:
        """The tiers of all days."""
        return tuple(tiers for _, tiers in self.tier_history) or (self.tiers,)

    def tier(self, code: str, on: date = date.max) -> Tier:
        """The tier of a code; the first tier for a code that no longer exists."""
        tiers = self.tiers_on(on)
        return next((tier for tier in tiers if tier.code == code), tiers[0])

    def expiry(self, spendable_on: date, lifetime_months: int | None = None) -> date:
        """The last day on which points spendable from a day can be used; `date.max` when points never expire.

        Points live by the settings of the day on which their life begins, whenever they are posted.
        """
        accrual = self.accrual_on(spendable_on)
        months = accrual.lifetime_months if lifetime_months is None else lifetime_months
        if months == 0:
            return date.max
        return end_of_period(add_months(spendable_on, months), accrual.rounding)


def add_months(day: date, months: int) -> date:
    """The same day some months later, or the last day of that month when it is shorter."""
    month = day.year * 12 + day.month - 1 + months
    year, month = divmod(month, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def end_of_period(day: date, rounding: Rounding) -> date:
    match rounding:
        case Rounding.DAY:
            return day
        case Rounding.MONTH:
            month = day.month
        case Rounding.QUARTER:
            month = (day.month + 2) // 3 * 3
        case Rounding.YEAR:
            month = 12
    return date(day.year, month, monthrange(day.year, month)[1])


def months_between(earlier: date, later: date) -> int:
    """Whole months from one day to another; negative when `later` is earlier."""
    months = (later.year - earlier.year) * 12 + later.month - earlier.month
    # On the last day of a month that is shorter, a month is full.
    return months - (later.day < earlier.day and later.day < monthrange(later.year, later.month)[1])
