"""A run's row in `loy_bulkrun`: what was ordered, which parts are left and who works on them, what was done.

Several processes write the row; each write is a compare-and-set on its ETag, so that parts are claimed once and counted once.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from connector.dataverse import Conflict, DataverseClient, NotFound, Update, Upsert
from connector.dataverse.odata import bind, guid, utc
from connector.mass.order import BadOrder, Figures, Order, Progress, Totals
from connector.rows.choices import BulkKind, BulkStatus
from connector.rows.values import Row, day

# What a place is: partition and customer key. Pages are in this order.
type Place = tuple[int, str]

START: Place = (-1, "")
_ATTEMPTS = 50
_ORDER = (
    "loy_name,loy_kind,loy_asof,loy_dryrun,loy_whatif,loy_exclude,loy_settlefirst,loy_sparedays,loy_hold,loy_notices,"
    "loy_noticetemplate,_loy_programid_value"
)
_TOTALS = {
    "selected": "loy_selected",
    "done": "loy_done",
    "excluded": "loy_excluded",
    "second_round": "loy_secondround",
    "failed": "loy_failed",
    "entries": "loy_entries",
    "points": "loy_pointscancelled",
    "conflicts": "loy_conflicts",
    "rewritten": "loy_rewritten",
    "throttled": "loy_throttled",
    "notices": "loy_noticesconfirmed",
}
_ROW = f"{_ORDER},{','.join(_TOTALS.values())},loy_status,loy_cursor,loy_startedon,loy_seenon,loy_endedon,loy_figures,loy_message"
_WORKED_ON = (BulkKind.EXPIRY, BulkKind.REVIEW, BulkKind.RULES, BulkKind.OUTSTANDING)
ENDED = frozenset({BulkStatus.DONE, BulkStatus.CANCELLED})  # what failed may be resumed when its reason is gone


@dataclass(slots=True)
class Part:
    """Memberships whose partition is from `low` up to below `high`, of which `selected` were to be visited and `visited` were.

    Everything up to `done` is finished and counted. What lies between `done` and `begun` may have been written and not counted,
    if the `owner` died: whoever takes the part over looks.
    """

    low: int
    high: int
    selected: int
    done: Place = START
    begun: Place = START
    owner: str = ""
    until: float = 0.0  # seconds since 1970
    visited: int = 0

    @property
    def half_done(self) -> bool:
        return self.begun > self.done

    def free(self, now: datetime) -> bool:
        return not self.owner or self.until < now.timestamp()


@dataclass(slots=True)
class _Page:
    """The row as read: what may be changed of it."""

    etag: str
    progress: Progress
    parts: list[Part] | None
    attempt: int
    columns: dict[str, Any] = field(default_factory=dict)

    def add(self, totals: Totals, figures: Figures) -> None:
        sums = Counter(self.progress.figures)
        sums.update(figures)  # `+` would forget what is below zero
        self.progress = replace(self.progress, totals=self.progress.totals + totals, figures=sums)


def start(client: DataverseClient, order: Order, clock: Callable[[], datetime], run_id: str = "") -> str:
    """Make the row of a run, ready to be worked on; its id. A run whose id is given is made once.

    BadOrder when the order makes no sense."""
    order.check(clock().date())
    run_id = run_id or str(uuid4())
    row = {
        "loy_name": order.name or f"{order.kind.name.capitalize()} as of {order.as_of}",
        "loy_kind": order.kind.value,
        "loy_asof": order.as_of,
        "loy_dryrun": order.dry_run,
        "loy_whatif": order.what_if or None,
        "loy_exclude": order.exclude or None,
        "loy_settlefirst": order.settle_first or None,
        "loy_sparedays": order.spare_days,
        "loy_hold": order.hold,
        "loy_notices": order.notices,
        "loy_noticetemplate": order.template or None,
        "loy_status": BulkStatus.RUNNING.value,
    }
    if order.program:
        row["loy_ProgramId@odata.bind"] = bind("loy_programs", order.program)
    with suppress(Conflict):
        client.commit([Upsert(f"loy_bulkruns({run_id})", row, only_if_new=True)])
    return run_id


def read(client: DataverseClient, run_id: str) -> Progress:
    """How a run stands. NotFound when there is none."""
    return Book(client, run_id).read()


def set_status(client: DataverseClient, run_id: str, status: BulkStatus, clock: Callable[[], datetime]) -> Progress:
    """Pause (PAUSED), resume (RUNNING) or cancel (CANCELLED) a run; workers notice between two pages.

    A run that is cancelled has ended when the pages that were begun are finished, counted and announced. BadOrder when it was
    over before."""
    return Book(client, run_id, clock).set_status(status)


def under_way(client: DataverseClient, program_id: str) -> list[str]:
    """Ids of the runs of a programme, or of none in particular, that wait to be worked on.

    Whose turn is longest ago comes first, so that a long run does not hold up others."""
    kinds = " or ".join(f"loy_kind eq {kind.value}" for kind in _WORKED_ON)
    ending = f"loy_status eq {BulkStatus.CANCELLED.value} and loy_endedon eq null"
    ours = f"_loy_programid_value eq null or _loy_programid_value eq {guid(program_id)}"
    condition = f"(loy_status eq {BulkStatus.RUNNING.value} or {ending}) and ({kinds}) and ({ours})"
    rows = client.get(f"loy_bulkruns?$select=loy_name&$filter={condition}&$orderby=loy_seenon,createdon")
    return [row["loy_bulkrunid"] for row in rows]


class Book:
    """The row of one run. Safe for many threads."""

    def __init__(
        self, client: DataverseClient, run_id: str, clock: Callable[[], datetime] | None = None, lease: float = 60.0
    ) -> None:
        self._client = client
        self._path = f"loy_bulkruns({guid(run_id)})"
        self._run_id = run_id
        self._clock = clock
        self._lease = lease
        self._lock = threading.Lock()  # threads of one process need not find out by conflicts

    def read(self) -> Progress:
        return self._page().progress

    def set_status(self, status: BulkStatus, message: str = "") -> Progress:
        def change(page: _Page) -> None:
            if page.progress.status in ENDED and page.progress.status is not status:
                raise BadOrder(f"the run has ended: it is {page.progress.status.name.lower()}")
            ended = self._now() if status is BulkStatus.FAILED else None
            page.columns |= {"loy_status": status.value, "loy_message": message[:4000] or None, "loy_endedon": ended}
            page.progress = replace(page.progress, status=status, message=message, ended_on=ended)
            self._end(page, self._now())

        return self._change(change).progress

    def fail(self, message: str) -> None:
        """End a run that cannot be begun, whatever else its row says."""
        columns = {"loy_status": BulkStatus.FAILED.value, "loy_message": message[:4000], "loy_endedon": self._now()}
        self._client.commit([Update(self._path, columns)])

    def end(self) -> Progress:
        """Say that a cancelled run is over, unless a page is half done."""
        return self._change(lambda page: self._end(page, self._now())).progress

    def plan(self, parts: Sequence[Part]) -> Progress:
        """Keep what is to be visited, unless somebody else was first."""

        def change(page: _Page) -> None:
            if page.parts is None:
                page.parts = list(parts)
                page.add(Totals(selected=sum(part.selected for part in parts)), Counter())
                begun = self._now()
                page.progress = replace(page.progress, started_on=begun)
                page.columns["loy_startedon"] = begun

        return self._change(change).progress

    def claim(self, owner: str, held: Sequence[Part], wanted: int) -> tuple[Progress, list[Part]]:
        """Renew the leases on `held` parts and take up to `wanted` more; the run is done when none is left."""
        claimed: list[Part] = []

        def change(page: _Page) -> None:
            claimed.clear()
            now = self._now()
            mine = {part.low for part in held}
            for part in page.parts or ():
                if part.owner == owner and part.low in mine:
                    part.until = now.timestamp() + self._lease
                elif len(claimed) == wanted or not (page.progress.runs or (page.progress.ending and part.half_done)):
                    continue
                elif part.owner == owner or part.free(now):  # ours: the answer to an earlier attempt was lost
                    part.owner, part.until = owner, now.timestamp() + self._lease
                    claimed.append(part)
            self._seen(page, now)

        return self._change(change).progress, claimed

    def report(self, part: Part, totals: Totals, figures: Figures) -> Progress:
        """Add what was done of a part, and how far it got. Lost when somebody else has taken it over."""
        applied = (part.done, part.begun)

        def change(page: _Page) -> None:
            kept = next((other for other in page.parts or () if other.low == part.low), None)
            if kept is None or kept.owner != part.owner:
                raise Lost(f"partition {part.low}")
            if page.attempt and (kept.done, kept.begun) == applied:
                return  # the answer to an earlier attempt was lost
            kept.done, kept.begun = applied
            kept.visited += totals.visited
            kept.owner, kept.until = part.owner, self._now().timestamp() + self._lease
            page.add(totals, figures)
            self._seen(page, self._now())

        return self._change(change).progress

    def leave(self, part: Part, totals: Totals, figures: Figures, *, finished: bool) -> Progress:
        """The last report of a part: it is `finished`, or somebody else may take it."""

        def change(page: _Page) -> None:
            kept = next((other for other in page.parts or () if other.low == part.low), None)
            if kept is None or kept.owner != part.owner:
                if page.attempt:
                    return  # the answer to an earlier attempt was lost
                raise Lost(f"partition {part.low}")
            kept.done, kept.begun, kept.owner = part.done, part.begun, ""
            kept.visited += totals.visited
            page.add(totals, figures)
            if finished and page.parts is not None:
                page.parts.remove(kept)
                page.add(Totals(selected=kept.visited - kept.selected), Counter())
            self._seen(page, self._now())

        return self._change(change).progress

    def _seen(self, page: _Page, now: datetime) -> None:
        page.columns["loy_seenon"] = now
        page.progress = replace(page.progress, seen_on=now)
        page.columns["loy_persecond"] = Decimal(f"{page.progress.per_second:.1f}")
        self._end(page, now)

    def _end(self, page: _Page, now: datetime) -> None:
        """Done when no part is left; cancelled when no page is half done."""
        if page.progress.runs and page.parts == []:
            status = BulkStatus.DONE
        elif page.progress.ending and not any(part.half_done for part in page.parts or ()):
            status = BulkStatus.CANCELLED
        else:
            return
        page.columns |= {"loy_status": status.value, "loy_endedon": now}
        page.progress = replace(page.progress, status=status, ended_on=now)

    def _now(self) -> datetime:
        assert self._clock is not None
        return self._clock()

    def _page(self, attempt: int = 0) -> _Page:
        row = self._client.get(f"{self._path}?$select={_ROW}")
        if row is None:
            raise NotFound(f"there is no bulk run {self._run_id}")
        cursor = row["loy_cursor"]
        parts = [_part(raw) for raw in json.loads(cursor)] if cursor else None
        return _Page(row["@odata.etag"], _progress(self._run_id, row, parts), parts, attempt)

    def _change(self, change: Callable[[_Page], None]) -> _Page:
        with self._lock:
            for attempt in range(_ATTEMPTS):
                if attempt:
                    time.sleep(random.uniform(0, 0.02 * min(attempt, 10)))  # noqa: S311
                page = self._page(attempt)
                before = page.progress
                change(page)
                row = page.columns
                if page.parts is not None:
                    row["loy_cursor"] = json.dumps([_raw(part) for part in page.parts], separators=(",", ":"))
                if page.progress.totals != before.totals:
                    row |= {column: _amount(page.progress.totals, name) for name, column in _TOTALS.items()}
                if page.progress.figures != before.figures:
                    row["loy_figures"] = json.dumps({"|".join(key): n for key, n in page.progress.figures.items()})
                try:
                    self._client.commit([Update(self._path, row, if_match=page.etag)])
                except Conflict:
                    continue
                parts_left = None if page.parts is None else len(page.parts)
                page.progress = replace(page.progress, parts_left=parts_left)
                return page
        raise Conflict(f"bulk run {self._run_id}: still in conflict after {_ATTEMPTS} attempts")


class Lost(Exception):
    """Somebody else has taken over: what is done now will be counted there."""


def _progress(run_id: str, row: Row, parts: list[Part] | None) -> Progress:
    as_of = day(row, "loy_asof")
    if as_of is None:
        raise BadOrder("loy_asof: a run needs a date")
    order = Order(
        kind=BulkKind(row["loy_kind"]),
        as_of=as_of,
        name=row["loy_name"] or "",
        dry_run=bool(row["loy_dryrun"]),
        exclude=row["loy_exclude"] or "",
        settle_first=row["loy_settlefirst"] or "",
        spare_days=row["loy_sparedays"] or 0,
        hold=bool(row["loy_hold"]),
        notices=row["loy_notices"] is not False,
        template=row["loy_noticetemplate"] or "",
        what_if=row["loy_whatif"] or "",
        program=row["_loy_programid_value"] or "",
    )
    totals = Totals(**{name: _number(name, row[column]) for name, column in _TOTALS.items()})
    figures = {(*key.split("|", 2),): n for key, n in json.loads(row["loy_figures"] or "{}").items()}
    return Progress(
        run_id=run_id,
        order=order,
        status=BulkStatus(row["loy_status"]),
        totals=totals,
        parts_left=None if parts is None else len(parts),
        started_on=utc(row["loy_startedon"]) if row["loy_startedon"] else None,
        seen_on=utc(row["loy_seenon"]) if row["loy_seenon"] else None,
        ended_on=utc(row["loy_endedon"]) if row["loy_endedon"] else None,
        message=row["loy_message"] or "",
        figures=Counter(figures),
    )


def _number(name: str, value: Any) -> Any:
    return float(value or 0) if name == "throttled" else int(value or 0)


def _amount(totals: Totals, name: str) -> Any:
    value = getattr(totals, name)
    return Decimal(f"{value:.1f}") if name == "throttled" else value


def _part(raw: list[Any]) -> Part:
    low, high, selected, done, begun, owner, until, visited = raw
    return Part(low, high, selected, (done[0], done[1]), (begun[0], begun[1]), owner, until, visited)


def _raw(part: Part) -> list[Any]:
    until = round(part.until, 3) if part.owner else 0
    return [part.low, part.high, part.selected, part.done, part.begun, part.owner, until, part.visited]
