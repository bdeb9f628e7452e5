"""Messages, their states and locks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, IntEnum
from typing import Any, Protocol, Self
from uuid import UUID

from local.servicebus.model.agenda import Appointment


class Content(Protocol):
    """The message itself, opaque to the model but for its application properties."""

    def with_application_properties(self, changes: dict[str, Any]) -> Self: ...

    def property_values(self) -> dict[str, Any]: ...

    def application_values(self) -> dict[str, Any]: ...


class MessageState(IntEnum):
    """The numbers are those of the annotation x-opt-message-state."""

    ACTIVE = 0
    DEFERRED = 1
    SCHEDULED = 2


class Outcome(Enum):
    """How a lock on a message ends."""

    COMPLETE = "completed"
    ABANDON = "abandoned"
    DEFER = "defered"
    DEAD_LETTER = "suspended"
    RELEASE = "released"
    EXPIRE = "expired"


@dataclass(frozen=True, slots=True)
class Draft:
    """A message as a sender hands it in."""

    content: Content
    message_id: str | None = None
    session_id: str | None = None
    ttl: timedelta | None = None
    scheduled_for: datetime | None = None
    size: int = 0  # bytes


@dataclass(slots=True)
class Lock:
    token: UUID
    until: datetime
    expiry: Appointment | None  # None: the lock of its session holds the message


@dataclass(slots=True, eq=False)
class Message:
    """One message in one queue. All fields but `lock` and `expiry` are durable."""

    sequence: int
    content: Content
    enqueued_at: datetime
    state: MessageState = MessageState.ACTIVE
    delivery_count: int = 0
    message_id: str | None = None
    session_id: str | None = None
    expires_at: datetime | None = None
    scheduled_for: datetime | None = None
    dead_letter_source: str | None = None
    enqueued_sequence: int = 0  # its number in the entity it was sent to first
    lock: Lock | None = field(default=None, repr=False)
    expiry: Appointment | None = field(default=None, repr=False)


class MessageLog:
    """Messages by sequence number, in order. Numbers must be added in rising order."""

    def __init__(self) -> None:
        self._messages: dict[int, Message] = {}
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._messages)

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._messages

    def get(self, sequence: int) -> Message | None:
        return self._messages.get(sequence)

    def add(self, message: Message) -> None:
        self._messages[message.sequence] = message
        self._order.append(message.sequence)

    def remove(self, sequence: int) -> None:
        del self._messages[sequence]
        if len(self._order) > 64 and len(self._order) > 2 * len(self._messages):
            self._order = list(self._messages)

    def since(self, sequence: int) -> Iterator[Message]:
        for index in range(bisect_left(self._order, sequence), len(self._order)):
            message = self._messages.get(self._order[index])
            if message is not None:
                yield message
