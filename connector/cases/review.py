"""A membership whose day has come."""

from datetime import datetime

from connector.cases.case import Case, Request
from connector.cases.succession import succeeded
from connector.identity import Customer
from connector.loyalty.reviews import decide_review
from connector.rows import ledger
from connector.store import Store


def review_case(store: Store, request: Request, customer: Customer, now: datetime) -> Case:
    (member,) = store.read(ledger.membership_path(customer))
    membership = ledger.membership_of(customer, member)
    if request.behind:
        membership = store.caught_up(membership)
    decision = decide_review(request.program, str(customer), membership.state, now)
    case = Case(decision, membership, store.customer(customer) if decision.entries else None)
    return succeeded(store, request, case, now) if decision.entries and case.customer is None else case
