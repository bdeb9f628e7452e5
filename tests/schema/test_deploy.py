"""Installation in an environment: complete, repeatable, mendable, polite to what is there; and its removal."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector.dataverse import Create, DataverseClient
from dataverse_schema import metadata
from dataverse_schema.api import InstallError, WebApi
from dataverse_schema.deploy import Choices, deploy
from dataverse_schema.interface import Interface
from dataverse_schema.model import SOURCE, Model, load
from dataverse_schema.uninstall import uninstall

from .conftest import CONNECTOR, QUEUE, Mortal, Stopped, World

RATING = "EntityDefinitions(LogicalName='account')/Attributes/Microsoft.Dynamics.CRM.PicklistAttributeMetadata"
STEPS = (
    "sdkmessageprocessingsteps?$select=name,filteringattributes,statecode,sdkmessageprocessingstepid"
    "&$expand=sdkmessageprocessingstepid_sdkmessageprocessingstepimage($select=imagetype,attributes)"
)


def silent(line: str) -> None:
    """Nobody reads along."""


def install(client: Any, model: Model, choices: Choices) -> list[str]:
    return deploy(client, model, choices, say=silent)


def changes_nothing(client: DataverseClient, model: Model, choices: Choices) -> bool:
    """Whether a run finds nothing to do; it raises `Stopped` if it writes all the same."""
    return install(Mortal(client, 0), model, choices) == []


def rows(client: DataverseClient, path: str) -> list[dict[str, Any]]:
    return WebApi(client).rows(path)


def options(client: DataverseClient) -> dict[int, str]:
    found = rows(client, f"{RATING}?$select=LogicalName&$expand=OptionSet($select=Options)")
    rating = next(row for row in found if row["LogicalName"] == "accountratingcode")
    return {each["Value"]: each["Label"]["LocalizedLabels"][0]["Label"] for each in rating["OptionSet"]["Options"]}


def state(client: DataverseClient, model: Model) -> dict[str, Any]:
    """What can be seen of an installation."""
    found: dict[str, Any] = {"ratings": options(client)}
    for table in model.tables:
        path = f"EntityDefinitions(LogicalName='{table.logical_name}')"
        found[table.logical_name] = {
            "columns": sorted((row["LogicalName"], row["AttributeType"]) for row in rows(client, f"{path}/Attributes")),
            "keys": sorted((row["SchemaName"], row["EntityKeyIndexStatus"]) for row in rows(client, f"{path}/Keys")),
        }
    found["steps"] = sorted(
        (
            step["name"],
            step["filteringattributes"],
            sorted((image["imagetype"], image["attributes"]) for image in images),
        )
        for step in rows(client, STEPS)
        for images in [step["sdkmessageprocessingstepid_sdkmessageprocessingstepimage"]]
    )
    for path in ("webresourceset", "savedqueries", "systemforms", "roles", "sitemaps", "appmodules", "appactions",
                 "environmentvariabledefinitions", "savedqueryvisualizations", "serviceendpoints", "solutions",
                 "loy_programs", "loy_tiers", "loy_earnrules"):  # fmt: skip
        found[path] = sorted(
            str(row.get("name") or row.get("uniquename") or row.get("loy_name")) for row in rows(client, path)
        )
    return found


def test_everything_is_installed_and_a_second_run_changes_nothing(
    client: DataverseClient, model: Model, everything: Choices
) -> None:
    done = install(client, model, everything)
    assert len(done) == len(set(done))
    for table in model.own_tables:
        keys = rows(
            client,
            f"EntityDefinitions(LogicalName='{table.logical_name}')/Keys?$select=SchemaName,EntityKeyIndexStatus",
        )
        assert {(row["SchemaName"], row["EntityKeyIndexStatus"]) for row in keys} == {
            (key.schema_name, "Active") for key in table.keys
        }
    assert options(client) == {1: "Default Value", 482100000: "Silver", 482100001: "Gold", 482100002: "Platinum"}
    assert sorted(step["name"] for step in rows(client, STEPS)) == sorted(step.name for step in model.steps)
    assert [row["version"] for row in rows(client, "solutions?$filter=uniquename eq 'LoyaltyConnector'")] == [
        model.solution.version
    ]
    assert changes_nothing(client, model, everything)


def test_the_connector_can_write_what_it_needs_through_what_was_installed(
    installed: DataverseClient, model: Model, everything: Choices, installed_world: World
) -> None:
    account, membership = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000001"
    installed.commit([Create("accounts", {"accountid": account, "name": "Adatum"})])
    program = rows(installed, "loy_programs?$select=loy_programid")[0]["loy_programid"]
    with installed_world.client(CONNECTOR) as connector:
        connector.commit(
            [
                Create(
                    "loy_memberships",
                    {
                        "loy_membershipid": membership,
                        "loy_customerkey": f"account:{account}",
                        "loy_sequence": 0,
                        "loy_CustomerId_account@odata.bind": f"/accounts({account})",
                        "loy_ProgramId@odata.bind": f"/loy_programs({program})",
                    },
                ),
                Create(
                    "loy_entries",
                    {
                        "loy_sequence": 1,
                        "loy_idempotencykey": "invoice:x:earn:1",
                        "loy_points": 5,
                        "loy_hash": "0",
                        "loy_kind": 482100000,
                        "loy_MembershipId@odata.bind": f"/loy_memberships({membership})",
                    },
                ),
            ]
        )
    entry = rows(installed, f"loy_entries?$filter=_loy_membershipid_value eq {membership}")[0]
    assert entry["loy_points"] == 5


def test_a_dry_run_shows_the_plan_and_changes_nothing(
    client: DataverseClient, model: Model, everything: Choices
) -> None:
    said: list[str] = []
    planned = deploy(client, model, everything, dry_run=True, say=said.append)
    assert len(said) == len(planned) > 100
    assert all("would: " in line for line in said)
    assert rows(client, "publishers?$filter=customizationprefix eq 'loy'") == []
    assert install(client, model, everything) == planned


def test_the_plan_never_shows_the_key(client: DataverseClient, model: Model, everything: Choices) -> None:
    said: list[str] = []
    deploy(client, model, everything, say=said.append)
    assert QUEUE.key not in "\n".join(said) + repr(everything)


def test_a_run_that_dies_anywhere_is_finished_by_the_next(
    world: World, tmp_path: Path, model: Model, everything: Choices
) -> None:
    """With EVERY_WRITE=1 it dies at each single write, once with its answer unheard: some ten minutes."""
    every = bool(os.environ.get("EVERY_WRITE"))
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    print(f"seed {seed}")
    chance = random.Random(seed)
    with world.client() as client:
        left, writes, met = 1000, 0, set[str]()
        while left > 0:
            unheard = every or chance.random() < 0.5
            writes = writes if every else chance.randrange(0, 60)
            mortal = Mortal(client, writes, unheard=unheard)
            try:
                install(mortal, model, everything)
            except Stopped as stopped:
                left -= 1
                # A step of several writes begins with the one that is done already: the next death comes one write later.
                writes = writes + 1 if str(stopped) in met else 0
                met.add(str(stopped))
                solutions = rows(client, "solutions?$filter=uniquename eq 'LoyaltyConnector'")
                if all("not finished" in row["description"] for row in solutions):
                    continue
                assert unheard  # the very last write: it was done, only its answer was lost
            break
        print(f"died {1000 - left} times")
        assert changes_nothing(client, model, everything)
        keys = [
            row
            for table in model.own_tables
            for row in rows(client, f"EntityDefinitions(LogicalName='{table.logical_name}')/Keys")
        ]
        assert {row["EntityKeyIndexStatus"] for row in keys} == {"Active"}
        assert len(rows(client, STEPS)) == len(model.steps)
        assert len(rows(client, "loy_tiers")) == 4


def test_options_and_labels_of_the_company_stay(client: DataverseClient, model: Model, everything: Choices) -> None:
    def label(text: str) -> dict[str, Any]:
        return {"LocalizedLabels": [{"Label": text, "LanguageCode": 1033}]}

    place = {"EntityLogicalName": "account", "AttributeLogicalName": "accountratingcode"}
    client.request("POST", "InsertOptionValue", place | {"Value": 2, "Label": label("House account")})
    install(client, model, everything)
    client.request("POST", "UpdateOptionValue", place | {"Value": 482100001, "Label": label("Or"), "MergeLabels": True})
    assert changes_nothing(client, model, everything)
    assert options(client) == {
        1: "Default Value",
        2: "House account",
        482100000: "Silver",
        482100001: "Or",
        482100002: "Platinum",
    }


def test_steps_end_up_registered_once_and_right(installed: DataverseClient, model: Model, everything: Choices) -> None:
    update = next(step for step in rows(installed, STEPS) if step["name"] == "Loyalty: Update of invoice")
    path = f"sdkmessageprocessingsteps({update['sdkmessageprocessingstepid']})"
    full = WebApi(installed).get(path)
    assert full is not None
    installed.request(
        "PATCH", path, {"filteringattributes": "name", "statecode": 1, "statuscode": 2}, {"If-Match": "*"}
    )
    image = rows(installed, "sdkmessageprocessingstepimages")[0]
    installed.request("DELETE", f"sdkmessageprocessingstepimages({image['sdkmessageprocessingstepimageid']})")
    twin = {
        "name": "Copy",
        "stage": 40,
        "mode": 1,
        "rank": 1,
        "sdkmessageid@odata.bind": f"/sdkmessages({full['_sdkmessageid_value']})",
        "sdkmessagefilterid@odata.bind": f"/sdkmessagefilters({full['_sdkmessagefilterid_value']})",
        "eventhandler_serviceendpoint@odata.bind": f"/serviceendpoints({full['_eventhandler_value']})",
    }
    installed.request("POST", "sdkmessageprocessingsteps", twin)
    done = install(installed, model, everything)
    assert any("registered twice" in title for title in done)
    steps = {step["name"]: step for step in rows(installed, STEPS)}
    assert sorted(steps) == sorted(step.name for step in model.steps)
    assert sorted(steps["Loyalty: Update of invoice"]["filteringattributes"].split(",")) == sorted(
        model.steps[1].filtering
    )
    assert steps["Loyalty: Update of invoice"]["statecode"] == 0
    assert len(rows(installed, "sdkmessageprocessingstepimages")) == sum(
        bool(step.pre_image) + bool(step.post_image) for step in model.steps
    )
    assert changes_nothing(installed, model, everything)


def test_the_queue_s_key_is_written_again_only_when_asked(
    installed: DataverseClient, model: Model, everything: Choices
) -> None:
    assert changes_nothing(installed, model, replace(everything, queue=replace(QUEUE, key="another")))
    rotated = install(installed, model, replace(everything, queue=replace(QUEUE, key="another"), rotate_key=True))
    assert any("Update service endpoint" in title for title in rotated)
    moved = install(installed, model, replace(everything, queue=replace(QUEUE, address="sb://other/")))
    assert any("namespaceaddress" in title for title in moved)


def test_a_programme_that_exists_is_the_company_s(
    installed: DataverseClient, model: Model, everything: Choices
) -> None:
    tiers = rows(installed, "loy_tiers?$select=loy_tierid,loy_code")
    assert sorted(row["loy_code"] for row in tiers) == ["BASE", "GOLD", "PLATINUM", "SILVER"]
    silver = next(row for row in tiers if row["loy_code"] == "SILVER")
    installed.request("DELETE", f"loy_tiers({silver['loy_tierid']})")
    assert changes_nothing(installed, model, everything)
    assert len(rows(installed, "loy_tiers")) == 3


def older(tmp_path: Path) -> Model:
    """The source as an earlier release could have been: a shorter column, one option less, one column less."""
    source = tmp_path / "older"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    redemption = "tables/loy_redemption.toml"
    text = 'schema_name = "loy_Description"\ndisplay = "{}"\ntype = "String"\nmax_length = {}'
    channel = '[[columns]]\nschema_name = "loy_Channel"\ndisplay = "Channel"\ntype = "String"\nmax_length = 40\n'
    for file, old, new in (
        (redemption, text.format("Description", 400), text.format("Text", 100)),
        (redemption, ', [482100003, "Voided"]', ""),
        (redemption, channel, ""),
        ("solution.toml", 'version = "0.1.0.0"', 'version = "0.0.9.0"'),
    ):
        path = source / file
        assert old in path.read_text(), f"{file} no longer contains {old!r}"
        path.write_text(path.read_text().replace(old, new))
    return load(source)


def test_an_upgrade_adds_what_is_new_and_keeps_the_data(
    client: DataverseClient, tmp_path: Path, model: Model, interface: Interface
) -> None:
    install(client, older(tmp_path), Choices())
    redemption = "33333333-0000-4000-8000-000000000001"
    row = {"loy_redemptionid": redemption, "loy_requestid": "r1", "loy_description": "x" * 100, "loy_points": 7}
    client.commit([Create("loy_redemptions", row)])
    done = install(client, model, Choices())
    assert any(title.startswith("Create column loy_redemption.loy_channel") for title in done)
    assert any("Voided" in title for title in done)
    kept = client.get(f"loy_redemptions({redemption})")
    assert (kept["loy_points"], kept["loy_description"]) == (7, "x" * 100)
    client.request(
        "PATCH",
        f"loy_redemptions({redemption})",
        {"loy_description": "y" * 400, "loy_status": 482100003, "loy_channel": "till"},
    )
    column = WebApi(client).get(
        "EntityDefinitions(LogicalName='loy_redemption')/Attributes(LogicalName='loy_description')"
    )
    assert column is not None
    assert column["DisplayName"]["LocalizedLabels"][0]["Label"] == "Description"
    assert [row["version"] for row in rows(client, "solutions?$filter=uniquename eq 'LoyaltyConnector'")] == ["0.1.0.0"]
    assert changes_nothing(client, model, Choices())


def test_a_smaller_source_takes_nothing_away(client: DataverseClient, tmp_path: Path, model: Model) -> None:
    install(client, model, Choices())
    install(client, older(tmp_path), Choices())
    column = WebApi(client).get(
        "EntityDefinitions(LogicalName='loy_redemption')/Attributes(LogicalName='loy_description')"
    )
    assert column is not None
    assert column["MaxLength"] == 400


def test_another_publisher_with_our_prefix_is_named_before_anything_is_changed(
    client: DataverseClient, model: Model
) -> None:
    client.commit(
        [
            Create(
                "publishers",
                {
                    "uniquename": "contoso",
                    "friendlyname": "Contoso",
                    "customizationprefix": "loy",
                    "customizationoptionvalueprefix": 48210,
                },
            )
        ]
    )
    with pytest.raises(InstallError, match=r"Publisher contoso .* already uses the prefix loy"):
        install(client, model, Choices())
    assert rows(client, "solutions?$filter=uniquename eq 'LoyaltyConnector'") == []


def test_a_column_of_another_type_is_named_before_anything_is_changed(client: DataverseClient, model: Model) -> None:
    text = {
        "@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata",
        "SchemaName": "loy_PointsBalance",
        "DisplayName": {"LocalizedLabels": [{"Label": "Mine", "LanguageCode": 1033}]},
        "AttributeType": "String",
        "AttributeTypeName": {"Value": "StringType"},
        "FormatName": {"Value": "Text"},
        "MaxLength": 10,
        "RequiredLevel": {"Value": "None"},
    }
    client.request("POST", "EntityDefinitions(LogicalName='account')/Attributes", text)
    with pytest.raises(
        InstallError, match="loy_pointsbalance of account exists already, as String; the connector needs Integer"
    ):
        install(client, model, Choices())
    assert rows(client, "solutions?$filter=uniquename eq 'LoyaltyConnector'") == []


def test_a_table_of_another_kind_is_named_before_anything_is_changed(client: DataverseClient, model: Model) -> None:
    table = next(table for table in model.own_tables if table.logical_name == "loy_program")
    body = metadata.table_body(table, model.languages) | {"OwnershipType": "UserOwned"}
    client.request("POST", "EntityDefinitions", body)
    with pytest.raises(
        InstallError, match="loy_program exists already and is UserOwned; the connector needs OrganizationOwned"
    ):
        install(client, model, Choices())
    assert rows(client, "solutions?$filter=uniquename eq 'LoyaltyConnector'") == []


def test_a_user_who_may_not_customise_is_told_which_role_is_missing(world: World, model: Model) -> None:
    with world.client(CONNECTOR) as client, pytest.raises(InstallError, match="System Customizer"):
        install(client, model, Choices())


def test_removal_leaves_the_data_and_a_new_installation_finds_it(
    installed: DataverseClient, model: Model, interface: Interface, everything: Choices
) -> None:
    before = state(installed, model)
    said: list[str] = []
    uninstall(installed, model, interface, say=said.append)
    told = "\n".join(said)
    for left in (
        "Left, with their data",
        "loy_programversion",
        "rating options",
        "app registration",
        "change tracking",
    ):
        assert left in told
    # Nothing that stays needs what is gone, and what was taken off forms was published.
    for form in rows(installed, "systemforms?$select=formxml"):
        assert "loy_/" not in (form["formxml"] or "")
    titles = [line.partition("] ")[2] for line in said if line.startswith("[")]
    published = titles.index("Publish the forms")
    assert published < min(place for place, title in enumerate(titles) if title.startswith("Delete web resource"))
    assert published > max(place for place, title in enumerate(titles) if title.startswith("Take "))
    assert uninstall(installed, model, interface, say=silent) == []
    assert rows(installed, STEPS) == []
    assert rows(installed, "serviceendpoints") == []
    assert len(rows(installed, "loy_tiers")) == 4
    install(installed, model, everything)
    assert state(installed, model) == before


def test_removal_with_data_leaves_nothing_of_ours(
    client: DataverseClient, model: Model, interface: Interface, everything: Choices
) -> None:
    def everywhere() -> dict[str, Any]:
        names = ("webresourceset", "roles", "sitemaps", "appmodules", "appactions", "publishers", "solutions",
                 "environmentvariabledefinitions", "serviceendpoints",
                 # Those of a table go with it.
                 "systemforms?$filter=objecttypecode eq 'account' or objecttypecode eq 'none'",
                 "savedqueries?$filter=returnedtypecode eq 'account'")  # fmt: skip
        found: dict[str, Any] = {name: len(rows(client, name)) for name in names}
        found["tables"] = sorted(row["LogicalName"] for row in rows(client, "EntityDefinitions?$select=LogicalName"))
        found["account"] = sorted(
            row["LogicalName"] for row in rows(client, "EntityDefinitions(LogicalName='account')/Attributes")
        )
        found["ratings"] = options(client)
        return found

    before = everywhere()
    install(client, model, everything)
    uninstall(client, model, interface, with_data=True, say=silent)
    assert everywhere() == before
    assert uninstall(client, model, interface, with_data=True, say=silent) == []


def test_the_tab_goes_on_the_company_s_forms_and_off_again(
    installed: DataverseClient, model: Model, interface: Interface, everything: Choices
) -> None:
    company = '<form><tabs><tab name="SUMMARY_TAB" id="{5b4a8a40-0000-4000-8000-000000000001}" /></tabs></form>'
    form = {"name": "Account", "objecttypecode": "account", "type": 2, "formxml": company, "formactivationstate": 1}
    installed.commit([Create("systemforms", form | {"formid": "8448b78f-8f42-454e-8e2a-f8196b0419af"})])
    install(installed, model, everything)
    formxml = installed.get("systemforms(8448b78f-8f42-454e-8e2a-f8196b0419af)")["formxml"]
    assert formxml.count("<tab ") == 2
    assert "loy_pointsbalance" in formxml
    assert changes_nothing(installed, model, everything)
    uninstall(installed, model, interface, say=silent)
    assert installed.get("systemforms(8448b78f-8f42-454e-8e2a-f8196b0419af)")["formxml"].count("<tab ") == 1
