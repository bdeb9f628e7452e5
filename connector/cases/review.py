"""A membership whose day has come."""

from datetime import UTC, date, datetime, time, timedelta

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
    mandate = request.change.mandate
    expiry = _expiry(store, customer, mandate, now.date()) if mandate else None
    decision = decide_review(request.program, str(customer), membership.state, now, expiry)
    case = Case(decision, membership, store.customer(customer) if decision.entries else None)
    return succeeded(store, request, case, now) if decision.entries and case.customer is None else case


def _expiry(store: Store, customer: Customer, mandate: Mandate, today: date) -> Expiry | None:
    """Whoever may write to the queue may write any mandate: no points go before their day."""
    if not mandate.expires:
        return None
    before = min(mandate.as_of, today)
    if not mandate.spare_days:
        return Expiry(before)
    since = datetime.combine(before, time(), UTC) - timedelta(days=mandate.spare_days)
    return Expiry.sparing(before, mandate.spare_days, store.entries_since(customer, since))
