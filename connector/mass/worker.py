"""Does a run: lanes take parts of the customers and go through them page by page.

Notices of a run follow its entries page by page and are counted with them, so the run's own parts are all that is kept about
them: whoever finishes the page of a worker that died sends its notices again, under the same ids.
"""

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from itertools import batched
from typing import TYPE_CHECKING
from uuid import uuid4

from connector.bus import Change
from connector.cases.invoice import unusable
from connector.dataverse import Conflict, DataverseClient, Transient, Unauthorized
from connector.dataverse.odata import moment
from connector.loyalty.ledger import Entry, LedgerError
from connector.loyalty.program import Program
from connector.mass import lists, selection
from connector.mass.applying import Applied, Applier, cancelled
from connector.mass.book import Book, Lost, Part
from connector.mass.courtesy import Courtesy
from connector.mass.deciding import Decider, Member, Problem, Reviewer, entries, review, settle, untouched
from connector.mass.figures import figures_of
from connector.mass.lists import NOBODY, CustomerList
from connector.mass.order import BadOrder, Figures, Order, Progress, Totals
from connector.mass.pace import WINDOW, Pace
from connector.mass.whatif import changed
from connector.notices import announced, notice
from connector.processing import broken
from connector.rows import ledger
from connector.rows.choices import BulkKind, BulkStatus
from connector.rows.log import log_write
from connector.rows.values import Row

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusMessage

    type Notify = Callable[[Sequence[ServiceBusMessage]], None]

_log = logging.getLogger("loyalty.mass")
PAGE = 1000  # customers
_PAUSE = 1.0  # seconds between two looks when all parts are others'
_REST = 2.0  # seconds in which no part is begun after Dataverse or a queue refused: no page is tried round and round


def work(
    run_id: str,
    clients: Sequence[DataverseClient],
    program: Program,
    send: Callable[[Sequence[Change]], None],
    notify: "Notify",
    *,
    clock: Callable[[], datetime],
    lanes: int = 4,
    page: int = PAGE,
    lease: float = 60.0,
    worker: str = "",
    decider: Decider | None = None,
    window: float = WINDOW,
    progress: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Work on a run until nothing is left, it was paused or cancelled, or `stop` says so; answers with how it stands.

    BadOrder when it cannot be done as ordered. Whatever keeps it from being begun, unless it passes: the row is marked as
    failed and says why.

    `clients` are application users, each with `lanes` threads of its own: a lane has one page of at most `page` customers in
    the making. `send` puts what must be decided again on the session queue, `notify` the notices of entries on theirs; when a
    queue refuses, the page is finished later. A part whose worker was not heard of for `lease`
    seconds is taken over. `decider` is another than the review. `window` is the span of service protection in seconds, shorter
    where limits are scaled. `progress` hears the state of the whole run after each page; it is called from many threads.
    """
    book = Book(clients[0], run_id, clock, lease)
    try:
        state = book.read()
        if not state.goes_on:
            return state
        if state.ending and not (state := book.end()).goes_on:
            return state
        state.order.check(clock().date())
        if state.order.program not in {"", program.id}:
            raise BadOrder(
                f"loy_programid: this connector works for the programme {program.code}, the run is for another"
            )
        program = _as_if(program, state.order)
        if state.runs and state.parts_left is None:
            state = book.plan(selection.parts(clients[0], state.order, page))
        excluded = lists.read(clients[0], "loy_exclude", state.order.exclude)
        settled_first = lists.read(clients[0], "loy_settlefirst", state.order.settle_first)
    except (Transient, Conflict, Unauthorized):
        raise
    except Exception as error:
        book.fail(str(error) if isinstance(error, BadOrder) else f"{type(error).__name__}: {error}")
        raise
    paces = [Pace(client, lanes, window=window) for client in clients]
    crews = [
        _Crew(
            client,
            program,
            state.order,
            decider or Reviewer(program, state.order, run_id, state.at, excluded),
            run_id,
            pace,
            send,
            notify,
            clock,
            book,
            excluded,
            settled_first,
            page,
            progress,
            stop,
        )
        for client, pace in zip(clients, paces, strict=True)
    ]
    courtesy = Courtesy(clients[0], paces, clock, state.started_on)
    owner = worker or f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    running: dict[Future[None], tuple[Part, _Crew]] = {}
    rests_until = 0.0
    with ThreadPoolExecutor(lanes * len(crews), thread_name_prefix="mass") as pool:
        while True:
            rests = stop() or time.monotonic() < rests_until
            free = 0 if rests else lanes * len(crews) - len(running)
            try:
                state, claimed = book.claim(owner, [part for part, _ in running.values()], free)
                courtesy.look()
            except Transient as error:
                _log.warning("the run's row is out of reach: %s", error)
                claimed = []
            for part in claimed:
                crew = min(crews, key=lambda crew: sum(other is crew for _, other in running.values()))
                running[pool.submit(crew.visit, part)] = (part, crew)
            progress(state)
            if not running:
                if stop() or not state.runs:
                    return state
                time.sleep(min(_PAUSE, lease / 3))
                continue
            finished, _ = wait(running, timeout=min(lease / 3, _PAUSE * 5), return_when=FIRST_COMPLETED)
            for future in finished:
                part, _ = running.pop(future)
                fault = future.exception()
                if isinstance(fault, Lost):
                    _log.warning("%s: somebody else has taken over", fault)
                elif isinstance(fault, (Transient, Unsent)):
                    _log.warning("partition %s waits: %s", part.low, fault)
                    rests_until = time.monotonic() + _REST
                elif fault is not None:
                    book.set_status(BulkStatus.FAILED, f"{type(fault).__name__}: {fault}")
                    raise fault


def _as_if(program: Program, order: Order) -> Program:
    """The programme that a run decides by: with tiers as a what-if wishes, whoever works on it."""
    try:
        return changed(program, filter(None, map(str.strip, order.what_if.splitlines())))
    except ValueError as error:
        raise BadOrder(f"loy_whatif: {error}") from None


class Unsent(Exception):
    """A queue does not accept what must be sent: the page is finished later."""


@dataclass(slots=True)
class _Crew:
    """The lanes of one application user."""

    client: DataverseClient
    program: Program
    order: Order
    decider: Decider
    run_id: str
    pace: Pace
    send: Callable[[Sequence[Change]], None]
    notify: "Notify"
    clock: Callable[[], datetime]
    book: Book
    excluded: CustomerList
    settled_first: CustomerList
    page: int
    progress: Callable[[Progress], None]
    stop: Callable[[], bool]

    def visit(self, part: Part) -> None:
        """Go through a part; between two pages look whether to go on. What was begun by somebody who died comes first."""
        applier = Applier(self.client, self.program, self.order, self.decider, self.run_id, self.pace, self.clock)
        totals, figures = self._resumed(part, applier) if part.half_done else (Totals(), Counter())
        for rows in selection.pages(self.client, self.order, part, self.page):
            part.begun = selection.place(rows[-1])
            progress = self.book.report(part, totals, figures)
            self.progress(progress)
            totals, figures = Totals(), Counter()
            if not progress.runs or self.stop():
                part.begun = part.done
                self.book.leave(part, totals, figures, finished=False)
                return
            totals, figures, _ = self._page(rows, applier)
            part.done = part.begun
        self.progress(self.book.leave(part, totals, figures, finished=True))

    def _page(self, rows: Sequence[Row], applier: Applier) -> tuple[Totals, Figures, Applied]:
        # A review does more than cancel points: only the run that does nothing else passes people by.
        passes = self.order.kind is BulkKind.EXPIRY
        there = [row for row in rows if not (passes and self.excluded.has(*_names(row)))]
        first = NOBODY if self.order.dry_run else self.settled_first
        visited = [row for row in there if not first.has(*_names(row))]
        self._send_reviews(_names(row) for row in there if first.has(*_names(row)))
        members, problems = self.decider.page(self.client, visited)
        applied = Applied(written=members)
        if not self.order.dry_run:
            applied = applier.apply(members)
            self._second_round(applied)
            self._list(applied, [*problems, *(problem for member in members for problem in member.problems)])
        totals, figures = self._count(members, applied)
        totals.notices = 0 if self.order.dry_run else self._announce(applied.written)
        totals.excluded = len(rows) - len(there)
        totals.second_round += len(there) - len(visited)
        totals.failed += len(problems)
        return totals, figures, applied

    def _count(
        self, members: Sequence[Member], applied: Applied, counted: frozenset[str] = frozenset()
    ) -> tuple[Totals, Figures]:
        """What was done; of members that were `counted` before, only what their entries add to it."""
        lost = {member.id for member, _ in applied.failed}
        totals = Totals(failed=len(lost))
        totals.second_round = len(applied.second_round)
        totals.conflicts = sum(member.conflicts for member in members)
        totals.rewritten = applied.rewritten
        totals.throttled = self.pace.held_back()
        figures: Figures = Counter()
        for member in applied.written:
            entries = [*member.own, *member.decision.entries]
            totals.entries += len(entries)
            totals.points += cancelled(entries)
            totals.done += member.id not in lost and member.id not in counted
            figures_of(self.program, self.order, member, entries, figures, counted=member.id in counted)
        return totals, figures

    def _announce(self, members: Sequence[Member]) -> int:
        """Send the notices of what was written; how many."""
        program = self.program.announcing(self.order.notices)
        notices = [
            notice(
                ledger.entry_id(entry),
                customer=entry.customer,
                kind=entry.kind,
                points=entry.points,
                cause=entry.cause,
                tier=entry.moved.tier,
                occurred_on=moment(entry.occurred_on),
                balance=member.state.balance,
                template=self.order.template,
            )
            for member in members
            for entry in [*member.own, *member.decision.entries]
            if announced(program, entry)
        ]
        if notices:
            _sent(self.notify, notices)
        return len(notices)

    def _second_round(self, applied: Applied) -> None:
        """Decided again in their session: who would not stay still, and who has more due than fits in one decision."""
        again = applied.second_round + [member for member in applied.written if member.decision.unfinished]
        self._send_reviews((str(member.customer), member.id) for member in again)

    def _send_reviews(self, customers: Iterable[tuple[str, str]]) -> None:
        if reviews := [self._review(*names) for names in customers]:
            _sent(self.send, reviews)

    def _review(self, customer: str, membership_id: str) -> Change:
        return review(self.order, self.run_id, customer, membership_id, self.excluded)

    def _list(self, applied: Applied, problems: Sequence[Problem]) -> None:
        """In the integration log, with the reason: somebody repairs and resumes."""
        failed = [(self._review(str(member.customer), member.id), unusable(error)) for member, error in applied.failed]
        for some in batched([*failed, *problems], 100, strict=False):
            self.client.commit(
                [log_write(change, decision, attempt=1, duration=0, now=self.clock()) for change, decision in some]
            )

    def _resumed(self, part: Part, applier: Applier) -> tuple[Totals, Figures]:
        """Finish and count what somebody had begun who died, or was only slow and is writing still.

        First everybody who is due yet, so that nothing is left to write for anybody; then what of the run's entries was not
        counted that way. Told in one report: who dies meanwhile has told nothing.
        """
        totals, figures, finished = Totals(), Counter[tuple[str, str, str]](), Applied()
        for rows in selection.pages(self.client, self.order, part, self.page):
            within = [row for row in rows if selection.place(row) <= part.begun]
            more, moved, applied = self._page(within, applier)
            totals += more
            figures.update(moved)
            finished.written += applied.written
            if len(within) < len(rows):
                break
        more, moved = self._recovered(part, applier, finished.written)
        part.done = part.begun
        figures.update(moved)
        return totals + more, figures

    def _recovered(self, part: Part, applier: Applier, counted: Sequence[Member]) -> tuple[Totals, Figures]:
        """What this run has written of a part without counting it. Its copies are written again: they may be missing or stale."""
        known = {entry.key for member in counted for entry in (*member.own, *member.decision.entries)}
        done = frozenset(member.id for member in counted)
        totals, figures = Totals(), Counter[tuple[str, str, str]]()
        for rows in selection.everybody(self.client, part, self.page):
            own: dict[str, list[Entry]] = {}
            for member_id, entry in entries(self.client, rows, f"_loy_bulkrunid_value eq {self.run_id}"):
                if entry.key not in known:
                    own.setdefault(member_id, []).append(entry)
            members = [untouched(row) for row in rows if row["loy_membershipid"] in own]
            for member in members:
                member.own = own[member.id]
            applied = Applied()
            for member, beyond in applier.beyond(members, lambda member: member.base.sequence).items():
                try:
                    settle(member, (entry for entry, _ in beyond))
                except LedgerError as error:
                    applied.failed.append((member, broken(error)))
            lost = {member.id for member, _ in applied.failed}
            applied.written = [member for member in members if member.id not in lost]
            applier.copy(applied.written, applied)
            self._list(applied, ())
            more, moved = self._count(members, applied, done)
            more.notices = self._announce(applied.written)
            totals += more
            figures.update(moved)
        return totals, figures


def _names(row: Row) -> tuple[str, str]:
    return row["loy_customerkey"], row["loy_membershipid"]


def _sent[T](send: Callable[[Sequence[T]], None], messages: Sequence[T]) -> None:
    try:
        send(messages)
    except Exception as error:
        raise Unsent(f"{type(error).__name__}: {error}") from error
