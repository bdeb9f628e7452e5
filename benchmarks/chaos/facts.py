"""What happened in the company, as the people know it: the only thing, beside the ledger's order, that the model is told."""

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Line:
    category: str
    quantity: int
    price: Decimal
    discount: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Version:
    """An invoice from a moment on. `status` is issued, paid, cancelled or deleted; `discount` is on the whole invoice."""

    at: datetime
    customer: str | None
    status: str
    lines: tuple[Line, ...]
    discount: Decimal = Decimal(0)


@dataclass(slots=True)
class Invoice:
    id: str
    dated: datetime
    versions: list[Version]

    @property
    def now(self) -> Version:
        return self.versions[-1]


@dataclass(slots=True)
class Customer:
    key: str
    since: date
    merged_into: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """A redemption (`voids` empty), or the void of one. `id` is the row's, or the request id of a till."""

    id: str
    customer: str
    points: int
    voids: str = ""
    till: bool = False


@dataclass(frozen=True, slots=True)
class Adjustment:
    id: str
    customer: str
    points: int
    months: int | None


@dataclass(frozen=True, slots=True)
class Rule:
    """A version of the earn rule."""

    version: int
    valid_from: date
    rate: Decimal
    excluded: frozenset[str]


@dataclass(frozen=True, slots=True)
class Tier:
    """`window`: lifetime, rolling or year; `months` for rolling. `rating` is the account's, None for the default."""

    code: str
    name: str
    multiplier: Decimal = Decimal(1)
    tenure: int = 0
    spend: Decimal = Decimal(0)
    points: int = 0
    window: str = "lifetime"
    months: int = 12
    rating: int | None = None


type Ladder = tuple[Tier, ...]


@dataclass(slots=True)
class Terms:
    """The programme. `spendable` is issue, payment or days after payment; `period` day, month, quarter or year.

    `ladders`: all tiers together, as they were after each edit; the last is what the rows say now.
    """

    ladders: list[Ladder]
    rules: list[Rule]
    spendable: str
    days: int
    lifetime: int
    period: str
    courtesy: int
    minimum: int
    worth: Decimal  # of a point
    limit: int  # an adjustment above it needs a second person


@dataclass(slots=True)
class Book:
    terms: Terms
    customers: dict[str, Customer] = field(default_factory=dict)
    invoices: dict[str, Invoice] = field(default_factory=dict)
    wishes: dict[str, Wish] = field(default_factory=dict)
    adjustments: dict[str, Adjustment] = field(default_factory=dict)
    expiries: set[str] = field(default_factory=set)  # mass runs that somebody ordered
    rated: set[str] = field(default_factory=set)  # accounts whose rating somebody has set
    approved: set[str] = field(default_factory=set)  # adjustments, by a second person
    poisoned: set[str] = field(default_factory=set)  # records that must be parked, and texts nobody can read
    repaired: set[str] = field(default_factory=set)  # poisoned once; whether that was noticed in time is chance
    receipts: list[tuple[str, str]] = field(default_factory=list)  # wishes of tills, and the code each was told
    diary: list[tuple[datetime, str, str]] = field(default_factory=list)  # when, which customer ("" for all), what

    def of_branch(self) -> "Book":
        """An empty book under the same terms. What is parked need not have a customer, so all know what may be."""
        return Book(self.terms, poisoned=self.poisoned, repaired=self.repaired)

    def note(self, at: datetime, customer: str, what: str) -> None:
        self.diary.append((at, customer, what))

    def heir(self, customer: str) -> str:
        while following := self.customers[customer].merged_into:
            customer = following
        return customer
