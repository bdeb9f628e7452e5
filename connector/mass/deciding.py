"""What a run decides about one customer: the review of the interactive path, on the state that was read with the page."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta

from connector.identity import Customer
from connector.loyalty.decisions import Decision, nothing
from connector.loyalty.ledger import Entry, State, fold
from connector.loyalty.lots import Spared
from connector.loyalty.program import Program
from connector.loyalty.reviews import decide_review
from connector.loyalty.sentences import say
from connector.mass.order import Order
from connector.rows import ledger
from connector.rows.ledger import Membership
from connector.rows.values import Row


@dataclass(slots=True, eq=False)
class Member:
    """One customer of a page. `membership` is as read; `base` has entries folded in that its row does not know yet.

    `alive`: the account or contact exists. `own` are entries of this run that were found where we wanted to write them:
    the answer to our first attempt was lost.
    """

    membership: Membership
    alive: bool
    base: State
    decision: Decision
    spared: Spared = field(default_factory=dict)
    own: list[Entry] = field(default_factory=list)
    conflicts: int = 0

    @property
    def customer(self) -> Customer:
        return self.membership.customer

    @property
    def id(self) -> str:
        return self.customer.membership_id

    @property
    def state(self) -> State:
        """After the decision."""
        return self.decision.state


def member_of(program: Program, order: Order, row: Row, spared: Spared) -> Member:
    """A customer and the decision. ValueError or LedgerError when the row cannot be understood."""
    customer = Customer.parse(row["loy_customerkey"] or "")
    membership = ledger.membership_of(customer, row)
    decision = decide_review(program, str(customer), membership.state, order.at, spared)
    alive = row["_loy_customerid_value"] is not None
    return Member(membership, alive, membership.state, decision, spared)


def decide_again(program: Program, order: Order, member: Member, beyond: Iterable[Entry]) -> None:
    """With entries that the state did not know. LedgerError when they do not follow."""
    member.base = fold(beyond, member.base)
    member.decision = decide_review(program, str(member.customer), member.base, order.at, member.spared)


def settled_of(row: Row, own: list[Entry]) -> Member:
    """A customer whose entries of this run are in the ledger already: nothing is decided any more."""
    customer = Customer.parse(row["loy_customerkey"] or "")
    membership = ledger.membership_of(customer, row)
    decision = nothing(membership.state, say("review.nothing_due"))
    return Member(membership, row["_loy_customerid_value"] is not None, membership.state, decision, own=own)


def settle(member: Member, beyond: Iterable[Entry]) -> None:
    """Entries that the row did not know, folded in. LedgerError when they do not follow."""
    member.base = fold(beyond, member.base)
    member.decision = nothing(member.base, say("review.nothing_due"))


def spared_of(order: Order, entries: Iterable[Entry]) -> Spared:
    """What a customer earned in the last days before the run: lot -> the day it may live to -> points."""
    found: dict[date, dict[date, int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        until = entry.occurred_on.date() + timedelta(days=order.spare_days)
        for day, points in entry.moved.lots.items():
            if points > 0 and day < order.as_of <= until:
                found[day][until] += points
    return {day: dict(sorted(kept.items(), reverse=True)) for day, kept in found.items()}
