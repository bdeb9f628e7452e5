"""An AMQP 1.0 client for Service Bus on python-qpid-proton's engine, driven by asyncio: one connection, many links.

The SDK opens a connection for every session it accepts and takes half a second over it; the real host multiplexes
links over one connection, and so does this.
"""

import asyncio
import logging
import time
import uuid
from typing import Any, Self

from proton import (
    UNDESCRIBED,
    Array,
    Collector,
    Connection,
    Data,
    Event,
    Message,
    Session,
    Terminus,
    Transport,
    symbol,
    uint,
)
from proton import Link as ProtonLink

from local.functions.connection_string import ServiceBusAddress
from local.functions.links import ANSWER_WITHIN, AmqpError, Link, ReceiverLink, SenderLink, connection_lost

log = logging.getLogger(__name__)


class RequestLink:
    """A pair of links on `$cbs` or `<entity>/$management`: requests out, answers in, matched by message id."""

    def __init__(self, amqp: "Amqp", address: str) -> None:
        self._amqp, self._address = amqp, address
        self._sender = amqp.sender(address)
        self._receiver = amqp.receiver(address, settled=True)
        self._receiver.flow(100)
        self._waiting: dict[uuid.UUID, asyncio.Future[Message]] = {}
        self._reader = amqp.loop.create_task(self._read())

    async def request(self, properties: dict[str, Any], body: Any) -> Any:
        """The answering message; AmqpError if its status is not 2xx or the connection ends, TimeoutError after 30 s."""
        self._sender.check()
        message: Any = Message(body=body, reply_to=self._address)
        message.id, message.inferred = uuid.uuid4(), False
        message.properties = properties
        answer = self._waiting[message.id] = self._amqp.loop.create_future()
        self._sender.send(message)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                found: Any = await answer
        finally:
            self._waiting.pop(message.id, None)
        status = found.properties.get("statusCode", found.properties.get("status-code", 500))
        if not 200 <= status < 300:
            description = found.properties.get("statusDescription", found.properties.get("status-description", ""))
            raise AmqpError(str(found.properties.get("errorCondition") or f"status-{status}"), str(description))
        return found

    async def _read(self) -> None:
        message: Any
        while delivery := await self._receiver.messages.get():
            message = Message()
            message.decode(delivery.raw)
            waiting = self._waiting.get(message.correlation_id)
            if waiting and not waiting.done():
                waiting.set_result(message)
            self._receiver.flow(1)
        error = self._receiver.closed.result()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)


def _uuids(token: uuid.UUID) -> Any:
    array: Any = Array
    return array(UNDESCRIBED, Data.UUID, token)


class Amqp(asyncio.Protocol):
    """One open connection. Make it with `connect`; `closed` tells its end. Everything runs in the event loop."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[AmqpError] = self.loop.create_future()
        self._opened: asyncio.Future[None] = self.loop.create_future()
        self._links: dict[str, Link] = {}
        self._management: dict[str, RequestLink] = {}
        self._names = 0
        self._socket: asyncio.Transport | None = None
        self._flushing = False
        self._tick: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._connection, self._transport, self._collector = Connection(), Transport(), Collector()
        self._connection.container = name
        self._connection.collect(self._collector)

    @classmethod
    async def connect(cls, address: ServiceBusAddress, entities: list[str], name: str) -> Self:
        """Opens the connection and authorizes it for `entities`; OSError, TimeoutError or AmqpError if that fails."""
        amqp = cls(name)
        amqp._connection.hostname = address.host
        async with asyncio.timeout(ANSWER_WITHIN):
            await amqp.loop.create_connection(lambda: amqp, address.host, address.port)
            try:
                await amqp._opened
                tokens = RequestLink(amqp, "$cbs")
                end = await amqp._authorize(tokens, address, entities)
            except BaseException:
                amqp.close()
                raise
        amqp._renewal = amqp.loop.create_task(amqp._keep_authorized(tokens, address, entities, end))
        return amqp

    async def _authorize(self, tokens: RequestLink, address: ServiceBusAddress, entities: list[str]) -> float:
        """Puts a token for each entity; returns when the first of them ends (Unix seconds)."""
        end = float("inf")
        for entity in entities:
            token, expires = await asyncio.to_thread(address.token, entity, time.time())
            name = f"sb://{address.host}:{address.port}/{entity}"
            await tokens.request({"operation": "put-token", "type": address.token_type, "name": name}, token)
            end = min(end, expires)
        return end

    async def _keep_authorized(
        self, tokens: RequestLink, address: ServiceBusAddress, entities: list[str], end: float
    ) -> None:
        while True:
            await asyncio.sleep((end - time.time()) * 0.9)
            try:
                end = await self._authorize(tokens, address, entities)
            except (AmqpError, OSError) as error:
                log.warning("Service Bus did not renew the authorization: %s", error)
                self.close()
                return

    def receiver(self, address: str, settled: bool = False) -> ReceiverLink:
        handle = self._session.receiver(self._name(address))
        handle.source.address = address
        handle.target.address = address if settled else handle.name
        if not settled:
            handle.snd_settle_mode, handle.rcv_settle_mode = ProtonLink.SND_UNSETTLED, ProtonLink.RCV_SECOND
        return self._open(ReceiverLink(self, handle))

    def next_session(self, queue: str, wait: float) -> ReceiverLink:
        """Asks for any free session with messages; `opened` fails with com.microsoft:timeout after `wait` seconds."""
        handle = self._session.receiver(self._name(queue))
        handle.source.address, handle.target.address = queue, handle.name
        handle.source.filter.put_dict({symbol("com.microsoft:session-filter"): None})
        handle.snd_settle_mode, handle.rcv_settle_mode = ProtonLink.SND_UNSETTLED, ProtonLink.RCV_SECOND
        handle.properties = {symbol("com.microsoft:timeout"): uint(int(wait * 1000))}
        return self._open(ReceiverLink(self, handle))

    def sender(self, address: str) -> SenderLink:
        handle = self._session.sender(self._name(address))
        handle.source.address = handle.target.address = address
        return self._open(SenderLink(self, handle))

    async def renew_session(self, queue: str, link: ReceiverLink) -> float:
        """Renews the session's lock; its new end in Unix seconds."""
        body = {"session-id": link.session_id}
        answer = await self._manage(queue, "renew-session-lock", body, link)
        return float(answer["expiration"]) / 1000

    async def renew_message(self, queue: str, link: ReceiverLink, token: uuid.UUID) -> float:
        """Renews one message's lock; its new end in Unix seconds."""
        body = {"lock-tokens": _uuids(token)}
        answer = await self._manage(queue, "renew-lock", body, link)
        expirations = answer["expirations"]
        return float((expirations.elements if hasattr(expirations, "elements") else expirations)[0]) / 1000

    async def _manage(self, queue: str, operation: str, body: dict[str, Any], link: ReceiverLink) -> Any:
        pair = self._management.get(queue)
        if pair is None:
            pair = self._management[queue] = RequestLink(self, f"{queue}/$management")
        properties = {
            "operation": f"com.microsoft:{operation}",
            "type": "entity-mgmt",
            "com.microsoft:server-timeout": uint(int(ANSWER_WITHIN * 1000)),
            "associated-link-name": link.name,
        }
        return (await pair.request(properties, body)).body

    def close(self) -> None:
        if self._renewal:
            self._renewal.cancel()
        if self._socket and not self.closed.done():
            self._connection.close()
            self._pump()
            self._socket.close()

    def flush(self) -> None:
        """Writes what the engine has pending, once for all that this turn of the loop does."""
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._pump)

    def _name(self, address: str) -> str:
        self._names += 1
        return f"{address}-{self._names}"

    def _open[L: Link](self, link: L) -> L:
        assert link.handle is not None
        if self.closed.done():
            link.end(self.closed.result())
            return link
        self._links[link.name] = link
        link.handle.open()
        self.flush()
        return link

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._socket = transport
        self._transport.idle_timeout = 60
        self._transport.sasl().allowed_mechs("ANONYMOUS")
        self._transport.bind(self._connection)
        self._connection.open()
        self._session: Session = self._connection.session()
        self._session.open()
        self._pump()
        self._beat()

    def data_received(self, data: bytes) -> None:
        while data:
            room = self._transport.capacity()
            if room <= 0:
                break
            self._transport.push(data[:room])
            data = data[room:]
            self._dispatch()
        self._pump()

    def connection_lost(self, reason: Exception | None) -> None:
        if self._tick:
            self._tick.cancel()
        if self._renewal:
            self._renewal.cancel()
        error = connection_lost()
        if not self._opened.done():
            self._opened.set_exception(error)
        if not self.closed.done():
            self.closed.set_result(error)
        for link in list(self._links.values()):
            link.end(error)
            link.handle = None
        self._links.clear()

    def _beat(self) -> None:
        """Keeps the connection alive, and notices when the broker is not."""
        due = self._transport.tick(self.loop.time())
        self._pump()
        wait = max(0.1, due - self.loop.time()) if due else 30.0
        self._tick = self.loop.call_later(wait, self._beat)

    def _pump(self) -> None:
        self._flushing = False
        self._dispatch()
        if not self._socket or self._socket.is_closing():
            return
        while (pending := self._transport.pending()) > 0:
            self._socket.write(self._transport.peek(pending) or b"")
            self._transport.pop(pending)
        if pending < 0:
            self._socket.close()

    def _dispatch(self) -> None:
        while event := self._collector.peek():
            try:
                self._handle(event)
            finally:
                self._collector.pop()

    def _handle(self, event: Any) -> None:
        match event.type:
            case Event.DELIVERY:
                delivery = event.delivery
                link = self._links.get(delivery.link.name)
                if link and link.handle:
                    link.delivered(delivery)
            case Event.LINK_REMOTE_OPEN:
                link = self._links.get(event.link.name)
                # a refusal is an attach without source and target; the reason follows in the detach
                refused = link and link.handle and self._is_refusal(link.handle)
                if link and link.handle and not refused and not link.closed.done():
                    link.remote_opened()
            case Event.LINK_REMOTE_CLOSE | Event.LINK_REMOTE_DETACH:
                link = self._links.pop(event.link.name, None)
                if link and link.handle:
                    condition = link.handle.remote_condition
                    link.handle.close()
                    link.handle.free()
                    link.handle = None
                    name, text = (condition.name, condition.description) if condition else ("link-closed", "")
                    link.end(AmqpError(name, text or ""))
            case Event.CONNECTION_REMOTE_OPEN:
                if not self._opened.done():
                    self._opened.set_result(None)
            case Event.CONNECTION_REMOTE_CLOSE | Event.SESSION_REMOTE_CLOSE:
                condition = event.connection.remote_condition
                log.info("Service Bus closed the connection: %s", condition.name if condition else "no reason given")
                if self._socket:
                    self._socket.close()
            case Event.TRANSPORT_ERROR:
                log.warning("AMQP error: %s", self._transport.condition)
                if self._socket:
                    self._socket.close()

    @staticmethod
    def _is_refusal(handle: ProtonLink) -> bool:
        terminus = handle.remote_source if handle.is_receiver else handle.remote_target
        return bool(terminus.type == Terminus.UNSPECIFIED or terminus.address is None)
