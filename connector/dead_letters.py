"""The second round for dead letters: when Dataverse answers again, they are sent again, in order.

A dead letter of ours is a message whose every delivery failed: Dataverse was away for longer than deliveries last, or our
code has a fault. The first is over by itself; the second is not, so after some rounds the message becomes a parked row of the
integration log, with a reason, that a person can resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from connector.bus import Change, ChangeError
from connector.bus.change import ROUND
from connector.dataverse import DataverseClient, Transient, Upsert
from connector.dataverse.context import ContextError
from connector.listening import Listener
from connector.logs import redact
from connector.loyalty.decisions import parked
from connector.loyalty.ledger import State
from connector.loyalty.sentences import say
from connector.rows.log import dead_letter_write, log_write, report_write, unreadable_write
from connector.settings import Settings
from connector.watch import dead_letters

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusReceivedMessage

ROUNDS = 3
_SENT_ON = "LoyaltySentOn"
_OF_THE_SERVICE = ("DeadLetterReason", "DeadLetterErrorDescription")
_AT_ONCE = 50
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
        self._queues = (settings.events_queue, settings.changes_queue)
        self._events_queue = settings.events_queue
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
                    round=int(_properties(message).get(ROUND, 0)),
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
        for queue in self._queues:
            self._empty(queue, started, done)
        if done.sent or done.parked:
            self._client.commit([report_write("dead letters", str(done), did_something=True, now=started)])
        return done

    def _empty(self, queue: str, started: datetime, done: Round) -> None:
        from azure.servicebus import ServiceBusSubQueue

        stamp = started.isoformat()
        with (
            self._bus.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver,
            self._bus.get_queue_sender(queue) as sender,
        ):
            # Looking is answered at once; receiving from an empty queue would wait.
            while receiver.peek_messages(1, sequence_number=1):
                messages = receiver.receive_messages(_AT_ONCE, max_wait_time=_PATIENCE)
                fresh = [message for message in messages if _properties(message).get(_SENT_ON) != stamp]
                for message in fresh:
                    number = int(_properties(message).get(ROUND, 0)) + 1
                    if number > ROUNDS:
                        self._client.commit(self._log_rows(queue, message, None))
                        done.parked += 1
                    else:
                        # First: whatever becomes of it afterwards is newer than this.
                        if rows := self._log_rows(queue, message, number):
                            self._client.commit(rows)
                        sender.send_messages(_again(message, number, stamp))
                        done.sent += 1
                        done.by_queue[queue] = done.by_queue.get(queue, 0) + 1
                    receiver.complete_message(message)
                returned = [message for message in messages if message not in fresh]
                for message in returned:
                    receiver.abandon_message(message)
                if returned or not messages:
                    # What we sent is here again already, or somebody else holds the rest: that is for the next round.
                    return

    def _log_rows(self, queue: str, message: ServiceBusReceivedMessage, number: int | None) -> list[Upsert]:
        """Log rows that can be resumed: one for each change that the message leads to. `number` None: this was the last round."""
        now, body = self._clock(), _body(message)
        try:
            if queue == self._events_queue:
                trimmed = str(_properties(message).get("MessageMaxSizeExceeded", "")).lower() == "true"
                changes = self._listener.read(body, trimmed=trimmed)
            else:
                changes = [Change.parse(body)]
            changes = [change for change in changes if not change.check]
        except (ChangeError, ContextError) as error:
            return [unreadable_write(body.decode("utf-8", "replace"), queue=queue, error=str(error), now=now)]
        why = redact(f"{message.dead_letter_reason}: {message.dead_letter_error_description}")[:1000]
        deliveries = message.delivery_count or 0
        if number is not None:
            sentence = say("message.dead_lettered", queue=queue, round=number, rounds=ROUNDS, why=why)
            decision = parked(State(), sentence, reason="dead_letter", field="", next_step=say("next.wait"))
            return [dead_letter_write(change, decision, attempt=deliveries, now=now) for change in changes]
        sentence = say("message.failed", queue=queue, rounds=ROUNDS + 1, why=why)
        decision = parked(State(), sentence, reason="failed_again", field="", next_step=say("next.failure"))
        return [log_write(change, decision, attempt=deliveries, duration=0.0, now=now) for change in changes]


def _again(message: ServiceBusReceivedMessage, number: int, stamp: str) -> ServiceBusMessage:
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
        application_properties={**kept, ROUND: number, _SENT_ON: stamp},
    )


def _properties(message: ServiceBusReceivedMessage) -> dict[str, Any]:
    """Names come as bytes or text, and so do values."""
    return {_text(name): _text(value) for name, value in (message.application_properties or {}).items()}


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
