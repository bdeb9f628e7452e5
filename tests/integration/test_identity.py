"""The whole chain without a secret and without a key: the function app has nothing but its managed identity."""

from collections.abc import Iterator
from decimal import Decimal
from uuid import uuid4

import pytest

from connector import cli
from connector.app import App
from connector.dataverse import Create, Update
from connector.identity import Customer
from connector.rows import ledger
from connector.settings import read_settings
from tests.stack import Stack, wait_until

PAID = {"statecode": 2, "statuscode": 100001}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("identity"), "--managed-identity", program="CJ") as stack:
        yield stack


def test_an_invoice_earns_points_and_no_secret_is_anywhere(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = stack.endpoints["settings"]
    assert not {"DATAVERSE_CLIENT_SECRET", "DATAVERSE_CLIENT_CERTIFICATE", "ServiceBusConnection"} & settings.keys()
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    app = App(read_settings(settings))
    customer, invoice = Customer("account", str(uuid4())), str(uuid4())
    line = {"isproductoverridden": True, "ispriceoverridden": True, "productdescription": "thing", "quantity": 1}
    row = {"invoiceid": invoice, "name": "Invoice", "invoice_details": [line | {"priceperunit": Decimal(5)}]}
    row["customerid_account@odata.bind"] = f"/accounts({customer.id})"
    app.client.commit([Create("accounts", {"accountid": customer.id, "name": "Adatum"})])
    app.client.commit([Create("invoices", row)])
    app.client.commit([Update(f"invoices({invoice})", PAID)])

    def balance() -> int:
        return ledger.membership_of(customer, app.client.get(ledger.membership_path(customer))).state.balance

    wait_until(lambda: balance() == 50, timeout=60, about="50 points")
    app.close()


def test_commands_and_the_doctor_sign_in_with_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in stack.endpoints["settings"].items():
        monkeypatch.setenv(name, value)
    assert cli.main(["status"]) == 0
    cli.main(["doctor"])
    said = capsys.readouterr().out
    assert "queue loyalty-changes: is there, with sessions" in said
    assert "Dataverse's endpoint and steps are not looked at" in said
