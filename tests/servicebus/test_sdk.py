"""The broker as the unmodified azure-servicebus SDK sees it."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    AutoLockRenewer,
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusReceivedMessage,
    ServiceBusReceiveMode,
    ServiceBusReceiver,
    ServiceBusSender,
)
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageBodyType
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageNotFoundError,
    MessageSizeExceededError,
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusError,
    ServiceBusServerBusyError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)

from local.servicebus.broker import Broker
from local.servicebus.faults import Dials
from tests.servicebus.broker import client, queues

SHORT = {"LockDuration": "PT5S"}
CONFIG = queues(
    plain={"MaxDeliveryCount": 3},
    short=SHORT,
    busy={},
    sessions={"RequiresSession": True, "MaxDeliveryCount": 2},
    listed={"RequiresSession": True},
    brief={"RequiresSession": True, **SHORT},
    once={"RequiresDuplicateDetection": True},
    mortal={"DeadLetteringOnMessageExpiration": True},
)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker(CONFIG) as running:
        yield running


class Sdk:
    """A client whose senders and receivers stay open: the SDK takes half a second for each opening and closing."""

    def __init__(self, client: ServiceBusClient, patient: ServiceBusClient) -> None:
        self.client = client  # does not retry
        self._patient = patient
        self._open: dict[tuple[str, ...], Any] = {}

    def sender(self, queue: str) -> ServiceBusSender:
        if (queue, "sender") not in self._open:
            self._open[queue, "sender"] = self._patient.get_queue_sender(queue)
        return cast(ServiceBusSender, self._open[queue, "sender"])

    def receiver(self, queue: str, **options: Any) -> ServiceBusReceiver:
        key = (queue, *(f"{name}={value}" for name, value in options.items()))
        if key not in self._open:
            self._open[key] = self._patient.get_queue_receiver(queue, **options)
        return cast(ServiceBusReceiver, self._open[key])

    def graves(self, queue: str) -> ServiceBusReceiver:
        return self.receiver(queue, sub_queue="deadletter")

    def session(self, queue: str, session_id: Any = NEXT_AVAILABLE_SESSION, **options: Any) -> ServiceBusReceiver:
        """A receiver of one session, not opened yet."""
        return self.client.get_queue_receiver(queue, session_id=session_id, **options)

    def send(self, queue: str, *messages: ServiceBusMessage | str) -> None:
        made = [m if isinstance(m, ServiceBusMessage) else ServiceBusMessage(m) for m in messages]
        self.sender(queue).send_messages(made)

    def close(self) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda item: item.close(), self._open.values()))


@pytest.fixture(scope="module")
def sdk(broker: Broker) -> Iterator[Sdk]:
    with client(broker) as made, client(broker, retry_total=3, retry_backoff_factor=0.05) as patient:
        opened = Sdk(made, patient)
        yield opened
        opened.close()


def take(receiver: Any, count: int, wait: float = 5) -> list[ServiceBusReceivedMessage]:
    """Exactly `count` messages."""
    got: list[ServiceBusReceivedMessage] = []
    while len(got) < count and (more := receiver.receive_messages(count - len(got), max_wait_time=wait)):
        got += more
    assert len(got) == count
    return got


def wait_until(moment: datetime) -> None:
    threading.Event().wait(max(0, (moment - datetime.now(UTC)).total_seconds()))


def test_every_field_of_a_message_arrives(sdk: Sdk) -> None:
    properties = {"text": "é", "whole": 5, "part": 1.5, "yes": True, "none": None}
    sent = ServiceBusMessage(
        b"body",
        application_properties=properties,
        session_id="s",
        message_id="m",
        content_type="text/plain",
        correlation_id="c",
        subject="subject",
        partition_key="s",
        to="to",
        reply_to="back",
        reply_to_session_id="rs",
        time_to_live=timedelta(hours=1),
    )
    sdk.send("plain", sent)
    receiver = sdk.receiver("plain")
    (got,) = take(receiver, 1)
    receiver.complete_message(got)
    assert b"".join(got.body) == b"body"
    assert {key.decode(): value for key, value in got.application_properties.items()} == properties | {
        "text": "é".encode()
    }
    for name in (
        "session_id",
        "message_id",
        "content_type",
        "correlation_id",
        "subject",
        "partition_key",
        "to",
        "reply_to",
    ):
        assert getattr(got, name) == getattr(sent, name), name
    assert (got.reply_to_session_id, got.time_to_live) == ("rs", timedelta(hours=1))
    assert got.delivery_count == 0
    assert got.sequence_number == got.enqueued_sequence_number
    assert abs(got.enqueued_time_utc - datetime.now(UTC)) < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("kind", "body"),
    [("data_body", [b"a", b"b"]), ("value_body", {b"k": [1, None]}), ("sequence_body", [[1, 2], [b"x"]])],
)
def test_bodies_of_every_kind_arrive(sdk: Sdk, kind: str, body: Any) -> None:
    sender = sdk.sender("plain")
    sender.send_messages(AmqpAnnotatedMessage(**{kind: body}))
    receiver = sdk.receiver("plain", receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE)
    (got,) = take(receiver, 1)
    value = got.body if got.body_type is AmqpMessageBodyType.VALUE else list(got.body)
    assert value == body


def test_a_batch_of_the_largest_size_and_one_byte_more(sdk: Sdk) -> None:
    sender = sdk.sender("plain")
    batch = sender.create_message_batch()
    count = 0
    try:
        while True:
            batch.add_message(ServiceBusMessage(b"x" * 10_000))
            count += 1
    except MessageSizeExceededError:
        pass
    sender.send_messages(batch)
    with pytest.raises(MessageSizeExceededError):
        sender.send_messages(ServiceBusMessage(b"x" * 262_145))
    sender.send_messages(ServiceBusMessage(b"still works"))
    with sdk.client.get_queue_receiver(
        "plain", receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE, prefetch_count=50
    ) as receiver:
        assert len(take(receiver, count + 1)) == count + 1


def test_settlements(sdk: Sdk) -> None:
    sdk.send("plain", "complete", "abandon", "defer", "bury")
    receiver = sdk.receiver("plain")
    graves = sdk.graves("plain")
    complete, abandon, defer, bury = take(receiver, 4)
    receiver.complete_message(complete)
    receiver.abandon_message(abandon)
    receiver.defer_message(defer)
    receiver.dead_letter_message(bury, reason="reason", error_description="description")
    (again,) = take(receiver, 1)
    assert (str(again), again.delivery_count) == ("abandon", 1)
    assert again.lock_token != abandon.lock_token
    receiver.complete_message(again)
    (deferred,) = receiver.receive_deferred_messages([defer.sequence_number])
    assert str(deferred) == "defer"
    receiver.complete_message(deferred)
    with pytest.raises(MessageNotFoundError):
        receiver.receive_deferred_messages([defer.sequence_number])
    (dead,) = take(graves, 1)
    assert (dead.dead_letter_reason, dead.dead_letter_error_description) == ("reason", "description")
    assert dead.dead_letter_source == "plain"
    graves.complete_message(dead)
    assert receiver.peek_messages(9, sequence_number=1) == []


def test_too_many_deliveries_end_in_the_dead_letter_queue(sdk: Sdk) -> None:
    sdk.send("plain", "poison")
    receiver = sdk.receiver("plain")
    for count in range(3):
        (message,) = take(receiver, 1)
        assert message.delivery_count == count
        receiver.abandon_message(message)
    graves = sdk.graves("plain")
    (dead,) = take(graves, 1)
    assert dead.dead_letter_reason == "MaxDeliveryCountExceeded"
    graves.complete_message(dead)


def test_message_locks_expire_and_can_be_renewed(sdk: Sdk) -> None:
    sdk.send("short", "lost", "renewed", *(f"kept{n}" for n in range(5)))
    receiver = sdk.receiver("short")
    lost, renewed, *kept = take(receiver, 7)
    assert timedelta(seconds=4) < lost.locked_until_utc - lost.enqueued_time_utc < timedelta(seconds=10)
    with AutoLockRenewer(max_workers=4) as renewer:
        for message in kept:
            renewer.register(receiver, message, max_lock_renewal_duration=20)
        wait_until(lost.locked_until_utc - timedelta(seconds=1.5))
        assert receiver.renew_message_lock(renewed) > lost.locked_until_utc
        (again,) = take(receiver, 1)
        assert (str(again), again.delivery_count) == ("lost", 1)
        receiver.complete_message(again)
        with pytest.raises(MessageLockLostError):
            receiver.complete_message(lost)
        for message in (renewed, *kept):
            receiver.complete_message(message)


def test_receiving_nothing_ends_in_time_and_loses_nothing(sdk: Sdk) -> None:
    receiver = sdk.receiver("plain")
    started = time.monotonic()
    assert receiver.receive_messages(5, max_wait_time=1) == []
    assert 0.9 < time.monotonic() - started < 3
    sdk.send("plain", "late")  # meets the credit that the call above left open
    (message,) = take(receiver, 1)
    assert message.delivery_count == 0
    receiver.complete_message(message)


def test_scheduling_and_cancelling(sdk: Sdk) -> None:
    at = datetime.now(UTC) + timedelta(seconds=1.5)
    sender = sdk.sender("plain")
    receiver = sdk.receiver("plain")
    numbers = sender.schedule_messages([ServiceBusMessage("a"), ServiceBusMessage("b")], at)
    sender.cancel_scheduled_messages(numbers[0])
    (seen,) = receiver.peek_messages(9, sequence_number=numbers[0])
    assert (str(seen), seen.state.name) == ("b", "SCHEDULED")
    (message,) = take(receiver, 1)
    assert datetime.now(UTC) >= at
    assert abs(message.enqueued_time_utc - at) < timedelta(milliseconds=2)
    receiver.complete_message(message)
    with pytest.raises(MessageNotFoundError):
        sender.cancel_scheduled_messages(numbers)


def test_duplicates_are_accepted_and_dropped(sdk: Sdk) -> None:
    sdk.send("once", ServiceBusMessage("a", message_id="1"), ServiceBusMessage("b", message_id="1"))
    receiver = sdk.receiver("once")
    receiver.complete_message(take(receiver, 1)[0])
    sdk.send("once", ServiceBusMessage("c", message_id="1"), ServiceBusMessage("d", message_id="2"))
    (message,) = take(receiver, 1)
    assert str(message) == "d"
    receiver.complete_message(message)


def test_expired_messages_are_dead_lettered(sdk: Sdk) -> None:
    sdk.send("mortal", ServiceBusMessage("brief", time_to_live=timedelta(milliseconds=300)))
    graves = sdk.graves("mortal")
    (dead,) = take(graves, 1)
    assert dead.dead_letter_reason == "TTLExpiredException"
    graves.complete_message(dead)


def test_sessions_are_granted_in_turn_and_exclusively(sdk: Sdk) -> None:
    sdk.send("sessions", *(ServiceBusMessage(f"{s}{n}", session_id=s) for n in range(3) for s in ("a", "b")))
    with (
        sdk.session("sessions") as first,
        sdk.session("sessions") as second,
    ):
        assert (first.session.session_id, second.session.session_id) == ("a", "b")
        with pytest.raises(SessionCannotBeLockedError), sdk.session("sessions", "a"):
            pass
        for receiver, name in ((first, "a"), (second, "b")):
            messages = take(receiver, 3)
            assert [str(message) for message in messages] == [f"{name}{n}" for n in range(3)]
            for message in messages:
                receiver.complete_message(message)
        with pytest.raises(OperationTimeoutError):
            sdk.session("sessions", max_wait_time=1).__enter__()


def test_an_accept_waits_for_a_message(sdk: Sdk) -> None:
    timer = threading.Timer(0.8, lambda: sdk.send("sessions", ServiceBusMessage("x", session_id="new")))
    timer.start()
    with sdk.session("sessions", max_wait_time=10) as receiver:
        assert receiver.session.session_id == "new"
        receiver.complete_message(take(receiver, 1)[0])
    timer.join()


def test_session_state_and_closing(sdk: Sdk) -> None:
    sdk.send("sessions", ServiceBusMessage("x", session_id="stateful"))
    with sdk.session("sessions", "stateful") as receiver:
        assert receiver.session.get_state() is None
        receiver.session.set_state(b"\x00state")
        take(receiver, 1)
    with sdk.session("sessions", "stateful") as receiver:
        assert receiver.session.get_state() == b"\x00state"
        (again,) = take(receiver, 1)
        assert again.delivery_count == 0
        receiver.dead_letter_message(again, reason="r")
        receiver.session.set_state(None)
        assert receiver.session.get_state() is None
    with sdk.client.get_queue_receiver("sessions", sub_queue="deadletter") as graves:
        (dead,) = take(graves, 1)
        assert (dead.session_id, dead.dead_letter_reason) == ("stateful", "r")
        graves.complete_message(dead)


def test_a_session_lock_expires_and_can_be_renewed(sdk: Sdk) -> None:
    sdk.send("brief", ServiceBusMessage("x", session_id="s"))
    with sdk.session("brief", "s") as receiver:
        first_end = receiver.session.locked_until_utc
        (message,) = take(receiver, 1)
        assert receiver.session.renew_lock() > first_end
        with sdk.session("brief", max_wait_time=15) as other:
            (again,) = take(other, 1)
            assert (str(again), again.delivery_count) == ("x", 1)
            with pytest.raises(SessionLockLostError):
                receiver.complete_message(message)
            other.complete_message(again)


def test_sessions_are_listed(sdk: Sdk) -> None:
    sdk.send("listed", *(ServiceBusMessage("x", session_id=f"s{n:03}") for n in range(120)))
    assert sorted(sdk.client.list_queue_sessions("listed")) == [f"s{n:03}" for n in range(120)]


def test_the_wrong_kind_of_receiver_is_refused(sdk: Sdk) -> None:
    for queue, options in (("sessions", {}), ("plain", {"session_id": "s"})):
        with pytest.raises(ServiceBusError, match="amqp:not-allowed"), sdk.client.get_queue_receiver(queue, **options):
            pass
    with pytest.raises(ServiceBusError, match="SessionId was not set"):
        sdk.send("sessions", "no session")


def test_wrong_keys_and_names_are_refused(broker: Broker, sdk: Sdk) -> None:
    with pytest.raises(ServiceBusAuthenticationError):
        sdk.client.get_queue_sender("nowhere").send_messages(ServiceBusMessage("x"))
    wrong = broker.connection_string.replace("SAS_KEY_VALUE", "guess")
    with (
        ServiceBusClient.from_connection_string(wrong, retry_total=0) as thief,
        pytest.raises(ServiceBusAuthenticationError),
    ):
        thief.get_queue_sender("plain").send_messages(ServiceBusMessage("x"))


def test_receivers_compete_without_sharing(sdk: Sdk) -> None:
    sdk.send("plain", *(str(n) for n in range(200)))
    got: list[str] = []

    def work() -> None:
        with sdk.client.get_queue_receiver("plain") as receiver:
            while batch := receiver.receive_messages(10, max_wait_time=1):
                for message in batch:
                    receiver.complete_message(message)
                    got.append(str(message))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=int) == [str(n) for n in range(200)]


def test_a_client_survives_the_loss_of_its_connection(broker: Broker, sdk: Sdk) -> None:
    sender, receiver = sdk.sender("plain"), sdk.receiver("plain")
    sender.send_messages(ServiceBusMessage("before"))
    (message,) = take(receiver, 1)
    assert broker.drop_connections() >= 2
    sender.send_messages(ServiceBusMessage("after"))
    receiver.complete_message(message)  # by its lock token, over a new connection
    (message,) = take(receiver, 1)
    assert str(message) == "after"
    receiver.complete_message(message)


def test_a_lost_connection_frees_its_session(broker: Broker, sdk: Sdk) -> None:
    sdk.send("sessions", ServiceBusMessage("x", session_id="held"))
    with client(broker) as doomed:
        receiver = doomed.get_queue_receiver("sessions", session_id="held")
        receiver.__enter__()
        broker.drop_connections()
        with sdk.session("sessions", "held") as other:
            other.complete_message(take(other, 1)[0])


def test_a_busy_broker_says_so(broker: Broker, sdk: Sdk) -> None:
    broker.set_faults(Dials(server_busy=1))
    try:
        with pytest.raises(ServiceBusServerBusyError):
            sdk.client.get_queue_sender("busy").send_messages(ServiceBusMessage("x"))
    finally:
        broker.set_faults(Dials())
    assert broker.statistics()["queues"]["busy"]["sent"] == 0
