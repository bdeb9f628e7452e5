"""Deleting solutions: a managed one leaves the environment as it found it, whatever others hold stays."""

import sqlite3
from typing import Any

import pytest

from dataverse_schema.interface import Interface
from dataverse_schema.model import Model
from dataverse_schema.package import solution_zip
from tests.dataverse.conftest import Dataverse, column, label
from tests.solutions.conftest import ACCOUNT_FORM, NAME, Open, import_zip, new_solution, solution

PARTS = (
    "savedquery", "systemform", "savedqueryvisualization", "webresource", "role", "sitemap", "appmodule", "appaction",
    "environmentvariabledefinition", "environmentvariablevalue", "appmodulecomponent", "roleprivileges", "privilege",
    "sdkmessagefilter", "solution", "solutioncomponent",
)  # fmt: skip
CONTROL = '<form><control datafieldname="loy_pointsbalance" /></form>'


def everything(dataverse: Dataverse) -> dict[str, Any]:
    """All definitions, and the ids of all rows that solutions are made of."""
    run = dataverse.env.storage.reader.execute
    found: dict[str, Any] = {"definitions": run('SELECT kind, name FROM "#metadata" ORDER BY 1, 2').fetchall()}
    found |= {name: sorted(str(row[0]) for row in run(f"SELECT * FROM {name}")) for name in PARTS}
    for name in ("account", "contact", "invoicedetail"):
        found[name] = sorted(dataverse.env.schema.tables[name].columns)
    rating = dataverse.env.schema.tables["account"].columns["accountratingcode"]
    found["rating"] = [option.value for option in rating.options]
    found["files"] = run("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    found["form"] = run("SELECT formxml FROM systemform WHERE formid = ?", (ACCOUNT_FORM,)).fetchall()
    return found


def remove(dataverse: Dataverse, name: str = NAME) -> None:
    dataverse.ok("DELETE", f"solutions({solution(dataverse, name)})")


def blocked(dataverse: Dataverse) -> str:
    """The reason why the solution cannot go; nothing has changed."""
    before = everything(dataverse)
    message = dataverse.fails(400, "0x8004f01d", "DELETE", f"solutions({solution(dataverse, NAME)})")
    assert everything(dataverse) == before
    assert message.startswith("Solution dependencies exist, cannot uninstall.")
    return message


def test_a_managed_solution_goes_without_a_trace_and_with_its_data(
    opened: Open, template: Any, managed: Dataverse, model: Model, interface: Interface
) -> None:
    untouched = opened(template)
    form = {"name": "Account", "objecttypecode": "account", "type": 2, "formid": ACCOUNT_FORM}
    untouched.ok(
        "POST", "systemforms", form | {"formxml": '<form><tabs><tab name="SUMMARY_TAB" id="{1}" /></tabs></form>'}
    )
    account = managed.ok("POST", "accounts", {"name": "A", "loy_pointsbalance": 5})
    membership = {"loy_name": "A", "loy_customerkey": f"account:{account}", "loy_sequence": 0}
    managed.ok("POST", "loy_memberships", membership | {"loy_CustomerId_account@odata.bind": f"/accounts({account})"})
    assert 'name="loy_tab"' in managed.ok("GET", f"systemforms({ACCOUNT_FORM})")["formxml"]
    remove(managed)
    after, before = everything(managed), everything(untouched)
    assert {name: value for name, value in after.items() if name not in ("solution", "role", "privilege")} == {
        name: value for name, value in before.items() if name not in ("solution", "role", "privilege")
    } | {"form": after["form"], "roleprivileges": after["roleprivileges"], "appmodulecomponent": []}
    assert after["form"][0][0].replace(" />", "/>") == before["form"][0][0].replace(" />", "/>")
    assert (len(after["role"]), len(after["privilege"])) == (len(before["role"]), len(before["privilege"]))
    assert managed.ok("GET", f"accounts({account})?$select=name")["name"] == "A"
    managed.fails(404, "0x8006088a", "GET", "loy_memberships")
    import_zip(managed, solution_zip(model, interface, managed=True))  # and it can come again
    assert managed.ok("GET", "loy_memberships")["value"] == []
    assert managed.ok("GET", f"accounts({account})")["loy_pointsbalance"] is None


def test_what_another_managed_solution_holds_stays(managed: Dataverse, model: Model, interface: Interface) -> None:
    data = solution_zip(model, interface, managed=True)
    import_zip(managed, renamed(data, NAME, "OtherSolution"))
    remove(managed)
    assert managed.ok("GET", "loy_memberships")["value"] == []
    assert "loy_pointsbalance" in managed.env.schema.tables["account"].columns
    assert 'name="loy_tab"' in managed.ok("GET", f"systemforms({ACCOUNT_FORM})")["formxml"]
    remove(managed, "OtherSolution")
    managed.fails(404, "0x8006088a", "GET", "loy_memberships")


def renamed(data: bytes, old: str, new: str) -> bytes:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "solution.xml":
                content = content.replace(f"<UniqueName>{old}<".encode(), f"<UniqueName>{new}<".encode())
            target.writestr(name, content)
    return buffer.getvalue()


def test_what_was_there_before_the_import_stays(
    dataverse: Dataverse, opened: Open, template: Any, model: Model, interface: Interface
) -> None:
    """The company had a column of the same name, made by hand."""
    kept = opened(template)
    kept.ok("POST", "EntityDefinitions(LogicalName='account')/Attributes", column("Integer", "loy_PointsBalance"))
    account = kept.ok("POST", "accounts", {"name": "A", "loy_pointsbalance": 7})
    import_zip(kept, solution_zip(model, interface, managed=True))
    remove(kept)
    assert kept.ok("GET", f"accounts({account})")["loy_pointsbalance"] == 7
    assert [name for name in kept.env.schema.tables["account"].columns if name.startswith("loy_")] == [
        "loy_pointsbalance"
    ]


def test_a_lookup_to_its_table_blocks(managed: Dataverse) -> None:
    managed.table("acme_Card")
    managed.ok(
        "POST", "RelationshipDefinitions",
        {
            "@odata.type": "Microsoft.Dynamics.CRM.OneToManyRelationshipMetadata", "SchemaName": "acme_membership_card",
            "ReferencedEntity": "loy_membership", "ReferencingEntity": "acme_card",
            "Lookup": column("Lookup", "acme_MembershipId"),
        },
    )  # fmt: skip
    assert "Column acme_card.acme_membershipid refers to loy_membership" in blocked(managed)
    managed.ok("DELETE", "EntityDefinitions(LogicalName='acme_card')/Attributes(LogicalName='acme_membershipid')")
    remove(managed)


def test_a_step_on_its_table_blocks(managed: Dataverse) -> None:
    endpoint = {
        "name": "h",
        "contract": 8,
        "authtype": 4,
        "authvalue": "k",
        "url": "http://127.0.0.1:1",
        "messageformat": 2,
    }
    row = managed.ok("POST", "serviceendpoints", endpoint)
    condition = "primaryobjecttypecode eq 'loy_entry' and sdkmessageid/name eq 'Create'"
    query = f"sdkmessagefilters?$select=_sdkmessageid_value&$filter={condition}"
    (found,) = managed.ok("GET", query)["value"]
    step = managed.ok(
        "POST", "sdkmessageprocessingsteps",
        {
            "name": "Ours", "stage": 40, "mode": 1, "rank": 1,
            "sdkmessageid@odata.bind": f"/sdkmessages({found['_sdkmessageid_value']})",
            "sdkmessagefilterid@odata.bind": f"/sdkmessagefilters({found['sdkmessagefilterid']})",
            "eventhandler_serviceendpoint@odata.bind": f"/serviceendpoints({row})",
        },
    )  # fmt: skip
    assert "SdkMessageProcessingStep Ours is registered on loy_entry" in blocked(managed)
    managed.ok("DELETE", f"sdkmessageprocessingsteps({step})")
    remove(managed)


@pytest.mark.parametrize(
    ("path", "row", "said"),
    [
        ("systemforms", {"objecttypecode": "contact", "type": 2, "formxml": CONTROL},
         "Form Mine of contact shows loy_pointsbalance"),
        ("systemforms", {"objecttypecode": "contact", "type": 2, "formxml": "<form><Url>loy_/panel.html</Url></form>"},
         "Form Mine of contact shows loy_/panel.html"),
        ("savedqueries", {"returnedtypecode": "account", "querytype": 0, "layoutxml": "<grid />",
                          "fetchxml": '<fetch><entity name="account"><attribute name="loy_pointsbalance" /></entity></fetch>'},
         "View Mine of account reads loy_pointsbalance"),
    ],
)  # fmt: skip
def test_forms_and_views_that_show_its_parts_block(
    managed: Dataverse, path: str, row: dict[str, Any], said: str
) -> None:
    made = managed.ok("POST", path, {"name": "Mine", **row})
    assert said in blocked(managed)
    managed.ok("DELETE", f"{path}({made})")
    remove(managed)


def test_an_unmanaged_solution_leaves_its_parts(dataverse: Dataverse) -> None:
    header = new_solution(dataverse, "AcmeCards")
    dataverse.ok(
        "POST", "EntityDefinitions",
        {
            "SchemaName": "acme_Card", "DisplayName": label("Card"), "DisplayCollectionName": label("Cards"),
            "Attributes": [column("String", "acme_Name", IsPrimaryName=True)],
        },
        **header,
    )  # fmt: skip
    page = dataverse.ok(
        "POST", "webresourceset", {"name": "acme_/a.js", "webresourcetype": 3, "content": "eA=="}, **header
    )
    held = dataverse.ok("GET", "solutioncomponents?$select=componenttype,objectid")["value"]
    assert sorted(row["componenttype"] for row in held) == [1, 61]
    assert page in {row["objectid"] for row in held}
    remove(dataverse, "AcmeCards")
    assert dataverse.ok("GET", "acme_cards")["value"] == []
    assert dataverse.ok("GET", f"webresourceset({page})")["name"] == "acme_/a.js"
    assert dataverse.ok("GET", "solutioncomponents")["value"] == []


def test_parts_go_from_their_solutions_when_they_are_deleted(dataverse: Dataverse) -> None:
    header = new_solution(dataverse, "AcmeCards")
    page = dataverse.ok(
        "POST", "webresourceset", {"name": "acme_/a.js", "webresourcetype": 3, "content": "eA=="}, **header
    )
    dataverse.ok("DELETE", f"webresourceset({page})")
    assert dataverse.ok("GET", "solutioncomponents")["value"] == []
    unknown = {"MSCRM.SolutionUniqueName": "Nobody"}
    body = {"name": "acme_/a.js", "webresourcetype": 3, "content": "eA=="}
    dataverse.fails(400, "0x80048425", "POST", "webresourceset", body, **unknown)


def test_a_deleted_table_takes_views_forms_and_charts_along(dataverse: Dataverse) -> None:
    path = dataverse.table("acme_Card")
    dataverse.ok("POST", "savedqueries", {"name": "v", "returnedtypecode": "acme_card", "querytype": 0})
    dataverse.ok("POST", "systemforms", {"name": "f", "objecttypecode": "acme_card", "type": 2, "formxml": "<form />"})
    dataverse.ok("POST", "savedqueryvisualizations", {"name": "c", "primaryentitytypecode": "acme_card"})
    kept = dataverse.ok("POST", "savedqueries", {"name": "v", "returnedtypecode": "account", "querytype": 0})
    dataverse.ok("DELETE", path)
    left = [dataverse.ok("GET", f"{name}?$select=name")["value"] for name in ("savedqueries", "systemforms")]
    assert [[row["savedqueryid"] for row in left[0]], left[1]] == [[kept], []]
    assert dataverse.ok("GET", "savedqueryvisualizations")["value"] == []


@pytest.mark.parametrize("name", ["Default", "Active"])
def test_system_solutions_stay(dataverse: Dataverse, name: str) -> None:
    dataverse.fails(400, "0x80048017", "DELETE", f"solutions({solution(dataverse, name)})")


def test_the_file_has_no_leftovers(managed: Dataverse) -> None:
    remove(managed)
    with sqlite3.connect(managed.env.storage.path) as file:
        assert not [name for (name,) in file.execute("SELECT name FROM sqlite_master") if "loy_" in name]
