"""Rows: create, read, update, upsert, delete, lookups, versions, values."""

import json
import uuid
from decimal import Decimal
from typing import Any

import pytest

from tests.dataverse.conftest import ROOT, Dataverse, column


def test_create_answers_the_address_and_no_body(dataverse: Dataverse) -> None:
    answer = dataverse.send("POST", "accounts", {"name": "Contoso"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["OData-EntityId"] == answer.headers["Location"]
    assert answer.headers["OData-EntityId"].startswith(f"{ROOT}accounts(")
    made = dataverse.ok("GET", answer.headers["OData-EntityId"] + "?$select=name,statecode,createdon")
    assert made["name"] == "Contoso"
    assert (made["statecode"], made["createdon"]) == (0, "2026-03-01T09:30:00Z")


def test_representation_of_a_create(dataverse: Dataverse) -> None:
    answer = dataverse.send("POST", "accounts?$select=name", {"name": "A"}, Prefer="return=representation")
    assert answer.status_code == 201
    assert answer.headers["Preference-Applied"] == "return=representation"
    body = answer.json()
    assert body["@odata.context"] == f"{ROOT}$metadata#accounts(name,accountid)/$entity"
    assert set(body) == {"@odata.context", "@odata.etag", "name", "accountid"}


def test_money_is_exact(dataverse: Dataverse) -> None:
    row = dataverse.ok("POST", "accounts", '{"name":"A","revenue":99999999999999.99,"creditlimit":0.1}')
    text = dataverse.send("GET", f"accounts({row})?$select=revenue,creditlimit").text
    assert '"revenue":99999999999999.9900' in text
    assert '"creditlimit":0.1000' in text
    found = dataverse.ok("GET", "accounts?$filter=revenue eq 99999999999999.99&$select=name")
    assert [item["accountid"] for item in found["value"]] == [row]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    ("headers", "status_if_there", "status_if_missing"),
    [
        ({}, 204, 204),
        ({"Prefer": "return=representation"}, 200, 201),
        ({"If_Match": "*"}, 204, 404),
        ({"If_None_Match": "*"}, 412, 204),
        ({"If_Match": 'W/"1"'}, 412, 404),
    ],
)
def test_patch_decides_by_its_conditions(
    dataverse: Dataverse, exists: bool, headers: dict[str, str], status_if_there: int, status_if_missing: int
) -> None:
    row = str(uuid.uuid4())
    if exists:
        dataverse.ok("POST", "accounts", {"accountid": row, "name": "before"})
    answer = dataverse.send("PATCH", f"accounts({row})", {"name": "after"}, **headers)
    assert answer.status_code == (status_if_there if exists else status_if_missing)
    there = dataverse.send("GET", f"accounts({row})?$select=name")
    expected = "after" if answer.status_code < 300 else "before" if exists else None
    assert (there.json().get("name") if there.status_code == 200 else None) == expected


def test_versions_guard_against_lost_updates(dataverse: Dataverse) -> None:
    row = dataverse.ok("POST", "accounts", {"name": "one"})
    etag = dataverse.ok("GET", f"accounts({row})")["@odata.etag"]
    dataverse.ok("PATCH", f"accounts({row})", {"name": "two"}, If_Match=etag)
    message = dataverse.fails(412, "0x80060882", "PATCH", f"accounts({row})", {"name": "three"}, If_Match=etag)
    assert message == "The version of the existing record doesn't match the RowVersion property provided."
    dataverse.fails(412, "0x80060882", "DELETE", f"accounts({row})", If_Match=etag)
    fresh = dataverse.ok("GET", f"accounts({row})")["@odata.etag"]
    assert dataverse.send("GET", f"accounts({row})", If_None_Match=fresh).status_code == 304
    assert dataverse.send("GET", f"accounts({row})", If_None_Match=etag).status_code == 200
    assert dataverse.send("GET", f"accounts({row})", If_None_Match=f"{etag}, {fresh}").status_code == 304
    expanded = dataverse.send("GET", f"accounts({row})?$expand=primarycontactid", If_None_Match=fresh)
    annotated = dataverse.send("GET", f"accounts({row})", If_None_Match=fresh, Prefer='odata.include-annotations="*"')
    assert (expanded.status_code, annotated.status_code) == (200, 200)
    dataverse.ok("DELETE", f"accounts({row})", If_Match=fresh)


def test_a_missing_row_and_a_second_row_with_one_id(dataverse: Dataverse) -> None:
    row = str(uuid.uuid4())
    assert dataverse.fails(404, "0x80040217", "GET", f"accounts({row})") == f"account With Id = {row} Does Not Exist"
    dataverse.ok("POST", "accounts", {"accountid": row})
    dataverse.fails(412, "0x80040237", "POST", "accounts", {"accountid": row})
    dataverse.ok("DELETE", f"accounts({row})")
    dataverse.fails(404, "0x80040217", "DELETE", f"accounts({row})")


def test_lookups_are_written_through_navigation_properties(dataverse: Dataverse) -> None:
    account = dataverse.ok("POST", "accounts", {"name": "Adatum"})
    contact = dataverse.ok(
        "POST",
        "contacts",
        {"firstname": "Ann", "lastname": "Lee", "parentcustomerid_account@odata.bind": f"/accounts({account})"},
    )
    read = dataverse.ok(
        "GET", f"contacts({contact})?$select=fullname,_parentcustomerid_value", Prefer='odata.include-annotations="*"'
    )
    assert (read["fullname"], read["_parentcustomerid_value"]) == ("Ann Lee", account)
    assert read["_parentcustomerid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "account"
    assert (
        read["_parentcustomerid_value@Microsoft.Dynamics.CRM.associatednavigationproperty"]
        == "parentcustomerid_account"
    )
    assert read["_parentcustomerid_value@OData.Community.Display.V1.FormattedValue"] == "Adatum"
    dataverse.ok("PATCH", f"contacts({contact})", {"parentcustomerid_account@odata.bind": None})
    assert dataverse.ok("GET", f"contacts({contact})")["_parentcustomerid_value"] is None
    dataverse.fails(
        400, "0x80048d19", "PATCH", f"contacts({contact})", {"parentcustomerid@odata.bind": f"/accounts({account})"}
    )
    dataverse.fails(400, "0x80048d19", "PATCH", f"contacts({contact})", {"_parentcustomerid_value": account})
    missing = str(uuid.uuid4())
    bind = {"parentcustomerid_account@odata.bind": f"/accounts({missing})"}
    dataverse.fails(404, "0x80040217", "PATCH", f"contacts({contact})", bind)


def test_references_and_collections(dataverse: Dataverse) -> None:
    account = dataverse.ok("POST", "accounts", {"name": "A"})
    contact = dataverse.ok("POST", "contacts", {"lastname": "B"})
    reference = {"@odata.id": f"{ROOT}contacts({contact})"}
    dataverse.ok("POST", f"accounts({account})/contact_customer_accounts/$ref", reference)
    listed = dataverse.ok("GET", f"accounts({account})/contact_customer_accounts?$select=lastname")
    assert [row["lastname"] for row in listed["value"]] == ["B"]
    assert dataverse.send("GET", f"accounts({account})/contact_customer_accounts/$count").content == "\ufeff1".encode()
    dataverse.ok("PUT", f"accounts({account})/primarycontactid/$ref", reference)
    assert dataverse.ok("GET", f"accounts({account})/primarycontactid?$select=lastname")["lastname"] == "B"
    dataverse.ok("DELETE", f"accounts({account})/primarycontactid/$ref")
    assert dataverse.send("GET", f"accounts({account})/primarycontactid").status_code == 204
    dataverse.ok("DELETE", f"accounts({account})/contact_customer_accounts({contact})/$ref")
    assert dataverse.ok("GET", f"accounts({account})/contact_customer_accounts")["value"] == []


def test_single_properties(dataverse: Dataverse) -> None:
    row = dataverse.ok("POST", "accounts", {"name": "A"})
    assert dataverse.ok("GET", f"accounts({row})/name")["value"] == "A"
    dataverse.ok("PUT", f"accounts({row})/name", {"value": "B"})
    assert dataverse.send("GET", f"accounts({row})/name/$value").text == "B"
    dataverse.ok("DELETE", f"accounts({row})/name")
    assert dataverse.send("GET", f"accounts({row})/name").status_code == 204


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"nosuch": 1}, "0x80048d19"),
        ({"name": 5}, "0x80048d19"),
        ({"name": "x" * 161}, "0x80044331"),
        ({"accountratingcode": 77}, "0x8004431a"),
        ({"numberofemployees": -1}, "0x80044330"),
        ({"donotemail": "yes"}, "0x80048d19"),
        ({"revenue": "12"}, "0x80048d19"),
        ({"statecode": 0, "statuscode": 2}, "0x80048408"),
        ({"lastonholdtime": "1700-01-01T00:00:00Z"}, "0x80040239"),
        ({"lastonholdtime": "soon"}, "0x80048d19"),
        ([], "0x80048d19"),
    ],
)
def test_bad_values_are_refused_and_change_nothing(dataverse: Dataverse, body: object, code: str) -> None:
    dataverse.fails(400, code, "POST", "accounts", json.dumps(body))
    assert dataverse.ok("GET", "accounts")["value"] == []


def test_state_and_owner(dataverse: Dataverse) -> None:
    row = dataverse.ok("POST", "accounts", {"name": "A"})
    dataverse.ok("PATCH", f"accounts({row})", {"statecode": 1})
    assert dataverse.ok("GET", f"accounts({row})")["statuscode"] == 2
    other = dataverse.person("other", "System Administrator")
    dataverse.ok("PATCH", f"accounts({row})", {"ownerid@odata.bind": f"/systemusers({other})"})
    read = dataverse.ok(
        "GET", f"accounts({row})?$select=_ownerid_value,_owninguser_value&$expand=ownerid($select=fullname)"
    )
    assert read["_ownerid_value"] == read["_owninguser_value"] == other
    assert read["ownerid"]["fullname"] == "other"


def test_migrated_rows_keep_their_date(dataverse: Dataverse) -> None:
    row = dataverse.ok("POST", "accounts", {"name": "A", "overriddencreatedon": "2019-05-06T07:08:09Z"})
    read = dataverse.ok("GET", f"accounts({row})?$select=createdon,overriddencreatedon,modifiedon")
    assert (read["createdon"], read["overriddencreatedon"]) == ("2019-05-06T07:08:09Z", "2026-03-01T09:30:00Z")


def test_base_currency_copies_follow_the_exchange_rate(dataverse: Dataverse) -> None:
    euro = dataverse.ok(
        "POST",
        "transactioncurrencies",
        {
            "currencyname": "Euro",
            "isocurrencycode": "EUR",
            "currencysymbol": "E",
            "exchangerate": 0.8,
        },
    )
    row = dataverse.ok(
        "POST", "accounts", {"revenue": 100, "transactioncurrencyid@odata.bind": f"/transactioncurrencies({euro})"}
    )
    read = dataverse.ok("GET", f"accounts({row})?$select=revenue,revenue_base,exchangerate")
    assert (read["revenue_base"], read["exchangerate"]) == (Decimal(125), Decimal("0.8"))
    dataverse.ok("PATCH", f"accounts({row})", {"revenue": 10})
    assert dataverse.ok("GET", f"accounts({row})")["revenue_base"] == Decimal("12.5")


def test_many_to_many(dataverse: Dataverse) -> None:
    table = dataverse.table()
    dataverse.ok(
        "POST",
        "RelationshipDefinitions",
        {
            "@odata.type": "Microsoft.Dynamics.CRM.ManyToManyRelationshipMetadata",
            "SchemaName": "new_thing_account",
            "Entity1LogicalName": "new_thing",
            "Entity2LogicalName": "account",
            "IntersectEntityName": "new_thing_account",
        },
    )
    assert table
    thing, account = (
        dataverse.ok("POST", "new_things", {"new_name": "T"}),
        dataverse.ok("POST", "accounts", {"name": "A"}),
    )
    reference = {"@odata.id": f"{ROOT}accounts({account})"}
    dataverse.ok("POST", f"new_things({thing})/new_thing_account/$ref", reference)
    dataverse.fails(412, "0x80040237", "POST", f"new_things({thing})/new_thing_account/$ref", reference)
    seen = dataverse.ok("GET", f"accounts({account})?$select=name&$expand=new_thing_account($select=new_name)")
    assert [row["new_name"] for row in seen["new_thing_account"]] == ["T"]
    assert len(dataverse.ok("GET", "new_things?$filter=new_thing_account/any(a:a/name eq 'A')")["value"]) == 1
    dataverse.ok("DELETE", f"new_things({thing})/new_thing_account({account})/$ref")
    assert dataverse.ok("GET", f"new_things({thing})/new_thing_account")["value"] == []


def test_deleting_follows_the_relationships(dataverse: Dataverse) -> None:
    account = dataverse.ok("POST", "accounts", {"name": "A"})
    contact = dataverse.ok(
        "POST", "contacts", {"lastname": "B", "parentcustomerid_account@odata.bind": f"accounts({account})"}
    )
    task = dataverse.ok(
        "POST", "tasks", {"subject": "T", "regardingobjectid_account_task@odata.bind": f"accounts({account})"}
    )
    invoice = dataverse.ok("POST", "invoices", {"name": "I", "customerid_account@odata.bind": f"accounts({account})"})
    dataverse.fails(405, "0x80040227", "DELETE", f"accounts({account})")
    dataverse.ok("DELETE", f"invoices({invoice})")
    dataverse.ok("DELETE", f"accounts({account})")
    assert dataverse.ok("GET", f"contacts({contact})")["_parentcustomerid_value"] is None
    dataverse.fails(404, "0x80040217", "GET", f"tasks({task})")


def test_columns_of_every_type_come_back_as_they_went_in(dataverse: Dataverse) -> None:
    table = dataverse.table()
    options = {"Options": [{"Value": 1, "Label": None}, {"Value": 2, "Label": None}]}
    columns: list[tuple[str, str, dict[str, Any]]] = [
        ("Memo", "new_Memo", {}),
        ("Integer", "new_Int", {}),
        ("BigInt", "new_Big", {}),
        ("Double", "new_Double", {"Precision": 5}),
        ("Decimal", "new_Decimal", {"Precision": 10}),
        ("Money", "new_Money", {}),
        ("Boolean", "new_Bool", {"DefaultValue": True}),
        ("DateTime", "new_Time", {}),
        ("DateTime", "new_Day", {"DateTimeBehavior": {"Value": "DateOnly"}, "Format": "DateOnly"}),
        ("Picklist", "new_Choice", {"OptionSet": options}),
        ("MultiSelectPicklist", "new_Choices", {"OptionSet": options}),
    ]
    for kind, name, more in columns:
        dataverse.ok("POST", f"{table}/Attributes", column(kind, name, **more))
    body = {
        "new_memo": 'a "b"\n\u00e9\U0001f600',
        "new_int": -5,
        "new_big": 2**60,
        "new_double": 1.5,
        "new_decimal": 12345.0123456789,
        "new_money": -0.01,
        "new_time": "2026-01-02T03:04:05+02:00",
        "new_day": "2026-02-28",
        "new_choice": 2,
        "new_choices": "2,1",
    }
    row = dataverse.ok("POST", "new_things", body)
    read = dataverse.ok("GET", f"new_things({row})")
    assert read["new_memo"] == body["new_memo"]
    assert (read["new_int"], read["new_big"], read["new_double"]) == (-5, 2**60, Decimal("1.5"))
    assert (read["new_decimal"], read["new_money"]) == (Decimal("12345.0123456789"), Decimal("-0.01"))
    assert (read["new_time"], read["new_day"]) == ("2026-01-02T01:04:05Z", "2026-02-28")
    assert (read["new_choice"], read["new_choices"], read["new_bool"]) == (2, "1,2", True)
