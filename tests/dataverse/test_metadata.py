"""Metadata: tables, columns, relationships, choices, keys, solutions, $metadata."""

from xml.etree import ElementTree

import pytest

from tests.dataverse.conftest import Dataverse, column, label


def test_tables_and_columns_are_created_read_changed_and_deleted(dataverse: Dataverse) -> None:
    table = dataverse.table("new_Body")
    read = dataverse.ok(
        "GET", f"{table}?$select=LogicalName,EntitySetName,PrimaryIdAttribute,PrimaryNameAttribute,SchemaName"
    )
    assert (read["EntitySetName"], read["PrimaryIdAttribute"], read["PrimaryNameAttribute"]) == (
        "new_bodies",
        "new_bodyid",
        "new_name",
    )
    dataverse.ok("POST", f"{table}/Attributes", column("Decimal", "new_Spend", Precision=2))
    row = dataverse.ok("POST", "new_bodies", {"new_name": "a", "new_spend": 1.25})
    definition = dataverse.ok("GET", f"{table}/Attributes(LogicalName='new_spend')")
    assert (definition["AttributeType"], definition["Precision"], definition["IsCustomAttribute"]) == (
        "Decimal",
        2,
        True,
    )
    definition["Precision"], definition["DisplayName"] = 4, label("Spend so far")
    dataverse.ok("PUT", f"{table}/Attributes(LogicalName='new_spend')", _plain(definition))
    assert str(dataverse.ok("GET", f"new_bodies({row})")["new_spend"]) == "1.2500"  # rows keep their values
    dataverse.fails(400, "0x80047013", "POST", f"{table}/Attributes", column("Integer", "new_Spend"))
    dataverse.ok("DELETE", f"{table}/Attributes(LogicalName='new_spend')", If_Match="*")
    dataverse.fails(400, "0x80060888", "GET", "new_bodies?$select=new_spend")
    dataverse.ok("DELETE", table, If_Match="*")
    dataverse.fails(404, "0x8006088a", "GET", "new_bodies")


def _plain(value: object) -> str:
    import json

    return json.dumps(value, default=float)


def test_filters_and_casts_on_definitions(dataverse: Dataverse) -> None:
    query = "EntityDefinitions?%24select=LogicalName%2CEntitySetName&%24filter=LogicalName+eq+%27account%27"
    assert [row["EntitySetName"] for row in dataverse.ok("GET", query)["value"]] == ["accounts"]
    picklists = "EntityDefinitions(LogicalName='account')/Attributes/Microsoft.Dynamics.CRM.PicklistAttributeMetadata"
    found = dataverse.ok("GET", f"{picklists}?$select=LogicalName&$expand=OptionSet($select=Options)")["value"]
    rating = next(item for item in found if item["LogicalName"] == "accountratingcode")
    assert [option["Value"] for option in rating["OptionSet"]["Options"]] == [1]
    assert dataverse.send("GET", "EntityDefinitions(LogicalName='nosuch')").status_code == 404
    dataverse.fails(400, "0x80060888", "GET", "EntityDefinitions?$select=Nonsense")


def test_options_are_added_to_a_choice(dataverse: Dataverse) -> None:
    target = {"EntityLogicalName": "account", "AttributeLogicalName": "accountratingcode"}
    gold = target | {"Value": 482100001, "Label": label("Gold")}
    assert dataverse.ok("POST", "InsertOptionValue", gold)["NewOptionValue"] == 482100001
    dataverse.fails(400, "0x8004431f", "POST", "InsertOptionValue", gold)
    row = dataverse.ok("POST", "accounts", {"name": "A", "accountratingcode": 482100001})
    shown = dataverse.ok("GET", f"accounts({row})?$select=accountratingcode", Prefer='odata.include-annotations="*"')
    assert shown["accountratingcode@OData.Community.Display.V1.FormattedValue"] == "Gold"
    dataverse.ok(
        "POST", "UpdateOptionValue", target | {"Value": 482100001, "Label": label("Golden"), "MergeLabels": True}
    )
    dataverse.ok("POST", "DeleteOptionValue", target | {"Value": 482100001})
    dataverse.fails(400, "0x8004431a", "POST", "accounts", {"accountratingcode": 482100001})
    wrong = {"EntityLogicalName": "account", "AttributeLogicalName": "name", "Value": 1, "Label": label("x")}
    dataverse.fails(400, "0x80044320", "POST", "InsertOptionValue", wrong)


def test_global_choices(dataverse: Dataverse) -> None:
    dataverse.ok(
        "POST",
        "GlobalOptionSetDefinitions",
        {
            "@odata.type": "Microsoft.Dynamics.CRM.OptionSetMetadata",
            "Name": "new_colour",
            "DisplayName": label("Colour"),
            "Options": [{"Value": 1, "Label": label("Red")}, {"Value": 2, "Label": label("Blue")}],
        },
    )
    choice = dataverse.ok("GET", "GlobalOptionSetDefinitions(Name='new_colour')")
    table = dataverse.table()
    bind = {"GlobalOptionSet@odata.bind": f"/GlobalOptionSetDefinitions({choice['MetadataId']})"}
    dataverse.ok("POST", f"{table}/Attributes", column("Picklist", "new_Colour", **bind))
    dataverse.ok("POST", "InsertOptionValue", {"OptionSetName": "new_colour", "Value": 3, "Label": label("Green")})
    dataverse.ok("POST", "new_things", {"new_colour": 3})
    dataverse.fails(400, "0x8004f01f", "DELETE", "GlobalOptionSetDefinitions(Name='new_colour')")


def test_customer_lookups(dataverse: Dataverse) -> None:
    dataverse.table()
    answer = dataverse.ok(
        "POST",
        "CreateCustomerRelationships",
        {
            "Lookup": {
                "@odata.type": "Microsoft.Dynamics.CRM.ComplexLookupAttributeMetadata",
                "SchemaName": "new_CustomerId",
                "DisplayName": label("Customer"),
            },
            "OneToManyRelationships": [
                {"SchemaName": f"new_thing_{target}", "ReferencedEntity": target, "ReferencingEntity": "new_thing"}
                for target in ("account", "contact")
            ],
        },
    )
    assert len(answer["RelationshipIds"]) == 2
    account, contact = (
        dataverse.ok("POST", "accounts", {"name": "A"}),
        dataverse.ok("POST", "contacts", {"lastname": "B"}),
    )
    row = dataverse.ok("POST", "new_things", {"new_CustomerId_account@odata.bind": f"/accounts({account})"})
    dataverse.ok("PATCH", f"new_things({row})", {"new_CustomerId_contact@odata.bind": f"/contacts({contact})"})
    read = dataverse.ok(
        "GET", f"new_things({row})?$select=_new_customerid_value&$expand=new_CustomerId_account,new_CustomerId_contact"
    )
    assert (read["_new_customerid_value"], read["new_CustomerId_account"]) == (contact, None)
    assert read["new_CustomerId_contact"]["lastname"] == "B"
    assert dataverse.ok("GET", f"accounts({account})/new_thing_account")["value"] == []
    assert len(dataverse.ok("GET", f"contacts({contact})/new_thing_contact")["value"]) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"SchemaName": "NoPrefix"},
        {"SchemaName": None},
        {"DisplayName": None},
        {"Attributes": []},
        {"OwnershipType": "Mine"},
        {"Attributes": [{"SchemaName": "new_Name", "@odata.type": "Microsoft.Dynamics.CRM.NonsenseAttributeMetadata"}]},
        {"Attributes": [{"SchemaName": "new_Name", "@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata"}]},
        {"DisplayCollectionName": {"LocalizedLabels": [{"Label": 5}]}},
    ],
)
def test_wrong_definitions_are_refused_and_leave_nothing(dataverse: Dataverse, change: dict[str, object]) -> None:
    body = {
        "SchemaName": "new_Thing",
        "DisplayName": label("T"),
        "DisplayCollectionName": label("Ts"),
        "OwnershipType": "UserOwned",
        "Attributes": [column("String", "new_Name", IsPrimaryName=True)],
        **change,
    }
    answer = dataverse.send("POST", "EntityDefinitions", body)
    assert answer.status_code == 400, answer.text
    dataverse.fails(404, "0x8006088a", "GET", "new_things")


def test_parts_are_noted_in_their_solution(dataverse: Dataverse) -> None:
    publisher = dataverse.ok(
        "POST",
        "publishers",
        {
            "uniquename": "new",
            "friendlyname": "New",
            "customizationprefix": "new",
            "customizationoptionvalueprefix": 48210,
        },
    )
    solution = dataverse.ok(
        "POST",
        "solutions",
        {
            "uniquename": "NewSolution",
            "friendlyname": "New",
            "version": "1.0.0.0",
            "publisherid@odata.bind": f"/publishers({publisher})",
        },
    )
    table = dataverse.table()
    dataverse.ok(
        "POST", f"{table}/Attributes", column("String", "new_Code"), **{"MSCRM.SolutionUniqueName": "NewSolution"}
    )
    listed = dataverse.ok("GET", f"solutioncomponents?$filter=_solutionid_value eq {solution}&$select=componenttype")[
        "value"
    ]
    assert [row["componenttype"] for row in listed] == [2]
    answer = dataverse.send(
        "POST", f"{table}/Attributes", column("String", "new_X"), **{"MSCRM.SolutionUniqueName": "Nope"}
    )
    assert answer.status_code == 400
    dataverse.fails(400, "0x80060888", "GET", "new_things?$select=new_x")  # the refused column was not made


def test_definitions_survive_a_restart(dataverse: Dataverse) -> None:
    from local.dataverse.environment import Environment

    table = dataverse.table()
    dataverse.ok("POST", f"{table}/Attributes", column("String", "new_Code"))
    dataverse.key(table, "new_Key", "new_code")
    again = Environment(dataverse.env.storage.path)
    assert again.schema.tables["new_thing"] == dataverse.env.schema.tables["new_thing"]
    assert again.schema.relationships.keys() == dataverse.env.schema.relationships.keys()
    again.close()


def test_the_metadata_document_is_whole(dataverse: Dataverse) -> None:
    dataverse.table()
    answer = dataverse.send("GET", "$metadata")
    root = ElementTree.fromstring(answer.text)
    names = {"e": "http://docs.oasis-open.org/odata/ns/edm"}
    types = {item.get("Name"): item for item in root.iterfind(".//e:EntityType", names)}
    sets = {item.get("Name"): item.get("EntityType") for item in root.iterfind(".//e:EntitySet", names)}
    assert sets["new_things"] == "Microsoft.Dynamics.CRM.new_thing"
    for entity in types.values():
        for navigation in entity.iterfind("e:NavigationProperty", names):
            target = navigation.get("Type", "").removeprefix("Collection(").removesuffix(")").rpartition(".")[2]
            assert target in types


def test_tables_are_rows_too(dataverse: Dataverse) -> None:
    path = dataverse.table()
    query = "entities?$select=logicalname,entitysetname,objecttypecode&$filter=logicalname eq 'new_thing'"
    (row,) = dataverse.ok("GET", query)["value"]
    definition = dataverse.ok("GET", path)
    assert row["entityid"] == definition["MetadataId"]
    assert (row["entitysetname"], row["objecttypecode"]) == ("new_things", definition["ObjectTypeCode"])
    dataverse.fails(400, "0x80040800", "POST", "entities", {})
    dataverse.ok("DELETE", path)
    assert dataverse.ok("GET", query)["value"] == []
