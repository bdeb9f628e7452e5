"""What queues share with one another and with their receivers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from local.servicebus.model.agenda import Agenda, Clock
from local.servicebus.model.message import Draft, Message
from local.servicebus.model.store import Store


class Consumer(Protocol):
    """A receiver, as the model sees it."""

    @property
    def credit(self) -> int: ...

    @property
    def peek_locks(self) -> bool:
        """False: it receives and deletes."""
        ...

    def deliver(self, message: Message) -> None:
        """Take a message; takes one of the credit."""
        ...


@dataclass(slots=True)
class Counters:
    """Events since the broker started."""

    sent: int = 0
    duplicates: int = 0
    delivered: int = 0
    completed: int = 0
    abandoned: int = 0
    deferrals: int = 0
    dead_lettered: int = 0
    expired: int = 0
    lock_expired: int = 0


@dataclass(frozen=True, slots=True)
class World:
    """What all queues of a namespace share. `forward` sends drafts to another entity by name."""

    clock: Clock
    agenda: Agenda
    store: Store
    forward: Callable[[str, Sequence[Draft]], None]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message goes to the dead-letter queue."""

    reason: str | None = None
    description: str | None = None
