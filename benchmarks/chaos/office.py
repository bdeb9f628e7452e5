"""The local Dataverse, the broker and several processes of the function app, all in virtual time."""

import json
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import azure.functions as func
import requests
from greenlet import GreenletExit

from benchmarks.chaos.bus import EVENTS, Bus, Client, Consumer, Content, Received
from benchmarks.chaos.faults import Faults
from benchmarks.chaos.world import Event, Pool, Task, Threads, Timepiece, World, first_of
from connector.app import App
from connector.counter import Counter as TillCounter
from connector.dataverse import DataverseClient
from connector.dataverse.odata import utc
from connector.identity import derived_id
from connector.mass.pace import Pace
from connector.rows.programs import Programs
from connector.settings import Settings, read_settings
from dataverse_schema.deploy import Choices, deploy
from dataverse_schema.eventing import Queue
from dataverse_schema.model import load
from functions.changes import changes
from functions.events import events
from functions.schedules import schedules
from local.dataverse.adapter import DataverseAdapter
from local.dataverse.app import Application
from local.dataverse.auth import Identity
from local.dataverse.environment import Environment
from local.dataverse.provisioning import ensure_user
from local.functions.ncrontab import Schedule
from local.servicebus.model.errors import ServiceBusError
from local.servicebus.model.message import Draft, Outcome
from local.servicebus.model.queue import PlainQueue
from local.servicebus.model.sessions import SessionQueue

URL = "https://contoso.crm4.dynamics.com"
PROGRAM = "CHAOS"
_CONNECTOR: str = derived_id("chaos", "connector")
_PEOPLE: str = derived_id("chaos", "people")
_ENOUGH = 200  # unexpected failures, after which there is nothing more to learn
_RESTLESS = 10  # deliveries for each event, on average: then something goes round and round
_IDLE = 0.5  # seconds a session is kept without messages
_LISTENERS, _WORKERS = 2, 4  # events and sessions at once in one process

# Where processes ask for time, and where their threads meet.
_TIMED = (
    "functions.changes",
    "functions.schedules",
    "local.dataverse.app",
    "connector.mass.worker",
    "connector.mass.book",
    "connector.rows.bulkruns",
)
_THREADED = (
    "connector.dataverse.group",
    "connector.rows.programs",
    "connector.bus.sender",
    "connector.mass.book",
    "connector.mass.pace",
)
_POOLED = ("connector.differences", "connector.chores", "connector.mass.worker", "connector.mass.liability")


class _Tokens:
    def token(self) -> str:
        return "token"

    def renew(self, rejected: str) -> str:
        return "token"


def _settings() -> Settings:
    return read_settings(
        {
            "DATAVERSE_URL": URL,
            "DATAVERSE_TENANT_ID": "contoso",
            "DATAVERSE_CLIENT_ID": _CONNECTOR,
            "DATAVERSE_CLIENT_SECRET": "unused",
            "ServiceBusConnection": "Endpoint=sb://none;SharedAccessKeyName=none;SharedAccessKey=none",
            "LOYALTY_PROGRAM": PROGRAM,
        }
    )


@cache
def _functions() -> dict[str, Any]:
    """The function app's own triggers."""
    app = func.FunctionApp()
    for blueprint in (events, changes, schedules):
        app.register_functions(blueprint)
    return {str(function.get_function_name()): function for function in app.get_functions()}


@cache
def _installed() -> Path:
    """An environment with our tables, made once a process by our own installer."""
    home = Path(tempfile.mkdtemp(prefix="chaos-", dir=_memory()))
    environment = Environment(home / "dataverse.db")
    for application in (_CONNECTOR, _PEOPLE):
        ensure_user(environment, f"# {application}", application=application)
    client = DataverseClient(
        URL, _Tokens(), adapter=DataverseAdapter(_door(environment, _CONNECTOR)), requests_per_second=1e6
    )
    stopping = threading.Event()
    jobs = threading.Thread(target=environment.job_loop, args=(stopping,))
    jobs.start()
    queue = Queue(address="sb://localhost:1", key_name="key", key="c2VjcmV0", name=EVENTS)
    try:
        deploy(client, load(), Choices(queue=queue, program=None), say=lambda line: None)
    finally:
        stopping.set()
        jobs.join()
    client.close()
    environment.close()
    return home


def _memory() -> Path | None:
    fast = Path("/dev/shm")
    return fast if fast.is_dir() else None


def _door(environment: Environment, application: str) -> Application:
    return Application(environment, lambda header: Identity(application, None), url=URL)


class Network(requests.adapters.BaseAdapter):
    """Between one process and Dataverse: takes time, loses requests and answers."""

    def __init__(self, process: "Process") -> None:
        super().__init__()
        self._process = process
        self._inner = DataverseAdapter(process.office.connector_door)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **named: Any) -> requests.Response:
        process, office = self._process, self._process.office
        process.hop()
        if office.dataverse_down:
            raise requests.ConnectTimeout(request=request)
        if office.strikes("timed_out"):
            if office.world.random.random() < 0.5:
                self._inner.send(request)
            office.world.sleep(20)
            process.hop()
            raise requests.ReadTimeout(request=request)
        response = self._inner.send(request)
        if (request.url or "").endswith("Multiple") and office.strikes("bulk_killed"):
            office.world.after(0, lambda: office.kill(process))
        process.hop()
        return response

    def close(self) -> None: ...


class Undisturbed(requests.adapters.BaseAdapter):
    """For people and judges: no fault reaches them."""

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self._environment = environment
        self._inner = DataverseAdapter(_door(environment, _PEOPLE))

    def send(self, request: requests.PreparedRequest, *arguments: Any, **named: Any) -> requests.Response:
        faults, meter = self._environment.faults, self._environment.meter
        active, faults.active = faults.active, False
        enforced, meter.enforced = meter.enforced, False
        try:
            return self._inner.send(request)
        finally:
            faults.active, meter.enforced = active, enforced

    def close(self) -> None: ...


@dataclass(frozen=True)
class ProcessApp(App):
    """The connector's own assembly with virtual time, virtual network and virtual broker put in."""

    process: "Process"

    def now(self) -> datetime:  # type: ignore[override]
        return self.process.now()

    @cached_property
    def client(self) -> DataverseClient:
        world = self.process.office.world
        return DataverseClient(
            URL,
            _Tokens(),
            slots=self.settings.dataverse_slots,
            adapter=Network(self.process),
            clock=world.monotonic,
            sleep=world.sleep,
            chance=world.random.random,
        )

    @cached_property
    def programs(self) -> Programs:
        return Programs(self.client, self.settings.loyalty_program, self.process.office.world.monotonic)

    @cached_property
    def counter(self) -> TillCounter:
        world = self.process.office.world
        return TillCounter(self.client, self.programs, world.monotonic, world.sleep)

    @cached_property
    def bus(self) -> Client:  # type: ignore[override]
        return Client(self.process.office.bus, self.process.sending)


class Process:
    """One process of the function app: listeners, workers, timers, until it is killed."""

    def __init__(self, office: "Office", skew: float) -> None:
        self.office = office
        self.dead = False
        self._skew = timedelta(seconds=skew)
        self._tasks: list[Task] = []
        self._links: list[Consumer] = []
        self.app = ProcessApp(office.settings, self)
        for _ in range(_LISTENERS):
            self.spawn(self._listen)
        for _ in range(_WORKERS):
            self.spawn(self._work)

    def now(self) -> datetime:
        return self.office.world.now() + self._skew

    def spawn(self, work: Callable[[], None]) -> Task:
        self._tasks = [task for task in self._tasks if not task.done]
        self._tasks.append(self.office.world.spawn(work, self))
        return self._tasks[-1]

    def hop(self) -> None:
        """A piece of the way over the network. A process may die on it."""
        if self.dead:
            raise GreenletExit
        if self.office.strikes("crash"):
            self.office.world.after(0, lambda: self.office.kill(self))
        self.office.world.sleep(self.office.world.random.uniform(0.002, 0.06))

    def sending(self) -> None:
        """The same on the way to the broker; what it says may get lost before or after it has acted."""
        self.hop()
        if self.office.strikes("send_lost"):
            raise ServiceBusConnectionLost("the connection to the broker was lost")

    def end(self) -> None:
        """Killed: nothing that it was about to do happens, and its connections close."""
        self.dead = True
        for task in self._tasks:
            task.kill()
        for link in self._links:
            self._drop(link)

    def _drop(self, link: Consumer) -> None:
        bus = self.office.bus
        bus.links.discard(link)
        bus.plain(EVENTS).withdraw(link)
        if link.session or not link.ended:
            bus.sessions.release(link)
        link.ended = True

    @contextmanager
    def _link(self) -> Iterator[tuple[Consumer, Callable[[Callable[[], Any], float], None]]]:
        """A link, and how to wait until something is true of it."""
        world = self.office.world
        link = Consumer()
        changed = [Event(world)]
        link.wake = lambda: changed[0].set()

        def until(true: Callable[[], Any], seconds: float) -> None:
            end = world.monotonic() + seconds
            while not true() and not link.ended and (left := end - world.monotonic()) > 0:
                changed[0] = Event(world)
                changed[0].wait(left)

        self._links.append(link)
        self.office.bus.links.add(link)
        try:
            yield link, until
        finally:
            if not self.dead:
                self._links.remove(link)
                self._drop(link)

    def _listen(self) -> None:
        while True:
            with self._link() as (link, until):
                while not link.ended and not self.office.bus.down:
                    queue = self.office.bus.plain(EVENTS)
                    if not link.got:
                        link.credit = 1
                        queue.offer(link)
                        until(lambda link=link: link.got, 600)  # type: ignore[misc]
                    if link.got:
                        self._handle("DataverseEvent", link.got.pop(), queue)
            self.office.world.sleep(1)

    def _work(self) -> None:
        while True:
            with self._link() as (link, until):
                if not self.office.bus.down:
                    queue = self.office.bus.sessions
                    queue.accept(link, None, timedelta(seconds=600))
                    until(lambda link=link: link.session, 900)  # type: ignore[misc]
                    while link.session and not self.office.bus.down:
                        link.credit = 1
                        queue.offer(link)
                        until(lambda link=link: link.got, _IDLE)  # type: ignore[misc]
                        if not link.got or not link.session:
                            break
                        queue.renew_session(link.session)
                        if not self._handle("LoyaltyChange", link.got.pop(), queue):
                            break
            self.office.world.sleep(0.01 if not self.office.bus.down else 1)

    def _handle(self, function: str, message: Received, queue: PlainQueue | SessionQueue) -> bool:
        """Run a function and settle; false when the settlement was lost with its connection."""
        office = self.office
        office.counts["deliveries"] += 1
        if office.counts["deliveries"] > _RESTLESS * (office.counts["events"] + 50):
            office.world.failures.append(RuntimeError("the connector does not come to rest"))
        try:
            _functions()[function].get_user_function()(message)
            outcome = Outcome.COMPLETE
        except Exception as error:
            office.counts["failed deliveries"] += 1
            office.note_failure(error)
            outcome = Outcome.ABANDON
        self.hop()
        if office.strikes("settlement_lost"):
            return False
        try:
            assert message.token
            queue.settle(message.token, outcome)
        except ServiceBusError:
            office.counts["locks lost"] += 1  # it comes again, or has come to somebody else already
        return True


class ServiceBusConnectionLost(Exception):
    """What the SDK raises when it has no connection; the connector does not look at its kind."""


class Office:
    """Everything but the company. `faults` may be changed at any time; `people` is a client that nothing disturbs."""

    def __init__(self, world: World, faults: Faults, home: Path, processes: int) -> None:
        self.world = world
        self.faults = faults
        self.counts: Counter[str] = Counter()
        self.bugs: Counter[str] = Counter()
        self.settings = _settings()
        self.dataverse_down = False
        for file in _installed().iterdir():
            shutil.copy(file, home)
        self.environment = Environment(home / "dataverse.db", clock=world.now, cache_mb=16)
        self.connector_door = _door(self.environment, _CONNECTOR)
        adapter = Undisturbed(self.environment)
        self.people = DataverseClient(URL, _Tokens(), adapter=adapter, requests_per_second=1e6)
        self.bus = Bus(world)
        self._posting = False
        self.environment.outbox.wake = self._wake  # type: ignore[method-assign]
        self._size = processes
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
            **dict.fromkeys(("connector.mass.book.random", "connector.rows.bulkruns.random"), world.random),
            "connector.mass.worker.Pace": partial(Pace, clock=world.monotonic, sleep=world.sleep),
        }
        for place, stand_in in places.items():
            module, _, name = place.rpartition(".")
            if find_spec(module) and hasattr(import_module(module), name):  # whoever uses no clock needs no other one
                self._stack.enter_context(patch(place, stand_in))

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
        if type(error).__module__.startswith(("connector.dataverse", "azure", __name__)):
            return
        self.bugs[f"{type(error).__name__}: {error}"[:300]] += 1
        if self.bugs.total() > _ENOUGH:
            self.world.failures.append(error)

    # --- life and death ---

    def start(self) -> None:
        """All processes, the timers, and the faults that come by themselves."""
        for _ in range(self._size):
            self._start_process()
        for name, function in _functions().items():
            if schedule := getattr(function.get_trigger(), "schedule", None):
                self._keep_time(name, Schedule.parse(schedule))
        dials = ("throttled", "unavailable", "answer_lost", "connection_lost", "sql_deadlock")
        rates = {name: getattr(self.faults, name) for name in dials}
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
        self.environment.faults.set(dict.fromkeys(("throttled", "unavailable", "answer_lost"), 0.0))
        self.environment.faults.set(dict.fromkeys(("connection_lost", "sql_deadlock"), 0.0))
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
        if not (mean := getattr(self.faults, fault)):
            return

        def struck() -> None:
            if getattr(self.faults, fault):
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
            _functions()[name].get_user_function()(None)
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

    def last_change(self) -> datetime:
        """When the newest entry was made."""
        (row,) = self.people.get("loy_entries?$select=createdon&$orderby=createdon desc&$top=1") or [{}]
        return utc(row["createdon"]) if row else self.world.now()
