"""Takes a backfill back, as long as the programme is not live and nobody has built on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import batched
from typing import Any

from connector.dataverse import DataverseClient, Delete, Update, Write
from connector.dataverse.odata import any_of, guid, text
from connector.identity import Customer
from connector.loyalty.ledger import State
from connector.loyalty.program import Program
from connector.mass.order import BadOrder
from connector.rows.customers import DEFAULT_RATING, mirror
from connector.rows.values import day

_AT_ONCE = 50
_WRITES = 500  # of the 1,000 that a change set takes


@dataclass(slots=True)
class Undone:
    """`kept` are customers whose ledger holds entries of others by now: they were left as they are."""

    customers: int = 0
    entries: int = 0
    kept: int = 0


def undo(
    client: DataverseClient,
    program: Program,
    run_id: str,
    now: datetime,
    told: Callable[[Undone], None] = lambda undone: None,
    *,
    page: int = 5000,
) -> Undone:
    """Delete what a run of kind BACKFILL wrote, customer by customer, each in transactions of entries from the newest down: it
    may be repeated. An account whose rating is still the one we wrote gets the default. BadOrder once the programme is live.
    The signed-in user needs the right to delete, which the connector's own role does not have."""
    _refuse_when_live(client, program, now.date())
    undone, kept = Undone(), set[str]()
    while members := _members(client, run_id, kept, page):
        for some in batched(members, _AT_ONCE, strict=False):
            kept |= _undo(client, program, run_id, some, undone, now)
            undone.kept = len(kept)
            told(undone)
    return undone


def _refuse_when_live(client: DataverseClient, program: Program, today: date) -> None:
    (row,) = client.get(f"loy_programs?$select=loy_liveon&$filter=loy_code eq {text(program.code)}")
    live = day(row, "loy_liveon")
    if live is not None and live <= today:
        raise BadOrder(f"loy_liveon: the programme {program.code} is live since {live}; its ledger is never taken back")


def _members(client: DataverseClient, run_id: str, kept: set[str], size: int) -> list[str]:
    """Ids of memberships with entries of the run that are not kept: those of the first page of entries that has some."""
    path = f"loy_entries?$select=_loy_membershipid_value&$filter=_loy_bulkrunid_value eq {guid(run_id)}"
    for page in client.pages(path, max_page_size=size):
        if found := {row["_loy_membershipid_value"] for row in page} - kept:
            return sorted(found)
    return []


def _undo(
    client: DataverseClient, program: Program, run_id: str, members: Sequence[str], undone: Undone, now: datetime
) -> set[str]:
    """Who was left as they are."""
    left = set(members)
    wanted = any_of("_loy_membershipid_value", members)
    entries = client.get(
        f"loy_entries?$select=loy_sequence,_loy_membershipid_value,_loy_bulkrunid_value&$filter={wanted}"
    )
    columns = "loy_customerkey,_loy_customerid_value,loy_writtenrating"
    rows = client.get(
        f"loy_memberships?$select={columns}&$expand=loy_CustomerId_account($select=accountratingcode)"
        f"&$filter={any_of('loy_membershipid', members)}"
    )
    others = {row["_loy_membershipid_value"] for row in entries if row["_loy_bulkrunid_value"] != run_id}
    for member in rows:
        member_id = member["loy_membershipid"]
        if member_id in others:
            continue
        own = [row for row in entries if row["_loy_membershipid_value"] == member_id]
        newest_first = sorted(own, key=lambda row: -row["loy_sequence"])
        *before, last = batched(newest_first, _WRITES, strict=False)
        for some in before:
            client.commit([Delete(f"loy_entries({row['loy_entryid']})") for row in some])
        writes: list[Write] = [Delete(f"loy_entries({row['loy_entryid']})") for row in last]
        writes.append(Delete(f"loy_memberships({member_id})"))
        if member["_loy_customerid_value"]:
            customer = Customer.parse(member["loy_customerkey"])
            shown: dict[str, Any] = dict.fromkeys(mirror(program, State(), now))
            account, written = member.get("loy_CustomerId_account"), member["loy_writtenrating"]
            if account and written is not None and account["accountratingcode"] == written:
                shown["accountratingcode"] = DEFAULT_RATING  # or the next backfill would take ours as set by hand
            writes.append(Update(f"{customer.entity_set}({customer.id})", shown))
        client.commit(writes)
        left.remove(member_id)
        undone.customers += 1
        undone.entries += len(own)
    return left
