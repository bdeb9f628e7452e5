"""The frames' bodies (AMQP 1.0 part 2.7, part 5.3) and delivery states (part 3.4), checked field by field."""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import Any, get_type_hints
from uuid import uuid4

from local.servicebus.amqp.types import Array, DecodeError, Described, Symbol, UByte, UInt, ULong, described_list

OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, END, CLOSE = range(0x10, 0x19)
ERROR = 0x1D
RECEIVED, ACCEPTED, REJECTED, RELEASED, MODIFIED = range(0x23, 0x28)
SOURCE, TARGET = 0x28, 0x29
COORDINATOR, TRANSACTIONAL_STATE = 0x30, 0x34
SASL_MECHANISMS, SASL_INIT, SASL_CHALLENGE, SASL_RESPONSE, SASL_OUTCOME = range(0x40, 0x45)


class AmqpError(Exception):
    """An AMQP error condition: what goes into the error field of close, end, detach, rejected."""

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(description)
        self.condition = condition
        self.description = description

    def encoded(self) -> Described:
        # The info map is never left out: clients index three fields.
        info = {Symbol("com.microsoft:tracking-id"): str(uuid4())}
        return Described(ULong(ERROR), [Symbol(self.condition), self.description, info])


@dataclass(slots=True)
class Open:
    container_id: str
    hostname: str | None = None
    max_frame_size: UInt | None = None
    channel_max: Any = None
    idle_time_out: UInt | None = None
    outgoing_locales: Any = None
    incoming_locales: Any = None
    offered_capabilities: Any = None
    desired_capabilities: Any = None
    properties: Any = None


@dataclass(slots=True)
class Begin:
    remote_channel: Any
    next_outgoing_id: UInt
    incoming_window: UInt
    outgoing_window: UInt
    handle_max: UInt | None = None
    offered_capabilities: Any = None
    desired_capabilities: Any = None
    properties: Any = None


@dataclass(slots=True)
class Attach:
    name: str
    handle: UInt
    role: bool
    snd_settle_mode: UByte | None = None
    rcv_settle_mode: UByte | None = None
    source: Described | None = None
    target: Described | None = None
    unsettled: Any = None
    incomplete_unsettled: Any = None
    initial_delivery_count: UInt | None = None
    max_message_size: ULong | None = None
    offered_capabilities: Any = None
    desired_capabilities: Any = None
    properties: Any = None


@dataclass(slots=True)
class Flow:
    next_incoming_id: UInt | None
    incoming_window: UInt
    next_outgoing_id: UInt
    outgoing_window: UInt
    handle: UInt | None = None
    delivery_count: UInt | None = None
    link_credit: UInt | None = None
    available: UInt | None = None
    drain: bool | None = None
    echo: bool | None = None
    properties: Any = None


@dataclass(slots=True)
class Transfer:
    handle: UInt
    delivery_id: UInt | None = None
    delivery_tag: bytes | None = None
    message_format: UInt | None = None
    settled: bool | None = None
    more: bool | None = None
    rcv_settle_mode: UByte | None = None
    state: Described | None = None
    resume: bool | None = None
    aborted: bool | None = None
    batchable: bool | None = None


@dataclass(slots=True)
class Disposition:
    role: bool
    first: UInt
    last: UInt | None = None
    settled: bool | None = None
    state: Described | None = None
    batchable: bool | None = None


@dataclass(slots=True)
class Detach:
    handle: UInt
    closed: bool | None = None
    error: Any = None


@dataclass(slots=True)
class End:
    error: Any = None


@dataclass(slots=True)
class Close:
    error: Any = None


@dataclass(slots=True)
class SaslInit:
    mechanism: Symbol
    initial_response: bytes | None = None
    hostname: str | None = None


type Performative = Open | Begin | Attach | Flow | Transfer | Disposition | Detach | End | Close | SaslInit

_CLASSES: dict[int, type[Any]] = {
    OPEN: Open,
    BEGIN: Begin,
    ATTACH: Attach,
    FLOW: Flow,
    TRANSFER: Transfer,
    DISPOSITION: Disposition,
    DETACH: Detach,
    END: End,
    CLOSE: Close,
    SASL_INIT: SaslInit,
}
_FIELD_TYPES = {
    code: [(field.name, object if hints[field.name] is Any else hints[field.name]) for field in fields(cls)]
    for code, cls in _CLASSES.items()
    if (hints := get_type_hints(cls))
}


def from_value(value: Any) -> Performative:
    """The performative a frame's described list stands for. Raises DecodeError."""
    if not isinstance(value, Described) or not isinstance(value.value, list) or isinstance(value.value, Array):
        raise DecodeError("a frame must hold a performative")
    code = value.descriptor
    if not isinstance(code, ULong) or code not in _CLASSES:
        raise DecodeError(f"unknown performative {str(code)[:40]}")
    types = _FIELD_TYPES[code]
    if len(value.value) > len(types):
        raise DecodeError(f"{_CLASSES[code].__name__} has too many fields")
    for (name, expected), item in zip(types, value.value, strict=False):
        if not isinstance(item, expected):
            raise DecodeError(f"{_CLASSES[code].__name__}.{name} has a wrong type")
    try:
        result: Performative = _CLASSES[code](*value.value)
    except TypeError as error:
        raise DecodeError(f"{_CLASSES[code].__name__} lacks a mandatory field") from error
    return result


def transfer(handle: int, delivery_id: int, tag: bytes, *, settled: bool, more: bool) -> bytes:
    """A transfer of message-format 0, packed by hand: it is most of what a broker sends. `tag` is 1 to 255 bytes."""
    body = (
        struct.pack(">BIBIBB", 0x70, handle, 0x70, delivery_id, 0xA0, len(tag))
        + tag
        + bytes((0x43, 0x41 if settled else 0x42, 0x41 if more else 0x42))
    )
    return bytes((0x00, 0x53, TRANSFER, 0xC0, len(body) + 1, 6)) + body


def disposition(*, role: bool, first: int, last: int, state: bytes) -> bytes:
    """A settled disposition; `state` is an encoded outcome."""
    body = struct.pack(">BBIBIB", 0x41 if role else 0x42, 0x70, first, 0x70, last, 0x41) + state
    if len(body) < 255:
        return bytes((0x00, 0x53, DISPOSITION, 0xC0, len(body) + 1, 5)) + body
    return bytes((0x00, 0x53, DISPOSITION)) + struct.pack(">BII", 0xD0, len(body) + 4, 5) + body


def outcome(code: int, *fields_: Any) -> bytes:
    return described_list(code, list(fields_))
