"""Invoices and their lines, as Sales keeps them."""

from datetime import date
from decimal import Decimal

from connector.dataverse.odata import guid
from connector.identity import Customer
from connector.loyalty.earning import Invoice, Line, Status
from connector.loyalty.program import Program
from connector.loyalty.sentences import say
from connector.rows import customers
from connector.rows.values import Row, Unusable, decimal, moment

_INVOICE = (
    "invoicenumber,name,statecode,statuscode,createdon,modifiedon,totalamount_base,totaltax_base,freightamount_base,"
    "_customerid_value,_transactioncurrencyid_value"
)
_LINE = "lineitemnumber,extendedamount_base,tax_base,loy_productcategory"

# (statecode, statuscode) of invoice. State 1 and its reasons are deprecated, but rows of old environments still hold them.
_PAID = {(2, 100001), (1, 7)}
_CANCELLED = {(3, 100003), (1, 3), (1, 100003)}


INVOICE_SELECT = (
    f"$select={_INVOICE}&$expand=invoice_details($select={_LINE}),"
    f"transactioncurrencyid($select=isocurrencycode),{customers.expand('customerid')}"
)


def invoice_path(invoice_id: str) -> str:
    return f"invoices({guid(invoice_id)})?{INVOICE_SELECT}"


def owner_of(row: Row) -> Customer | None:
    """Whose invoice it is; None when nobody's, or when the customer does not exist any more."""
    for table in ("account", "contact"):
        found = row.get(f"customerid_{table}")
        if found:
            return Customer(table, found[f"{table}id"])
    return None


def invoice_of(program: Program, row: Row) -> tuple[Invoice, customers.CustomerRow]:
    """The invoice and its customer; Unusable names the column that stands in the way."""
    customer = customers.expanded_customer(row, "customerid", "customerid")
    number = row.get("invoicenumber") or row.get("name") or row["invoiceid"]
    _check_currency(program, row, number)
    status = _status(row)
    return (
        Invoice(
            id=row["invoiceid"],
            number=number,
            customer=str(customer.customer),
            status=status,
            invoiced_on=moment(row, "createdon"),
            net=_required(row, "totalamount_base", number)
            - decimal(row, "totaltax_base")
            - decimal(row, "freightamount_base"),
            lines=tuple(_line(line, number) for line in row.get("invoice_details", ())),
            paid_on=_paid_on(row) if status is Status.PAID else None,
        ),
        customer,
    )


def _status(row: Row) -> Status:
    state = (row["statecode"], row["statuscode"])
    if state in _CANCELLED:
        return Status.CANCELLED
    return Status.PAID if state in _PAID else Status.ISSUED


def _paid_on(row: Row) -> date:
    # A paid invoice is read-only, so its last change is the payment.
    return moment(row, "modifiedon").date()


def _check_currency(program: Program, row: Row, number: str) -> None:
    currency = (row.get("transactioncurrencyid") or {}).get("isocurrencycode")
    if not currency:
        raise _bad("invoice.no_currency", number, "transactioncurrencyid", "currency")
    currencies = program.accrual_on(moment(row, "createdon").date()).currencies
    if currencies and currency not in currencies:
        raise _bad("invoice.currency", number, "transactioncurrencyid", "currency", currency=currency)


def _line(row: Row, number: str) -> Line:
    return Line(
        number=str(row.get("lineitemnumber") or ""),
        category=row.get("loy_productcategory") or "",
        net=_required(row, "extendedamount_base", number) - decimal(row, "tax_base"),
    )


def _required(row: Row, column: str, number: str) -> Decimal:
    if row.get(column) is None:
        raise _bad("invoice.empty", number, column, "amount")
    return decimal(row, column)


def _bad(code: str, number: str, field: str, reason: str, **more: str) -> Unusable:
    return Unusable(
        say(code, invoice=number, field=field, **more),
        reason=reason,
        field=field,
        next_step=say("next.invoice", field=field),
    )
