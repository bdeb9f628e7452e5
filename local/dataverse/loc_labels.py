"""Texts of rows in further languages: `SetLocLabels`, `RetrieveLocLabels`. The row itself holds the English one."""

import sqlite3
from typing import TYPE_CHECKING, Any

from local.dataverse import metadata_json, records
from local.dataverse.actions import Parameters, action, answer, function
from local.dataverse.errors import Fault, bad_request
from local.dataverse.metadata_input import labels
from local.dataverse.model import Table
from local.dataverse.responses import Response, no_content
from local.dataverse.storage import quoted
from local.dataverse.values import guid

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request

PROVISIONED = (1033, 1031)
# The platform's "limited set": what of it this environment has.
TRANSLATED = {
    "appaction": {"buttonlabeltext"},
    "savedquery": {"name"},
    "savedqueryvisualization": {"name"},
    "systemform": {"name"},
}


@function
def RetrieveProvisionedLanguages(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    return answer(request, "RetrieveProvisionedLanguages", RetrieveProvisionedLanguages=list(PROVISIONED))


@action
def SetLocLabels(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    moniker = parameters.get("EntityMoniker")
    if not isinstance(moniker, dict):
        raise bad_request("The parameter 'EntityMoniker' is missing.")
    kind = str(moniker.get("@odata.type", "")).lstrip("#").removeprefix("Microsoft.Dynamics.CRM.")
    table = env.schema.tables.get(kind)
    if table is None or table.primary_id not in moniker:
        raise bad_request("The parameter 'EntityMoniker' must name the type and the key of a row.")
    column = _column(table, parameters)
    base, others = labels({"LocalizedLabels": parameters.get("Labels")}, "Labels")
    if unknown := sorted(others.keys() - set(PROVISIONED)):
        raise Fault(400, "0x80040203", f"The language code {unknown[0]} is not a valid language for this organization.")
    english = any(each.get("LanguageCode", 1033) == 1033 for each in parameters["Labels"])
    row_id = guid(str(moniker[table.primary_id])) or ""
    with env.unit(request.caller) as unit:
        if english:
            records.update(unit, table, row_id, {column: base})
        elif records.read_row(unit, table, row_id) is None:
            raise _missing(table, row_id)
        put(unit.connection, table.name, row_id, column, others)
    return no_content()


@function
def RetrieveLocLabels(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    reference = parameters.get("EntityMoniker")
    named = str(reference.get("@odata.id", "")) if isinstance(reference, dict) else ""
    set_name, _, key = named.removesuffix(")").rpartition("/")[2].partition("(")
    table = env.schema.sets.get(set_name)
    if table is None or not key:
        raise bad_request("The parameter 'EntityMoniker' must refer to a row.")
    column, row_id = _column(table, parameters), guid(key) or ""
    reader = env.storage.reader
    found = reader.execute(
        f"SELECT {quoted(column)} FROM {quoted(table.name)} WHERE {quoted(table.primary_id)} = ?", (row_id,)
    ).fetchone()
    if found is None:
        raise _missing(table, row_id)
    words = metadata_json.label(found[0] or "", of(reader, table.name, row_id, column))
    return answer(request, "RetrieveLocLabels", Label=words)


def put(connection: sqlite3.Connection, table: str, row_id: str, column: str, words: dict[int, str]) -> None:
    connection.executemany(
        'INSERT OR REPLACE INTO "#loclabel" (tbl, row, col, lcid, text) VALUES (?, ?, ?, ?, ?)',
        [(table, row_id, column, lcid, word) for lcid, word in words.items()],
    )


def of(connection: sqlite3.Connection, table: str, row_id: str, column: str) -> dict[int, str]:
    """LCID -> text, without English."""
    rows: Any = connection.execute(
        'SELECT lcid, text FROM "#loclabel" WHERE tbl = ? AND row = ? AND col = ? ORDER BY lcid',
        (table, row_id, column),
    )
    return dict(rows.fetchall())


def _column(table: Table, parameters: Parameters) -> str:
    name = parameters.get("AttributeName")
    if name not in TRANSLATED.get(table.name, ()):
        raise bad_request(f"The attribute '{str(name)[:100]}' of {table.name} has no localized labels.")
    return str(name)


def _missing(table: Table, row_id: str) -> Fault:
    return Fault(404, "0x80040217", f"{table.name} With Id = {row_id} Does Not Exist")
