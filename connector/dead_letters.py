"""The second round for dead letters: when Dataverse answers again, they are sent again, in order.

A dead letter of ours is a message whose every delivery failed: Dataverse was away for longer than deliveries last, or our
code has a fault. The first is over by itself; the second is not, so after some rounds the message becomes a parked row of the
integration log, with a reason, that a person can resume.

Both queues' dead letters are sent as one sequence, by the time at which each first came. They are looked at and sent first and
completed then: a crash between sends some of them twice, which does no harm.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from connector.bus import Change, ChangeError
from connector.bus.change import ROUND
from connector.bus.sender import change_message
from connector.dataverse import BadRequest, DataverseClient, Transient, Unauthorized, Upsert
from connector.dataverse.context import ContextError
from connector.dataverse.odata import utc
from connector.listening import Listener
from connector.logs import redact
from connector.loyalty.decisions import parked
from connector.loyalty.ledger import State
from connector.loyalty.sentences import say
from connector.rows.log import dead_letter_write, log_write, report_write, unreadable_write
from connector.settings import Settings
from connector.tracing import carrier
from connector.watch import dead_letters, peeked

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusReceivedMessage

_log = logging.getLogger("loyalty.dead_letters")

ROUNDS = 3
_SENT_ON = "LoyaltySentOn"
_CAME_ON = "LoyaltyCameOn"  # when it first came: what is sent again is enqueued anew
_OF_THE_SERVICE = ("DeadLetterReason", "DeadLetterErrorDescription")
_AT_ONCE = 50
_EPOCH = datetime.min.replace(tzinfo=UTC)
_PATIENCE = 10.0  # seconds for a message that is there to arrive; opening the link counts


@dataclass(slots=True)
class Round:
    """What a round did. `answers` is false when Dataverse was still away, and nothing was tried."""

    answers: bool = True
    sent: int = 0
    parked: int = 0
    by_queue: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.answers:
            return "Dead letters: Dataverse does not answer yet; they wait."
        queues = ", ".join(f"{n} from {queue}" for queue, n in self.by_queue.items() if n)
        parked = f"; {self.parked} failed in {ROUNDS} rounds and are parked" if self.parked else ""
        return f"Dead letters: {self.sent} sent again ({queues or 'there were none'}){parked}."


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in a dead-letter queue, as shown to a person."""

    queue: str
    session: str
    reason: str
    description: str
    round: int
    enqueued_on: datetime | None


class DeadLetters:
    """`clock` tells aware UTC time."""

    def __init__(
        self,
        bus: ServiceBusClient,
        client: DataverseClient,
        listener: Listener,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self._bus = bus
        self._listener = listener
        self._client = client
        self._queues = self._events_queue, self._changes_queue = settings.events_queue, settings.changes_queue
        self._clock = clock

    def waiting(self) -> Iterator[DeadLetter]:
        """Oldest first; they stay where they are."""
        for queue in self._queues:
            for message in dead_letters(self._bus, queue):
                yield DeadLetter(
                    queue=queue,
                    session=message.session_id or "",
                    reason=message.dead_letter_reason or "",
                    description=redact(message.dead_letter_error_description or ""),
                    round=_round(message),
                    enqueued_on=message.enqueued_time_utc,
                )

    def resubmit(self) -> Round:
        """Send every dead letter again, once. Those of one customer keep their order; a crash sends some of them twice."""
        done = Round()
        try:
            self._client.request("GET", "WhoAmI", deadline=5)
        except Transient:
            done.answers = False
            return done
        started = self._clock()
        stamp = started.isoformat()
        with ExitStack() as links:
            queues = {queue: _Queue(queue, self._bus, links) for queue in self._queues}
            stuck: set[tuple[str, int | None]] = set()
            while letters := _letters(queues, stamp, stuck):
                sent: dict[str, set[int | None]] = defaultdict(set)
                try:
                    for queue, message in letters:
                        if self._tried(queues, queue, message, stamp, done):
                            sent[queue].add(message.sequence_number)
                        else:
                            stuck.add((queue, message.sequence_number))
                finally:
                    completed = [queues[queue].complete(numbers) for queue, numbers in sent.items()]
                if not all(completed):
                    break
        if done.sent or done.parked:
            self._client.commit([report_write("dead letters", str(done), did_something=True, now=started)])
        return done

    def _tried(
        self, queues: Mapping[str, _Queue], queue: str, message: ServiceBusReceivedMessage, stamp: str, done: Round
    ) -> bool:
        """False when this one message can be neither sent nor logged: it stays where it is, and holds nobody up."""
        from azure.servicebus.exceptions import MessageSizeExceededError

        try:
            self._send_again(queues, queue, message, stamp, done)
        except (BadRequest, MessageSizeExceededError, ValueError, TypeError):
            _log.exception("dead letter %s of %s stays", message.sequence_number, queue)
            return False
        return True

    def _send_again(
        self, queues: Mapping[str, _Queue], queue: str, message: ServiceBusReceivedMessage, stamp: str, done: Round
    ) -> None:
        number = _round(message) + 1
        changes, fault = self._changes(queue, message)
        rows = self._log_rows(queue, message, changes, fault, number if number <= ROUNDS else None)
        if rows:
            # First: whatever becomes of it afterwards is newer than this.
            self._client.commit(rows)
        if number > ROUNDS:
            done.parked += 1
            return
        again: dict[str | bytes, Any] = {
            ROUND: number,
            _SENT_ON: stamp,
            _CAME_ON: _came_on(message).isoformat(),
        }
        if queue == self._events_queue and changes:
            # Past its own queue, where it would be overtaken by changes that are younger.
            properties = {**carrier(), **again}
            queues[self._changes_queue].sender.send_messages([change_message(one, properties) for one in changes])
        else:
            queues[queue].sender.send_messages(_copy(message, again))
        done.sent += 1
        done.by_queue[queue] = done.by_queue.get(queue, 0) + 1

    def _changes(self, queue: str, message: ServiceBusReceivedMessage) -> tuple[list[Change], str]:
        """What a message leads to; or why it cannot be read, be it our fault."""
        try:
            if queue != self._events_queue:
                return [Change.parse(_body(message))], ""
            trimmed = str(_properties(message).get("MessageMaxSizeExceeded", "")).lower() == "true"
            return self._listener.read(_body(message), trimmed=trimmed), ""
        except (Transient, Unauthorized):
            raise
        except (ChangeError, ContextError) as error:
            return [], str(error)
        except Exception as error:
            _log.exception("a dead letter cannot be looked at")
            return [], f"message: {type(error).__name__}"

    def _log_rows(
        self, queue: str, message: ServiceBusReceivedMessage, changes: list[Change], fault: str, number: int | None
    ) -> list[Upsert]:
        """Log rows that can be resumed: one for each change that the message leads to. `number` None: this was the last round."""
        now = self._clock()
        if fault:
            # It is tried again as it is, and whoever cannot read it then says so.
            if number is not None:
                return []
            return [unreadable_write(_body(message).decode("utf-8", "replace"), queue=queue, error=fault, now=now)]
        why = redact(f"{message.dead_letter_reason}: {message.dead_letter_error_description}")[:1000]
        deliveries = message.delivery_count or 0
        changes = [change for change in changes if not change.check]
        if number is not None:
            sentence = say("message.dead_lettered", queue=queue, round=number, rounds=ROUNDS, why=why)
            decision = parked(State(), sentence, reason="dead_letter", field="", next_step=say("next.wait"))
            return [dead_letter_write(change, decision, attempt=deliveries, now=now) for change in changes]
        sentence = say("message.failed", queue=queue, rounds=ROUNDS + 1, why=why)
        decision = parked(State(), sentence, reason="failed_again", field="", next_step=say("next.failure"))
        return [log_write(change, decision, attempt=deliveries, duration=0.0, now=now) for change in changes]


class _Queue:
    """The links of a queue: to send to it, and to complete its dead letters."""

    def __init__(self, name: str, bus: ServiceBusClient, links: ExitStack) -> None:
        from azure.servicebus import ServiceBusSubQueue

        self.sender = links.enter_context(bus.get_queue_sender(name))
        self.dead = links.enter_context(bus.get_queue_receiver(name, sub_queue=ServiceBusSubQueue.DEAD_LETTER))

    def complete(self, numbers: Collection[int | None]) -> bool:
        """Complete dead letters by sequence number; false when somebody else holds some of them."""
        left = set(numbers)
        others: list[ServiceBusReceivedMessage] = []
        try:
            while left:
                messages = self.dead.receive_messages(min(_AT_ONCE, len(left)), max_wait_time=_PATIENCE)
                if not messages:
                    return False
                for message in messages:
                    if message.sequence_number in left:
                        self.dead.complete_message(message)
                        left.discard(message.sequence_number)
                    else:
                        others.append(message)  # kept until the end: given back now, it would come again at once
        finally:
            for message in others:
                self.dead.abandon_message(message)
        return True


def _letters(
    queues: Mapping[str, _Queue], stamp: str, stuck: Collection[tuple[str, int | None]]
) -> list[tuple[str, ServiceBusReceivedMessage]]:
    """The first thousand of each queue without those sent in this round or `stuck`, in the order in which they first came."""
    found = [(name, message) for name, queue in queues.items() for message in peeked(queue.dead)]
    fresh = [
        (name, message)
        for name, message in found
        if _properties(message).get(_SENT_ON) != stamp and (name, message.sequence_number) not in stuck
    ]
    return sorted(fresh, key=lambda letter: _came_on(letter[1]))


def _copy(message: ServiceBusReceivedMessage, more: Mapping[str | bytes, Any]) -> ServiceBusMessage:
    from azure.servicebus import ServiceBusMessage

    kept: dict[str | bytes, Any] = {
        name: value for name, value in _properties(message).items() if name not in _OF_THE_SERVICE
    }
    return ServiceBusMessage(
        _body(message),
        session_id=message.session_id,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        subject=message.subject,
        content_type=message.content_type,
        application_properties={**kept, **more},
    )


def _properties(message: ServiceBusReceivedMessage) -> dict[str, Any]:
    """Names come as bytes or text, and so do values."""
    return {_text(name): _text(value) for name, value in (message.application_properties or {}).items()}


def _round(message: ServiceBusReceivedMessage) -> int:
    """How often it was sent again. Whoever may send may write anything there."""
    number = _properties(message).get(ROUND)
    return number if isinstance(number, int) and number > 0 else 0


def _came_on(message: ServiceBusReceivedMessage) -> datetime:
    """When it first came to its queue, as the round before it noted; whoever may send may write anything there."""
    try:
        return utc(_properties(message)[_CAME_ON])
    except (KeyError, TypeError, ValueError, OverflowError):
        return message.enqueued_time_utc or _EPOCH


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _body(message: ServiceBusReceivedMessage) -> bytes:
    """Whatever section the sender chose: strangers may send a value instead of data."""
    body = message.body
    if isinstance(body, bytes):
        return body
    try:
        return b"".join(body)
    except TypeError:
        return str(message).encode()
