"""The doctor on queues that are wrong, through Microsoft's own clients: by connecting, and by the management API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.servicebus import ServiceBusMessage

from connector.bus.client import service_bus, service_bus_management
from connector.doctor_queues import check_queues
from connector.findings import Level
from connector.settings import Settings, read_settings
from local.servicebus import admin, config
from local.servicebus.broker import Broker
from local.servicebus.gateway.authorization import Policy

POLICIES = {"root": Policy("root-key"), "app": Policy("app-key", frozenset({"Send", "Listen"}))}
SOUND = {"DeadLetteringOnMessageExpiration": True}


def queues(**properties: dict[str, Any]) -> dict[str, Any]:
    found = [{"Name": name.replace("_", "-"), "Properties": each} for name, each in properties.items()]
    return {"UserConfig": {"Namespaces": [{"Name": "contoso", "Queues": found}]}}


WRONG = queues(
    dataverse_events={"LockDuration": "PT5S", "MaxDeliveryCount": 2},
    loyalty_changes=SOUND | {"RequiresSession": True, "RequiresDuplicateDetection": True},
    loyalty_notices=SOUND | {"DefaultMessageTimeToLive": "P1D"},
)
RIGHT = queues(dataverse_events=SOUND, loyalty_changes=SOUND | {"RequiresSession": True}, loyalty_notices=SOUND)


class Bus:
    def __init__(self, document: dict[str, Any]) -> None:
        self.broker = Broker(config.parse(document), policies=POLICIES)

    def __enter__(self) -> Bus:
        self.broker.__enter__()
        self.endpoint = admin.serve(self.broker, 0)
        return self

    def __exit__(self, *error: Any) -> None:
        self.endpoint.shutdown()
        self.endpoint.server_close()
        self.broker.__exit__(None, None, None)

    def settings(self, policy: str = "root", key: str | None = None, management: bool = True) -> Settings:
        connection = f"Endpoint=sb://localhost:{self.broker.port};SharedAccessKeyName={policy};"
        return read_settings(
            {
                "DATAVERSE_URL": "https://contoso.crm4.dynamics.com",
                "DATAVERSE_TENANT_ID": "contoso",
                "DATAVERSE_CLIENT_ID": "00000000-0000-0000-0000-000000000001",
                "DATAVERSE_CLIENT_SECRET": "secret",
                "ServiceBusConnection": f"{connection}SharedAccessKey={key or POLICIES[policy].key};UseDevelopmentEmulator=true",
                "SERVICE_BUS_MANAGEMENT": f"http://localhost:{self.endpoint.server_port}" if management else "",
            }
        )


@pytest.fixture(scope="module")
def wrong() -> Iterator[Bus]:
    with Bus(WRONG) as bus:
        yield bus


@pytest.fixture(scope="module")
def right() -> Iterator[Bus]:
    with Bus(RIGHT) as bus:
        yield bus


def test_sound_queues_have_nothing_to_be_said(right: Bus) -> None:
    found = list(check_queues(right.settings()))
    assert {finding.level for finding in found} == {Level.GOOD}
    assert [finding.says for finding in found][-1] == "has the properties it needs"


def test_each_wrong_property_is_named_with_what_to_click(wrong: Bus) -> None:
    found = [finding for finding in check_queues(wrong.settings()) if finding.level is not Level.GOOD]
    assert [(finding.about, finding.says.partition(":")[0]) for finding in found] == [
        ("queue dataverse-events", "its lock lasts 5 s"),
        ("queue dataverse-events", "a message is given up after 2 deliveries"),
        ("queue dataverse-events", "messages that expire are dropped without a trace"),
        ("queue loyalty-changes", "drops repeated messages"),
        ("queue loyalty-notices", "a message lives 1 days"),
    ]
    assert all(finding.do for finding in found)


def test_without_the_right_to_manage_the_doctor_says_so_and_where_to_look(right: Bus) -> None:
    found = [finding for finding in check_queues(right.settings("app")) if finding.level is not Level.GOOD]
    assert [finding.level for finding in found] == [Level.UNKNOWN] * 3
    assert all("right Manage" in finding.says and "portal" in finding.do for finding in found)
    assert "sessions on" in found[1].do


def test_an_emulator_without_its_address_is_said(right: Bus) -> None:
    (found,) = (f for f in check_queues(right.settings(management=False)) if f.level is not Level.GOOD)
    assert (found.level, "SERVICE_BUS_MANAGEMENT" in found.do) == (Level.UNKNOWN, True)


def test_a_wrong_key_is_wrong_and_never_shown(right: Bus) -> None:
    found = list(check_queues(right.settings(key="not-the-key")))
    assert Level.WRONG in {finding.level for finding in found}
    assert "not-the-key" not in " ".join(map(str, found))


def test_the_management_api_lists_queues_with_properties_and_counts(wrong: Bus) -> None:
    settings = wrong.settings()
    with service_bus(settings) as client, client.get_queue_sender("loyalty-notices") as sender:
        sender.send_messages([ServiceBusMessage("one"), ServiceBusMessage("two")])
    with service_bus_management(settings) as management:
        found = {queue.name: queue for queue in management.list_queues()}
        assert sorted(found) == ["dataverse-events", "loyalty-changes", "loyalty-notices"]
        assert (found["loyalty-changes"].requires_session, found["dataverse-events"].requires_session) == (True, False)
        assert found["dataverse-events"].max_delivery_count == 2
        counted = management.get_queue_runtime_properties("LOYALTY-notices")
        assert (counted.active_message_count, counted.total_message_count) == (2, 2)
        assert len([*management.list_queues_runtime_properties()]) == 3
        with pytest.raises(ResourceNotFoundError):
            management.get_queue("nowhere")


def test_the_management_api_refuses_strangers_and_changes(right: Bus) -> None:
    with (
        service_bus_management(right.settings(key="not-the-key")) as stranger,
        pytest.raises(ClientAuthenticationError),
    ):
        stranger.get_queue("loyalty-changes")
    with service_bus_management(right.settings()) as management:
        with pytest.raises(HttpResponseError, match="configuration file"):
            management.create_queue("another")
        with pytest.raises(HttpResponseError, match="configuration file"):
            management.delete_queue("loyalty-changes")
        assert management.get_queue("loyalty-changes").requires_session
