"""Received AMQP messages as the trigger hands them to the worker: body and metadata in the types of extension 5.x."""

import datetime
import uuid
from dataclasses import dataclass
from typing import Any

from proton import Message

from local.functions.values import TypedData, moment, typed

_NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Received:
    """`locked_until` in Unix seconds, None where the session holds the lock."""

    body: TypedData
    metadata: dict[str, TypedData]
    lock_token: uuid.UUID | None
    locked_until: float | None


class Reader:
    """Keeps one proton message for all that it reads: making one costs more than decoding into it."""

    def __init__(self) -> None:
        self._message: Any = Message()

    def read(self, raw: bytes, binary: bool) -> Received:
        """`binary` as the binding's data type says; text is decoded with replacement, as the extension does."""
        message = self._message
        message.decode(raw)
        annotations, token = message.annotations or {}, (message.instructions or {}).get("x-opt-lock-token")
        until = annotations.get("x-opt-locked-until")
        lock_token = token if isinstance(token, uuid.UUID) else None
        return Received(
            _body(message.body, binary),
            _metadata(message, annotations, lock_token),
            lock_token,
            until / 1000 if until else None,
        )


def _metadata(message: Any, annotations: dict[str, Any], lock_token: uuid.UUID | None) -> dict[str, TypedData]:
    """Absent values are left out; times have no offset."""
    texts = {
        "MessageId": message.id,
        "SessionId": message.group_id,
        "Subject": message.subject,
        "Label": message.subject,
        "CorrelationId": message.correlation_id,
        "To": message.address,
        "ContentType": None if message.content_type == "None" else message.content_type,  # proton's word for absent
        "ReplyTo": message.reply_to,
        "ReplyToSessionId": message.reply_to_group_id,
        "PartitionKey": annotations.get("x-opt-partition-key"),
        "LockToken": lock_token,
        "DeadLetterSource": annotations.get("x-opt-deadletter-source"),
    }
    found = {name: typed(str(value)) for name, value in texts.items() if value is not None and value != ""}
    found["DeliveryCount"] = typed(message.delivery_count + 1)  # .NET counts the delivery itself
    found["SequenceNumber"] = typed(int(annotations.get("x-opt-sequence-number") or 0))
    if enqueued := annotations.get("x-opt-enqueued-time"):
        at = datetime.datetime.fromtimestamp(enqueued / 1000, datetime.UTC)
        found["EnqueuedTimeUtc"] = moment(at)
        found["ExpiresAtUtc"] = moment(at + datetime.timedelta(seconds=message.ttl) if message.ttl else _NEVER)
    properties = {str(name): _value(value) for name, value in (message.properties or {}).items()}
    found["ApplicationProperties"] = found["UserProperties"] = typed(properties)
    return found


def _body(body: object, binary: bool) -> TypedData:
    if not isinstance(body, bytes | memoryview):
        body = b"" if body is None else str(body).encode()
    content = bytes(body)
    return TypedData(bytes=content) if binary else TypedData(string=content.decode("utf-8", "replace"))


def _value(value: Any) -> Any:
    """AMQP's timestamp is a kind of int in proton, and its binaries are views into memory that goes away."""
    if type(value).__name__ == "timestamp":
        return datetime.datetime.fromtimestamp(int(value) / 1000, datetime.UTC)
    return bytes(value) if isinstance(value, memoryview) else value
