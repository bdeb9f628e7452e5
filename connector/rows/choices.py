"""Choice values of our tables. They start at the publisher's option prefix."""

from enum import Enum, IntEnum

from connector.loyalty.decisions import Outcome
from connector.loyalty.ledger import Kind
from connector.loyalty.program import Rounding, SpendableOn, Window

_FIRST = 482_100_000


def _numbered[E: Enum](members: type[E]) -> dict[E, int]:
    return {member: _FIRST + place for place, member in enumerate(members)}


KIND = _numbered(Kind)
KIND_OF = {value: kind for kind, value in KIND.items()}
OUTCOME = _numbered(Outcome)
# Of the log alone: no decision was reached.
DEAD_LETTERED = _FIRST + len(OUTCOME)
SPENDABLE_ON = {value: member for member, value in _numbered(SpendableOn).items()}
ROUNDING = {value: member for member, value in _numbered(Rounding).items()}
LIFETIME = _FIRST
WINDOW = {value: member for member, value in _numbered(Window).items()}


class RedemptionType(IntEnum):
    REDEEM = _FIRST
    VOID = _FIRST + 1


class RedemptionStatus(IntEnum):
    REQUESTED = _FIRST
    COMPLETED = _FIRST + 1
    REJECTED = _FIRST + 2
    VOIDED = _FIRST + 3


class AdjustmentStatus(IntEnum):
    REQUESTED = _FIRST
    COMPLETED = _FIRST + 1
    REJECTED = _FIRST + 2
    AWAITING_APPROVAL = _FIRST + 3
    APPROVED = _FIRST + 4


class NoticeStatus(IntEnum):
    NONE = _FIRST
    WAITING = _FIRST + 1
    SENT = _FIRST + 2
    RUN = _FIRST + 3  # the bulk run that wrote the entry sends it


class BulkKind(IntEnum):
    EXPIRY = _FIRST
    REVIEW = _FIRST + 1
    BACKFILL = _FIRST + 2
    SWEEP = _FIRST + 3
    RULES = _FIRST + 4
    OUTSTANDING = _FIRST + 5


class BulkStatus(IntEnum):
    DRAFT = _FIRST
    RUNNING = _FIRST + 1
    PAUSED = _FIRST + 2
    DONE = _FIRST + 3
    CANCELLED = _FIRST + 4
    FAILED = _FIRST + 5
