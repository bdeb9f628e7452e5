"""Invoices: life cycle and pricing.

Money arrives and leaves as integers of four decimal places. Line: amount = quantity * price; extended = amount - manual
discount + tax. Invoice: detail amount = sum of (extended - tax); less the invoice's own discounts, plus freight and tax.
"""

from typing import TYPE_CHECKING, Any

from local.dataverse.errors import Fault, read_only, required

if TYPE_CHECKING:
    from local.dataverse.records import Unit

Values = dict[str, Any]
ACTIVE, CLOSED, PAID, CANCELED = 0, 1, 2, 3
_PRICED = frozenset({
    "discountamount", "discountpercentage", "freightamount", "totalamount", "totaltax", "totallineitemamount",
    "totalamountlessfreight", "totaldiscountamount", "totallineitemdiscountamount", "skippricecalculation",
})  # fmt: skip
_QUANTITY = 10**5  # stored quantity has five decimal places
_CENT = 100  # of stored money: two of its four places


def reprices(values: Values) -> bool:
    return not _PRICED.isdisjoint(values)


def invoice_created(unit: "Unit", values: Values) -> None:
    _copy_customer(values)


def _copy_customer(values: Values) -> None:
    if "customerid" in values:
        kind = values.get("customerid:type")
        values["accountid"] = values["customerid"] if kind == "account" else None
        values["contactid"] = values["customerid"] if kind == "contact" else None


def invoice_changing(row_id: str, values: Values, old: Values, *, system: bool = False) -> None:
    """A closed invoice is read-only for whoever calls, not for Dataverse: a merger points it to the remaining customer."""
    state = values.get("statecode", old["statecode"])
    if state != old["statecode"]:
        if state == PAID and old["statecode"] != ACTIVE:
            raise Fault(400, "0x80100000", "Cannot pay an invoice that is not active.")
        if state == CANCELED and old["statecode"] not in (ACTIVE, PAID):
            raise Fault(400, "0x80100001", "Cannot cancel an invoice that is neither active nor paid.")
        if state == CLOSED:
            raise Fault(
                400,
                "0x80048408",
                f"{values['statuscode']} is not a valid status code for state code {state} on invoice.",
            )
    elif (
        not system
        and old["statecode"] != ACTIVE
        and (values.keys() - {"statecode", "statuscode"}) - {"ownerid", "ownerid:type"}
    ):
        raise read_only("invoice", row_id, "it is paid or canceled")
    _copy_customer(values)


def check_parent_open(unit: "Unit", invoice: str) -> None:
    row = unit.connection.execute("SELECT statecode FROM invoice WHERE invoiceid = ?", (invoice,)).fetchone()
    if row and row[0] != ACTIVE:
        raise Fault(400, "0x80043b09", f"The parent invoice with id {invoice} is read-only: it is paid or canceled.")


def line_changing(unit: "Unit", values: Values, old: Values) -> None:
    both = old | values
    if not both.get("invoiceid"):
        raise required("invoiceid", "invoicedetail")
    if old:
        check_parent_open(unit, old["invoiceid"])
    base = round_cents((both.get("quantity") or 0) * (both.get("priceperunit") or 0), _QUANTITY)
    values["baseamount"] = base
    values["extendedamount"] = base - (both.get("manualdiscountamount") or 0) + (both.get("tax") or 0)
    rate = values.get("exchangerate") or both.get("exchangerate")
    if rate:
        from local.dataverse.records import to_base

        for name in ("baseamount", "extendedamount"):
            values[f"{name}_base"] = to_base(values[name], rate)
    if not both.get("invoicedetailname"):
        values["invoicedetailname"] = str(both.get("productdescription") or both.get("productname") or "")[:100] or None


def inherit(unit: "Unit", values: Values, *, nested: bool) -> None:
    """A new line takes the currency of its invoice; a closed invoice takes no lines."""
    row = unit.connection.execute(
        "SELECT statecode, transactioncurrencyid FROM invoice WHERE invoiceid = ?", (values.get("invoiceid"),)
    ).fetchone()
    if row is None:
        raise required("invoiceid", "invoicedetail")
    if values.setdefault("transactioncurrencyid", row[1]) != row[1]:
        raise Fault(400, "0x80048cea", "The currency of the record does not match the currency of the invoice.")
    if row[0] != ACTIVE and not nested:
        check_parent_open(unit, values["invoiceid"])


def round_cents(product: int, scale: int) -> int:
    """`product` / `scale`, rounded half away from zero to whole cents, in four places."""
    sign = -1 if product < 0 else 1
    unit = scale * _CENT
    return sign * ((abs(product) * 2 + unit) // (2 * unit)) * _CENT


def price(unit: "Unit", invoice: str, *, quiet: bool = False) -> None:
    """Recomputes an invoice's totals from its lines. `quiet`: as part of a write of the invoice itself, without an event."""
    row = unit.connection.execute(
        "SELECT skippricecalculation, ispricelocked, discountamount, discountpercentage, freightamount, totalamount, "
        "exchangerate, totaltax, totallineitemamount FROM invoice WHERE invoiceid = ?",
        (invoice,),
    ).fetchone()
    if row is None or row[0] == 1 or (row[1] and not quiet):
        return
    net, tax, line_discounts = unit.connection.execute(
        "SELECT coalesce(sum(extendedamount - coalesce(tax, 0)), 0), coalesce(sum(tax), 0), "
        "coalesce(sum(manualdiscountamount), 0) FROM invoicedetail WHERE invoiceid = ?",
        (invoice,),
    ).fetchone()
    percentage = round_cents(net * (row[3] or 0), 100 * 100)
    discount = (row[2] or 0) + percentage
    values: Values = {
        "totallineitemamount": net,
        "totallineitemdiscountamount": line_discounts,
        "totaldiscountamount": discount,
        "totalamountlessfreight": net - discount,
        "totaltax": tax,
        "totalamount": net - discount + (row[4] or 0) + tax,
    }
    if (row[5], row[7], row[8]) == (values["totalamount"], tax, net):
        return
    from local.dataverse.records import change, to_base

    table = unit.schema.tables["invoice"]
    if quiet:
        for name in list(values):
            values[f"{name}_base"] = to_base(values[name], row[6])
        sql = unit.env.update_sql(table, tuple(values))
        unit.connection.execute(sql, [*values.values(), invoice])
        return
    unit.depth += 1
    try:
        change(unit, table, invoice, values, system=True)
    finally:
        unit.depth -= 1
