"""Plays the company: its customers, invoices, payments, mistakes and corrections, as users of Dynamics would enter them."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from tenacity import retry, retry_if_exception_type, stop_after_delay

from connector.dataverse import Create, DataverseClient, Delete, DuplicateRecord, NotFound, Transient, Update
from connector.identity import Customer
from local.demo.journey import Basket, Line

_IDS = UUID("7d0a6f0e-52a5-4d4c-9d0e-3a8f3b1c2e4d")
_AT_ONCE = 100
_PATIENCE = 60.0  # seconds, beyond that of the client
_ACTIVE, _PAID, _CANCELLED = (
    {"statecode": 0, "statuscode": 1},
    {"statecode": 2, "statuscode": 100001},
    {"statecode": 3, "statuscode": 100003},
)

type Write = Create | Update | Delete


def customer_of(household: int) -> Customer:
    """Every other household shops as a company, the rest as a person."""
    return Customer("account" if household % 2 else "contact", str(uuid5(_IDS, f"household {household}")))


def invoice_id(basket: int) -> str:
    return str(uuid5(_IDS, f"basket {basket}"))


class Shop:
    """`client` signs in as the shop's own application user would."""

    def __init__(self, client: DataverseClient) -> None:
        self._client = client

    def open_accounts(self, households: Iterable[int], first: dict[int, Basket]) -> None:
        writes = []
        for household in households:
            customer = customer_of(household)
            since = first[household].bought_on
            name: dict[str, Any] = (
                {"name": f"Household {household}"}
                if customer.table == "account"
                else {"firstname": "Household", "lastname": str(household)}
            )
            row = {f"{customer.table}id": customer.id, "overriddencreatedon": since, **name}
            writes.append(Create(customer.entity_set, row))
        self._write(writes)

    def issue(self, baskets: Sequence[Basket]) -> None:
        self._write([Create("invoices", _invoice(basket)) for basket in baskets])

    def pay(self, baskets: Sequence[Basket]) -> None:
        self._write([Update(_path(basket), _PAID) for basket in baskets])

    def correct(self, basket: Basket) -> None:
        """One more of the first product, on an invoice that may be paid already: reopened, changed, paid again."""
        line = f"invoicedetails({uuid5(_IDS, f'line {basket.number} 1')})"
        self._write([Update(_path(basket), _ACTIVE)])
        self._write([Update(line, {"quantity": basket.lines[0].quantity + 1})])
        self.pay([basket])

    def cancel(self, basket: Basket) -> None:
        self._write([Update(_path(basket), _CANCELLED)])

    def delete(self, basket: Basket) -> None:
        self._write([Delete(_path(basket))])

    def blunder(self, household: int) -> None:
        """Invoices from which no points can follow: nobody's, and one below zero."""
        line = _line(0, 1, Line("returned goods", "", 1, Decimal("-12.50"), Decimal(0)))
        someone = customer_of(household)
        customer = {f"customerid_{someone.table}@odata.bind": f"/{someone.entity_set}({someone.id})"}
        self._write([Create("invoices", {"invoiceid": invoice_id(-1), "name": "Invoice without customer"})])
        self._write(
            [
                Create(
                    "invoices",
                    {"invoiceid": invoice_id(-2), "name": "Below zero", "invoice_details": [line]} | customer,
                )
            ]
        )

    def _write(self, writes: Sequence[Write]) -> None:
        for start in range(0, len(writes), _AT_ONCE):
            try:
                self._commit(writes[start : start + _AT_ONCE])
            except (DuplicateRecord, NotFound) as error:
                # An answer was lost and the client repeated what had happened: the rows are there, or gone, already.
                if not error.operation.startswith("POST" if isinstance(error, DuplicateRecord) else "DELETE"):
                    raise

    @retry(retry=retry_if_exception_type(Transient), stop=stop_after_delay(_PATIENCE), reraise=True)
    def _commit(self, writes: Sequence[Write]) -> None:
        """People try again when Dynamics is away for a moment."""
        self._client.commit(writes)


def _path(basket: Basket) -> str:
    return f"invoices({invoice_id(basket.number)})"


def _invoice(basket: Basket) -> dict[str, Any]:
    customer = customer_of(basket.household)
    return {
        "invoiceid": invoice_id(basket.number),
        "name": f"Basket {basket.number}",
        f"customerid_{customer.table}@odata.bind": f"/{customer.entity_set}({customer.id})",
        "overriddencreatedon": basket.bought_on,
        "invoice_details": [_line(basket.number, number, line) for number, line in enumerate(basket.lines, 1)],
    }


def _line(basket: int, number: int, line: Line) -> dict[str, Any]:
    return {
        "invoicedetailid": str(uuid5(_IDS, f"line {basket} {number}")),
        "lineitemnumber": number,
        "isproductoverridden": True,
        "productdescription": line.product,
        "ispriceoverridden": True,
        "quantity": line.quantity,
        "priceperunit": line.price,
        "manualdiscountamount": line.discount,
        "loy_productcategory": line.category[:100] or None,
    }
