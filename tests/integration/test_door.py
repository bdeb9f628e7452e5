"""The lines of docs/threat-model.md that this process can prove: what strangers send, and what we show."""

import json
import logging
import random
from collections.abc import Callable, Iterator
from datetime import date
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import azure.functions as func
import pytest
from pydantic import ValidationError

from benchmarks.fuzz import Fault, doors, fuzz, mutated, same_ids
from connector import logs, replay
from connector.bus import Change, ChangeError, Mandate, Subject
from connector.counter import Counter, RedemptionRequest, Refused, VoidRequest
from connector.dataverse import Create, Terminal, Transient, Update
from connector.identity import Customer
from connector.loyalty.codes import parse_code, transaction_code
from connector.rows import ledger
from connector.rows.choices import AdjustmentStatus, RedemptionStatus, RedemptionType
from connector.rows.programs import Programs
from functions import redemptions
from tests.integration.test_audit import customer_with_points, entries, wish
from tests.integration.test_parking import customer_with_invoice, log_of
from tests.office import Office

HOSTILE = "Robert'); DROP TABLE loy_entry;-- \" <script>alert(1)</script> ' or 1 eq 1 or '' eq ' $filter=&%27 \u202e"
MAIL = "ada.lovelace@mail.example.com"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.close()


@pytest.fixture(scope="module")
def events(office: Office) -> list[bytes]:
    """One of each kind of event that Dataverse posts about an invoice and a redemption."""
    customer, invoice = customer_with_invoice(office, "10")
    office.client.commit([Update(f"invoices({invoice})", {"statecode": 2, "statuscode": 100001})])
    wish(office, customer)
    found = office.events()
    office.work(found)
    return found


def total(office: Office, customer: Customer) -> int:
    return ledger.membership_of(customer, office.client.get(ledger.membership_path(customer))).state.total


def test_an_event_with_forged_values_earns_what_the_row_says(office: Office) -> None:
    customer, invoice = customer_with_invoice(office, "10")
    (event,) = [event for event in office.events() if invoice.encode() in event]
    forged = json.loads(event)
    for amount in ("totalamount", "totalamount_base", "totallineitemamount"):
        money = {"__type": "Money:http://schemas.microsoft.com/xrm/2011/Contracts", "Value": 1_000_000}
        forged["InputParameters"][0]["value"]["Attributes"].append({"key": amount, "value": money})
    office.work([json.dumps(forged).encode()])
    assert total(office, customer) == 100
    office.work([event] * 3)  # and the true one, replayed
    assert total(office, customer) == 100
    assert len(entries(office, customer)) == 1


def test_a_change_forged_for_another_customer_gives_them_nothing(office: Office) -> None:
    owner, invoice = customer_with_invoice(office, "10")
    office.work(office.events())
    thief, _ = customer_with_invoice(office, "1")
    office.work(office.events())
    for forged in (
        Change.about(Subject.INVOICE, invoice, str(thief), cause="forged"),
        Change.about(Subject.INVOICE, str(uuid4()), str(thief), cause="forged"),
        Change.about(Subject.ADJUSTMENT, invoice, str(thief), cause="forged"),
        Change.about(Subject.REVIEW, invoice, str(thief), cause="forged"),
        Change.about(Subject.REDEMPTION, invoice, f"contact:{uuid4()}", cause="forged"),
    ):
        office.sent.append(forged)
        office.work([])
    assert (total(office, owner), total(office, thief)) == (100, 10)


def test_a_resume_of_a_log_row_that_somebody_wrote_is_only_a_hint(office: Office) -> None:
    customer, invoice = customer_with_invoice(office, "10")
    office.work(office.events())
    (row,) = log_of(office, invoice)
    path = f"loy_integrationlogs({row['loy_integrationlogid']})"
    for forged in ('{"id": "x"}', "[]", json.dumps({"points": 1_000_000}), row["loy_change"]):
        office.client.commit([Update(path, {"loy_change": forged, "loy_resume": False})])
        office.client.commit([Update(path, {"loy_resume": True})])
        office.work(office.events())
    assert total(office, customer) == 100


def test_a_review_forged_for_a_day_to_come_takes_nothing(office: Office) -> None:
    customer, invoice = customer_with_invoice(office, "10")
    office.client.commit([Update(f"invoices({invoice})", {"statecode": 2, "statuscode": 100001})])
    office.work(office.events())
    forged = Change.about(
        Subject.REVIEW, customer.membership_id, str(customer), cause="forged", mandate=Mandate(as_of=date.max)
    )
    office.sent += [forged, forged.model_copy(update={"mandate": Mandate(as_of=date.max, spare_days=1)})]
    office.work([])
    (row,) = log_of(office, invoice)[:1]
    path = f"loy_integrationlogs({row['loy_integrationlogid']})"
    office.client.commit([Update(path, {"loy_change": forged.model_dump_json()})])
    office.client.commit([Update(path, {"loy_resume": True})])
    office.work(office.events())
    member = office.client.get(ledger.membership_path(customer))
    assert ledger.membership_of(customer, member).state.balance == 100


@pytest.mark.parametrize(
    ("mandate", "field"),
    [
        ({"as_of": "0001-01-01", "spare_days": 10}, "mandate.as_of"),
        ({"as_of": "2026-11-22", "spare_days": 10**12}, "mandate.spare_days"),
        ({"as_of": "2026-11-22", "points": 5}, "mandate.points"),
    ],
)
def test_a_mandate_that_no_run_could_give_is_refused_by_name(mandate: dict[str, Any], field: str) -> None:
    change = Change.about(Subject.REVIEW, str(uuid4()), f"account:{uuid4()}", cause="c").model_dump(mode="json")
    with pytest.raises(ChangeError, match=field):
        Change.parse(json.dumps(change | {"mandate": mandate}))


def answered(office: Office, table: str, row_id: str) -> dict[str, Any]:
    found = office.client.get(f"{table}({row_id})")
    return {name: value for name, value in found.items() if name.startswith("loy_")}


@pytest.mark.parametrize("status", [RedemptionStatus.COMPLETED, RedemptionStatus.VOIDED])
@pytest.mark.parametrize("member", [True, False])
def test_a_redemption_that_is_created_completed_is_rejected(
    office: Office, status: RedemptionStatus, member: bool
) -> None:
    customer = customer_with_points(office) if member else Customer("account", str(uuid4()))
    if not member:
        office.client.commit([Create("accounts", {"accountid": customer.id, "name": "New"})])
    code = transaction_code(str(uuid4()), 0)
    made = {"loy_status": status.value, "loy_transactioncode": code, "loy_value": 99, "loy_balanceafter": 12}
    forged = wish(office, customer, **made)
    office.work(office.events())
    row = answered(office, "loy_redemptions", forged)
    assert (row["loy_status"], row["loy_reasoncode"]) == (RedemptionStatus.REJECTED, "forged")
    assert (row["loy_transactioncode"], row["loy_value"]) == (None, None)
    assert total(office, customer) == (500 if member else 0)


def test_a_void_that_is_created_completed_is_rejected_and_a_true_one_stays(office: Office) -> None:
    customer = customer_with_points(office)
    spent = wish(office, customer)
    office.work(office.events())
    code = answered(office, "loy_redemptions", spent)["loy_transactioncode"]
    void = {"loy_type": RedemptionType.VOID.value, "loy_voidscode": code, "loy_points": 0}
    forged = wish(office, customer, **void, loy_status=RedemptionStatus.COMPLETED.value)
    nonsense = wish(office, customer, **void | {"loy_voidscode": "x"}, loy_status=RedemptionStatus.COMPLETED.value)
    office.work(office.events())
    assert answered(office, "loy_redemptions", forged)["loy_reasoncode"] == "forged"
    assert answered(office, "loy_redemptions", nonsense)["loy_reasoncode"] == "forged"
    assert (total(office, customer), answered(office, "loy_redemptions", spent)["loy_status"]) == (
        300,
        RedemptionStatus.COMPLETED,
    )
    true = wish(office, customer, **void)
    events = office.events()
    office.work(events)
    assert total(office, customer) == 500
    rows = [answered(office, "loy_redemptions", row_id) for row_id in (spent, true)]
    office.work(events)  # a repeated event finds true answers and leaves them
    office.sent.append(Change.about(Subject.REDEMPTION, spent, str(customer), cause="again"))
    office.work([])
    assert [answered(office, "loy_redemptions", row_id) for row_id in (spent, true)] == rows


def test_an_adjustment_that_is_created_completed_is_rejected_and_a_true_one_stays(office: Office) -> None:
    customer = customer_with_points(office)
    bind = {"loy_CustomerId_account@odata.bind": f"/accounts({customer.id})"}
    forged, true = str(uuid4()), str(uuid4())
    row = {"loy_name": "A", "loy_points": 5, "loy_reason": "r", **bind}
    status = {"loy_status": AdjustmentStatus.COMPLETED.value}
    office.client.commit(
        [
            Create("loy_adjustments", {"loy_adjustmentid": forged, **row, **status}),
            Create("loy_adjustments", {"loy_adjustmentid": true, **row}),
        ]
    )
    events = office.events()
    office.work(events)
    office.work(events)
    assert answered(office, "loy_adjustments", forged)["loy_status"] == AdjustmentStatus.REJECTED
    assert answered(office, "loy_adjustments", true)["loy_status"] == AdjustmentStatus.COMPLETED
    assert total(office, customer) == 505


def test_a_code_that_somebody_wrote_on_their_request_does_not_stay(office: Office) -> None:
    customer = customer_with_points(office)
    asked = wish(office, customer, loy_points=99_999, loy_transactioncode=transaction_code(str(uuid4()), 0))
    office.work(office.events())
    row = answered(office, "loy_redemptions", asked)
    assert (row["loy_reasoncode"], row["loy_transactioncode"]) == ("insufficient_points", None)


def test_mutated_input_at_every_entrance_is_read_or_refused_by_name(office: Office, events: list[bytes]) -> None:
    """The short form of `python -m benchmarks.fuzz`."""
    seed = 20_260_715
    print(f"seed {seed}")
    entrances = doors(office, [same_ids(event) for event in events])
    found = fuzz(entrances, 21_000, seed)
    assert all(found[name, "refused"] > 1_000 for name in entrances), found
    assert all(found[name, "read"] for name in ("event", "change", "redemption", "void", "customer")), found


def test_the_fuzz_would_notice(office: Office) -> None:
    def breaks(body: bytes) -> None:
        raise KeyError("inside")

    with pytest.raises(Fault, match="seed 1, input 0, broken: KeyError"):
        fuzz({"broken": (breaks, ValueError, [b"x"])}, 10, 1)


def test_a_hostile_event_ends_in_the_log_and_does_not_come_back(office: Office, events: list[bytes]) -> None:
    chance = random.Random(7)
    before = office.client.get("loy_integrationlogs?$select=loy_name")
    bodies = [mutated(chance, same_ids(chance.choice(events))) for _ in range(40)]
    bodies += [
        b'{"PrimaryEntityName": 1e99999999999999999999}',
        b"",
        b"\xff" * 1000,
        b"[" * 100_000,
        b'"' + b"x" * 1_000_000 + b'"',
        HOSTILE.encode(),
    ]
    event = json.loads(same_ids(events[0]))
    bodies += [
        json.dumps(event | {name: value}).encode()
        for name in ("PrimaryEntityName", "MessageName", "PrimaryEntityId")
        for value in ("invoice\ud800", "a\x00b\n")  # half of a surrogate pair, and control characters
    ]
    for body in bodies:
        office.work([body])  # raises nothing: whatever it was, it is settled
    assert len(office.client.get("loy_integrationlogs?$select=loy_name")) > len(before)


@pytest.mark.parametrize("extra", ["status", "code", "balance", "loy_status", "value"])
def test_a_till_cannot_write_more_than_it_may_ask(extra: str) -> None:
    body = {"customer": f"account:{uuid4()}", "points": 5, extra: 1}
    with pytest.raises(ValidationError, match="Extra inputs"):
        RedemptionRequest.model_validate(body)


def test_names_and_keys_do_not_reach_into_queries(office: Office) -> None:
    customer = Customer("account", str(uuid4()))
    office.client.commit([Create("accounts", {"accountid": customer.id, "name": HOSTILE, "emailaddress1": MAIL})])
    bind = {"customerid_account@odata.bind": f"/accounts({customer.id})"}
    line = {"isproductoverridden": True, "ispriceoverridden": True, "quantity": 1, "priceperunit": 50}
    line["productdescription"] = HOSTILE
    invoice = {"invoiceid": str(uuid4()), "name": HOSTILE, "invoicenumber": HOSTILE[:80], "invoice_details": [line]}
    office.client.commit([Create("invoices", {**invoice, **bind})])
    office.client.commit([Update(f"invoices({invoice['invoiceid']})", {"statecode": 2, "statuscode": 100001})])
    office.work(office.events())
    counter = Counter(office.client, Programs(office.client, "CJ"))
    key = "key'%20or%201%20eq%201&$top=1"
    asked = RedemptionRequest(customer=str(customer), points=200, description=HOSTILE)
    made = counter.redeem(asked, key, 0)
    assert counter.redeem(asked, key, 0)["id"] == made["id"]
    office.work(office.events())
    done = counter.redemption(made["id"])
    assert (done["status"], done["description"]) == ("completed", HOSTILE)
    assert counter.customer(str(customer))["name"] == HOSTILE
    for door in (
        counter.redemption,
        counter.customer,
        lambda text: counter.void(text, VoidRequest(reason="x"), key, 0),
    ):
        with pytest.raises(Refused):
            door(HOSTILE)
    with pytest.raises(ValueError, match="row id"):
        list(replay.of_event(office.client, HOSTILE))
    assert list(replay.parked(office.client, office.now(), reason="x' or loy_outcome eq 482100000 or 'x' eq 'y")) == []
    with pytest.raises(ValueError):
        parse_code(HOSTILE)


def test_nothing_personal_and_no_secret_is_logged(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """Our own lines at the most talkative level, for a customer whose every text is marked."""
    caplog.set_level(logging.DEBUG)
    logs.install(["token"])
    try:
        customer = Customer("contact", str(uuid4()))
        person = {"contactid": customer.id, "firstname": "Marked", "lastname": "Person", "emailaddress1": MAIL}
        office.client.commit([Create("contacts", person)])
        row = {"invoiceid": str(uuid4()), "name": "Marked invoice", "description": "Marked text"}
        row["customerid_contact@odata.bind"] = f"/contacts({customer.id})"
        office.client.commit([Create("invoices", row)])
        office.work(office.events())
        counter = Counter(office.client, Programs(office.client, "CJ"))
        counter.redeem(RedemptionRequest(customer=str(customer), points=9, description="Marked wish"), "marked-key", 0)
        office.work([*office.events(), b'{"Marked": "Marked"}'])
    finally:
        logs.uninstall()
    ours = [record for record in caplog.records if record.name.startswith(("loyalty", "connector"))]
    assert any("heard" in record.getMessage() for record in ours)
    assert "Marked" not in caplog.text
    assert MAIL not in caplog.text
    assert "Bearer token" not in caplog.text


def test_one_correlation_id_leads_from_the_event_to_the_log_row(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    logs.install()
    try:
        customer, invoice = customer_with_invoice(office, "10")
        (event,) = [event for event in office.events() if invoice.encode() in event]
        office.work([event])
    finally:
        logs.uninstall()
    correlation = json.loads(event)["CorrelationId"]
    assert f"correlation_id={correlation}" in caplog.text
    (row,) = log_of(office, invoice)
    assert row["loy_correlationid"] == correlation
    (entry,) = entries(office, customer)
    assert entry["loy_cause"] == f"{row['loy_recordtable']}:{row['loy_recordid']}"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Terminal("column hush does not exist in hush.crm.dynamics.com", status=400), 502),
        (Transient("client_secret=hush", status=503), 503),
    ],
)
def test_an_error_body_shows_nothing_of_our_insides(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fails(*_: Any) -> None:
        raise error

    counter = SimpleNamespace(redemption=fails, customer=fails)
    monkeypatch.setattr(redemptions, "app", lambda: SimpleNamespace(counter=counter))
    request = func.HttpRequest("GET", "/", body=b"", route_params={"id": str(uuid4())})
    for function in (redemptions.get_redemption, redemptions.get_customer):
        handler: Callable[[func.HttpRequest], func.HttpResponse] = function.build().get_user_function()  # type: ignore[attr-defined]
        answer = handler(request)
        assert answer.status_code == status
        assert b"hush" not in answer.get_body()
