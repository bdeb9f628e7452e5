"""Redemptions and voids."""

from datetime import datetime
from typing import Any

from connector.bus.change import Subject
from connector.cases.asking import answer_in_ledger, forged, passed_on, take_up
from connector.cases.case import Case, Request
from connector.dataverse import Update
from connector.identity import Customer
from connector.loyalty.codes import parse_code
from connector.loyalty.decisions import Decision, nothing
from connector.loyalty.ledger import State
from connector.loyalty.redemptions import Redemption, Void, answered_before, decide_redemption, decide_void, rejected
from connector.loyalty.sentences import say
from connector.rows import customers, ledger, wishes
from connector.rows.choices import RedemptionStatus, RedemptionType
from connector.rows.ledger import Membership
from connector.rows.values import Row, Unusable
from connector.store import Store, document_entries_path, entries_of, entry_by_key_path, entry_path


def redemption_case(store: Store, request: Request, customer: Customer, now: datetime) -> Case:
    asked = take_up(
        store,
        request,
        customer,
        wishes.redemption_path(request.change.row),
        "redemption",
        wishes.OPEN[Subject.REDEMPTION],
        lambda row: _borne_out(store, customer, row),
    )
    if isinstance(asked, Case):
        return asked
    membership, row = asked.membership, asked.row
    if asked.forged:
        decision = forged(asked, "redemption", now)
        return Case(decision, membership, None, (_answer(row, decision, now),))
    try:
        facts = customers.expanded_customer(row, "loy_CustomerId", "loy_customerid")
    except Unusable as error:
        decision = rejected(membership.state, 0, error.reason, error.field, error.sentence)
        return Case(decision, membership, None, (_answer(row, decision, now),))
    if facts.customer != customer:
        return passed_on(membership.state, "redemption", facts.customer)
    if row["loy_type"] == RedemptionType.VOID:
        decision, others = _void(store, request, customer, membership.state, row, now)
    else:
        decision, others = _redeem(store, request, customer, membership, row, now), ()
    return Case(decision, membership, facts, (_answer(row, decision, now), *others))


def _borne_out(store: Store, customer: Customer, row: Row) -> bool:
    """Whether the ledger has what an answered row says. A rejection says nothing that it could have."""
    if row["loy_status"] == RedemptionStatus.REJECTED:
        return True
    redemption_id = row["loy_redemptionid"]
    if row["loy_type"] != RedemptionType.VOID:
        return bool(store.read(entry_by_key_path(f"redemption:{redemption_id}"))[0])
    try:
        code = parse_code(row["loy_voidscode"] or "")
    except ValueError:
        return False
    (entry,) = store.read(entry_path(ledger.code_entry_id(code)))
    (voids,) = store.read(entry_by_key_path(f"{entry['loy_cause']}:void")) if entry else ((),)
    return any(ledger.entry_of(customer, void).explained.get("void") == redemption_id for void in voids)


def ownerless_redemption_case(store: Store, request: Request, now: datetime) -> Case:
    """The event did not tell whose redemption it is."""
    (row,) = store.read(wishes.redemption_path(request.change.row))
    if row is None:
        return Case(nothing(State(), say("asked.deleted", row=[say("row.redemption")])))
    try:
        facts = customers.expanded_customer(row, "loy_CustomerId", "loy_customerid")
    except Unusable as error:
        decision = rejected(State(), 0, error.reason, error.field, error.sentence)
        return Case(decision, answers=(_answer(row, decision, now),))
    return passed_on(State(), "redemption", facts.customer)


def _redeem(
    store: Store, request: Request, customer: Customer, membership: Membership, row: Row, now: datetime
) -> Decision:
    redemption_id, state = request.change.row, membership.state
    before = answer_in_ledger(store, request, customer, state, f"redemption:{redemption_id}", now)
    if before:
        return before
    if membership.held_until and membership.held(now):
        sentence = say("refused.held", until=f"{membership.held_until:%H:%M} UTC")
        return rejected(state, state.available(now.date()), "held", "loy_helduntil", sentence)
    wish = Redemption(redemption_id, row["loy_points"], row["loy_description"] or "", request.attempt)
    return decide_redemption(request.program, str(customer), state, wish, now)


def _void(
    store: Store, request: Request, customer: Customer, state: State, row: Row, now: datetime
) -> tuple[Decision, tuple[Update, ...]]:
    available = state.available(now.date())
    try:
        code = parse_code(row["loy_voidscode"] or "")
    except ValueError as error:
        return rejected(state, available, "invalid_code", "loy_voidscode", say("refused.code", fault=str(error))), ()
    (found,) = store.read(entry_path(ledger.code_entry_id(code)))
    entry = ledger.entry_of(customer, found) if found else None
    if found and not _theirs(store, customer, found):
        entry = None
    if entry is None:
        wish = Void(request.change.row, code, row["loy_description"] or "", None, voided=False)
        return decide_void(request.program, str(customer), state, wish, now), ()
    original = entry.cause.partition(":")[2]
    before, voids = store.read(wishes.redemption_path(original), document_entries_path(entry.cause))
    for void in entries_of(customer, voids):
        if void.explained.get("void") == request.change.row:
            return answered_before(state, void, now), ()
    wish = Void(request.change.row, code, row["loy_description"] or "", entry, voided=bool(voids))
    decision = decide_void(request.program, str(customer), state, wish, now)
    if before and decision.entries:
        return decision, (_guarded(before, {"loy_status": RedemptionStatus.VOIDED.value}),)
    return decision, ()


def _theirs(store: Store, customer: Customer, entry: Row) -> bool:
    """Whether an entry is in the customer's ledger, or in that of somebody who was merged into them."""
    member = entry["_loy_membershipid_value"]
    if member == customer.membership_id:
        return True
    return any(store.merged_into(key, customer) for key in store.customer_keys({member}))


def _answer(row: Row, decision: Decision, now: datetime) -> Update:
    return _guarded(row, wishes.redemption_answer(decision, now))


def _guarded(row: Row, columns: dict[str, Any]) -> Update:
    """A row is answered as it was read: whoever answers second meets a conflict and looks again."""
    return Update(f"loy_redemptions({row['loy_redemptionid']})", columns, if_match=row["@odata.etag"])
