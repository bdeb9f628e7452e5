"""Check before Resume: the connector computes what would happen, writes it on the log row, and books nothing."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from connector.bus import Change, Subject
from connector.dataverse import Update
from connector.identity import Customer
from connector.loyalty.decisions import Outcome, parked
from connector.loyalty.ledger import State
from connector.loyalty.sentences import say
from connector.rows.choices import OUTCOME
from connector.rows.log import dead_letter_write, log_path
from tests.integration.test_parking import customer_with_invoice, log_of
from tests.office import Office


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.close()


def parked_invoice(office: Office) -> tuple[Customer, str, str]:
    """An invoice whose customer is missing: customer, invoice, path of the log row."""
    customer, invoice = customer_with_invoice(office, "12.00")
    office.events()
    office.client.commit([Update(f"invoices({invoice})", {"customerid_account@odata.bind": None})])
    office.work(office.events())
    (row,) = [each for each in log_of(office, invoice) if each["loy_outcome"] == OUTCOME[Outcome.PARKED]]
    return customer, invoice, f"loy_integrationlogs({row['loy_integrationlogid']})"


def mark(office: Office, path: str, column: str) -> dict[str, Any]:
    office.client.commit([Update(path, {column: True})])
    office.work(office.events())
    row: dict[str, Any] = office.client.get(path)
    assert not row[column]
    return row


def entries(office: Office) -> int:
    return len(list(office.client.get("loy_entries?$select=loy_sequence")))


def test_what_would_still_be_parked_says_so(office: Office) -> None:
    _, _, path = parked_invoice(office)
    before = office.client.get(path)
    row = mark(office, path, "loy_check")
    (ledger,) = json.loads(row["loy_preview"])["ledgers"]
    assert (ledger["outcome"], ledger["entries"]) == ("parked", [])
    assert ledger["said"] == [["customer.none", {"field": "customerid"}]]
    assert row["loy_occurredon"] == before["loy_occurredon"]


def test_the_difference_is_shown_first_and_is_what_resume_then_books(office: Office) -> None:
    customer, invoice, path = parked_invoice(office)
    bind = {"customerid_account@odata.bind": f"/accounts({customer.id})"}
    office.client.commit([Update(f"invoices({invoice})", bind)])
    office.events()  # lost on the way: only Resume will look
    before = entries(office)
    row = mark(office, path, "loy_check")
    passed_on, earned = json.loads(row["loy_preview"])["ledgers"]
    assert (passed_on["outcome"], passed_on["count"]) == ("nothing", 0)
    assert (earned["customer"], earned["outcome"]) == (str(customer), "applied")
    assert earned["before"] == {"available": 0, "pending": 0, "owed": 0, "tier": ""}
    would = earned["after"]["available"] + earned["after"]["pending"]
    assert would == sum(entry["points"] for entry in earned["entries"]) > 0
    assert (row["loy_outcome"], entries(office)) == (OUTCOME[Outcome.PARKED], before), "nothing is booked by looking"

    row = mark(office, path, "loy_resume")
    assert (row["loy_outcome"], row["loy_preview"]) == (OUTCOME[Outcome.NOTHING], None)
    assert entries(office) == before + earned["count"]
    membership = office.client.get(f"loy_memberships({customer.membership_id})?$select=loy_balance,loy_pending")
    assert (membership["loy_balance"] + membership["loy_pending"]) == would
    (applied,) = [row for row in log_of(office, invoice) if row["loy_outcome"] == OUTCOME[Outcome.APPLIED]]
    said = json.loads(applied["loy_said"])
    assert (said["message"][0][0], said["next"]) == ("invoice", [])
    assert applied["loy_message"] == earned["message"]

    # Replay of what is settled: it would do nothing, and does nothing.
    path = f"loy_integrationlogs({applied['loy_integrationlogid']})"
    (again,) = json.loads(mark(office, path, "loy_check")["loy_preview"])["ledgers"]
    assert (again["outcome"], again["count"], again["before"]) == ("nothing", 0, again["after"])
    mark(office, path, "loy_resume")
    assert entries(office) == before + earned["count"]


def test_a_row_without_a_change_is_left_alone(office: Office) -> None:
    office.work([b"no event at all"])
    (row,) = office.client.get("loy_integrationlogs?$filter=loy_operation eq 'message'")
    path = f"loy_integrationlogs({row['loy_integrationlogid']})"
    for column in ("loy_check", "loy_resume"):
        row = mark(office, path, column)
        assert (row["loy_outcome"], row["loy_change"]) == (OUTCOME[Outcome.PARKED], "no event at all")


def test_a_checked_row_that_was_deleted_meanwhile_needs_no_answer(office: Office) -> None:
    change = Change.about(Subject.INVOICE, str(uuid4()), f"account:{uuid4()}", cause="gone")
    decision = office.processor.process(change.model_copy(update={"check": True}))
    assert (decision.outcome, decision.message) == (Outcome.NOTHING, "Looked at without booking anything.")
    assert office.client.get(log_path(change.id)) is None


def test_a_dead_letter_settles_its_row_even_if_there_is_nothing_to_do(office: Office) -> None:
    _, invoice = customer_with_invoice(office, "8.00")
    (event,) = [event for event in office.events() if invoice.encode() in event]
    (change,) = office.listener.read(event)
    office.sent.append(change)
    office.work([])
    waiting = parked(State(), say("checked"), reason="dead_letter", field="", next_step=say("next.wait"))
    office.client.commit([dead_letter_write(change, waiting, attempt=10, now=office.now())])
    office.listener.hear(event)
    office.work([])
    assert office.client.get(log_path(change.id))["loy_nextstep"], "heard once more is no answer: what was done stays"
    office.listener.hear(event, again=True)
    office.work([])
    row = office.client.get(log_path(change.id))
    assert (row["loy_outcome"], row["loy_nextstep"]) == (OUTCOME[Outcome.NOTHING], None)
