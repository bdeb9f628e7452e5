"""A topic: what is sent to it is copied into each subscription that one of whose rules takes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from local.servicebus.model.base import BaseQueue
from local.servicebus.model.message import Draft, Message
from local.servicebus.model.queue import PlainQueue
from local.servicebus.model.sessions import SessionQueue
from local.servicebus.model.settings import QueueSettings, Rule, TopicSettings
from local.servicebus.model.world import World

type Subscription = PlainQueue | SessionQueue


class Topic(BaseQueue):
    """Scheduled messages wait in the topic, duplicates are found there; everything else happens in the subscriptions."""

    def __init__(self, name: str, settings: TopicSettings, world: World) -> None:
        own = QueueSettings(default_ttl=settings.default_ttl, duplicate_window=settings.duplicate_window)
        super().__init__(name, own, world, None)
        self._subscriptions: list[tuple[Subscription, dict[str, Rule]]] = []

    def subscribe(self, queue: Subscription, rules: Mapping[str, Rule]) -> None:
        self._subscriptions.append((queue, dict(rules)))

    def rules(self, queue: Subscription) -> dict[str, Rule]:
        return next(rules for subscription, rules in self._subscriptions if subscription is queue)

    def _check(self, draft: Draft) -> None:
        super()._check(draft)
        for queue in self._takers(draft):
            queue._check(draft)

    def _takers(self, draft: Draft) -> Iterable[Subscription]:
        for queue, rules in self._subscriptions:
            if not rules or any(rule(draft) for rule in rules.values()):
                yield queue

    def _enter(self, message: Message) -> None:
        remaining: timedelta | None = None
        if message.expires_at is not None:
            remaining = message.expires_at - message.enqueued_at
        draft = Draft(message.content, message.message_id, message.session_id, remaining, message.scheduled_for)
        takers: Sequence[Subscription] = list(self._takers(draft))
        self._discard(message)
        for queue in takers:
            queue.send([replace(draft)])

    def _leave(self, message: Message) -> None:
        pass
