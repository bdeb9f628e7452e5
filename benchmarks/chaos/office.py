"""The local Dataverse, the broker and several processes of the function app, all in virtual time."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.chaos.bus import EVENTS, Bus, Content
from benchmarks.chaos.doors import (
    CONNECTOR,
    MANAGER,
    PEOPLE,
    URL,
    Tokens,
    Undisturbed,
    connector_settings,
    door,
    installed,
)
from benchmarks.chaos.faults import Faults
from benchmarks.chaos.process import Process, functions
from benchmarks.chaos.world import Pool, Task, Threads, Timepiece, World, first_of
from connector.app import App
from connector.dataverse import DataverseClient
from connector.dataverse.odata import moment, utc
from connector.mass.pace import Pace
from connector.rows.choices import BulkKind, BulkStatus
from local.dataverse.environment import Environment
from local.functions.ncrontab import Schedule
from local.servicebus.model.message import Draft

_ENOUGH = 200  # unexpected failures, after which there is nothing more to learn

_DIALS = ("throttled", "unavailable", "answer_lost", "connection_lost", "sql_deadlock")

# Where processes ask for time, and where their threads meet.
_TIMED = (
    "functions.changes",
    "functions.schedules",
    "local.dataverse.app",
    "connector.mass.worker",
    "connector.mass.book",
)
_THREADED = (
    "connector.dataverse.group",
    "connector.rows.programs",
    "connector.bus.sender",
    "connector.mass.book",
    "connector.mass.pace",
)
_POOLED = ("connector.differences", "connector.chores", "connector.mass.worker", "connector.mass.liability")


class Office:
    """Everything but the company. `faults` may be changed at any time; `people` is a client that nothing disturbs.

    Each of `processes` works on so many `sessions` at once.
    """

    def __init__(self, world: World, faults: Faults, home: Path, processes: int, sessions: int) -> None:
        self.world = world
        self.faults = faults
        self.counts: Counter[str] = Counter()
        self.bugs: Counter[str] = Counter()
        self.settings = connector_settings()
        self.dataverse_down = False
        for file in installed().iterdir():
            shutil.copy(file, home)
        self.environment = Environment(home / "dataverse.db", clock=world.now, cache_mb=16)
        self.connector_door = door(self.environment, CONNECTOR)
        self.people, self.manager = self._person(PEOPLE), self._person(MANAGER)
        self.bus = Bus(world)
        self._posting = False
        self.environment.outbox.wake = self._wake  # type: ignore[method-assign]
        self._size = processes
        self.sessions = sessions
        self._stack = ExitStack()
        self._enter()
        self.processes: list[Process] = []

    def _enter(self) -> None:
        """The modules of a process find the app, time and threads of the simulated process that is running."""
        world = self.world
        threads, timepiece = Threads(world), Timepiece(world)

        def running() -> App:
            assert world.current is not None
            app: App = world.current.owner.app
            return app

        places: dict[str, Any] = {
            **dict.fromkeys((f"functions.{name}.app" for name in ("events", "changes", "schedules")), running),
            **dict.fromkeys((f"{module}.time" for module in _TIMED), timepiece),
            **dict.fromkeys((f"{module}.threading" for module in _THREADED), threads),
            **dict.fromkeys((f"{module}.ThreadPoolExecutor" for module in _POOLED), partial(Pool, world)),
            **dict.fromkeys(("connector.mass.worker.wait", "connector.chores.wait"), partial(first_of, world)),
            "connector.mass.book.random": world.random,
            "connector.mass.worker.Pace": partial(Pace, clock=world.monotonic, sleep=world.sleep),
        }
        for place, stand_in in places.items():
            self._stack.enter_context(patch(place, stand_in))

    def _person(self, who: str) -> DataverseClient:
        return DataverseClient(URL, Tokens(), adapter=Undisturbed(self.environment, who), requests_per_second=1e6)

    def close(self) -> None:
        for process in self.processes:
            process.end()
        self._stack.close()
        self.environment.close()

    def strikes(self, fault: str) -> bool:
        rate: float = getattr(self.faults, fault)
        struck = bool(rate) and self.world.random.random() < rate
        self.counts[fault] += struck
        return struck

    def note_failure(self, error: Exception) -> None:
        """What a function raised. Names of what is not a failure of the surroundings are kept: bugs."""
        if type(error).__module__.startswith(("connector.dataverse", "azure", "benchmarks.chaos")):
            return
        self.bugs[f"{type(error).__name__}: {error}"[:300]] += 1
        if self.bugs.total() > _ENOUGH:
            self.world.failures.append(error)

    # --- life and death ---

    def start(self) -> None:
        """All processes, the timers, and the faults that come by themselves."""
        for _ in range(self._size):
            self._start_process()
        for name, function in functions().items():
            if schedule := getattr(function.get_trigger(), "schedule", None):
                self._keep_time(name, Schedule.parse(schedule))
        self._rage()

    def weather(self, faults: Faults) -> None:
        """From now on these faults are on instead."""
        self.calm()
        self.faults = faults
        self._rage()

    def _rage(self) -> None:
        rates = {name: getattr(self.faults, name) for name in _DIALS}
        self.environment.faults.set({"seed": self.world.random.randrange(2**31), **rates})
        if self.faults.limits_scaled:
            self.environment.meter.configure({"enforced": True, "scale": self.faults.limits_scaled})
        self._again("functions_killed_every", lambda: self.kill(self.world.random.choice(self.processes)))
        self._again("broker_killed_every", lambda: self.bus.restart(self.world.random.uniform(1, 15)))
        self._again("lock_lost_every", self.bus.lose_a_lock)
        self._again("outage_every", self._outage)

    def calm(self) -> None:
        """The faults stop; what they did remains."""
        self.faults.off()
        self.environment.faults.set(dict.fromkeys(_DIALS, 0.0))
        self.environment.meter.configure({"enforced": False})
        self.dataverse_down = False

    def kill(self, process: Process) -> None:
        """SIGKILL; another process takes its place after some seconds."""
        if process in self.processes:
            self.counts["functions killed"] += 1
            self.processes.remove(process)
            process.end()
            self.world.after(self.world.random.uniform(1, 15), self._start_process)

    def _start_process(self) -> None:
        skew = self.world.random.uniform(-1, 1) * self.faults.clock_skew
        self.processes.append(Process(self, skew))

    def _again(self, fault: str, strike: Callable[[], None]) -> None:
        """A fault that strikes every so many seconds, at random, as long as its dial is up."""
        faults = self.faults
        if not (mean := getattr(faults, fault)):
            return

        def struck() -> None:
            if getattr(faults, fault):  # those of another weather are off
                self.counts[fault] += 1
                if self.processes:
                    strike()
                self._again(fault, strike)

        self.world.after(self.world.random.expovariate(1 / mean), struck)

    def _outage(self) -> None:
        self.dataverse_down = True

        def over() -> None:
            self.dataverse_down = False

        self.world.after(self.world.random.uniform(5, 90), over)

    def _keep_time(self, name: str, schedule: Schedule) -> None:
        """Of each timer one run at a time, in whichever process."""
        running: list[Task] = []

        def due() -> None:
            self.world.at(schedule.after(self.world.now()), due)
            if self.processes and not (running and not running[0].done):
                process = self.world.random.choice(self.processes)
                running[:] = [process.spawn(lambda: self._timer(name))]

        self.world.at(schedule.after(self.world.now()), due)

    def _timer(self, name: str) -> None:
        self.counts["timer runs"] += 1
        try:
            functions()[name].get_user_function()(None)
        except Exception as error:
            self.counts["failed timer runs"] += 1
            self.note_failure(error)

    # --- Dataverse's events ---

    def _wake(self) -> None:
        if not self._posting:
            self._posting = True
            self.world.after(0.02, self._post)

    def _post(self) -> None:
        self._posting = False
        with self.environment.storage.writing() as connection:
            bodies = [row[0] for row in connection.execute('SELECT body FROM "#outbox" ORDER BY id')]
            connection.execute('DELETE FROM "#outbox"')
        for body in bodies:
            self.counts["events"] += 1
            if self.strikes("event_lost"):
                continue
            self._deliver(body)
            if self.strikes("event_duplicated"):
                self.world.after(self.world.random.uniform(0, 20), lambda body=body: self._deliver(body))  # type: ignore[misc]

    def _deliver(self, body: str) -> None:
        delay = self.world.random.uniform(0, 5) if self.strikes("event_reordered") else 0.0
        delay += self.world.random.uniform(10, 300) if self.strikes("event_delayed") else 0.0
        properties: dict[str, Any] = {}
        if self.strikes("event_trimmed"):
            context = json.loads(body)
            for part in ("InputParameters", "ParentContext", "PostEntityImages", "PreEntityImages"):
                context.pop(part, None)
            body, properties = json.dumps(context), {"MessageMaxSizeExceeded": True}
        self.world.after(delay, lambda: self.put(body.encode(), properties))

    def put(self, body: bytes, properties: dict[str, Any] | None = None) -> None:
        """An event onto its queue; Dataverse tries again while the broker is away."""
        if self.bus.down:
            self.world.after(2, lambda: self.put(body, properties))
        else:
            self.bus.put(EVENTS, [Draft(Content(body, properties or {}))])

    # --- is there anything left to do? ---

    @property
    def waiting(self) -> dict[str, int]:
        return self.bus.waiting

    @property
    def crowd(self) -> int:
        """Messages that somebody must still work on, without dead ones."""
        return sum(count for name, count in self.waiting.items() if not name.endswith("dead"))

    def unfinished(self, since: datetime) -> list[str]:
        """Mass runs that timers go on with, and the sweep unless one has come to its end since then."""
        sweep, done = f"loy_kind eq {BulkKind.SWEEP.value}", f"loy_status eq {BulkStatus.DONE.value}"
        path = f"loy_bulkruns?$select=loy_name&$filter=loy_status eq {BulkStatus.RUNNING.value} and not ({sweep})"
        ended = self.people.get(f"loy_bulkruns?$filter={sweep} and {done} and modifiedon ge {moment(since)}")
        return [row["loy_name"] for row in self.people.get(path)] + ([] if ended else ["the sweep"])

    @property
    def entries(self) -> int:
        """How many the ledger has; entries are never deleted."""
        (count,) = self.environment.storage.reader.execute("SELECT max(rowid) FROM loy_entry").fetchone()
        return count or 0

    def last_change(self) -> datetime:
        """When the newest entry was made."""
        (row,) = self.people.get("loy_entries?$select=createdon&$orderby=createdon desc&$top=1") or [{}]
        return utc(row["createdon"]) if row else self.world.now()
