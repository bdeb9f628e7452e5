"""What particular tables do beyond their metadata: names made of parts, secrets, currencies, activities, invoices."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from local.dataverse import sales
from local.dataverse.errors import Fault, bad_request, invalid_argument

if TYPE_CHECKING:
    from local.dataverse.model import Table
    from local.dataverse.records import Unit

Values = dict[str, Any]
_SECRETS = {"saskey": "issaskeyset", "sastoken": "issastokenset", "authvalue": "isauthvalueset"}
BEFORE_DELETE: dict[str, Callable[["Unit", Values], None]] = {}
"""Table -> what else must happen before a row of it goes; given the row. Filled by who knows."""
_CLOSED = {"task": {1, 2}, "email": {1, 2}}


def inherit(unit: "Unit", table: "Table", values: Values, *, nested: bool) -> None:
    """What a new row takes from its parent before defaults are filled in."""
    if table.name == "invoicedetail":
        sales.inherit(unit, values, nested=nested)


def before_create(unit: "Unit", table: "Table", values: Values) -> None:
    _common(unit, table, values, {})
    if table.name == "transactioncurrency":
        _unique_currency(unit, values)
    elif table.name == "invoice":
        sales.invoice_created(unit, values)
    elif table.name == "invoicedetail":
        sales.line_changing(unit, values, {})
    elif table.name == "sdkmessageprocessingstep":
        _check_step(unit, values, {})
    elif table.name == "solution" or table.name == "publisher":
        _unique(unit, table, "uniquename", values)
    for column in table.columns.values():
        if column.auto_number and not values.get(column.name):
            values[column.name] = unit.env.auto_number(unit.connection, table, column)


def after_create(unit: "Unit", table: "Table", row_id: str, values: Values, *, nested: bool) -> None:
    if table.name == "invoice":
        sales.price(unit, row_id, quiet=True)
    elif table.name == "invoicedetail" and not nested:
        sales.price(unit, values["invoiceid"])
    elif table.name == "systemuser":
        unit.connection.execute(
            "INSERT INTO usersettings (systemuserid, timezonecode, uilanguageid, localeid, versionnumber) "
            "VALUES (?, 92, 1033, 1033, ?)",
            (row_id, unit.env.next_version()),
        )


def before_update(
    unit: "Unit", table: "Table", row_id: str, values: Values, old: Values, *, system: bool = False
) -> None:
    _common(unit, table, values, old)
    if table.name in _CLOSED and old["statecode"] in _CLOSED[table.name] and "statecode" not in values:
        raise Fault(400, "0x80045f0f", f"The {table.name} with id {row_id} is closed and cannot be changed.")
    if table.name == "task" and values.get("statecode") == 1 and not (values.get("actualend") or old.get("actualend")):
        values["actualend"] = unit.moment
    elif table.name == "transactioncurrency" and row_id == unit.env.base_currency and "exchangerate" in values:
        raise Fault(400, "0x80048cf5", "The exchange rate of the base currency cannot be modified.")
    elif table.name == "invoice":
        sales.invoice_changing(row_id, values, old, system=system)
    elif table.name == "invoicedetail":
        sales.line_changing(unit, values, old)
    elif table.name == "sdkmessageprocessingstep":
        _check_step(unit, values, old)


def after_update(unit: "Unit", table: "Table", row_id: str, values: Values, old: Values) -> None:
    if table.name == "invoice":
        if sales.reprices(values):
            sales.price(unit, row_id, quiet=True)
    elif table.name == "invoicedetail":
        sales.price(unit, old["invoiceid"])


def before_delete(unit: "Unit", table: "Table", row_id: str, old: Values, *, cascade: bool) -> None:
    if table.name == "transactioncurrency" and row_id == unit.env.base_currency:
        raise Fault(400, "0x80048cf4", "The base currency of an organization cannot be deleted.")
    if table.name == "invoicedetail" and not cascade:
        sales.check_parent_open(unit, old["invoiceid"])
    if table.name == "businessunit" and old.get("parentbusinessunitid") is None:
        raise Fault(400, "0x80041d37", "The root business unit cannot be deleted.")
    if table.name in BEFORE_DELETE:
        BEFORE_DELETE[table.name](unit, old)


def after_delete(unit: "Unit", table: "Table", row_id: str, old: Values, *, cascade: bool) -> None:
    if table.name == "invoicedetail" and not cascade:
        sales.price(unit, old["invoiceid"])


def _common(unit: "Unit", table: "Table", values: Values, old: Values) -> None:
    if table.name in ("contact", "lead", "systemuser"):
        names = ("firstname", "middlename", "lastname") if table.name == "contact" else ("firstname", "lastname")
        if any(name in values for name in names):
            parts = [values.get(name, old.get(name)) for name in names]
            values["fullname"] = " ".join(part for part in parts if part) or None
    elif table.name == "serviceendpoint":
        for secret, flag in _SECRETS.items():
            if secret in values:
                values[flag] = int(values[secret] is not None)


def _unique_currency(unit: "Unit", values: Values) -> None:
    code = values.get("isocurrencycode")
    if unit.connection.execute("SELECT 1 FROM transactioncurrency WHERE isocurrencycode = ?", (code,)).fetchone():
        raise Fault(400, "0x80048cf3", "A currency with the specified ISO currency code already exists.")
    if not values.get("exchangerate"):
        raise invalid_argument("The exchange rate of a currency must be greater than zero (attribute 'exchangerate').")


def _unique(unit: "Unit", table: "Table", column: str, values: Values) -> None:
    found = unit.connection.execute(f"SELECT 1 FROM {table.name} WHERE {column} = ?", (values.get(column),)).fetchone()
    if found:
        raise Fault(412, "0x80040237", f"A {table.name} with the {column} '{values.get(column)}' already exists.")


def _check_step(unit: "Unit", values: Values, old: Values) -> None:
    """A step to a queue or topic must be asynchronous; images and filters are checked where they are read."""
    both = old | values
    if both.get("eventhandler:type") != "serviceendpoint" or both.get("mode") != 0:
        return
    row = unit.connection.execute(
        "SELECT contract FROM serviceendpoint WHERE serviceendpointid = ?", (both["eventhandler"],)
    ).fetchone()
    if row and row[0] not in (3, 4, 8):
        raise bad_request(
            "A step that posts to a queue or topic must be asynchronous (attribute 'mode').", "0x80040203"
        )
