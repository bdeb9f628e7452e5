"""replay, resume, explain, export: each shows before it does."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from connector import replay
from connector.dataverse import Create, Delete, Update
from connector.identity import Customer
from connector.loyalty.decisions import Outcome
from connector.rows import ledger
from connector.rows.choices import OUTCOME
from tests.console import Console
from tests.integration.test_audit import customer_with_points, wish
from tests.integration.test_parking import customer_with_invoice, log_of
from tests.office import Office

NAMELESS = "00000000-0000-4000-8000-00000000dead"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.close()


@pytest.fixture
def console(office: Office) -> Console:
    return Console(office)


def state(office: Office, customer: Customer) -> Any:
    return ledger.membership_of(customer, office.client.get(ledger.membership_path(customer))).state


def test_replay_of_an_invoice_shows_the_difference_and_sends_it_only_without_dry_run(
    office: Office, console: Console
) -> None:
    customer, invoice = customer_with_invoice(office, "10")
    assert office.events()  # lost
    for arguments in (
        ("--invoice", invoice),
        ("--day", f"{datetime.now(UTC):%Y-%m-%d}"),
        ("--customer", str(customer)),
    ):
        assert console.run("replay", *arguments, "--dry-run") == 0
        assert f"applied  {customer} invoice {invoice}: +100 points." in console.output
        assert console.sent == []
    assert office.client.get(ledger.membership_path(customer)) is None

    assert console.run("replay", "--invoice", invoice) == 0
    console.apply()
    assert state(office, customer).pending_points == 100
    assert console.run("replay", "--invoice", invoice) == 0
    assert (console.output, console.sent) == ("0 differences\n", [])


def test_replay_says_that_what_comes_out_parked_needs_a_person(office: Office, console: Console) -> None:
    _, invoice = customer_with_invoice(office, "-10")
    assert office.events()  # lost
    assert console.run("replay", "--invoice", invoice) == 1
    assert len(console.sent) == 1


def test_replay_of_a_customer_finds_all_kinds_of_what_was_missed(office: Office, console: Console) -> None:
    customer = customer_with_points(office)
    _, deleted = customer_with_invoice(office, "30")
    office.client.commit(
        [Update(f"invoices({deleted})", {"customerid_account@odata.bind": f"/accounts({customer.id})"})]
    )
    office.work(office.events())
    office.client.commit([Delete(f"invoices({deleted})")])
    redeemed = wish(office, customer)
    assert office.events()  # lost
    console.run("replay", "--customer", str(customer))
    assert [(change.subject.value, change.row) for change in console.sent] == [
        ("invoice", deleted),
        ("redemption", redeemed),
    ]
    console.apply()
    assert (state(office, customer).balance, state(office, customer).pending_points) == (300, 0)


def test_replay_of_an_event_by_its_correlation_id(office: Office, console: Console) -> None:
    customer, invoice = customer_with_invoice(office, "10")
    office.work(office.events())
    (log,) = log_of(office, invoice)
    office.client.commit([Update(f"invoices({invoice})", {"statecode": 3, "statuscode": 100003})])
    assert office.events()  # lost
    console.run("replay", "--event", log["loy_correlationid"], "--dry-run")
    assert "-100 points" in console.output
    console.run("replay", "--event", log["loy_integrationlogid"])
    console.apply()
    assert state(office, customer).total == 0


def test_resume_one_by_reason_or_all(office: Office, console: Console) -> None:
    _, one = customer_with_invoice(office, "-10")
    customer, other = customer_with_invoice(office, "-20")
    office.work([*office.events(), b"nonsense"])
    logs = {invoice: log_of(office, invoice)[0] for invoice in (one, other)}
    assert console.run("resume", "--log", logs[one]["loy_integrationlogid"]) == 0
    assert [change.row for change in console.sent] == [one]
    assert console.run("resume", "--reason", "negative_total", "--dry-run") == 0
    assert (console.output.splitlines()[-1], console.sent) == ("2 parked changes", [])
    assert console.run("resume", "--all") == 1  # nothing can be sent for the one that could not be read
    assert {change.row for change in console.sent} == {one, other}
    assert "1 messages could not be read" in console.output

    (line,) = office.client.get(f"invoicedetails?$filter=_invoiceid_value eq {other}&$select=priceperunit")
    office.client.commit([Update(f"invoicedetails({line['invoicedetailid']})", {"priceperunit": 20})])
    office.events()
    console.run("resume", "--reason", "negative_total")
    console.apply()
    assert state(office, customer).pending_points == 200
    assert [row["loy_outcome"] for row in log_of(office, other)] == [OUTCOME[Outcome.APPLIED]]


def test_resume_sends_once_what_is_parked_again_at_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_PAGE", 2)
    invoices = {customer_with_invoice(office, "-10")[1] for _ in range(5)}
    office.work(office.events())
    # As a function app does that applies them while the command still reads, and finds that the cause lasts.
    meanwhile = datetime.now(UTC)
    for part in (office.processor, office.processor._store):
        monkeypatch.setattr(part, "_clock", lambda: meanwhile)
    resumed: list[str] = []
    for _, change in replay.parked(office.client, office.now(), reason="negative_total"):
        assert change
        meanwhile += timedelta(minutes=1)
        office.processor.process(change)
        resumed.append(change.row)
        assert len(resumed) == len(set(resumed))
    assert invoices <= set(resumed)


def test_explain_tells_a_balance_from_the_entries(office: Office, console: Console) -> None:
    customer = customer_with_points(office, "12.55")
    redeemed = wish(office, customer, loy_points=100)
    office.work(office.events())
    answer = office.client.get(f"loy_redemptions({redeemed})?$select=loy_value,loy_transactioncode")
    assert console.run("explain", str(customer)) == 0
    told = console.output
    assert "125 points earned: invoice " in told
    assert "Rule version 1, 10 a unit: line 12.55 -> 125" in told
    worth = f"{answer['loy_value'].normalize():f}"
    assert f"Redeemed 100 points, worth {worth}, with code {answer['loy_transactioncode']}." in told
    assert "Together: +125 earned, -100 redeemed = 25." in told
    expiry = min(state(office, customer).lots)
    assert f"Balance 25 = 25 usable until {expiry}." in told

    assert console.run("explain", f"account:{NAMELESS}") == 0
    assert console.output == "The customer has no entries.\n"
    assert console.run("explain", "somebody") == 2
    assert "argument customer" in console.errors


def test_explain_stops_where_the_history_is_broken(office: Office, console: Console) -> None:
    customer = customer_with_points(office)
    path = f"loy_entries?$select=loy_points&$filter=_loy_membershipid_value eq {customer.membership_id}"
    second = office.client.get(f"{path}&$orderby=loy_sequence")[1]
    office.client.commit([Update(f"loy_entries({second['loy_entryid']})", {"loy_cause": "invoice:other"})])
    assert console.run("explain", str(customer)) == 1
    assert console.output.splitlines()[-1] == (
        "The history is broken from here on: entry 2 was altered: its hash does not fit."
    )
    assert console.json("audit")[0] == 1


@pytest.fixture(scope="module")
def journal(office: Office, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of customers with all kinds of entries: redeemed, taken back, owed, adjusted."""
    customer, invoice = customer_with_invoice(office, "70")
    office.client.commit([Update(f"invoices({invoice})", {"statecode": 2, "statuscode": 100001})])
    office.work(office.events())
    wish(office, customer, loy_points=600)
    office.work(office.events())
    for columns in ({"statecode": 0, "statuscode": 1}, {"statecode": 3, "statuscode": 100003}):
        office.client.commit([Update(f"invoices({invoice})", columns)])
    row = {"loy_adjustmentid": str(uuid4()), "loy_name": "A", "loy_points": 50, "loy_reason": "; a\n2020-01-01 * x"}
    row["loy_CustomerId_account@odata.bind"] = f"/accounts({customer.id})"
    office.client.commit([Create("loy_adjustments", row)])
    office.work(office.events())
    assert state(office, customer).owed == 550
    out = tmp_path_factory.mktemp("export") / "ledger.journal"
    assert Console(office).run("export", "--out", str(out)) == 0
    return out


def balances(office: Office) -> dict[str, tuple[int, int]]:
    rows = office.client.get("loy_memberships?$select=loy_customerkey,loy_balance,loy_pending")
    found = {row["loy_customerkey"]: (row["loy_balance"], row["loy_pending"]) for row in rows}
    assert len(found) > 5
    return found


def test_every_transaction_of_the_export_balances_and_they_add_up(office: Office, journal: Path) -> None:
    sums: Counter[str] = Counter()
    for transaction in journal.read_text().split("\n\n")[1:]:
        postings = [line.split() for line in transaction.splitlines()[1:]]
        assert sum(int(points) for _, points, _ in postings) == 0
        for name, points, _ in postings:
            sums[":".join(name.split(":")[:4])] += int(points)
    for customer, (balance, pending) in balances(office).items():
        assert (sums[f"points:{customer}:spendable"], sums[f"points:{customer}:pending"]) == (balance, pending)


@pytest.mark.skipif(not shutil.which("hledger"), reason="hledger is not installed")
def test_hledger_adds_the_export_up_to_the_same_balances(office: Office, journal: Path) -> None:
    command = ["hledger", "-f", str(journal), "balance", "points", "--depth", "4", "--flat", "--empty", "-O", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    rows, _ = json.loads(answer.stdout)
    sums = {name: sum(amount["aquantity"]["floatingPoint"] for amount in amounts) for name, _, _, amounts in rows}
    for customer, (balance, pending) in balances(office).items():
        assert sums.get(f"points:{customer}:spendable", 0) == balance
        assert sums.get(f"points:{customer}:pending", 0) == pending
