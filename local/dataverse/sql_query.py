"""The read-only SQL of the Web API (`?sql=`): parsed by sqlglot, checked against what Dataverse allows, run as our own SQL."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

import sqlglot
from defusedxml.ElementTree import ParseError, fromstring
from sqlglot import exp

from local.dataverse.conditions import Inputs, bind_literal, condition
from local.dataverse.errors import Fault
from local.dataverse.filters import Scope
from local.dataverse.model import Column, Schema, Table
from local.dataverse.odata import Literals
from local.dataverse.projection import Run
from local.dataverse.queries import PAGE, next_link
from local.dataverse.security import visible
from local.dataverse.storage import quoted
from local.dataverse.tabular import Group, Measure, Selection, aggregate, envelope, new_scope, texts

_COMPARE: dict[type[exp.Expression], str] = {
    exp.EQ: "eq", exp.NEQ: "ne", exp.GT: "gt", exp.GTE: "ge", exp.LT: "lt", exp.LTE: "le",
}  # fmt: skip
_AGGREGATES: dict[type[exp.Expression], str] = {exp.Sum: "sum", exp.Avg: "average", exp.Min: "min", exp.Max: "max"}
LONGEST = 32_768


def _bad(message: str) -> Fault:
    return Fault(400, "0x80040216", f"The SQL query is not supported: {message}")


@dataclass(slots=True)
class Statement:
    schema: Schema
    run: Run
    root: Scope
    selection: Selection
    scopes: dict[str, Scope] = field(default_factory=dict)
    joins: list[str] = field(default_factory=list)
    literals: Literals = field(default_factory=list)

    def column(self, node: exp.Expression) -> tuple[Scope, Column]:
        if not isinstance(node, exp.Column):
            raise _bad(f"'{node.sql()[:60]}' must be a column.")
        name, table = node.name.lower(), node.table.lower()
        scopes = [self.scopes[table]] if table in self.scopes else [] if table else list(self.scopes.values())
        for scope in scopes:
            found = scope.table.columns.get(name) or scope.table.columns.get(
                name[1:-6] if name.endswith("_value") else ""
            )
            if found is not None:
                return scope, found
        raise Fault(400, "0x80041103", f"The column '{node.sql()[:100]}' of the SQL query does not exist.")

    def literal(self, node: exp.Expression) -> int:
        negative = isinstance(node, exp.Neg)
        inner = node.this if negative else node
        if isinstance(inner, exp.Boolean):
            self.literals.append(("b", "true" if inner.this else "false"))
        elif isinstance(inner, exp.Literal):
            kind = "s" if inner.is_string else "n"
            self.literals.append((kind, f"-{inner.this}" if negative else str(inner.this)))
        else:
            raise _bad(f"'{node.sql()[:60]}' must be a literal.")
        return len(self.literals) - 1

    def where(self, node: exp.Expression) -> str:
        if isinstance(node, exp.Paren):
            return f"({self.where(node.this)})"
        if isinstance(node, exp.And | exp.Or):
            word = "AND" if isinstance(node, exp.And) else "OR"
            return f"({self.where(node.this)} {word} {self.where(node.expression)})"
        if isinstance(node, exp.Not):
            if isinstance(node.this, exp.Is):
                return f"NOT ({self.where(node.this)})"
            return f"({self.where(node.this)}) IS NOT 1"
        if isinstance(node, exp.Is):
            scope, column = self.column(node.this)
            if not isinstance(node.expression, exp.Null):
                raise _bad("IS takes NULL only.")
            return f"{scope.sql(column)} IS NULL"
        parameters = self.root.parameters
        if type(node) in _COMPARE:
            if not isinstance(node.this, exp.Column):
                raise _bad("a comparison must start with a column (constant conditions are refused).")
            scope, column = self.column(node.this)
            return condition(
                scope.sql(column), column, _COMPARE[type(node)], [self.literal(node.expression)], parameters
            )
        if isinstance(node, exp.Like):
            scope, column = self.column(node.this)
            return condition(scope.sql(column), column, "like", [self.literal(node.expression)], parameters)
        if isinstance(node, exp.In):
            scope, column = self.column(node.this)
            if node.args.get("query") or not node.expressions:
                raise _bad("IN takes a list of literals.")
            return condition(
                scope.sql(column), column, "in", [self.literal(item) for item in node.expressions], parameters
            )
        if isinstance(node, exp.Between):
            scope, column = self.column(node.this)
            low, high = self.literal(node.args["low"]), self.literal(node.args["high"])
            first, last = (parameters.add(bind_literal(column, index)) for index in (low, high))
            return f"{scope.sql(column)} BETWEEN {first} AND {last}"
        raise _bad(f"the condition '{node.sql()[:60]}'.")


def table_of(schema: Schema, node: Any) -> Table:
    if not isinstance(node, exp.Table) or node.name.lower() not in schema.tables:
        raise Fault(
            400, "0x80041102", f"The table '{str(getattr(node, 'name', node))[:60]}' of the SQL query does not exist."
        )
    return schema.tables[node.name.lower()]


def _parsed(text: str) -> exp.Select:
    if len(text) > LONGEST:
        raise _bad("it is too long.")
    try:
        statements = sqlglot.parse(text, read="tsql")
    except (sqlglot.errors.SqlglotError, RecursionError, ValueError):
        raise Fault(400, "0x80040216", "Incorrect syntax in the SQL query.") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        raise _bad("it must be one SELECT statement.")
    select = statements[0]
    for node in select.walk():
        if isinstance(
            node, exp.Subquery | exp.Exists | exp.With | exp.Having | exp.SetOperation | exp.Window | exp.Star
        ):
            if isinstance(node, exp.Star) and isinstance(node.parent, exp.Count):
                continue
            raise _bad(f"{type(node).__name__} is not allowed.")
        if isinstance(node, exp.Select) and node is not select:
            raise _bad("sub-queries are not allowed.")
    return select


@dataclass(slots=True, frozen=True)
class Paging:
    """Which rows are wanted. `size`: rows of a page; `token`: the $skiptoken; `url`: what the next link repeats."""

    size: int | None
    token: str | None
    url: str

    @property
    def start(self) -> int:
        """Rows that earlier pages held."""
        if self.token is None:
            return 0
        try:
            inner = fromstring(unquote(unquote(fromstring(self.token).get("pagingcookie", ""))))
            return max(0, int(inner.get("rows", "")[:9]))
        except (ParseError, ValueError):
            raise Fault(400, "0x80040203", "The paging cookie is malformed.") from None

    @staticmethod
    def cookie(rows: int, size: int) -> str:
        number = -(-rows // size)
        twice = quote(quote(f'<cookie page="{number}" rows="{rows}"></cookie>', safe=""), safe="")
        return f'<cookie pagenumber="{number + 1}" pagingcookie="{twice}" istracking="False" />'


def execute(schema: Schema, table: Table, run: Run, text: str, paging: Paging) -> tuple[str, int]:
    """(JSON of the answer, number of rows)."""
    select = _parsed(text)
    source = select.args.get("from_") or select.args.get("from")
    if source is None:
        raise _bad("FROM is missing.")
    if table_of(schema, source.this).name != table.name:
        raise _bad(f"FROM must name '{table.name}', the table of the entity set '{table.set_name}'.")
    root = new_scope(schema, table)
    statement = Statement(schema, run, root, Selection(schema, run))
    statement.scopes[(source.this.alias or source.this.name).lower()] = root
    _join(statement, select)
    conditions = []
    seen = visible(run.caller, table, "t0", root.parameters)
    if seen:
        conditions.append(seen)
    if select.args.get("where") is not None:
        conditions.append(statement.where(select.args["where"].this))
    limit = _number(select.args.get("limit"), "TOP", PAGE)
    offset = _number(select.args.get("offset"), "OFFSET", 50_000) or 0
    aggregated = any(isinstance(item.unalias(), exp.AggFunc) for item in select.expressions)
    if aggregated or select.args.get("group") is not None:
        return _grouped(statement, select, conditions, limit)
    return _plain(statement, select, conditions, limit, offset, paging)


def _join(statement: Statement, select: exp.Select) -> None:
    root = statement.root
    for join in select.args.get("joins") or []:
        kind, side = (join.args.get("kind") or "").upper(), (join.args.get("side") or "").upper()
        if kind in ("CROSS", "OUTER") or side in ("RIGHT", "FULL") or join.args.get("on") is None:
            raise _bad("only INNER JOIN and LEFT JOIN with ON are allowed.")
        table = table_of(statement.schema, join.this)
        scope = Scope(statement.schema, table, root.fresh(), root.parameters, statement.joins, root.counter)
        statement.scopes[(join.this.alias or join.this.name).lower()] = scope
        on = join.args["on"]
        if not isinstance(on, exp.EQ):
            raise _bad("ON must compare two columns for equality.")
        left, right = statement.column(on.this), statement.column(on.expression)
        parts = [f"{left[0].sql(left[1])} = {right[0].sql(right[1])}"]
        seen = visible(statement.run.caller, table, scope.alias, root.parameters)
        if seen:
            parts.append(seen)
        word = "LEFT JOIN" if side == "LEFT" else "JOIN"
        statement.joins.append(f"{word} {quoted(table.name)} {scope.alias} ON {' AND '.join(parts)}")


def _number(node: exp.Expression | None, name: str, most: int) -> int | None:
    if node is None:
        return None
    value = node.args.get("expression") or node.args.get("count") or node.this
    if (
        not isinstance(value, exp.Literal)
        or value.is_string
        or not str(value.this).isdecimal()
        or int(value.this) > most
    ):
        raise _bad(f"{name} must be a number up to {most}.")
    return int(value.this)


def _order(select: exp.Select) -> list[tuple[exp.Expression, bool]]:
    order = select.args.get("order")
    return [(item.this, bool(item.args.get("desc"))) for item in order.expressions] if order is not None else []


def _plain(
    statement: Statement, select: exp.Select, conditions: list[str], limit: int | None, offset: int, paging: Paging
) -> tuple[str, int]:
    root, selection, run, schema = statement.root, statement.selection, statement.run, statement.schema
    table = root.table
    distinct = select.args.get("distinct") is not None
    if not distinct:
        selection.place(f"t0.{quoted(table.primary_id)}")
        selection.place("t0.versionnumber")
    for item in select.expressions:
        scope, column = statement.column(item.unalias())
        alias = item.alias if isinstance(item, exp.Alias) else ""
        name = alias or (column.property_name if scope is root else column.name)
        selection.add(scope, column, name, aliased=bool(alias))
    if not distinct:
        selection.add(root, table.columns[table.primary_id], table.primary_id)
    terms = []
    for node, descending in _order(select):
        scope, column = statement.column(node)
        terms.append(scope.sql(column) + (" DESC" if descending else ""))
    if distinct:
        terms += [str(place) for place in range(1, len(selection.sql) + 1)]
    else:  # pages need a total order
        terms += [scope.sql(scope.table.columns[scope.table.primary_id]) for scope in statement.scopes.values()]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = f" ORDER BY {', '.join(terms)}" if terms else ""
    size = min(limit if limit is not None else paging.size or PAGE, PAGE)
    start = paging.start
    sql = (
        f"SELECT {'DISTINCT ' if distinct else ''}{', '.join(selection.sql)} FROM {quoted(table.name)} t0 "
        f"{' '.join(statement.joins)}{where}{order} LIMIT {size + 1} OFFSET {offset + start}"
    )
    inputs = Inputs(statement.literals, run.now, run.caller.user, run.caller.business_unit, run.caller.teams)
    rows = run.connection.execute(sql, root.parameters.values(inputs)).fetchall()
    extra = []
    if len(rows) > size:
        rows = rows[:size]
        if limit is None:
            extra.append(f'"@odata.nextLink":{json.dumps(next_link(paging.url, paging.cookie(start + size, size)))}')
    shown = texts(run, schema, selection.outputs, rows, None if distinct else 1)
    return envelope(run.base, table.set_name, ",".join(o.name for o in selection.outputs), shown, extra), len(rows)


def _grouped(statement: Statement, select: exp.Select, conditions: list[str], limit: int | None) -> tuple[str, int]:
    root, run, schema = statement.root, statement.run, statement.schema
    groups: list[Group] = []
    measures: list[Measure] = []
    named: dict[str, str] = {}
    for item in select.expressions:
        inner, alias = item.unalias(), item.alias if isinstance(item, exp.Alias) else ""
        if isinstance(inner, exp.Count):
            target = inner.this
            if isinstance(target, exp.Star):
                measures.append(Measure(alias or "count", "count"))
            else:
                distinct = isinstance(target, exp.Distinct)
                scope, column = statement.column(target.expressions[0] if distinct else target)
                measures.append(Measure(alias or "count", "countcolumn", scope, column, distinct))
            named[inner.sql()] = measures[-1].name
        elif type(inner) in _AGGREGATES:
            scope, column = statement.column(inner.this)
            measures.append(Measure(alias or inner.key, _AGGREGATES[type(inner)], scope, column))
            named[inner.sql()] = measures[-1].name
        else:
            scope, column = statement.column(inner)
            groups.append(Group(alias or column.property_name, scope, column))
            named[inner.sql()] = groups[-1].name
    listed = select.args.get("group")
    wanted = [statement.column(node)[1].name for node in listed.expressions] if listed is not None else []
    if sorted(wanted) != sorted(group.column.name for group in groups):
        raise _bad("the columns that are not aggregated must be those of GROUP BY.")
    order = [(named.get(node.sql(), node.name), descending) for node, descending in _order(select)]
    rows = aggregate(
        run,
        schema,
        root,
        conditions,
        groups,
        measures,
        order,
        limit,
        statement.literals,
        joins=" ".join(statement.joins),
    )
    names = ",".join([group.name for group in groups] + [measure.name for measure in measures])
    return envelope(run.base, root.table.set_name, names, rows), len(rows)
