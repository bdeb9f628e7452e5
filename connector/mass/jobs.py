"""Mass jobs as this app runs them: with its programme, its application users, its queue."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from connector.bus import Change
from connector.dataverse import DataverseClient
from connector.identity import derived_id
from connector.loyalty.program import Program
from connector.mass.book import start, under_way
from connector.mass.deciding import Decider
from connector.mass.order import BadOrder, Order, Progress
from connector.mass.worker import PAGE, work
from connector.rows.choices import BulkKind
from connector.rows.programs import Programs


@dataclass(frozen=True, slots=True)
class MassJobs:
    """`clients` are the application users that share the work; the first one keeps the books."""

    clients: Sequence[DataverseClient]
    programs: Programs
    send: Callable[[Sequence[Change]], None]
    clock: Callable[[], datetime]

    def start(self, order: Order) -> str:
        """Make the row of a run; its id. Timers work on it, and whoever calls `work`."""
        return start(self.clients[0], order, self.clock)

    def start_nightly(self) -> str:
        """The review of everybody who is due today; a second call on the same day meets the run of the first."""
        today = self.clock().date()
        run_id = derived_id("nightly", self.programs.current().code, today.isoformat())
        return start(self.clients[0], Order(BulkKind.REVIEW, today, f"Nightly review {today}"), self.clock, run_id)

    def work(
        self,
        run_id: str,
        *,
        lanes: int = 4,
        page: int = PAGE,
        decider: Decider | None = None,
        program: Program | None = None,
        progress: Callable[[Progress], None] = lambda progress: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Progress:
        """Work on a run until it ends, is paused, or `stop`. `program` is another than the one in force, for a what-if."""
        return work(
            run_id,
            self.clients,
            program or self.programs.current(),
            self.send,
            clock=self.clock,
            lanes=lanes,
            page=page,
            decider=decider,
            progress=progress,
            stop=stop,
        )

    def work_all(self, stop: Callable[[], bool]) -> Iterator[Progress]:
        """Work on every run that is under way, oldest first."""
        for run_id in under_way(self.clients[0]):
            if stop():
                return
            with suppress(BadOrder):  # its row says why
                yield self.work(run_id, stop=stop)
