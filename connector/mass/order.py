"""What a mass run is asked to do, and what it has done so far."""

from collections import Counter
from dataclasses import astuple, dataclass, field
from datetime import UTC, date, datetime, time
from typing import Self

from connector.rows.choices import BulkKind, BulkStatus

# (what, tier or movement between tiers, month of expiry) -> points or customers
type Figures = Counter[tuple[str, str, str]]


class BadOrder(ValueError):
    """A run that cannot be done as ordered; the text names the column."""


@dataclass(frozen=True, slots=True)
class Order:
    """`kind`: EXPIRY visits who has lots that ended before `as_of`, REVIEW who has anything due on `as_of`, RULES everyone,
    OUTSTANDING everyone too, but only to count their points.

    `exclude` is the id of a saved or personal view, or FetchXML, on accounts, contacts or memberships: none of their
    points are cancelled. Whom `settle_first` finds likewise is decided in their session, behind everything that waits for
    them there.
    Points earned in the last `spare_days` before `as_of` are not cancelled; they live until they are as old. `hold` makes
    redemptions of a customer be refused while the customer is being written. Without `notices`, entries of the run announce
    nothing; `template` is the name that notices carry for whoever writes to customers. Only a dry run may look into the future,
    or decide as if tiers were otherwise: `what_if` has a line `TIER.COLUMN=VALUE` for each wish. `program` is the id of the
    programme it is for; empty: that of whoever works on it.
    """

    kind: BulkKind
    as_of: date
    name: str = ""
    dry_run: bool = False
    exclude: str = ""
    settle_first: str = ""
    spare_days: int = 0
    hold: bool = False
    notices: bool = True
    template: str = ""
    what_if: str = ""
    program: str = ""

    @property
    def at(self) -> datetime:
        """The first moment of its day."""
        return datetime.combine(self.as_of, time(), UTC)

    def check(self, today: date) -> None:
        """BadOrder when it must not be done on a day."""
        if self.dry_run:
            return
        if self.as_of > today:
            raise BadOrder(f"loy_asof: {self.as_of} has not come yet; only a dry run looks into the future")
        if self.what_if:
            raise BadOrder("loy_whatif: only a dry run decides as if tiers were otherwise")


@dataclass(slots=True)
class Totals:
    """`selected` customers are to be visited. Each ends as `done`, `excluded`, `second_round` (decided again through the session
    queue) or `failed` (listed in the integration log with the reason). `points` are cancelled points, above zero. `conflicts`
    counts customers whom somebody else changed in the middle, `rewritten` those whose copies were stale because of it.
    `notices` are those that the queue has accepted."""

    selected: int = 0
    done: int = 0
    excluded: int = 0
    second_round: int = 0
    failed: int = 0
    entries: int = 0
    points: int = 0
    conflicts: int = 0
    rewritten: int = 0
    throttled: float = 0.0
    notices: int = 0

    def __add__(self, other: Self) -> "Totals":
        return Totals(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def visited(self) -> int:
        return self.done + self.excluded + self.second_round + self.failed


@dataclass(frozen=True, slots=True)
class Progress:
    """A run as its row tells it. `parts_left` is None before the customers were counted, `ended_on` until it is over."""

    run_id: str
    order: Order
    status: BulkStatus
    totals: Totals
    parts_left: int | None
    started_on: datetime | None
    seen_on: datetime | None
    ended_on: datetime | None
    message: str
    figures: Figures = field(default_factory=Counter)

    @property
    def runs(self) -> bool:
        return self.status is BulkStatus.RUNNING

    @property
    def ending(self) -> bool:
        """It was cancelled, and what was begun is to be finished."""
        return self.status is BulkStatus.CANCELLED and self.ended_on is None

    @property
    def goes_on(self) -> bool:
        return self.runs or self.ending

    @property
    def at(self) -> datetime:
        """The moment that every decision of the run is made for, whenever it is made: a repetition decides the same.

        A run of a day that has passed cancels what had expired by then; tiers are those of the day on which it began."""
        return max(self.order.at, datetime.combine(self.started_on or date.min, time(), UTC))

    @property
    def per_second(self) -> float:
        """Customers a second since the run began; 0 before."""
        if self.started_on is None or self.seen_on is None or self.seen_on <= self.started_on:
            return 0.0
        return self.totals.visited / (self.seen_on - self.started_on).total_seconds()
