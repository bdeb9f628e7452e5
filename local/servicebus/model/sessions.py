"""A queue with sessions: a receiver holds one session at a time and alone gets its messages, in order."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

from local.servicebus.model.agenda import Appointment
from local.servicebus.model.base import BaseQueue, Graves
from local.servicebus.model.errors import (
    AcceptTimeout,
    NotAllowed,
    ServiceBusError,
    SessionCannotBeLocked,
    SessionLockLost,
)
from local.servicebus.model.message import Draft, Lock, Message, MessageLog, MessageState, Outcome
from local.servicebus.model.settings import QueueSettings
from local.servicebus.model.world import Consumer, Failure, World

LOCK_GRACE = timedelta(
    seconds=1
)  # the lock is announced exactly and taken a little later: clients race against its end
DEFAULT_ACCEPT_WAIT = timedelta(seconds=65)


class SessionConsumer(Consumer, Protocol):
    def granted(self, session: Session) -> None:
        """The session that was asked for is locked for this consumer."""

    def refused(self, error: ServiceBusError) -> None:
        """No session will be granted."""

    def session_lost(self, error: ServiceBusError) -> None:
        """The lock is gone; the consumer must end."""


@dataclass(slots=True)
class SessionLock:
    holder: SessionConsumer
    until: datetime
    expiry: Appointment
    messages: set[UUID] = field(default_factory=set)  # lock tokens of what was delivered under it


@dataclass(slots=True, eq=False)
class Session:
    id: str
    state: bytes | None = None
    state_set_at: datetime | None = None
    lock: SessionLock | None = None
    messages: MessageLog = field(default_factory=MessageLog)
    available: list[int] = field(
        default_factory=list
    )  # heap of sequence numbers; numbers of messages that left may linger


class SessionQueue(BaseQueue):
    """Free sessions with messages wait in a queue of their own, in the order in which they became free and non-empty."""

    def __init__(self, name: str, settings: QueueSettings, world: World, dead_letters: Graves | None) -> None:
        super().__init__(name, settings, world, dead_letters)
        self._sessions: dict[str, Session] = {}
        self._ready: OrderedDict[str, Session] = OrderedDict()
        self._waiting: OrderedDict[SessionConsumer, Appointment] = OrderedDict()
        self._held: dict[SessionConsumer, Session] = {}

    def load(self) -> None:
        for session_id, (state, set_at) in self._world.store.load(self.name).session_states.items():
            session = self._session(session_id)
            session.state, session.state_set_at = state, set_at
        super().load()

    def statistics(self) -> dict[str, int]:
        counts = {
            "sessions": len(self._sessions),
            "sessions_locked": len(self._held),
            "sessions_ready": len(self._ready),
        }
        return super().statistics() | counts | {"accepts_waiting": len(self._waiting)}

    def _check(self, draft: Draft) -> None:
        super()._check(draft)
        if draft.session_id is None:
            raise NotAllowed(
                "The SessionId was not set on a message, and it cannot be sent to the entity. "
                "Entities with session support take only messages that have the SessionId set to a valid value."
            )

    # -- accepting and releasing sessions

    def accept(self, consumer: SessionConsumer, session_id: str | None, wait: timedelta = DEFAULT_ACCEPT_WAIT) -> None:
        """Lock a session for a consumer: the one named, at once or not at all; or the next free one, within `wait`."""
        if session_id is not None:
            session = self._session(session_id)
            if session.lock is not None:
                consumer.refused(
                    SessionCannotBeLocked(
                        f"The requested session '{session_id}' cannot be accepted. It may be locked by another receiver."
                    )
                )
            else:
                self._grant(session, consumer)
        elif self._ready:
            self._grant(next(iter(self._ready.values())), consumer)
        else:
            self._waiting[consumer] = self._world.agenda.at(self._world.clock() + wait, lambda: self._give_up(consumer))

    def _give_up(self, consumer: SessionConsumer) -> None:
        del self._waiting[consumer]
        consumer.refused(
            AcceptTimeout("The operation did not complete within the allotted timeout: no session was free.")
        )

    def _grant(self, session: Session, consumer: SessionConsumer) -> None:
        self._ready.pop(session.id, None)
        until, expiry = self._lock_period(session)
        session.lock = SessionLock(consumer, until, expiry)
        self._held[consumer] = session
        consumer.granted(session)

    def _lock_period(self, session: Session) -> tuple[datetime, Appointment]:
        until = self._world.clock() + self.settings.lock_duration
        return until, self._world.agenda.at(until + LOCK_GRACE, lambda: self.lose(session))

    def release(self, consumer: SessionConsumer) -> None:
        """A consumer ends, or gives up waiting. What it had not settled is available again, delivery counts unchanged."""
        waiting = self._waiting.pop(consumer, None)
        if waiting is not None:
            waiting.cancel()
        session = self._held.get(consumer)
        if session is not None:
            self._free(session, Outcome.RELEASE)

    def lose(self, session: Session) -> None:
        """A session's lock ends under its holder. What it had not settled counts as failed deliveries."""
        if session.lock is not None:
            holder = session.lock.holder
            self.counters.lock_expired += 1
            self._free(session, Outcome.EXPIRE)
            holder.session_lost(
                SessionLockLost(f"The session lock has expired on the session '{session.id}'. Accept a new session.")
            )

    def _free(self, session: Session, outcome: Outcome) -> None:
        lock = session.lock
        assert lock is not None
        # While the lock stands, messages that come back are not dispatched; they go to the next holder.
        lock.expiry.cancel()
        del self._held[lock.holder]
        for token in sorted(lock.messages, key=lambda token: self._locked[token].sequence):
            message = self._locked[token]
            BaseQueue._unlock(self, message)
            self._stay(message, outcome)
        session.lock = None
        self._settle_place(session)

    def held_by(self, consumer: SessionConsumer) -> Session | None:
        return self._held.get(consumer)

    def session(self, session_id: str, consumers: object) -> Session:
        """The session if its lock is held by one of `consumers` (a container of them). Raises SessionLockLost."""
        session = self._sessions.get(session_id)
        if session is None or session.lock is None or session.lock.holder not in consumers:  # type: ignore[operator]
            raise SessionLockLost(f"The session lock on '{session_id}' is not held by this receiver.")
        return session

    def renew_session(self, session: Session) -> datetime:
        """Extend a held session's lock to now + lock duration; returns its new end."""
        lock = session.lock
        assert lock is not None
        lock.expiry.cancel()
        lock.until, lock.expiry = self._lock_period(session)
        return lock.until

    def set_state(self, session: Session, state: bytes | None) -> None:
        session.state = state
        session.state_set_at = self._world.clock()
        self._world.store.set_session_state(self.name, session.id, state, session.state_set_at)

    def list_sessions(self, state_set_after: datetime | None, skip: int, top: int) -> list[str]:
        """Ids of sessions that have messages or state (None), or whose state was set after a time."""
        if state_set_after is None:
            ids = [s.id for s in self._sessions.values() if len(s.messages) or s.state is not None]
        else:
            ids = [s.id for s in self._sessions.values() if s.state_set_at and s.state_set_at > state_set_after]
        return ids[skip : skip + top]

    # -- messages

    def offer(self, consumer: SessionConsumer) -> None:
        """A consumer's credit has changed."""
        session = self._held.get(consumer)
        if session is not None:
            self._dispatch(session)

    def settle(
        self,
        token: UUID,
        outcome: Outcome,
        changes: dict[str, Any] | None = None,
        failure: Failure | None = None,
    ) -> None:
        message = self._locked.get(token)
        if message is None:
            raise SessionLockLost("The session lock was lost, or the message is settled already.")
        super().settle(token, outcome, changes, failure)

    def _session(self, session_id: str) -> Session:
        session = self._sessions.get(session_id)
        if session is None:
            session = self._sessions[session_id] = Session(session_id)
        return session

    def _log(self, session_id: str | None) -> MessageLog:
        if session_id is None:
            return self._messages
        session = self._sessions.get(session_id)
        return session.messages if session is not None else MessageLog()

    def _lock(self, message: Message) -> None:
        lock = self._session_of(message).lock
        assert lock is not None
        token = uuid4()
        message.lock = Lock(token, lock.until, None)
        lock.messages.add(token)
        self._locked[token] = message

    def _unlock(self, message: Message) -> None:
        lock = self._session_of(message).lock
        if lock is not None and message.lock is not None:
            lock.messages.discard(message.lock.token)
        super()._unlock(message)

    def _session_of(self, message: Message) -> Session:
        assert message.session_id is not None
        return self._sessions[message.session_id]

    def _add(self, message: Message) -> None:
        assert message.session_id is not None
        self._session(message.session_id).messages.add(message)
        super()._add(message)

    def _enter(self, message: Message) -> None:
        session = self._session_of(message)
        heapq.heappush(session.available, message.sequence)
        if session.lock is None:
            self._settle_place(session)
        elif session.lock.holder in self._held:
            self._dispatch(session)

    def _leave(self, message: Message) -> None:
        session = self._session_of(message)
        session.messages.remove(message.sequence)
        if session.lock is None:
            self._settle_place(session)

    def _settle_place(self, session: Session) -> None:
        """Put an unlocked session where it belongs: to a waiting consumer, among the ready, aside, or out of memory."""
        if self._next_available(session) is None:
            self._ready.pop(session.id, None)
            if not len(session.messages) and session.state is None:
                del self._sessions[session.id]
        elif self._waiting:
            consumer, deadline = self._waiting.popitem(last=False)
            deadline.cancel()
            self._grant(session, consumer)
        else:
            self._ready.setdefault(session.id, session)

    def _next_available(self, session: Session) -> Message | None:
        while session.available:
            message = session.messages.get(session.available[0])
            if message is not None and message.state is MessageState.ACTIVE:
                return message
            heapq.heappop(session.available)
        return None

    def _dispatch(self, session: Session) -> None:
        while session.lock is not None and session.lock.holder.credit > 0:
            message = self._next_available(session)
            if message is None:
                return
            heapq.heappop(session.available)
            self._hand_over(message, session.lock.holder)
