"""An AMQP client that says exactly what a test wants, right or wrong."""

import socket
import struct
import time
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from local.servicebus.amqp import performatives as p
from local.servicebus.amqp import types as t
from tests.servicebus.sas import token

SASL_HEADER = b"AMQP\x03\x01\x00\x00"
AMQP_HEADER = b"AMQP\x00\x01\x00\x00"


def frame(body: bytes, channel: int = 0, kind: int = 0) -> bytes:
    return struct.pack(">IBBH", 8 + len(body), 2, kind, channel) + body


def performative(code: int, *fields: Any) -> bytes:
    return t.described_list(code, list(fields))


def terminus(code: int, address: Any, filters: Any = None) -> t.Described:
    fields = [address, *[None] * 6, filters] if filters is not None else [address]
    return t.Described(t.ULong(code), fields)


class Wire:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def say(self, code: int, *fields: Any, payload: bytes = b"") -> None:
        """Send a performative on channel 0."""
        self.send(frame(performative(code, *fields) + payload))

    def read(self, count: int) -> bytes:
        while len(self._unread) < count:
            data = self.socket.recv(65_536)
            if not data:
                raise EOFError
            self._unread += data
        data, self._unread = self._unread[:count], self._unread[count:]
        return data

    def hear(self) -> tuple[int, list[Any], bytes]:
        """The next performative's code, fields and payload; empty frames are passed over."""
        while True:
            size, offset, _, _ = struct.unpack(">IBBH", self.read(8))
            body = self.read(size - 8)[offset * 4 - 8 :]
            if body:
                value, end = t.decode(body)
                return value.descriptor, value.value, body[end:]

    def hear_until(self, code: int) -> list[Any]:
        while True:
            heard, fields, _ = self.hear()
            if heard == code:
                return fields

    def ended(self) -> bool:
        """Whether the broker hangs up, whatever it says before."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                if not self.socket.recv(65_536):
                    return True
            except ConnectionError:
                return True
        return False

    def open(self) -> Self:
        """Handshake, open, begin."""
        self.send(SASL_HEADER)
        self.read(8)
        self.hear()
        self.send(frame(performative(p.SASL_INIT, t.Symbol("ANONYMOUS")), kind=1))
        self.hear()
        self.send(AMQP_HEADER)
        self.read(8)
        self.say(p.OPEN, "wire")
        self.hear_until(p.OPEN)
        self.say(p.BEGIN, None, t.UInt(0), t.UInt(2048), t.UInt(2048))
        self.hear_until(p.BEGIN)
        return self

    def attach(
        self, handle: int, *, receiver: bool, address: Any, filters: Any = None, properties: Any = None
    ) -> list[Any]:
        """Attach a link; returns the fields of the answer."""
        source = terminus(p.SOURCE, address if receiver else "here", filters)
        target = terminus(p.TARGET, "here" if receiver else address)
        fields = [f"link{handle}", t.UInt(handle), receiver, t.UByte(0), t.UByte(0), source, target, None, None]
        self.say(p.ATTACH, *fields, None if receiver else t.UInt(0), None, None, None, properties)
        return self.hear_until(p.ATTACH)

    def authorize(self, port: int) -> Self:
        """Put a token for the whole namespace over links 0 and 1."""
        self.attach(0, receiver=False, address="$cbs")
        self.attach(1, receiver=True, address="$cbs")
        self.flow(1, 10)
        audience = f"sb://localhost:{port}/"
        properties = {"name": audience, "operation": "put-token", "type": "servicebus.windows.net:sastoken"}
        body = token(audience, datetime.now(UTC) + timedelta(hours=1))
        request = performative(0x73, "id") + b"\x00\x53\x74" + t.encode(properties) + b"\x00\x53\x77" + t.encode(body)
        self.transfer(0, request)
        _, _, answer = next(heard for heard in iter(self.hear, None) if heard[0] == p.TRANSFER)
        assert t.encode(t.Int(202)) in answer
        return self

    def flow(self, handle: int, credit: int) -> None:
        window = t.UInt(2048)
        self.say(p.FLOW, t.UInt(0), window, t.UInt(0), window, t.UInt(handle), t.UInt(0), t.UInt(credit))

    def transfer(self, handle: int, payload: bytes, *, number: int = 0, more: bool = False) -> None:
        fields = [t.UInt(handle), t.UInt(number), struct.pack(">I", number), t.UInt(0), False, more]
        self.say(p.TRANSFER, *fields, payload=payload)
