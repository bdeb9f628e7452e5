"""What a decision is, whatever it was about."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from connector.loyalty.ledger import Entry, Journal, Kind, Movements, State
from connector.loyalty.program import Program
from connector.loyalty.sentences import EMPTY, Sentence, say
from connector.loyalty.tiers import held_by


class Outcome(Enum):
    APPLIED = "applied"
    NOTHING = "nothing"
    REJECTED = "rejected"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a redemption or void: points, their value in the base currency, and the balance after."""

    completed: bool
    points: int
    balance: int
    value: Decimal = Decimal(0)
    code: str = ""
    reason_code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Entries to append, the state after them, and one plain sentence about it.

    A parked or rejected decision names its reason class, the field to repair, and the next step. `unfinished` asks for the
    same decision once more when it is committed: there was too much for one transaction.
    """

    outcome: Outcome
    message: Sentence
    state: State
    entries: tuple[Entry, ...] = ()
    reason: str = ""
    field: str = ""
    next_step: Sentence = EMPTY
    result: Result | None = None
    unfinished: bool = False

    @property
    def points(self) -> int:
        return sum(entry.points for entry in self.entries)


def nothing(state: State, message: Sentence) -> Decision:
    return Decision(Outcome.NOTHING, message, state)


def parked(state: State, message: Sentence, *, reason: str, field: str, next_step: Sentence) -> Decision:
    return Decision(Outcome.PARKED, message, state, reason=reason, field=field, next_step=next_step)


def applied(journal: Journal, message: Sentence, result: Result | None = None, *, unfinished: bool = False) -> Decision:
    return Decision(
        Outcome.APPLIED, message, journal.state, tuple(journal.entries), result=result, unfinished=unfinished
    )


def settle_tier(program: Program, journal: Journal, now: datetime) -> Sentence:
    """Append an entry when the tier held differs from the one written; answers with a sentence about it, or with nothing."""
    tier = held_by(program, journal.state, now.date())
    before = journal.state.tier
    if tier.code == before:
        return EMPTY
    spend = journal.state.total_spend
    explanation: Mapping[str, Any] = {
        "from": before,
        "to": tier.code,
        "spend": str(spend),
        "on": now.date().isoformat(),
    }
    journal.append(
        Kind.TIER,
        Movements(tier=tier.code),
        cause=f"tier:{now.date().isoformat()}",
        key=f"tier:{journal.customer}:{journal.state.sequence + 1}",
        occurred_on=now,
        explanation=explanation,
    )
    return say("tier", tier=tier.name)
