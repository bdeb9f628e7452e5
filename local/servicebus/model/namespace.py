"""The entities of a namespace by their paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from local.servicebus.model.agenda import Agenda, Clock
from local.servicebus.model.errors import NotAllowed, NotFound
from local.servicebus.model.message import Draft
from local.servicebus.model.queue import DeadLetterQueue, PlainQueue
from local.servicebus.model.sessions import SessionQueue
from local.servicebus.model.settings import QueueSettings, TopicSettings
from local.servicebus.model.store import Store
from local.servicebus.model.topic import Topic
from local.servicebus.model.world import World

type Queue = PlainQueue | SessionQueue
type Entity = Queue | Topic

_MAX_FORWARDS = 4  # the service's limit of hops


class Namespace:
    """All entities, built from settings and loaded from the store. Names are compared without regard to case."""

    def __init__(
        self,
        queues: Mapping[str, QueueSettings],
        topics: Mapping[str, TopicSettings],
        *,
        clock: Clock,
        store: Store,
    ) -> None:
        self.agenda = Agenda()
        self._forwarding = 0
        self._world = World(clock, self.agenda, store, self._forward)
        self._entities: dict[str, Entity] = {}
        self.queues: dict[str, Queue] = {}
        for name, settings in queues.items():
            self._add_queue(name, settings)
        for name, topic_settings in topics.items():
            topic = Topic(name, topic_settings, self._world)
            self._entities[name.lower()] = topic
            for subscription, terms in topic_settings.subscriptions.items():
                queue = self._add_queue(f"{name}/Subscriptions/{subscription}", terms.queue)
                topic.subscribe(queue, terms.rules)
        for queue in self.queues.values():
            queue.load()

    def _add_queue(self, name: str, settings: QueueSettings) -> Queue:
        dead_letters = DeadLetterQueue(f"{name}/$DeadLetterQueue", settings.lock_duration, self._world)
        undeliverable = DeadLetterQueue(f"{name}/$Transfer/$DeadLetterQueue", settings.lock_duration, self._world)
        kind = SessionQueue if settings.requires_session else PlainQueue
        queue = kind(name, settings, self._world, dead_letters)
        queue.undeliverable = undeliverable
        for entity in (queue, dead_letters, undeliverable):
            self._entities[entity.name.lower()] = entity
            self.queues[entity.name] = entity
        return queue

    def entity(self, path: str) -> Entity:
        """The queue, dead-letter queue, subscription or topic at a path. Raises NotFound."""
        found = self._entities.get(path.strip("/").lower())
        if found is None:
            raise NotFound(f"The messaging entity '{path}' could not be found.")
        return found

    def queue(self, path: str) -> Queue:
        """An entity to receive from. Raises NotFound."""
        found = self.entity(path)
        if isinstance(found, Topic):
            raise NotFound(f"The messaging entity '{path}' is a topic: receive from its subscriptions.")
        return found

    def statistics(self) -> dict[str, dict[str, int]]:
        return {
            name: queue.statistics() for name, queue in self.queues.items() if not isinstance(queue, DeadLetterQueue)
        }

    def _forward(self, name: str, drafts: Sequence[Draft]) -> None:
        if self._forwarding == _MAX_FORWARDS:
            raise NotAllowed(f"A message may be forwarded {_MAX_FORWARDS} times.")
        self._forwarding += 1
        try:
            target = self.entity(name)
            target.send(drafts)
        finally:
            self._forwarding -= 1
