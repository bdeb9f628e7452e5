"""The client against recorded answers of the Web API: the bytes are those of Microsoft's documentation."""

import gzip
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import requests
import responses
from requests import PreparedRequest
from urllib3.exceptions import MaxRetryError, NewConnectionError

from connector.dataverse import (
    BadRequest,
    ConcurrencyMismatch,
    Create,
    DataverseClient,
    Delete,
    DuplicateKey,
    DuplicateRecord,
    Forbidden,
    Get,
    NotFound,
    OutcomeUnknown,
    Terminal,
    Transient,
    Unauthorized,
    Update,
    Upsert,
)
from tests.stopwatch import Stopwatch

ORIGIN = "https://org.crm.dynamics.com"
API = f"{ORIGIN}/api/data/v9.2/"
BATCH = f"{API}$batch"
ACCOUNT = "44444444-0000-0000-0000-000000000004"
INVOICE = "33333333-0000-0000-0000-000000000003"


class Tokens:
    def __init__(self) -> None:
        self.current = "t1"

    def token(self) -> str:
        return self.current

    def renew(self, rejected: str) -> str:
        assert rejected == self.current
        self.current = f"{rejected}+"
        return self.current


@pytest.fixture
def web() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def time() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def client(time: Stopwatch) -> Iterator[DataverseClient]:
    with DataverseClient(f"{ORIGIN}/", Tokens(), clock=time, sleep=time.sleep, chance=lambda: 1.0) as made:
        yield made


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def batch_answer(
    web: responses.RequestsMock, text: str, status: int = 200, boundary: str = "batchresponse_c1f0"
) -> None:
    web.post(BATCH, status=status, body=crlf(text), content_type=f"multipart/mixed; boundary={boundary}")


def error(code: str, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message}})


def single(status: str, body: str, more: str = "") -> str:
    return f"""--batchresponse_c1f0
Content-Type: application/http
Content-Transfer-Encoding: binary

HTTP/1.1 {status}
Content-Type: application/json; odata.metadata=minimal; odata.streaming=true
OData-Version: 4.0
{more}
{body}
"""


SUCCESS = """--batchresponse_c1f0
Content-Type: multipart/mixed; boundary=changesetresponse_9a2e

--changesetresponse_9a2e
Content-Type: application/http
Content-Transfer-Encoding: binary
Content-ID: 1

HTTP/1.1 204 No Content
OData-Version: 4.0
Location: https://org.crm.dynamics.com/api/data/v9.2/accounts(44444444-0000-0000-0000-000000000004)
OData-EntityId: https://org.crm.dynamics.com/api/data/v9.2/accounts(44444444-0000-0000-0000-000000000004)


--changesetresponse_9a2e
Content-Type: application/http
Content-Transfer-Encoding: binary
Content-ID: 2

HTTP/1.1 204 No Content
OData-Version: 4.0
Location: https://org.crm.dynamics.com/api/data/v9.2/invoices(33333333-0000-0000-0000-000000000003)
OData-EntityId: https://org.crm.dynamics.com/api/data/v9.2/invoices(33333333-0000-0000-0000-000000000003)


--changesetresponse_9a2e--
--batchresponse_c1f0--
"""

MISMATCH = error("0x80060882", "The version of the existing record doesn't match the RowVersion property provided.")
KEY_VIOLATED = error(
    "0x80060892",
    "Entity Key loy_EntrySequenceKey violated. A record with the same value for Sequence already exists. "
    "A duplicate record cannot be created. Select one or more unique values and try again.",
)


def failing_set(status: str, body: str, content_id: str = "Content-ID: 2\n", envelope: bool = True) -> str:
    part = f"""Content-Type: application/http
Content-Transfer-Encoding: binary
{content_id}
HTTP/1.1 {status}
REQ_ID: 5f0c7e1a-0000-4000-8000-000000000001
Content-Type: application/json; odata.metadata=minimal
OData-Version: 4.0

{body}
"""
    if not envelope:
        return f"--batchresponse_c1f0\n{part}--batchresponse_c1f0--\n"
    return f"""--batchresponse_c1f0
Content-Type: multipart/mixed; boundary=changesetresponse_9a2e

--changesetresponse_9a2e
{part}--changesetresponse_9a2e--
--batchresponse_c1f0--
"""


WRITES = [
    Create("accounts", {"name": "Adatum"}),
    Update(f"invoices({INVOICE})", {"name": "SO-1"}, if_match='W/"1048577"'),
]


def sent(web: responses.RequestsMock, index: int = -1) -> PreparedRequest:
    return web.calls[index].request


def test_a_change_set_byte_for_byte(client: DataverseClient, web: responses.RequestsMock) -> None:
    batch_answer(web, SUCCESS)
    assert client.commit(WRITES) == [ACCOUNT, INVOICE]
    request = sent(web)
    boundary = re.fullmatch(r'multipart/mixed; boundary="(batch_[0-9a-f]{16})"', request.headers["Content-Type"])
    assert boundary
    body = request.body.decode() if isinstance(request.body, bytes) else str(request.body)
    assert (
        body.replace(boundary.group(1), "B")
        == crlf(
            f"""--B
Content-Type: multipart/mixed; boundary="cs0_B"

--cs0_B
Content-Type: application/http
Content-Transfer-Encoding: binary
Content-ID: 1

POST /api/data/v9.2/accounts HTTP/1.1
Content-Type: application/json; type=entry

{{"name":"Adatum"}}
--cs0_B
Content-Type: application/http
Content-Transfer-Encoding: binary
Content-ID: 2

PATCH /api/data/v9.2/invoices({INVOICE}) HTTP/1.1
Content-Type: application/json; type=entry
If-Match: W/"1048577"

{{"name":"SO-1"}}
--cs0_B--

--B--
"""
        ).decode()
    )
    expected = {
        "Authorization": "Bearer t1",
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "OData-Version": "4.0",
        "OData-MaxVersion": "4.0",
        "Prefer": "odata.continue-on-error",
    }
    assert expected.items() <= dict(request.headers).items()


@pytest.mark.parametrize("envelope", [True, False])
@pytest.mark.parametrize("outer", [200, 400, 412])
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        ("412 Precondition Failed", MISMATCH, ConcurrencyMismatch),
        (
            "412 Precondition Failed",
            error("", "The version of the existing record doesn't match."),
            ConcurrencyMismatch,
        ),
        ("412 Precondition Failed", KEY_VIOLATED, DuplicateKey),
        ("412 Precondition Failed", error("0x80040237", "Cannot insert duplicate key"), DuplicateRecord),
        ("404 Not Found", error("0x80040217", f"invoice With Id = {INVOICE} Does Not Exist"), NotFound),
        ("403 Forbidden", error("0x80040220", "Principal user is missing prvWriteInvoice privilege"), Forbidden),
        ("400 Bad Request", error("0x80048D19", "Error identified in Payload"), BadRequest),
    ],
)
def test_a_failing_change_set(
    client: DataverseClient, web: responses.RequestsMock, envelope: bool, outer: int, status: str, body: str, kind: type
) -> None:
    batch_answer(web, failing_set(status, body, envelope=envelope), outer)
    with pytest.raises(kind) as caught:
        client.commit(WRITES)
    assert type(caught.value) is kind
    assert caught.value.operation == f"PATCH invoices({INVOICE})"
    assert caught.value.request_id == "5f0c7e1a-0000-4000-8000-000000000001"
    assert client.counters.snapshot()["requests"] == 1


def test_a_failing_change_set_without_content_id(client: DataverseClient, web: responses.RequestsMock) -> None:
    batch_answer(web, failing_set("412 Precondition Failed", error("", "doesn't match"), content_id=""))
    with pytest.raises(ConcurrencyMismatch):
        client.commit(WRITES)
    batch_answer(
        web, failing_set("412 Precondition Failed", error("", "A record with matching key values already exists."))
    )
    with pytest.raises(DuplicateRecord):
        client.commit([Delete("accounts(1)"), Upsert("loy_integrationlogs(1)", {}, only_if_new=True)])


def test_reads_come_back_in_order_and_missing_rows_are_none(
    client: DataverseClient, web: responses.RequestsMock
) -> None:
    row = '{"@odata.etag":"W/\\"1048601\\"","name":"Adatum","revenue":922337203685477.1234}'
    rows = '{"@odata.context":"x#accounts(name)","value":[{"name":"a"},{"name":"b"}]}'
    gone = error("0x80040217", "account With Id = 1 Does Not Exist")
    batch_answer(
        web,
        single("200 OK", row) + single("200 OK", rows) + single("404 Not Found", gone) + "--batchresponse_c1f0--\n",
    )
    found = client.read(Get("accounts(1)"), Get("accounts?$filter=name eq 'O''Hara é'"), Get("accounts(2)"))
    assert found == [
        {"@odata.etag": 'W/"1048601"', "name": "Adatum", "revenue": Decimal("922337203685477.1234")},
        [{"name": "a"}, {"name": "b"}],
        None,
    ]
    assert b"GET /api/data/v9.2/accounts?$filter=name%20eq%20'O''Hara%20%C3%A9' HTTP/1.1\r\n" in sent(web).body


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("0x8006088A", "Resource not found for the segment 'loy_entrys'."),
        ("", "No HTTP resource was found that matches"),
    ],
)
def test_a_missing_table_is_not_a_missing_row(
    client: DataverseClient, web: responses.RequestsMock, code: str, message: str
) -> None:
    batch_answer(web, single("404 Not Found", error(code, message)) + "--batchresponse_c1f0--\n")
    with pytest.raises(NotFound, match=message[:20]):
        client.get("loy_entrys")


def test_a_read_follows_its_pages(client: DataverseClient, web: responses.RequestsMock) -> None:
    link = f"{API}accounts?$select=name&$skiptoken=%3Ccookie%20pagenumber=%222%22%20/%3E"
    first = json.dumps({"value": [{"name": "a"}], "@odata.nextLink": link})
    batch_answer(web, single("200 OK", first) + "--batchresponse_c1f0--\n")
    web.get(link, json={"value": [{"name": "b"}]})
    assert client.get("accounts?$select=name", annotations="*") == [{"name": "a"}, {"name": "b"}]
    assert sent(web).url == link
    assert sent(web).headers["Prefer"] == 'odata.maxpagesize=5000,odata.include-annotations="*"'
    assert sent(web).headers["If-None-Match"] == "null"


def test_no_token_for_a_link_that_leads_away(client: DataverseClient, web: responses.RequestsMock) -> None:
    away = "https://elsewhere.example/api/data/v9.2/accounts?$skiptoken=1"
    batch_answer(web, single("200 OK", json.dumps({"value": [], "@odata.nextLink": away})) + "--batchresponse_c1f0--\n")
    with pytest.raises(Terminal, match="leads away"):
        client.get("accounts")


def test_pages_and_tracked_changes(client: DataverseClient, web: responses.RequestsMock) -> None:
    path = f"{API}invoices?$select=name"
    delta = f"{path}&$deltatoken=919042%2108%2f22%2f2026%2008%3a10%3a44"
    web.get(path, json={"value": [{"name": "a"}], "@odata.nextLink": f"{path}&$skiptoken=1"})
    web.get(f"{path}&$skiptoken=1", json={"value": [{"name": "b"}], "@odata.deltaLink": delta})
    pages = list(client.pages("invoices?$select=name", max_page_size=1, track_changes=True))
    assert pages == [[{"name": "a"}], [{"name": "b"}]]
    assert [page.delta_link for page in pages] == [None, delta]
    assert {call.request.headers["Prefer"] for call in web.calls} == {"odata.maxpagesize=1,odata.track-changes"}
    web.get(delta, json={"value": [{"id": "5555", "reason": "deleted"}]})
    assert next(client.pages(delta)) == [{"id": "5555", "reason": "deleted"}]


THROTTLED = error("0x80072322", "Number of requests exceeded the limit of 6000 over time window of 300 seconds.")


def test_throttling_is_waited_out(client: DataverseClient, web: responses.RequestsMock, time: Stopwatch) -> None:
    web.post(BATCH, status=429, body=THROTTLED, headers={"Retry-After": "12"}, content_type="application/json")
    batch_answer(web, SUCCESS)
    client.commit(WRITES)
    assert time.slept == [12.25]
    assert client.counters.snapshot() == {
        "requests": 2,
        "operations": 4,
        "bytes_sent": sum(len(call.request.body or b"") for call in web.calls),
        "bytes_received": len(THROTTLED) + len(crlf(SUCCESS)),
        "retries": 1,
        "batches": {1: 2},
    }


def test_a_pause_beyond_the_deadline_is_not_begun(
    client: DataverseClient, web: responses.RequestsMock, time: Stopwatch
) -> None:
    web.post(BATCH, status=429, body=THROTTLED, headers={"Retry-After": "40"}, content_type="application/json")
    with pytest.raises(Transient) as caught:
        client.commit(WRITES)
    assert caught.value.retry_after == 40 and caught.value.code == 0x80072322
    with pytest.raises(Transient, match="pause of another 40 s"):
        client.request("GET", "WhoAmI")
    assert time.slept == [] and len(web.calls) == 1


def test_a_throttled_part_is_repeated_too(
    client: DataverseClient, web: responses.RequestsMock, time: Stopwatch
) -> None:
    batch_answer(web, single("429 Too Many Requests", THROTTLED, "Retry-After: 3\n") + "--batchresponse_c1f0--\n")
    batch_answer(web, single("200 OK", '{"name":"a"}') + "--batchresponse_c1f0--\n")
    assert client.get("accounts(1)") == {"name": "a"}
    assert time.slept == [3.25]


def test_a_deadlock_undoes_only_until_the_repetition(
    client: DataverseClient, web: responses.RequestsMock, time: Stopwatch
) -> None:
    for _ in range(3):
        batch_answer(web, failing_set("500 Internal Server Error", error("0x80044150", "Generic SQL error. 1205")))
    batch_answer(web, SUCCESS)
    assert client.commit(WRITES) == [ACCOUNT, INVOICE]
    assert time.slept == [0.25, 0.5, 1.0]


def test_an_unexpected_error_is_repeated_once(
    client: DataverseClient, web: responses.RequestsMock, time: Stopwatch
) -> None:
    for _ in range(2):
        batch_answer(
            web, failing_set("500 Internal Server Error", error("0x80040216", "An unexpected error occurred."))
        )
    with pytest.raises(Transient, match="unexpected"):
        client.commit(WRITES)
    assert time.slept == [0.25]


def test_fewer_answers_than_writes_leave_the_outcome_open(client: DataverseClient, web: responses.RequestsMock) -> None:
    batch_answer(web, failing_set("204 No Content", ""))
    with pytest.raises(OutcomeUnknown, match="1 answers to 2 writes"):
        client.commit(WRITES, deadline=0)


def test_repeating_ends_at_the_deadline(client: DataverseClient, web: responses.RequestsMock, time: Stopwatch) -> None:
    web.post(BATCH, status=503, body="<html>")
    with pytest.raises(Transient, match="HTTP 503"):
        client.commit(WRITES)
    assert time.slept == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    time.slept.clear()
    with pytest.raises(Transient):
        client.commit(WRITES, deadline=1)
    assert time.slept == [0.25, 0.5]


@pytest.mark.parametrize("lost", [requests.ReadTimeout(), requests.ConnectionError("reset"), 502, "cut", "junk"])
def test_a_lost_answer_is_repeated_and_met_as_a_conflict(
    client: DataverseClient, web: responses.RequestsMock, lost: object
) -> None:
    if isinstance(lost, int):
        web.post(BATCH, status=lost, body="<html>bad gateway</html>")
    elif lost == "cut":
        batch_answer(web, SUCCESS[:200])
    elif lost == "junk":
        web.post(BATCH, body="{}", content_type="application/json")
    else:
        web.post(BATCH, body=lost)
    batch_answer(web, failing_set("412 Precondition Failed", KEY_VIOLATED, "Content-ID: 1\n"))
    with pytest.raises(DuplicateKey) as caught:
        client.commit(WRITES)
    assert caught.value.key == "loy_EntrySequenceKey" and caught.value.operation == "POST accounts"


def test_a_lost_post_of_another_kind_is_not_repeated(client: DataverseClient, web: responses.RequestsMock) -> None:
    web.post(f"{API}EntityDefinitions", body=requests.ReadTimeout())
    with pytest.raises(OutcomeUnknown, match="no answer"):
        client.request("POST", "EntityDefinitions", {"SchemaName": "loy_Entry"})
    refused = requests.ConnectionError(MaxRetryError(None, "", NewConnectionError(None, "refused")))
    web.post(f"{API}PublishAllXml", body=refused)
    web.post(f"{API}PublishAllXml", status=204)
    assert client.request("POST", "PublishAllXml").status == 204  # never sent the first time


def test_an_untrusted_certificate_is_final(client: DataverseClient, web: responses.RequestsMock) -> None:
    web.get(f"{API}WhoAmI", body=requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"))
    with pytest.raises(Terminal, match="not trusted"):
        client.request("GET", "WhoAmI")


CHALLENGE = {
    "WWW-Authenticate": "Bearer authorization_uri=https://login.microsoftonline.com/t/oauth2/authorize, "
    f"resource_id={ORIGIN}/"
}


def test_a_rejected_token_is_renewed_once(
    client: DataverseClient, web: responses.RequestsMock, time: Stopwatch
) -> None:
    web.get(f"{API}WhoAmI", status=401, headers=CHALLENGE)
    web.get(f"{API}WhoAmI", json={"UserId": "u"})
    assert client.request("GET", "WhoAmI").json() == {"UserId": "u"}
    assert [call.request.headers["Authorization"] for call in web.calls] == ["Bearer t1", "Bearer t1+"]
    web.get(f"{API}Other", status=401, headers=CHALLENGE)
    with pytest.raises(Unauthorized):
        client.request("GET", "Other")
    assert len(web.calls) == 4 and time.slept == []


def test_bulk_messages(client: DataverseClient, web: responses.RequestsMock) -> None:
    created = web.post(
        f"{API}loy_entries/Microsoft.Dynamics.CRM.CreateMultiple",
        json={"@odata.context": f"{API}$metadata#Microsoft.Dynamics.CRM.CreateMultipleResponse", "Ids": ["b", "a"]},
    )
    assert client.create_multiple("loy_entries", "loy_entry", [{"loy_sequence": 2}, {"loy_sequence": 1}]) == ["b", "a"]
    assert json.loads(created.calls[0].request.body)["Targets"] == [
        {"@odata.type": "Microsoft.Dynamics.CRM.loy_entry", "loy_sequence": 2},
        {"@odata.type": "Microsoft.Dynamics.CRM.loy_entry", "loy_sequence": 1},
    ]
    update = f"{API}loy_memberships/Microsoft.Dynamics.CRM.UpdateMultiple"
    web.post(update, status=500, body=error("0x80044150", "Generic SQL error. Sql Number: 1205"))
    web.post(update, status=204)
    client.update_multiple("loy_memberships", "loy_membership", [{"loy_membershipid": "m", "loy_balance": 3}])
    assert client.counters.snapshot()["retries"] == 1
    with pytest.raises(ValueError, match="rows"):
        client.update_multiple("loy_memberships", "loy_membership", [])


def test_the_service_s_recommendation_is_known_and_its_cookies_are_not(
    client: DataverseClient, web: responses.RequestsMock
) -> None:
    assert client.parallelism == 4  # nothing is known yet
    assert client.budget == {}
    headers = {
        "x-ms-dop-hint": "7",
        "x-ms-ratelimit-burst-remaining-xrm-requests": "5998",
        "x-ms-ratelimit-time-remaining-xrm-requests": "812.4",
        "Set-Cookie": "ARRAffinity=abc; Path=/; Domain=org.crm.dynamics.com",
    }
    web.get(f"{API}WhoAmI", json={}, headers=headers)
    client.request("GET", "WhoAmI")
    client.request("GET", "WhoAmI")
    assert client.parallelism == 7
    assert client.budget == {"requests": 5998, "seconds": 812.4}
    assert "Cookie" not in sent(web).headers


def test_a_compressed_answer(client: DataverseClient, web: responses.RequestsMock) -> None:
    web.get(f"{API}WhoAmI", body=gzip.compress(b'{"UserId":"u"}'), headers={"Content-Encoding": "gzip"})
    assert client.request("GET", "WhoAmI").json() == {"UserId": "u"}


def test_a_redirect_gets_no_token(client: DataverseClient, web: responses.RequestsMock) -> None:
    web.get(f"{API}WhoAmI", status=302, headers={"Location": "https://elsewhere.example/"})
    with pytest.raises(Terminal, match="HTTP 302"):
        client.request("GET", "WhoAmI")


@pytest.mark.parametrize("body", ["", "<html>no</html>", "[]", '{"error":"no"}', '{"error":{"code":7}}', "[" * 10_000])
def test_an_error_without_the_usual_form(client: DataverseClient, web: responses.RequestsMock, body: str) -> None:
    web.get(f"{API}WhoAmI", status=403, body=body)
    with pytest.raises(Forbidden, match="Dataverse gave no reason"):
        client.request("GET", "WhoAmI")


def test_the_last_attempt_does_not_outlast_the_deadline_by_much(
    client: DataverseClient, web: responses.RequestsMock, time: Stopwatch
) -> None:
    """Each attempt takes ten seconds; the socket is watched for no longer than the deadline leaves."""
    watched = []

    def slow(request: PreparedRequest) -> tuple[int, dict[str, str], str]:
        watched.append(request.req_kwargs["timeout"][1])  # type: ignore[attr-defined]
        time.now += 10
        return 503, {}, ""

    web.add_callback(responses.POST, BATCH, slow)
    web.add_callback(responses.GET, f"{API}WhoAmI", slow)
    with pytest.raises(Transient):
        client.commit(WRITES)
    with pytest.raises(Transient):
        client.request("GET", "WhoAmI")
    assert watched == [20, 14.75, 4.25] * 2


def test_a_closed_client_refuses(web: responses.RequestsMock) -> None:
    client = DataverseClient(ORIGIN, Tokens())
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.get("accounts")


@pytest.mark.parametrize("url", ["http://org.crm.dynamics.com", "org.crm.dynamics.com", ""])
def test_the_environment_is_an_https_url(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        DataverseClient(url, Tokens())


def test_errors_name_no_data_from_queries(client: DataverseClient, web: responses.RequestsMock) -> None:
    bad: Any = error("0x80060888", "Could not find a property named 'Naem' on type 'Microsoft.Dynamics.CRM.account'.")
    batch_answer(web, single("400 Bad Request", bad) + "--batchresponse_c1f0--\n")
    with pytest.raises(BadRequest) as caught:
        client.get("accounts?$filter=emailaddress1 eq 'someone@example.com'")
    assert caught.value.field == "Naem" and "someone" not in str(caught.value)
