"""Adjustments by hand or by a workflow."""

from datetime import datetime

from connector.bus.change import Subject
from connector.cases.asking import answer_in_ledger, forged, passed_on, take_up
from connector.cases.case import Case, Request
from connector.dataverse import Update
from connector.identity import Customer
from connector.loyalty.decisions import nothing
from connector.loyalty.ledger import State
from connector.loyalty.program import Program
from connector.loyalty.redemptions import Adjustment, decide_adjustment
from connector.loyalty.sentences import Sentence, say
from connector.rows import customers, wishes
from connector.rows.choices import AdjustmentStatus
from connector.rows.values import Row
from connector.store import Store, entry_by_key_path


def adjustment_case(store: Store, request: Request, customer: Customer, now: datetime) -> Case:
    adjustment_id = request.change.row
    path = f"loy_adjustments({adjustment_id})"

    def borne_out(row: Row) -> bool:
        completed = row["loy_status"] == AdjustmentStatus.COMPLETED
        return not completed or bool(store.read(entry_by_key_path(f"adjustment:{adjustment_id}"))[0])

    asked = take_up(
        store,
        request,
        customer,
        wishes.adjustment_path(adjustment_id),
        "adjustment",
        wishes.OPEN[Subject.ADJUSTMENT],
        borne_out,
    )
    if isinstance(asked, Case):
        return asked
    membership, row = asked.membership, asked.row
    if asked.forged:
        refusal = forged(asked, "adjustment", now)
        answer = Update(path, wishes.adjustment_answer(refusal, now), if_match=row["@odata.etag"])
        return Case(refusal, membership, None, (answer,))
    facts = customers.expanded_customer(row, "loy_CustomerId", "loy_customerid")
    if facts.customer != customer:
        return passed_on(membership.state, "adjustment", facts.customer)
    etag = row["@odata.etag"]
    state = membership.state
    decision = answer_in_ledger(store, request, customer, state, f"adjustment:{adjustment_id}", now)
    why = None if decision else _needs_second_person(request.program, row)
    if why:
        waiting = Update(path, wishes.adjustment_waits(why), if_match=etag)
        return Case(nothing(state, why), membership, facts, (waiting,))
    if decision is None:
        approved_by = row["_modifiedby_value"] if row["loy_status"] == AdjustmentStatus.APPROVED else None
        wish = Adjustment(
            adjustment_id, row["loy_points"], row["loy_reason"] or "", row["loy_lifetimemonths"], approved_by
        )
        decision = decide_adjustment(request.program, str(customer), state, wish, now, facts.since)
    answer = Update(path, wishes.adjustment_answer(decision, now), if_match=etag)
    return Case(decision, membership, facts, (answer,))


def ownerless_adjustment_case(store: Store, request: Request) -> Case:
    """The event did not tell whose adjustment it is, or a sweep found it waiting."""
    (row,) = store.read(wishes.adjustment_path(request.change.row))
    if row is None:
        return Case(nothing(State(), say("asked.deleted", row=[say("row.adjustment")])))
    facts = customers.expanded_customer(row, "loy_CustomerId", "loy_customerid")
    return passed_on(State(), "adjustment", facts.customer)


def _needs_second_person(program: Program, row: Row) -> Sentence | None:
    """Why an adjustment above the programme's limit must wait; None when it may be decided.

    Whoever wrote the row last is the one who approved it: an edit after the approval asks for another.
    """
    limit = program.adjustment_limit
    if limit is None or abs(row["loy_points"]) <= limit:
        return None
    if row["loy_status"] != AdjustmentStatus.APPROVED:
        return say("asked.second", limit=limit)
    if row["_modifiedby_value"] == row["_createdby_value"]:
        return say("asked.other", limit=limit)
    return None
