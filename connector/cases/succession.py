"""A customer who was merged into another, and the one who has the points now."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime

from connector.cases.case import Case, Request
from connector.identity import Customer
from connector.loyalty.decisions import Decision, Outcome, nothing
from connector.loyalty.ledger import Journal
from connector.loyalty.sentences import say, together
from connector.loyalty.succession import hand_over
from connector.rows import ledger
from connector.rows.customers import CustomerRow
from connector.rows.ledger import Membership
from connector.store import Posting, Store


def customer_case(store: Store, request: Request, customer: Customer, now: datetime) -> Case:
    """An account or contact of which we heard that it was merged."""
    (member,) = store.read(ledger.membership_path(customer))
    membership = ledger.membership_of(customer, member)
    if request.behind:
        membership = store.caught_up(membership)
    case = Case(nothing(membership.state, say("customer.not_merged")), membership)
    return succeeded(store, request, case, now)


def succeeded(store: Store, request: Request, case: Case, now: datetime) -> Case:
    """The same case, and what the ledger still holds after it goes to whoever the customer was merged into."""
    membership, state = case.membership, case.decision.state
    if membership is None or not (state.lots or state.owed):
        return case
    heir = store.heir(membership.customer)
    if heir is None:
        return case
    estate = Estate.of(store, request, membership, heir)
    estate.take(case.decision)
    estate.hand_over(request, now)
    return replace(case, decision=estate.decision(case.decision), also=estate.posting())


@dataclass(slots=True)
class Estate:
    """The two ledgers of a merger, and what is appended to both in one change set."""

    giver: Journal
    heir: Journal
    heir_membership: Membership
    heir_row: CustomerRow
    points: int = 0

    @classmethod
    def of(cls, store: Store, request: Request, membership: Membership, heir: CustomerRow) -> "Estate":
        (member,) = store.read(ledger.membership_path(heir.customer))
        heir_membership = ledger.membership_of(heir.customer, member)
        if request.behind:
            heir_membership = store.caught_up(heir_membership)
        return cls(
            Journal(str(membership.customer), membership.state),
            Journal(str(heir.customer), heir_membership.state),
            heir_membership,
            heir,
        )

    def take(self, decision: Decision) -> None:
        """Entries decided for the giver."""
        self.giver.state = decision.state
        self.giver.entries += decision.entries

    def inherit(self, theirs: Case) -> None:
        """Entries decided for the heir."""
        assert theirs.membership is not None
        self.heir_membership = theirs.membership
        self.heir.state = theirs.decision.state
        self.heir.entries = list(theirs.decision.entries)

    def hand_over(self, request: Request, now: datetime, credited: Mapping[date, int] | None = None) -> None:
        tier = request.program.tiers[0].code
        self.points += hand_over(self.giver, self.heir, now, tier=tier, since=self.heir_row.since, credited=credited)

    def decision(self, decision: Decision) -> Decision:
        """The giver's decision with all that was appended to their ledger."""
        if not self.giver.entries:
            return decision
        sentence = say("customer.handed_over", points=f"{self.points:+}", heir=self.heir.customer)
        message = together(decision.message, sentence) if decision.entries else sentence
        return replace(
            decision,
            outcome=Outcome.APPLIED,
            message=message,
            state=self.giver.state,
            entries=tuple(self.giver.entries),
        )

    def posting(self) -> Posting:
        """Guarded by the heir's row: who is merged away meanwhile must not be given anything."""
        return Posting(self.heir_membership, self.heir_row, self.heir.state, tuple(self.heir.entries), guarded=True)
