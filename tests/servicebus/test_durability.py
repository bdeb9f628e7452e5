"""What was acknowledged survives the death of the broker, and what was completed stays completed."""

import itertools
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import OperationTimeoutError, ServiceBusError

from local.servicebus.amqp.types import encode
from local.servicebus.gateway import envelope
from local.servicebus.model.message import Outcome
from local.servicebus.model.sessions import SessionQueue
from local.servicebus.model.settings import QueueSettings
from local.servicebus.model.store import StoreError
from local.servicebus.sqlite_store import SqliteStore
from tests.servicebus.model import Reader, World, token
from tests.servicebus.process import BrokerProcess

SEED = 20_260_101
QUEUES = [
    {"Name": "plain", "Properties": {"LockDuration": "PT5S", "MaxDeliveryCount": 100}},
    {"Name": "sessions", "Properties": {"LockDuration": "PT5S", "RequiresSession": True, "MaxDeliveryCount": 100}},
    {"Name": "once", "Properties": {"RequiresDuplicateDetection": True}},
]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"UserConfig": {"Namespaces": [{"Name": "ns", "Queues": QUEUES}]}}))
    with BrokerProcess(config, tmp_path / "home") as process:
        yield process


def message(body: bytes, message_id: str) -> bytes:
    return b"\x00\x53\x73" + encode([message_id]) + b"\x00\x53\x75" + encode(body)


class Ledger:
    """What the clients were told. Threads report here; the test waits on it."""

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.completed: set[str] = set()
        self.asked: set[str] = set()  # to complete; without an answer, it may have happened or not
        self.wrongs: list[str] = []
        self.changed = threading.Condition()
        self.over = False

    def note(self, where: set[str], name: str) -> None:
        with self.changed:
            where.add(name)
            self.changed.notify_all()

    def delivered(self, name: str) -> None:
        with self.changed:
            if name in self.completed:
                self.wrongs.append(f"{name} was delivered after it was completed")

    def wait_for(self, count: int) -> None:
        """Until `count` more sends and completions have been acknowledged."""
        with self.changed:
            goal = len(self.sent) + len(self.completed) + count
            assert self.changed.wait_for(lambda: len(self.sent) + len(self.completed) >= goal, timeout=60)


def client(broker: BrokerProcess) -> ServiceBusClient:
    return ServiceBusClient.from_connection_string(
        broker.connection_string, retry_total=3, retry_backoff_factor=0.05, retry_mode="fixed"
    )


def send(broker: BrokerProcess, queue: str, ledger: Ledger) -> None:
    numbers = itertools.count()
    while not ledger.over:
        try:
            with client(broker) as made, made.get_queue_sender(queue) as sender:
                while not ledger.over:
                    name = f"{queue}-{next(numbers)}"
                    sender.send_messages(ServiceBusMessage(name, session_id=str(len(name) % 3)))
                    ledger.note(ledger.sent, name)
        except (ServiceBusError, ValueError):
            continue  # not acknowledged: it may have arrived or not


def receive(broker: BrokerProcess, queue: str, ledger: Ledger) -> None:
    """Complete messages until the ledger is over; then until the queue is empty."""
    options: dict[str, Any] = {"session_id": NEXT_AVAILABLE_SESSION} if queue == "sessions" else {}
    while True:
        last = ledger.over
        try:
            with client(broker) as made, made.get_queue_receiver(queue, max_wait_time=1, **options) as receiver:
                while batch := receiver.receive_messages(20, max_wait_time=1):
                    for message in batch:
                        ledger.delivered(str(message))
                        ledger.note(ledger.asked, str(message))
                        receiver.complete_message(message)
                        ledger.note(ledger.completed, str(message))
        except OperationTimeoutError:
            pass
        except (ServiceBusError, ValueError):
            continue
        if last and ledger.sent <= ledger.asked:
            return


@pytest.mark.parametrize("queue", ["plain", "sessions"])
def test_nothing_acknowledged_is_lost_and_nothing_completed_returns(broker: BrokerProcess, queue: str) -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    ledger = Ledger()
    threads = [threading.Thread(target=work, args=(broker, queue, ledger), daemon=True) for work in (send, receive)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        ledger.wait_for(rng.randint(10, 120))
        broker.kill()
        broker.start()
    ledger.wait_for(20)
    ledger.over = True
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert ledger.sent <= ledger.asked  # each came back, or was completed without an answer
    assert not ledger.wrongs


def test_schedules_deferrals_and_dead_letters_survive(broker: BrokerProcess) -> None:
    with client(broker) as made:
        with made.get_queue_sender("plain") as sender:
            later = sender.schedule_messages(ServiceBusMessage("later"), datetime.now(UTC) + timedelta(hours=1))
            sender.send_messages(
                [ServiceBusMessage("put aside"), ServiceBusMessage("failed", application_properties={"n": 1})]
            )
        with made.get_queue_receiver("plain") as receiver:
            aside, failed = receiver.receive_messages(2, max_wait_time=5)
            receiver.defer_message(aside)
            receiver.dead_letter_message(failed, reason="why")
    broker.kill()
    broker.start()
    with client(broker) as made:
        with made.get_queue_receiver("plain") as receiver:
            receiver.complete_message(*receiver.receive_deferred_messages(aside.sequence_number))
            assert [str(message) for message in receiver.peek_messages(9, sequence_number=1)] == ["later"]
        with made.get_queue_receiver("plain", sub_queue="deadletter") as receiver:
            (dead,) = receiver.receive_messages(1, max_wait_time=5)
            assert (dead.dead_letter_reason, dead.application_properties[b"n"]) == ("why", 1)
        with made.get_queue_sender("plain") as sender:
            sender.cancel_scheduled_messages(later)


def test_session_states_numbers_and_ids_survive(tmp_path: Path) -> None:
    settings = {"s": QueueSettings(requires_session=True), "once": QueueSettings(duplicate_window=timedelta(minutes=1))}
    store = SqliteStore(tmp_path / "store.sqlite")
    world = World(settings, store=store)
    sessions, holder = world.queue("s"), Reader()
    assert isinstance(sessions, SessionQueue)
    sessions.accept(holder, "a")
    sessions.set_state(sessions.session("a", [holder]), b"\x01")
    once = world.queue("once")
    once.send([envelope.draft(message(b"one", "1"))])
    once.settle(token(Reader().ask(once, 1).got[0]), Outcome.COMPLETE)
    store.close()
    again = World(settings, store=SqliteStore(tmp_path / "store.sqlite"))
    sessions, holder = again.queue("s"), Reader()
    assert isinstance(sessions, SessionQueue)
    sessions.accept(holder, "a")
    assert sessions.session("a", [holder]).state == b"\x01"
    assert again.queue("once").send([envelope.draft(message(b"again", "1"))]) == [0]
    assert again.queue("once").send([envelope.draft(message(b"two", "2"))]) == [2]  # no number is given twice


def test_a_lock_does_not_survive_a_restart_but_its_message_does(tmp_path: Path) -> None:
    settings = {"q": QueueSettings()}
    store = SqliteStore(tmp_path / "store.sqlite")
    queue = World(settings, store=store).queue("q")
    queue.send([envelope.draft(message(b"a", "1"))])
    taken = Reader().ask(queue, 1).got[0]
    assert token(taken)
    store.close()
    again = World(settings, store=SqliteStore(tmp_path / "store.sqlite")).queue("q")
    (back,) = Reader().ask(again, 1).got
    assert (back.sequence, back.delivery_count, back.content) == (taken.sequence, 0, taken.content)


def test_a_failed_commit_is_made_up_for(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.sqlite")
    queue = World({"q": QueueSettings()}, store=store).queue("q")
    store.commit()
    queue.send([envelope.draft(message(b"x" * 200_000, str(n))) for n in range(5)])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 60}")  # room for one
    with pytest.raises(StoreError, match="full"):
        store.commit()
    assert store.load("q").messages == []
    store._db.execute("PRAGMA max_page_count = 100000")
    store.commit()
    assert len(store.load("q").messages) == 5


def test_a_home_has_one_broker(broker: BrokerProcess, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local.servicebus", "--port", "0"]
    command += ["--config", str(tmp_path / "config.json"), "--home", str(tmp_path / "home")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 2
    assert second.stderr == "servicebus: database is locked\n"
