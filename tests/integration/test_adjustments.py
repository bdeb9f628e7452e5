"""Points given by hand: a second person above the programme's limit, and rows that were set back after a merger."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from connector.bus import Change, Subject
from connector.dataverse import Create, Update
from connector.identity import Customer, derived_id
from connector.rows import ledger
from connector.rows.choices import AdjustmentStatus
from tests.office import Office

LIMIT = 500


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    (program,) = office.client.get("loy_programs?$select=loy_programid&$filter=loy_code eq 'CJ'")
    office.client.commit([Update(f"loy_programs({program['loy_programid']})", {"loy_adjustmentlimit": LIMIT})])
    office.work(office.events())
    yield office
    office.close()


def ask(office: Office, customer: Customer, points: int) -> str:
    adjustment = str(uuid4())
    bind = {"loy_CustomerId_account@odata.bind": f"/accounts({customer.id})"}
    row = {"loy_adjustmentid": adjustment, "loy_points": points, "loy_reason": "Sorry", **bind}
    office.client.commit([Create("loy_adjustments", row)])
    office.work(office.events())
    return adjustment


def write(office: Office, adjustment: str, client: Any = None, **columns: Any) -> None:
    (client or office.client).commit([Update(f"loy_adjustments({adjustment})", columns)])
    office.work(office.events())


def status(office: Office, adjustment: str) -> tuple[int, str]:
    row = office.client.get(f"loy_adjustments({adjustment})?$select=loy_status,loy_message")
    return row["loy_status"], row["loy_message"]


def balance(office: Office, customer: Customer) -> int:
    return ledger.membership_of(customer, office.client.get(ledger.membership_path(customer))).state.balance


@pytest.mark.parametrize("points", [LIMIT, -LIMIT])
def test_up_to_the_limit_nobody_is_asked(office: Office, points: int) -> None:
    customer = office.account()
    ask(office, customer, LIMIT)
    adjustment = ask(office, customer, points)
    assert status(office, adjustment) == (AdjustmentStatus.COMPLETED, f"Adjusted by {points:+} points.")
    assert balance(office, customer) == LIMIT + points


def test_above_the_limit_a_second_person_approves(office: Office) -> None:
    customer, second = office.account(), office.client_of(derived_id("test", "second"))
    adjustment = ask(office, customer, LIMIT + 1)
    assert status(office, adjustment)[0] == AdjustmentStatus.AWAITING_APPROVAL
    assert "More than 500 points: a second person" in status(office, adjustment)[1]

    write(office, adjustment, loy_status=AdjustmentStatus.APPROVED.value)
    assert status(office, adjustment)[0] == AdjustmentStatus.AWAITING_APPROVAL
    assert "somebody else than who asked" in status(office, adjustment)[1]
    assert balance(office, customer) == 0

    write(office, adjustment, second, loy_status=AdjustmentStatus.APPROVED.value)
    assert status(office, adjustment)[0] == AdjustmentStatus.COMPLETED
    assert balance(office, customer) == LIMIT + 1
    (entry,) = office.client.get(
        f"loy_entries?$select={ledger.ENTRY}&$filter=loy_idempotencykey eq 'adjustment:{adjustment}'"
    )
    approver = office.client.get(f"loy_adjustments({adjustment})?$select=_createdby_value")
    explained = ledger.entry_of(customer, entry).explained
    assert explained["approved_by"] != approver["_createdby_value"]

    write(office, adjustment, second, loy_status=AdjustmentStatus.APPROVED.value)
    assert balance(office, customer) == LIMIT + 1


def test_an_edit_after_the_approval_asks_for_another(office: Office) -> None:
    customer, second = office.account(), office.client_of(derived_id("test", "second"))
    adjustment = ask(office, customer, LIMIT + 1)
    second.commit([Update(f"loy_adjustments({adjustment})", {"loy_status": AdjustmentStatus.APPROVED.value})])
    approved = office.events()
    write(office, adjustment, loy_points=100 * LIMIT)
    office.work(approved)
    assert status(office, adjustment)[0] == AdjustmentStatus.AWAITING_APPROVAL
    assert balance(office, customer) == 0


def test_an_adjustment_set_back_after_a_merger_keeps_its_answer(office: Office) -> None:
    gone, heir = office.account(), office.account()
    adjustment = ask(office, gone, 70)
    merge = {
        "Target": {"@odata.type": "Microsoft.Dynamics.CRM.account", "accountid": heir.id},
        "Subordinate": {"@odata.type": "Microsoft.Dynamics.CRM.account", "accountid": gone.id},
        "PerformParentingChecks": False,
    }
    office.client.request("POST", "Merge", merge)
    office.work(office.events())
    heirs = {"loy_CustomerId_account@odata.bind": f"/accounts({heir.id})"}
    write(office, adjustment, loy_status=AdjustmentStatus.REQUESTED.value, **heirs)
    office.processor.process(Change.about(Subject.ADJUSTMENT, adjustment, str(heir), cause="resumed"))
    assert status(office, adjustment)[0] == AdjustmentStatus.COMPLETED
    assert balance(office, heir) == 70
