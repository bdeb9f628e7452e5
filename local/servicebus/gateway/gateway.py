"""What stands between connections and the namespace: turns, tokens, and the links an attach asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.servicebus.amqp import performatives as p
from local.servicebus.amqp.connection import Connection
from local.servicebus.amqp.link import Inbound, Link, address
from local.servicebus.amqp.message import Request
from local.servicebus.amqp.session import Session
from local.servicebus.amqp.types import Described, Int
from local.servicebus.faults import Faults
from local.servicebus.gateway.authorization import (
    Authority,
    Grant,
    Policy,
    audience_of,
    check_plain,
    check_token,
    covers,
    entity_path,
)
from local.servicebus.gateway.links import Sender, SessionReceiver, amqp_error, receiver
from local.servicebus.gateway.management import Management
from local.servicebus.gateway.requests import Answer, AnswerLink, RequestLink
from local.servicebus.model.agenda import Clock
from local.servicebus.model.errors import NotFound, NotImplementedByBroker, ServiceBusError, Unauthorized
from local.servicebus.model.namespace import Namespace
from local.servicebus.model.queue import DeadLetterQueue
from local.servicebus.model.store import Store, StoreError

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_CBS = "$cbs"
_MANAGEMENT = "/$management"


@dataclass(slots=True)
class _Client:
    """What the broker knows of a connection beyond AMQP."""

    granted: dict[str, Grant] = field(default_factory=dict)  # path -> what the token for it allows
    answers: list[AnswerLink] = field(default_factory=list)
    sessions: dict[SessionReceiver, None] = field(default_factory=dict)


class Gateway:
    """Owner of the connections: turns attaches into links, and writes answers only after the store has committed."""

    container_id = "local-servicebus"
    sasl_mechanisms: tuple[str, ...] = ("MSSBCBS", "PLAIN", "ANONYMOUS")

    def __init__(
        self,
        namespace: Namespace,
        store: Store,
        clock: Clock,
        policies: Mapping[str, Policy],
        faults: Faults,
        authority: Authority | None = None,
    ) -> None:
        self.namespace = namespace
        self.faults = faults
        self.clients: dict[Connection, _Client] = {}
        self.accepted_connections = 0
        self._store = store
        self._clock = clock
        self._policies = policies
        self._authority = authority
        self._loop = asyncio.get_running_loop()
        self._dirty: dict[Connection, None] = {}
        self._doomed: set[Connection] = set()  # to break when what they asked for is done but not answered
        self._flush_is_due = False
        self._alarm: asyncio.TimerHandle | None = None

    # -- turns: changes, commit, then writing

    def changed(self) -> None:
        """Something happened: commit and write at the end of this turn of the loop, together with all else that happens in it."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def wrote(self, connection: Connection) -> None:
        self._dirty[connection] = None
        self.changed()

    def _flush(self) -> None:
        self._flush_is_due = False
        try:
            self._store.commit()
        except StoreError:  # a full disk, say: acknowledge nothing until it takes what was said
            log.exception("the store could not be written; trying again")
            self._loop.call_later(_RETRY_S, self.changed)
            return
        dirty, self._dirty = self._dirty, {}
        doomed, self._doomed = self._doomed, set()
        for connection in doomed:
            connection.drop()
        for connection in dirty:
            connection.flush(self.faults.dials.delay_ms / 1000)
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        due = self.namespace.agenda.next_due()
        if due is not None:
            seconds = (due - self._clock()).total_seconds()
            # A far alarm is set again on the way: timers of the loop do not reach across months.
            self._alarm = self._loop.call_later(min(max(seconds, 0), 3600), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.namespace.agenda.run_due(self._clock())
        self.changed()

    # -- connections

    def connected(self, connection: Connection) -> None:
        self.accepted_connections += 1
        self.clients[connection] = _Client()

    def disconnected(self, connection: Connection) -> None:
        self.clients.pop(connection, None)
        self.changed()

    def authenticates(self, connection: Connection, mechanism: str, response: bytes) -> bool:
        """Name and key of a policy with PLAIN; with the other mechanisms the claim comes to $cbs later."""
        if mechanism == "PLAIN":
            grant = check_plain(response, self._policies)
            if grant is None:
                return False
            self.clients[connection].granted[""] = grant
        return True

    def received(self, connection: Connection, performative: p.Performative) -> bool:
        self.changed()
        if isinstance(performative, p.Transfer | p.Disposition) and self.faults.strikes(
            self.faults.dials.drop_connection
        ):
            if self.faults.tosses_heads():
                connection.drop()
                return False
            self._doomed.add(connection)
        return True

    def link(self, session: Session, attach: p.Attach) -> Link:
        try:
            return self._receiving(session, attach) if attach.role else self._sending(session, attach)
        except ServiceBusError as error:
            raise amqp_error(error) from error

    def _sending(self, session: Session, attach: p.Attach) -> Inbound:
        if isinstance(attach.target, Described) and attach.target.descriptor == p.COORDINATOR:
            raise NotImplementedByBroker("Transactions are not supported.")
        path = self._path(attach.target)
        client = self.clients[session.connection]

        def find(link: RequestLink, request: Request) -> AnswerLink | None:
            fitting = [answers for answers in client.answers if answers.node == link.node]
            named = [answers for answers in fitting if answers.reply_to == request.reply_to]
            candidates = named or fitting
            return candidates[-1] if candidates else None

        if path == _CBS:
            return RequestLink(session, attach, path, self._put_token, find)
        if path.endswith(_MANAGEMENT):
            self._authorize(client, path, "Listen", "Send")
            entity = self.namespace.entity(path.removesuffix(_MANAGEMENT))
            management = Management(entity, lambda: list(client.sessions))
            return RequestLink(session, attach, path, lambda link, request: management.answer(request), find)
        self._authorize(client, path, "Send")
        self.faults.refuse_busy()
        entity = self.namespace.entity(path)
        if isinstance(entity, DeadLetterQueue) or "/subscriptions/" in path:
            raise NotImplementedByBroker(f"Messages cannot be sent to {entity.name}.")
        return Sender(session, attach, entity, self.faults.refuse_busy)

    def _receiving(self, session: Session, attach: p.Attach) -> Link:
        path = self._path(attach.source)
        client = self.clients[session.connection]
        if path == _CBS or path.endswith(_MANAGEMENT):
            if path != _CBS:
                self._authorize(client, path, "Listen", "Send")
                self.namespace.entity(path.removesuffix(_MANAGEMENT))
            answers = AnswerLink(session, attach, path, client.answers.remove)
            client.answers.append(answers)
            return answers
        self._authorize(client, path, "Listen")
        self.faults.refuse_busy()
        link = receiver(session, attach, self.namespace.queue(path))
        if isinstance(link, SessionReceiver):
            client.sessions[link] = None
            link.on_delivery = lambda: self._endanger(link)
            link.on_release = lambda: client.sessions.pop(link, None)
        return link

    def _endanger(self, link: SessionReceiver) -> None:
        if self.faults.strikes(self.faults.dials.lose_session_lock):
            self._loop.call_soon(link.lose)
            self.changed()

    def _path(self, terminus: Any) -> str:
        name = address(terminus)
        if not name:
            raise NotFound("A link needs the address of an entity.")
        return entity_path(name)

    def _authorize(self, client: _Client, path: str, *rights: str) -> None:
        """Raises Unauthorized unless a token that was put for the path allows one of the rights."""
        now = self._clock()
        for granted, grant in client.granted.items():
            if covers(granted, path) and grant.end > now and not grant.rights.isdisjoint(rights):
                return
        raise Unauthorized(f"Unauthorized access. '{' or '.join(rights)}' claims are required on '{path}'.")

    def _put_token(self, link: RequestLink, request: Request) -> Answer:
        try:
            if request.properties.get("operation") != "put-token":
                raise NotImplementedByBroker("put-token is the only operation of $cbs.")
            audience = audience_of(request.properties.get("name"))
            grant = check_token(request.body, audience, self._policies, self._clock(), self._authority)
            path = entity_path(audience)
            if path:
                self.namespace.entity(path.removesuffix(_MANAGEMENT))
        except ServiceBusError as error:
            # Without a condition: clients that find one here do not read the description.
            return {"status-code": Int(error.status), "status-description": str(error)}, None
        self.clients[link.session.connection].granted[path] = grant
        return {"status-code": Int(202), "status-description": "Accepted"}, None
