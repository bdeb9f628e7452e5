"""What a mass run is asked to do, and what it has done so far."""

from collections import Counter
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any

from connector.rows.choices import BulkKind, BulkStatus


@dataclass(frozen=True, slots=True)
class Order:
    """`kind`: EXPIRY visits who has lots whose last day is before `as_of`, REVIEW who has anything due on `as_of`, RULES everyone.

    `exclude` is the id of a saved or personal view, or FetchXML, on accounts, contacts or memberships: these are left alone.
    Points earned in the last `spare_days` before `as_of` are not cancelled; they live until they are as old. `hold` makes
    redemptions wait outside while a customer is being written. Without `notices`, entries of the run announce nothing.
    """

    kind: BulkKind
    as_of: date
    name: str = ""
    dry_run: bool = False
    exclude: str = ""
    spare_days: int = 0
    hold: bool = False
    notices: bool = True


@dataclass(slots=True)
class Totals:
    """`selected` customers are to be visited. Each ends as `done`, `excluded`, `second_round` (decided again through the session
    queue) or `failed` (listed in the integration log with the reason). `conflicts` counts those who were changed by somebody
    else in the middle, `rewritten` those whose copies were written anew because of it."""

    selected: int = 0
    done: int = 0
    excluded: int = 0
    second_round: int = 0
    failed: int = 0
    entries: int = 0
    points: int = 0
    conflicts: int = 0
    rewritten: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Totals)))


@dataclass(frozen=True, slots=True)
class Progress:
    """A run as it is now. `points` in totals are cancelled points, above zero. `figures` are points by what, tier and month."""

    run_id: str
    order: Order
    status: BulkStatus
    totals: Totals
    parts_left: int
    figures: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    per_second: float = 0.0
    throttled: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)
