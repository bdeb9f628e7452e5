"""The config file in the emulator's form: what it means, and what it may not say."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local.servicebus import config
from tests.servicebus.broker import queues


def test_properties_are_read() -> None:
    settings = queues(
        orders={
            "RequiresSession": True,
            "LockDuration": "PT30S",
            "MaxDeliveryCount": 5,
            "DeadLetteringOnMessageExpiration": True,
            "DefaultMessageTimeToLive": "P1DT2H",
            "RequiresDuplicateDetection": True,
            "DuplicateDetectionHistoryTimeWindow": "PT20S",
            "ForwardTo": "",
        }
    ).queues["orders"]
    assert settings.requires_session
    assert settings.lock_duration == timedelta(seconds=30)
    assert settings.max_delivery_count == 5
    assert settings.dead_letter_on_expiration
    assert settings.default_ttl == timedelta(days=1, hours=2)
    assert settings.duplicate_window == timedelta(seconds=20)
    assert settings.forward_to is None


def test_defaults_are_those_of_the_cloud() -> None:
    settings = queues(q={}).queues["q"]
    assert (settings.lock_duration, settings.max_delivery_count) == (timedelta(minutes=1), 10)
    assert settings.default_ttl is None
    assert queues(q={"DefaultMessageTimeToLive": "P10675199DT2H48M5.477S"}).queues["q"].default_ttl is not None


@pytest.mark.parametrize(
    ("properties", "named"),
    [
        ({"Lockduration": "PT30S"}, "Lockduration"),
        ({"LockDuration": "30s"}, "LockDuration"),
        ({"LockDuration": "PT6M"}, "LockDuration"),
        ({"LockDuration": "PT"}, "LockDuration"),
        ({"MaxDeliveryCount": 0}, "MaxDeliveryCount"),
        ({"MaxDeliveryCount": True}, "MaxDeliveryCount"),
        ({"RequiresSession": "yes"}, "RequiresSession"),
        ({"ForwardTo": "nowhere"}, "ForwardTo"),
        ({"ForwardTo": "q"}, "ForwardTo"),
        ({"ForwardDeadLetteredMessagesTo": 3}, "ForwardDeadLetteredMessagesTo"),
        ({"RequiresSession": True, "ForwardTo": "q"}, "ForwardTo"),
    ],
)
def test_what_the_service_would_refuse_is_refused_in_one_line(properties: dict[str, Any], named: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        queues(q=properties)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"UserConfig": {"Namespaces": []}},
        {"UserConfig": {"Namespaces": [{"Name": "a"}, {"Name": "b"}]}},
        {"UserConfig": {"Namespaces": [{"Name": "a", "Queues": [{"Name": "q"}, {"Name": "Q"}]}]}},
        {"UserConfig": {"Namespaces": [{"Name": "a", "Queues": [{"Name": "q"}], "Topics": [{"Name": "Q"}]}]}},
        {"UserConfig": {"Namespaces": [{"Name": "a", "Queues": [{"Name": "bad name"}]}]}},
        {"UserConfig": {"Namespaces": [{"Name": "a", "Queues": [{"Properties": {}}]}]}},
        {"UserConfig": {"Namespaces": [{"Name": "a", "Queues": {}}]}},
    ],
)
def test_a_document_of_another_form_is_refused(document: Any) -> None:
    with pytest.raises(config.ConfigError):
        config.parse(document)


def test_a_file_is_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(config.ConfigError, match=r"config\.json"):
        config.read(path)
    path.write_text("{")
    with pytest.raises(config.ConfigError, match="not JSON"):
        config.read(path)
    path.write_text(json.dumps({"UserConfig": {"Namespaces": [{"Name": "a", "Queues": [{"Name": "q"}]}]}}))
    assert list(config.read(path).queues) == ["q"]
