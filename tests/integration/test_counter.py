"""The HTTP API on the whole chain."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import requests

from tests.integration.conftest import Chain


def test_twenty_tills_race_for_the_same_hundred_points(chain: Chain) -> None:
    customer = chain.with_points(100)

    def redeem(till: int) -> requests.Response:
        return chain.post(
            "redemptions", {"customer": str(customer), "points": 100}, f"race-{customer.id}-{till}", wait=30
        )

    with ThreadPoolExecutor(20) as tills:
        answers = list(tills.map(redeem, range(20)))
    won = [answer for answer in answers if answer.status_code == 201]
    lost = [answer for answer in answers if answer.status_code == 409]
    assert (len(won), len(lost)) == (1, 19)
    assert {answer.json()["code"] for answer in lost} == {"insufficient_points"}
    assert {answer.json()["detail"] for answer in lost} == {"Only 0 points are available; 100 were asked for."}
    assert chain.balance(customer) == 0
    entries = chain.get(f"customers/{customer}").json()["entries"]
    assert [(entry["kind"], entry["points"]) for entry in entries if entry["kind"] == "redeem"] == [("redeem", -100)]


def test_the_same_key_is_the_same_redemption(chain: Chain) -> None:
    customer, key = chain.with_points(500), f"same-{uuid4()}"
    body = {"customer": str(customer), "points": 200, "description": "A mug"}
    first, again = (chain.post("redemptions", body, key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert chain.balance(customer) == 300
    other = chain.post("redemptions", {**body, "points": 300}, key)
    assert (other.status_code, other.json()["code"], other.json()["field"]) == (422, "key_reused", "Idempotency-Key")


def test_a_redemption_can_be_read_again_and_voided_once(chain: Chain) -> None:
    customer = chain.with_points(400)
    made = chain.post("redemptions", {"customer": str(customer), "points": 150}, f"read-{uuid4()}").json()
    assert (made["status"], made["balance_after"], made["value"]) == ("completed", 250, "0.15")
    assert chain.get(f"redemptions/{made['id']}").json() == made
    typed = made["code"].lower().replace("-", " ")
    voided = chain.post(f"redemptions/{typed}/void", {"reason": "Changed mind"}, f"void-{uuid4()}")
    assert (voided.status_code, voided.json()["points"]) == (201, 150)
    assert chain.balance(customer) == 400
    assert chain.get(f"redemptions/{made['id']}").json()["status"] == "voided"
    again = chain.post(f"redemptions/{typed}/void", {"reason": "Again"}, f"void-{uuid4()}")
    assert (again.status_code, again.json()["code"]) == (409, "already_voided")
    assert chain.balance(customer) == 400


def test_without_waiting_the_answer_comes_later(chain: Chain) -> None:
    customer = chain.with_points(100)
    accepted = chain.post("redemptions", {"customer": str(customer), "points": 100}, f"later-{uuid4()}", wait=0)
    assert (accepted.status_code, accepted.json()["status"]) == (202, "requested")
    assert accepted.headers["Location"] == f"/api/redemptions/{accepted.json()['id']}"
    chain.settle()
    assert chain.get(f"redemptions/{accepted.json()['id']}").json()["status"] == "completed"


def test_a_customer_sees_balance_tier_and_entries(chain: Chain) -> None:
    customer = chain.with_points(250)
    seen = chain.get(f"customers/{customer}").json()
    assert (seen["balance"], seen["pending"], seen["tier"]["code"]) == (250, 0, "BASE")
    assert sum(lot["points"] for lot in seen["lots"]) == 250
    assert sum(entry["points"] for entry in seen["entries"]) == 250
    newcomer = chain.account()
    assert chain.get(f"customers/{newcomer}").json()["balance"] == 0


GUID = "11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize(
    ("path", "body", "key", "status", "field", "word"),
    [
        ("redemptions", {"customer": f"account:{GUID}", "points": 1}, None, 400, "Idempotency-Key", "Idempotency-Key"),
        ("redemptions", {"customer": f"account:{GUID}", "points": 1}, "short", 400, "Idempotency-Key", "8 to 100"),
        ("redemptions", {"points": 1}, "key-000001", 400, "customer", "required"),
        ("redemptions", {"customer": "lead:1", "points": 1}, "key-000001", 400, "customer", "not a customer"),
        ("redemptions", {"customer": f"account:{GUID}"}, "key-000001", 400, "points", "required"),
        ("redemptions", {"customer": f"account:{GUID}", "points": 0}, "key-000001", 400, "points", "greater than 0"),
        ("redemptions", {"customer": f"account:{GUID}", "points": -5}, "key-000001", 400, "points", "greater than 0"),
        ("redemptions", {"customer": f"account:{GUID}", "points": 1.5}, "key-000001", 400, "points", "integer"),
        ("redemptions", {"customer": f"account:{GUID}", "points": "1"}, "key-000001", 400, "points", "integer"),
        ("redemptions", {"customer": f"account:{GUID}", "points": 10**12}, "key-000001", 400, "points", "less than"),
        ("redemptions", {"customer": f"account:{GUID}", "points": 1, "x": 1}, "key-000001", 400, "x", "not permitted"),
        ("redemptions", [1], "key-000001", 400, "body", "body"),
        ("redemptions", {"customer": f"account:{GUID}", "points": 100}, f"key-{GUID}", 404, "customer", GUID),
        ("redemptions/ABC/void", {"reason": "x"}, "key-000001", 400, "code", "9 letters"),
        ("redemptions/222-222-223/void", {"reason": "x"}, "key-000001", 400, "code", "mistyped"),
        ("redemptions/222-222-222/void", {"reason": "x"}, "key-000001", 404, "code", "222-222-222"),
        ("redemptions/222-222-222/void", {}, "key-000001", 400, "reason", "required"),
    ],
)
def test_wrong_input_is_told_by_field(
    chain: Chain, path: str, body: Any, key: str | None, status: int, field: str, word: str
) -> None:
    answer = chain.post(path, body, key)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert problem["field"] == field
    assert word in problem["detail"]
    assert "Traceback" not in answer.text


def test_what_is_not_json_and_who_has_no_key(chain: Chain) -> None:
    url = f"{chain.endpoints['functions_url']}/api/redemptions"
    headers = {"x-functions-key": chain.endpoints["function_key"], "Idempotency-Key": "key-000001"}
    answer = requests.post(url, data=b"{not json", headers=headers, timeout=30)
    assert (answer.status_code, json.loads(answer.text)["field"]) == (400, "body")
    assert requests.post(url, json={}, timeout=30).status_code == 401
    assert chain.get("redemptions/no-id").status_code == 404
    assert chain.get(f"redemptions/{GUID}").status_code == 404
    assert chain.get(f"customers/account:{GUID}").status_code == 404
    assert chain.get("customers/somebody").status_code == 400
