"""A namespace without a network: a clock that is moved by hand, consumers that keep what they get."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from local.servicebus.model.errors import ServiceBusError
from local.servicebus.model.message import Draft, Message
from local.servicebus.model.namespace import Namespace, Queue
from local.servicebus.model.settings import QueueSettings, TopicSettings
from local.servicebus.model.store import NoStore, Store

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Note:
    """The least a message can be."""

    text: str
    application: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)

    def with_application_properties(self, changes: dict[str, Any]) -> Self:
        return type(self)(self.text, self.application | changes, self.properties)

    def property_values(self) -> dict[str, Any]:
        return self.properties

    def application_values(self) -> dict[str, Any]:
        return self.application


def draft(text: str, **fields: Any) -> Draft:
    return Draft(Note(text), **fields)


def text(message: Message) -> str:
    assert isinstance(message.content, Note)
    return message.content.text


class World:
    def __init__(
        self,
        queues: dict[str, QueueSettings] | None = None,
        topics: dict[str, TopicSettings] | None = None,
        store: Store | None = None,
    ) -> None:
        self.now = START
        self.namespace = Namespace(queues or {}, topics or {}, clock=lambda: self.now, store=store or NoStore())

    def queue(self, name: str) -> Queue:
        return self.namespace.queue(name)

    def pass_time(self, **duration: float) -> None:
        """Move the clock on; what is due in between happens at its own time."""
        end = self.now + timedelta(**duration)
        agenda = self.namespace.agenda
        while (due := agenda.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            agenda.run_due(self.now)
        self.now = end


class Reader:
    """A consumer of a queue or session."""

    def __init__(self, credit: int = 0, *, peek_locks: bool = True) -> None:
        self.credit = credit
        self.peek_locks = peek_locks
        self.got: list[Message] = []
        self.session_id: str | None = None
        self.refusal: ServiceBusError | None = None
        self.loss: ServiceBusError | None = None

    def deliver(self, message: Message) -> None:
        assert self.credit > 0
        self.credit -= 1
        self.got.append(message)

    def granted(self, session: Any) -> None:
        self.session_id = session.id

    def refused(self, error: ServiceBusError) -> None:
        self.refusal = error

    def session_lost(self, error: ServiceBusError) -> None:
        self.loss = error

    def ask(self, queue: Queue, credit: int) -> Self:
        self.credit = credit
        queue.offer(self)
        return self

    @property
    def texts(self) -> list[str]:
        return [text(message) for message in self.got]


def token(message: Message) -> Any:
    assert message.lock is not None
    return message.lock.token
