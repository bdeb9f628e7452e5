"""What a run decides about one customer: the review of the interactive path, on the state that was read with the page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched
from typing import Protocol

from connector.bus import Change, Mandate, Subject
from connector.cases.invoice import unusable
from connector.dataverse import DataverseClient, Get
from connector.dataverse.odata import IDS, any_of, moment
from connector.identity import Customer
from connector.loyalty.decisions import Decision, nothing, parked
from connector.loyalty.ledger import Entry, LedgerError, State, fold
from connector.loyalty.program import Program
from connector.loyalty.reviews import Expiry, decide_review
from connector.loyalty.sentences import say
from connector.mass.lists import NOBODY, CustomerList
from connector.mass.order import Order
from connector.processing import broken
from connector.rows import ledger
from connector.rows.ledger import Membership
from connector.rows.values import Row

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
    expiry: Expiry | None = None
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
    """What time alone changes: the review of the interactive path at a moment. Whoever is `excluded` keeps points whose day has
    passed."""

    program: Program
    order: Order
    run_id: str
    at: datetime
    excluded: CustomerList = NOBODY

    def page(self, client: DataverseClient, rows: Sequence[Row]) -> tuple[list[Member], list[Problem]]:
        lately = self._lately(client, rows) if self.order.spare_days else {}
        members: list[Member] = []
        problems: list[Problem] = []
        for row in rows:
            try:
                members.append(self._member(row, lately.get(row["loy_membershipid"], ())))
            except LedgerError as error:
                problems.append((self._review(row), unusable(broken(error))))
            except (ValueError, KeyError, TypeError) as error:
                problems.append((self._review(row), _unreadable(error)))
        return members, problems

    def again(self, member: Member, beyond: Iterable[Entry]) -> None:
        member.base = fold(beyond, member.base)
        self._decide(member)

    def _member(self, row: Row, lately: Iterable[Entry]) -> Member:
        member = untouched(row)
        if not self.excluded.has(row["loy_customerkey"], row["loy_membershipid"]):
            member.expiry = Expiry.sparing(self.order.as_of, self.order.spare_days, lately)
        self._decide(member)
        return member

    def _review(self, row: Row) -> Change:
        return review(self.order, self.run_id, row["loy_customerkey"], row["loy_membershipid"], self.excluded)

    def _decide(self, member: Member) -> None:
        key = str(member.customer)
        member.decision = decide_review(self.program, key, member.base, self.at, member.expiry)

    def _lately(self, client: DataverseClient, rows: Sequence[Row]) -> dict[str, list[Entry]]:
        """Entries of the customers of a page in the days that are spared."""
        since = moment(self.order.at - timedelta(days=self.order.spare_days))
        by_member: dict[str, list[Entry]] = {}
        for member_id, entry in entries(client, rows, f"loy_occurredon ge {since}"):
            by_member.setdefault(member_id, []).append(entry)
        return by_member


def untouched(row: Row) -> Member:
    """A customer as its membership's row has it. ValueError when the row cannot be understood."""
    customer = Customer.parse(row["loy_customerkey"] or "")
    membership = ledger.membership_of(customer, row)
    decision = nothing(membership.state, say("review.nothing_due"))
    return Member(membership, row["_loy_customerid_value"] is not None, membership.state, decision)


def review(order: Order, run_id: str, customer: str, membership_id: str, excluded: CustomerList) -> Change:
    """What goes to the session of a customer whom a run does not finish itself."""
    mandate = Mandate(
        as_of=order.as_of,
        spare_days=order.spare_days,
        expires=not excluded.has(customer, membership_id),
        notices=order.notices,
        template=order.template,
    )
    return Change.about(
        Subject.REVIEW, membership_id, customer, cause=f"run {run_id}", correlation_id=run_id, mandate=mandate
    )


def entries(client: DataverseClient, rows: Sequence[Row], condition: str) -> list[tuple[str, Entry]]:
    """Entries of the customers of a page, in ledger order, with the id of their membership."""
    by_id = {row["loy_membershipid"]: row["loy_customerkey"] for row in rows}
    gets = [
        Get(
            f"loy_entries?$select={ledger.ENTRY}&$filter={condition} and {any_of('_loy_membershipid_value', some)}"
            "&$orderby=loy_sequence"
        )
        for some in batched(by_id, IDS, strict=False)
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
