"""The broker: a namespace behind AMQP connections, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local.servicebus.amqp.connection import Connection
from local.servicebus.amqp.performatives import AmqpError
from local.servicebus.config import NamespaceConfig
from local.servicebus.faults import Dials, Faults
from local.servicebus.gateway.authorization import Authority, Policy, check_token
from local.servicebus.gateway.gateway import Gateway
from local.servicebus.model.agenda import Clock
from local.servicebus.model.namespace import Namespace
from local.servicebus.model.settings import QueueSettings
from local.servicebus.model.store import NoStore
from local.servicebus.sqlite_store import SqliteStore

DEFAULT_POLICIES = {"RootManageSharedAccessKey": Policy("SAS_KEY_VALUE")}  # the literal key of the official emulator


class Broker:
    """A running broker. Use as a context manager: it listens on loopback in a thread of its own.

    home: folder of the durable store (None: in memory). port 0: any free one. policies: shared access policies
    by name; the first is that of the connection string. authority: whose tokens count beside them.
    """

    def __init__(
        self,
        config: NamespaceConfig,
        *,
        home: Path | None = None,
        port: int = 0,
        policies: Mapping[str, Policy] | None = None,
        dials: Dials | None = None,
        clock: Clock | None = None,
        authority: Authority | None = None,
    ) -> None:
        self._config = config
        self._home = home
        self._policies = dict(policies or DEFAULT_POLICIES)
        self._dials = dials
        self._authority = authority
        self._clock = clock or (lambda: datetime.now(UTC))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servicebus", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._store: NoStore | SqliteStore = NoStore()
        self.port = port

    @property
    def connection_string(self) -> str:
        name, policy = next(iter(self._policies.items()))
        return (
            f"Endpoint=sb://localhost:{self.port};SharedAccessKeyName={name};SharedAccessKey={policy.key};"
            "UseDevelopmentEmulator=true;"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self._start())
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._stop())
        self._end_loop()

    @property
    def queue_settings(self) -> Mapping[str, QueueSettings]:
        return self._config.queues

    def now(self) -> datetime:
        return self._clock()

    def rights(self, token: str, audience: str) -> frozenset[str]:
        """What a token allows on a resource. Raises Unauthorized."""
        token = token.removeprefix("Bearer ")
        return check_token(token, audience, self._policies, self._clock(), self._authority).rights

    def statistics(self) -> dict[str, Any]:
        """Counters of each queue, and connections: as the admin endpoint shows them."""
        return self.call(self._statistics)

    def set_faults(self, dials: Dials) -> None:
        self.call(lambda: self._gateway.faults.set(dials))

    def faults(self) -> Dials:
        return self.call(lambda: self._gateway.faults.dials)

    def drop_connections(self) -> int:
        """Break every connection at once; returns how many there were."""
        return self.call(self._drop_connections)

    def call[T](self, action: Callable[[], T]) -> T:
        """Run something in the broker's thread, between two turns."""

        async def run() -> T:
            return action()

        return self._run(run())

    def _run[T](self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    async def _start(self) -> None:
        sockets = listen(self.port)
        self.port = sockets[0].getsockname()[1]
        if self._home is not None:
            self._home.mkdir(parents=True, exist_ok=True)
            self._store = SqliteStore(self._home / "servicebus.sqlite")
        namespace = Namespace(self._config.queues, self._config.topics, clock=self._clock, store=self._store)
        faults = Faults(self._dials)
        self._gateway = Gateway(namespace, self._store, self._clock, self._policies, faults, self._authority)
        self._gateway.changed()
        for item in sockets:
            server = await self._loop.create_server(lambda: Connection(self._gateway), sock=item, backlog=1024)
            self._servers.append(server)

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for connection in list(self._gateway.clients):
            connection.close(AmqpError("amqp:connection:forced", "The broker is shutting down."))
        self._store.commit()
        for connection in list(self._gateway.clients):
            connection.flush()
            connection.drop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while self._gateway.clients:
                    await asyncio.sleep(0)
        if isinstance(self._store, SqliteStore):
            self._store.close()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _statistics(self) -> dict[str, Any]:
        gateway = self._gateway
        return {
            "queues": gateway.namespace.statistics(),
            "connections": {"open": len(gateway.clients), "accepted": gateway.accepted_connections},
        }

    def _drop_connections(self) -> int:
        connections = list(self._gateway.clients)
        for connection in connections:
            connection.drop()
        return len(connections)


def listen(port: int) -> Sequence[socket.socket]:
    """Sockets on both loopback addresses (clients try each address of localhost in turn), on one port."""
    first = socket.create_server(("127.0.0.1", port), backlog=1024)
    sockets = [first]
    if socket.has_ipv6:
        with contextlib.suppress(OSError):
            address6 = ("::1", first.getsockname()[1])
            sockets.append(socket.create_server(address6, family=socket.AF_INET6, backlog=1024))
    return sockets
