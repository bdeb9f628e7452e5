"""Where the durable part of the model is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from local.servicebus.model.message import Message


@dataclass(frozen=True, slots=True)
class Saved:
    """What a store holds of one queue: messages by rising sequence, session states with the time they were set,
    message ids of duplicate detection with the time they are remembered until, in that order."""

    next_sequence: int = 1
    messages: list[Message] = field(default_factory=list)
    session_states: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    remembered: dict[str, datetime] = field(default_factory=dict)


class StoreError(Exception):
    """Nothing of a commit was written; the next commit tries again."""


class Store(Protocol):
    """Changes become durable together at commit()."""

    def load(self, queue: str) -> Saved: ...

    def put(self, queue: str, message: Message) -> None:
        """Insert or replace; written as it is at commit()."""

    def remove(self, queue: str, sequence: int) -> None: ...

    def set_next_sequence(self, queue: str, sequence: int) -> None: ...

    def set_session_state(self, queue: str, session_id: str, state: bytes | None, at: datetime) -> None: ...

    def remember(self, queue: str, message_id: str, until: datetime) -> None: ...

    def forget(self, queue: str, message_id: str) -> None: ...

    def commit(self) -> None:
        """Raises StoreError."""
        ...


class NoStore:
    """Nothing is kept: the broker starts empty."""

    def load(self, queue: str) -> Saved:
        return Saved()

    def put(self, queue: str, message: Message) -> None: ...

    def remove(self, queue: str, sequence: int) -> None: ...

    def set_next_sequence(self, queue: str, sequence: int) -> None: ...

    def set_session_state(self, queue: str, session_id: str, state: bytes | None, at: datetime) -> None: ...

    def remember(self, queue: str, message_id: str, until: datetime) -> None: ...

    def forget(self, queue: str, message_id: str) -> None: ...

    def commit(self) -> None: ...
