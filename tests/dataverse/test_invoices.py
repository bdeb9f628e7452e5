"""Invoices: pricing from lines, life cycle, deep insert."""

from decimal import Decimal
from typing import Any

import pytest

from tests.dataverse.conftest import Dataverse

TOTALS = (
    "totalamount,totaltax,totallineitemamount,totaldiscountamount,totalamountlessfreight,totallineitemdiscountamount"
)


@pytest.fixture
def account(dataverse: Dataverse) -> str:
    return str(dataverse.ok("POST", "accounts", {"name": "Adatum"}))


def invoice(dataverse: Dataverse, account: str, *lines: dict[str, Any], **columns: Any) -> str:
    body = {
        "name": "INV",
        "customerid_account@odata.bind": f"/accounts({account})",
        "invoice_details": list(lines),
        **columns,
    }
    return str(dataverse.ok("POST", "invoices", body))


def line(quantity: float, price: float, **more: Any) -> dict[str, Any]:
    return {"productdescription": "milk", "quantity": quantity, "priceperunit": price, **more}


def total(dataverse: Dataverse, row: str) -> Decimal:
    return Decimal(dataverse.ok("GET", f"invoices({row})?$select=totalamount")["totalamount"])


def test_totals_come_from_the_lines(dataverse: Dataverse, account: str) -> None:
    row = invoice(
        dataverse,
        account,
        line(2, 10.25, tax=1.5, manualdiscountamount=0.5),
        line(0.333, 3),
        discountamount=1,
        discountpercentage=10,
        freightamount=4,
    )
    read = dataverse.ok(
        "GET",
        f"invoices({row})?$select={TOTALS},invoicenumber&$expand=invoice_details($select=baseamount,extendedamount)",
    )
    # lines: 20.50 - 0.50 = 20.00 and 1.00 (0.999 rounded); 10 % of 21.00 and 1.00 off; tax 1.50; freight 4.00
    assert (read["totallineitemamount"], read["totallineitemdiscountamount"]) == (21, Decimal("0.5"))
    assert (read["totaldiscountamount"], read["totalamountlessfreight"]) == (Decimal("3.1"), Decimal("17.9"))
    assert (read["totaltax"], read["totalamount"]) == (Decimal("1.5"), Decimal("23.4"))
    assert sorted(item["extendedamount"] for item in read["invoice_details"]) == [1, Decimal("21.5")]
    assert read["invoicenumber"].startswith("INV-")


def test_changed_lines_change_the_totals(dataverse: Dataverse, account: str) -> None:
    row = invoice(dataverse, account, line(1, 5))
    added = dataverse.ok("POST", "invoicedetails", line(1, 7) | {"invoiceid@odata.bind": f"/invoices({row})"})
    assert total(dataverse, row) == 12
    dataverse.ok("PATCH", f"invoicedetails({added})", {"quantity": 3})
    assert total(dataverse, row) == 26
    dataverse.ok("DELETE", f"invoicedetails({added})")
    assert total(dataverse, row) == 5
    dataverse.ok("PATCH", f"invoices({row})", {"totalamount": 99})
    assert total(dataverse, row) == 5
    dataverse.ok("PATCH", f"invoices({row})", {"skippricecalculation": 1, "totalamount": 99})
    assert total(dataverse, row) == 99


def test_paid_and_canceled_invoices_are_read_only(dataverse: Dataverse, account: str) -> None:
    row = invoice(dataverse, account, line(1, 5))
    detail = dataverse.ok("GET", f"invoices({row})/invoice_details?$select=quantity")["value"][0]["invoicedetailid"]
    dataverse.fails(400, "0x80048408", "PATCH", f"invoices({row})", {"statecode": 2, "statuscode": 1})
    dataverse.ok("PATCH", f"invoices({row})", {"statecode": 2, "statuscode": 100001})
    dataverse.fails(400, "0x8004022e", "PATCH", f"invoices({row})", {"name": "x"})
    dataverse.fails(400, "0x80043b09", "PATCH", f"invoicedetails({detail})", {"quantity": 2})
    dataverse.fails(400, "0x80043b09", "DELETE", f"invoicedetails({detail})")
    bind = {"invoiceid@odata.bind": f"/invoices({row})"}
    dataverse.fails(400, "0x80043b09", "POST", "invoicedetails", line(1, 1) | bind)
    dataverse.ok("PATCH", f"invoices({row})", {"statecode": 3, "statuscode": 100003})
    dataverse.fails(400, "0x80100000", "PATCH", f"invoices({row})", {"statecode": 2, "statuscode": 100001})
    dataverse.ok("PATCH", f"invoices({row})", {"statecode": 0, "statuscode": 1})
    dataverse.ok("PATCH", f"invoices({row})", {"name": "again"})


def test_a_line_needs_its_invoice(dataverse: Dataverse) -> None:
    dataverse.fails(400, "0x80040200", "POST", "invoicedetails", line(1, 1))


def test_a_failing_line_undoes_the_whole_invoice(dataverse: Dataverse, account: str) -> None:
    body = {
        "name": "I",
        "customerid_account@odata.bind": f"/accounts({account})",
        "invoice_details": [line(1, 1), {"quantity": "x"}],
    }
    dataverse.fails(400, "0x80048d19", "POST", "invoices", body)
    assert dataverse.ok("GET", "invoices")["value"] == []
    assert dataverse.ok("GET", "invoicedetails")["value"] == []
