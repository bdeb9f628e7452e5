"""The solution zip imported into the local Dataverse: the same environment as after the step-by-step installation."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from typing import Any

import pytest

from connector.dataverse import Create, DataverseClient, DataverseError, Forbidden
from dataverse_schema import cli
from dataverse_schema.api import InstallError, WebApi
from dataverse_schema.deploy import Choices, deploy
from dataverse_schema.importing import import_solution
from dataverse_schema.interface import Interface
from dataverse_schema.model import Model
from dataverse_schema.package import solution_zip
from dataverse_schema.rows import programs
from dataverse_schema.uninstall import uninstall

from .conftest import CONNECTOR, QUEUE, World

ACCOUNT_FORM = "8448b78f-8f42-454e-8e2a-f8196b0419af"
# What differs between any two tables that mean the same.
VOLATILE = {
    "MetadataId",
    "CreatedOn",
    "ModifiedOn",
    "ObjectTypeCode",
    "ColumnNumber",
    "HasChanged",
    "@odata.context",
    "LinkedAttributeId",
}


def silent(line: str) -> None:
    """Nobody reads along."""


@pytest.fixture
def package(model: Model, interface: Interface) -> bytes:
    return solution_zip(model, interface, managed=False)


def bring(client: DataverseClient, data: bytes) -> None:
    import_solution(WebApi(client), data, sleep=lambda seconds: None)


def changed(data: bytes, member: str, old: str, new: str) -> bytes:
    """The package with one text replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == member:
                assert old.encode() in content, f"{member} no longer contains {old!r}"
                content = content.replace(old.encode(), new.encode(), 1)
            target.writestr(name, content)
    return buffer.getvalue()


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name not in VOLATILE}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def metadata(client: DataverseClient, model: Model) -> dict[str, Any]:
    """Everything the metadata endpoints say about our tables and columns."""
    api, found = WebApi(client), {}
    for table in model.tables:
        path = f"EntityDefinitions(LogicalName='{table.logical_name}')"
        definition = None if table.extends else plain(api.get(path))
        columns = api.rows(f"{path}/Attributes")
        names = {column.logical_name for column in table.columns}
        found[table.logical_name] = {
            "table": definition,
            "columns": {c["LogicalName"]: plain(c) for c in columns if not table.extends or c["LogicalName"] in names},
            "keys": sorted((key["SchemaName"], key["KeyAttributes"]) for key in api.rows(f"{path}/Keys")),
            "relationships": {
                row["SchemaName"]: plain(row)
                for row in api.rows(f"{path}/ManyToOneRelationships")
                if row["SchemaName"].startswith("loy_")
            },
            "choices": {
                row["LogicalName"]: sorted(
                    (o["Value"], plain(o["Label"])["LocalizedLabels"][0]["Label"]) for o in row["OptionSet"]["Options"]
                )
                for row in api.rows(
                    f"{path}/Attributes/Microsoft.Dynamics.CRM.PicklistAttributeMetadata?$select=LogicalName&$expand=OptionSet($select=Options)"
                )
                if row["LogicalName"] in names
            },
        }
    return found


def rows(client: DataverseClient, model: Model) -> dict[str, Any]:
    """Views, forms, charts, roles, pages and variables by id or name."""
    api = WebApi(client)
    tables = {table.logical_name for table in model.tables} | {"none"}
    named = {row["MetadataId"]: row["LogicalName"] for row in api.rows("EntityDefinitions?$select=LogicalName")}
    named |= {row["sitemapid"]: row["sitemapnameunique"] for row in api.rows("sitemaps")}
    privileges = {row["privilegeid"]: row["name"].lower() for row in api.rows("privileges?$select=name")}

    def rights(role: str) -> list[tuple[str, int]]:
        found = api.rows(f"roleprivilegescollection?$filter=roleid eq {role}")
        return sorted((privileges[row["privilegeid"]], row["privilegedepthmask"]) for row in found)

    return {
        "views": {
            row["savedqueryid"]: (
                row["name"],
                row["querytype"],
                row["isdefault"],
                squeezed(row["fetchxml"]),
                squeezed(row["layoutxml"]),
            )
            for row in api.rows("savedqueries")
            if row["returnedtypecode"] in tables
        },
        "forms": {
            row["formid"]: (row["name"], row["type"], squeezed(row["formxml"]))
            for row in api.rows("systemforms")
            if row["objecttypecode"] in tables
        },
        "charts": {
            row["savedqueryvisualizationid"]: (
                row["name"],
                row["primaryentitytypecode"],
                squeezed(row["datadescription"]),
                squeezed(row["presentationdescription"]),
            )
            for row in api.rows("savedqueryvisualizations")
        },
        "pages": {
            row["webresourceid"]: (row["name"], row["webresourcetype"], row["content"])
            for row in api.rows("webresourceset")
        },
        "variables": {
            (row["schemaname"], row["displayname"], row["description"], row["type"], row["defaultvalue"])
            for row in api.rows("environmentvariabledefinitions")
        },
        "site maps": {(row["sitemapnameunique"], squeezed(row["sitemapxml"])) for row in api.rows("sitemaps")},
        "apps": {
            row["uniquename"]: (
                row["name"],
                row["description"],
                sorted(
                    role["name"]
                    for role in api.rows(f"appmodules({row['appmoduleid']})/appmoduleroles_association?$select=name")
                ),
                sorted(
                    (each["componenttype"], named.get(each["objectid"], each["objectid"]))
                    for each in api.rows("appmodulecomponents")
                ),
            )
            for row in api.rows("appmodules")
        },
        "roles": {row["name"]: rights(row["roleid"]) for row in api.rows("roles?$filter=startswith(name,'Loyalty')")},
    }


def events(client: DataverseClient) -> dict[str, Any]:
    """Endpoint, steps with images, and commands: what no package carries, by name."""
    api = WebApi(client)
    endpoint = ("name", "contract", "messageformat", "namespaceaddress", "path", "authtype", "saskeyname")
    step = ("name", "stage", "mode", "rank", "filteringattributes", "asyncautodelete", "statecode")
    image = ("imagetype", "entityalias", "attributes")
    images = "sdkmessageprocessingstepid_sdkmessageprocessingstepimage"
    command = ("name", "uniquename", "context", "contextvalue", "onclickeventjavascriptfunctionname", "hidden")
    return {
        "endpoints": [[row[column] for column in endpoint] for row in api.rows("serviceendpoints")],
        "steps": sorted(
            ([row[column] for column in step], sorted([each[column] for column in image] for each in row[images]))
            for row in api.rows(f"sdkmessageprocessingsteps?$expand={images}")
        ),
        "commands": sorted([row[column] for column in command] for row in api.rows("appactions")),
        "tiers": sorted((row["loy_code"], row["loy_rank"]) for row in api.rows("loy_tiers")),
    }


def squeezed(xml: str) -> str:
    return re.sub(r"\s*(/?>)", r"\1", re.sub(r">\s+<", "><", xml))


def test_import_and_installation_make_the_same_environment(
    client: DataverseClient,
    other_world: World,
    model: Model,
    interface: Interface,
    everything: Choices,
    package: bytes,
) -> None:
    bring(client, package)
    with other_world.client() as step_by_step:
        deploy(step_by_step, model, Choices(interface=interface), say=silent)
        assert metadata(client, model) == metadata(step_by_step, model)
        assert rows(client, model) == rows(step_by_step, model)
        # What no package can carry the installer adds to both.
        for each in (client, step_by_step):
            deploy(each, model, everything, say=silent)
        assert events(client) == events(step_by_step)
        assert len(events(client)["steps"]) == len(model.steps)
        assert metadata(client, model) == metadata(step_by_step, model)
        assert rows(client, model) == rows(step_by_step, model)


def test_the_installer_has_little_to_add_to_an_imported_package(
    client: DataverseClient, model: Model, interface: Interface, package: bytes
) -> None:
    bring(client, package)
    done = deploy(client, model, Choices(interface=interface), say=silent)
    rating = "to account.accountratingcode"
    assert [title for title in done if "change tracking" not in title] == [
        "Mark the solution as being changed",
        f"Add option Silver (482100000) {rating}",
        f"Add option Gold (482100001) {rating}",
        f"Add option Platinum (482100002) {rating}",
        "Create command Customer Redemption on account",
        "Translate appaction Customer Redemption on account (Punkte einlösen)",
        "Create command Customer Redemption on contact",
        "Translate appaction Customer Redemption on contact (Punkte einlösen)",
        "Wait for the keys, publish, and record the version",
    ]


def test_importing_twice_changes_nothing(client: DataverseClient, model: Model, package: bytes) -> None:
    bring(client, package)
    before = metadata(client, model), rows(client, model)
    bring(client, package)
    assert (metadata(client, model), rows(client, model)) == before


def test_the_managed_installation_is_complete_and_repeatable(
    client: DataverseClient, model: Model, interface: Interface, world: World
) -> None:
    company = '<form><tabs><tab name="SUMMARY_TAB" id="{1}" /></tabs></form>'
    form = {"name": "Account", "objecttypecode": "account", "type": 2, "formxml": company, "formid": ACCOUNT_FORM}
    client.commit([Create("systemforms", form)])
    choices = Choices(
        interface=interface,
        queue=QUEUE,
        program=programs(model)["MAIN"],
        application_user=CONNECTOR,
        package=solution_zip(model, interface, managed=True),
    )
    done = deploy(client, model, choices, say=silent)
    assert done[0].startswith("Import the managed solution")
    assert deploy(client, model, choices, say=silent) == []
    api = WebApi(client)
    solution = api.rows("solutions?$filter=uniquename eq 'LoyaltyConnector'")[0]
    assert (solution["ismanaged"], solution["version"]) == (True, model.solution.version)
    assert len(api.rows("sdkmessageprocessingsteps")) == len(model.steps)
    assert len(api.rows("loy_tiers")) == 4
    formxml = (api.get(f"systemforms({ACCOUNT_FORM})") or {})["formxml"]
    assert re.findall(r'<tab name="(\w+)"', formxml) == ["SUMMARY_TAB", "loy_tab"]
    with world.client(CONNECTOR) as connector:
        assert len(connector.get("loy_tiers?$select=loy_code")) == 4
    with pytest.raises(InstallError, match="removes its tables with all their data"):
        uninstall(client, model, interface, say=silent)


def test_a_managed_package_alone_brings_the_tab_and_its_removal_leaves_nothing(
    client: DataverseClient, model: Model, interface: Interface
) -> None:
    forms = {"account": ACCOUNT_FORM, "contact": "1fed44d1-ae68-4a41-bd2b-f13acac4acfa"}
    company = '<form><tabs><tab name="SUMMARY_TAB" id="{1}" /></tabs></form>'
    for table, form_id in forms.items():
        form = {"name": table, "objecttypecode": table, "type": 2, "formxml": company, "formid": form_id}
        client.commit([Create("systemforms", form)])
    collections = ("publishers", "solutions", "systemforms", "savedqueries", "roles", "webresourceset", "appmodules",
                   "sitemaps", "environmentvariabledefinitions", "serviceendpoints",
                   "sdkmessageprocessingsteps", "EntityDefinitions?$select=LogicalName",
                   "EntityDefinitions(LogicalName='account')/Attributes?$select=LogicalName")  # fmt: skip

    def everything() -> dict[str, int]:
        return {name: len(WebApi(client).rows(name)) for name in collections}

    def tabs() -> dict[str, list[str]]:
        found = {table: client.get(f"systemforms({form_id})")["formxml"] for table, form_id in forms.items()}
        return {table: re.findall(r'<tab name="(\w+)"', formxml) for table, formxml in found.items()}

    before = everything()
    package = solution_zip(model, interface, managed=True)
    bring(client, package)
    assert tabs() == {table: ["SUMMARY_TAB", "loy_tab"] for table in forms}
    deploy(client, model, Choices(interface=interface, queue=QUEUE, package=package), say=silent)
    uninstall(client, model, interface, with_data=True, say=silent)
    assert everything() == before
    assert tabs() == {table: ["SUMMARY_TAB"] for table in forms}
    assert uninstall(client, model, interface, with_data=True, say=silent) == []


def test_the_commands_of_a_managed_installation(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "DATAVERSE_URL": "https://contoso.crm4.dynamics.com",
        "DATAVERSE_TENANT_ID": "contoso",
        "DATAVERSE_CLIENT_ID": CONNECTOR,
        "DATAVERSE_CLIENT_SECRET": "secret",
        "ServiceBusConnection": f"Endpoint={QUEUE.address};SharedAccessKeyName={QUEUE.key_name};SharedAccessKey={QUEUE.key}",
    }
    monkeypatch.setattr(cli, "connect", lambda settings: world.client())

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(arguments, settings)
        return status, *capsys.readouterr()

    status, out, error = run("deploy", "--managed", "--no-events", "--with-example")
    assert (status, "Import the managed solution" in out) == (0, True), error
    status, _, error = run("uninstall")
    assert (status, error.count("\n"), "--with-data" in error) == (1, 1, True)
    status, out, _ = run("uninstall", "--with-data", "--dry-run")
    assert (status, "would: Delete managed solution" in out) == (0, True)
    assert run("deploy", "--managed", "--no-events", "--with-example")[1].startswith("Nothing to do")
    assert run("uninstall", "--with-data")[0] == 0
    assert "Nothing to remove." in run("uninstall", "--with-data")[1]


def test_managed_and_unmanaged_do_not_mix(
    client: DataverseClient, model: Model, interface: Interface, package: bytes
) -> None:
    bring(client, package)
    managed = solution_zip(model, interface, managed=True)
    with pytest.raises(InstallError, match="installed unmanaged here"):
        deploy(client, model, Choices(package=managed), say=silent)
    with pytest.raises(InstallError, match="already installed on this system as an unmanaged solution"):
        bring(client, managed)


def names(client: DataverseClient) -> set[str]:
    return {row["LogicalName"] for row in WebApi(client).rows("EntityDefinitions?$select=LogicalName")}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("PrimaryName|ValidFor", "ValidFor", "PrimaryName attribute not found"),
        ("<OwnershipTypeMask>OrgOwned", "<OwnershipTypeMask>OrganizationOwned", "value 'OrganizationOwned'"),
        ("<MaxLength>20</MaxLength>", "", "must have a max length value"),
        ("<AttributeName>loy_code", "<AttributeName>loy_kode", "loy_kode"),
        ('name="prvReadloy_Entry"', 'name="prvReadloy_Entri"', "privilege prvReadloy_Entri is unknown"),
        ("<Workflows />", "<Workflows><Workflow /></Workflows>", "of 'Workflows' are not supported"),
        ("<FileName>/WebResources/", "<FileName>/WebResources/x", "is not in the package"),
    ],
)  # fmt: skip
def test_a_package_that_cannot_be_imported_changes_nothing(
    client: DataverseClient, package: bytes, old: str, new: str, said: str
) -> None:
    tables = names(client)
    with pytest.raises((InstallError, DataverseError), match=re.escape(said)):
        bring(client, changed(package, "customizations.xml", old, new))
    assert names(client) == tables
    assert WebApi(client).rows("solutions?$filter=uniquename eq 'LoyaltyConnector'") == []


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x05\x06" + b"\0" * 18], ids=["empty", "text", "empty zip"])
def test_a_file_that_is_no_package_is_refused_at_once(client: DataverseClient, data: bytes) -> None:
    with pytest.raises(DataverseError) as refused:
        client.request("POST", "ImportSolution", {"CustomizationFile": base64.b64encode(data).decode()})
    assert (refused.value.status, refused.value.hex_code) == (400, "0x80048060")


def test_a_staged_package_is_described_and_can_be_imported(
    client: DataverseClient, model: Model, package: bytes
) -> None:
    api = WebApi(client)
    staged = api.call("StageSolution", {"CustomizationFile": base64.b64encode(package).decode()})[
        "StageSolutionResults"
    ]
    assert staged["SolutionDetails"]["SolutionUniqueName"] == "LoyaltyConnector"
    upload = {"StageSolutionUploadId": staged["StageSolutionUploadId"]}
    api.call("ImportSolution", {"SolutionParameters": upload})
    assert api.rows("loy_programs") == []


def test_importing_needs_the_right_to(world: World, package: bytes) -> None:
    with world.client(CONNECTOR) as client, pytest.raises(Forbidden):
        client.request("POST", "ImportSolution", {"CustomizationFile": base64.b64encode(package).decode()})
