"""Bulk deletes as system jobs, file columns, and what clients ask to find their way."""

import json
from urllib.parse import quote

from tests.dataverse.conftest import URL, Dataverse, column


def test_bulk_delete_is_a_system_job(dataverse: Dataverse) -> None:
    for number in range(5):
        dataverse.ok("POST", "accounts", {"name": f"A{number}", "numberofemployees": number})
    query = {
        "EntityName": "account",
        "Criteria": {
            "FilterOperator": "And",
            "Conditions": [
                {
                    "AttributeName": "numberofemployees",
                    "Operator": "GreaterEqual",
                    "Values": [{"Value": "2", "Type": "System.Int32"}],
                }
            ],
        },
    }
    body = {"JobName": "clean", "QuerySet": [query], "StartDateTime": "2026-03-01T00:00:00Z", "ToRecipients": []}
    job = dataverse.ok("POST", "BulkDelete", body)["JobId"]
    assert dataverse.ok("GET", f"asyncoperations({job})")["statecode"] == 0
    assert len(dataverse.ok("GET", "accounts")["value"]) == 5
    dataverse.env.run_jobs()
    assert dataverse.ok("GET", f"asyncoperations({job})")["statuscode"] == 30
    assert len(dataverse.ok("GET", "accounts")["value"]) == 2
    wrong = {"JobName": "x", "QuerySet": [query | {"EntityName": "nosuch"}]}
    dataverse.fails(400, "0x80041102", "POST", "BulkDelete", wrong)


def test_files_go_up_whole_or_in_chunks(dataverse: Dataverse) -> None:
    table = dataverse.table()
    dataverse.ok("POST", f"{table}/Attributes", column("File", "new_Paper"))
    row = dataverse.ok("POST", "new_things", {"new_name": "a"})
    path = f"new_things({row})/new_paper"
    headers = {"Content_Type": "application/octet-stream", "x_ms_file_name": "a.txt"}
    assert dataverse.send("PATCH", path, b"hello", **headers).status_code == 204
    assert dataverse.send("GET", f"{path}/$value").content == b"hello"
    begun = dataverse.send("PATCH", f"{path}?x-ms-file-name=b.txt", b"", x_ms_transfer_mode="chunked")
    where = begun.headers["Location"]
    assert int(begun.headers["x-ms-chunk-size"]) > 0
    assert dataverse.send("PATCH", where, b"12345", Content_Range="bytes 0-4/8").status_code == 206
    assert dataverse.send("PATCH", where, b"12345", Content_Range="bytes 0-4/8").status_code == 400
    assert dataverse.send("GET", f"{path}/$value").content == b"hello"
    assert dataverse.send("PATCH", where, b"678", Content_Range="bytes 5-7/8").status_code == 204
    answer = dataverse.send("GET", f"{path}/$value")
    assert (answer.content, answer.headers["x-ms-file-name"]) == (b"12345678", "b.txt")
    assert dataverse.send("DELETE", path).status_code == 204
    assert dataverse.send("GET", f"{path}/$value").status_code == 204


def test_metadata_changes(dataverse: Dataverse) -> None:
    def equals(name: str, value: str) -> dict[str, object]:
        wanted = {"Type": "System.String", "Value": value}
        return {"Conditions": [{"PropertyName": name, "ConditionOperator": "Equals", "Value": wanted}]}

    query = {
        "Properties": {"PropertyNames": ["LogicalName", "Attributes"]},
        "Criteria": equals("LogicalName", "account"),
        "AttributeQuery": {"Properties": {"PropertyNames": ["MaxLength"]}, "Criteria": equals("LogicalName", "name")},
    }
    found = dataverse.ok("GET", f"RetrieveMetadataChanges(Query=@p1)?@p1={quote(json.dumps(query))}")
    (table,) = found["EntityMetadata"]
    assert [attribute["MaxLength"] for attribute in table["Attributes"]] == [160]


def test_ways_in(dataverse: Dataverse) -> None:
    sets = {item["name"] for item in dataverse.ok("GET", "")["value"]}
    assert {"accounts", "invoices", "systemusers"} <= sets
    assert dataverse.ok("GET", f"{URL}/api/data/v9.1/WhoAmI()")["UserId"] == dataverse.admin
    assert dataverse.ok("GET", "RetrieveVersion")["Version"].startswith("9.2")
    dataverse.fails(404, "0x8006088a", "GET", "Accounts")  # names are case-sensitive
    dataverse.fails(404, "0x8006088a", "POST", "NoSuchAction", {})
    assert dataverse.send("PATCH", "accounts", {}).status_code == 405
    assert dataverse.send("DELETE", "accounts").status_code == 405
    assert dataverse.send("POST", "WhoAmI", {}).status_code == 405
