"""What the doctor says about files, clocks, queues and programmes; the whole of it runs against the local stack elsewhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus.management import QueueProperties

from connector.doctor import check_clock, check_host
from connector.doctor_queues import judge
from connector.findings import Level

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def host(tmp_path: Path, **settings: Any) -> Path:
    path = tmp_path / "host.json"
    shipped = json.loads((ROOT / "host.json").read_text())
    shipped["extensions"]["serviceBus"] |= settings
    path.write_text(json.dumps(shipped))
    return path


def test_the_shipped_host_json_is_good() -> None:
    assert [finding.level for finding in check_host(ROOT / "host.json")] == [Level.GOOD]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sessionIdleTimeout": "00:01:00"}, "sessionIdleTimeout is 60 s"),
        ({"maxConcurrentSessions": 8}, "maxConcurrentSessions is 8"),
        ({"maxConcurrentCallsPerSession": 2}, "would overtake each other"),
        ({"autoCompleteMessages": False}, "every change comes back"),
        ({"sessionIdleTimeout": "soon"}, "no readable extensions.serviceBus"),
    ],
)
def test_a_bad_session_setting_is_named(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    found = [finding for finding in check_host(host(tmp_path, **settings)) if finding.level is not Level.GOOD]
    assert len(found) == 1
    assert says in found[0].says
    assert found[0].do


def test_a_missing_host_json_is_said(tmp_path: Path) -> None:
    assert [finding.level for finding in check_host(tmp_path / "host.json")] == [Level.WRONG]


@pytest.mark.parametrize(
    ("seconds", "level"), [(0, Level.GOOD), (-25, Level.GOOD), (45, Level.WARNING), (-45, Level.WARNING)]
)
def test_clock_skew_is_measured_in_both_directions(seconds: int, level: Level) -> None:
    headers = {"Date": "Sun, 01 Mar 2026 12:00:00 GMT"}
    assert [finding.level for finding in check_clock(headers, lambda: NOON + timedelta(seconds=seconds))] == [level]


def queue(**changes: Any) -> QueueProperties:
    right = {
        "lock_duration": timedelta(minutes=1),
        "max_delivery_count": 10,
        "dead_lettering_on_message_expiration": True,
        "default_message_time_to_live": timedelta(days=14),
        "requires_duplicate_detection": False,
        "forward_to": None,
        "status": "Active",
    }
    made = QueueProperties.__new__(QueueProperties)
    for name, value in (right | changes).items():
        setattr(made, name, value)
    return made


def test_a_queue_as_it_should_be_has_no_finding() -> None:
    assert list(judge("loyalty-changes", queue(), sessions=True)) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lock_duration": timedelta(seconds=5)}, "its lock lasts 5 s"),
        ({"max_delivery_count": 1}, "given up after 1 deliveries"),
        ({"dead_lettering_on_message_expiration": False}, "dropped without a trace"),
        ({"default_message_time_to_live": timedelta(days=1)}, "lives 1 days"),
        ({"requires_duplicate_detection": True}, "drops repeated messages"),
        ({"forward_to": "elsewhere"}, "forwards its messages"),
        ({"status": "ReceiveDisabled"}, "is ReceiveDisabled"),
    ],
)
def test_a_queue_property_that_loses_messages_is_named(changes: dict[str, Any], says: str) -> None:
    assert [
        finding.says for finding in judge("loyalty-changes", queue(**changes), sessions=True) if says in finding.says
    ]
