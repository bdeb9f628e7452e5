"""Alternate keys: index states, addressing, violations, upserts."""

import urllib.parse
import uuid

import pytest

from tests.dataverse.conftest import Dataverse, column, label


@pytest.fixture
def keyed(dataverse: Dataverse) -> Dataverse:
    """new_thing with a text key and a key over lookup and number."""
    table = dataverse.table()
    dataverse.ok("POST", f"{table}/Attributes", column("String", "new_Code", MaxLength=50))
    dataverse.ok("POST", f"{table}/Attributes", column("Integer", "new_Number"))
    dataverse.ok(
        "POST",
        "RelationshipDefinitions",
        {
            "@odata.type": "Microsoft.Dynamics.CRM.OneToManyRelationshipMetadata",
            "SchemaName": "new_account_thing",
            "ReferencedEntity": "account",
            "ReferencingEntity": "new_thing",
            "Lookup": column("Lookup", "new_Account"),
        },
    )
    dataverse.key(table, "new_CodeKey", "new_code")
    dataverse.key(table, "new_PlaceKey", "new_account", "new_number")
    return dataverse


def test_the_index_is_built_by_a_system_job(dataverse: Dataverse) -> None:
    table = dataverse.table()
    dataverse.ok("POST", f"{table}/Attributes", column("String", "new_Code"))
    dataverse.ok("POST", "new_things", {"new_code": "a"})
    dataverse.ok("POST", "new_things", {"new_code": "A"})
    body = {"SchemaName": "new_Key", "DisplayName": label("k"), "KeyAttributes": ["new_code"]}
    dataverse.ok("POST", f"{table}/Keys", body)
    status = f"{table}/Keys?$select=EntityKeyIndexStatus"
    assert dataverse.ok("GET", status)["value"][0]["EntityKeyIndexStatus"] == "Pending"
    dataverse.fails(400, "0x80060890", "GET", "new_things(new_code='a')")
    dataverse.env.run_jobs()
    assert (
        dataverse.ok("GET", status)["value"][0]["EntityKeyIndexStatus"] == "Failed"
    )  # text is equal whatever its case
    row = dataverse.ok("GET", "new_things?$filter=new_code eq 'A'&$top=1")["value"][0]["new_thingid"]
    dataverse.ok("DELETE", f"new_things({row})")
    dataverse.ok("POST", "ReactivateEntityKey", {"EntityLogicalName": "new_thing", "EntityKeyLogicalName": "new_key"})
    dataverse.env.run_jobs()
    assert dataverse.ok("GET", status)["value"][0]["EntityKeyIndexStatus"] == "Active"


def test_a_violation_names_key_and_column(keyed: Dataverse) -> None:
    keyed.ok("POST", "new_things", {"new_code": "x"})
    message = keyed.fails(412, "0x80060892", "POST", "new_things", {"new_code": "X"})
    assert message.startswith(
        "Entity Key new_CodeKey violated. A record with the same value for new_Code already exists."
    )
    other = keyed.ok("POST", "new_things", {"new_code": "y"})
    keyed.fails(412, "0x80060892", "PATCH", f"new_things({other})", {"new_code": "x"})


def test_rows_are_addressed_by_key(keyed: Dataverse) -> None:
    account = keyed.ok("POST", "accounts", {"name": "A"})
    row = keyed.ok(
        "POST",
        "new_things",
        {
            "new_code": "O'Brien & co",
            "new_number": 7,
            "new_Account@odata.bind": f"/accounts({account})",
        },
    )
    quoted = urllib.parse.quote("O''Brien & co")
    assert keyed.ok("GET", f"new_things(new_code='{quoted}')")["new_thingid"] == row
    assert keyed.ok("GET", f"new_things(_new_account_value={account},new_number=7)")["new_thingid"] == row
    assert keyed.ok("GET", f"new_things(new_thingid={row})")["new_thingid"] == row
    keyed.fails(404, "0x80060891", "GET", "new_things(new_code='none')")
    keyed.fails(400, "0x80060890", "GET", "new_things(new_number=7)")
    keyed.fails(400, "0x80060888", "GET", "new_things(rubbish)")
    keyed.ok("DELETE", f"new_things(new_code='{quoted}')")


def test_upsert_by_key(keyed: Dataverse) -> None:
    answer = keyed.send("PATCH", "new_things(new_code='k')", {"new_number": 1}, Prefer="return=representation")
    assert (answer.status_code, answer.json()["new_code"]) == (201, "k")
    answer = keyed.send("PATCH", "new_things(new_code='k')", {"new_number": 2})
    assert answer.status_code == 204
    assert answer.headers["OData-EntityId"].endswith("new_things(new_code='k')")
    assert keyed.ok("GET", "new_things(new_code='k')")["new_number"] == 2
    keyed.fails(404, "0x80060891", "PATCH", "new_things(new_code='z')", {"new_number": 2}, If_Match="*")
    keyed.fails(412, "0x80060891", "PATCH", "new_things(new_code='k')", {"new_number": 2}, If_None_Match="*")


def test_a_prefix_of_a_key_is_searched_by_its_index(keyed: Dataverse) -> None:
    for number in range(20):
        keyed.ok("POST", "new_things", {"new_code": f"invoice:{number}:earn"})
    found = keyed.ok("GET", "new_things?$filter=startswith(new_code,'Invoice:1:')&$select=new_code")
    assert [row["new_code"] for row in found["value"]] == ["invoice:1:earn"]
    plan = keyed.env.storage.reader.execute(
        "EXPLAIN QUERY PLAN SELECT * FROM new_thing t0 WHERE (t0.new_code >= 'a' AND t0.new_code < 'b')"
    ).fetchall()
    assert "new_thing#new_codekey" in str(plan)


def test_bulk_messages(keyed: Dataverse) -> None:
    kind = {"@odata.type": "Microsoft.Dynamics.CRM.new_thing"}
    action = "new_things/Microsoft.Dynamics.CRM."
    made = keyed.ok("POST", f"{action}CreateMultiple", {"Targets": [kind | {"new_code": str(n)} for n in range(3)]})
    assert len(made["Ids"]) == 3
    twice = [kind | {"new_thingid": made["Ids"][0], "new_number": n} for n in (1, 2)]
    keyed.ok("POST", f"{action}UpdateMultiple", {"Targets": twice})
    assert keyed.ok("GET", "new_things(new_code='0')")["new_number"] == 1  # the first of two wins
    keyed.ok(
        "POST",
        f"{action}UpsertMultiple",
        {
            "Targets": [
                kind | {"@odata.id": "new_things(new_code='1')", "new_number": 5},
                kind | {"@odata.id": "new_things(new_code='9')"},
            ]
        },
    )
    assert keyed.ok("GET", "new_things(new_code='1')")["new_number"] == 5
    assert keyed.ok("GET", "new_things(new_code='9')")["new_code"] == "9"
    answer = keyed.send(
        "POST",
        f"{action}CreateMultiple",
        {"Targets": [kind | {"new_code": "n"}, kind | {"new_code": "1"}]},
        Prefer='odata.include-annotations="*"',
    )
    assert answer.status_code == 412
    details = answer.json()["error"]["@Microsoft.PowerApps.CDS.ErrorDetails.Plugin.BulkApiErrorDetails"]
    assert '"RequestIndex": 1' in details
    keyed.fails(404, "0x80060891", "GET", "new_things(new_code='n')")  # nothing of the failed call was kept
    keyed.fails(400, "0x80048d19", "POST", f"{action}CreateMultiple", {"Targets": [{"new_code": "q"}]})
    keyed.fails(400, "0x80040216", "POST", f"{action}DeleteMultiple", {"Targets": [kind]})
    query = (
        "sdkmessagefilters?$select=sdkmessagefilterid&$filter=sdkmessageid/name eq @m and primaryobjecttypecode eq @t"
    )
    assert len(keyed.ok("GET", f"{query}&@m='CreateMultiple'&@t='new_thing'")["value"]) == 1


def test_a_bulk_call_of_a_thousand_rows_is_all_or_nothing(keyed: Dataverse) -> None:
    kind, action = {"@odata.type": "Microsoft.Dynamics.CRM.new_thing"}, "new_things/Microsoft.Dynamics.CRM."
    rows = [kind | {"new_code": f"c{n:04d}", "new_number": 0} for n in range(1000)]
    keyed.ok("POST", "new_things", {"new_code": "C0777"})
    keyed.fails(412, "0x80060892", "POST", f"{action}CreateMultiple", {"Targets": rows})
    assert keyed.send("GET", "new_things/$count").text.lstrip("\ufeff") == "1"
    rows[777]["new_code"] = "other"
    ids = keyed.ok("POST", f"{action}CreateMultiple", {"Targets": rows})["Ids"]
    codes = {row["new_thingid"]: row["new_code"] for row in keyed.ok("GET", "new_things?$select=new_code")["value"]}
    assert [codes[i] for i in ids] == [row["new_code"] for row in rows]  # ids come in the order of the rows
    changes = [kind | {"new_thingid": i, "new_number": 5} for i in ids]
    changes[500]["new_thingid"] = str(uuid.uuid4())
    message = keyed.fails(404, "0x80040217", "POST", f"{action}UpdateMultiple", {"Targets": changes})
    assert changes[500]["new_thingid"] in message
    changed = "new_things?$select=new_number&$filter=new_number eq 5"
    assert keyed.ok("GET", changed)["value"] == []
    changes[500]["new_thingid"] = ids[500]
    keyed.ok("POST", f"{action}UpdateMultiple", {"Targets": changes})
    assert len(keyed.ok("GET", changed)["value"]) == 1000
    clash = [kind | {"new_thingid": ids[0], "new_code": "c0001"}]
    keyed.fails(412, "0x80060892", "POST", f"{action}UpdateMultiple", {"Targets": clash})
