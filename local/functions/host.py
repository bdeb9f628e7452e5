"""One function app, running: worker, HTTP door, timers and Service Bus listeners put together."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from local.functions.bindings import HttpTrigger, QueueTrigger, TimerTrigger, read_triggers
from local.functions.connection_string import ServiceBusAddress
from local.functions.errors import StartError
from local.functions.http import HttpDoor
from local.functions.invocations import Invocations
from local.functions.keys import Keys
from local.functions.options import HostOptions
from local.functions.servicebus import Namespace
from local.functions.timers import Timers
from local.functions.values import typed
from local.functions.worker import InvocationError, Worker
from local.web import WebServer

log = logging.getLogger(__name__)


class Host:
    """`start` once, in the event loop that is to run the app; StartError says why it cannot."""

    def __init__(
        self, app: Path, home: Path, options: HostOptions, settings: Mapping[str, str], port: int = 0, threads: int = 64
    ) -> None:
        self._app, self._home, self._options, self._settings = app, home / "functions", options, settings
        self._port, self._threads = port, threads
        self._worker = Worker()
        self._namespaces: list[Namespace] = []
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        await self._worker.start(self._app)
        if not self._worker.bindings:
            raise StartError(f"the app in {self._app} has no functions")
        triggers = read_triggers(self._worker.bindings, self._settings)
        self.invocations = Invocations(self._worker, self._options.function_timeout)
        self.keys = Keys(self._home / "keys.json", self._worker.bindings)
        self._timer_triggers = {t.name.lower(): t for t in triggers if isinstance(t, TimerTrigger)}
        self._queue_triggers = {t.name.lower(): t for t in triggers if isinstance(t, QueueTrigger)}
        self._http_triggers = [t for t in triggers if isinstance(t, HttpTrigger)]
        by_connection: dict[ServiceBusAddress, list[QueueTrigger]] = {}
        for trigger in self._queue_triggers.values():
            if not trigger.disabled:
                by_connection.setdefault(trigger.connection, []).append(trigger)
        for address, served in by_connection.items():
            self._namespaces.append(Namespace(address, served, self.invocations, self._options))
        self._timers = Timers(list(self._timer_triggers.values()), self.invocations, self._home / "timers.json")
        try:
            door = HttpDoor(
                self._http_triggers,
                self.invocations,
                self.keys,
                self._options.route_prefix,
                asyncio.get_running_loop(),
                self._run_now,
                self.status,
            )
            self._server = WebServer(door, self._port, threads=self._threads)
        except (ValueError, OSError) as error:
            raise StartError(str(error)) from error
        self.url = self._server.url
        self._server.start()
        for namespace in self._namespaces:
            namespace.start()
        self._timers.start()

    async def stop(self, grace: float) -> bool:
        """Takes nothing new and lets functions finish; False if some still run after `grace` seconds."""
        self._stopping = True
        log.info("stopping; %d function calls are running", self.invocations.running)
        self._timers.stop()
        await asyncio.gather(*(namespace.drain(grace) for namespace in self._namespaces))
        await asyncio.to_thread(self._server.stop)
        if self._background:
            await asyncio.wait(self._background, timeout=grace)
        unfinished = self.invocations.running
        await asyncio.gather(*(namespace.close() for namespace in self._namespaces))
        if unfinished:
            log.warning("%d function calls did not finish in time and are abandoned", unfinished)
            return False
        self._worker.stop()
        return True

    def status(self) -> dict[str, object]:
        return {
            "state": "Stopping" if self._stopping else "Running",
            "functions": sorted(self._worker.bindings),
            "service_bus_connected": all(namespace.connected for namespace in self._namespaces),
            "timers": self._timers.status,
        }

    def describe(self) -> dict[str, list[str]]:
        return {
            "http": sorted(t.name for t in self._http_triggers),
            "queues": sorted(t.name for t in self._queue_triggers.values()),
            "timers": sorted(t.name for t in self._timer_triggers.values()),
        }

    def _run_now(self, name: str, text: str) -> bool:
        if timer := self._timer_triggers.get(name.lower()):
            self._spawn(self._timers.run_now(timer))
        elif queue := self._queue_triggers.get(name.lower()):
            self._spawn(self._feed(queue, text))
        else:
            return False
        return True

    async def _feed(self, trigger: QueueTrigger, text: str) -> None:
        try:
            body = typed(text.encode() if trigger.binary else text)
            await self.invocations.run(trigger.name, {trigger.argument: body}, {"UserProperties": typed({})})
        except InvocationError:
            log.info("function %s, run on demand, failed", trigger.name)

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
