"""An AMQP session (part 2.5): windows, the handles of its links, and the deliveries that wait to be settled."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from local.servicebus.amqp import performatives as p
from local.servicebus.amqp.link import Inbound, Link, Outbound
from local.servicebus.amqp.performatives import AmqpError
from local.servicebus.amqp.types import UInt, UShort, described_list

if TYPE_CHECKING:
    from local.servicebus.amqp.connection import Connection

_WINDOW = 0x7FFFFFFF
_MAX_HANDLE = 4095
_SERIAL = 1 << 32
_TRANSFER_OVERHEAD = 64  # frame header and transfer performative, at most


class Session:
    def __init__(self, connection: Connection, channel: int, remote_channel: int, begin: p.Begin) -> None:
        self.connection = connection
        self.channel = channel
        self.remote_channel = remote_channel
        self._next_incoming = int(begin.next_outgoing_id)
        self._remote_window = int(begin.incoming_window)
        self._next_outgoing = 0
        self._links: dict[int, Link] = {}
        self._names: set[tuple[str, bool]] = set()
        self._free_handles: list[int] = []
        self._handles_given = 0
        self._unsettled: dict[int, Outbound] = {}
        self._next_delivery = 0
        self._held: deque[tuple[bytes, bytes]] = deque()  # transfer frames that wait for the client's window
        fields = [UShort(remote_channel), UInt(0), UInt(_WINDOW), UInt(_WINDOW), UInt(_MAX_HANDLE)]
        connection.send(channel, described_list(p.BEGIN, fields))

    # -- frames in

    def handle(self, performative: p.Performative, payload: bytes) -> None:
        try:
            if isinstance(performative, p.Transfer):
                self._transfer(performative, payload)
            elif isinstance(performative, p.Disposition):
                self._disposition(performative)
            elif isinstance(performative, p.Flow):
                self._flow(performative)
            elif isinstance(performative, p.Attach):
                self._attach(performative)
            elif isinstance(performative, p.Detach):
                self._detach(performative)
        except AmqpError as error:
            self.connection.end_session(self, error)

    def _attach(self, attach: p.Attach) -> None:
        if attach.handle > _MAX_HANDLE:
            raise AmqpError("amqp:connection:framing-error", f"Handles end at {_MAX_HANDLE}.")
        if attach.handle in self._links:
            raise AmqpError("amqp:session:handle-in-use", f"Handle {attach.handle} is in use.")
        try:
            link = self.connection.owner.link(self, attach)
        except AmqpError as error:
            link = Link(self, attach)
            self._links[attach.handle] = link
            link.refuse(error)
            return
        self._links[attach.handle] = link
        link.attached()

    def _detach(self, detach: p.Detach) -> None:
        link = self._links.pop(detach.handle, None)
        if link is None:
            raise AmqpError("amqp:session:unattached-handle", f"Handle {detach.handle} is not attached.")
        link.detached_by_client(closed=bool(detach.closed))

    def _transfer(self, transfer: p.Transfer, payload: bytes) -> None:
        self._next_incoming = (self._next_incoming + 1) % _SERIAL
        link = self._links.get(transfer.handle)
        if link is None:
            raise AmqpError("amqp:session:unattached-handle", f"Handle {transfer.handle} is not attached.")
        if isinstance(link, Inbound):
            link.transfer(transfer, payload)
        elif link.is_open:
            raise AmqpError("amqp:session:errant-link", "A transfer came from a receiver.")

    def _flow(self, flow: p.Flow) -> None:
        seen = flow.next_incoming_id if flow.next_incoming_id is not None else 0
        self._remote_window = max(
            0, (seen + flow.incoming_window - self._next_outgoing + _SERIAL // 2) % _SERIAL - _SERIAL // 2
        )
        self._send_held()
        if flow.handle is None:
            if flow.echo:
                self.send_flow()
        else:
            link = self._links.get(flow.handle)
            if link is None:
                raise AmqpError("amqp:session:unattached-handle", f"Handle {flow.handle} is not attached.")
            link.flow(flow)
        self.resume()

    def _disposition(self, disposition: p.Disposition) -> None:
        if not disposition.role:
            return  # incoming deliveries are settled when they are answered
        first = int(disposition.first)
        last = first if disposition.last is None else int(disposition.last)
        span = (last - first) % _SERIAL
        if span >= _SERIAL // 2:
            raise AmqpError("amqp:invalid-field", "A disposition's last is before its first.")
        if span < 2 * len(self._unsettled) + 1:
            ids = [number for step in range(span + 1) if (number := (first + step) % _SERIAL) in self._unsettled]
        else:
            ids = [number for number in self._unsettled if (number - first) % _SERIAL <= span]
        for number in ids:
            self._unsettled[number].disposition(number, disposition.state, settled=bool(disposition.settled))

    # -- frames out

    def send(self, body: bytes) -> None:
        self.connection.send(self.channel, body)

    def send_flow(self, **link_fields: Any) -> None:
        """A flow frame; link_fields: handle, delivery_count, link_credit, drain."""
        names = ("handle", "delivery_count", "link_credit")
        fields: list[Any] = [
            UInt(self._next_incoming),
            UInt(_WINDOW),
            UInt(self._next_outgoing),
            UInt(_WINDOW),
            *(UInt(link_fields[name]) if name in link_fields else None for name in names),
            None,
            link_fields.get("drain"),
        ]
        self.send(described_list(p.FLOW, fields))

    def open_window(self) -> bool:
        """Whether the client would take a transfer now."""
        return self._remote_window > 0 and not self._held and self.connection.writable

    def deliver(self, link: Outbound, tag: bytes, message: bytes, *, settled: bool) -> int:
        """Send a message in as many frames as it needs; returns its delivery-id."""
        number = self._next_delivery
        self._next_delivery = (number + 1) % _SERIAL
        if not settled:
            self._unsettled[number] = link
        room = self.connection.max_frame_size - _TRANSFER_OVERHEAD
        for start in range(0, max(len(message), 1), room):
            more = start + room < len(message)
            body = p.transfer(link.handle, number, tag, settled=settled, more=more)
            self._held.append((body, message[start : start + room]))
        self._send_held()
        return number

    def settle(self, number: int, state: bytes | None) -> None:
        """Forget a delivery; with an encoded outcome, tell the client."""
        self._unsettled.pop(number, None)
        if state is not None:
            self.send(p.disposition(role=False, first=number, last=number, state=state))

    def _send_held(self) -> None:
        while self._held and self._remote_window > 0:
            body, payload = self._held.popleft()
            self.connection.send(self.channel, body, payload)
            self._remote_window -= 1
            self._next_outgoing = (self._next_outgoing + 1) % _SERIAL

    # -- links

    def take_handle(self) -> int:
        if self._free_handles:
            return self._free_handles.pop()
        self._handles_given += 1
        return self._handles_given - 1

    def free_handle(self, handle: int) -> None:
        self._free_handles.append(handle)

    def resume(self) -> None:
        """Let links send that had to wait for the window or the socket."""
        if self.open_window():
            for link in list(self._links.values()):
                link.resumed()

    def end(self, error: AmqpError | None = None) -> None:
        self.ended()
        self.send(described_list(p.END, [error.encoded()] if error else []))

    def ended(self) -> None:
        """The session is over, by end or by loss of the connection: its links are too."""
        links, self._links = list(self._links.values()), {}
        for link in links:
            link.lost()
