"""One process of the function app in virtual time: its connector, its way to Dataverse and to the broker, its threads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import azure.functions as func
import requests
from greenlet import GreenletExit

from benchmarks.chaos.bus import EVENTS, Client, Consumer, Received
from benchmarks.chaos.doors import URL, Tokens
from benchmarks.chaos.world import Event, Task
from connector.app import App
from connector.counter import Counter as TillCounter
from connector.dataverse import DataverseClient
from connector.rows.programs import Programs
from functions.changes import changes
from functions.events import events
from functions.schedules import schedules
from local.dataverse.adapter import DataverseAdapter
from local.servicebus.model.errors import ServiceBusError
from local.servicebus.model.message import Outcome
from local.servicebus.model.queue import PlainQueue
from local.servicebus.model.sessions import SessionQueue

if TYPE_CHECKING:
    from benchmarks.chaos.office import Office

_RESTLESS = 10  # deliveries for each event, on average: then something goes round and round
_IDLE = 0.5  # seconds a session is kept without messages
_LISTENERS = 2  # events at once in one process


@cache
def functions() -> dict[str, Any]:
    """The function app's own triggers."""
    app = func.FunctionApp()
    for blueprint in (events, changes, schedules):
        app.register_functions(blueprint)
    return {str(function.get_function_name()): function for function in app.get_functions()}


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
            Tokens(),
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
        for _ in range(office.sessions):
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
        bus.links.pop(link, None)
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
        self.office.bus.links[link] = None
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
            functions()[function].get_user_function()(message)
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
