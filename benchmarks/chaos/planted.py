"""Bugs to plant in the product while it runs: each must be caught, or the proof proves nothing.

Every one is of a kind that somebody could write: the wrong order, a forgotten case, a shortcut past a guard.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from connector import counter
from connector.chores import Chores
from connector.dataverse import Create, Upsert
from connector.loyalty import earning, lots, redemptions
from connector.loyalty.decisions import Decision, nothing
from connector.loyalty.ledger import Journal, Kind, Movements, State
from connector.loyalty.sentences import say
from connector.store import Store
from connector.sweep import SweepReport

type Bug = list[AbstractContextManager[Any]]


def _earn_again() -> Bug:
    """What a document has is not looked up, and no key stands in the way: whoever looks twice pays twice."""
    append = Journal.append

    def unguarded(self: Journal, kind: Kind, movements: Movements, *, key: str, **more: Any) -> None:
        append(self, kind, movements, key=f"{key}:{self.state.sequence}", **more)

    forgetting: AbstractContextManager[Any] = patch("connector.cases.invoice.entries_of", lambda customer, rows: [])
    return [forgetting, patch("connector.loyalty.ledger.Journal.append", unguarded)]


def _forget_ledger() -> Bug:
    return [patch("connector.cases.invoice.entries_of", lambda customer, rows: [])]


def _lose_updates() -> Bug:
    """Every seventh membership is not written with its entries."""
    writes, count = Store._ledger_writes, [0]

    def some(self: Store, *arguments: Any) -> list[Any]:
        count[0] += 1
        found = writes(self, *arguments)
        return found if count[0] % 7 else [write for write in found if not isinstance(write, Upsert)]

    return [patch("connector.store.Store._ledger_writes", some)]


def _show_what_was() -> Bug:
    """The copies on account and contact are those of before the change."""
    writes = Store._ledger_writes

    def stale(self: Store, *arguments: Any) -> list[Any]:
        return [write for write in writes(self, *arguments) if isinstance(write, Create | Upsert)]

    return [patch("connector.store.Store._ledger_writes", stale)]


def _take_earliest() -> Bug:
    """Points are taken back from the lots that expire first."""

    def wrong(state: State, points: int, document: str, credited: Mapping[date, int]) -> Movements:
        held = state.pending[document].points if document in state.pending else 0
        pending = min(points, held)
        drawn, rest = lots._drawn({day: state.lots[day] for day in sorted(state.lots)}, points - pending)
        return Movements(lots=drawn, pending={document: -pending} if pending else {}, owed=rest)

    return [patch("connector.loyalty.lots.take_back", wrong)]


def _ignore_voids() -> Bug:
    def ignored(program: Any, customer: str, state: State, wish: Any, now: datetime) -> Decision:
        return nothing(state, say("said", text="A void."))

    return [patch("connector.cases.redemption.decide_void", ignored)]


def _restore_as_new() -> Bug:
    """A void gives points back as if they were earned today."""

    def fresh(state: State, consumed: Mapping[date, int], today: date, courtesy_days: int) -> Movements:
        return lots.credit(state, {today + timedelta(days=courtesy_days): -sum(consumed.values())})

    return [patch("connector.loyalty.lots.restore", fresh)]


def _spend_what_is_owed() -> Bug:
    """A debt does not stand in the way of a redemption, nor does the balance."""

    def generous(state: State, points: int, today: date) -> Movements | None:
        drawn, missing = lots._drawn(state.usable(today), points)
        return Movements(lots=drawn, owed=missing)

    return [patch("connector.loyalty.lots.consume", generous)]


def _forget_corrections() -> Bug:
    """An invoice that comes late does not change the multiplier of those after it."""
    return [patch("connector.loyalty.invoices._corrections", lambda after, before: [])]


def _ignore_tiers() -> Bug:
    return [patch("connector.loyalty.invoices._Before.multiplier", lambda self, place: Decimal(1))]


def _round_up() -> Bug:
    times = earning.whole
    return [patch("connector.loyalty.invoices.whole", lambda base, multiplier: times(base, multiplier) + bool(base))]


def _keep_estate() -> Bug:
    """Who was merged keeps the points, and the heir is given nothing."""
    return [patch("connector.cases.succession.succeeded", lambda store, request, case, now: case)]


def _forget_sweep() -> Bug:
    return [patch("connector.sweep.Sweep.run", lambda self: SweepReport(finished=True))]


def _tell_nobody() -> Bug:
    """Notices are marked as sent, and were not."""
    send = Chores._send_notices
    deaf: Any = SimpleNamespace(send=lambda messages: None)
    return [patch("connector.chores.Chores._send_notices", lambda self, queue, page: send(self, deaf, page))]


def _answer_without_entry() -> Bug:
    """Some redemptions are answered with a code and cost nothing."""
    writes, count = Store._ledger_writes, [0]

    def free(self: Store, program: Any, posting: Any, now: datetime) -> list[Any]:
        count[0] += any(entry.kind is Kind.REDEEM for entry in posting.entries)
        free_of_charge = count[0] % 3 == 0 and posting.entries[0].kind is Kind.REDEEM
        return [] if free_of_charge else writes(self, program, posting, now)

    return [patch("connector.store.Store._ledger_writes", free)]


def _poor(state: State) -> Decision:
    return redemptions.rejected(state, 0, "insufficient_points", "loy_points", say("said", text="Nothing is there."))


def _plead_poverty() -> Bug:
    """Some who have enough are told that they have nothing, however often they are looked at."""
    decide = redemptions.decide_redemption

    def refuse(program: Any, customer: str, state: State, wish: Any, now: datetime) -> Decision:
        decision = decide(program, customer, state, wish, now)
        return _poor(state) if decision.entries and wish.id[0] in "01234567" else decision

    return [patch("connector.cases.redemption.decide_redemption", refuse)]


def _take_nothing() -> Bug:
    """Adjustments that take points are refused, whatever the balance."""
    decide = redemptions.decide_adjustment

    def refuse(program: Any, customer: str, state: State, wish: Any, *more: Any) -> Decision:
        return _poor(state) if wish.points < 0 else decide(program, customer, state, wish, *more)

    return [patch("connector.cases.adjustment.decide_adjustment", refuse)]


def _answered(**wrong: Callable[[Any], Any]) -> Bug:
    """The ledger is right, and the answer to the row that asked is not."""
    decide = redemptions.decide_redemption

    def misquote(*arguments: Any) -> Decision:
        decision = decide(*arguments)
        if not decision.entries or decision.result is None:
            return decision
        amounts = {name: change(getattr(decision.result, name)) for name, change in wrong.items()}
        return replace(decision, result=replace(decision.result, **amounts))

    return [patch("connector.cases.redemption.decide_redemption", misquote)]


def _tell_another_balance() -> Bug:
    return _answered(balance=lambda balance: balance + 50)


def _tell_cents() -> Bug:
    return _answered(value=lambda value: value * 100)


def _promise() -> Bug:
    """A till that waited in vain is told that it was done."""
    redeem = counter.Counter.redeem

    def promising(self: counter.Counter, *arguments: Any, **named: Any) -> dict[str, Any]:
        found = redeem(self, *arguments, **named)
        made_up = {"status": "completed", "code": "AAAA-BBBB-CCCC"}
        return found | made_up if found["status"] == "requested" else found

    return [patch("connector.counter.Counter.redeem", promising)]


def _resume_nothing() -> Bug:
    """What people resume stays parked."""
    return [patch(f"connector.{module}.resumed", lambda row: None) for module in ("listening", "chores")]


def _rewrite_past() -> Bug:
    """A tier that was edited counts for all days, also for those before."""
    newest = partial(max, key=lambda published: published.version)
    return [
        patch("connector.rows.programs.tiers_in_force", lambda versions: ((date.min, newest(versions).terms.tiers),))
    ]


def _know_better() -> Bug:
    """Ratings that people have set are overwritten."""
    return [
        patch(
            "connector.rows.customers.rating",
            lambda program, tier, written, current, on: (None if tier.rating_code == current else tier.rating_code, ""),
        )
    ]


BUGS: dict[str, Callable[[], Bug]] = {
    "earn again": _earn_again,
    "forget the ledger": _forget_ledger,
    "lose updates": _lose_updates,
    "show what was": _show_what_was,
    "take earliest first": _take_earliest,
    "ignore voids": _ignore_voids,
    "restore as new": _restore_as_new,
    "spend what is owed": _spend_what_is_owed,
    "forget corrections": _forget_corrections,
    "ignore tiers": _ignore_tiers,
    "round up": _round_up,
    "keep the estate": _keep_estate,
    "forget the sweep": _forget_sweep,
    "answer without entry": _answer_without_entry,
    "tell nobody": _tell_nobody,
    "plead poverty": _plead_poverty,
    "take nothing": _take_nothing,
    "tell another balance": _tell_another_balance,
    "tell cents": _tell_cents,
    "promise": _promise,
    "resume nothing": _resume_nothing,
    "rewrite the past": _rewrite_past,
    "know better": _know_better,
}


def plant(name: str) -> ExitStack:
    """The bug is in the product until the answer is closed."""
    stack = ExitStack()
    for change in BUGS[name]():
        stack.enter_context(change)
    return stack
