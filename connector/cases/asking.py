"""How a row that asks for something (a redemption, a void, an adjustment) is taken up, whatever it asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from connector.cases.case import Case, Request
from connector.identity import Customer
from connector.loyalty.decisions import Decision, nothing
from connector.loyalty.ledger import State
from connector.loyalty.redemptions import answered_before, rejected
from connector.loyalty.sentences import say
from connector.rows import ledger
from connector.rows.ledger import Membership
from connector.rows.values import Row
from connector.store import Store, entry_by_key_path


@dataclass(frozen=True, slots=True)
class Asked:
    """A row that still waits for its answer, and the membership as it is now. `forged`: it says that it was completed, and
    the ledger knows nothing of it."""

    membership: Membership
    row: Row
    forged: bool = False


def take_up(
    store: Store,
    request: Request,
    customer: Customer,
    path: str,
    noun: str,
    open_in: tuple[int, ...],
    borne_out: Callable[[Row], bool],
) -> Asked | Case:
    """The row to decide; a finished case when it is gone or was decided. Whoever may create a row may write any status on it:
    one that was not asked for is `borne_out` by the ledger, or forged."""
    member, row = store.read(ledger.membership_path(customer), path)
    membership = ledger.membership_of(customer, member)
    if row is None:
        return Case(nothing(membership.state, say("asked.deleted", row=[say(f"row.{noun}")])))
    if row["loy_status"] not in open_in:
        if not borne_out(row):
            return Asked(membership, row, forged=True)
        return Case(nothing(membership.state, say("asked.decided", row=[say(f"row.{noun}")])))
    return Asked(store.caught_up(membership) if request.behind else membership, row)


def forged(asked: Asked, noun: str, now: datetime) -> Decision:
    """The answer to a row that came with an answer."""
    available = asked.membership.state.available(now.date())
    sentence = say("refused.forged", row=[say(f"row.{noun}")])
    return rejected(asked.membership.state, available, "forged", "loy_status", sentence)


def passed_on(state: State, noun: str, owner: Customer) -> Case:
    return Case(nothing(state, say("asked.passed_on", row=[say(f"row.{noun}")])), forward=(str(owner),))


def answer_in_ledger(
    store: Store, request: Request, customer: Customer, state: State, key: str, now: datetime
) -> Decision | None:
    """After a conflict the ledger is asked first: a row that somebody set back to *Requested* gets its old answer again.

    In whichever ledger: the row may have come from a customer who was merged.
    """
    if request.attempt:
        (found,) = store.read(entry_by_key_path(key))
        for entry in found:
            return answered_before(state, ledger.entry_of(customer, entry), now)
    return None
