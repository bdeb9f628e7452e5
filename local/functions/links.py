"""AMQP links of the client: what arrives, what is sent, how a message is settled. `Amqp` opens them."""

import asyncio
from typing import TYPE_CHECKING, Any

from proton import Delivery as ProtonDelivery
from proton import Link as ProtonLink
from proton import Message

if TYPE_CHECKING:
    from local.functions.amqp import Amqp

ANSWER_WITHIN = 30.0  # seconds, for anything the broker is asked

_TICKS_AT_EPOCH = 621_355_968_000_000_000  # .NET ticks (100 ns) of 1970-01-01


class AmqpError(Exception):
    """What the broker refused, or `connection-lost`."""

    def __init__(self, condition: str, description: str = "") -> None:
        super().__init__(f"{condition}: {description}" if description else condition)
        self.condition = condition


def connection_lost() -> AmqpError:
    return AmqpError("connection-lost", "the connection to Service Bus ended")


class Delivery:
    """A message under lock. Settle it once."""

    def __init__(self, link: "ReceiverLink", handle: ProtonDelivery, raw: bytes) -> None:
        self._link, self._handle, self.raw = link, handle, raw
        self.echo: asyncio.Future[None] | None = None

    async def complete(self) -> None:
        await self._settle(ProtonDelivery.ACCEPTED)

    async def abandon(self) -> None:
        """Back to its place in the queue, delivery count one up."""
        await self._settle(ProtonDelivery.MODIFIED)

    async def _settle(self, outcome: Any) -> None:
        """Sends the outcome and waits for the broker's answer; AmqpError if the lock or the link is gone."""
        self._link.check()
        if outcome == ProtonDelivery.MODIFIED:
            self._handle.local.failed = True
        self._handle.update(outcome)
        self.echo = self._link.amqp.loop.create_future()
        self._link.amqp.flush()
        async with asyncio.timeout(ANSWER_WITHIN):
            await self.echo

    def answered(self) -> None:
        remote, state = self._handle.remote, self._handle.remote_state
        self._handle.settle()
        if self.echo and not self.echo.done():
            if state == ProtonDelivery.REJECTED and remote.condition:
                self.echo.set_exception(AmqpError(remote.condition.name, remote.condition.description or ""))
            else:
                self.echo.set_result(None)

    def lost(self, error: AmqpError) -> None:
        if self.echo and not self.echo.done():
            self.echo.set_exception(error)


class Link:
    def __init__(self, amqp: "Amqp", handle: ProtonLink) -> None:
        self.amqp, self.name = amqp, handle.name
        self.handle: ProtonLink | None = handle
        self.opened: asyncio.Future[None] = amqp.loop.create_future()
        self.closed: asyncio.Future[AmqpError] = amqp.loop.create_future()

    def check(self) -> None:
        if self.closed.done():
            raise self.closed.result()

    def close(self) -> None:
        """Detaches at once; the broker's answer is awaited by nobody."""
        if self.handle and not self.closed.done():
            self.handle.close()
            self.amqp.flush()
            self.end(AmqpError("link-closed", "closed by this side"))

    def end(self, error: AmqpError) -> None:
        if not self.closed.done():
            self.closed.set_result(error)
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # seen: a link given up while it was opening is nobody's surprise

    def delivered(self, delivery: ProtonDelivery) -> None:
        raise NotImplementedError

    def remote_opened(self) -> None:
        if not self.opened.done():
            self.opened.set_result(None)


class ReceiverLink(Link):
    """Messages arrive in `messages` as credit allows; None says that the link has ended."""

    def __init__(self, amqp: "Amqp", handle: ProtonLink) -> None:
        super().__init__(amqp, handle)
        self.messages: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self.session_id: str | None = None
        self.locked_until = 0.0  # Unix seconds, of a session's lock
        # kept here and not as attributes of proton's objects: those would hold each other for ever
        self._unsettled: dict[ProtonDelivery, Delivery] = {}

    def flow(self, credit: int) -> None:
        if self.handle and not self.closed.done():
            self.handle.flow(credit)
            self.amqp.flush()

    def remote_opened(self) -> None:
        assert self.handle is not None
        filters = self.handle.remote_source.filter
        filters.rewind()
        if filters.next():
            self.session_id = str((filters.get_object() or {}).get("com.microsoft:session-filter"))
            ticks = (self.handle.remote_properties or {}).get("com.microsoft:locked-until-utc", 0)
            self.locked_until = (int(ticks) - _TICKS_AT_EPOCH) / 1e7
        super().remote_opened()

    def delivered(self, delivery: ProtonDelivery) -> None:
        assert self.handle is not None
        if known := self._unsettled.get(delivery):
            if delivery.settled:
                del self._unsettled[delivery]
                known.answered()
        elif delivery.readable and not delivery.partial:
            raw = bytes(self.handle.recv(delivery.pending) or b"")
            self.handle.advance()
            arrived = Delivery(self, delivery, raw)
            if delivery.settled:  # an answer to a request: nothing left to say about it
                delivery.settle()
            else:
                self._unsettled[delivery] = arrived
            self.messages.put_nowait(arrived)

    def end(self, error: AmqpError) -> None:
        super().end(error)
        for delivery in self._unsettled.values():
            delivery.lost(error)
        self._unsettled.clear()
        self.messages.put_nowait(None)


class SenderLink(Link):
    def __init__(self, amqp: "Amqp", handle: ProtonLink) -> None:
        super().__init__(amqp, handle)
        self._tags = 0

    def send(self, message: Message) -> None:
        self.check()
        assert self.handle is not None
        self._tags += 1
        self.handle.delivery(str(self._tags))
        self.handle.stream(message.encode())
        self.handle.advance()
        self.amqp.flush()

    def delivered(self, delivery: ProtonDelivery) -> None:
        if delivery.settled:
            delivery.settle()
