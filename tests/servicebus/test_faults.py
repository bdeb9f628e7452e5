"""The fault dials and the admin endpoint: misbehaviour on demand, but no broken word."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusError, SessionLockLostError

from local.servicebus.amqp import performatives as p
from local.servicebus.broker import Broker
from local.servicebus.faults import Dials
from tests.servicebus.broker import queues
from tests.servicebus.process import BrokerProcess
from tests.servicebus.wire import Wire

QUEUES = [
    {"Name": "plain", "Properties": {"MaxDeliveryCount": 100, "LockDuration": "PT5S"}},
    {"Name": "sessions", "Properties": {"RequiresSession": True, "MaxDeliveryCount": 100}},
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    config = tmp_path_factory.mktemp("broker") / "config.json"
    config.write_text(json.dumps({"UserConfig": {"Namespaces": [{"Name": "ns", "Queues": QUEUES}]}}))
    with BrokerProcess(config) as process:
        yield process
        assert process.terminate() == 0


def admin(broker: BrokerProcess, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(broker.ready["admin_url"] + path, data, timeout=5) as answer:
        return json.load(answer)


@pytest.fixture
def dials(broker: BrokerProcess) -> Iterator[Any]:
    yield lambda **rates: admin(broker, "/faults", rates)
    admin(broker, "/faults", {})


def client(broker: BrokerProcess) -> ServiceBusClient:
    return ServiceBusClient.from_connection_string(
        broker.connection_string, retry_total=10, retry_backoff_factor=0.02, retry_mode="fixed"
    )


def test_health_counters_and_unknown_paths(broker: BrokerProcess) -> None:
    assert admin(broker, "/health") == {"status": "healthy"}
    counters = admin(broker, "/counters")
    assert set(counters["queues"]) == {"plain", "sessions"}
    wanted = {
        "active",
        "locked",
        "scheduled",
        "deferred",
        "dead_letters",
        "sent",
        "delivered",
        "completed",
        "abandoned",
    }
    assert wanted <= set(counters["queues"]["plain"])
    with pytest.raises(urllib.error.HTTPError, match="404"):
        admin(broker, "/nothing")


@pytest.mark.parametrize(
    "body", [{"server_busy": 2}, {"server_busy": "x"}, {"unknown": 1}, [], {"delay_ms": -1}, {"seed": None}]
)
def test_wrong_dials_are_refused_and_named(broker: BrokerProcess, body: Any) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        admin(broker, "/faults", body)
    assert caught.value.code == 400
    error = json.load(caught.value)["error"]
    assert not isinstance(body, dict) or next(iter(body)) in error


def test_dropped_connections_and_busy_answers_lose_nothing(broker: BrokerProcess, dials: Any) -> None:
    sent: set[str] = set()
    asked: set[str] = set()
    completed: set[str] = set()
    with client(broker) as made, made.get_queue_sender("plain") as sender, made.get_queue_receiver("plain") as receiver:
        dials(drop_connection=0.1, server_busy=0.1, seed=7)
        for number in range(12):
            try:
                sender.send_messages(ServiceBusMessage(str(number)))
                sent.add(str(number))
            except ServiceBusError:
                pass
        assert sent
        dials(drop_connection=0.1, seed=8)
        while not sent <= asked:
            for message in receiver.receive_messages(20, max_wait_time=6):
                # An unacknowledged send may be there twice, but what was completed does not come back.
                assert str(message) not in completed or message.delivery_count == 0
                asked.add(str(message))
                try:
                    receiver.complete_message(message)
                    completed.add(str(message))
                except ServiceBusError:
                    pass  # it may be done without an answer, or come back when its lock ends


def test_a_dropped_connection_may_have_done_its_work() -> None:
    outcomes = set()
    with Broker(queues(q={})) as own:
        for seed in range(20):
            before = own.statistics()["queues"]["q"]["sent"]
            with Wire(own.port).open() as wire:
                wire.authorize(own.port)
                wire.attach(2, receiver=False, address="q")
                own.set_faults(Dials(drop_connection=1, seed=seed))
                wire.transfer(2, b"\x00\x53\x75\xa0\x01x", number=1)
                with pytest.raises((EOFError, ConnectionError)):
                    wire.hear_until(p.DISPOSITION)
                own.set_faults(Dials())
            outcomes.add(own.statistics()["queues"]["q"]["sent"] - before)
    assert outcomes == {0, 1}


def test_a_session_lost_early_comes_back_whole(broker: BrokerProcess, dials: Any) -> None:
    with client(broker) as made:
        with made.get_queue_sender("sessions") as sender:
            sender.send_messages([ServiceBusMessage(str(n), session_id="s") for n in range(3)])
        dials(lose_session_lock=1)
        with made.get_queue_receiver("sessions", session_id=NEXT_AVAILABLE_SESSION) as receiver:
            (message,) = receiver.receive_messages(1, max_wait_time=5)
            with pytest.raises(SessionLockLostError):
                receiver.complete_message(message)
        dials()
        with made.get_queue_receiver("sessions", session_id="s") as receiver:
            messages = [message for _ in range(3) for message in receiver.receive_messages(1, max_wait_time=5)]
            assert [str(message) for message in messages] == ["0", "1", "2"]
            assert messages[0].delivery_count == 1
            for message in messages:
                receiver.complete_message(message)


def test_a_delay_delays(broker: BrokerProcess, dials: Any) -> None:
    with client(broker) as made, made.get_queue_sender("plain") as sender:
        sender.send_messages(ServiceBusMessage("quick"))
        dials(delay_ms=300)
        started = time.monotonic()
        sender.send_messages(ServiceBusMessage("slow"))
        assert time.monotonic() - started >= 0.3


def test_a_wrong_start_says_why_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        '{"UserConfig": {"Namespaces": [{"Name": "n", "Queues": [{"Name": "q", "Properties": {"Foo": 1}}]}]}}'
    )
    command = [sys.executable, "-m", "local.servicebus", "--config", str(path), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "servicebus: q: unknown property Foo\n"
