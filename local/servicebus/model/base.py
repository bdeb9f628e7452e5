"""What all queues do: take messages, settle, defer, schedule, expire, bury, show them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

from local.servicebus.model.errors import (
    ArgumentError,
    MessageLockLost,
    MessageNotFound,
    NotAllowed,
    ServiceBusError,
)
from local.servicebus.model.message import Draft, Lock, Message, MessageLog, MessageState, Outcome
from local.servicebus.model.settings import QueueSettings
from local.servicebus.model.world import Consumer, Counters, Failure, World

MAX_ID_LENGTH = 128
MAX_PEEK = 250


class Graves(Protocol):
    """A queue for messages that are done with, as far as their own queue is concerned."""

    def bury(self, message: Message, source: str) -> None:
        """Take over a message that left the queue `source`."""

    def __len__(self) -> int: ...


# What an outcome means for a message that stays: its next state (None: as it was), and whether the delivery failed.
_STAYING: dict[Outcome, tuple[MessageState | None, bool]] = {
    Outcome.ABANDON: (None, True),
    Outcome.DEFER: (MessageState.DEFERRED, True),
    Outcome.RELEASE: (None, False),
    Outcome.EXPIRE: (None, True),
}


class BaseQueue:
    """Everything but who gets which available message: that is the subclass's `_enter`, `_leave` and dispatching."""

    def __init__(self, name: str, settings: QueueSettings, world: World, dead_letters: Graves | None) -> None:
        self.name = name
        self.settings = settings
        self.dead_letters = dead_letters
        self.undeliverable: Graves | None = None  # where messages go that could not be forwarded
        self.counters = Counters()
        self._world = world
        self._messages = MessageLog()
        self._locked: dict[UUID, Message] = {}
        self._count = dict.fromkeys(MessageState, 0)
        self._remembered: OrderedDict[str, datetime] = OrderedDict()
        self._next_sequence = 1

    def __len__(self) -> int:
        return len(self._messages)

    def load(self) -> None:
        """Take over what the store holds, when the broker starts. Nothing is locked then."""
        saved = self._world.store.load(self.name)
        self._next_sequence = saved.next_sequence
        self._remembered = OrderedDict(saved.remembered)
        for message in saved.messages:
            self._add(message)

    # -- sending

    def send(self, drafts: Sequence[Draft]) -> list[int]:
        """Take all or none. Returns sequence numbers; a duplicate is accepted and dropped (number 0). Raises ServiceBusError."""
        for draft in drafts:
            self._check(draft)
        return [self._send(draft) for draft in drafts]

    def _check(self, draft: Draft) -> None:
        for field, value in (("message id", draft.message_id), ("session id", draft.session_id)):
            if value is not None and len(value) > MAX_ID_LENGTH:
                raise ArgumentError(f"The {field} has {len(value)} characters; {MAX_ID_LENGTH} are allowed.")

    def _send(self, draft: Draft) -> int:
        self.counters.sent += 1
        if self._is_duplicate(draft.message_id):
            self.counters.duplicates += 1
            return 0
        now = self._world.clock()
        scheduled = draft.scheduled_for if draft.scheduled_for and draft.scheduled_for > now else None
        message = Message(
            sequence=self._take_sequence(),
            content=draft.content,
            enqueued_at=scheduled or now,
            state=MessageState.SCHEDULED if scheduled else MessageState.ACTIVE,
            message_id=draft.message_id,
            session_id=draft.session_id,
            scheduled_for=draft.scheduled_for,
        )
        message.enqueued_sequence = message.sequence
        message.expires_at = self._expiry(message.enqueued_at, draft.ttl)
        if not scheduled and self._forwards(message):
            return message.sequence
        self._world.store.put(self.name, message)
        self._add(message)
        return message.sequence

    def _take_sequence(self) -> int:
        number = self._next_sequence
        self._next_sequence += 1
        self._world.store.set_next_sequence(self.name, self._next_sequence)
        return number

    def _expiry(self, start: datetime, ttl: timedelta | None) -> datetime | None:
        lives = [life for life in (ttl, self.settings.default_ttl) if life is not None]
        try:
            return start + min(lives) if lives else None
        except OverflowError:
            return None

    def _is_duplicate(self, message_id: str | None) -> bool:
        window = self.settings.duplicate_window
        if window is None or message_id is None:
            return False
        now = self._world.clock()
        while self._remembered and (oldest := next(iter(self._remembered.items())))[1] <= now:
            del self._remembered[oldest[0]]
            self._world.store.forget(self.name, oldest[0])
        if message_id in self._remembered:
            return True
        self._remembered[message_id] = now + window
        self._world.store.remember(self.name, message_id, now + window)
        return False

    def _forwards(self, message: Message) -> bool:
        target = self.settings.forward_to
        if target is None:
            return False
        self._forward(target, message)
        return True

    def _forward(self, target: str, message: Message) -> None:
        try:
            self._world.forward(target, [Draft(message.content, message.message_id, message.session_id)])
        except ServiceBusError as error:
            assert self.undeliverable is not None
            named = {"DeadLetterReason": type(error).__name__, "DeadLetterErrorDescription": str(error)}
            message.content = message.content.with_application_properties(named)
            self.undeliverable.bury(message, self.name)

    def _add(self, message: Message) -> None:
        self._messages.add(message)
        self._count[message.state] += 1
        if message.expires_at is not None and message.state is not MessageState.SCHEDULED:
            self._expire_later(message)
        if message.state is MessageState.SCHEDULED:
            message.expiry = self._world.agenda.at(message.enqueued_at, lambda: self._activate(message))
        elif message.state is MessageState.ACTIVE:
            self._enter(message)

    # -- scheduled messages

    def cancel(self, sequences: Iterable[int]) -> None:
        """Cancel scheduled messages, all or none. Raises MessageNotFound."""
        found = [self._messages.get(sequence) for sequence in sequences]
        scheduled = [message for message in found if message and message.state is MessageState.SCHEDULED]
        if len(scheduled) < len(found):
            raise MessageNotFound("A scheduled message was not found.")
        for message in scheduled:
            self._discard(message)

    def _activate(self, message: Message) -> None:
        self._move(message, MessageState.ACTIVE)
        message.expiry = None
        if self._forwards(message):
            self._discard(message)
            return
        self._world.store.put(self.name, message)
        if message.expires_at is not None:
            self._expire_later(message)
        self._enter(message)

    # -- delivery and settlement

    def _hand_over(self, message: Message, consumer: Consumer) -> None:
        """Give an available message to a consumer that has credit."""
        self.counters.delivered += 1
        if consumer.peek_locks:
            self._lock(message)
            consumer.deliver(message)
        else:
            self._discard(message)
            consumer.deliver(message)

    def _lock(self, message: Message) -> None:
        token = uuid4()
        until = self._world.clock() + self.settings.lock_duration
        expiry = self._world.agenda.at(until, lambda: self._lock_expired(token))
        message.lock = Lock(token, until, expiry)
        self._locked[token] = message

    def _lock_expired(self, token: UUID) -> None:
        self.counters.lock_expired += 1
        self.settle(token, Outcome.EXPIRE)

    def locked(self, token: UUID) -> Message:
        message = self._locked.get(token)
        if message is None:
            raise MessageLockLost(
                "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue."
            )
        return message

    def renew(self, token: UUID) -> datetime:
        """Extend a message's lock to now + lock duration; returns its new end. Raises MessageLockLost."""
        lock = self.locked(token).lock
        assert lock is not None
        if lock.expiry is None:
            raise NotAllowed("The message is locked by its session: renew that lock.")
        lock.expiry.cancel()
        lock.until = self._world.clock() + self.settings.lock_duration
        lock.expiry = self._world.agenda.at(lock.until, lambda: self._lock_expired(token))
        return lock.until

    def settle(
        self,
        token: UUID,
        outcome: Outcome,
        changes: dict[str, Any] | None = None,
        failure: Failure | None = None,
    ) -> None:
        """End a lock; `changes` are application properties to set, `failure` belongs to DEAD_LETTER.

        Raises MessageLockLost if the lock is not held any more.
        """
        message = self.locked(token)
        if outcome is Outcome.DEAD_LETTER and self.dead_letters is None:
            raise NotAllowed("A message in a dead-letter queue cannot be dead-lettered again.")
        self._unlock(message)
        if changes:
            message.content = message.content.with_application_properties(changes)
        if outcome is Outcome.COMPLETE:
            self.counters.completed += 1
            self._discard(message)
        elif outcome is Outcome.DEAD_LETTER:
            self._dead_letter(message, failure or Failure())
        else:
            self._stay(message, outcome, changed=bool(changes))

    def _unlock(self, message: Message) -> None:
        lock, message.lock = message.lock, None
        assert lock is not None
        del self._locked[lock.token]
        if lock.expiry is not None:
            lock.expiry.cancel()

    def _stay(self, message: Message, outcome: Outcome, *, changed: bool = False) -> None:
        state, failed = _STAYING[outcome]
        self.counters.abandoned += outcome is Outcome.ABANDON
        self.counters.deferrals += outcome is Outcome.DEFER
        message.delivery_count += failed
        limit = self.settings.max_delivery_count
        if failed and limit is not None and message.delivery_count >= limit:
            text = f"Message could not be consumed after {limit} delivery attempts."
            self._dead_letter(message, Failure("MaxDeliveryCountExceeded", text))
            return
        if state is not None:
            self._move(message, state)
        if failed or changed:
            self._world.store.put(self.name, message)
        if message.expires_at is not None and message.expires_at <= self._world.clock():
            self._expire(message)
        elif message.state is MessageState.ACTIVE:
            self._enter(message)

    def _dead_letter(self, message: Message, failure: Failure) -> None:
        self._discard(message)
        if self.dead_letters is None:
            return
        self.counters.dead_lettered += 1
        named = {"DeadLetterReason": failure.reason, "DeadLetterErrorDescription": failure.description}
        added = {key: value for key, value in named.items() if value is not None}
        if added:
            message.content = message.content.with_application_properties(added)
        if (target := self.settings.forward_dead_letters_to) is not None:
            self._forward(target, message)
        else:
            self.dead_letters.bury(message, self.name)

    # -- deferred messages

    def receive_deferred(
        self, sequences: Sequence[int], *, peek_locks: bool, session_id: str | None = None
    ) -> list[Message]:
        """Fetch deferred messages by number, all or none; locked, or deleted. Raises MessageNotFound."""
        found = []
        for sequence in sequences:
            message = self._messages.get(sequence)
            elsewhere = self.settings.requires_session and message is not None and message.session_id != session_id
            if message is None or message.state is not MessageState.DEFERRED or message.lock or elsewhere:
                raise MessageNotFound(f"The message with sequence number {sequence} is not deferred here.")
            found.append(message)
        for message in found:
            self.counters.delivered += 1
            if peek_locks:
                self._lock(message)
            else:
                self._discard(message)
        return found

    # -- looking

    def peek(self, since: int, count: int, session_id: str | None = None) -> list[Message]:
        """Up to `count` messages of any state from sequence number `since` on; nothing is locked."""
        log = self._log(session_id)
        result: list[Message] = []
        for message in log.since(since):
            if len(result) >= min(count, MAX_PEEK):
                break
            result.append(message)
        return result

    def _log(self, session_id: str | None) -> MessageLog:
        return self._messages

    def statistics(self) -> dict[str, int]:
        """Messages by what may happen to them now, and the counters."""
        locked = len(self._locked)
        deferred_locked = sum(message.state is MessageState.DEFERRED for message in self._locked.values())
        return {
            "active": self._count[MessageState.ACTIVE] - (locked - deferred_locked),
            "locked": locked,
            "scheduled": self._count[MessageState.SCHEDULED],
            "deferred": self._count[MessageState.DEFERRED] - deferred_locked,
            "dead_letters": len(self.dead_letters) if self.dead_letters is not None else 0,
            **{name: getattr(self.counters, name) for name in Counters.__slots__},
        }

    # -- leaving

    def _discard(self, message: Message) -> None:
        if message.expiry is not None:
            message.expiry.cancel()
            message.expiry = None
        self._messages.remove(message.sequence)
        self._count[message.state] -= 1
        self._world.store.remove(self.name, message.sequence)
        self._leave(message)

    def _move(self, message: Message, state: MessageState) -> None:
        self._count[message.state] -= 1
        message.state = state
        self._count[state] += 1

    def _expire_later(self, message: Message) -> None:
        assert message.expires_at is not None
        message.expiry = self._world.agenda.at(message.expires_at, lambda: self._expire(message))

    def _expire(self, message: Message) -> None:
        message.expiry = None
        if message.lock is not None:
            return  # it expires when the lock ends
        self.counters.expired += 1
        if self.settings.dead_letter_on_expiration:
            self._dead_letter(message, Failure("TTLExpiredException", "The message expired and was dead lettered."))
        else:
            self._discard(message)

    # -- the subclass's part

    def _enter(self, message: Message) -> None:
        """An active message is free to be delivered."""
        raise NotImplementedError

    def _leave(self, message: Message) -> None:
        """A message is gone from the queue."""
        raise NotImplementedError
