"""Events: which writes steps hear of, what they are told, delivery, failures."""

import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from local.dataverse.outbox import wait_until_empty
from tests.dataverse.conftest import Dataverse
from tests.dataverse.test_batch import batch, change_set, part
from tests.dataverse.test_security import role

CONTRACTS = "http://schemas.microsoft.com/xrm/2011/Contracts"


class Hook:
    """A webhook receiver on loopback: keeps what it is sent, answers with the next of `statuses` (200 when none is left)."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes, str]] = []
        self.statuses: list[int] = []
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((dict(self.headers), body, self.path))
                self.send_response(hook.statuses.pop(0) if hook.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


def register(dataverse: Dataverse, hook: Hook, message: str, table: str, **more: Any) -> str:
    endpoint = dataverse.ok(
        "POST",
        "serviceendpoints",
        {
            "name": "hook",
            "contract": 8,
            "authtype": 4,
            "authvalue": "k3y",
            "url": hook.url,
            "messageformat": 2,
        },
    )
    condition = f"primaryobjecttypecode eq '{table}' and sdkmessageid/name eq '{message}'"
    query = f"sdkmessagefilters?$expand=sdkmessageid&$filter={condition}"
    found = dataverse.ok("GET", query)["value"][0]
    return str(
        dataverse.ok(
            "POST",
            "sdkmessageprocessingsteps",
            {
                "name": f"{message} of {table}",
                "stage": 40,
                "mode": 1,
                "rank": 1,
                "asyncautodelete": True,
                "sdkmessageid@odata.bind": f"/sdkmessages({found['sdkmessageid']['sdkmessageid']})",
                "sdkmessagefilterid@odata.bind": f"/sdkmessagefilters({found['sdkmessagefilterid']})",
                "eventhandler_serviceendpoint@odata.bind": f"/serviceendpoints({endpoint})",
                **more,
            },
        )
    )


def image(dataverse: Dataverse, step: str, kind: int, alias: str, columns: str) -> None:
    dataverse.ok(
        "POST",
        "sdkmessageprocessingstepimages",
        {
            "name": alias,
            "imagetype": kind,
            "entityalias": alias,
            "messagepropertyname": "Target",
            "attributes": columns,
            "sdkmessageprocessingstepid@odata.bind": f"/sdkmessageprocessingsteps({step})",
        },
    )


def told(dataverse: Dataverse, hook: Hook) -> list[dict[str, Any]]:
    while dataverse.env.outbox.deliver():
        pass
    return [json.loads(body) for _, body, _ in hook.got]


def pairs(entity: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: item["value"] for item in entity["Attributes"]}


def test_an_update_tells_what_was_sent_and_its_images(dataverse: Dataverse, hook: Hook) -> None:
    step = register(dataverse, hook, "Update", "invoice", filteringattributes="statecode,statuscode,totalamount")
    image(dataverse, step, 0, "pre", "statuscode,totalamount,description")
    image(dataverse, step, 1, "post", "statuscode,totalamount,customerid,description")
    account = dataverse.ok("POST", "accounts", {"name": "Adatum"})
    row = dataverse.ok(
        "POST",
        "invoices",
        {
            "name": "SO-1",
            "description": "draft",
            "customerid_account@odata.bind": f"/accounts({account})",
            "invoice_details": [{"quantity": 1, "priceperunit": 1250}],
        },
    )
    dataverse.ok("PATCH", f"invoices({row})", {"name": "not watched"})
    dataverse.ok("PATCH", f"invoices({row})", {"statecode": 2, "statuscode": 100001, "description": None})
    (event,) = told(dataverse, hook)
    headers, body, path = hook.got[0]
    assert path == "/hook?code=k3y"
    assert (headers["x-ms-dynamics-entity-name"], headers["x-ms-dynamics-request-name"]) == ("invoice", "Update")
    assert b'"__type":"Entity:http:\\/\\/schemas.microsoft.com\\/xrm\\/2011\\/Contracts"' in body
    assert (event["MessageName"], event["PrimaryEntityName"], event["PrimaryEntityId"]) == ("Update", "invoice", row)
    assert (event["Depth"], event["Mode"], event["Stage"], event["UserId"]) == (1, 1, 40, dataverse.admin)
    assert event["OperationCreatedOn"] == "/Date(1772357400000+0000)/"
    target = event["InputParameters"][0]["value"]
    assert target["__type"] == f"Entity:{CONTRACTS}"
    sent = pairs(target)
    assert sent["statuscode"] == {"__type": f"OptionSetValue:{CONTRACTS}", "Value": 100001}
    assert (sent["description"], sent["modifiedon"]) == (None, "/Date(1772357400000)/")
    assert set(sent) == {
        "invoiceid",
        "statecode",
        "statuscode",
        "description",
        "modifiedon",
        "modifiedby",
        "modifiedonbehalfby",
    }
    before, after = event["PreEntityImages"][0], {item["key"]: item["value"] for item in event["PostEntityImages"]}
    assert before["key"] == "pre"
    assert pairs(before["value"])["description"] == "draft"
    assert pairs(after["AsynchronousStepPrimaryName"])["name"] == "not watched"
    post = pairs(after["post"])
    assert "description" not in post
    assert post["totalamount"] == {"__type": f"Money:{CONTRACTS}", "Value": 1250.0}
    assert (post["customerid"]["LogicalName"], post["customerid"]["Name"]) == ("account", "Adatum")
    assert {"key": "totalamount", "value": "$1,250.00"} in after["post"]["FormattedValues"]


def test_creates_and_deletes(dataverse: Dataverse, hook: Hook) -> None:
    register(dataverse, hook, "Create", "account")
    deleting = register(dataverse, hook, "Delete", "account")
    image(dataverse, deleting, 0, "pre", "name")
    row = dataverse.ok("POST", "accounts", {"name": "A"})
    dataverse.ok("DELETE", f"accounts({row})")
    created, deleted = told(dataverse, hook)
    assert created["OutputParameters"] == [{"key": "id", "value": row}]
    target = deleted["InputParameters"][0]["value"]
    assert (target["__type"], target["Id"]) == (f"EntityReference:{CONTRACTS}", row)
    assert pairs(deleted["PreEntityImages"][0]["value"])["name"] == "A"
    assert deleted["PostEntityImages"] == []


def test_lines_and_bulk_calls_are_heard_row_by_row(dataverse: Dataverse, hook: Hook) -> None:
    register(dataverse, hook, "Update", "invoice", filteringattributes="totalamount")
    account = dataverse.ok("POST", "accounts", {"name": "A"})
    row = dataverse.ok("POST", "invoices", {"name": "I", "customerid_account@odata.bind": f"/accounts({account})"})
    dataverse.ok(
        "POST", "invoicedetails", {"quantity": 1, "priceperunit": 2, "invoiceid@odata.bind": f"/invoices({row})"}
    )
    (event,) = told(dataverse, hook)
    assert (event["PrimaryEntityId"], event["Depth"]) == (row, 2)
    targets = [{"@odata.type": "Microsoft.Dynamics.CRM.invoice", "invoiceid": row, "totalamount": 1}]
    dataverse.ok("POST", "invoices/Microsoft.Dynamics.CRM.UpdateMultiple", {"Targets": targets})
    assert len(told(dataverse, hook)) == 2


def test_a_rolled_back_write_is_never_heard(dataverse: Dataverse, hook: Hook) -> None:
    register(dataverse, hook, "Create", "account")
    kind = {"@odata.type": "Microsoft.Dynamics.CRM.account"}
    answer = dataverse.send(
        "POST",
        "accounts/Microsoft.Dynamics.CRM.CreateMultiple",
        {"Targets": [kind | {"name": "a"}, kind | {"name": 5}]},
    )
    assert answer.status_code == 400
    assert told(dataverse, hook) == []


def test_a_webhook_is_tried_twice_and_only_for_gateway_errors(dataverse: Dataverse, hook: Hook) -> None:
    register(dataverse, hook, "Create", "account")
    hook.statuses = [503, 200]
    dataverse.ok("POST", "accounts", {"name": "A"})
    assert len(told(dataverse, hook)) == 2
    assert dataverse.ok("GET", "asyncoperations")["value"] == []
    hook.statuses = [500]
    dataverse.ok("POST", "accounts", {"name": "B"})
    assert len(told(dataverse, hook)) == 3
    failed = dataverse.ok("GET", "asyncoperations?$filter=statuscode eq 31&$select=messagename,primaryentitytype")[
        "value"
    ]
    assert [(job["messagename"], job["primaryentitytype"]) for job in failed] == [("Create", "account")]


def test_a_job_is_seen_from_the_write_to_its_end(dataverse: Dataverse, hook: Hook) -> None:
    step = register(dataverse, hook, "Create", "account", asyncautodelete=False)
    row = dataverse.ok("POST", "accounts", {"name": "A"})
    (job,) = dataverse.ok("GET", "asyncoperations")["value"]
    assert (job["name"], job["statecode"], job["statuscode"], job["completedon"]) == ("Create of account", 0, 0, None)
    assert (job["regardingobjectid"], job["_owningextensionid_value"]) == (row, step)
    (event,) = told(dataverse, hook)
    assert event["OperationId"] == job["asyncoperationid"]
    done = dataverse.ok("GET", f"asyncoperations({job['asyncoperationid']})")
    assert (done["statecode"], done["statuscode"], done["retrycount"]) == (3, 30, 0)
    assert done["completedon"]


def test_a_queue_that_cannot_be_reached_keeps_its_jobs_waiting(dataverse: Dataverse, hook: Hook) -> None:
    step = register(dataverse, hook, "Create", "account")
    queue = dataverse.ok(
        "POST",
        "serviceendpoints",
        {
            "name": "queue", "contract": 2, "authtype": 2, "messageformat": 2, "namespaceaddress": "sb://localhost:1",
            "path": "q", "saskeyname": "k", "saskey": "c2VjcmV0",
        },
    )  # fmt: skip
    bind = {"eventhandler_serviceendpoint@odata.bind": f"/serviceendpoints({queue})"}
    dataverse.ok("PATCH", f"sdkmessageprocessingsteps({step})", bind)
    dataverse.ok("POST", "accounts", {"name": "A"})
    assert dataverse.env.outbox.deliver() == 0
    (job,) = dataverse.ok("GET", "asyncoperations")["value"]
    assert (job["statecode"], job["statuscode"], job["retrycount"]) == (1, 10, 1)
    assert job["friendlymessage"]
    assert "c2VjcmV0" not in str(job)


def test_steps_are_passed_by_only_with_the_privilege(dataverse: Dataverse, hook: Hook) -> None:
    register(dataverse, hook, "Create", "account")
    header = {"MSCRM.BypassCustomPluginExecution": "true"}
    kind = {"@odata.type": "Microsoft.Dynamics.CRM.account"}
    many = "accounts/Microsoft.Dynamics.CRM.CreateMultiple"
    create = part("POST", "/api/data/v9.2/accounts", {"name": "C"}, 1, **header)
    loud = part("POST", "/api/data/v9.2/accounts?tag=T", {"name": "D"}, 2)
    dataverse.ok("POST", "accounts", {"name": "A"}, **header)
    dataverse.ok("POST", many, {"Targets": [kind | {"name": "B"}]}, **header)
    assert batch(dataverse, change_set(create, loud)).status_code == 200
    dataverse.ok("POST", f"{many}?tag=M", {"Targets": [kind | {"name": "E"}]})
    shared = [{item["key"]: item["value"] for item in event["SharedVariables"]} for event in told(dataverse, hook)]
    assert [variables["tag"] for variables in shared] == ["T", "M"]
    dataverse.person("clerk", role(dataverse, "Clerk", prvCreateAccount="Global", prvReadAccount="Global"))
    dataverse.fails(403, "0x80040220", "POST", "accounts", {}, "clerk", **header)
    dataverse.fails(403, "0x80040220", "POST", many, {"Targets": [kind]}, "clerk", **header)


def test_a_synchronous_webhook_can_refuse_the_write(dataverse: Dataverse, hook: Hook) -> None:
    register(dataverse, hook, "Create", "account", mode=0)
    dataverse.ok("POST", "accounts", {"name": "A"})
    hook.statuses = [400]
    dataverse.fails(400, "0x80050201", "POST", "accounts", {"name": "B"})
    assert len(dataverse.ok("GET", "accounts")["value"]) == 1


def test_large_contexts_are_trimmed(dataverse: Dataverse, hook: Hook) -> None:
    dataverse.table()
    register(dataverse, hook, "Create", "savedquery")
    dataverse.ok(
        "POST", "savedqueries", {"name": "x", "returnedtypecode": "account", "querytype": 0, "layoutxml": "x" * 300_000}
    )
    (event,) = told(dataverse, hook)
    headers = {name.lower(): value for name, value in hook.got[0][0].items()}
    assert headers["x-ms-dynamics-msg-size-exceeded"] == "true"
    assert not {"InputParameters", "PreEntityImages", "PostEntityImages", "ParentContext"} & event.keys()
    assert event["PrimaryEntityName"] == "savedquery"


def test_a_queue_needs_an_asynchronous_step_and_secrets_stay_inside(dataverse: Dataverse, hook: Hook) -> None:
    step = register(dataverse, hook, "Create", "account")
    queue = dataverse.ok(
        "POST",
        "serviceendpoints",
        {
            "name": "queue",
            "contract": 2,
            "authtype": 2,
            "messageformat": 2,
            "namespaceaddress": "sb://localhost:1",
            "path": "q",
            "saskeyname": "k",
            "saskey": "s3cret",
        },
    )
    read = dataverse.ok("GET", f"serviceendpoints({queue})")
    assert read["issaskeyset"] is True
    assert "s3cret" not in str(read)
    bind = {"eventhandler_serviceendpoint@odata.bind": f"/serviceendpoints({queue})", "mode": 0}
    dataverse.fails(400, "0x80040203", "PATCH", f"sdkmessageprocessingsteps({step})", bind)


def test_event_faults_are_seeded(dataverse: Dataverse, hook: Hook) -> None:
    register(dataverse, hook, "Create", "account")
    dataverse.env.faults.set({"seed": 3, "event_lost": 0.5})
    for number in range(20):
        dataverse.ok("POST", "accounts", {"name": str(number)})
    first = len(told(dataverse, hook))
    assert 0 < first < 20
    assert dataverse.env.faults.counts["event_lost"] == 20 - first
    assert wait_until_empty(dataverse.env, 1)


def test_what_runs_after_the_operation_is_told_of_the_operation(dataverse: Dataverse, hook: Hook) -> None:
    register(dataverse, hook, "Update", "account")
    register(dataverse, hook, "Update", "account", stage=20, mode=0)
    row = dataverse.ok("POST", "accounts", {"name": "A"})
    dataverse.ok("PATCH", f"accounts({row})", {"name": "B"})
    before, after = sorted(told(dataverse, hook), key=lambda event: int(event["Stage"]))
    assert (before["Stage"], before["ParentContext"]) == (20, None)
    parent = after["ParentContext"]
    assert (after["Stage"], parent["Stage"], parent["MessageName"], parent["Depth"]) == (40, 30, "Update", 1)
    assert (parent["ParentContext"], parent["PreEntityImages"], parent["PostEntityImages"]) == (None, [], [])
    assert pairs(parent["InputParameters"][0]["value"]) == {
        "accountid": row,
        "name": "B",
    }  # before Dataverse adds its own
    assert parent["PrimaryEntityId"] == row


def test_steps_of_bulk_messages_hear_of_all_rows_at_once(dataverse: Dataverse, hook: Hook) -> None:
    created = register(dataverse, hook, "CreateMultiple", "account")
    updated = register(dataverse, hook, "UpdateMultiple", "account", filteringattributes="telephone1")
    image(dataverse, created, 1, "post", "name")
    image(dataverse, updated, 2, "both", "telephone1")
    kind, action = {"@odata.type": "Microsoft.Dynamics.CRM.account"}, "accounts/Microsoft.Dynamics.CRM."
    rows = [kind | {"name": name, "telephone1": "1"} for name in "ABC"]
    ids = dataverse.ok("POST", f"{action}CreateMultiple", {"Targets": rows})["Ids"]
    changes = [kind | {"accountid": row, "telephone1": "2"} for row in ids[:2]]
    dataverse.ok("POST", f"{action}UpdateMultiple", {"Targets": [*changes, kind | {"accountid": ids[2], "name": "Z"}]})
    dataverse.ok(
        "POST", f"{action}UpdateMultiple", {"Targets": [kind | {"accountid": ids[2], "name": "Y"}]}
    )  # not heard
    create, update = told(dataverse, hook)
    targets = create["InputParameters"][0]
    assert (targets["key"], targets["value"]["__type"]) == ("Targets", f"EntityCollection:{CONTRACTS}")
    assert [pairs(entity)["name"] for entity in targets["value"]["Entities"]] == ["A", "B", "C"]
    assert create["OutputParameters"] == [{"key": "Ids", "value": ids}]
    assert (create["MessageName"], create["PrimaryEntityId"]) == ("CreateMultiple", str(uuid.UUID(int=0)))
    after = create["PostEntityImagesCollection"]
    assert [pairs(images[0]["value"])["name"] for images in after] == ["A", "B", "C"]
    assert [
        entity["Id"] for entity in update["InputParameters"][0]["value"]["Entities"]
    ] == ids  # in any of them is enough
    shots = [update[f"{side}EntityImagesCollection"] for side in ("Pre", "Post")]
    assert [[pairs(images[0]["value"])["telephone1"] for images in side] for side in shots] == [
        ["1", "1", "1"],
        ["2", "2", "1"],
    ]


def test_pipelines_of_single_and_bulk_messages_are_merged(dataverse: Dataverse, hook: Hook) -> None:
    register(dataverse, hook, "Create", "account")
    register(dataverse, hook, "CreateMultiple", "account")
    row = dataverse.ok("POST", "accounts", {"name": "A"})
    single, one = sorted(told(dataverse, hook), key=lambda event: len(event["MessageName"]))
    assert [entity["Id"] for entity in one["InputParameters"][0]["value"]["Entities"]] == [row]
    assert single["PrimaryEntityId"] == row
    kind = {"@odata.type": "Microsoft.Dynamics.CRM.account", "name": "B"}
    dataverse.ok("POST", "accounts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": [kind] * 3})
    assert sorted(event["MessageName"] for event in told(dataverse, hook)[2:]) == ["Create"] * 3 + ["CreateMultiple"]


def test_a_synchronous_step_of_a_bulk_message_can_refuse_all_rows(dataverse: Dataverse, hook: Hook) -> None:
    register(dataverse, hook, "CreateMultiple", "account", mode=0)
    hook.statuses = [400]
    kind = {"@odata.type": "Microsoft.Dynamics.CRM.account", "name": "B"}
    targets = {"Targets": [kind] * 3}
    dataverse.fails(400, "0x80050201", "POST", "accounts/Microsoft.Dynamics.CRM.CreateMultiple", targets)
    assert dataverse.ok("GET", "accounts")["value"] == []
