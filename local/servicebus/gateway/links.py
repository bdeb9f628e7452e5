"""Links to entities: senders, receivers, receivers of a session."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from local.servicebus.amqp import performatives as p
from local.servicebus.amqp.link import Inbound, Outbound, source_filters, with_filter
from local.servicebus.amqp.message import BATCH_FORMAT, split_batch
from local.servicebus.amqp.performatives import AmqpError
from local.servicebus.amqp.session import Session as AmqpSession
from local.servicebus.amqp.types import DecodeError, Described, Symbol, is_simple
from local.servicebus.gateway.envelope import draft, encoded, ticks
from local.servicebus.model.errors import InvalidField, NotAllowed, ServiceBusError
from local.servicebus.model.message import Message, Outcome
from local.servicebus.model.namespace import Entity, Queue
from local.servicebus.model.queue import PlainQueue
from local.servicebus.model.sessions import DEFAULT_ACCEPT_WAIT, Session, SessionQueue
from local.servicebus.model.world import Failure

SESSION_FILTER = "com.microsoft:session-filter"
_TIMEOUT = "com.microsoft:timeout"
_MAX_WAIT_MS = 24 * 3_600_000
_LOCKED_UNTIL = Symbol("com.microsoft:locked-until-utc")
_REASON, _DESCRIPTION = "DeadLetterReason", "DeadLetterErrorDescription"

_ACCEPTED = p.outcome(p.ACCEPTED)
_ECHOES = {
    p.ACCEPTED: _ACCEPTED,
    p.REJECTED: p.outcome(p.REJECTED),  # without an error: an error would mean that dead-lettering failed
    p.RELEASED: p.outcome(p.RELEASED),
    p.MODIFIED: p.outcome(p.MODIFIED),
}


def amqp_error(error: ServiceBusError) -> AmqpError:
    return AmqpError(error.condition, str(error))


class Sender(Inbound):
    """The client sends messages to a queue or topic."""

    def __init__(self, session: AmqpSession, attach: p.Attach, entity: Entity, refuse_busy: Callable[[], None]) -> None:
        super().__init__(session, attach)
        self._entity = entity
        self._refuse_busy = refuse_busy

    def received(self, message: bytes, message_format: int) -> bytes:
        try:
            self._refuse_busy()
            messages = split_batch(message) if message_format == BATCH_FORMAT else [message]
            self._entity.send([draft(item) for item in messages])
        except DecodeError as error:
            raise AmqpError("amqp:decode-error", f"The message is not valid AMQP: {error}") from error
        except ServiceBusError as error:
            raise amqp_error(error) from error
        return _ACCEPTED


class Receiver(Outbound):
    """The client receives from a queue without sessions."""

    queue: Queue

    def __init__(self, session: AmqpSession, attach: p.Attach, queue: Queue) -> None:
        super().__init__(session, attach)
        self.queue = queue

    @property
    def peek_locks(self) -> bool:
        return not self.sends_settled

    def deliver(self, message: Message) -> None:
        tag = message.lock.token.bytes_le if message.lock is not None else message.sequence.to_bytes(16)
        self.send(tag, encoded(message))

    def credited(self) -> None:
        assert isinstance(self.queue, PlainQueue)
        self.queue.offer(self)

    def released(self) -> None:
        super().released()
        assert isinstance(self.queue, PlainQueue)
        self.queue.withdraw(self)

    def settled(self, number: int, tag: bytes, state: Any) -> bytes:
        try:
            return self._settle(UUID(bytes_le=tag), state)
        except ServiceBusError as error:
            raise amqp_error(error) from error

    def _settle(self, token: UUID, state: Any) -> bytes:
        code = state.descriptor if isinstance(state, Described) else p.RELEASED  # settled without a word: given back
        fields = state.value if isinstance(state, Described) and isinstance(state.value, list) else []
        settle = self.queue.settle
        if code == p.ACCEPTED:
            settle(token, Outcome.COMPLETE)
        elif code == p.RELEASED:
            settle(token, Outcome.RELEASE)
        elif code == p.MODIFIED:
            undeliverable_here = len(fields) > 1 and fields[1] is True
            changes = text_keys(fields[2]) if len(fields) > 2 else {}
            settle(token, Outcome.DEFER if undeliverable_here else Outcome.ABANDON, changes)
        elif code == p.REJECTED:
            failure, changes = _failure(fields[0] if fields else None)
            settle(token, Outcome.DEAD_LETTER, changes, failure)
        elif code == p.TRANSACTIONAL_STATE:
            raise AmqpError("amqp:not-implemented", "Transactions are not supported.")
        else:
            raise AmqpError("amqp:not-implemented", f"Delivery state {str(code)[:40]} is not supported.")
        return _ECHOES[code]


class SessionReceiver(Receiver):
    """The client receives from one session; the attach is answered when the session is granted."""

    on_delivery: Callable[[], None] = staticmethod(lambda: None)
    on_release: Callable[[], object] = staticmethod(lambda: None)

    def deliver(self, message: Message) -> None:
        super().deliver(message)
        self.on_delivery()

    def lose(self) -> None:
        """Take the session away before its lock ends."""
        assert isinstance(self.queue, SessionQueue)
        session = self.queue.held_by(self)
        if session is not None:
            self.queue.lose(session)

    def attached(self) -> None:
        assert isinstance(self.queue, SessionQueue)
        session_id = source_filters(self.attach.source)[SESSION_FILTER]
        self.queue.accept(self, session_id, self._wait())

    def _wait(self) -> timedelta:
        properties = self.attach.properties
        wait = properties.get(_TIMEOUT) if isinstance(properties, dict) else None
        return (
            timedelta(milliseconds=min(wait, _MAX_WAIT_MS))
            if isinstance(wait, int) and wait >= 0
            else DEFAULT_ACCEPT_WAIT
        )

    def granted(self, session: Session) -> None:
        assert session.lock is not None
        source = with_filter(self.attach.source, SESSION_FILTER, session.id)  # type: ignore[arg-type]
        self.accept(source=source, properties={_LOCKED_UNTIL: ticks(session.lock.until)})
        self.credited()

    def refused(self, error: ServiceBusError) -> None:
        self.refuse(amqp_error(error))

    def session_lost(self, error: ServiceBusError) -> None:
        self.detach(amqp_error(error))

    def credited(self) -> None:
        assert isinstance(self.queue, SessionQueue)
        self.queue.offer(self)

    def released(self) -> None:
        Outbound.released(self)
        assert isinstance(self.queue, SessionQueue)
        self.queue.release(self)
        self.on_release()


def receiver(session: AmqpSession, attach: p.Attach, queue: Queue) -> Receiver:
    """The receiver a source asks for. Raises ServiceBusError if it does not fit the queue."""
    filters = source_filters(attach.source)
    if isinstance(queue, PlainQueue):
        if SESSION_FILTER in filters:
            raise NotAllowed(
                "A sessionful message receiver cannot be created on an entity that does not require sessions."
            )
        return Receiver(session, attach, queue)
    if SESSION_FILTER not in filters:
        raise NotAllowed(
            "It is not possible for an entity that requires sessions to create a non-sessionful message receiver."
        )
    wanted = filters[SESSION_FILTER]
    if wanted is not None and type(wanted) is not str:
        raise InvalidField("The session filter must hold a string or null.")
    return SessionReceiver(session, attach, queue)


def text_keys(value: Any) -> dict[str, Any]:
    """A map of properties: text as names, simple values. Raises InvalidField."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) and is_simple(item) for key, item in value.items()):
        raise InvalidField("Properties must be a map with text as names and simple values.")
    return {str(key): item for key, item in value.items()}


def _failure(error: Any) -> tuple[Failure, dict[str, Any]]:
    """Reason and description of a rejection, and the further properties it sets."""
    info: dict[str, Any] = {}
    if isinstance(error, Described) and isinstance(error.value, list) and len(error.value) > 2:
        info = text_keys(error.value[2])
    reason, description = info.pop(_REASON, None), info.pop(_DESCRIPTION, None)
    return Failure(*(value if isinstance(value, str) else None for value in (reason, description))), info
