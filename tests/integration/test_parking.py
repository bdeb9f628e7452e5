"""What Dataverse refuses and what the ledger forbids is parked in the log, with the field and the next step."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from connector.dataverse import Create, Update
from connector.identity import Customer
from connector.loyalty.decisions import Outcome
from connector.rows import ledger
from connector.rows.choices import OUTCOME
from tests.office import Office


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.close()


def customer_with_invoice(office: Office, amount: str) -> tuple[Customer, str]:
    customer, invoice = Customer("account", str(uuid4())), str(uuid4())
    line = {
        "isproductoverridden": True,
        "productdescription": "thing",
        "quantity": 1,
        "priceperunit": Decimal(amount),
        "ispriceoverridden": True,
    }
    bind = {"customerid_account@odata.bind": f"/accounts({customer.id})"}
    office.client.commit([Create("accounts", {"accountid": customer.id, "name": "Adatum"})])
    office.client.commit([Create("invoices", {"invoiceid": invoice, "name": "I", "invoice_details": [line], **bind})])
    return customer, invoice


def log_of(office: Office, record: str) -> list[dict[str, Any]]:
    return list(office.client.get(f"loy_integrationlogs?$filter=loy_recordid eq '{record}'&$orderby=createdon"))


def test_more_points_than_a_column_holds(office: Office) -> None:
    customer, invoice = customer_with_invoice(office, "300000000")
    office.work(office.events())
    (row,) = log_of(office, invoice)
    assert (row["loy_outcome"], row["loy_reasonclass"]) == (OUTCOME[Outcome.PARKED], "dataverse_refused")
    assert row["loy_field"] in ("loy_points", "loy_pending")
    assert office.client.get(ledger.membership_path(customer)) is None


def test_a_ledger_that_was_altered_takes_nothing_more(office: Office) -> None:
    customer, _ = customer_with_invoice(office, "10")
    office.work(office.events())
    (entry,) = office.client.get(
        f"loy_entries?$filter=_loy_membershipid_value eq {customer.membership_id}&$select=loy_points,loy_movements"
    )
    forged = entry["loy_movements"].replace("100", "900")
    office.client.commit([Update(f"loy_entries({entry['loy_entryid']})", {"loy_points": 900, "loy_movements": forged})])
    # The membership is set back: it must be folded anew, and the fold finds the forgery.
    office.client.commit(
        [
            Update(
                f"loy_memberships({customer.membership_id})",
                {"loy_sequence": 0, "loy_state": "{}", "loy_lasthash": None},
            )
        ]
    )
    _, second = customer_with_invoice(office, "10")
    office.client.commit(
        [Update(f"invoices({second})", {"customerid_account@odata.bind": f"/accounts({customer.id})"})]
    )
    office.work(office.events())
    reasons = {row["loy_reasonclass"] for row in log_of(office, second) if row["loy_customerkey"] == str(customer)}
    assert reasons == {"ledger_broken"}


def test_a_membership_that_is_behind_its_ledger_heals_by_itself(office: Office) -> None:
    """As after a mass job that died between its two calls."""
    customer, invoice = customer_with_invoice(office, "10")
    office.client.commit([Update(f"invoices({invoice})", {"statecode": 2, "statuscode": 100001})])
    office.work(office.events())
    state = ledger.membership_of(customer, office.client.get(ledger.membership_path(customer))).state
    assert state.balance == 100
    office.client.commit(
        [
            Update(
                f"loy_memberships({customer.membership_id})",
                {"loy_sequence": 0, "loy_state": "{}", "loy_lasthash": None},
            )
        ]
    )
    wish = str(uuid4())
    bind = {"loy_CustomerId_account@odata.bind": f"/accounts({customer.id})"}
    row = {"loy_redemptionid": wish, "loy_requestid": wish, "loy_name": "R", "loy_points": 100, **bind}
    office.client.commit([Create("loy_redemptions", row)])
    office.work(office.events())
    healed = ledger.membership_of(customer, office.client.get(ledger.membership_path(customer))).state
    assert (healed.sequence, healed.balance) == (state.sequence + 1, 0)
