"""Rows of queries that choose and name their own columns: FetchXML, SQL, `$apply`. Empty columns are left out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from json.encoder import encode_basestring
from typing import Any

from local.dataverse.conditions import Inputs, Parameters
from local.dataverse.errors import Fault, bad_query
from local.dataverse.filters import Scope
from local.dataverse.model import LOOKUPS, Column, Schema, Table
from local.dataverse.odata import Literals
from local.dataverse.projection import Row, Run, navigation_of, primary_names
from local.dataverse.security import hidden_columns
from local.dataverse.storage import quoted, type_column
from local.dataverse.values import formatted, render_scaled, renderer, unscaled

AGGREGATE_LIMIT = 50_000
_FORMATTED = "OData.Community.Display.V1.FormattedValue"
_ATTRIBUTE = "OData.Community.Display.V1.AttributeName"
_TARGET = "Microsoft.Dynamics.CRM.lookuplogicalname"
_NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"


@dataclass(slots=True)
class Output:
    """One column of the answer. `type_index` is where a polymorphic lookup's table stands."""

    name: str
    column: Column
    table: Table
    index: int
    type_index: int = -1
    aliased: bool = False


@dataclass(slots=True)
class Measure:
    """One aggregate: sum average min max count countcolumn (distinct)."""

    name: str
    kind: str
    scope: Scope | None = None
    column: Column | None = None
    distinct: bool = False


@dataclass(slots=True)
class Group:
    name: str
    scope: Scope
    column: Column
    part: str = ""  # day week month quarter year fiscal-period fiscal-year


@dataclass(slots=True)
class Selection:
    """The SELECT list under construction."""

    schema: Schema
    run: Run
    sql: list[str] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)

    def place(self, sql: str) -> int:
        if sql in self.sql:
            return self.sql.index(sql)
        self.sql.append(sql)
        return len(self.sql) - 1

    def add(self, scope: Scope, column: Column, name: str, *, aliased: bool = False) -> None:
        if not column.read or column.name in hidden_columns(self.schema, self.run.caller, scope.table):
            return
        if any(output.name == name for output in self.outputs):
            return
        output = Output(name, column, scope.table, self.place(scope.sql(column)), aliased=aliased)
        if column.type in LOOKUPS and column.polymorphic:
            output.type_index = self.place(f"{scope.alias}.{quoted(type_column(column.name))}")
        self.outputs.append(output)


def texts(
    run: Run, schema: Schema, outputs: Sequence[Output], rows: Sequence[Row], etag_index: int | None
) -> list[str]:
    """Rows as JSON objects, empty columns left out."""
    names = _lookup_names(run, schema, outputs, rows)
    wants = {name: run.wants(name) for name in (_FORMATTED, _ATTRIBUTE, _TARGET, _NAVIGATION)}
    renders = [renderer(output.column) for output in outputs]
    answer = []
    for row in rows:
        parts = [] if etag_index is None else [f'"@odata.etag":"W/\\"{row[etag_index]}\\""']
        for output, render in zip(outputs, renders, strict=True):
            value = row[output.index]
            if value is None:
                continue
            if run.annotations:
                parts += _annotations(run, schema, output, row, value, names, wants)
            parts.append(f"{json.dumps(output.name)}:{render(value)}")
        answer.append("{" + ",".join(parts) + "}")
    return answer


def _annotations(
    run: Run,
    schema: Schema,
    output: Output,
    row: Row,
    value: Any,
    names: dict[tuple[str, str], str],
    wants: dict[str, bool],
) -> list[str]:
    column, name, parts = output.column, json.dumps(output.name)[1:-1], []
    if wants[_ATTRIBUTE] and output.aliased:
        parts.append(f'"{name}@{_ATTRIBUTE}":"{column.name}"')
    if column.type in LOOKUPS:
        target = row[output.type_index] if output.type_index >= 0 else column.targets[0]
        shown = names.get((target, value))
        if wants[_TARGET]:
            parts.append(f'"{name}@{_TARGET}":"{target}"')
        if wants[_NAVIGATION] and not output.aliased:
            parts.append(f'"{name}@{_NAVIGATION}":"{navigation_of(schema, output.table, column, target)}"')
    else:
        shown = formatted(schema, column, value)
    if wants[_FORMATTED] and shown is not None:
        parts.append(f'"{name}@{_FORMATTED}":{encode_basestring(shown)}')
    return parts


def _lookup_names(
    run: Run, schema: Schema, outputs: Sequence[Output], rows: Sequence[Row]
) -> dict[tuple[str, str], str]:
    if not run.annotations:
        return {}
    wanted: dict[str, set[str]] = {}
    for output in outputs:
        if output.column.type in LOOKUPS:
            for row in rows:
                if row[output.index] is not None:
                    target = row[output.type_index] if output.type_index >= 0 else output.column.targets[0]
                    wanted.setdefault(target, set()).add(row[output.index])
    return {
        (target, row_id): name
        for target, ids in wanted.items()
        for row_id, name in primary_names(run.connection, schema.tables[target], sorted(ids)).items()
    }


# --- aggregation ---

_PARTS = {
    "day": "CAST(strftime('%d', {0}) AS INTEGER)", "month": "CAST(strftime('%m', {0}) AS INTEGER)",
    "year": "CAST(strftime('%Y', {0}) AS INTEGER)", "quarter": "((CAST(strftime('%m', {0}) AS INTEGER) + 2) / 3)",
    "week": "(CAST(strftime('%j', {0}, 'weekday 6') AS INTEGER) + 6) / 7",
    "fiscal-year": "CAST(strftime('%Y', {0}) AS INTEGER)",
    "fiscal-period": "((CAST(strftime('%m', {0}) AS INTEGER) + 2) / 3)",
}  # fmt: skip


def aggregate(
    run: Run, schema: Schema, root: Scope, conditions: list[str], groups: list[Group], measures: list[Measure],
    order: list[tuple[str, bool]], limit: int | None, literals: Literals, most: int = AGGREGATE_LIMIT,
    joins: str = "",
) -> list[str]:  # fmt: skip
    """Grouped rows as JSON. Refuses more than 50,000 source rows, as Dataverse does."""
    if not groups and not measures:
        raise bad_query("An aggregation must group by a column or aggregate one.")
    inputs = Inputs(literals, run.now, run.caller.user, run.caller.business_unit, run.caller.teams)
    source = f"{quoted(root.table.name)} {root.alias} {joins or ' '.join(root.joins)}"
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    values = root.parameters.values(inputs)
    counted = run.connection.execute(f"SELECT count(*) FROM (SELECT 1 FROM {source}{where} LIMIT {most + 1})", values)
    if counted.fetchone()[0] > most:
        raise Fault(400, "0x8004e023", "AggregateQueryRecordLimit exceeded. Cannot perform this operation.")
    columns: list[str] = []
    for group in groups:
        sql = group.scope.sql(group.column)
        if group.part:
            if group.part not in _PARTS or group.column.type != "DateTime":
                raise bad_query(f"The date grouping '{group.part[:40]}' of '{group.column.name}' is not supported.")
            sql = _PARTS[group.part].format(sql)
        columns.append(sql)
    keys = list(columns)
    for measure in measures:
        columns += _measure(measure)
    named = {group.name: str(index + 1) for index, group in enumerate(groups)}
    position = len(groups)
    for measure in measures:
        named[measure.name] = str(position + 1)
        position += 2
    terms = [f"{named[name]}{' DESC' if descending else ''}" for name, descending in order if name in named]
    if len(terms) < len(order):
        raise bad_query("An aggregate query can be ordered by its own columns only.")
    text = f"SELECT {', '.join(columns)} FROM {source}{where}"
    if keys:
        text += f" GROUP BY {', '.join(keys)}"
    if terms:
        text += f" ORDER BY {', '.join(terms)}"
    if limit is not None:
        text += f" LIMIT {limit}"
    answer = []
    for row in run.connection.execute(text, values):
        parts = []
        for index, group in enumerate(groups):
            if row[index] is not None:
                parts.append(
                    f"{json.dumps(group.name)}:{row[index] if group.part else renderer(group.column)(row[index])}"
                )
                shown = None if group.part else _group_text(run, schema, group, row[index])
                if shown is not None and run.wants(_FORMATTED):
                    parts.insert(-1, f"{json.dumps(f'{group.name}@{_FORMATTED}')}:{json.dumps(shown)}")
        position = len(groups)
        for measure in measures:
            shown = _measured(measure, row[position], row[position + 1])
            position += 2
            if shown is not None:
                parts.append(f"{json.dumps(measure.name)}:{shown}")
        answer.append("{" + ",".join(parts) + "}")
    return answer


def _group_text(run: Run, schema: Schema, group: Group, value: Any) -> str | None:
    column = group.column
    if column.type in LOOKUPS and not column.polymorphic:
        return primary_names(run.connection, schema.tables[column.targets[0]], [value]).get(value)
    return formatted(schema, column, value)


def _measure(measure: Measure) -> list[str]:
    """Two SQL columns: the value, and the number of rows it is over."""
    if measure.kind == "count" or measure.column is None or measure.scope is None:
        return ["count(*)", "0"]
    sql = measure.scope.sql(measure.column)
    distinct = "DISTINCT " if measure.distinct else ""
    if measure.kind == "countcolumn":
        return [f"count({distinct}{sql})", "0"]
    if measure.kind in ("min", "max"):
        return [f"{measure.kind}({sql})", "0"]
    if measure.column.type not in ("Integer", "BigInt", "Decimal", "Double", "Money"):
        raise bad_query(f"The column '{measure.column.name}' of type {measure.column.type} cannot be summed.")
    return [f"sum({distinct}{sql})", f"count({distinct}{sql})"]


def _measured(measure: Measure, value: Any, count: int) -> str | None:
    if value is None:
        return None
    column = measure.column
    if column is None or measure.kind in ("count", "countcolumn"):
        return str(value)
    if measure.kind == "average":
        if column.type == "Double":
            return repr(value / count)
        scale = column.scale if column.type in ("Decimal", "Money") else 0
        exact = (unscaled(value, scale) if scale else Decimal(value)) / count
        return format(exact.quantize(Decimal(1).scaleb(-max(scale, 10)), ROUND_HALF_UP).normalize(), "f")
    if measure.kind == "sum" and column.type in ("Decimal", "Money"):
        return render_scaled(column.scale)(value)
    return renderer(column)(value)


def envelope(base: str, set_name: str, columns: str, rows: list[str], extra: list[str] | None = None) -> str:
    """The collection answer."""
    named = f"({columns})" if columns else ""
    head = [f'"@odata.context":"{base}/$metadata#{set_name}{named}"', *(extra or [])]
    return "{" + ",".join([*head, f'"value":[{",".join(rows)}]']) + "}"


def new_scope(schema: Schema, table: Table) -> Scope:
    return Scope(schema, table, "t0", Parameters())
