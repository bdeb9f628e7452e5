"""Points outstanding: what the company owes its customers, by tier and month of expiry.

A run of its own kind counts them. Its row says which parts are left, so that it stops anywhere and goes on in any process.
"""

import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from uuid import uuid4

from connector.dataverse import Conflict, DataverseClient, Transient
from connector.dataverse.odata import guid
from connector.mass import selection
from connector.mass.book import Book, Lost, Part
from connector.mass.figures import by_month
from connector.mass.order import BadOrder, Figures, Progress, Totals
from connector.rows.choices import BulkKind
from connector.rows.values import Row

PENDING, OWED = "pending", "owed"
_WHAT = "outstanding"
_LEASE = 300.0  # seconds; a part is a few pages
_PAGE = 5000
_MEMBERSHIPS = "loy_memberships?$select=loy_state,loy_pending&$orderby=loy_partition,loy_customerkey"


def is_count(client: DataverseClient, run_id: str) -> bool:
    """Whether a run counts what is outstanding, and visits nobody to decide anything."""
    row = client.get(f"loy_bulkruns({guid(run_id)})?$select=loy_kind")
    return row is not None and row["loy_kind"] == BulkKind.OUTSTANDING.value


def points_of(progress: Progress) -> Counter[tuple[str, str]]:
    """Points by (tier, month of expiry), with `pending` and `owed` (below zero) beside the months."""
    return Counter({(tier, month): n for (what, tier, month), n in progress.figures.items() if what == _WHAT and n})


def count(
    client: DataverseClient,
    run_id: str,
    *,
    clock: Callable[[], datetime],
    lanes: int = 4,
    page: int = _PAGE,
    progress: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Count until no part is to be had or `stop` says so: parts that another process holds are left to it.

    Each part is counted as of the moment when it is read. A run that cannot be counted is marked as failed, with the reason.
    """
    book = Book(client, run_id, clock, _LEASE)
    try:
        return _counted(client, book, lanes, page, progress, stop)
    except (Transient, Conflict):
        raise
    except Exception as fault:
        book.fail(str(fault) if isinstance(fault, BadOrder) else f"{type(fault).__name__}: {fault}")
        raise


def _counted(
    client: DataverseClient,
    book: Book,
    lanes: int,
    page: int,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Progress:
    state = book.read()
    if not state.goes_on:
        return state
    everybody = replace(state.order, kind=BulkKind.RULES)
    if state.runs and state.parts_left is None:
        book.plan(selection.parts(client, everybody, page))

    def read(part: Part) -> None:
        where = f"loy_partition ge {part.low} and loy_partition lt {part.high}"
        figures: Figures = Counter()
        customers = 0
        with suppress(Lost):  # whoever has taken the part over counts it
            for rows in client.pages(f"{_MEMBERSHIPS}&$filter={where}", max_page_size=page):
                if stop():
                    book.leave(part, Totals(), Counter(), finished=False)
                    return
                _add(rows, figures)
                customers += len(rows)
            progress(book.leave(part, Totals(done=customers), figures, finished=True))

    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    with ThreadPoolExecutor(lanes, thread_name_prefix="count") as pool:
        while True:
            state, parts = book.claim(owner, [], 0 if stop() else lanes)
            progress(state)
            if not parts:
                return state
            list(pool.map(read, parts))


def _add(rows: Iterable[Row], figures: Figures) -> None:
    for row in rows:
        state = json.loads(row["loy_state"] or "{}")
        tier = state.get("tier") or "-"
        lots = {date.fromisoformat(day): points for day, points in state.get("lots", {}).items()}
        for month, points in by_month(lots).items():
            figures[_WHAT, tier, month] += points
        if row["loy_pending"]:
            figures[_WHAT, tier, PENDING] += row["loy_pending"]
        if state.get("owed"):
            figures[_WHAT, tier, OWED] -= state["owed"]
