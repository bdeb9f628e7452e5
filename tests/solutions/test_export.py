"""ExportSolution: what it writes comes back the same in another environment."""

import base64
import io
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dataverse_schema.interface import Interface
from dataverse_schema.model import Model
from dataverse_schema.package import solution_zip
from tests.dataverse.conftest import Dataverse, column, label
from tests.solutions.conftest import NAME, Open, export, import_zip, new_solution

VOLATILE = {"MetadataId", "CreatedOn", "ModifiedOn", "ObjectTypeCode", "ColumnNumber", "HasChanged", "@odata.context"}
ROWS = {
    "savedqueries": ("name", "returnedtypecode", "querytype", "fetchxml", "layoutxml", "isdefault", "isquickfindquery"),
    "systemforms": ("name", "objecttypecode", "type", "formxml", "formactivationstate"),
    "savedqueryvisualizations": ("name", "primaryentitytypecode", "datadescription", "presentationdescription"),
    "webresourceset": ("name", "displayname", "webresourcetype", "content"),
    "roles": ("name",),
    "fieldsecurityprofiles": ("name", "description"),
    "fieldpermissions": ("entityname", "attributelogicalname", "canread", "cancreate", "canupdate"),
    "sitemaps": ("sitemapname", "sitemapnameunique", "sitemapxml"),
    "appmodules": ("name", "uniquename", "description", "clienttype"),
    "environmentvariabledefinitions": ("schemaname", "displayname", "description", "defaultvalue", "type"),
    "environmentvariablevalues": ("schemaname", "value"),
    "appactions": ("uniquename", "name", "buttonlabeltext", "context", "contextvalue", "location", "onclickeventtype"),
    "serviceendpoints": ("name", "contract", "authtype", "messageformat", "url", "path", "connectionmode"),
    "sdkmessageprocessingsteps": ("name", "stage", "mode", "rank", "filteringattributes", "asyncautodelete"),
    "sdkmessageprocessingstepimages": ("name", "entityalias", "imagetype", "attributes"),
}


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name not in VOLATILE}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def squeezed(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith("<"):
        return ElementTree.canonicalize(value, strip_text=True)
    return value


def contents(dataverse: Dataverse) -> dict[str, Any]:
    """All that solutions carry, without what differs between any two environments."""
    found: dict[str, Any] = {}
    for row in dataverse.ok("GET", "EntityDefinitions?$select=LogicalName,IsCustomEntity")["value"]:
        name = row["LogicalName"]
        table = dataverse.env.schema.tables[name]
        custom = [c.name for c in table.columns.values() if c.custom]
        if not custom or table.intersect:
            continue
        path = f"EntityDefinitions(LogicalName='{name}')"
        columns = dataverse.ok("GET", f"{path}/Attributes")["value"]
        ends = dataverse.ok("GET", f"{path}/ManyToOneRelationships")["value"]
        ends += dataverse.ok("GET", f"{path}/ManyToManyRelationships")["value"]
        found[name] = {
            "table": plain(dataverse.ok("GET", path)) if table.custom else None,
            "columns": sorted((plain(c) for c in columns if c["LogicalName"] in custom), key=str),
            "options": {
                c.name: [vars_of(o) for o in dataverse.env.schema.options_of(c)] for c in table.columns.values()
            },
            "keys": sorted((plain(k) for k in dataverse.ok("GET", f"{path}/Keys")["value"]), key=str),
            "relationships": sorted((plain(r) for r in ends if r["IsCustomRelationship"]), key=str),
        }
    for name, columns in ROWS.items():
        rows = dataverse.ok("GET", name)["value"]
        found[name] = sorted(([squeezed(row[c]) for c in columns] for row in rows), key=str)
    rights = dataverse.env.storage.reader.execute(
        "SELECT r.name, lower(p.name), d.privilegedepthmask FROM roleprivileges d JOIN role r ON r.roleid = d.roleid "
        "JOIN privilege p ON p.privilegeid = d.privilegeid ORDER BY 1, 2"
    )
    found["privileges"] = rights.fetchall()
    apps = "appmodules?$select=uniquename&$expand=appmoduleroles_association($select=name)"
    found["app roles"] = [
        sorted(role["name"] for role in row["appmoduleroles_association"]) for row in dataverse.ok("GET", apps)["value"]
    ]
    parts = dataverse.ok("GET", "appmodulecomponents?$select=componenttype,objectid")["value"]
    known = {row["entityid"]: row["logicalname"] for row in dataverse.ok("GET", "entities")["value"]}
    known |= {row["sitemapid"]: row["sitemapnameunique"] for row in dataverse.ok("GET", "sitemaps")["value"]}
    known |= {row["formid"]: row["name"] for row in dataverse.ok("GET", "systemforms")["value"]}
    found["app parts"] = sorted((row["componenttype"], known[row["objectid"]]) for row in parts)
    run = dataverse.env.storage.reader.execute
    ribbons = run("SELECT part, content FROM \"#layer\" WHERE kind = 'ribbon'").fetchall()
    found["ribbons"] = {part: squeezed(content) for part, content in ribbons}
    return found


def vars_of(option: Any) -> tuple[Any, ...]:
    return (option.value, option.label, option.state, tuple(sorted(option.labels.items())))


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_our_solution_comes_back_the_same(opened: Open, template: Path, model: Model, interface: Interface) -> None:
    first, second = opened(template), opened(template)
    import_zip(first, solution_zip(model, interface, managed=False))
    data = export(first)
    import_zip(second, data)
    assert contents(second) == contents(first)
    assert members(export(second)) == members(data)


def test_exported_managed_it_can_be_installed_and_removed(
    opened: Open, template: Path, model: Model, interface: Interface
) -> None:
    first, second = opened(template), opened(template)
    before = contents(second)
    import_zip(first, solution_zip(model, interface, managed=False))
    import_zip(second, export(first, managed=True))
    assert contents(second) == contents(first)
    (row,) = second.ok("GET", f"solutions?$filter=uniquename eq '{NAME}'")["value"]
    assert (row["ismanaged"], row["version"]) == (True, model.solution.version)
    second.ok("DELETE", f"solutions({row['solutionid']})")
    assert contents(second) == before


@pytest.fixture(scope="session")
def acme_home(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of component, made through the Web API in an unmanaged solution."""
    path = tmp_path_factory.mktemp("acme") / "dataverse.db"
    shutil.copyfile(template, path)
    dataverse = Dataverse(path)
    header = new_solution(dataverse, "AcmeCards")

    def make(path: str, body: dict[str, Any]) -> str:
        return str(dataverse.ok("POST", path, body, **header))

    two = {"LocalizedLabels": [{"Label": "Card", "LanguageCode": 1033}, {"Label": "Karte", "LanguageCode": 1031}]}
    options = [{"Value": 300_000_000 + n, "Label": label(f"Option {n}")} for n in range(3)]
    kind = "Microsoft.Dynamics.CRM."
    make("GlobalOptionSetDefinitions", {
        "@odata.type": f"{kind}OptionSetMetadata", "Name": "acme_color", "DisplayName": label("Color"), "IsGlobal": True,
        "OptionSetType": "Picklist", "Options": options,
    })  # fmt: skip
    for name, ownership in (("acme_Card", "UserOwned"), ("acme_Shop", "OrganizationOwned")):
        make("EntityDefinitions", {
            "SchemaName": name, "DisplayName": two, "DisplayCollectionName": label(f"{name}s"),
            "Description": label("What it is"), "OwnershipType": ownership, "ChangeTrackingEnabled": True,
            "IsAuditEnabled": {"Value": True},
            "Attributes": [column("String", "acme_Name", MaxLength=80, IsPrimaryName=True)],
        })  # fmt: skip
    card = "EntityDefinitions(LogicalName='acme_card')"
    for body in (
        column("String", "acme_Code", MaxLength=20, RequiredLevel={"Value": "ApplicationRequired"}),
        column("String", "acme_Number", MaxLength=20, AutoNumberFormat="C-{SEQNUM:5}"),
        column("Memo", "acme_Note", MaxLength=3000),
        column("Integer", "acme_Whole", MinValue=-5, MaxValue=500),
        column("BigInt", "acme_Big"),
        column("Decimal", "acme_Rate", Precision=4, MinValue=0, MaxValue=10),
        column("Double", "acme_Float", Precision=3),
        column("Money", "acme_Price", Precision=2),
        column("Boolean", "acme_Open", DefaultValue=True, OptionSet={
            "TrueOption": {"Value": 1, "Label": label("Open")}, "FalseOption": {"Value": 0, "Label": label("Shut")}}),
        column("DateTime", "acme_Day", DateTimeBehavior={"Value": "DateOnly"}, Format="DateOnly"),
        column("DateTime", "acme_Moment", DateTimeBehavior={"Value": "TimeZoneIndependent"}),
        column("DateTime", "acme_When"),
        column("Picklist", "acme_Kind", OptionSet={"Options": options}, DefaultFormValue=300_000_001),
        column("MultiSelectPicklist", "acme_Many", OptionSet={"Options": options}),
        {**column("Picklist", "acme_Color"), "GlobalOptionSet@odata.bind": "/GlobalOptionSetDefinitions(Name='acme_color')"},
        column("File", "acme_Paper"),
        column("String", "acme_Secret", IsSecured=True),
    ):  # fmt: skip
        make(f"{card}/Attributes", body)
    make("EntityDefinitions(LogicalName='account')/Attributes", column("Integer", "acme_Cards"))
    make(f"{card}/Keys", {"SchemaName": "acme_CodeKey", "DisplayName": label("Code"), "KeyAttributes": ["acme_code"]})
    make("RelationshipDefinitions", {
        "@odata.type": f"{kind}OneToManyRelationshipMetadata", "SchemaName": "acme_shop_card",
        "ReferencedEntity": "acme_shop", "ReferencingEntity": "acme_card", "Lookup": column("Lookup", "acme_ShopId"),
        "CascadeConfiguration": {"Delete": "Cascade"},
    })  # fmt: skip
    make("RelationshipDefinitions", {
        "@odata.type": f"{kind}ManyToManyRelationshipMetadata", "SchemaName": "acme_card_contact",
        "Entity1LogicalName": "acme_card", "Entity2LogicalName": "contact", "IntersectEntityName": "acme_card_contact",
    })  # fmt: skip
    make("CreateCustomerRelationships", {
        "Lookup": column("Lookup", "acme_HolderId"),
        "OneToManyRelationships": [
            {"SchemaName": f"acme_holder_{target}", "ReferencedEntity": target, "ReferencingEntity": "acme_card"}
            for target in ("account", "contact")
        ],
    })  # fmt: skip
    script = make("webresourceset", {"name": "acme_/a.js", "displayname": "A", "webresourcetype": 3, "content": "eA=="})
    xml = '<fetch><entity name="acme_card"><attribute name="acme_name" /></entity></fetch>'
    view = {"name": "Cards", "returnedtypecode": "acme_card", "querytype": 0, "fetchxml": xml, "layoutxml": "<grid />"}
    make("savedqueries", view)
    make("savedqueries", view | {"name": "Accounts with cards", "returnedtypecode": "account"})
    make("systemforms", {"name": "Card", "objecttypecode": "acme_card", "type": 2, "formxml": "<form><tabs /></form>"})
    board = make(
        "systemforms", {"name": "Board", "objecttypecode": "none", "type": 0, "formxml": "<form><tabs /></form>"}
    )
    make("savedqueryvisualizations", {
        "name": "Chart", "primaryentitytypecode": "acme_card", "datadescription": "<datadefinition />",
        "presentationdescription": "<Chart />",
    })  # fmt: skip
    unit = dataverse.ok("GET", "businessunits?$select=businessunitid")["value"][0]["businessunitid"]
    role = make("roles", {"name": "Card keeper", "businessunitid@odata.bind": f"/businessunits({unit})"})
    (right,) = dataverse.ok("GET", "privileges?$select=privilegeid&$filter=name eq 'prvReadacme_Card'")["value"]
    rights = {"Privileges": [{"PrivilegeId": right["privilegeid"], "Depth": "Local", "BusinessUnitId": unit}]}
    dataverse.ok("POST", f"roles({role})/Microsoft.Dynamics.CRM.AddPrivilegesRole", rights)
    site_map = make(
        "sitemaps", {"sitemapname": "Cards", "sitemapnameunique": "acme_Cards", "sitemapxml": "<SiteMap />"}
    )
    app = make("appmodules", {"name": "Cards", "uniquename": "acme_Cards", "description": "All of it", "clienttype": 4})
    (table,) = dataverse.ok("GET", "entities?$select=entityid&$filter=logicalname eq 'acme_card'")["value"]
    dataverse.ok("POST", "AddAppComponents", {"AppId": app, "Components": [
        {"@odata.type": f"{kind}entity", "entityid": table["entityid"]},
        {"@odata.type": f"{kind}systemform", "formid": board}, {"@odata.type": f"{kind}sitemap", "sitemapid": site_map},
    ]})  # fmt: skip
    dataverse.ok("POST", f"appmodules({app})/appmoduleroles_association/$ref", {"@odata.id": f"roles({role})"})
    variable = make("environmentvariabledefinitions", {
        "schemaname": "acme_Url", "displayname": "Url", "description": "Where", "type": 100_000_000, "defaultvalue": "a",
    })  # fmt: skip
    bind = {"EnvironmentVariableDefinitionId@odata.bind": f"/environmentvariabledefinitions({variable})"}
    make("environmentvariablevalues", {"schemaname": "acme_Url", "value": "b", **bind})
    make("appactions", {
        "uniquename": "acme_go!account!0", "name": "go", "buttonlabeltext": "Go", "context": 1, "contextvalue": "account",
        "location": 0, "onclickeventtype": 2, "onclickeventjavascriptfunctionname": "go",
        "OnClickEventJavaScriptWebResourceId@odata.bind": f"/webresourceset({script})",
    })  # fmt: skip
    endpoint = make("serviceendpoints", {
        "name": "Hook", "contract": 8, "authtype": 4, "authvalue": "s3cret", "url": "https://example.com", "messageformat": 2,
    })  # fmt: skip
    condition = "primaryobjecttypecode eq 'acme_card' and sdkmessageid/name eq 'Update'"
    (found,) = dataverse.ok("GET", f"sdkmessagefilters?$expand=sdkmessageid&$filter={condition}")["value"]
    step = make("sdkmessageprocessingsteps", {
        "name": "Changed", "stage": 40, "mode": 1, "rank": 3, "filteringattributes": "acme_code", "asyncautodelete": True,
        "sdkmessageid@odata.bind": f"/sdkmessages({found['sdkmessageid']['sdkmessageid']})",
        "sdkmessagefilterid@odata.bind": f"/sdkmessagefilters({found['sdkmessagefilterid']})",
        "eventhandler_serviceendpoint@odata.bind": f"/serviceendpoints({endpoint})",
    })  # fmt: skip
    make("sdkmessageprocessingstepimages", {
        "name": "pre", "entityalias": "pre", "imagetype": 0, "attributes": "acme_code", "messagepropertyname": "Target",
        "sdkmessageprocessingstepid@odata.bind": f"/sdkmessageprocessingsteps({step})",
    })  # fmt: skip
    dataverse.env.run_jobs()
    dataverse.env.storage.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    dataverse.env.close()
    return path


@pytest.fixture
def acme(acme_home: Path, opened: Open) -> Dataverse:
    return opened(acme_home)


@pytest.mark.parametrize("managed", [False, True])
def test_every_kind_of_component_comes_back_the_same(
    acme: Dataverse, opened: Open, template: Path, managed: bool
) -> None:
    data = export(acme, "AcmeCards", managed=managed)
    assert b"s3cret" not in b"".join(members(data).values())
    other = opened(template)
    empty = contents(other)
    import_zip(other, data)
    assert contents(other) == contents(acme)
    (row,) = other.ok("GET", "solutions?$filter=uniquename eq 'AcmeCards'")["value"]
    assert (row["version"], row["ismanaged"]) == ("1.2.3.4", managed)
    other.ok("DELETE", f"solutions({row['solutionid']})")
    assert contents(other) == (empty if managed else contents(acme))


def test_only_what_belongs_to_the_solution_travels(acme: Dataverse) -> None:
    acme.ok("POST", "webresourceset", {"name": "acme_/other.js", "webresourcetype": 3, "content": "eA=="})
    acme.table("acme_Other")
    acme.ok("POST", "EntityDefinitions(LogicalName='account')/Attributes", column("Integer", "acme_Foreign"))
    text = b"".join(members(export(acme, "AcmeCards")).values()).decode()
    assert not re.search("acme_/other.js|acme_Other|acme_Foreign", text)
    account = re.search(r'<RootComponent type="1" schemaName="account" behavior="(\d)"', text)
    assert account and account[1] == "1"  # of a standard table only what is listed


def test_the_export_runs_as_a_system_job_too(acme: Dataverse) -> None:
    wanted = {"SolutionName": "AcmeCards", "Managed": False}
    started = acme.ok("POST", "ExportSolutionAsync", wanted)
    job = {"ExportJobId": started["ExportJobId"]}
    acme.fails(404, "0x80040217", "POST", "DownloadSolutionExportData", job)
    acme.env.run_jobs()
    (state,) = acme.ok("GET", f"asyncoperations?$filter=asyncoperationid eq {started['AsyncOperationId']}")["value"]
    assert (state["statecode"], state["statuscode"]) == (3, 30)
    file = base64.b64decode(acme.ok("POST", "DownloadSolutionExportData", job)["ExportSolutionFile"])
    assert members(file) == members(export(acme, "AcmeCards"))
    failed = acme.ok("POST", "ExportSolutionAsync", wanted | {"SolutionName": "Nobody"})
    acme.env.run_jobs()
    state = acme.ok("GET", f"asyncoperations({failed['AsyncOperationId']})")
    assert state["statuscode"] == 31
    assert "does not exist" in state["message"]


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"SolutionName": "Nobody", "Managed": False}, "0x80048037"),
        ({"SolutionName": "Default", "Managed": False}, "0x80071158"),
        ({"SolutionName": NAME, "Managed": False}, "0x80048036"),
        ({"SolutionName": NAME, "Managed": True}, "0x80048036"),
    ],
)
def test_what_cannot_be_exported_is_refused(managed: Dataverse, wanted: dict[str, Any], code: str) -> None:
    managed.fails(400, code, "POST", "ExportSolution", wanted)


def test_what_the_package_cannot_hold_is_refused(acme: Dataverse) -> None:
    wanted = {"SolutionName": "AcmeCards", "Managed": False, "ExportSales": True}
    assert "ExportSales" in acme.fails(400, "0x80048035", "POST", "ExportSolution", wanted)
    acme.fails(400, "0x80048d19", "POST", "ExportSolution", {"Managed": False})
    acme.fails(400, "0x80048d19", "POST", "ExportSolution", {"SolutionName": "AcmeCards", "Managed": "no"})


def test_exporting_needs_the_right_to(acme: Dataverse) -> None:
    acme.person("clerk")
    acme.fails(403, "0x80040220", "POST", "ExportSolution", {"SolutionName": "AcmeCards", "Managed": False}, "clerk")
