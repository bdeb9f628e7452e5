"""A membership whose day has come."""

from datetime import UTC, datetime, time, timedelta

from connector.bus import Mandate
from connector.cases.case import Case, Request
from connector.cases.succession import succeeded
from connector.identity import Customer
from connector.loyalty.reviews import Expiry, decide_review
from connector.rows import ledger
from connector.store import Store


def review_case(store: Store, request: Request, customer: Customer, now: datetime) -> Case:
    (member,) = store.read(ledger.membership_path(customer))
    membership = ledger.membership_of(customer, member)
    if request.behind:
        membership = store.caught_up(membership)
    mandate = request.change.mandate or Mandate(as_of=now.date())
    decision = decide_review(request.program, str(customer), membership.state, now, _expiry(store, customer, mandate))
    case = Case(decision, membership, store.customer(customer) if decision.entries else None)
    return succeeded(store, request, case, now) if decision.entries and case.customer is None else case


def _expiry(store: Store, customer: Customer, mandate: Mandate) -> Expiry | None:
    if not mandate.expires:
        return None
    if not mandate.spare_days:
        return Expiry(mandate.as_of)
    since = datetime.combine(mandate.as_of, time(), UTC) - timedelta(days=mandate.spare_days)
    return Expiry.sparing(mandate.as_of, mandate.spare_days, store.entries_since(customer, since))
