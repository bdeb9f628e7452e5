"""Links (AMQP 1.0 part 2.6): Inbound carries the client's messages to us, Outbound ours to the client."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from local.servicebus.amqp import performatives as p
from local.servicebus.amqp.performatives import AmqpError
from local.servicebus.amqp.types import Described, Symbol, UByte, UInt, ULong, described_list

if TYPE_CHECKING:
    from local.servicebus.amqp.session import Session

MAX_MESSAGE_SIZE = 262_144
_CREDIT = 1_000
_SERIAL = 1 << 32


class LinkState(Enum):
    PENDING = auto()  # the client's attach is not answered yet
    OPEN = auto()
    CLOSING = auto()  # we detached and wait for the client's detach
    GONE = auto()


class Link:
    """`attach` is what the client asked for; roles are the client's."""

    def __init__(self, session: Session, attach: p.Attach) -> None:
        self.session = session
        self.attach = attach
        self.name = attach.name
        self.handle = session.take_handle()
        self.state = LinkState.PENDING

    @property
    def is_open(self) -> bool:
        return self.state is LinkState.OPEN

    # -- what a subclass may answer to

    def attached(self) -> None:
        """The client asked to attach; accept at once unless a subclass waits."""
        self.accept()

    def released(self) -> None:
        """The link is over, whoever ended it. Called once, also for a link that was never accepted."""

    def resumed(self) -> None:
        """The window or the socket is open again."""

    def flow(self, flow: p.Flow) -> None:
        if flow.echo and self.is_open:
            self.session.send_flow()

    # -- what a subclass may do

    def accept(self, *, source: Any = None, properties: dict[Any, Any] | None = None) -> None:
        """Answer the attach, repeating its terms; `source` replaces the one asked for."""
        self._send_attach(source or self.attach.source, self.attach.target, properties)
        self.state = LinkState.OPEN

    def refuse(self, error: AmqpError) -> None:
        """Answer the attach with null source and target, then detach: the form clients understand as a refusal."""
        if self.state is LinkState.PENDING:
            self._send_attach(None, None, None)
            self.state = LinkState.OPEN
            self.detach(error)

    def detach(self, error: AmqpError) -> None:
        if self.state is LinkState.OPEN:
            self.state = LinkState.CLOSING
            self.session.send(described_list(p.DETACH, [UInt(self.handle), True, error.encoded()]))
            self.released()

    # -- called by the session

    def detached_by_client(self, *, closed: bool) -> None:
        was = self.state
        self.state = LinkState.GONE
        if was is LinkState.OPEN:
            self.released()
            self.session.send(described_list(p.DETACH, [UInt(self.handle), closed]))
        elif was is LinkState.PENDING:
            self.released()  # and no attach any more: the client has given up
        self.session.free_handle(self.handle)

    def lost(self) -> None:
        was, self.state = self.state, LinkState.GONE
        if was in (LinkState.OPEN, LinkState.PENDING):
            self.released()

    def _send_attach(self, source: Any, target: Any, properties: dict[Any, Any] | None) -> None:
        asked = self.attach
        server_sends = bool(asked.role)
        fields = [
            asked.name,
            UInt(self.handle),
            not asked.role,
            asked.snd_settle_mode or UByte(0),
            asked.rcv_settle_mode or UByte(0),
            source,
            target,
            None,
            None,
            UInt(0) if server_sends else None,
            None if server_sends else ULong(MAX_MESSAGE_SIZE),
            None,
            None,
            properties,
        ]
        self.session.send(described_list(p.ATTACH, fields))


class Inbound(Link):
    """The client sends. Every delivery is answered when it is complete and settled by that answer."""

    def __init__(self, session: Session, attach: p.Attach) -> None:
        super().__init__(session, attach)
        self._delivery_count = 0
        self._credit = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._first: p.Transfer | None = None

    def received(self, message: bytes, message_format: int) -> bytes:
        """Take a message; returns the encoded outcome. Raises AmqpError to reject it."""
        raise NotImplementedError

    def accept(self, *, source: Any = None, properties: dict[Any, Any] | None = None) -> None:
        super().accept(source=source, properties=properties)
        self._grant()

    def transfer(self, transfer: p.Transfer, payload: bytes) -> None:
        if not self.is_open:
            return  # refused or detached, and the client did not know yet
        first = self._first
        if first is None:
            if transfer.delivery_id is None or transfer.delivery_tag is None:
                raise AmqpError("amqp:invalid-field", "A delivery's first transfer lacks its delivery-id or tag.")
            self._first = first = transfer
        self._size += len(payload)
        if self._size <= MAX_MESSAGE_SIZE:
            self._parts.append(payload)
        if transfer.more and not transfer.aborted:
            return
        message, size = b"".join(self._parts), self._size
        self._parts, self._size, self._first = [], 0, None
        self._delivery_count = (self._delivery_count + 1) % _SERIAL
        self._credit -= 1
        if not transfer.aborted:
            self._answer(first, message, size, settled=bool(first.settled or transfer.settled))
        if self._credit <= _CREDIT // 2 and self.is_open:
            self._grant()

    def _answer(self, first: p.Transfer, message: bytes, size: int, *, settled: bool) -> None:
        assert first.delivery_id is not None
        try:
            if isinstance(first.state, Described) and first.state.descriptor == p.TRANSACTIONAL_STATE:
                raise AmqpError("amqp:not-implemented", "Transactions are not supported.")
            if size > MAX_MESSAGE_SIZE:
                text = (
                    f"The received message (delivery-id:{first.delivery_id}, size:{size} bytes) exceeds the limit "
                    f"({MAX_MESSAGE_SIZE} bytes) currently allowed on the link."
                )
                raise AmqpError("amqp:link:message-size-exceeded", text)
            state = self.received(message, first.message_format or 0)
        except AmqpError as error:
            state = p.outcome(p.REJECTED, error.encoded())
        if not settled:
            number = int(first.delivery_id)
            self.session.send(p.disposition(role=True, first=number, last=number, state=state))

    def flow(self, flow: p.Flow) -> None:
        if flow.echo and self.is_open:
            self._grant()

    def _grant(self) -> None:
        self._credit = _CREDIT
        self.session.send_flow(handle=self.handle, delivery_count=self._delivery_count, link_credit=_CREDIT)


class Outbound(Link):
    """The client receives, as far as it gave credit."""

    def __init__(self, session: Session, attach: p.Attach) -> None:
        super().__init__(session, attach)
        self._delivery_count = 0
        self._credit = 0
        self._unsettled: dict[int, bytes] = {}
        self.sends_settled = attach.snd_settle_mode == 1

    @property
    def credit(self) -> int:
        """How many messages the client would take right now."""
        return self._credit if self.state is LinkState.OPEN and self.session.open_window() else 0

    def credited(self) -> None:
        """There is credit: send what there is."""

    def settled(self, number: int, tag: bytes, state: Any) -> bytes:
        """The client settles a delivery; returns the encoded outcome to answer. Raises AmqpError to refuse."""
        raise NotImplementedError

    def flow(self, flow: p.Flow) -> None:
        if flow.link_credit is not None:
            seen = flow.delivery_count if flow.delivery_count is not None else 0
            ahead = (self._delivery_count - seen) % _SERIAL
            self._credit = max(0, int(flow.link_credit) - ahead)
        if not self.is_open:
            return
        if self.credit:
            self.credited()
        if flow.drain:
            self._delivery_count = (self._delivery_count + self._credit) % _SERIAL
            self._credit = 0
            self.credited()
        if flow.drain or flow.echo:
            fields = {"handle": self.handle, "delivery_count": self._delivery_count, "link_credit": self._credit}
            self.session.send_flow(**fields, drain=bool(flow.drain))

    def resumed(self) -> None:
        if self.credit:
            self.credited()

    def send(self, tag: bytes, message: bytes) -> None:
        """Send one message; the caller has looked at `credit`."""
        self._credit -= 1
        self._delivery_count = (self._delivery_count + 1) % _SERIAL
        number = self.session.deliver(self, tag, message, settled=self.sends_settled)
        if not self.sends_settled:
            self._unsettled[number] = tag

    def disposition(self, number: int, state: Any, *, settled: bool) -> None:
        if state is None and not settled:
            return
        tag = self._unsettled[number]
        try:
            answer = self.settled(number, tag, state)
        except AmqpError as error:
            answer = p.outcome(p.REJECTED, error.encoded())
        self._unsettled.pop(number, None)
        self.session.settle(number, None if settled else answer)

    def released(self) -> None:
        for number in self._unsettled:
            self.session.settle(number, None)
        self._unsettled.clear()


def address(terminus: Any) -> str | None:
    """The address of a source or target. Raises AmqpError if it is not one."""
    if terminus is None:
        return None
    if (
        isinstance(terminus, Described)
        and terminus.descriptor in (p.SOURCE, p.TARGET)
        and isinstance(terminus.value, list)
    ):
        value = terminus.value[0] if terminus.value else None
        if value is None or isinstance(value, str):
            return value
    raise AmqpError("amqp:invalid-field", "A source or target has no text as its address.")


def source_filters(source: Any) -> dict[str, Any]:
    """A source's filter set, values without their descriptors."""
    filters = source.value[7] if source is not None and len(source.value) > 7 else None
    if filters is None:
        return {}
    if not isinstance(filters, dict) or not all(isinstance(key, str) for key in filters):
        raise AmqpError("amqp:invalid-field", "A source's filter must be a map of symbols.")
    return {str(key): value.value if isinstance(value, Described) else value for key, value in filters.items()}


def with_filter(source: Described, name: str, value: Any) -> Described:
    """The same source with one filter set."""
    fields = [*source.value, *[None] * (8 - len(source.value))]
    fields[7] = {Symbol(name): value}
    return Described(source.descriptor, fields)
