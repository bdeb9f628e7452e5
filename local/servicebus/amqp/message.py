"""Message sections (AMQP 1.0 part 3.2): split apart and put together without re-encoding what only passes through."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from local.servicebus.amqp.types import (
    DecodeError,
    Described,
    Symbol,
    UByte,
    UInt,
    ULong,
    decode,
    described_list,
    encode,
    encode_list,
    encode_raw_map,
    is_simple,
    raw_map,
    skip,
)

HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES = range(0x70, 0x75)
DATA, SEQUENCE, VALUE, FOOTER = range(0x75, 0x79)
BATCH_FORMAT = 0x80013700

_BODY_TYPES: dict[int, type] = {DATA: bytes, SEQUENCE: list, FOOTER: dict}
_DESCRIPTORS = {code: bytes((0x00, 0x53, code)) for code in range(HEADER, FOOTER + 1)}
_SYMBOLIC = {
    "amqp:header:list": HEADER,
    "amqp:delivery-annotations:map": DELIVERY_ANNOTATIONS,
    "amqp:message-annotations:map": MESSAGE_ANNOTATIONS,
    "amqp:properties:list": PROPERTIES,
    "amqp:application-properties:map": APPLICATION_PROPERTIES,
    "amqp:data:binary": DATA,
    "amqp:amqp-sequence:list": SEQUENCE,
    "amqp:amqp-value:*": VALUE,
    "amqp:footer:map": FOOTER,
}

PROPERTY_NAMES = (
    "message-id",
    "user-id",
    "to",
    "subject",
    "reply-to",
    "correlation-id",
    "content-type",
    "content-encoding",
    "absolute-expiry-time",
    "creation-time",
    "group-id",
    "group-sequence",
    "reply-to-group-id",
)


@dataclass(frozen=True, slots=True)
class Content:
    """One message as it came, cut into sections. Maps keep their values encoded; `properties` and `body` are whole sections."""

    durable: bool = False
    priority: int | None = None
    ttl: int | None = None  # milliseconds
    delivery_annotations: dict[Any, bytes] = field(default_factory=dict)  # Service Bus passes the sender's on
    annotations: dict[Any, bytes] = field(default_factory=dict)
    properties: bytes = b""
    application_properties: dict[Any, bytes] = field(default_factory=dict)
    body: bytes = b""

    def with_application_properties(self, changes: dict[str, Any]) -> Content:
        merged = self.application_properties | {key: encode(value) for key, value in changes.items()}
        return replace(self, application_properties=merged)

    def with_message_id(self, message_id: str) -> Content:
        values = decode(self.properties, 3)[0] if self.properties else []
        properties = _DESCRIPTORS[PROPERTIES] + encode([message_id, *values[1:]])
        return replace(self, properties=properties)

    def property_values(self) -> dict[str, Any]:
        """The properties section, decoded: those that are set, by their AMQP names."""
        if not self.properties:
            return {}
        values = decode(self.properties, 3)[0]
        return {name: value for name, value in zip(PROPERTY_NAMES, values, strict=False) if value is not None}

    def application_values(self) -> dict[str, Any]:
        return {key: decode(raw)[0] for key, raw in self.application_properties.items()}

    def encode(
        self,
        *,
        delivery_count: int = 0,
        annotations: dict[Any, bytes] | None = None,
        delivery_annotations: dict[Any, bytes] | None = None,
    ) -> bytes:
        """The whole message; the annotations given (values encoded) are added to the message's own."""
        priority = None if self.priority is None else UByte(self.priority)
        ttl = None if self.ttl is None else UInt(self.ttl)
        parts = [described_list(HEADER, [self.durable, priority, ttl, None, UInt(delivery_count)])]
        for code, own, added in (
            (DELIVERY_ANNOTATIONS, self.delivery_annotations, delivery_annotations),
            (MESSAGE_ANNOTATIONS, self.annotations, annotations),
        ):
            if own or added:
                parts += (_DESCRIPTORS[code], encode_raw_map(own | added if added else own))
        parts.append(self.properties)
        if self.application_properties:
            parts += (_DESCRIPTORS[APPLICATION_PROPERTIES], encode_raw_map(self.application_properties))
        parts.append(self.body)
        return b"".join(parts)


def sections(data: bytes) -> list[tuple[int, int, int]]:
    """(section code, where its value starts, where it ends), in the order given. Raises DecodeError."""
    found = []
    at = 0
    while at < len(data):
        if data[at] != 0:
            raise DecodeError("a message section needs a descriptor")
        descriptor, start = decode(data, at + 1)
        code = _SYMBOLIC.get(descriptor, 0) if isinstance(descriptor, Symbol) else descriptor
        if not isinstance(code, int) or not HEADER <= code <= FOOTER:
            raise DecodeError("unknown message section")
        at = skip(data, start)
        found.append((int(code), start, at))
    return found


def parse(data: bytes) -> Content:
    """Cut an encoded message, checking all that others will have to decode. Raises DecodeError."""
    durable, priority, ttl = False, None, None
    for_delivery: dict[Any, bytes] = {}
    annotations: dict[Any, bytes] = {}
    application: dict[Any, bytes] = {}
    properties = b""
    body: list[bytes] = []
    for code, start, end in sections(data):
        if code >= DATA:
            if not isinstance(decode(data, start)[0], _BODY_TYPES.get(code, object)):
                raise DecodeError("a body section has a wrong type")
            body += (_DESCRIPTORS[code], data[start:end])
        elif code == PROPERTIES:
            values = decode(data, start)[0]
            if not isinstance(values, list) or len(values) > len(PROPERTY_NAMES):
                raise DecodeError("the properties section must be a list")
            if not all(is_simple(value) for value in values):
                raise DecodeError("a property has a compound type")
            properties = _DESCRIPTORS[PROPERTIES] + data[start:end]
        elif code == MESSAGE_ANNOTATIONS:
            annotations = raw_map(data, start)
        elif code == DELIVERY_ANNOTATIONS:
            for_delivery = raw_map(data, start)
        elif code == APPLICATION_PROPERTIES:
            application = raw_map(data, start)
            if not all(type(key) is str and is_simple(decode(value)[0]) for key, value in application.items()):
                raise DecodeError("application properties have strings as names and simple values")
        elif code == HEADER:
            header = decode(data, start)[0]
            if not isinstance(header, list) or len(header) > 5:
                raise DecodeError("the header section must be a list")
            durable, priority, ttl = (header + [None] * 3)[:3]
            for value, limit in ((durable, 2), (priority, 1 << 8), (ttl, 1 << 32)):
                if value is not None and not (isinstance(value, int) and 0 <= value < limit):
                    raise DecodeError("a header field has a wrong value")
    for values in (for_delivery, annotations):
        for raw in values.values():
            decode(raw)
    return Content(bool(durable), priority, ttl, for_delivery, annotations, properties, application, b"".join(body))


def split_batch(data: bytes) -> list[bytes]:
    """The encoded messages inside an envelope of BATCH_FORMAT. Raises DecodeError."""
    messages = []
    for code, start, _end in sections(data):
        if code == DATA:
            value = decode(data, start)[0]
            if not isinstance(value, bytes):
                raise DecodeError("a data section must hold binary")
            messages.append(value)
    if not messages:
        raise DecodeError("a batch holds no message")
    return messages


@dataclass(frozen=True, slots=True)
class Request:
    """A request to `$cbs` or `$management`: `message_id` stays encoded, for the answer must repeat its type."""

    message_id: bytes
    reply_to: str | None
    properties: dict[str, Any]
    body: Any


def parse_request(data: bytes) -> Request:
    content = parse(data)
    values = decode(content.properties, 3)[0] if content.properties else []
    message_id = encode(values[0]) if values else b"\x40"
    reply_to = values[4] if len(values) > 4 else None
    body = None
    for code, start, _end in sections(content.body):
        if code in (VALUE, DATA, SEQUENCE):
            body = decode(content.body, start)[0]
            break
    return Request(message_id, reply_to if isinstance(reply_to, str) else None, content.application_values(), body)


def encode_answer(request: Request, properties: dict[str, Any], body: Any) -> bytes:
    return (
        _DESCRIPTORS[PROPERTIES]
        + encode_list([b"\x40"] * 5 + [request.message_id])
        + _DESCRIPTORS[APPLICATION_PROPERTIES]
        + encode(properties)
        + encode(Described(ULong(VALUE), body))
    )
