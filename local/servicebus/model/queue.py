"""A queue without sessions, and the dead-letter queue that every queue has."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from datetime import timedelta

from local.servicebus.model.base import BaseQueue, Graves
from local.servicebus.model.message import Message
from local.servicebus.model.settings import QueueSettings
from local.servicebus.model.world import Consumer, World


class PlainQueue(BaseQueue):
    """Competing consumers take turns; messages go out in the order of their sequence numbers."""

    def __init__(self, name: str, settings: QueueSettings, world: World, dead_letters: Graves | None) -> None:
        super().__init__(name, settings, world, dead_letters)
        self._available: list[int] = []
        self._hungry: OrderedDict[Consumer, None] = OrderedDict()

    def offer(self, consumer: Consumer) -> None:
        """A consumer's credit has changed."""
        if consumer.credit > 0:
            self._hungry.setdefault(consumer)
            self._dispatch()
        else:
            self._hungry.pop(consumer, None)

    def withdraw(self, consumer: Consumer) -> None:
        """A consumer is gone. What it had not settled stays locked until the locks end."""
        self._hungry.pop(consumer, None)

    def _enter(self, message: Message) -> None:
        heapq.heappush(self._available, message.sequence)
        self._dispatch()

    def _leave(self, message: Message) -> None:
        if not len(self._messages):
            self._available.clear()

    def _dispatch(self) -> None:
        while self._available and self._hungry:
            consumer = next(iter(self._hungry))
            if consumer.credit <= 0:
                del self._hungry[consumer]
                continue
            message = self._messages.get(heapq.heappop(self._available))
            if message is None:
                continue  # expired while it waited
            self._hungry.move_to_end(consumer)
            self._hand_over(message, consumer)


class DeadLetterQueue(PlainQueue):
    """The sub-queue of messages that could not be handled: no expiry, no limit of deliveries, no dead letters of its own."""

    def __init__(self, name: str, lock_duration: timedelta, world: World) -> None:
        settings = QueueSettings(lock_duration=lock_duration, max_delivery_count=None)
        super().__init__(name, settings, world, None)

    def bury(self, message: Message, source: str) -> None:
        """Take over a message that left its queue."""
        buried = Message(
            sequence=self._take_sequence(),
            content=message.content,
            enqueued_at=message.enqueued_at,
            delivery_count=message.delivery_count,
            message_id=message.message_id,
            session_id=message.session_id,
            dead_letter_source=source,
            enqueued_sequence=message.enqueued_sequence,
        )
        self.counters.sent += 1
        self._world.store.put(self.name, buried)
        self._add(buried)
