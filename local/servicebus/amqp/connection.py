"""One client's connection: framing, SASL, open/close, and its sessions.

What a frame causes is written only when the owner flushes (Owner.wrote), so that nothing leaves before it is durable.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import Protocol

from local.servicebus.amqp import performatives as p
from local.servicebus.amqp.link import Link
from local.servicebus.amqp.performatives import AmqpError
from local.servicebus.amqp.session import Session
from local.servicebus.amqp.types import Array, DecodeError, Symbol, UByte, UInt, UShort, decode, described_list

log = logging.getLogger(__name__)

MAX_FRAME_SIZE = 65_536
IDLE_TIME_OUT_MS = 240_000
_MIN_MAX_FRAME_SIZE = 512
_CLOSE_WAIT_S = 1.0
_MAX_PENDING = 1 << 20  # bytes; what more is deliverable waits for the next turn
_MAX_SESSIONS = 256

_AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
_SASL_HEADER = b"AMQP\x03\x01\x00\x00"
_EMPTY_FRAME = struct.pack(">IBBH", 8, 2, 0, 0)


class Owner(Protocol):
    """What a connection asks of the broker around it."""

    container_id: str
    sasl_mechanisms: tuple[str, ...]

    def wrote(self, connection: Connection) -> None: ...

    def received(self, connection: Connection, performative: p.Performative) -> bool:
        """Called before each frame is handled; False: the connection was dropped on purpose."""
        ...

    def authenticates(self, connection: Connection, mechanism: str, response: bytes) -> bool: ...

    def link(self, session: Session, attach: p.Attach) -> Link:
        """The link an attach asks for, not yet opened. Raises AmqpError to refuse it."""
        ...

    def connected(self, connection: Connection) -> None: ...

    def disconnected(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.container_id = ""
        self.max_frame_size = _MIN_MAX_FRAME_SIZE
        self.sessions: dict[int, Session] = {}
        self._ended: set[int] = set()
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._out: list[bytes] = []
        self._consume: Callable[[bytes, int], int] = self._read_header
        self._handle_frame: Callable[[int, int, bytes], None] = self._handle_sasl
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timers: list[asyncio.TimerHandle] = []
        self._pending = 0  # bytes in _out
        self._paused = False

    # -- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.owner.connected(self)
        self._watch_silence()

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        data = self._unread + data if self._unread else data
        at = 0
        try:
            while self._transport is not None:
                used = self._consume(data, at)
                if not used:
                    break
                at += used
        except DecodeError as error:
            self.close(AmqpError("amqp:decode-error", str(error)))
        except AmqpError as error:
            self.close(error)
        except Exception:
            log.exception("a frame of %s could not be handled", self.container_id)
            self.close(AmqpError("amqp:internal-error", "The broker could not handle a frame."))
        self._unread = data[at:]

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for timer in self._timers:
            timer.cancel()
        for session in list(self.sessions.values()):
            session.ended()
        self.sessions.clear()
        self.owner.disconnected(self)

    @property
    def writable(self) -> bool:
        """Whether the client keeps up with what it asked for."""
        return not self._paused and self._pending < _MAX_PENDING

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._resume()

    def _resume(self) -> None:
        for session in list(self.sessions.values()):
            session.resume()

    def drop(self) -> None:
        """Break the connection without a word, as a failing network does. What was not written is lost."""
        if self._transport is not None:
            self._out.clear()
            self._transport.abort()
            self._consume = self._discard

    def flush(self, delay_s: float = 0) -> None:
        """Write what has been said so far, now or after a delay."""
        data, was_full = b"".join(self._out), self._pending >= _MAX_PENDING
        self._out.clear()
        self._pending = 0
        if delay_s:
            self._loop.call_later(delay_s, self._write_out, data)
        else:
            self._write_out(data)
        if was_full and not self._paused:
            self._resume()

    def _write_out(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    # -- reading

    def _read_header(self, data: bytes, at: int) -> int:
        header = data[at : at + 8]
        if len(header) < 8 and _SASL_HEADER.startswith(header[:4]):
            return 0
        if header == _SASL_HEADER and self._handle_frame == self._handle_sasl:
            mechanisms = Array([Symbol(name) for name in self.owner.sasl_mechanisms], Symbol)
            self._write(_SASL_HEADER)
            self._write_frame(0, described_list(p.SASL_MECHANISMS, [mechanisms]), kind=1)
        elif header == _AMQP_HEADER and self._handle_frame == self._handle_open:
            self._write(_AMQP_HEADER)
        else:
            self._reject_header()
            return len(header)
        self._consume = self._read_frame
        return 8

    def _reject_header(self) -> None:
        # AMQP 2.2: answer with the header that is supported, then close.
        self._write(_AMQP_HEADER if self._handle_frame == self._handle_open else _SASL_HEADER)
        self._finish()

    def _read_frame(self, data: bytes, at: int) -> int:
        if len(data) < at + 8:
            return 0
        size, offset, kind, channel = struct.unpack_from(">IBBH", data, at)
        if size > MAX_FRAME_SIZE:
            raise AmqpError("amqp:connection:framing-error", f"A frame may have {MAX_FRAME_SIZE} bytes, not {size}.")
        if size < 8 or offset < 2 or offset * 4 > size:
            raise AmqpError("amqp:connection:framing-error", "A frame header contradicts itself.")
        if len(data) < at + size:
            return 0
        self._handle_frame(kind, channel, data[at + offset * 4 : at + size])
        return int(size)

    def _discard(self, data: bytes, at: int) -> int:
        return len(data) - at

    # -- states of the connection, each a way to handle a frame

    def _handle_sasl(self, kind: int, channel: int, body: bytes) -> None:
        if kind != 1:
            raise AmqpError("amqp:connection:framing-error", "A SASL frame is expected.")
        init = p.from_value(decode(body)[0])
        if not isinstance(init, p.SaslInit):
            raise DecodeError("sasl-init is expected")
        known = init.mechanism in self.owner.sasl_mechanisms
        granted = known and self.owner.authenticates(self, init.mechanism, init.initial_response or b"")
        self._write_frame(0, described_list(p.SASL_OUTCOME, [UByte(0 if granted else 1)]), kind=1)
        if granted:
            self._handle_frame = self._handle_open
            self._consume = self._read_header
        else:
            self._finish()

    def _handle_open(self, kind: int, channel: int, body: bytes) -> None:
        if not body:
            return
        opening = p.from_value(decode(body)[0])
        if not isinstance(opening, p.Open):
            raise AmqpError("amqp:connection:framing-error", "The first frame must be open.")
        self.container_id = opening.container_id
        self.max_frame_size = max(_MIN_MAX_FRAME_SIZE, min(opening.max_frame_size or MAX_FRAME_SIZE, MAX_FRAME_SIZE))
        self._send_open()
        self._handle_frame = self._handle_opened
        if opening.idle_time_out:
            self._keep_alive(max(opening.idle_time_out / 2000, 0.05))

    def _send_open(self) -> None:
        fields = [
            self.owner.container_id,
            None,
            UInt(MAX_FRAME_SIZE),
            UShort(_MAX_SESSIONS - 1),
            UInt(IDLE_TIME_OUT_MS),
        ]
        self._write_frame(0, described_list(p.OPEN, fields))

    def _handle_opened(self, kind: int, channel: int, body: bytes) -> None:
        if not body:
            return  # an empty frame keeps the connection alive
        if kind != 0:
            raise AmqpError("amqp:connection:framing-error", "An AMQP frame is expected.")
        value, at = decode(body)
        performative = p.from_value(value)
        if not self.owner.received(self, performative):
            return
        if isinstance(performative, p.Begin):
            self._begin(channel, performative)
        elif isinstance(performative, p.Close):
            self._write_frame(0, described_list(p.CLOSE, []))
            self._finish(wait_s=0)
        elif isinstance(performative, (p.Open, p.SaslInit)):
            raise AmqpError("amqp:illegal-state", f"{type(performative).__name__} came on an open connection.")
        elif session := self.sessions.get(channel):
            if isinstance(performative, p.End):
                self.sessions.pop(channel)
                self._ended.add(channel)
                session.end()
            else:
                session.handle(performative, body[at:])
        elif channel not in self._ended:  # late frames of a session that ended are harmless
            raise AmqpError("amqp:not-allowed", f"Channel {channel} has no session.")

    def _begin(self, channel: int, begin: p.Begin) -> None:
        if channel in self.sessions or len(self.sessions) >= _MAX_SESSIONS:
            raise AmqpError("amqp:not-allowed", f"Channel {channel} cannot begin a session.")
        self._ended.discard(channel)
        used = {session.channel for session in self.sessions.values()}
        own = next(number for number in range(_MAX_SESSIONS) if number not in used)
        self.sessions[channel] = Session(self, own, channel, begin)

    def end_session(self, session: Session, error: AmqpError) -> None:
        """End a session whose client broke its rules; its late frames are ignored."""
        self.sessions.pop(session.remote_channel, None)
        self._ended.add(session.remote_channel)
        session.end(error)

    # -- writing

    def send(self, channel: int, body: bytes, payload: bytes = b"") -> None:
        """Send a frame: an encoded performative and, for a transfer, its payload."""
        self._write(struct.pack(">IBBH", 8 + len(body) + len(payload), 2, 0, channel) + body + payload)

    def close(self, error: AmqpError) -> None:
        """Close with an error, whatever state the connection is in."""
        if self._transport is None or self._consume == self._discard:
            return
        if self._handle_frame != self._handle_sasl:
            if self._handle_frame == self._handle_open:
                if self._consume == self._read_header:
                    self._write(_AMQP_HEADER)
                self._send_open()
            self._write_frame(0, described_list(p.CLOSE, [error.encoded()]))
        self._finish()

    def _finish(self, wait_s: float = _CLOSE_WAIT_S) -> None:
        """Write what is left, hear no more, and hang up when the client does or after a moment.

        The moment lets the client read why: hanging up on unread input would destroy what is on its way.
        """
        self._consume = self._discard
        for session in list(self.sessions.values()):
            session.ended()
        self.sessions.clear()
        self._timers.append(self._loop.call_later(wait_s, self._hang_up))
        self.owner.wrote(self)

    def _hang_up(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        self._pending += len(data)
        self.owner.wrote(self)

    def _write_frame(self, channel: int, body: bytes, kind: int = 0) -> None:
        self._write(struct.pack(">IBBH", 8 + len(body), 2, kind, channel) + body)

    # -- time

    def _keep_alive(self, period: float) -> None:
        if self._transport is not None:
            self._write(_EMPTY_FRAME)  # behind what is still to be written: nothing may overtake header and open
            self._timers = [timer for timer in self._timers if timer.when() > self._loop.time()]
            self._timers.append(self._loop.call_later(period, self._keep_alive, period))

    def _watch_silence(self) -> None:
        silence = self._loop.time() - self._heard
        limit = 2 * IDLE_TIME_OUT_MS / 1000
        if silence >= limit:
            self.drop()
        else:
            self._timers.append(self._loop.call_later(limit - silence, self._watch_silence))
