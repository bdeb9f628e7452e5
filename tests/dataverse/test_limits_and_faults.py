"""Service protection, the model of execution time, fault dials, the admin endpoint."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.dataverse.conftest import URL, Dataverse
from tests.dataverse.test_batch import batch, part


def admin(dataverse: Dataverse, name: str, body: object = None) -> requests.Response:
    url = f"{URL}/admin/{name}"
    return dataverse.session.get(url) if body is None else dataverse.session.post(url, json=body)


def test_counters_tell_operations_and_modelled_seconds(dataverse: Dataverse) -> None:
    admin(dataverse, "counters", {})
    row = dataverse.ok("POST", "accounts", {"name": "A"})
    dataverse.ok("GET", f"accounts({row})")
    kind = {"@odata.type": "Microsoft.Dynamics.CRM.account"}
    dataverse.ok("POST", "accounts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": [kind] * 100})
    batch(dataverse, part("GET", "/api/data/v9.2/WhoAmI"))
    counters = admin(dataverse, "counters").json()
    assert (counters["requests"], counters["batches"], counters["rows_written"], counters["outbox"]) == (4, 1, 101, 0)
    assert counters["operations"]["create-multiple"] == {"account": 100}
    assert counters["modelled_execution_seconds"] == pytest.approx(0.082 + 0.01 + 100 * 0.011 + 0.02)


def test_too_many_requests_are_refused_and_pushing_makes_the_wait_longer(dataverse: Dataverse) -> None:
    assert admin(dataverse, "limits", {"enforced": True, "scale": 150}).json()["enforced"] is True
    answers = [dataverse.send("GET", "WhoAmI") for _ in range(40)]  # in a window of 2 s
    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].headers["x-ms-ratelimit-burst-remaining-xrm-requests"] == "39"
    assert float(answers[0].headers["x-ms-ratelimit-time-remaining-xrm-requests"]) < 8
    assert int(answers[0].headers["x-ms-dop-hint"]) > 0
    refused = dataverse.send("GET", "WhoAmI")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "0x80072322")
    assert (
        refused.json()["error"]["message"]
        == "Number of requests exceeded the limit of 6000 over time window of 300 seconds."
    )
    first = int(refused.headers["Retry-After"])
    for _ in range(20):
        refused = dataverse.send("GET", "WhoAmI")
    assert int(refused.headers["Retry-After"]) > first
    end = time.monotonic() + 10
    while dataverse.send("GET", "WhoAmI").status_code == 429:
        assert time.monotonic() < end


def test_execution_time_is_limited_too(dataverse: Dataverse) -> None:
    admin(dataverse, "limits", {"enforced": True, "scale": 1000})
    kind = {"@odata.type": "Microsoft.Dynamics.CRM.account"}
    dataverse.ok("POST", "accounts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": [kind] * 120})
    assert dataverse.send("GET", "WhoAmI").json()["error"]["code"] == "0x80072321"


def test_errors_come_as_often_as_the_dials_say_and_alike_for_a_seed(dataverse: Dataverse) -> None:
    runs = []
    for _ in range(2):
        admin(dataverse, "faults", {"seed": 7, "unavailable": 0.2, "sql_deadlock": 0.2})
        runs.append([dataverse.send("POST", "accounts", {"name": "A"}).status_code for _ in range(100)])
    assert runs[0] == runs[1]
    assert 8 <= runs[0].count(503) <= 32
    assert 6 <= runs[0].count(500) <= 30
    assert len(dataverse.env.storage.reader.execute("SELECT 1 FROM account").fetchall()) == 2 * runs[0].count(204)


def test_an_answer_may_be_lost_after_the_commit(dataverse: Dataverse) -> None:
    admin(dataverse, "faults", {"answer_lost": 1})
    with pytest.raises(requests.ConnectionError):
        dataverse.send("POST", "accounts", {"name": "A"})
    admin(dataverse, "faults", {"answer_lost": 0, "connection_lost": 1})
    with pytest.raises(requests.ConnectionError):
        dataverse.send("POST", "accounts", {"name": "B"})
    admin(dataverse, "faults", {"connection_lost": 0})
    assert [row["name"] for row in dataverse.ok("GET", "accounts")["value"]] == ["A"]


@pytest.mark.parametrize("body", [{"nosuch": 1}, {"unavailable": 2}, {"unavailable": "x"}, {"delay": -1}, [1]])
def test_wrong_dials_are_refused(dataverse: Dataverse, body: object) -> None:
    assert admin(dataverse, "faults", body).status_code == 400
    assert not dataverse.env.faults.active
    assert admin(dataverse, "limits", {"scale": 0}).status_code == 400
    assert admin(dataverse, "nosuch").status_code == 404


def test_no_more_than_52_requests_at_once(dataverse: Dataverse) -> None:
    admin(dataverse, "limits", {"enforced": True})
    admin(dataverse, "faults", {"delay": 1, "delay_seconds": 2})
    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda _: dataverse.send("GET", "WhoAmI"), range(60)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 60 - 52
    assert {answer.json()["error"]["code"] for answer in refused} == {"0x80072326"}
