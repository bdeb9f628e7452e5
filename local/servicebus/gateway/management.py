"""The operations of an entity's `$management` node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from local.servicebus.amqp.message import Request
from local.servicebus.amqp.types import Array, Int, Symbol, Timestamp
from local.servicebus.gateway.envelope import draft, encoded, moment_of, timestamp
from local.servicebus.gateway.links import SessionReceiver, text_keys
from local.servicebus.gateway.requests import Answer
from local.servicebus.model.errors import ArgumentError, NotAllowed, ServiceBusError, SessionLockLost
from local.servicebus.model.message import Outcome
from local.servicebus.model.namespace import Entity
from local.servicebus.model.sessions import Session, SessionQueue
from local.servicebus.model.topic import Topic
from local.servicebus.model.world import Failure

_ALL_SESSIONS = 253_402_300_800_000  # year 10000: every session with messages or state
_MAX_ANSWER = 1 << 20  # bytes of messages in one answer to peek
_PREFIX = "com.microsoft:"


class Nothing(Exception):
    """204: there is nothing to return. `condition` names what is missing."""

    def __init__(self, condition: str) -> None:
        super().__init__(condition)
        self.condition = condition


class Management:
    """Answers requests for one entity. `held` gives the session receivers of the connection that asks."""

    def __init__(self, entity: Entity, held: Callable[[], Sequence[SessionReceiver]]) -> None:
        self._entity = entity
        self._held = held

    def answer(self, request: Request) -> Answer:
        operation = request.properties.get("operation")
        try:
            handler = _OPERATIONS.get(str(operation).removeprefix(_PREFIX))
            if handler is None:
                raise NotAllowed(f"The operation {str(operation)[:80]} is not supported.")
            if not isinstance(request.body, dict):
                raise ArgumentError("The request's body must be a map.")
            return _status(200, "OK"), handler(self, _Body(request.body))
        except Nothing as nothing:
            return _status(204, "NoContent", nothing.condition), {}
        except ServiceBusError as error:
            return _status(error.status, str(error), error.condition), {}

    # -- messages

    def renew_lock(self, body: _Body) -> dict[str, Any]:
        ends = [timestamp(self._queue.renew(token)) for token in body.uuids("lock-tokens")]
        return {"expirations": Array(ends, Timestamp)}

    def schedule(self, body: _Body) -> dict[str, Any]:
        drafts = []
        for entry in body.items("messages"):
            item = _Body(entry)
            drafts.append(draft(item.binary("message")))
        return {"sequence-numbers": Array(self._entity.send(drafts), int)}

    def cancel(self, body: _Body) -> dict[str, Any]:
        self._entity.cancel(body.longs("sequence-numbers"))
        return {}

    def peek(self, body: _Body) -> dict[str, Any]:
        session_id = body.text("session-id", required=False)
        found = self._entity.peek(body.whole("from-sequence-number"), body.whole("message-count"), session_id)
        if not found:
            raise Nothing("com.microsoft:message-not-found")
        messages: list[dict[str, Any]] = []
        size = 0
        for message in found:
            data = encoded(message)
            size += len(data)
            if messages and size > _MAX_ANSWER:
                break
            messages.append({"message": data})
        return {"messages": messages}

    def receive_by_sequence_number(self, body: _Body) -> dict[str, Any]:
        session_id = body.text("session-id", required=False)
        if isinstance(self._queue, SessionQueue):
            session_id = self._session(body).id
        found = self._queue.receive_deferred(
            body.longs("sequence-numbers"), peek_locks=body.whole("receiver-settle-mode") == 1, session_id=session_id
        )
        messages = []
        for message in found:
            entry: dict[str, Any] = {"message": encoded(message)}
            if message.lock is not None:
                entry["lock-token"] = message.lock.token
            messages.append(entry)
        return {"messages": messages}

    def update_disposition(self, body: _Body) -> dict[str, Any]:
        status = body.text("disposition-status")
        outcomes = {
            item.value: item for item in (Outcome.COMPLETE, Outcome.ABANDON, Outcome.DEFER, Outcome.DEAD_LETTER)
        }
        if status not in outcomes:
            raise ArgumentError(f"disposition-status {status!r} is not supported.")
        failure = Failure(
            body.text("deadletter-reason", required=False), body.text("deadletter-description", required=False)
        )
        changes = text_keys(body.value("properties-to-modify"))
        queue = self._queue
        session_id = self._session(body).id if isinstance(queue, SessionQueue) else None
        tokens = body.uuids("lock-tokens")
        for token in tokens:
            if queue.locked(token).session_id != session_id and session_id is not None:
                raise SessionLockLost("The message belongs to another session.")
        for token in tokens:
            queue.settle(token, outcomes[status], changes, failure)
        return {}

    # -- sessions

    def renew_session_lock(self, body: _Body) -> dict[str, Any]:
        session = self._session(body)
        return {"expiration": timestamp(self._sessions.renew_session(session))}

    def get_session_state(self, body: _Body) -> dict[str, Any]:
        return {"session-state": self._session(body).state}

    def set_session_state(self, body: _Body) -> dict[str, Any]:
        state = body.value("session-state")
        if state is not None and not isinstance(state, bytes):
            raise ArgumentError("session-state must be binary or null.")
        self._sessions.set_state(self._session(body), state)
        return {}

    def list_sessions(self, body: _Body) -> dict[str, Any]:
        since = body.whole("last-updated-time")
        after = None if since >= _ALL_SESSIONS else moment_of(since)
        skip = body.whole("skip")
        ids = self._sessions.list_sessions(after, skip, body.whole("top"))
        if not ids:
            raise Nothing("com.microsoft:session-not-found")
        return {"skip": Int(skip + len(ids)), "sessions-ids": Array(ids, str)}

    # -- which entity

    @property
    def _queue(self) -> Any:
        if isinstance(self._entity, Topic):
            raise NotAllowed("A topic has no messages to receive.")
        return self._entity

    @property
    def _sessions(self) -> SessionQueue:
        if not isinstance(self._entity, SessionQueue):
            raise NotAllowed("The entity has no sessions.")
        return self._entity

    def _session(self, body: _Body) -> Session:
        return self._sessions.session(str(body.text("session-id")), self._held())


_OPERATIONS: Mapping[str, Callable[[Management, _Body], dict[str, Any]]]


class _Body:
    """A request's map, read field by field. Raises ArgumentError with the field's name."""

    def __init__(self, values: Any) -> None:
        if not isinstance(values, dict):
            raise ArgumentError("A map is expected.")
        self._values = {str(key): value for key, value in values.items()}

    def value(self, name: str) -> Any:
        return self._values.get(name)

    def text(self, name: str, *, required: bool = True) -> str | None:
        value = self._values.get(name)
        if isinstance(value, str) or (value is None and not required):
            return value
        raise ArgumentError(f"{name} must be a string.")

    def whole(self, name: str) -> int:
        value = self._values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ArgumentError(f"{name} must be a whole number from 0 on.")
        return int(value)

    def binary(self, name: str) -> bytes:
        value = self._values.get(name)
        if not isinstance(value, bytes):
            raise ArgumentError(f"{name} must be binary.")
        return value

    def items(self, name: str) -> Sequence[Any]:
        value = self._values.get(name)
        if not isinstance(value, list):
            raise ArgumentError(f"{name} must be a list or array.")
        return value

    def longs(self, name: str) -> list[int]:
        values = self.items(name)
        if not all(isinstance(value, int) for value in values):
            raise ArgumentError(f"{name} must hold whole numbers.")
        return [int(value) for value in values]

    def uuids(self, name: str) -> list[UUID]:
        values = self.items(name)
        if not all(isinstance(value, UUID) for value in values):
            raise ArgumentError(f"{name} must hold uuids.")
        return list(values)


_OPERATIONS = {
    "renew-lock": Management.renew_lock,
    "schedule-message": Management.schedule,
    "cancel-scheduled-message": Management.cancel,
    "peek-message": Management.peek,
    "receive-by-sequence-number": Management.receive_by_sequence_number,
    "update-disposition": Management.update_disposition,
    "renew-session-lock": Management.renew_session_lock,
    "get-session-state": Management.get_session_state,
    "set-session-state": Management.set_session_state,
    "get-message-sessions": Management.list_sessions,
}


def _status(code: int, description: str, condition: str | None = None) -> dict[str, Any]:
    properties: dict[str, Any] = {"statusCode": Int(code), "statusDescription": description}
    if condition is not None:
        properties["errorCondition"] = Symbol(condition)
    return properties
