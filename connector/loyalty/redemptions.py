"""Redemptions, voids and adjustments: what a person asks for, decided against the balance as it is now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from connector.loyalty import lots
from connector.loyalty.codes import transaction_code
from connector.loyalty.decisions import Decision, Outcome, Result, applied, settle_tier
from connector.loyalty.ledger import Entry, Journal, Kind, Movements, State
from connector.loyalty.program import Program
from connector.loyalty.sentences import Sentence, say, together


@dataclass(frozen=True, slots=True)
class Redemption:
    """A wish to spend points. `attempt` counts transaction codes that turned out to be taken."""

    id: str
    points: int | None
    description: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Void:
    """A wish to undo a redemption. `entry` is the ledger entry behind the code, None when there is none."""

    id: str
    code: str
    description: str
    entry: Entry | None
    voided: bool


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Points given or taken by a person or workflow; `lifetime_months` None means the programme's.

    `approved_by` is the second person, where one was needed.
    """

    id: str
    points: int
    reason: str
    lifetime_months: int | None = None
    approved_by: str | None = None


def decide_redemption(program: Program, customer: str, state: State, wish: Redemption, now: datetime) -> Decision:
    """Spend points, or say why not. The entry's key and the code come from the redemption's id: a retry cannot make two."""
    today = now.date()
    available = state.available(today)
    if wish.points is None or wish.points <= 0:
        return rejected(state, available, "invalid_points", "loy_points", say("refused.points"))
    if wish.points < program.minimum_redemption:
        return rejected(
            state,
            available,
            "below_minimum",
            "loy_points",
            say("refused.minimum", minimum=program.minimum_redemption, asked=wish.points),
        )
    movements = lots.consume(state, wish.points, today)
    if movements is None:
        owed = [say("refused.owed", points=state.owed)] if state.owed else []
        return rejected(
            state,
            available,
            "insufficient_points",
            "loy_points",
            together(say("refused.short", available=available, asked=wish.points), *owed),
        )
    journal = Journal(customer, state)
    code = transaction_code(wish.id, wish.attempt)
    value = wish.points * program.point_value
    journal.append(
        Kind.REDEEM,
        movements,
        cause=f"redemption:{wish.id}",
        key=f"redemption:{wish.id}",
        occurred_on=now,
        explanation={"code": code, "value": str(value), "description": wish.description},
        code=code,
    )
    result = Result(True, wish.points, journal.state.available(today), value, code)
    return applied(journal, say("redeemed", points=wish.points, code=code, left=result.balance), result)


def decide_void(program: Program, customer: str, state: State, wish: Void, now: datetime) -> Decision:
    """Give back what a redemption spent, to the lots it came from."""
    today = now.date()
    available = state.available(today)
    if wish.entry is None or wish.entry.kind is not Kind.REDEEM or wish.entry.customer != customer:
        sentence = say("refused.unknown_code", code=wish.code)
        return rejected(state, available, "unknown_code", "loy_voidscode", sentence)
    if wish.voided:
        sentence = say("refused.voided", code=wish.code)
        return rejected(state, available, "already_voided", "loy_voidscode", sentence)
    journal = Journal(customer, state)
    journal.append(
        Kind.VOID,
        lots.restore(state, wish.entry.moved.lots, today, program.courtesy_days),
        cause=wish.entry.cause,
        key=f"{wish.entry.cause}:void",
        occurred_on=now,
        explanation={"code": wish.code, "void": wish.id, "description": wish.description},
    )
    points = -wish.entry.points
    # What it was worth then: the programme may value points otherwise by now.
    value = Decimal(wish.entry.explained["value"])
    result = Result(True, points, journal.state.available(today), value, wish.code)
    sentence = say("voided", code=wish.code, points=points, left=result.balance)
    return applied(journal, sentence, result)


def decide_adjustment(
    program: Program, customer: str, state: State, wish: Adjustment, now: datetime, since: date | None = None
) -> Decision:
    """Give or take points by hand."""
    today = now.date()
    available = state.available(today)
    if wish.points == 0:
        return rejected(state, available, "invalid_points", "loy_points", say("refused.zero"))
    movements: Movements | None
    if wish.points > 0:
        movements = lots.credit(state, {program.expiry(today, wish.lifetime_months): wish.points})
    else:
        movements = lots.consume(state, -wish.points, today)
    if movements is None:
        sentence = say("refused.taking", available=available, asked=-wish.points)
        return rejected(state, available, "insufficient_points", "loy_points", sentence)
    first = state.sequence == 0
    movements = Movements(
        lots=movements.lots,
        owed=movements.owed,
        tier=program.tiers[0].code if first else None,
        since=since if first else None,
    )
    explanation: Mapping[str, Any] = {"reason": wish.reason}
    if wish.approved_by:
        explanation = {**explanation, "approved_by": wish.approved_by}
    journal = Journal(customer, state)
    journal.append(
        Kind.ADJUST,
        movements,
        cause=f"adjustment:{wish.id}",
        key=f"adjustment:{wish.id}",
        occurred_on=now,
        explanation=explanation,
    )
    sentence = together(say("adjusted", points=f"{wish.points:+}"), settle_tier(program, journal, now))
    return applied(journal, sentence, Result(True, wish.points, journal.state.available(today)))


def answered_before(state: State, entry: Entry, now: datetime) -> Decision:
    """The answer that the ledger holds already: nothing is appended, the row that asked is told once more."""
    explained = entry.explained
    points = abs(entry.points) if entry.kind is not Kind.ADJUST else entry.points
    value = Decimal(explained.get("value", "0"))
    result = Result(True, points, state.available(now.date()), value, explained.get("code", ""))
    return Decision(Outcome.APPLIED, say("asked.again"), state, result=result)


def rejected(state: State, balance: int, reason: str, field: str, sentence: Sentence) -> Decision:
    result = Result(False, 0, balance, Decimal(0), reason_code=reason, reason=sentence)
    return Decision(Outcome.REJECTED, sentence, state, reason=reason, field=field, result=result)
