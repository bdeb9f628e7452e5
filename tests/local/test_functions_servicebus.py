"""Service Bus triggers of the Functions host, against the local broker; messages are sent with Microsoft's SDK."""

import contextlib
import datetime
import functools
import itertools
import json
import uuid
from collections import defaultdict

import pytest
import requests
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusError

from tests.local.sample import SAMPLE_APP, records, sample_environment
from tests.stack import Child, wait_until

LOCK_SECONDS = 5
MAX_DELIVERIES = 3
CONFIG = {
    "UserConfig": {
        "Namespaces": [
            {
                "Name": "test",
                "Queues": [
                    {
                        "Name": name,
                        "Properties": {
                            "RequiresSession": sessions,
                            "LockDuration": f"PT{LOCK_SECONDS}S",
                            "MaxDeliveryCount": MAX_DELIVERIES,
                        },
                    }
                    for suffix in ("", "-2", "-3", "-4", "-5", "-6")
                    for name, sessions in ((f"ordered{suffix}", True), (f"plain{suffix}", False))
                ],
            }
        ]
    }
}


class Bus:
    """The broker as a process that can be killed and started again where it was."""

    def __init__(self, home):
        self.home, self.config = home, home / "queues.json"
        self.config.write_text(json.dumps(CONFIG))
        self.port = 0
        self.child = None
        self._open, self._senders = contextlib.ExitStack(), {}

    def start(self):
        arguments = ("--config", str(self.config), "--home", str(self.home / "bus"), "--port", str(self.port))
        self.child = Child("servicebus", *arguments)
        ready = self.child.ready()
        self.port, self.connection, self.admin = ready["port"], ready["connection_string"], ready["admin_url"]

    def send(self, queue, *orders, session=None, **properties):
        if queue not in self._senders:  # opening one takes the SDK half a second
            client = self._open.enter_context(ServiceBusClient.from_connection_string(self.connection))
            self._senders[queue] = self._open.enter_context(client.get_queue_sender(queue))
        self._senders[queue].send_messages(
            [
                ServiceBusMessage(json.dumps(order), session_id=order.get("session", session), **properties)
                for order in orders
            ]
        )

    def drop_connections(self):
        self._forget()
        return requests.post(f"{self.admin}/drop", timeout=5).json()["dropped"]

    def stop(self):
        self._forget()
        self.child.stop()

    def kill(self):
        self._forget()
        self.child.kill()

    def _forget(self):
        self._senders.clear()
        self._open.close()


@pytest.fixture(scope="module")
def bus(tmp_path_factory):
    made = Bus(tmp_path_factory.mktemp("bus"))
    made.start()
    yield made
    made.stop()


@contextlib.contextmanager
def functions_host(bus, home, *arguments, **settings):
    environment = sample_environment(home, ServiceBusConnection=bus.connection, **settings)
    with Child(
        "functions", "--app", str(SAMPLE_APP), "--home", str(home), *arguments, environment=environment
    ) as child:
        child.url = child.ready()["functions_url"]
        child.master = json.loads((home / "functions" / "keys.json").read_text())["master"]
        child.counters = lambda: requests.get(
            f"{child.url}/admin/counters", headers={"x-functions-key": child.master}, timeout=5
        ).json()["functions"]
        yield child


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def host(bus, home):
    with functions_host(bus, home) as child:
        yield child


def own_queues(number):
    """Settings of a host that shares no queue with the others."""
    return {"SESSION_QUEUE": f"ordered-{number}", "PLAIN_QUEUE": f"plain-{number}"}


def name():
    return f"s-{uuid.uuid4().hex[:8]}"


def of(found, *sessions):
    return [r for r in found if r["session"] in sessions]


def test_sessions_run_side_by_side_and_each_in_order(bus, host, home, tmp_path):
    sessions, gate = [name() for _ in range(8)], tmp_path / "gate"
    orders = [{"session": s, "n": n, "wait": str(gate)} for n in range(5) for s in sessions]
    bus.send("ordered", *orders)
    wait_until(lambda: len(of(records(home, "session-begin"), *sessions)) == 4, about="four sessions at once")
    gate.touch()
    wait_until(lambda: len(of(records(home, "session-end"), *sessions)) == 40, about="all messages")
    begins, ends = of(records(home, "session-begin"), *sessions), of(records(home, "session-end"), *sessions)
    for session in sessions:
        spans = list(zip(of(begins, session), of(ends, session), strict=True))
        assert [b["n"] for b, _ in spans] == list(range(5))
        assert all(end["at"] <= after["at"] for (_, end), (after, _) in itertools.pairwise(spans))
    moments = sorted([(b["at"], 1) for b in begins] + [(e["at"], -1) for e in ends])
    running, most = 0, 0
    for _, change in moments:
        running += change
        most = max(most, running)
    assert most == 4  # maxConcurrentSessions of the sample app


def test_trigger_metadata_is_what_the_extension_sends(bus, host, home):
    session = name()
    before = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    bus.send(
        "ordered",
        {"describe": True},
        session=session,
        message_id="m-1",
        subject="look",
        correlation_id="c-1",
        content_type="application/json",
        reply_to="answers",
        application_properties={"tries": 3, "who": "till", "ok": True, "ratio": 0.5},
        time_to_live=datetime.timedelta(minutes=7),
    )
    found = wait_until(lambda: of(records(home, "described"), session), about="the description")[0]
    enqueued = datetime.datetime.fromisoformat(found["enqueued"])
    assert found["naive"] is True
    assert abs((enqueued - before).total_seconds()) < 20
    assert datetime.datetime.fromisoformat(found["expires"]) - enqueued == datetime.timedelta(minutes=7)
    uuid.UUID(found["lock_token"])
    assert found["sequence_number"] >= 1
    known = ("message_id", "subject", "correlation_id", "content_type", "reply_to", "delivery_count", "locked_until")
    assert [found[k] for k in known] == ["m-1", "look", "c-1", "application/json", "answers", 1, None]
    assert found["properties"] == {"tries": 3, "who": "till", "ok": True, "ratio": 0.5}


def test_a_failed_message_comes_again_before_the_next_of_its_session(bus, host, home):
    session = name()
    bus.send("ordered", {"n": 0, "fail": 2}, {"n": 1}, session=session)
    wait_until(lambda: len(of(records(home, "session-end"), session)) == 2, about="both messages")
    begins = of(records(home, "session-begin"), session)
    assert [(b["n"], b["delivery"]) for b in begins] == [(0, 1), (0, 2), (0, 3), (1, 1)]


@pytest.mark.parametrize("queue", ["ordered", "plain"])
def test_a_message_that_always_fails_is_dead_lettered(bus, host, home, queue):
    session = name()
    bus.send(queue, {"n": 0, "fail": 99}, session=session if queue == "ordered" else None, message_id=session)
    with (
        ServiceBusClient.from_connection_string(bus.connection) as client,
        client.get_queue_receiver(queue, sub_queue="deadletter", max_wait_time=20) as dead,
    ):
        message = dead.receive_messages(max_message_count=1)[0]
        assert (message.message_id, message.dead_letter_reason) == (session, "MaxDeliveryCountExceeded")
        dead.complete_message(message)


def test_a_plain_queue_runs_so_many_calls_at_once(bus, host, home, tmp_path):
    gate = tmp_path / "gate"
    bus.send("plain", *[{"n": n, "wait": str(gate)} for n in range(100, 112)])

    def mine(kind):
        return [r for r in records(home, kind) if r["n"] in range(100, 112)]

    wait_until(lambda: len(mine("plain-begin")) == 3, about="three calls at once")
    gate.touch()
    wait_until(lambda: len(mine("plain-end")) == 12, about="all messages")
    moments = sorted([(r["at"], 1) for r in mine("plain-begin")] + [(r["at"], -1) for r in mine("plain-end")])
    running, most = 0, 0
    for _, change in moments:
        running += change
        most = max(most, running)
    assert most == 3  # maxConcurrentCalls of the sample app
    assert all(r["session"] is None for r in mine("plain-begin"))


def test_locks_are_renewed_while_a_function_runs(bus, host, home):
    session = name()
    bus.send("ordered", {"n": 200, "sleep": LOCK_SECONDS + 2.5}, session=session)
    bus.send("plain", {"n": 201, "sleep": LOCK_SECONDS + 2.5})
    wait_until(lambda: of(records(home, "session-end"), session), about="the long call in a session")
    wait_until(lambda: [r for r in records(home, "plain-end") if r["n"] == 201], about="the long call")
    wait_until(lambda: not any(f["running"] for f in host.counters().values()), about="rest")
    begins = records(home, "session-begin") + records(home, "plain-begin")
    assert [r["delivery"] for r in begins if r["n"] in (200, 201)] == [1, 1]
    assert "settlements_lost" not in host.counters()["on_session"]


def test_a_session_is_left_after_its_idle_time(bus, host, home):
    session = name()
    bus.send("ordered", {"n": 1}, session=session)
    wait_until(lambda: of(records(home, "session-end"), session), about="the message")

    def acceptable():
        with (
            contextlib.suppress(ServiceBusError),
            ServiceBusClient.from_connection_string(bus.connection, retry_total=0) as client,
            client.get_queue_receiver("ordered", session_id=session),
        ):
            return True

    wait_until(acceptable, about="the session's release")


def test_counters_and_a_run_on_demand(bus, host, home):
    before = host.counters()["on_plain"]["succeeded"]
    answer = requests.post(
        f"{host.url}/admin/functions/on_plain",
        json={"input": "{}"},
        headers={"x-functions-key": host.master},
        timeout=5,
    )
    assert answer.status_code == 202
    wait_until(lambda: host.counters()["on_plain"]["succeeded"] == before + 1, about="the run")
    figures = host.counters()["on_session"]
    assert figures["succeeded"] == figures["messages_completed"]
    assert figures["failed"] == figures["messages_abandoned"]
    assert figures["sessions_accepted"] >= 1
    assert 0 < figures["seconds_median"] <= figures["seconds_p95"]


def test_a_broker_killed_and_started_again_loses_nothing(tmp_path):
    bus = Bus(tmp_path)
    bus.start()
    with functions_host(bus, tmp_path) as host:
        sessions = [name() for _ in range(20)]
        bus.send("ordered", *[{"session": s, "n": n, "sleep": 0.02} for n in range(4) for s in sessions])
        wait_until(lambda: len(records(tmp_path, "session-end")) >= 15, about="some messages")
        bus.kill()
        wait_until(lambda: "connection to Service Bus was lost" in host.output, about="the loss")
        bus.start()
        try:
            wait_until(
                lambda: (
                    {(r["session"], r["n"]) for r in records(tmp_path, "session-end")}
                    == {(s, n) for s in sessions for n in range(4)}
                ),
                about="all messages",
            )
            order = defaultdict(list)
            for record in records(tmp_path, "session-end"):
                if record["n"] not in order[record["session"]]:  # at least once: what was not settled comes again
                    order[record["session"]].append(record["n"])
            assert all(found == [0, 1, 2, 3] for found in order.values())
            assert host.stop() == 0
        finally:
            bus.stop()


def test_a_connection_lost_while_a_function_runs_brings_the_message_again(bus, tmp_path):
    gate = tmp_path / "gate"
    with functions_host(bus, tmp_path, **own_queues(5)) as host:
        bus.send("ordered-5", {"n": 1, "wait": str(gate)}, {"n": 2}, session=name())
        bus.send("plain-5", {"n": 3})
        wait_until(lambda: records(tmp_path, "session-begin") and records(tmp_path, "plain-end"), about="the calls")
        assert bus.drop_connections() >= 1
        wait_until(lambda: "connection to Service Bus was lost" in host.output, about="the loss")
        gate.touch()
        wait_until(lambda: len(records(tmp_path, "session-end")) == 3, about="both messages, the first twice")
        assert [r["n"] for r in records(tmp_path, "session-begin")] == [1, 1, 2]
        assert host.counters()["on_session"]["settlements_lost"] == 1
        bus.send("plain-5", {"n": 4})
        wait_until(lambda: len(records(tmp_path, "plain-end")) == 2, about="a message after the loss")


def test_a_running_function_finishes_before_the_host_ends(bus, tmp_path):
    gate = tmp_path / "gate"
    with functions_host(bus, tmp_path, **own_queues(2)) as host:
        bus.send("ordered-2", {"n": 1, "wait": str(gate)}, {"n": 2}, session=name())
        bus.send("plain-2", {"n": 3, "wait": str(gate)})
        wait_until(lambda: records(tmp_path, "session-begin") and records(tmp_path, "plain-begin"), about="the calls")
        host.process.terminate()
        wait_until(lambda: "stopping; 2 function calls" in host.output, about="the beginning of the end")
        gate.touch()
        assert host.wait() == 0
    assert [r["n"] for r in records(tmp_path, "session-end") + records(tmp_path, "plain-end")] == [1, 3]
    with functions_host(bus, tmp_path, **own_queues(2)):  # only what was not begun is left
        wait_until(lambda: len(records(tmp_path, "session-end")) == 2, about="the second message")
    assert [r["n"] for r in records(tmp_path, "session-begin")] == [1, 2]
    assert [r["n"] for r in records(tmp_path, "plain-begin")] == [3]


def test_a_function_that_does_not_finish_is_abandoned(bus, tmp_path):
    for delivery in (1, 2):
        with functions_host(bus, tmp_path, "--grace", "0.3", **own_queues(3)) as host:
            if delivery == 1:
                bus.send("ordered-3", {"n": 1, "wait": str(tmp_path / "never")}, session=name())
            begun = functools.partial(lambda n: records(tmp_path, "session-begin")[n - 1 :], delivery)
            begins = wait_until(begun, about="the call")
            assert begins[0]["n"] == 1
            assert host.stop(timeout=10) == 0
            assert "1 function calls did not finish in time" in host.output
    assert not records(tmp_path, "session-end")


def test_a_queue_without_sessions_is_refused_and_said(bus, tmp_path):
    with functions_host(bus, tmp_path, SESSION_QUEUE="plain-6", PLAIN_QUEUE="ordered-6") as host:
        wait_until(lambda: host.counters()["on_session"].get("links_refused"), about="the refusal")
        assert "function on_session: queue plain-6: amqp:not-allowed" in host.output


def test_a_function_past_its_time_out_ends_the_host(bus, tmp_path):
    with functions_host(bus, tmp_path, AzureFunctionsJobHost__functionTimeout="00:00:01", **own_queues(4)) as host:
        bus.send("plain-4", {"n": 1, "sleep": 30}, message_id=name())
        assert host.wait(timeout=15) == 75
        assert "ran longer than functionTimeout" in host.output
