"""Finds what events missed: reads Dataverse's change tracking and posts changes for rows whose ledger differs.

A sweep goes on where the last one stopped. Its cursor, the link of each table, is kept on a bulk run row after every page, so
a run may end at any time. Without a cursor, or when Dataverse has forgotten the one we have (a week by default), every row is
looked at, and every invoice that has points in the ledger and is no more.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched

from connector.bus import Change, Subject
from connector.bus.change import TABLES
from connector.dataverse import DataverseClient, Forbidden, Get, Terminal, Unauthorized, Upsert
from connector.dataverse.client import Page
from connector.dataverse.odata import IDS, any_of, moment, text, utc
from connector.differences import differences
from connector.identity import derived_id
from connector.loyalty.decisions import Outcome
from connector.loyalty.ledger import Kind
from connector.processing import Preview, Processor
from connector.rows import wishes
from connector.rows.choices import KIND, BulkKind, BulkStatus
from connector.rows.log import PARKED, report_write
from connector.rows.programs import Programs

_PAGE = 1000
_MOST = 5000  # rows in a page of ids
_CHANGED = 240  # changed rows between two places to go on from: some seconds, as each is read with its ledger
_TRACKED = {
    Subject.INVOICE: "invoices?$select=modifiedon",
    Subject.REDEMPTION: "loy_redemptions?$select=loy_status",
    Subject.ADJUSTMENT: "loy_adjustments?$select=loy_status",
}
_LINES = "invoicedetail"
_ALL_LINES = "every invoicedetail"  # the cursor of the read of every line, at whose end the first link is
_EARNED = f"loy_entries?$select=loy_cause&$filter=loy_kind eq {KIND[Kind.EARN]}"
_DELETED = "deleted"  # the cursor of the look through the ledger for invoices that are no more
_MERGED = "merged"  # when mergers were looked for last
_OVERLAP = timedelta(hours=1)  # clocks differ, and a merger may still have been under way


@dataclass(slots=True)
class SweepReport:
    """`examined` counts rows, `posted` the changes sent, by what they are about; `full` tells why every row was looked at."""

    full: str = ""
    finished: bool = False
    examined: Counter[str] = field(default_factory=Counter)
    posted: Counter[str] = field(default_factory=Counter)
    parked_before: int = 0
    before_programme: int = 0

    def __str__(self) -> str:
        scope = f"every row ({self.full})" if self.full else "changes since the last sweep"
        looked = ", ".join(f"{n} {what}" for what, n in self.examined.items()) or "nothing new"
        sentence = f"Sweep of {scope}: looked at {looked}; {_posted(self.posted)}."
        if self.parked_before:
            sentence += f" {self.parked_before} are parked already."
        if self.before_programme:
            sentence += f" {self.before_programme} invoices have no earn rule on their date and were left alone."
        return sentence if self.finished else sentence + " It goes on at the next run."


def _posted(posted: Counter[str]) -> str:
    if not posted:
        return "the ledger had missed nothing"
    return "the ledger had missed " + ", ".join(f"{n} {what}" for what, n in posted.items()) + ", sent now"


class Sweep:
    """`send` puts changes on their queue; `clock` tells aware UTC time."""

    def __init__(
        self,
        client: DataverseClient,
        programs: Programs,
        processor: Processor,
        send: Callable[[Sequence[Change]], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._programs = programs
        self._processor = processor
        self._send = send
        self._clock = clock

    def run(
        self,
        *,
        full: bool = False,
        dry_run: bool = False,
        enough: Callable[[], bool] = lambda: False,
        found: Callable[[Preview], None] = lambda preview: None,
    ) -> SweepReport:
        """Look until everything was seen or `enough`; `found` hears of each difference. A dry run posts and keeps nothing.

        Unusable when the programme is incomplete: then every invoice would only be parked.
        """
        started = self._clock()
        cause = f"sweep {started.isoformat()}"
        run = _Run(self._client, self._processor, SweepReport(), started, cause, derived_id(cause), found)
        path = f"loy_bulkruns({derived_id('sweep', self._programs.current().code)})"
        cursor = self._cursor(path)
        if full:
            # The link of lines stays, for another costs a read of all lines.
            cursor = {name: link for name, link in cursor.items() if name == _LINES}
            run.report.full = "asked for"
        elif _DELETED in cursor:
            run.report.full = "begun before"
        examined = 0
        for previews in run.pages(cursor):
            if not dry_run:
                self._send([preview.change for preview in previews])
                self._keep(path, run.report, cursor, started, BulkStatus.RUNNING)
            # Pages without rows come at the start of every run: a run gets beyond them.
            if run.report.examined.total() > examined and enough():
                break
            examined = run.report.examined.total()
        else:
            run.report.finished = True
        if not dry_run:
            status = BulkStatus.DONE if run.report.finished else BulkStatus.PAUSED
            self._keep(path, run.report, cursor, started, status)
            if run.report.examined:
                did = bool(run.report.posted)
                told = report_write(
                    "sweep", str(run.report), did_something=did, now=started, correlation_id=run.correlation_id
                )
                self._client.commit([told])
        return run.report

    def _cursor(self, path: str) -> dict[str, str]:
        row = self._client.get(f"{path}?$select=loy_cursor")
        return dict(json.loads(row["loy_cursor"] or "{}")) if row else {}

    def _keep(
        self, path: str, report: SweepReport, cursor: dict[str, str], started: datetime, status: BulkStatus
    ) -> None:
        row = {
            "loy_name": "Sweep over change tracking",
            "loy_kind": BulkKind.SWEEP.value,
            "loy_status": status.value,
            "loy_asof": started.date(),
            "loy_examined": report.examined.total(),
            "loy_posted": report.posted.total(),
            "loy_cursor": json.dumps(cursor),
        }
        if status is BulkStatus.DONE:
            row["loy_endedon"] = self._clock()  # and stays until the next one has come to its end
        self._client.commit([Upsert(path, row)])


@dataclass(slots=True)
class _Run:
    client: DataverseClient
    processor: Processor
    report: SweepReport
    started: datetime
    cause: str
    correlation_id: str
    found: Callable[[Preview], None]
    seen: set[str] = field(default_factory=set)

    def pages(self, cursor: dict[str, str]) -> Iterator[list[Preview]]:
        """What must be posted, page by page. The cursor is moved before a page is given out, and is kept after it was sent."""
        yield from self._lines(cursor)
        for subject, path in _TRACKED.items():
            for page in self._tracked(TABLES[subject], path, cursor):
                yield self._differing(subject, self._ids(subject, page))
        if _DELETED in cursor:
            for page in self.client.pages(cursor[_DELETED], max_page_size=_PAGE):
                previews = self._differing(Subject.INVOICE, self._gone(page), "invoices deleted")
                if page.next_link:
                    cursor[_DELETED] = page.next_link
                else:
                    del cursor[_DELETED]
                yield previews
        yield from self._mergers(cursor)

    def _mergers(self, cursor: dict[str, str]) -> Iterator[list[Preview]]:
        """Customers who were merged into another, and may still have points. Customers are not tracked: too much else changes."""
        condition = "merged eq true"
        if not self.report.full and _MERGED in cursor:
            since = datetime.fromisoformat(cursor[_MERGED]) - _OVERLAP
            condition += f" and modifiedon ge {moment(since)}"
        for table in ("account", "contact"):
            for page in self.client.pages(f"{table}s?$select={table}id&$filter={condition}", max_page_size=_PAGE):
                ids = [row[f"{table}id"] for row in page]
                yield self._differing(Subject.CUSTOMER, ids, f"merged {table}s", table)
        cursor[_MERGED] = self.started.isoformat()

    def _lines(self, cursor: dict[str, str]) -> Iterator[list[Preview]]:
        """Invoices with changed lines: another product category changes an invoice's points and not its row. A deleted line
        has nothing but its own id; it changes its invoice's totals."""
        for page in self._changed(_LINES, cursor):
            # Where invoices have no place to go on from, every one is looked at below.
            ids = {row["_invoiceid_value"] for row in page if "reason" not in row and TABLES[Subject.INVOICE] in cursor}
            self.seen |= ids
            yield self._differing(Subject.INVOICE, sorted(ids))
        if _LINES in cursor:
            return
        # Changes until now cannot be told: every invoice is looked at, once there is a link for what comes after.
        cursor.pop(TABLES[Subject.INVOICE], None)
        path = "invoicedetails?$select=_invoiceid_value"
        for page in self._tracked(_ALL_LINES, path, cursor):
            self.report.examined["lines"] += len(page)
            yield []
        cursor[_LINES] = cursor.pop(_ALL_LINES)

    def _tracked(self, name: str, path: str, cursor: dict[str, str]) -> Iterator[Page]:
        """Pages of changed rows; of all rows when there is no link, or Dataverse does not take ours any more."""
        yield from self._changed(name, cursor)
        if name not in cursor:
            if name == TABLES[Subject.INVOICE]:
                cursor[_DELETED] = _EARNED
            yield from self._read(path, name, cursor)

    def _changed(self, name: str, cursor: dict[str, str]) -> Iterator[Page]:
        """Pages of rows changed since the link of this name, which the cursor loses when Dataverse does not take it any more."""
        if link := cursor.get(name):
            try:
                yield from self._read(link, name, cursor)
                return
            except (Forbidden, Unauthorized):
                raise
            except Terminal as error:
                self.report.full = f"{name}: {error.message.rstrip('.')}"
        elif not self.report.full:
            self.report.full = "the first sweep"
        cursor.pop(name, None)

    def _read(self, link: str, name: str, cursor: dict[str, str]) -> Iterator[Page]:
        size = _MOST if name == _ALL_LINES else _CHANGED
        for page in self.client.pages(link, max_page_size=size, track_changes=True):
            cursor[name] = page.next_link or page.delta_link or ""
            yield page

    def _ids(self, subject: Subject, page: Page) -> list[str]:
        """Rows of a page that may need something: of redemptions and adjustments those that still wait, and no invoice that
        was looked at in this run for its lines and has not changed meanwhile."""
        found = []
        for row in page:
            if "reason" in row:
                found += [row["id"]] if subject is Subject.INVOICE else []
            elif subject in wishes.OPEN:
                found += [row[f"{TABLES[subject]}id"]] if row["loy_status"] in wishes.OPEN[subject] else []
            elif row["invoiceid"] not in self.seen or utc(row["modifiedon"]) > self.started - _OVERLAP:
                found.append(row["invoiceid"])
        return found

    def _gone(self, page: Page) -> list[str]:
        """Invoices that earned points and do not exist."""
        ids = sorted({row["loy_cause"].removeprefix("invoice:") for row in page})
        gone = set(ids)
        for some in batched(ids, IDS, strict=False):
            rows = self.client.read(Get(f"invoices?$select=invoiceid&$filter={any_of('invoiceid', some)}"))[0]
            gone -= {row["invoiceid"] for row in rows}
        return sorted(gone)

    def _differing(self, subject: Subject, ids: list[str], what: str = "", customers: str = "") -> list[Preview]:
        """`customers` is the table of ids that are customers' own."""
        what = what or f"{subject}s"
        if ids:
            self.report.examined[what] += len(ids)
        changes = [
            Change.about(
                subject,
                row_id,
                f"{customers}:{row_id}" if customers else None,
                cause=self.cause,
                correlation_id=self.correlation_id,
            )
            for row_id in ids
        ]
        previews = [preview for preview in differences(self.processor, changes) if self._to_post(preview)]
        for preview in previews:
            self.report.posted[what] += 1
            self.found(preview)
        return previews

    def _to_post(self, preview: Preview) -> bool:
        """Parking again what is parked, or an invoice from before the programme began, would help nobody."""
        if preview.decision.outcome is not Outcome.PARKED:
            return True
        if preview.decision.reason == "no_rule":
            self.report.before_programme += 1
            return False
        parked = (
            f"loy_integrationlogs?$select=loy_outcome&$top=1&$filter=loy_recordid eq {text(preview.change.row)}"
            f" and {PARKED}"
        )
        if self.client.get(parked):
            self.report.parked_before += 1
            return False
        return True
