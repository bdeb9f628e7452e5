"""What a run decides about one customer: the review of the interactive path, on the state that was read with the page."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import batched
from typing import Protocol

from connector.bus import Change, Subject
from connector.cases.invoice import unusable
from connector.dataverse import DataverseClient, Get
from connector.dataverse.odata import any_of, moment
from connector.identity import Customer
from connector.loyalty.decisions import Decision, nothing, parked
from connector.loyalty.ledger import Entry, LedgerError, State, fold
from connector.loyalty.lots import Spared
from connector.loyalty.program import Program
from connector.loyalty.reviews import decide_review
from connector.loyalty.sentences import say
from connector.mass.exclusions import NOBODY, Exclusions
from connector.mass.order import Order
from connector.processing import broken
from connector.rows import ledger
from connector.rows.ledger import Membership
from connector.rows.values import Row

_IDS = 200


# A row that could not be decided, and why: it is listed and stops nobody.
type Problem = tuple[Change, Decision]


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
    expires: bool = True
    own: list[Entry] = field(default_factory=list)
    conflicts: int = 0
    problems: list[Problem] = field(default_factory=list)

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


def settle(member: Member, beyond: Iterable[Entry]) -> None:
    """Entries that the row did not know, folded in. LedgerError when they do not follow."""
    member.base = fold(beyond, member.base)
    member.decision = nothing(member.base, say("review.nothing_due"))


class Decider(Protocol):
    """Decides about the customers of a page, and again about one in whose place somebody else has written."""

    def page(self, client: DataverseClient, rows: Sequence[Row]) -> tuple[list[Member], list[Problem]]:
        """Members with their decisions, and the rows that cannot be decided."""
        ...

    def again(self, member: Member, beyond: Iterable[Entry]) -> None:
        """With entries that the state did not know. LedgerError when they do not follow."""
        ...


@dataclass(frozen=True, slots=True)
class Reviewer:
    """What time alone changes: the review of the interactive path. Whoever is `excluded` keeps points whose day has passed."""

    program: Program
    order: Order
    run_id: str
    excluded: Exclusions = NOBODY

    def page(self, client: DataverseClient, rows: Sequence[Row]) -> tuple[list[Member], list[Problem]]:
        spared = self._spared(client, rows) if self.order.spare_days else {}
        members: list[Member] = []
        problems: list[Problem] = []
        for row in rows:
            try:
                members.append(self._member(row, spared.get(row["loy_membershipid"], {})))
            except LedgerError as error:
                problems.append(
                    (review(row["loy_membershipid"], row["loy_customerkey"], self.run_id), unusable(broken(error)))
                )
            except (ValueError, KeyError, TypeError) as error:
                problems.append(
                    (review(row["loy_membershipid"], row["loy_customerkey"], self.run_id), _unreadable(error))
                )
        return members, problems

    def again(self, member: Member, beyond: Iterable[Entry]) -> None:
        member.base = fold(beyond, member.base)
        self._decide(member)

    def _member(self, row: Row, spared: Spared) -> Member:
        member = untouched(row)
        member.spared = spared
        member.expires = not self.excluded.holds(row)
        self._decide(member)
        return member

    def _decide(self, member: Member) -> None:
        key, at = str(member.customer), self.order.at
        member.decision = decide_review(self.program, key, member.base, at, member.spared, expires=member.expires)

    def _spared(self, client: DataverseClient, rows: Sequence[Row]) -> dict[str, Spared]:
        """What the customers of a page have earned lately."""
        since = moment(self.order.at - timedelta(days=self.order.spare_days))
        by_member: dict[str, list[Entry]] = {}
        for member_id, entry in entries(client, rows, f"loy_occurredon ge {since}"):
            by_member.setdefault(member_id, []).append(entry)
        return {member_id: spared_of(self.order, found) for member_id, found in by_member.items()}


def untouched(row: Row) -> Member:
    """A customer as its membership's row has it. ValueError when the row cannot be understood."""
    customer = Customer.parse(row["loy_customerkey"] or "")
    membership = ledger.membership_of(customer, row)
    decision = nothing(membership.state, say("review.nothing_due"))
    return Member(membership, row["_loy_customerid_value"] is not None, membership.state, decision)


def review(membership_id: str, key: str, run_id: str) -> Change:
    """What goes to the session of a customer whom a run could not finish."""
    return Change.about(Subject.REVIEW, membership_id, key, cause=f"run {run_id}", correlation_id=run_id)


def entries(client: DataverseClient, rows: Sequence[Row], condition: str) -> list[tuple[str, Entry]]:
    """Entries of the customers of a page, in ledger order, with the id of their membership."""
    by_id = {row["loy_membershipid"]: row["loy_customerkey"] for row in rows}
    gets = [
        Get(
            f"loy_entries?$select={ledger.ENTRY}&$filter={condition} and {any_of('_loy_membershipid_value', some)}"
            "&$orderby=loy_sequence"
        )
        for some in batched(by_id, _IDS, strict=False)
    ]
    return [
        (member_id, ledger.entry_of(Customer.parse(by_id[member_id]), row))
        for found in client.read(*gets)
        for row in found
        if (member_id := row["_loy_membershipid_value"])
    ]


def _unreadable(error: Exception) -> Decision:
    return parked(
        State(),
        say("said", text=f"The membership cannot be read: {error}."),
        reason="unreadable",
        field="loy_membership",
        next_step=say("next.audit"),
    )


def spared_of(order: Order, entries: Iterable[Entry]) -> Spared:
    """What a customer earned in the last days before the run: lot -> the day it may live to -> points."""
    found: dict[date, dict[date, int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        until = entry.occurred_on.date() + timedelta(days=order.spare_days)
        for day, points in entry.moved.lots.items():
            if points > 0 and day < order.as_of <= until:
                found[day][until] += points
    return {day: dict(sorted(kept.items(), reverse=True)) for day, kept in found.items()}
