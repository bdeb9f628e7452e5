"""The nightly sweep posts what no event told, and only that."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from connector.audit import Audit
from connector.bus import Change
from connector.dataverse import Create, Delete, Update
from connector.identity import Customer
from connector.rows import ledger
from connector.rows.programs import Programs, read_program
from connector.rows.values import Unusable
from connector.sweep import Sweep
from connector.watch import Watch
from tests.console import settings
from tests.integration.test_parking import customer_with_invoice, log_of
from tests.office import Office

ACTIVE = {"statecode": 0, "statuscode": 1}
PAID = {"statecode": 2, "statuscode": 100001}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.close()


def sweep(office: Office, **options: Any) -> Any:
    """A sweep whose changes are applied."""
    sent: list[Change] = []
    programs = Programs(office.client, "CJ")
    report = Sweep(office.client, programs, office.processor, sent.extend, office.now).run(**options)
    for change in sent:
        office.processor.process(change)
    office.work([])
    return report


def points(office: Office, customer: Customer) -> tuple[int, int]:
    state = ledger.membership_of(customer, office.client.get(ledger.membership_path(customer))).state
    return state.balance, state.pending_points


def lose_events(office: Office) -> None:
    assert office.events()


def test_lost_events_are_made_up_for_once(office: Office) -> None:
    heard, _ = customer_with_invoice(office, "10")
    office.work(office.events())
    lost, invoice = customer_with_invoice(office, "20")
    lose_events(office)
    dry = sweep(office, dry_run=True)
    assert dry.posted == {"invoices": 1}
    assert points(office, lost) == (0, 0)

    first = sweep(office)
    assert (first.full, first.finished) == ("the first sweep", True)
    assert (first.examined["invoices"], first.posted) == (2, {"invoices": 1})
    assert points(office, lost) == (0, 200)
    assert points(office, heard) == (0, 100)

    office.client.commit([Update(f"invoices({invoice})", PAID)])
    lose_events(office)
    second = sweep(office)
    assert (second.full, second.examined, second.posted) == ("", {"invoices": 1}, {"invoices": 1})
    assert points(office, lost) == (200, 0)
    assert not sweep(office).examined

    (run,) = office.client.get("loy_bulkruns?$select=loy_status,loy_examined,loy_posted,loy_cursor")
    assert "deltatoken" in run["loy_cursor"]
    told = office.client.get("loy_integrationlogs?$filter=loy_operation eq 'sweep'")
    assert sorted(row["loy_name"] for row in told) == [str(second), str(first)]
    # One correlation id leads from the report to what it posted.
    (posted,) = [row for row in log_of(office, invoice) if "spendable" in row["loy_message"]]
    assert posted["loy_correlationid"] in {row["loy_correlationid"] for row in told}


def test_deleted_and_moved_invoices_and_waiting_redemptions(office: Office) -> None:
    sweep(office)
    deleted, gone = customer_with_invoice(office, "10")
    old, moved = customer_with_invoice(office, "30")
    office.client.commit([Update(f"invoices({moved})", PAID)])
    office.work(office.events())
    sweep(office)
    new, _ = customer_with_invoice(office, "1")
    office.work(office.events())
    office.client.commit([Delete(f"invoices({gone})")])
    for columns in (ACTIVE, {"customerid_account@odata.bind": f"/accounts({new.id})"}, PAID):
        office.client.commit([Update(f"invoices({moved})", columns)])
    wish = str(uuid4())
    row = {"loy_redemptionid": wish, "loy_requestid": wish, "loy_name": "R", "loy_points": 150}
    row["loy_CustomerId_account@odata.bind"] = f"/accounts({new.id})"
    office.client.commit([Create("loy_redemptions", row)])
    lose_events(office)
    report = sweep(office)
    assert not report.full
    assert report.posted["redemptions"] == 1
    assert report.posted["invoices"] >= 2  # the moved one may go on from one customer to the other by itself
    assert points(office, deleted) == (0, 0)
    assert points(office, old) == (0, 0)
    assert points(office, new) == (150, 10)


def recategorize(office: Office, invoice: str) -> None:
    (line,) = office.client.get(f"invoicedetails?$select=priceperunit&$filter=_invoiceid_value eq {invoice}")
    office.client.commit([Update(f"invoicedetails({line['invoicedetailid']})", {"loy_productcategory": "FUEL"})])
    lose_events(office)


def test_a_line_of_another_category(office: Office) -> None:
    customer, invoice = customer_with_invoice(office, "10")
    office.work(office.events())
    sweep(office)
    assert points(office, customer) == (0, 100)
    recategorize(office, invoice)
    report = sweep(office)
    assert (report.full, report.examined, report.posted) == ("", {"invoices": 1}, {"invoices": 1})
    assert points(office, customer) == (0, 0)
    assert not sweep(office).examined


def test_a_deleted_line_changes_its_invoice(office: Office) -> None:
    customer, invoice = customer_with_invoice(office, "10")
    office.work(office.events())
    sweep(office)
    (line,) = office.client.get(f"invoicedetails?$select=priceperunit&$filter=_invoiceid_value eq {invoice}")
    office.client.commit([Delete(f"invoicedetails({line['invoicedetailid']})")])
    lose_events(office)
    assert sweep(office).posted == {"invoices": 1}
    assert points(office, customer) == (0, 0)


def test_an_invoice_of_yesterday_is_looked_at_once_for_its_row_and_its_lines(office: Office) -> None:
    sweep(office)
    customer, _ = customer_with_invoice(office, "10")
    lose_events(office)
    now, tomorrow = office.now, datetime.now(UTC) + timedelta(hours=20)
    office.now = lambda: tomorrow
    try:
        report = sweep(office)
    finally:
        office.now = now
    assert (report.full, report.examined, report.posted) == ("", {"invoices": 1}, {"invoices": 1})
    assert points(office, customer) == (0, 100)


def test_a_sweep_that_knew_nothing_of_lines_reads_them_and_looks_at_every_invoice(office: Office) -> None:
    customer, invoice = customer_with_invoice(office, "10")
    office.work(office.events())
    sweep(office)
    recategorize(office, invoice)
    (run,) = office.client.get("loy_bulkruns?$select=loy_cursor")
    cursor = json.loads(run["loy_cursor"])
    del cursor["invoicedetail"]
    office.client.commit([Update(f"loy_bulkruns({run['loy_bulkrunid']})", {"loy_cursor": json.dumps(cursor)})])
    report = sweep(office)
    assert (report.full, report.finished, report.posted) == ("the first sweep", True, {"invoices": 1})
    assert report.examined["lines"] >= report.examined["invoices"] - 1
    assert points(office, customer) == (0, 0)
    assert not sweep(office).examined


def test_an_expired_token_means_every_row_and_invoices_deleted_meanwhile(office: Office) -> None:
    customer, gone = customer_with_invoice(office, "10")
    office.work(office.events())
    sweep(office)
    office.client.commit([Delete(f"invoices({gone})")])
    lose_events(office)
    clock, later = office.environment.clock, datetime.now(UTC) + timedelta(days=8)
    office.environment.clock = lambda: later
    try:
        report = sweep(office)
    finally:
        office.environment.clock = clock
    assert "expired" in report.full
    assert report.posted["invoices deleted"] == 1
    assert points(office, customer) == (0, 0)


def test_a_sweep_that_must_end_goes_on_where_it_stopped(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.sweep._CHANGED", 2)
    customers = [customer_with_invoice(office, "5")[0] for _ in range(5)]
    lose_events(office)
    runs = [sweep(office, full=True, enough=lambda: True)]
    while not runs[-1].finished:
        assert len(runs) < 40
        runs.append(sweep(office, enough=lambda: True))
    assert len(runs) > 4
    assert "goes on" in str(runs[0])
    assert sum(run.posted["invoices"] for run in runs) == 5
    assert {points(office, customer) for customer in customers} == {(0, 50)}


def test_a_sweep_that_does_not_come_to_its_end_grows_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.sweep._CHANGED", 2)
    now = datetime.now(UTC).replace(microsecond=0)
    office = Office(tmp_path, clock=lambda: now)
    office.environment.clock = office.now
    watch = Watch(office.client, None, settings(), office.now)  # type: ignore[arg-type]
    hour = timedelta(hours=1)
    now += hour
    assert 0 < (watch._sweep_age() or 0) <= 3700  # none has begun
    for _ in range(9):
        customer_with_invoice(office, "5")
    assert not sweep(office, enough=lambda: True).finished
    for hours in (24, 48):
        now += 24 * hour
        assert not sweep(office, enough=lambda: True).finished
        assert watch._sweep_age() == hours * 3600  # none has come to its end
    assert sweep(office).finished
    now += hour
    customer_with_invoice(office, "5")
    customer_with_invoice(office, "5")
    assert not sweep(office, enough=lambda: True).finished
    assert watch._sweep_age() == 3600
    office.close()


def test_what_is_parked_is_not_parked_again_and_old_invoices_are_left_alone(office: Office) -> None:
    parked_customer, negative = customer_with_invoice(office, "-10")
    office.work(office.events())
    old = {"invoiceid": str(uuid4()), "name": "Old", "overriddencreatedon": "1990-01-01T00:00:00Z"}
    old["customerid_account@odata.bind"] = f"/accounts({parked_customer.id})"
    office.client.commit([Create("invoices", old)])
    lose_events(office)
    report = sweep(office, full=True)
    assert report.parked_before == 1
    assert report.before_programme == 1
    assert not report.posted
    assert log_of(office, old["invoiceid"]) == []
    assert len(log_of(office, negative)) == 1
    assert points(office, parked_customer) == (0, 0)


def test_without_a_programme_nothing_is_parked(office: Office) -> None:
    sent: list[Change] = []
    with pytest.raises(Unusable, match="no programme"):
        Sweep(office.client, Programs(office.client, "NONE"), office.processor, sent.extend, office.now).run()
    assert not sent


def test_a_merger_that_nobody_heard_of_and_what_comes_after_it(office: Office) -> None:
    giver, _ = customer_with_invoice(office, "10")
    heir, _ = customer_with_invoice(office, "20")
    office.work(office.events())
    given = {"loy_adjustmentid": str(uuid4()), "loy_name": "A", "loy_points": 7, "loy_reason": "r"}
    given["loy_CustomerId_account@odata.bind"] = f"/accounts({giver.id})"
    office.client.commit([Create("loy_adjustments", given)])
    office.work(office.events())
    sweep(office)
    party = {"@odata.type": "Microsoft.Dynamics.CRM.account"}
    body = {"Target": party | {"accountid": heir.id}, "Subordinate": party | {"accountid": giver.id}}
    office.client.request("POST", "Merge", body | {"PerformParentingChecks": False})
    late = {"invoiceid": str(uuid4()), "name": "late", "customerid_account@odata.bind": f"/accounts({heir.id})"}
    line = {"isproductoverridden": True, "ispriceoverridden": True, "productdescription": "x", "quantity": 1}
    office.client.commit([Create("invoices", late | {"invoice_details": [line | {"priceperunit": 5}]})])
    lose_events(office)
    report = sweep(office)
    assert report.posted["merged accounts"] == 1
    assert (points(office, giver), points(office, heir)) == ((0, 0), (7, 350))
    again = sweep(office)
    assert again.posted == {}
    audit = Audit(office.client, read_program(office.client, "CJ"), office.now()).run()
    assert [fault for fault in audit.violations if giver.id in fault or heir.id in fault] == []
