"""What must hold after a run, whoever did the work: read from the rows alone, counted."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import batched
from typing import Any

from benchmarks.hot_path.stream import Kind, Names, Recording, Row
from connector.dataverse import DataverseClient, Get
from connector.dataverse.odata import any_of
from connector.rows.choices import KIND, RedemptionStatus

_AT_ONCE = 40
_REDEEM = next(value for kind, value in KIND.items() if kind.value == "redeem")


def broken(client: DataverseClient, recording: Recording, names: Names) -> Counter[str]:
    """How often each law is broken.

    `balance`: a membership has the sum of its entries. `sequence`: 1, 2, 3 and as far as the membership says. `account`: the
    account shows the membership's balance. `invoice`: it has exactly the points of its rule (one a unit, none when cancelled).
    `redemption`: completed with exactly one entry, or rejected with none, and neither left waiting. `overspent`: the balance
    fell below zero by a redemption.
    """
    faults: Counter[str] = Counter()
    entries, causes = defaultdict(list), defaultdict(list)
    customers = {names.customer(number).membership_id: names.customer(number) for number in recording.touched}
    for row in _rows(client, "loy_entries", "_loy_membershipid_value", customers, _ENTRY):
        entries[row["_loy_membershipid_value"]].append(row)
        causes[row["loy_cause"]].append(row["loy_points"])
    accounts = {customer.id: member for member, customer in customers.items()}
    shown = {
        accounts[row["accountid"]]: row["loy_pointsbalance"]
        for row in _rows(client, "accounts", "accountid", accounts, "accountid,loy_pointsbalance")
    }
    for row in _rows(client, "loy_memberships", "loy_membershipid", customers, _MEMBERSHIP):
        member = row["loy_membershipid"]
        own = sorted(entries[member], key=lambda entry: entry["loy_sequence"])
        balance = 0
        for entry in own:
            balance += entry["loy_points"]
            faults["overspent"] += entry["loy_kind"] == _REDEEM and balance < 0
        faults["balance"] += row["loy_balance"] != balance
        faults["sequence"] += [e["loy_sequence"] for e in own] != list(range(1, row["loy_sequence"] + 1))
        faults["account"] += shown[member] != row["loy_balance"]
    for document in recording.rows:
        if document.kind is not Kind.REDEEM:
            due = document.amount if document.kind is Kind.PAID else 0
            faults["invoice"] += sum(causes[f"invoice:{names.row(document)}"]) != due
    asked = {names.row(row): row for row in recording.rows if row.kind is Kind.REDEEM}
    for row in _rows(client, "loy_redemptions", "loy_redemptionid", asked, "loy_redemptionid,loy_status"):
        points = causes[f"redemption:{row['loy_redemptionid']}"]
        faults["redemption"] += not _fits(row["loy_status"], asked[row["loy_redemptionid"]], points)
    return +faults


_ENTRY = "_loy_membershipid_value,loy_sequence,loy_points,loy_cause,loy_kind"
_MEMBERSHIP = "loy_membershipid,loy_balance,loy_sequence"


def _fits(status: int, asked: Row, points: list[int]) -> bool:
    match status:
        case RedemptionStatus.COMPLETED:
            return points == [-asked.amount]
        case RedemptionStatus.REJECTED:
            return not points
        case _:
            return False


def _rows(
    client: DataverseClient, entity_set: str, column: str, ids: Iterable[str], select: str
) -> Iterator[dict[str, Any]]:
    for chunk in batched(ids, _AT_ONCE, strict=False):
        (found,) = client.read(Get(f"{entity_set}?$select={select}&$filter={any_of(column, chunk)}"))
        yield from found
