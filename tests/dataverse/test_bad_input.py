"""Whatever comes in: the documented error, never a 500, never a hang. Seeded; the seed is printed."""

import json
import os
import random
import time
from typing import Any

from tests.dataverse.conftest import Dataverse

_PATHS = [
    "accounts",
    "accounts(00000000-0000-0000-0000-000000000001)",
    "accounts(name='x')",
    "contacts/$count",
    "WhoAmI",
    "$metadata",
    "EntityDefinitions",
    "EntityDefinitions(LogicalName='account')/Attributes",
    "RelationshipDefinitions",
    "$batch",
    "accounts(00000000-0000-0000-0000-000000000001)/primarycontactid/$ref",
    "InsertOptionValue",
    "BulkDelete",
    "GrantAccess",
    "accounts/Microsoft.Dynamics.CRM.CreateMultiple",
    "systemusers",
    "GlobalOptionSetDefinitions",
    "savedqueries",
    "accounts/Microsoft.Dynamics.CRM.UpsertMultiple",
    "CreateCustomerRelationships",
    "RetrieveTotalRecordCount(EntityNames=@p)",
]
_QUERIES = [
    "$filter=name eq 'a' and (revenue gt 1 or statecode eq 0)",
    "$select=name,revenue",
    "$orderby=name desc,createdon",
    "$expand=contact_customer_accounts($select=fullname;$top=1)",
    "$top=5&$count=true",
    "$apply=aggregate($count as n)",
    "fetchXml=<fetch><entity name='account'><attribute name='name'/></entity></fetch>",
    "sql=SELECT name FROM account",
    "$filter=Microsoft.Dynamics.CRM.LastXDays(PropertyName='createdon',PropertyValue=3)",
    "@p=['account']",
    "$skiptoken=<cookie/>",
    "$filter=contact_customer_accounts/any(c:c/lastname eq 'x')",
    "$deltatoken=1!01/01/2026 00:00:00",
    "savedQuery=1",
    "$id=accounts(1)",
]
_BODIES: list[Any] = [
    {"name": "A", "revenue": 1.5, "statecode": 0},
    {"primarycontactid@odata.bind": "/contacts(00000000-0000-0000-0000-000000000001)"},
    {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.account", "name": "x"}]},
    {"@odata.id": "accounts(1)"},
    {"SchemaName": "new_X", "@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata"},
    {
        "QuerySet": [
            {
                "EntityName": "account",
                "Criteria": {"Conditions": [{"AttributeName": "name", "Operator": "Equal", "Values": [1]}]},
            }
        ]
    },
    {"EntityLogicalName": "account", "AttributeLogicalName": "accountratingcode", "Value": 1},
    [],
    None,
    5,
    "x",
    {"contact_customer_accounts": [{"lastname": "x"}], "name": None},
]
_PIECES = [
    "'",
    "(",
    ")",
    "\x00",
    "%00",
    "%",
    "&",
    "=",
    "$",
    "é",
    "😀",
    "9" * 40,
    "null",
    ";",
    "--",
    "<",
    "@",
    "-1",
    "1e999",
    "/",
    "\r\n",
    " ",
]


def mutated(draw: random.Random, text: str) -> str:
    """`text` with a few characters removed, doubled, moved, or replaced by something nasty."""
    for _ in range(draw.randrange(4)):
        at = draw.randrange(len(text) + 1)
        kind = draw.randrange(4)
        if kind == 0:
            text = text[:at] + text[at + draw.randrange(1, 6) :]
        elif kind == 1:
            text = text[:at] + draw.choice(_PIECES) + text[at:]
        elif kind == 2:
            text = text[:at] + text[: draw.randrange(len(text) + 1)]
        else:
            text = text[at:] + text[:at]
    return text


def test_mutated_requests_get_documented_answers(dataverse: Dataverse) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "20260301"))
    count = int(os.environ.get("FUZZ_COUNT", "3000"))
    print(f"seed {seed}, {count} requests")
    draw = random.Random(seed)
    for number in range(count):
        method = draw.choice(["GET", "GET", "POST", "PATCH", "PUT", "DELETE"])
        path = mutated(draw, draw.choice(_PATHS))
        query = mutated(draw, "&".join(draw.sample(_QUERIES, draw.randrange(3))))
        body = (
            mutated(draw, json.dumps(draw.choice(_BODIES))).encode("utf-8", "surrogatepass") if method != "GET" else b""
        )
        headers = {
            "authorization": "Bearer admin",
            "content-type": draw.choice(["application/json", "multipart/mixed; boundary=b", ""]),
        }
        if draw.random() < 0.3:
            name = draw.choice(["if-match", "if-none-match", "prefer", "mscrmcallerid", "callerobjectid"])
            headers[name] = mutated(
                draw, draw.choice(['W/"1"', "*", 'odata.include-annotations="*"', "return=representation"])
            )
        begun = time.perf_counter()
        answer = dataverse.application.answer(method, f"/api/data/v9.2/{path}?{query}", headers, body)
        where = f"seed {seed}, request {number}: {method} {path!r}?{query!r} {body[:200]!r} {headers}"
        assert answer.status < 500, where
        if answer.status >= 400 and answer.body:
            error = json.loads(answer.body)["error"] if answer.body.startswith(b"{") else {"message": "multipart"}
            assert error["message"], where
        assert time.perf_counter() - begun < 5, where
    dataverse.ok("POST", "accounts", {"name": "still here"})


def test_mutated_batches_get_documented_answers(dataverse: Dataverse) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "20260302"))
    print(f"seed {seed}")
    draw = random.Random(seed)
    whole = (
        "--b\r\nContent-Type: multipart/mixed; boundary=cs\r\n\r\n--cs\r\nContent-Type: application/http\r\nContent-ID: 1\r\n\r\n"
        'POST /api/data/v9.2/accounts HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{"name":"A"}\r\n--cs--\r\n\r\n--b\r\n'
        "Content-Type: application/http\r\n\r\nGET /api/data/v9.2/accounts?$top=1 HTTP/1.1\r\n\r\n--b--\r\n"
    )
    headers = {"authorization": "Bearer admin", "content-type": "multipart/mixed; boundary=b"}
    for number in range(1000):
        body = mutated(draw, whole).encode("utf-8", "surrogatepass")
        answer = dataverse.application.answer("POST", "/api/data/v9.2/$batch", headers, body)
        assert answer.status < 500, f"seed {seed}, batch {number}: {body!r}"


def test_extreme_bodies(dataverse: Dataverse) -> None:
    deep = "[" * 100_000
    assert dataverse.send("POST", "accounts", deep).status_code == 400
    assert dataverse.send("POST", "accounts", '{"name":' + '"x' * 5 + "}").status_code == 400
    assert dataverse.send("POST", "accounts", '{"description":"' + "x" * 2_000_000 + '"}').status_code == 400
    assert dataverse.send("POST", "accounts", '{"revenue":1e400}').status_code == 400
    assert dataverse.send("POST", "accounts", '{"revenue":1e99999999999999999999}').status_code == 400
    assert dataverse.send("POST", "accounts", '{"revenue":NaN}').status_code == 400
    assert dataverse.send("POST", "accounts", '{"name":"half of a pair: \\ud83d"}').status_code == 400
    assert dataverse.send("GET", "accounts", Prefer="odata.maxpagesize=\xb2").status_code == 200
    assert dataverse.send("GET", f"RetrieveTotalRecordCount(EntityNames={'9' * 5000})").status_code == 400
    assert dataverse.send("GET", f"accounts?$deltatoken={'9' * 30}!03/01/2026 09:30:00").status_code == 400
    assert dataverse.send("POST", "accounts", b"\xff\xfe{").status_code == 400
    assert dataverse.send("GET", "accounts?$select=" + "name," * 8000).status_code == 400
    nested: Any = {"lastname": "x"}
    for _ in range(30):
        nested = {"lastname": "x", "contact_customer_contacts": [nested]}
    assert dataverse.send("POST", "contacts", json.dumps(nested)).status_code == 400
    assert dataverse.ok("GET", "contacts")["value"] == []
