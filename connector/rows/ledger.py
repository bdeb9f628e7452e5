"""Memberships and entries."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from connector.dataverse.odata import bind
from connector.identity import Customer, derived_id
from connector.loyalty.ledger import Entry, Kind, State
from connector.loyalty.program import Program
from connector.loyalty.tiers import next_review
from connector.notices import announced
from connector.rows.choices import KIND, KIND_OF, NoticeStatus
from connector.rows.values import Row, moment

MEMBERSHIP = "loy_sequence,loy_lasthash,loy_state,loy_ratingoverride,loy_writtenrating,loy_customerkey,loy_helduntil"
ENTRY = (
    "_loy_membershipid_value,loy_sequence,loy_kind,loy_points,loy_cause,loy_idempotencykey,loy_occurredon,loy_movements,"
    "loy_explanation,loy_ruleversion,loy_previoushash,loy_hash"
)


@dataclass(frozen=True, slots=True)
class Membership:
    """A customer's membership as read; an empty state and no `etag` when there is no row yet."""

    customer: Customer
    state: State
    rating_override: bool = False
    written_rating: int | None = None
    exists: bool = False
    held_until: datetime | None = None
    etag: str = ""

    def held(self, now: datetime) -> bool:
        """Whether a mass job is writing the customer at this moment. A hold ends by itself."""
        return self.held_until is not None and now < self.held_until


def membership_path(customer: Customer) -> str:
    return f"loy_memberships({customer.membership_id})?$select={MEMBERSHIP}"


def membership_of(customer: Customer, row: Row | None) -> Membership:
    if row is None:
        return Membership(customer, State())
    state = State.from_json(row["loy_state"] or "{}", row["loy_sequence"], row["loy_lasthash"] or "")
    held_until = moment(row, "loy_helduntil") if row["loy_helduntil"] else None
    override, written = bool(row["loy_ratingoverride"]), row["loy_writtenrating"]
    etag = row.get("@odata.etag", "")
    return Membership(customer, state, override, written, exists=True, held_until=held_until, etag=etag)


def entry_of(customer: Customer, row: Row) -> Entry:
    return Entry(
        customer=str(customer),
        sequence=row["loy_sequence"],
        kind=KIND_OF[row["loy_kind"]],
        points=row["loy_points"],
        cause=row["loy_cause"],
        key=row["loy_idempotencykey"],
        occurred_on=moment(row, "loy_occurredon"),
        movements=row["loy_movements"] or "{}",
        explanation=row["loy_explanation"] or "{}",
        rule_version=row["loy_ruleversion"] or "",
        previous_hash=row["loy_previoushash"] or "",
        hash=row["loy_hash"],
    )


def code_entry_id(code: str) -> str:
    """The id of the entry behind a transaction code: two redemptions cannot have the same code, whatever their keys."""
    return derived_id("code", code)


def entry_id(entry: Entry) -> str:
    return code_entry_id(entry.code) if entry.code else derived_id("entry", entry.key)


def entry_row(program: Program, entry: Entry) -> dict[str, Any]:
    movements = entry.moved
    notice = NoticeStatus.WAITING if announced(program, entry) else NoticeStatus.NONE
    row: dict[str, Any] = {
        "loy_entryid": entry_id(entry),
        "loy_name": f"{entry.kind.value} {entry.points:+}" if entry.kind is not Kind.TIER else f"tier {movements.tier}",
        "loy_MembershipId@odata.bind": bind("loy_memberships", Customer.parse(entry.customer).membership_id),
        "loy_sequence": entry.sequence,
        "loy_idempotencykey": entry.key,
        "loy_kind": KIND[entry.kind],
        "loy_points": entry.points,
        "loy_cause": entry.cause,
        "loy_occurredon": entry.occurred_on,
        "loy_spend": sum(movements.spend.values(), Decimal(0)),
        "loy_ruleversion": entry.rule_version or None,
        "loy_tiercode": movements.tier,
        "loy_movements": entry.movements,
        "loy_explanation": entry.explanation,
        "loy_previoushash": entry.previous_hash or None,
        "loy_hash": entry.hash,
        "loy_noticestatus": notice.value,
    }
    if program.notice_template:
        row["loy_noticetemplate"] = program.notice_template
    return row


def membership_row(program: Program, membership: Membership, state: State, name: str, now: datetime) -> dict[str, Any]:
    """The membership after a decision. The lookups are bound once, when the row is made."""
    tier = program.tier(state.tier, now.date())
    row: dict[str, Any] = {
        "loy_sequence": state.sequence,
        "loy_lasthash": state.last_hash or None,
        "loy_balance": state.balance,
        "loy_pending": state.pending_points,
        "loy_owed": state.owed,
        "loy_state": state.to_json(),
        "loy_spend": state.total_spend,
        "loy_membersince": state.since,
        "loy_nextexpiryon": min((expiry for expiry in state.lots if expiry.year < 9999), default=None),
        "loy_nextreviewon": next_review(program, state, now.date()),
    }
    if tier.id and (not membership.exists or state.tier != membership.state.tier):
        row["loy_TierId@odata.bind"] = bind("loy_tiers", tier.id)
    if not membership.exists:
        customer = membership.customer
        row["loy_name"] = name or str(customer)
        row["loy_customerkey"] = str(customer)
        row["loy_partition"] = customer.partition
        row[f"loy_CustomerId_{customer.table}@odata.bind"] = bind(customer.entity_set, customer.id)
        if program.id:
            row["loy_ProgramId@odata.bind"] = bind("loy_programs", program.id)
    return row
