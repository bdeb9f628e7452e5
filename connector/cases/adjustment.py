"""Adjustments by hand or by a workflow."""

from datetime import datetime

from connector.cases.case import Case, Request
from connector.dataverse import Update
from connector.identity import Customer
from connector.loyalty.decisions import nothing
from connector.loyalty.redemptions import Adjustment, answered_before, decide_adjustment
from connector.rows import customers, ledger, wishes
from connector.rows.choices import AdjustmentStatus
from connector.store import Store, entries_of, entry_by_key_path


def adjustment_case(store: Store, request: Request, customer: Customer, now: datetime) -> Case:
    adjustment_id = request.change.row
    member, row = store.read(ledger.membership_path(customer), wishes.adjustment_path(adjustment_id))
    membership = ledger.membership_of(customer, member)
    if row is None:
        return Case(nothing(membership.state, "The adjustment was deleted before it was decided."))
    if row["loy_status"] != AdjustmentStatus.REQUESTED:
        return Case(nothing(membership.state, "The adjustment was decided before."))
    if request.behind:
        membership = store.caught_up(membership)
    facts = customers.expanded_customer(row, "loy_CustomerId", "loy_customerid")
    if facts.customer != customer:
        return Case(
            nothing(membership.state, "Passed on to the adjustment's customer."), forward=(str(facts.customer),)
        )
    wish = Adjustment(adjustment_id, row["loy_points"], row["loy_reason"] or "", row["loy_lifetimemonths"])
    found = store.read(entry_by_key_path(f"adjustment:{adjustment_id}"))[0] if request.attempt else []
    before = entries_of(customer, found)
    decision = (
        answered_before(membership.state, before[0], now)
        if before
        else decide_adjustment(request.program, str(customer), membership.state, wish, now, facts.since)
    )
    columns = wishes.adjustment_answer(decision, now)
    answer = Update(f"loy_adjustments({adjustment_id})", columns, if_match=row["@odata.etag"])
    return Case(decision, membership, facts, (answer,))
