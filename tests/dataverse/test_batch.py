"""`$batch`: parts, change sets, references, failures, limits."""

import json
import re
import uuid
from typing import Any

import pytest
import requests

from tests.dataverse.conftest import Dataverse

_TYPE = 'multipart/mixed; boundary="b 1"'


def part(method: str, path: str, body: Any = None, content_id: int | None = None, **headers: str) -> str:
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"{method} {path} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append("Content-Type: application/json; type=entry")
    return "\r\n".join([*lines, "", "" if body is None else json.dumps(body)])


def change_set(*parts: str) -> str:
    inner = "".join(f"--cs\r\n{item}\r\n" for item in parts)
    return f"Content-Type: multipart/mixed; boundary=cs\r\n\r\n{inner}--cs--\r\n"


def batch(dataverse: Dataverse, *items: str, prefer: str = "") -> requests.Response:
    body = "".join(f"--b 1\r\n{item}\r\n" for item in items) + "--b 1--\r\n"
    headers = {"Content_Type": _TYPE} | ({"Prefer": prefer} if prefer else {})
    return dataverse.send("POST", "$batch", body.encode(), **headers)


def statuses(answer: requests.Response) -> list[int]:
    return [int(number) for number in re.findall(r"^HTTP/1\.1 (\d+)", answer.text, re.MULTILINE)]


def test_parts_run_in_order_and_see_each_other(dataverse: Dataverse) -> None:
    row = uuid.uuid4()
    answer = batch(
        dataverse,
        part("POST", "/api/data/v9.2/accounts", {"accountid": str(row), "name": "A"}),
        part("GET", "https://org.example/api/data/v9.2/accounts?$select=name&$filter=name eq 'A'"),
        part("GET", f"/api/data/v9.2/accounts({row})?$select=name"),
    )
    assert (answer.status_code, statuses(answer)) == (200, [204, 200, 200])
    assert answer.text.count('"name":"A"') == 2


def test_a_change_set_is_atomic_and_its_parts_may_refer_to_each_other(dataverse: Dataverse) -> None:
    answer = batch(
        dataverse,
        change_set(
            part("POST", "/api/data/v9.2/accounts", {"name": "Adatum"}, 1),
            part(
                "POST", "/api/data/v9.2/contacts", {"lastname": "Lee", "parentcustomerid_account@odata.bind": "$1"}, 2
            ),
            part("PUT", "$1/primarycontactid/$ref", {"@odata.id": "$2"}, 3),
            part("PATCH", "$1", {"description": "done"}, 4),
        ),
    )
    assert (answer.status_code, statuses(answer)) == (200, [204] * 4)
    read = dataverse.ok("GET", "accounts?$select=description&$expand=primarycontactid($select=lastname)")["value"]
    assert (read[0]["description"], read[0]["primarycontactid"]["lastname"]) == ("done", "Lee")


def test_the_bytes_of_an_answer(dataverse: Dataverse) -> None:
    row = "33333333-0000-0000-0000-000000000003"
    answer = batch(dataverse, change_set(part("POST", "/api/data/v9.2/accounts", {"accountid": row}, 1)))
    mark = answer.headers["Content-Type"].partition("boundary=")[2]
    inner = answer.text.partition("boundary=changesetresponse_")[2].partition("\r\n")[0]
    url = f"https://org.example/api/data/v9.2/accounts({row})"
    assert answer.text == (
        f"--{mark}\r\nContent-Type: multipart/mixed; boundary=changesetresponse_{inner}\r\n\r\n"
        f"--changesetresponse_{inner}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: 1\r\n\r\nHTTP/1.1 204 No Content\r\nOData-Version: 4.0\r\nLocation: {url}\r\n"
        f"OData-EntityId: {url}\r\n\r\n\r\n--changesetresponse_{inner}--\r\n--{mark}--\r\n"
    )


def test_a_failing_change_set_leaves_nothing_and_gives_one_answer(dataverse: Dataverse) -> None:
    row = str(uuid.uuid4())
    dataverse.ok("POST", "accounts", {"accountid": row})
    items = [
        change_set(
            part("POST", "/api/data/v9.2/accounts", {"name": "gone"}, 1),
            part("POST", "/api/data/v9.2/accounts", {"accountid": row}, 2),
            part("POST", "/api/data/v9.2/accounts", {"name": "never"}, 3),
        ),
        part("GET", "/api/data/v9.2/accounts?$select=name"),
    ]
    answer = batch(dataverse, *items)
    assert (answer.status_code, statuses(answer)) == (412, [412])  # without the preference nothing after it runs
    assert "Content-ID: 2\r\n" in answer.text
    assert "REQ_ID: " in answer.text
    answer = batch(dataverse, *items, prefer="odata.continue-on-error")
    assert (answer.status_code, statuses(answer)) == (200, [412, 200])
    assert len(dataverse.ok("GET", "accounts")["value"]) == 1


def test_conditions_hold_inside_change_sets(dataverse: Dataverse) -> None:
    row = dataverse.ok("POST", "accounts", {"name": "A"})
    etag = dataverse.ok("GET", f"accounts({row})")["@odata.etag"]
    change = part("PATCH", f"/api/data/v9.2/accounts({row})", {"name": "B"}, 1, If_Match=etag)
    assert statuses(batch(dataverse, change_set(change))) == [204]
    assert statuses(batch(dataverse, change_set(change))) == [412]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary",
        b"--b 1\n\nGET / HTTP/1.1\n\n--b 1--\n",
        b"--b 1\r\nContent-Type: application/http\r\n\r\nGET accounts HTTP/1.1\r\n\r\n",
        b"--b 1\r\nContent-Type: text/plain\r\n\r\nGET accounts HTTP/1.1\r\n\r\n--b 1--\r\n",
        b"--b 1\r\nContent-Type: application/http\r\n\r\nNONSENSE\r\n\r\n--b 1--\r\n",
        ("--b 1\r\n" + change_set(part("GET", "/api/data/v9.2/accounts", None, 1)) + "\r\n--b 1--\r\n").encode(),
        ("--b 1\r\n" + change_set(part("POST", "/api/data/v9.2/accounts", {})) + "\r\n--b 1--\r\n").encode(),
    ],
)
def test_unreadable_batches_are_refused_as_a_whole(dataverse: Dataverse, body: bytes) -> None:
    answer = dataverse.send("POST", "$batch", body, Content_Type=_TYPE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80048d19")
    assert dataverse.send("POST", "$batch", b"x", Content_Type="application/json").status_code == 400


def test_limits_of_a_batch(dataverse: Dataverse) -> None:
    read = part("GET", "/api/data/v9.2/WhoAmI")
    assert len(statuses(batch(dataverse, *[read] * 1000))) == 1000
    assert batch(dataverse, *[read] * 1001).status_code == 400
    assert statuses(batch(dataverse, part("POST", "/api/data/v9.2/$batch", {}))) == [400]
    answer = batch(dataverse, change_set(part("PATCH", "$9", {"name": "x"}, 1)))
    assert "Content-ID Reference: '$9' does not exist in the batch context." in answer.text
