"""The action Merge: two accounts or contacts become one; rows of the subordinate go to the target."""

from typing import TYPE_CHECKING, Any

from local.dataverse import records
from local.dataverse.actions import Parameters, action
from local.dataverse.errors import bad_request, no_row
from local.dataverse.model import Table
from local.dataverse.records import Unit, set_lookup
from local.dataverse.responses import Response, no_content
from local.dataverse.storage import quoted, type_column
from local.dataverse.values import guid

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request


@action
def Merge(env: "Environment", request: "Request", given: Parameters) -> Response:
    with env.unit(request.caller) as unit:
        table, target = _party(unit, given, "Target")
        other, subordinate = _party(unit, given, "Subordinate")
        if other is not table or table.name not in ("account", "contact") or target == subordinate:
            raise bad_request("Merge needs two different accounts, or two different contacts.")
        for relation in unit.schema.references_to(table.name):
            _repoint(unit, unit.schema.tables[relation.referencing], relation.attribute, table, subordinate, target)
        content = given.get("UpdateContent")
        if isinstance(content, dict):
            body = {name: value for name, value in content.items() if not name.startswith("@")}
            records.update(unit, table, target, body)
        values: dict[str, Any] = {"merged": 1, "statecode": 1, "statuscode": 2}
        set_lookup(values, table.columns["masterid"], table.name, target)
        records.change(unit, table, subordinate, values, system=True)
    return no_content()


def _party(unit: Unit, given: Parameters, name: str) -> tuple[Table, str]:
    party = given.get(name)
    kind = str(party.get("@odata.type", "")).rpartition(".")[2] if isinstance(party, dict) else ""
    table = unit.schema.tables.get(kind)
    if table is None or not isinstance(party, dict):
        raise bad_request(f"The parameter '{name}' must be an account or contact with its @odata.type.")
    row_id = guid(party.get(table.primary_id))
    if row_id is None or records.read_row(unit, table, row_id) is None:
        raise no_row(table.name, str(row_id))
    return table, row_id


def _repoint(unit: Unit, child: Table, attribute: str, table: Table, old: str, new: str) -> None:
    column = child.columns[attribute]
    if attribute in ("masterid", "ownerid") or column.type == "Owner":
        return
    where = f"{quoted(attribute)} = ?"
    if column.polymorphic:
        where += f" AND {quoted(type_column(attribute))} = '{table.name}'"
    sql = f"SELECT {quoted(child.primary_id)} FROM {quoted(child.name)} WHERE {where}"
    for (row_id,) in unit.connection.execute(sql, (old,)).fetchall():
        values: dict[str, Any] = {}
        set_lookup(values, column, table.name, new)
        records.change(unit, child, row_id, values, system=True)
