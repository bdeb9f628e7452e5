"""`python -m local up`: what it promises to whoever starts it."""

import contextlib
import json
import os
import signal
import socket
import stat

import pytest
import requests
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from connector.dataverse import ClientSecretTokens, Create, DataverseClient, Get
from tests.stack import Child, Stack, wait_until

PARTS = ["entra", "servicebus", "dataverse", "dynamics", "functions"]
ACCOUNT = "0a000000-0000-0000-0000-000000000001"


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def client_of(endpoints):
    tokens = ClientSecretTokens(
        endpoints["tenant_id"],
        endpoints["client_id"],
        endpoints["client_secret"],
        endpoints["dataverse_url"],
        endpoints["authority"],
        endpoints["ca_file"],
    )
    return DataverseClient(endpoints["dataverse_url"], tokens, ca_file=endpoints["ca_file"])


def account_name(endpoints):
    with client_of(endpoints) as client:
        return client.read(Get(f"accounts({ACCOUNT})?$select=name"))[0]["name"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def running(home):
    """One stack for the tests of this module, which run in order: the last ones end it and start it again."""
    with Stack(home) as stack:
        with client_of(stack.endpoints) as client:
            client.commit([Create("accounts", {"accountid": ACCOUNT, "name": "Contoso"})])
        yield stack


def test_the_ready_line_is_in_a_private_file_too(running):
    file = running.home / "endpoints.json"
    assert json.loads(file.read_text()) == running.endpoints
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(running.pids) == sorted(PARTS)
    promised = {"dataverse_url", "authority", "tenant_id", "client_id", "client_secret", "ca_file", "dynamics_url"}
    assert promised | {"servicebus_connection_string", "functions_url"} <= running.endpoints.keys()


def test_every_part_answers(running):
    ends = running.endpoints
    assert account_name(ends) == "Contoso"
    key, master = {"x-functions-key": ends["function_key"]}, {"x-functions-key": ends["master_key"]}
    assert requests.get(f"{ends['functions_url']}/api/customers/nobody", timeout=10).status_code == 401
    known = requests.get(f"{ends['functions_url']}/api/customers/account:{ACCOUNT}", headers=key, timeout=30)
    assert known.status_code in (200, 404)
    with requests.Session() as session:
        session.trust_env = False
        session.verify = ends["ca_file"]
        assert session.get(ends["dynamics_url"], timeout=10).status_code == 200
        for part in ("entra", "servicebus", "dataverse", "functions"):
            assert session.get(ends[f"{part}_counters_url"], headers=master, timeout=10).status_code == 200


def test_no_secret_is_in_a_log(running):
    ends = running.endpoints
    texts = [file.read_text() for file in (running.home / "logs").iterdir()] + ["".join(running.child.lines[:-1])]
    for secret in (ends["client_secret"], ends["master_key"], ends["function_key"]):
        assert not any(secret in text for text in texts if not text.startswith("ready "))


def test_everything_in_the_home_is_for_its_owner_only(running):
    modes = {}
    for file in running.home.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # some come and go
            modes[file.name] = stat.S_IMODE(file.stat().st_mode)
    assert {"dataverse.db", "servicebus.sqlite", "keys.json", "functions.log", "settings.env"} <= modes.keys()
    assert [name for name, mode in modes.items() if mode & 0o077] == []


def test_a_home_in_use_is_refused_in_one_line(running):
    with Child("up", "--home", str(running.home)) as second:
        assert second.wait() == 1
        assert second.lines == [f"up: {running.home} is in use: another local stack runs there\n"]


def test_a_part_that_dies_is_started_again_with_its_state(running):
    ends = running.endpoints
    with (
        ServiceBusClient.from_connection_string(ends["servicebus_connection_string"]) as bus,
        bus.get_queue_sender("loyalty-notices") as sender,
    ):
        sender.send_messages(ServiceBusMessage("kept", message_id="kept"))
    before = running.pids
    for part in PARTS:
        os.kill(before[part], signal.SIGKILL)
        wait_until(lambda p=part: f"{p} ended with status -9; starting it again" in running.child.output, about=part)
    wait_until(lambda: all(running.pids[p] != before[p] for p in PARTS), about="new processes")

    def healthy():
        try:
            return (
                account_name(ends) == "Contoso"
                and requests.get(
                    f"{ends['functions_admin_url']}/host/status",
                    headers={"x-functions-key": ends["master_key"]},
                    timeout=5,
                ).json()["service_bus_connected"]
            )
        except Exception:  # not yet up again, whatever the reason
            return False

    wait_until(healthy, timeout=60, about="the stack's recovery")
    with (
        ServiceBusClient.from_connection_string(ends["servicebus_connection_string"]) as bus,
        bus.get_queue_receiver("loyalty-notices", max_wait_time=10) as receiver,
    ):
        messages = receiver.receive_messages(max_message_count=1)
        assert [str(message) for message in messages] == ["kept"]
        receiver.complete_message(messages[0])


def test_it_ends_cleanly_and_goes_on_where_it_was(running, home):
    pids = running.pids
    assert running.child.stop(60) == 0
    assert not any(alive(pid) for pid in pids.values())
    with Stack(home) as again:
        same = ("dataverse_url", "client_id", "client_secret", "tenant_id", "functions_url", "function_key")
        assert {k: again.endpoints[k] for k in same} == {k: running.endpoints[k] for k in same}
        assert account_name(again.endpoints) == "Contoso"
        assert "Nothing to do" in again.log("deploy")
        pids = again.pids
        again.child.kill()  # SIGKILL: no chance to end the others
        wait_until(lambda: not any(alive(pid) for pid in pids.values()), about="the end of all parts")


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        base = taken.getsockname()[1]
        with Child("up", "--home", str(tmp_path), "--ports", str(base)) as child:
            assert child.wait() == 1
            assert child.lines == [f"up: port {base} (entra) is in use by another program: choose others by --ports\n"]


def test_a_foreign_home_is_refused(tmp_path):
    (tmp_path / "something").mkdir()
    with Child("up", "--home", str(tmp_path)) as child:
        assert child.wait() == 1
        assert "was not made by this version" in child.lines[0]
        assert len(child.lines) == 1
