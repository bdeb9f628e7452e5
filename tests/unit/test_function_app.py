"""The function app as Microsoft's own worker library indexes it, in a process of its own: one app, one process."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.counter import RedemptionRequest, VoidRequest
from local.functions.ncrontab import Schedule

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "DATAVERSE_URL": "https://contoso.crm4.dynamics.com",
    "DATAVERSE_TENANT_ID": "contoso.onmicrosoft.com",
    "DATAVERSE_CLIENT_ID": "00000000-0000-0000-0000-000000000001",
    "DATAVERSE_CLIENT_SECRET": "hush-hush",
    "ServiceBusConnection": "Endpoint=sb://contoso.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=hush",
}
INDEX = """
import asyncio, json, sys
from pathlib import Path
from local.functions.errors import StartError
from local.functions.worker import Worker
worker = Worker()
try:
    asyncio.run(worker.start(Path.cwd()))
except StartError as error:
    sys.exit(str(error))
worker.stop()
print(json.dumps(worker.bindings))
"""


def start(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **SETTINGS, **settings}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def triggers() -> dict[str, dict[str, Any]]:
    indexed = start(INDEX)
    assert indexed.returncode == 0, indexed.stderr
    return {name: bindings[0] for name, bindings in json.loads(indexed.stdout.splitlines()[-1]).items()}


def test_the_worker_finds_every_function(triggers: dict[str, dict[str, Any]]) -> None:
    kinds = {name: trigger["type"] for name, trigger in triggers.items()}
    assert kinds == {
        "DataverseEvent": "serviceBusTrigger",
        "LoyaltyChange": "serviceBusTrigger",
        "PostRedemption": "httpTrigger",
        "PostVoid": "httpTrigger",
        "GetRedemption": "httpTrigger",
        "GetCustomer": "httpTrigger",
        "SendNotices": "timerTrigger",
        "PickUpWaiting": "timerTrigger",
        "StartReviews": "timerTrigger",
        "RunMassJobs": "timerTrigger",
        "SweepChanges": "timerTrigger",
        "ResubmitDeadLetters": "timerTrigger",
        "Measure": "timerTrigger",
    }


def test_changes_and_only_changes_come_in_sessions(triggers: dict[str, dict[str, Any]]) -> None:
    sessions = {
        name: trigger.get("isSessionsEnabled", False)
        for name, trigger in triggers.items()
        if trigger["type"] == "serviceBusTrigger"
    }
    assert sessions == {"DataverseEvent": False, "LoyaltyChange": True}
    assert "isSessionEnabled" not in triggers["LoyaltyChange"]  # the misspelling that the worker accepts silently
    assert triggers["LoyaltyChange"]["queueName"] == "%CHANGES_QUEUE%"


def test_every_http_function_asks_for_a_key(triggers: dict[str, dict[str, Any]]) -> None:
    levels = {str(t["authLevel"]).upper() for t in triggers.values() if t["type"] == "httpTrigger"}
    assert levels == {"FUNCTION"}


def test_binding_names_are_ones_that_the_host_accepts(triggers: dict[str, dict[str, Any]]) -> None:
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", trigger["name"]) for trigger in triggers.values())


def test_the_night_begins_with_what_events_missed(triggers: dict[str, dict[str, Any]]) -> None:
    """What the sweep finds may be past its last day, or change a tier."""
    evening = datetime(2026, 11, 22, 22, tzinfo=UTC)
    sweep, review = (
        Schedule.parse(triggers[name]["schedule"]).after(evening) for name in ("SweepChanges", "StartReviews")
    )
    assert review - sweep >= timedelta(minutes=30)


def test_openapi_describes_the_routes_and_bodies(triggers: dict[str, dict[str, Any]]) -> None:
    document = json.loads((ROOT / "docs/openapi.json").read_text())
    described = {
        (f"/{method.upper()}", path): operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    served = {
        (f"/{method}", f"/{trigger['route']}"): name
        for name, trigger in triggers.items()
        if trigger["type"] == "httpTrigger"
        for method in trigger["methods"]
    }
    assert described == served
    for model in (RedemptionRequest, VoidRequest):
        schema, body = model.model_json_schema(), document["components"]["schemas"][model.__name__]
        assert body["properties"].keys() == schema["properties"].keys()
        assert body["required"] == schema["required"]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("DATAVERSE_URL", "", "DATAVERSE_URL is missing"),
        ("DATAVERSE_URL", "http://contoso.crm4.dynamics.com", "DATAVERSE_URL: "),
        ("DATAVERSE_CLIENT_SECRET", "", "DATAVERSE_CLIENT_SECRET is missing"),
        ("DATAVERSE_SLOTS", "many", "DATAVERSE_SLOTS: "),
        ("ServiceBusConnection", "hush-hush", "ServiceBusConnection: "),
        ("LOYALTY_PROGRAM", "no such code!", "LOYALTY_PROGRAM: capital letters and digits is expected"),
        ("DATAVERSE_CA_FILE", "/no/such/file", "DATAVERSE_CA_FILE: a file that exists is expected"),
        ("DATAVERSE_CLIENT_ID", "-" * 36, "DATAVERSE_CLIENT_ID: an application (client) id"),
        (
            "ServiceBusConnection",
            "Endpoint=sb://x/;SharedAccessKeyName=hush;SharedAccessKey=",
            "ServiceBusConnection: ",
        ),
        ("LOG_FORMAT", "xml", "LOG_FORMAT: "),
        ("TELEMETRY", "yes", "TELEMETRY: "),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_line(name: str, value: str, sentence: str) -> None:
    refused = start(INDEX, **{name: value})
    assert refused.returncode != 0
    (line,) = refused.stderr.strip().splitlines()[-1:]
    assert sentence in line
    assert "hush" not in refused.stderr


def test_the_app_does_not_import_what_only_some_calls_need() -> None:
    """Every import is paid for at each cold start."""
    listed = start("import sys, function_app; print(' '.join(sys.modules))")
    assert listed.returncode == 0, listed.stderr
    modules = set(listed.stdout.split())
    heavy = {"msal", "azure.servicebus", "cryptography", "local", "pandas", "dataverse_schema", "opentelemetry"}
    assert not modules & heavy
