"""Each thing that can be wrong in Dataverse, broken in an installed environment: the doctor's sentence about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.dataverse import Create, DataverseClient, Delete, Update
from connector.doctor import (
    check_clock,
    check_deliveries,
    check_installation,
    check_partitions,
    check_program,
    check_roles,
    examine,
)
from connector.doctor_probe import PATIENCE, check_round_trip
from connector.findings import Finding, Level
from connector.settings import Settings, read_settings
from local.dataverse.provisioning import ensure_user, give_role
from tests.stopwatch import Stopwatch

from .conftest import CONNECTOR, QUEUE, World

ACCOUNT = "11111111-0000-4000-8000-000000000001"


@pytest.fixture
def settings() -> Settings:
    connection = f"Endpoint={QUEUE.address};SharedAccessKeyName={QUEUE.key_name};SharedAccessKey={QUEUE.key}"
    return read_settings(
        {
            "DATAVERSE_URL": "https://contoso.crm4.dynamics.com",
            "DATAVERSE_TENANT_ID": "contoso",
            "DATAVERSE_CLIENT_ID": CONNECTOR,
            "DATAVERSE_CLIENT_SECRET": "secret",
            "ServiceBusConnection": connection,
        }
    )


def said(findings: Iterator[Finding]) -> list[tuple[Level, str]]:
    return [(finding.level, finding.says) for finding in findings]


def first(client: DataverseClient, path: str, key: str) -> str:
    return str(client.get(path)[0][key])


def test_an_installed_environment_is_well(installed: DataverseClient, settings: Settings) -> None:
    levels = {
        finding.level
        for check in (check_installation(installed, settings), check_program(installed, settings))
        for finding in check
    }
    assert levels == {Level.GOOD}


def step(client: DataverseClient, name: str) -> str:
    found = first(client, f"sdkmessageprocessingsteps?$filter=name eq 'Loyalty: {name}'", "sdkmessageprocessingstepid")
    return f"sdkmessageprocessingsteps({found})"


def without_key(client: DataverseClient) -> None:
    path = "EntityDefinitions(LogicalName='loy_entry')/Keys"
    keys = client.request("GET", path).json()["value"]
    found = next(key for key in keys if key["SchemaName"] == "loy_EntrySequenceKey")
    client.request("DELETE", f"{path}({found['MetadataId']})")


def without_image(client: DataverseClient) -> None:
    key = "sdkmessageprocessingstepimageid"
    image = first(client, "sdkmessageprocessingstepimages", key)
    client.commit([Delete(f"sdkmessageprocessingstepimages({image})")])


def with_other_address(client: DataverseClient) -> None:
    endpoint = first(client, "serviceendpoints", "serviceendpointid")
    client.commit([Update(f"serviceendpoints({endpoint})", {"namespaceaddress": "sb://elsewhere/"})])


def with_weaker_role(client: DataverseClient) -> None:
    role = first(client, "roles?$filter=name eq 'Loyalty connector'", "roleid")
    rights = client.get(f"roleprivilegescollection?$filter=roleid eq {role}")
    privilege = rights[0]["privilegeid"]
    client.request("POST", f"roles({role})/Microsoft.Dynamics.CRM.RemovePrivilegeRole", {"PrivilegeId": privilege})


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (without_key, "key loy_EntrySequenceKey"),
        (without_image, "image"),
        (with_other_address, "service endpoint"),
        (with_weaker_role, "Loyalty connector"),
        (
            lambda client: client.commit(
                [Update(step(client, "Create of invoice"), {"statecode": 1, "statuscode": 2})]
            ),
            "Create of invoice",
        ),
        (lambda client: client.commit([Delete(step(client, "Create of invoice"))]), "step Loyalty: Create of invoice"),
    ],
    ids=["key", "image", "endpoint", "role", "step off", "step gone"],
)
def test_what_is_missing_or_changed_is_named_with_the_command_that_mends_it(
    installed: DataverseClient, settings: Settings, broken: Callable[[DataverseClient], Any], says: str
) -> None:
    broken(installed)
    found = list(check_installation(installed, settings))
    assert {finding.level for finding in found} == {Level.WRONG}
    assert any(says in finding.says for finding in found), found
    assert all("dataverse_schema deploy" in finding.do for finding in found)


def test_roles_that_are_too_broad_or_missing_are_named(installed_world: World, installed: DataverseClient) -> None:
    user = first(installed, f"systemusers?$filter=applicationid eq {CONNECTOR}", "systemuserid")
    assert said(check_roles(installed, user)) == [
        (Level.GOOD, 'the application user has "Loyalty connector" and nothing else')
    ]
    with installed_world.environment.storage.writing():
        give_role(installed_world.environment, user, "System Administrator")
    (found,) = (finding for finding in check_roles(installed, user) if finding.level is not Level.GOOD)
    assert 'has the role "System Administrator", far more than the connector needs' in found.says
    stranger = ensure_user(installed_world.environment, "stranger", application=ACCOUNT, roles=())
    assert said(check_roles(installed, stranger)) == [
        (Level.WARNING, 'the application user has no role "Loyalty connector"')
    ]


def test_a_clock_that_is_wrong_is_noticed_by_dataverse_s_own(installed: DataverseClient) -> None:
    headers = installed.request("GET", "WhoAmI").headers
    assert said(check_clock(headers, lambda: datetime.now(UTC))) == [(Level.GOOD, "agrees with Dataverse's")]
    ((level, says),) = said(check_clock(headers, lambda: datetime.now(UTC) + timedelta(minutes=4)))
    assert (level, "Dataverse are 2" in says) == (Level.WARNING, True)


def test_events_that_cannot_be_posted_are_counted_with_the_reason(
    installed_world: World, installed: DataverseClient
) -> None:
    assert said(check_deliveries(installed, lambda: datetime.now(UTC)))[0][0] is Level.GOOD
    bind = {"customerid_account@odata.bind": f"/accounts({ACCOUNT})"}
    installed.commit([Create("accounts", {"accountid": ACCOUNT, "name": "Adatum"})])
    installed.commit([Create("invoices", {"name": "I", **bind})])
    installed_world.environment.outbox.deliver()
    (found,) = check_deliveries(installed, lambda: datetime.now(UTC))
    assert found.level is Level.WRONG
    assert "is trying again to post" in found.says
    assert "--rotate-key" in found.do
    assert QUEUE.key not in str(found)


def test_a_programme_that_is_gone_or_contradicts_itself_is_named(
    installed: DataverseClient, settings: Settings
) -> None:
    gold = first(installed, "loy_tiers?$filter=loy_code eq 'GOLD'", "loy_tierid")
    installed.commit([Update(f"loy_tiers({gold})", {"loy_rank": 1})])
    assert said(check_program(installed, settings)) == [
        (Level.WRONG, "MAIN: tiers GOLD and SILVER have the same rank 1")
    ]
    installed.commit([Update(f"loy_tiers({gold})", {"loy_rank": None})])
    assert said(check_program(installed, settings)) == [(Level.WRONG, "MAIN: the column loy_rank is empty")]
    rule = first(installed, "loy_earnrules", "loy_earnruleid")
    installed.commit([Delete(f"loy_earnrules({rule})")])
    assert said(check_program(installed, settings)) == [(Level.WRONG, "Programme MAIN has no earn rule.")]


def test_a_membership_that_mass_runs_would_pass_by_is_named(installed: DataverseClient) -> None:
    assert [finding.level for finding in check_partitions(installed)] == [Level.GOOD]
    installed.commit([Create("loy_memberships", {"loy_name": "Lost", "loy_customerkey": "account:lost"})])
    (found,) = check_partitions(installed)
    assert (found.level, "account:lost" in found.says) == (Level.WARNING, True)
    assert found.do == "Run: python -m connector audit --repair"


def test_who_may_not_look_is_told_whom_to_ask(installed_world: World, settings: Settings) -> None:
    with installed_world.client(CONNECTOR) as connector:
        (found,) = check_installation(connector, settings)
    assert (found.level, "with the user that installs" in found.do) == (Level.UNKNOWN, True)


def test_whom_dataverse_does_not_know_is_said_before_all_else(
    installed_world: World, settings: Settings, tmp_path: Path
) -> None:
    with installed_world.client("99999999-0000-4000-8000-00000000000f") as stranger:
        found = [f for f in examine(stranger, settings, tmp_path, lambda: datetime.now(UTC)) if f.about == "Dataverse"]
    assert [finding.level for finding in found] == [Level.WRONG]
    assert "DATAVERSE_URL" in found[0].do


def test_events_that_never_come_back_are_noticed_and_the_remark_is_taken_away(
    installed: DataverseClient, settings: Settings
) -> None:
    time = Stopwatch()
    (found,) = check_round_trip(installed, settings, pause=time.sleep, clock=lambda: time.now)
    assert (found.level, time.now) == (Level.WRONG, PATIENCE)
    assert "function app" in found.do
    assert installed.get("loy_programs?$select=loy_problem")[0]["loy_problem"] is None
