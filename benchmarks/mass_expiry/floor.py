"""The bare floor: rows like the run's, made beforehand, written by the same bulk calls and nothing else.

It takes customers to whom nothing is due, and cancels points of theirs early; entries are valid, so the audit holds for them too.
"""

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from datetime import time as midnight
from itertools import batched, islice
from typing import Any

from connector.app import connect
from connector.dataverse import DataverseClient, Row
from connector.identity import Customer
from connector.loyalty.program import Program
from connector.loyalty.reviews import Expiry, decide_review
from connector.rows import ledger
from connector.rows.choices import NoticeStatus
from connector.rows.copies import copies
from connector.rows.customers import CustomerRow
from connector.settings import read_settings

PAGE = 1000
_SILENT = {"loy_noticestatus": NoticeStatus.NONE.value}


@dataclass(slots=True)
class Batch:
    """The rows of some customers, by table."""

    entries: list[Row] = field(default_factory=list)
    members: list[Row] = field(default_factory=list)
    copies: dict[str, list[Row]] = field(default_factory=lambda: {"account": [], "contact": []})


def prepared(client: DataverseClient, program: Program, now: datetime, count: int) -> list[Batch]:
    """What to write for `count` customers to whom nothing is due, a thousand in each."""
    path = (
        f"loy_memberships?$select={ledger.MEMBERSHIP},loy_nextexpiryon"
        f"&$filter=loy_nextexpiryon ge {now.date()}&$orderby=loy_membershipid"
    )
    rows = (row for page in client.pages(path, max_page_size=PAGE) for row in page)
    return [_batch(program, some) for some in batched(islice(rows, count), PAGE, strict=False)]


def _batch(program: Program, rows: tuple[Row, ...]) -> Batch:
    batch = Batch()
    for row in rows:
        customer = Customer.parse(row["loy_customerkey"])
        membership = ledger.membership_of(customer, row)
        day = min(membership.state.lots) + timedelta(days=1)
        then = datetime.combine(day, midnight(), UTC)
        decision = decide_review(program, str(customer), membership.state, then, Expiry(day))
        if decision.state.tier != membership.state.tier:
            continue  # their rating would have to be read first
        facts = CustomerRow(customer, "", None, None)
        member, copy = copies(program, membership, decision.state, facts, then, rates=False)
        batch.entries += [ledger.entry_row(program, entry) | _SILENT for entry in decision.entries]
        batch.members.append({"loy_membershipid": customer.membership_id} | member)
        batch.copies[customer.table].append({f"{customer.table}id": customer.id} | copy)
    return batch


@dataclass(frozen=True, slots=True)
class Floor:
    """Customers a second, and seconds of processor time that a customer took in the writing processes."""

    rate: float
    writer: float


def measured(settings: Sequence[Mapping[str, str]], batches: list[Batch], lanes: int) -> Floor:
    """Writes the batches with one process for each settings, each with `lanes` calls at once."""
    parts = [batches[number :: len(settings)] for number in range(len(settings))]
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(settings), mp_context=spawning) as pool, spawning.Manager() as manager:
        together = manager.Barrier(len(settings))
        times = list(pool.map(_write, settings, parts, [lanes] * len(settings), [together] * len(settings)))
    took = max(end for _, end, _ in times) - min(start for start, _, _ in times)
    customers = sum(len(batch.members) for batch in batches)
    return Floor(customers / took, sum(used for _, _, used in times) / customers)


def _write(settings: Mapping[str, str], batches: list[Batch], lanes: int, together: Any) -> tuple[float, float, float]:
    """Start and end on the machine's clock, once connections are open everywhere, and the processor time in between."""
    with connect(read_settings(settings)) as client, ThreadPoolExecutor(lanes) as pool:
        list(pool.map(lambda _: client.get("loy_programs?$select=loy_code"), range(lanes)))
        together.wait()
        start, used = time.monotonic(), time.process_time()
        list(pool.map(lambda batch: _write_one(client, batch), batches))
        return start, time.monotonic(), time.process_time() - used


def _write_one(client: DataverseClient, batch: Batch) -> None:
    for some in batched(batch.entries, PAGE, strict=False):
        client.create_multiple("loy_entries", "loy_entry", some)
    client.update_multiple("loy_memberships", "loy_membership", batch.members)
    for table, rows in batch.copies.items():
        if rows:
            client.update_multiple(f"{table}s", table, rows)
