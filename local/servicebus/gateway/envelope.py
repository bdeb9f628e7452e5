"""Messages between their AMQP form and the model's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from local.servicebus.amqp.message import Content, parse
from local.servicebus.amqp.types import DecodeError, Int, Symbol, Timestamp, decode, encode
from local.servicebus.model.errors import InvalidField
from local.servicebus.model.message import Draft, Message

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MICROSECOND = timedelta(microseconds=1)
_TICKS_AT_EPOCH = 621_355_968_000_000_000  # .NET ticks (100 ns) from year 1

_SCHEDULED = Symbol("x-opt-scheduled-enqueue-time")
_SEQUENCE = Symbol("x-opt-sequence-number")
_ENQUEUED_SEQUENCE = Symbol("x-opt-enqueue-sequence-number")
_ENQUEUED_AT = Symbol("x-opt-enqueued-time")
_LOCKED_UNTIL = Symbol("x-opt-locked-until")
_STATE = Symbol("x-opt-message-state")
_DEAD_LETTER_SOURCE = Symbol("x-opt-deadletter-source")
_LOCK_TOKEN = Symbol("x-opt-lock-token")
_OURS = (_SCHEDULED, _SEQUENCE, _ENQUEUED_SEQUENCE, _ENQUEUED_AT, _LOCKED_UNTIL, _STATE, _DEAD_LETTER_SOURCE)


def timestamp(moment: datetime) -> Timestamp:
    """Milliseconds since 1970."""
    return Timestamp((moment - _EPOCH) // _MILLISECOND)


def ticks(moment: datetime) -> int:
    """.NET ticks."""
    return _TICKS_AT_EPOCH + (moment - _EPOCH) // _MICROSECOND * 10


def moment_of(milliseconds: int) -> datetime:
    """Raises InvalidField beyond the years of the calendar."""
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError as error:
        raise InvalidField("A time lies outside the years 1 to 9999.") from error


def draft(data: bytes) -> Draft:
    """An encoded message as a sender hands it in. Raises InvalidField."""
    try:
        content = parse(data)
        properties = content.property_values()
        scheduled = content.annotations.get(_SCHEDULED)
        at = decode(scheduled)[0] if scheduled is not None else None
    except DecodeError as error:
        raise InvalidField(f"The message is not valid AMQP: {error}") from error
    if at is not None and not isinstance(at, int):
        raise InvalidField("x-opt-scheduled-enqueue-time must be a timestamp.")
    session_id = properties.get("group-id")
    if session_id is not None and type(session_id) is not str:
        raise InvalidField("group-id must be a string.")
    for key in _OURS:  # what an earlier delivery wrote does not travel on
        content.annotations.pop(key, None)
    content.delivery_annotations.pop(_LOCK_TOKEN, None)
    message_id = properties.get("message-id")
    if message_id is None:  # the service names what its sender did not
        message_id = uuid4().hex
        content = content.with_message_id(message_id)
    return Draft(
        content=content,
        message_id=_text(message_id),
        session_id=session_id,
        ttl=None if content.ttl is None else timedelta(milliseconds=content.ttl),
        scheduled_for=None if at is None else moment_of(at),
        size=len(data),
    )


def _text(message_id: Any) -> str:
    return message_id.hex() if isinstance(message_id, bytes) else str(message_id)


def encoded(message: Message) -> bytes:
    """A message as it is delivered or peeked."""
    content = message.content
    assert isinstance(content, Content)
    annotations: dict[Any, bytes] = {
        _SEQUENCE: encode(message.sequence),
        _ENQUEUED_SEQUENCE: encode(message.enqueued_sequence),
        _ENQUEUED_AT: encode(timestamp(message.enqueued_at)),
        _STATE: encode(Int(message.state)),
    }
    if message.scheduled_for is not None:
        annotations[_SCHEDULED] = encode(timestamp(message.scheduled_for))
    if message.dead_letter_source is not None:
        annotations[_DEAD_LETTER_SOURCE] = encode(message.dead_letter_source)
    token: dict[Any, bytes] | None = None
    if message.lock is not None:
        annotations[_LOCKED_UNTIL] = encode(timestamp(message.lock.until))
        token = {_LOCK_TOKEN: encode(message.lock.token)}
    return content.encode(delivery_count=message.delivery_count, annotations=annotations, delivery_annotations=token)
