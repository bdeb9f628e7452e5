"""Mass jobs as this app runs them: with its programme, its application users, its queue."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from connector.bus import Change
from connector.dataverse import DataverseClient, Transient
from connector.dataverse.odata import any_of, moment, text
from connector.identity import derived_id
from connector.mass import liability
from connector.mass.book import Book, start, under_way
from connector.mass.deciding import Decider
from connector.mass.order import BadOrder, Order, Progress
from connector.mass.worker import PAGE, work
from connector.rows.choices import BulkKind, BulkStatus
from connector.rows.programs import Programs
from connector.rows.values import day

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusMessage

_log = logging.getLogger("loyalty.mass")
_BEGUN = timedelta(hours=1)  # until then a command may be on its way from making its run to beginning it
_NO_TIMER = (
    "loy_kind: a backfill is not started here. `python -m connector backfill history`, or `backfill balances FILE`, makes a run "
    "and works on it."
)
_VISITING = (BulkStatus.RUNNING, BulkStatus.PAUSED, BulkStatus.DONE)


@dataclass(frozen=True, slots=True)
class MassJobs:
    """`clients` are the application users that share the work; the first one keeps the books."""

    clients: Sequence[DataverseClient]
    programs: Programs
    send: Callable[[Sequence[Change]], None]
    notify: "Callable[[Sequence[ServiceBusMessage]], None]"
    clock: Callable[[], datetime]

    def start(self, order: Order) -> str:
        """Make the row of a run; its id. Timers work on it, and whoever calls `work`."""
        return self._start(order)

    def start_nightly(self) -> str:
        """The review of everybody who is due today; a second call on the same day meets the run of the first.

        Once other tiers have come into force everybody is visited: they move by conditions that no row foresaw. A night that
        fails, or does not take place, is made up by the next one.

        Whose points it must not cancel is said on the programme, so that no night undoes what an administrator left alone; so is
        who is settled first, and the template of its notices."""
        program = self.programs.current()
        today, code = self.clock().date(), program.code
        last = self._visited_everybody()
        new_tiers = any(last < begins <= today for begins, _ in program.tier_history[1:])
        columns = "loy_exclude,loy_settlefirst,loy_sparedays,loy_noticetemplate"
        (row,) = self.clients[0].get(f"loy_programs?$select={columns}&$filter=loy_code eq {text(code)}")
        order = Order(
            BulkKind.RULES if new_tiers else BulkKind.REVIEW,
            today,
            f"Nightly review {today}",
            exclude=row["loy_exclude"] or "",
            settle_first=row["loy_settlefirst"] or "",
            spare_days=row["loy_sparedays"] or 0,
            template=row["loy_noticetemplate"] or "",
        )
        return self._start(order, derived_id("nightly", code, today.isoformat()))

    def _visited_everybody(self) -> date:
        """The day as of which a run last moved everybody between tiers, or is doing so."""
        states = any_of("loy_status", [str(state.value) for state in _VISITING])
        condition = f"loy_kind eq {BulkKind.RULES.value} and loy_dryrun eq false and {states}"
        rows = self.clients[0].get(f"loy_bulkruns?$select=loy_asof&$filter={condition}&$orderby=loy_asof desc&$top=1")
        return next((day(row, "loy_asof") or date.min for row in rows), date.min)

    def start_count(self) -> str:
        """The count of all points outstanding, once a day."""
        today = self.clock().date()
        order = Order(BulkKind.OUTSTANDING, today, f"Points outstanding {today}")
        run_id = derived_id("outstanding", self.programs.current().code, today.isoformat())
        return self._start(order, run_id)

    def _start(self, order: Order, run_id: str = "") -> str:
        order = replace(order, program=self.programs.current().id or "")
        return start(self.clients[0], order, self.clock, run_id)

    def work(
        self,
        run_id: str,
        *,
        lanes: int = 4,
        page: int = PAGE,
        decider: Decider | None = None,
        progress: Callable[[Progress], None] = lambda progress: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Progress:
        """Work on a run until it ends, is paused, or `stop`.

        A count of what is outstanding is one application user's work; parts of it that another process holds are left to it."""
        if liability.is_count(self.clients[0], run_id):
            return liability.count(self.clients[0], run_id, clock=self.clock, lanes=lanes, progress=progress, stop=stop)
        return work(
            run_id,
            self.clients,
            self.programs.current(),
            self.send,
            self.notify,
            clock=self.clock,
            lanes=lanes,
            page=page,
            decider=decider,
            progress=progress,
            stop=stop,
        )

    def work_all(self, stop: Callable[[], bool]) -> Iterator[Progress]:
        """Work on every run that is under way, in turns. One that cannot go on now keeps no other from it."""
        self._refuse_backfills()
        for run_id in under_way(self.clients[0], self.programs.current().id or ""):
            if stop():
                return
            try:
                yield self.work(run_id, stop=stop)
            except BadOrder as error:  # its row says so too
                _log.warning("run %s cannot be done: %s", run_id, error)
            except Transient as error:
                _log.warning("run %s waits: %s", run_id, error)

    def _refuse_backfills(self) -> None:
        """Runs of kind BACKFILL that were started in Dynamics fail: the command begins its own as soon as it has made them."""
        started = f"loy_kind eq {BulkKind.BACKFILL.value} and loy_status eq {BulkStatus.RUNNING.value}"
        untouched = f"loy_startedon eq null and modifiedon lt {moment(self.clock() - _BEGUN)}"
        for row in self.clients[0].get(f"loy_bulkruns?$select=loy_name&$filter={started} and {untouched}"):
            Book(self.clients[0], row["loy_bulkrunid"], self.clock).fail(_NO_TIMER)
