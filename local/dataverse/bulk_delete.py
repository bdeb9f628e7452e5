"""BulkDelete: an asynchronous system job that deletes what QueryExpressions find."""

import uuid
from typing import TYPE_CHECKING, Any

from local.dataverse import records
from local.dataverse.conditions import Inputs, condition
from local.dataverse.errors import Fault, bad_request
from local.dataverse.model import Table
from local.dataverse.odata import Literals
from local.dataverse.security import Caller, require, require_special, visible
from local.dataverse.storage import quoted
from local.dataverse.tabular import new_scope
from local.dataverse.values import timestamp

if TYPE_CHECKING:
    from local.dataverse.environment import Environment

_OPERATORS = {
    "Equal": "eq", "NotEqual": "ne", "GreaterThan": "gt", "LessThan": "lt", "GreaterEqual": "ge", "LessEqual": "le",
    "In": "in", "NotIn": "not-in", "Null": "null", "NotNull": "not-null", "Like": "like", "BeginsWith": "begins-with",
    "On": "on", "OnOrBefore": "on-or-before", "OnOrAfter": "on-or-after", "OlderThanXDays": "olderthan-x-days",
}  # fmt: skip


def submit(env: "Environment", caller: Caller, parameters: dict[str, Any]) -> str:
    """Checks the query and queues the job; answers its id."""
    require_special(caller, "prvBulkDelete")
    queries, name = parameters.get("QuerySet"), parameters.get("JobName")
    if not isinstance(queries, list) or not queries:
        raise bad_request("The parameter 'QuerySet' must be an array of queries.", "0x80040203")
    if not isinstance(name, str) or not name:
        raise bad_request("The parameter 'JobName' is missing.", "0x80040203")
    for query in queries:
        _selection(env, caller, query)
    job = str(uuid.uuid4())
    with env.unit(caller) as unit:
        now = unit.moment
        unit.connection.execute(
            "INSERT INTO asyncoperation (asyncoperationid, name, operationtype, statecode, statuscode, createdon, modifiedon, "
            'ownerid, "ownerid:type", owningbusinessunit, versionnumber) '
            "VALUES (?, ?, 13, 0, 0, ?, ?, ?, 'systemuser', ?, ?)",
            (job, name[:256], now, now, caller.user, caller.business_unit, env.next_version()),
        )
        unit.connection.execute(
            "INSERT INTO bulkdeleteoperation (bulkdeleteoperationid, name, asyncoperationid, statecode, statuscode, createdon, "
            'modifiedon, ownerid, "ownerid:type", owningbusinessunit, successcount, failurecount, versionnumber) '
            "VALUES (?, ?, ?, 0, 0, ?, ?, ?, 'systemuser', ?, 0, 0, ?)",
            (str(uuid.uuid4()), name[:256], job, now, now, caller.user, caller.business_unit, env.next_version()),
        )
    env.add_job("bulk delete", lambda: _run(env, caller, job, queries))
    return job


def _selection(env: "Environment", caller: Caller, query: Any) -> tuple[Table, str, list[Any]]:
    """(table, SQL of the ids, values) of a QueryExpression."""
    table = env.schema.tables.get(str(query.get("EntityName"))) if isinstance(query, dict) else None
    if table is None:
        raise Fault(400, "0x80041102", "Each query of 'QuerySet' needs the 'EntityName' of a table.")
    require(caller, "Delete", table)
    root = new_scope(env.schema, table)
    literals: Literals = []
    criteria = query.get("Criteria") or {}
    parts = []
    for item in criteria.get("Conditions", []) if isinstance(criteria, dict) else []:
        column = table.columns.get(str(item.get("AttributeName"))) if isinstance(item, dict) else None
        operator = _OPERATORS.get(str(item.get("Operator"))) if isinstance(item, dict) else None
        if column is None or operator is None:
            raise Fault(400, "0x80041103", "A condition of 'QuerySet' names an unknown attribute or operator.")
        indexes = []
        for value in item.get("Values") or []:
            plain = value.get("Value") if isinstance(value, dict) else value
            indexes.append(len(literals))
            literals.append(("s", str(plain).lower() if isinstance(plain, bool) else str(plain)))
        parts.append(condition(root.sql(column), column, operator, indexes, root.parameters))
    word = " OR " if str(criteria.get("FilterOperator", "And")) == "Or" else " AND "
    where = [f"({word.join(parts)})"] if parts else []
    seen = visible(caller, table, "t0", root.parameters, "Delete")
    if seen:
        where.append(seen)
    text = f"SELECT t0.{quoted(table.primary_id)} FROM {quoted(table.name)} t0"
    if where:
        text += f" WHERE {' AND '.join(where)}"
    inputs = Inputs(literals, env.clock(), caller.user, caller.business_unit, caller.teams)
    return table, text, list(root.parameters.values(inputs))


def _run(env: "Environment", caller: Caller, job: str, queries: list[Any]) -> None:
    done = failed = 0
    for query in queries:
        try:
            table, sql, values = _selection(env, caller, query)
        except Fault:
            failed += 1
            continue
        ids = [row_id for (row_id,) in env.storage.reader.execute(sql, values)]
        for row_id in ids:
            try:
                with env.unit(caller) as unit:
                    records.delete(unit, table, row_id)
                done += 1
            except Fault:
                failed += 1
    with env.storage.writing() as writer:
        now = timestamp(env.clock())
        writer.execute(
            "UPDATE asyncoperation SET statecode = 3, statuscode = ?, completedon = ?, versionnumber = ? "
            "WHERE asyncoperationid = ?",
            (30 if not failed else 31, now, env.next_version(), job),
        )
        writer.execute(
            "UPDATE bulkdeleteoperation SET statecode = 3, statuscode = ?, successcount = ?, failurecount = ?, "
            "versionnumber = ? WHERE asyncoperationid = ?",
            (30 if not failed else 31, done, failed, env.next_version(), job),
        )
