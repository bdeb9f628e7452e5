"""The broker in virtual time: the model of the local Service Bus, without the network, behind what we use of the SDK."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

from azure.servicebus import ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusConnectionError

from benchmarks.chaos.world import World
from local.servicebus.model.errors import ServiceBusError
from local.servicebus.model.message import Draft, Message, Outcome
from local.servicebus.model.namespace import Namespace
from local.servicebus.model.queue import PlainQueue
from local.servicebus.model.sessions import Session, SessionQueue
from local.servicebus.model.settings import QueueSettings
from local.servicebus.model.store import Saved

EVENTS, CHANGES, NOTICES = "dataverse-events", "loyalty-changes", "loyalty-notices"
_SETTINGS = {
    EVENTS: QueueSettings(),
    CHANGES: QueueSettings(requires_session=True),
    NOTICES: QueueSettings(duplicate_window=timedelta(minutes=5)),
}


@dataclass(frozen=True, slots=True)
class Content:
    body: bytes
    properties: dict[str, Any] = field(default_factory=dict)
    correlation_id: str | None = None
    subject: str | None = None

    def with_application_properties(self, changes: dict[str, Any]) -> "Content":
        return dataclasses.replace(self, properties=self.properties | changes)

    def property_values(self) -> dict[str, Any]:
        return {}

    def application_values(self) -> dict[str, Any]:
        return self.properties


class Disk:
    """What survives a broker that is killed: everything that was acknowledged, and nothing of locks."""

    def __init__(self) -> None:
        self._messages: dict[str, OrderedDict[int, Message]] = {}
        self._next: dict[str, int] = {}
        self._remembered: dict[str, dict[str, datetime]] = {}

    def load(self, queue: str) -> Saved:
        messages = [
            dataclasses.replace(m, lock=None, expiry=None) for _, m in sorted(self._messages.get(queue, {}).items())
        ]
        return Saved(self._next.get(queue, 1), messages, {}, self._remembered.get(queue, {}))

    def put(self, queue: str, message: Message) -> None:
        self._messages.setdefault(queue, OrderedDict())[message.sequence] = message

    def remove(self, queue: str, sequence: int) -> None:
        self._messages.get(queue, OrderedDict()).pop(sequence, None)

    def set_next_sequence(self, queue: str, sequence: int) -> None:
        self._next[queue] = sequence

    def set_session_state(self, queue: str, session_id: str, state: bytes | None, at: datetime) -> None: ...

    def remember(self, queue: str, message_id: str, until: datetime) -> None:
        self._remembered.setdefault(queue, {})[message_id] = until

    def forget(self, queue: str, message_id: str) -> None:
        self._remembered.get(queue, {}).pop(message_id, None)

    def commit(self) -> None: ...


class Consumer:
    """A link: plain or of a session. `got` are deliveries that wait; `wake` is called when something changed."""

    peek_locks = True

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self.credit = 0
        self.got: list[Received] = []
        self.session: Session | None = None
        self.ended = False
        self.wake = wake

    def deliver(self, message: Message) -> None:
        self.credit -= 1
        self.got.append(Received(message))
        self.wake()

    def granted(self, session: Session) -> None:
        self.session = session
        self.wake()

    def refused(self, error: ServiceBusError) -> None:
        self.ended = True
        self.wake()

    def session_lost(self, error: ServiceBusError) -> None:
        self.session, self.ended = None, True
        self.wake()


class Bus:
    """The namespace. `restart` kills the broker and starts it again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._disk = Disk()
        self.links: dict[Consumer, None] = {}  # a set has another order in each run
        self.restarts = 0
        self.down_until = world.now()
        self.heard: set[str | None] = set()  # ids of the notices that were taken
        self.namespace = self._start()
        world.next_due = lambda: self.namespace.agenda.next_due()
        world.run_due = lambda now: self.namespace.agenda.run_due(now)

    def _start(self) -> Namespace:
        return Namespace(_SETTINGS, {}, clock=self._world.now, store=self._disk)

    def restart(self, seconds: float) -> None:
        self.restarts += 1
        self.down_until = self._world.now() + timedelta(seconds=seconds)
        self.namespace = self._start()
        links, self.links = self.links, {}
        for link in links:
            link.session, link.ended = None, True
            link.got.clear()
            self._world.after(0, link.wake)

    @property
    def down(self) -> bool:
        return self._world.now() < self.down_until

    def plain(self, name: str) -> PlainQueue:
        found = self.namespace.queue(name)
        assert isinstance(found, PlainQueue)
        return found

    @property
    def sessions(self) -> SessionQueue:
        found = self.namespace.queue(CHANGES)
        assert isinstance(found, SessionQueue)
        return found

    def put(self, queue: str, drafts: Sequence[Draft]) -> None:
        """Raises the SDK's error while the broker is down."""
        if self.down:
            raise ServiceBusConnectionError(message="the broker is away")
        self.namespace.entity(queue).send(drafts)

    def take_notices(self) -> None:
        """Whoever waits for notices takes all there are."""
        link, queue = Consumer(), self.plain(NOTICES)
        link.credit = 2**31
        queue.offer(link)
        for message in link.got:
            assert message.token
            self.heard.add(message.message_id)
            queue.settle(message.token, Outcome.COMPLETE)
        queue.withdraw(link)

    def lose_a_lock(self) -> None:
        """Some session that is being worked on is taken from its holder."""
        held = sorted((link.session for link in self.links if link.session), key=lambda session: session.id)
        if held:
            self.sessions.lose(self._world.random.choice(held))

    @property
    def waiting(self) -> dict[str, int]:
        """Messages that somebody must still work on, and dead ones."""
        found = {}
        for name in (EVENTS, CHANGES):
            counts = self.namespace.queue(name).statistics()
            found[name] = counts["active"] + counts["locked"]
            found[f"{name} dead"] = counts["dead_letters"]
        return found


class Client:
    """What the connector asks of `ServiceBusClient`. `hop` is the network: it takes time, and may fail."""

    def __init__(self, bus: Bus, hop: Callable[[], None]) -> None:
        self._bus = bus
        self._hop = hop

    def get_queue_sender(self, queue: str) -> "Sender":
        return Sender(self._bus, queue, self._hop)

    def get_queue_receiver(self, queue: str, *, sub_queue: Any = None, **_: Any) -> "Receiver":
        return Receiver(self._bus, f"{queue}/$DeadLetterQueue" if sub_queue else queue, self._hop)

    def close(self) -> None: ...


class _Closing:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None: ...


class Sender(_Closing):
    def __init__(self, bus: Bus, queue: str, hop: Callable[[], None]) -> None:
        self._bus, self._queue, self._hop = bus, queue, hop

    def send_messages(self, messages: ServiceBusMessage | Iterable[ServiceBusMessage]) -> None:
        drafts = [_draft(m) for m in ([messages] if isinstance(messages, ServiceBusMessage) else messages)]
        self._hop()
        self._bus.put(self._queue, drafts)
        self._hop()


class Received:
    """What functions and the second round see of a message: as the SDK and the worker show it."""

    def __init__(self, message: Message) -> None:
        content = message.content
        assert isinstance(content, Content)
        self.token = message.lock.token if message.lock else None
        self.body = content.body
        self.application_properties = dict(content.properties)
        self.session_id, self.message_id = message.session_id, message.message_id
        self.correlation_id, self.subject, self.content_type = content.correlation_id, content.subject, None
        self.dead_letter_reason = content.properties.get("DeadLetterReason")
        self.dead_letter_error_description = content.properties.get("DeadLetterErrorDescription")
        self.delivery_count = message.delivery_count + 1
        self.enqueued_time_utc = message.enqueued_at
        self.sequence_number = message.sequence

    def get_body(self) -> bytes:
        return self.body


class Receiver(_Closing):
    def __init__(self, bus: Bus, queue: str, hop: Callable[[], None]) -> None:
        self._bus, self._queue, self._hop = bus, queue, hop
        self._link = Consumer()

    def peek_messages(self, count: int, *, sequence_number: int = 1) -> list[Received]:
        self._hop()
        return [Received(m) for m in self._bus.plain(self._queue).peek(sequence_number, count)]

    def receive_messages(self, count: int, max_wait_time: float) -> list[Received]:
        self._hop()
        self._link.credit = count
        self._bus.plain(self._queue).offer(self._link)
        got, self._link.got, self._link.credit = self._link.got, [], 0
        self._bus.plain(self._queue).offer(self._link)
        return got

    def complete_message(self, message: Received) -> None:
        self._settle(message, Outcome.COMPLETE)

    def abandon_message(self, message: Received) -> None:
        self._settle(message, Outcome.ABANDON)

    def close(self) -> None:
        self._bus.plain(self._queue).withdraw(self._link)

    def _settle(self, message: Received, outcome: Outcome) -> None:
        self._hop()
        if message.token:
            self._bus.plain(self._queue).settle(message.token, outcome)


def _draft(message: ServiceBusMessage) -> Draft:
    body = b"".join(message.body)
    properties = {
        (name.decode() if isinstance(name, bytes) else name): value
        for name, value in (message.application_properties or {}).items()
    }
    content = Content(body, properties, message.correlation_id, message.subject)
    return Draft(content, message.message_id, message.session_id, size=len(body))
