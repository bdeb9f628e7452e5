"""The properties of a queue or subscription that change its rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from local.servicebus.model.message import Draft

type Rule = Callable[[Draft], bool]
"""Whether a subscription takes a message."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Defaults are those of the cloud service, not of its emulator (which forgets messages after an hour)."""

    lock_duration: timedelta = timedelta(seconds=60)
    max_delivery_count: int | None = 10  # None: without end, as in a dead-letter queue
    default_ttl: timedelta | None = None
    dead_letter_on_expiration: bool = False
    requires_session: bool = False
    duplicate_window: timedelta | None = None
    forward_to: str | None = None
    forward_dead_letters_to: str | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    queue: QueueSettings = QueueSettings()
    rules: dict[str, Rule] = field(default_factory=dict)  # none: takes everything


@dataclass(frozen=True, slots=True)
class TopicSettings:
    duplicate_window: timedelta | None = None
    default_ttl: timedelta | None = None
    subscriptions: dict[str, SubscriptionSettings] = field(default_factory=dict)
