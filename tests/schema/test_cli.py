"""The commands as an administrator runs them, against the whole local stack."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from connector import cli as connector_cli
from connector.dataverse import DataverseClient
from connector.doctor import check_program
from connector.doctor_queues import check_queues
from connector.findings import Level
from connector.settings import read_settings
from dataverse_schema.cli import connect, main
from tests.stack import Stack

STEP = "Loyalty: Update of invoice"


@pytest.fixture
def settings(stack: Stack) -> dict[str, str]:
    place = stack.endpoints
    return {
        "DATAVERSE_URL": place["dataverse_url"],
        "DATAVERSE_TENANT_ID": place["tenant_id"],
        "DATAVERSE_AUTHORITY": place["authority"],
        "DATAVERSE_CLIENT_ID": place["client_id"],
        "DATAVERSE_CLIENT_SECRET": place["client_secret"],
        "DATAVERSE_CA_FILE": place["ca_file"],
        "ServiceBusConnection": place["servicebus_connection_string"],
        "SERVICE_BUS_MANAGEMENT": place["servicebus_admin_url"],
    }


@dataclass
class Run:
    status: int
    out: str
    error: str


def run(settings: Mapping[str, str], *arguments: str) -> Run:
    out, error = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        status = main(arguments, settings)
    return Run(status, out.getvalue(), error.getvalue())


def doctor(settings: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Run:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    with redirect_stdout(out):
        status = connector_cli.main(["doctor", *arguments])
    return Run(status, out.getvalue(), "")


def client_of(settings: Mapping[str, str]) -> DataverseClient:
    return connect(read_settings(settings))


def test_what_the_stack_installed_is_complete(settings: dict[str, str]) -> None:
    found = run(settings, "deploy", "--with-example")
    assert (found.status, found.error) == (0, "")
    assert found.out == "Nothing to do: the environment is as the source says.\n"


def test_the_doctor_names_what_is_wrong_and_the_installer_mends_it(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    well = doctor(settings, monkeypatch, "--probe")
    assert (well.status, "WRONG" in well.out) == (0, False), well.out
    assert well.out.count("has the properties it needs") == 3
    assert "round trip: an event came back after" in well.out
    with client_of(settings) as client:
        step = client.get(f"sdkmessageprocessingsteps?$select=name&$filter=name eq '{STEP}'")[0]
        path = f"sdkmessageprocessingsteps({step['sdkmessageprocessingstepid']})"
        client.request("PATCH", path, {"filteringattributes": "name"}, {"If-Match": "*"})
        ill = doctor(settings, monkeypatch)
        assert ill.status == 1
        assert f"Update step {STEP} (filteringattributes)" in ill.out
        mended = run(settings, "deploy", "--doctor")
    assert (mended.status, "WRONG" in mended.out) == (0, False), mended.out
    assert "tables, keys, forms, roles, endpoint and steps are as the source says" in mended.out


def test_the_doctor_sees_queues_that_are_missing_or_of_the_wrong_kind(settings: dict[str, str]) -> None:
    swapped = settings | {
        "CHANGES_QUEUE": "loyalty-notices",
        "EVENTS_QUEUE": "loyalty-changes",
        "NOTICES_QUEUE": "nowhere",
    }
    found = "\n".join(str(finding) for finding in check_queues(read_settings(swapped)))
    assert "queue loyalty-notices: has no sessions" in found
    assert "queue loyalty-changes: requires sessions, which its sender cannot give" in found
    assert "queue nowhere: does not exist" in found


def test_the_doctor_says_which_programme_is_missing(settings: dict[str, str]) -> None:
    with client_of(settings) as client:
        found = list(check_program(client, read_settings(settings | {"LOYALTY_PROGRAM": "NOPE"})))
    assert [finding.level for finding in found] == [Level.WRONG]
    assert "There is no programme with the code NOPE" in found[0].says


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"DATAVERSE_CLIENT_SECRET": "wrong-secret"}, "does not let us in"),
        ({"DATAVERSE_CLIENT_ID": str(uuid4())}, "does not let us in"),
        ({"DATAVERSE_URL": "http://example"}, "DATAVERSE_URL"),
        ({"DATAVERSE_URL": ""}, "DATAVERSE_URL is missing"),
        ({"DATAVERSE_CA_FILE": "/nowhere.pem"}, "DATAVERSE_CA_FILE"),
        ({"ServiceBusConnection": "Endpoint=http://x;SharedAccessKey=k"}, "ServiceBusConnection"),
    ],
)
def test_a_wrong_setting_is_one_line(settings: dict[str, str], changed: dict[str, str], said: str) -> None:
    found = run(settings | changed, "deploy")
    assert found.status == 1
    assert found.error.startswith("error: ")
    assert found.error.count("\n") == 1
    assert said in found.error
    assert settings["DATAVERSE_CLIENT_SECRET"] not in found.error
    assert "wrong-secret" not in found.error


def test_an_example_that_does_not_exist_is_said_with_those_that_do(settings: dict[str, str]) -> None:
    found = run(settings, "deploy", "--with-example", "NOPE")
    assert (found.status, found.error) == (1, "error: --with-example: there is no programme NOPE, only CJ, MAIN\n")


def test_build_writes_both_zips(tmp_path: Path) -> None:
    found = run({}, "build", "--out", str(tmp_path / "dist"))
    assert found.status == 0
    names = [Path(line).name for line in found.out.splitlines()]
    assert names == ["LoyaltyConnector_0_1_0_0.zip", "LoyaltyConnector_0_1_0_0_managed.zip"]
    for name, managed in zip(names, (b"<Managed>0</Managed>", b"<Managed>1</Managed>"), strict=True):
        with zipfile.ZipFile(tmp_path / "dist" / name) as archive:
            assert managed in archive.read("solution.xml")
