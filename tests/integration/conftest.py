"""One local stack for all tests of the chain: real SDKs, real protocols, our app in Microsoft's worker."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import requests

from connector.app import App
from connector.dataverse import Create, Update
from connector.identity import Customer
from connector.rows import ledger
from connector.settings import read_settings
from local.demo.watch import Watch
from tests.stack import Stack, wait_until

PAID = {"statecode": 2, "statuscode": 100001}
CANCELLED = {"statecode": 3, "statuscode": 100003}
ACTIVE = {"statecode": 0, "statuscode": 1}


@dataclass
class Chain:
    """The whole chain with a few words of the business on top."""

    stack: Stack
    app: App
    watch: Watch

    @property
    def endpoints(self) -> dict[str, Any]:
        return self.stack.endpoints

    def account(self, **columns: Any) -> Customer:
        customer = Customer("account", str(uuid4()))
        self.app.client.commit([Create("accounts", {"accountid": customer.id, "name": "Adatum", **columns})])
        return customer

    def invoice(self, customer: Customer | None, *amounts: str, **columns: Any) -> str:
        """An issued invoice with a line for each amount; its id."""
        invoice = str(uuid4())
        lines = [
            {
                "isproductoverridden": True,
                "ispriceoverridden": True,
                "productdescription": "thing",
                "quantity": 1,
                "priceperunit": Decimal(amount),
                "lineitemnumber": number,
            }
            for number, amount in enumerate(amounts, 1)
        ]
        row = {"invoiceid": invoice, "name": "Invoice", "invoice_details": lines, **columns}
        if customer:
            row[f"customerid_{customer.table}@odata.bind"] = f"/{customer.entity_set}({customer.id})"
        self.app.client.commit([Create("invoices", row)])
        return invoice

    def change(self, invoice: str, **columns: Any) -> None:
        self.app.client.commit([Update(f"invoices({invoice})", columns)])

    def member(self, customer: Customer) -> ledger.Membership:
        """The membership as it is now."""
        return ledger.membership_of(customer, self.app.client.get(ledger.membership_path(customer)))

    def balance(self, customer: Customer) -> int:
        return self.member(customer).state.balance

    def with_points(self, points: int) -> Customer:
        """A customer with that many spendable points (the programme gives ten a unit)."""
        customer = self.account()
        self.change(self.invoice(customer, str(Decimal(points) / 10)), **PAID)
        wait_until(lambda: self.balance(customer) == points, about=f"{points} points")
        return customer

    def post(
        self, path: str, body: Any, key: str | None = None, *, wait: int = 20, **headers: str
    ) -> requests.Response:
        """A till's request."""
        sent = {"x-functions-key": self.endpoints["function_key"], "Prefer": f"wait={wait}", **headers}
        if key is not None:
            sent["Idempotency-Key"] = key
        return requests.post(f"{self.endpoints['functions_url']}/api/{path}", json=body, headers=sent, timeout=60)

    def get(self, path: str) -> requests.Response:
        headers = {"x-functions-key": self.endpoints["function_key"]}
        return requests.get(f"{self.endpoints['functions_url']}/api/{path}", headers=headers, timeout=60)

    def log_of(self, record: str) -> list[dict[str, Any]]:
        """Log rows about a record."""
        path = f"loy_integrationlogs?$filter=loy_recordid eq '{record}'&$orderby=createdon"
        return list(itertools.chain.from_iterable(self.app.client.pages(path)))

    def settle(self, timeout: float = 60) -> None:
        self.watch.settle("", timeout)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with Stack(tmp_path_factory.mktemp("stack"), program="CJ") as stack:
        app = App(read_settings(stack.endpoints["settings"]))
        yield Chain(stack, app, Watch(stack.endpoints))
        app.close()
