"""Reading rows: query options, pages with cookies, counts, single rows, navigation. Answers are JSON text."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, unquote_plus
from xml.sax.saxutils import quoteattr

from defusedxml.ElementTree import ParseError, fromstring

from local.dataverse.conditions import Inputs, Parameters, fetch_name, is_range
from local.dataverse.errors import Fault, bad_query
from local.dataverse.filters import Scope
from local.dataverse.model import LOOKUPS, Column, Schema, Table
from local.dataverse.odata import (
    Compare,
    Condition,
    Literal,
    Literals,
    Logic,
    Node,
    Path,
    Tokens,
    parse_filter,
    parse_order,
    tokenize,
)  # fmt: skip
from local.dataverse.projection import Projection, Row, Run, compile_projection
from local.dataverse.security import visible
from local.dataverse.storage import index_name, quoted
from local.dataverse.values import Sql, literal, renderer

PAGE = 5000
COUNT_LIMIT = 5000
_FEW = 20_000
_OPTIONS = frozenset({
    "$select", "$filter", "$orderby", "$top", "$expand", "$count", "$apply", "$skiptoken", "$deltatoken",
    "fetchXml", "savedQuery", "userQuery", "sql", "$id", "tag", "partitionId",
})  # fmt: skip


@dataclass(slots=True)
class Options:
    """Query options, decoded. `aliases` are the @p parameters."""

    values: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        return self.values.get(name)


def parse_options(query: str) -> Options:
    options = Options()
    if not query:
        return options
    for pair in query.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        if "%" in name or "+" in name:
            name = unquote_plus(name)
        if "%" in value or "+" in value:
            value = unquote(value.replace("+", " "))
        if name.startswith("@"):
            options.aliases[name] = value
        elif name.startswith("$") and name not in _OPTIONS:
            raise bad_query(f"The query parameter {name[:40]} is not supported.")
        elif name.startswith("$") and name in options.values:
            raise bad_query(
                f"Query option '{name}' was specified more than once, but it must be specified at most once."
            )
        else:
            options.values[name] = value
    return options


@dataclass(slots=True)
class Plan:
    """A compiled collection query."""

    projection: Projection
    source: str
    conditions: list[str]
    parameters: Parameters
    order: list[tuple[str, Column, bool]]  # (SQL, column, descending); ends with the primary key
    order_sql: str
    extra: str  # order columns read beside the projection, for the cookie
    narrow: "Narrow | None" = None

    def sql(self, paging: str = "", index: str = "") -> str:
        conditions = self.conditions
        if paging:
            # SQLite enters an index once; where the page begins beats any other bound on the column ordered by first
            head = re.escape(self.order[0][0])
            conditions = [re.sub(rf"(?<!\+){head} (>=|>|=) ", r"+\g<0>", each) for each in conditions]
            conditions.append(paging)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        source = self.source.replace(" t0 ", f" t0 INDEXED BY {index} ", 1) if index else self.source
        return (
            f"SELECT {self.projection.select_list('t0')}{self.extra} FROM {source}{where} ORDER BY {self.order_sql} "
            f"LIMIT ?{len(self.parameters.binds) + 1}"
        )


@dataclass(slots=True)
class Narrow:
    """An indexed date that the filter bounds. SQLite keeps no histogram, so whether its index is the better way is found by
    counting, up to a limit, what it would give, and what the lookups that the filter asks for (`others`) would."""

    index: str
    count: str  # SQL
    size: str  # SQL: about how many rows the table has
    parameters: Parameters
    ordered: bool  # the index gives the wanted order too
    others: tuple[tuple[str, Parameters], ...] = ()  # SQL of counts as above

    def helps(self, run: Run, inputs: Inputs, page: int) -> bool:
        """To sort all n rows found costs n; to meet a page of them walking N rows in the wanted order, page * N / n."""
        if self.ordered:
            return True
        rows = run.connection.execute(self.size).fetchone()[0] or 0
        few = min(_FEW, math.isqrt(page * rows))
        for count, parameters in self.others:
            few = min(few, run.connection.execute(count, [*parameters.values(inputs), few]).fetchone()[0])
        found: int = run.connection.execute(self.count, [*self.parameters.values(inputs), few + 1]).fetchone()[0]
        return found <= few


class Queries:
    """Compiles queries and keeps what it compiled."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._projections: dict[tuple[str, str | None, str | None, str], Projection] = {}
        self._plans: dict[tuple[str | None, ...], Plan] = {}
        self._generation = -1

    def forget(self) -> None:
        """Metadata or rights changed."""
        self._projections = {}
        self._plans = {}

    def projection(self, table: Table, run: Run, select: str | None, expand: str | None) -> Projection:
        key = (table.name, select, expand, "" if run.caller.admin else run.caller.user)
        found = self._projections.get(key)
        if found is None:
            if len(self._projections) > 4000:
                self._projections = {}
            found = self._projections[key] = compile_projection(self._schema, table, run.caller, select, expand)
        return found

    # --- one row ---

    def row(
        self, table: Table, run: Run, row_id: str, select: str | None, expand: str | None
    ) -> tuple[str, Projection, int] | None:
        """(JSON of the row, its projection, its version), or None if there is no such row."""
        projection = self.projection(table, run, select, expand)
        parameters = Parameters()
        seen = visible(run.caller, table, "t", parameters)
        if seen:
            from local.dataverse.security import check

            exists = run.connection.execute(
                f"SELECT 1 FROM {quoted(table.name)} WHERE {quoted(table.primary_id)} = ?", (row_id,)
            ).fetchone()
            if exists:
                check(run.caller, "Read", table, run.connection, row_id)
        sql = f"SELECT {projection.select_list('t')} FROM {quoted(table.name)} t WHERE t.{quoted(table.primary_id)} = ?"
        row = run.connection.execute(sql, (row_id,)).fetchone()
        if row is None:
            return None
        return projection.texts(replace(run, single=True), [row])[0], projection, row[1]

    # --- many rows ---

    def plan(
        self, table: Table, run: Run, options: Options, restrict: Callable[[Scope], str] | None, restrict_key: str
    ) -> tuple[Plan, Literals]:
        source = options.get("$filter")
        tokens = tokenize(source, options.aliases) if source is not None else None
        order = options.get("$orderby")
        if order and "@" in order:
            order = re.sub(r"@\w+", lambda m: options.aliases.get(m[0], m[0]), order)
        select, expand = options.get("$select"), options.get("$expand")
        user = "" if run.caller.admin else run.caller.user
        key = (table.name, select, expand, tokens.key if tokens else None, order, user, restrict_key)
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) > 4000:
                self._plans = {}
            projection = self.projection(table, run, select, expand)
            found = self._plans[key] = self._compile(table, run, projection, tokens, source or "", order, restrict)
        return found, tokens.literals if tokens else []

    def _compile(
        self, table: Table, run: Run, projection: Projection, tokens: Tokens | None, source: str, order: str | None,
        restrict: Callable[[Scope], str] | None,
    ) -> Plan:  # fmt: skip
        parameters = Parameters()
        scope = Scope(self._schema, table, "t0", parameters)
        conditions = []
        filtered: Node | None = None
        if restrict is not None:
            parameters.add(lambda inputs: inputs.literals[-1][1])  # the parent's id, always ?1
            conditions.append(restrict(scope))
        seen = visible(run.caller, table, "t0", parameters)
        if seen:
            conditions.append(seen)
        if tokens is not None:
            filtered = parse_filter(tokens, source)
            conditions.append(scope.where(filtered))
        terms = order_terms(scope, order)
        extra = "".join(f", {sql}" for sql, _, _ in terms)
        order_sql = ", ".join(f"{sql} DESC" if descending else sql for sql, _, descending in terms)
        return Plan(
            projection,
            f"{quoted(table.name)} t0 {' '.join(scope.joins)}",
            conditions,
            parameters,
            terms,
            order_sql,
            extra,
            _narrow(scope, filtered, terms),
        )

    def page(
        self,
        table: Table,
        run: Run,
        options: Options,
        *,
        page_size: int | None,
        restrict: Callable[[Scope], str] | None = None,
        restrict_key: str = "",
        parent: str = "",
    ) -> tuple[list[str], Plan, str | None, int | None]:
        """(rows as JSON, plan, cookie of the next page, count if asked for)."""
        plan, literals = self.plan(table, run, options, restrict, restrict_key)
        literals = [*literals, ("g", parent)] if restrict is not None else literals
        caller = run.caller
        inputs = Inputs(literals, run.now, caller.user, caller.business_unit, caller.teams)
        values = plan.parameters.values(inputs)
        top = _number(options.get("$top"), "$top")
        size = min(page_size or PAGE, PAGE)
        limit = size + 1
        if top is not None and page_size is None:
            size = limit = min(top, PAGE)
        paging, number = "", 1
        if options.get("$skiptoken") is not None:
            paging, number, more = self.resume(plan, options.get("$skiptoken") or "")
            values = values + more
            paging = self.numbered(paging, len(plan.parameters.binds))
        sql = plan.sql(paging, plan.narrow.index if plan.narrow and plan.narrow.helps(run, inputs, size) else "")
        if paging:  # the limit comes after the paging parameters
            sql = sql.rsplit("?", 1)[0] + f"?{len(values) + 1}"
        rows: list[Row] = run.connection.execute(sql, [*values, limit]).fetchall()
        cookie = None
        if len(rows) > size:
            rows = rows[:size]
            cookie = self.cookie(plan, rows, number + 1)
        count = None
        if options.get("$count") == "true":
            count = self.count(run, plan, values[: len(plan.parameters.binds)])
        elif options.get("$count") not in (None, "false"):
            raise bad_query("Invalid value for $count: it must be true or false.")
        return plan.projection.texts(run, rows), plan, cookie, count

    @staticmethod
    def count(run: Run, plan: Plan, values: list[Sql]) -> int:
        where = f" WHERE {' AND '.join(plan.conditions)}" if plan.conditions else ""
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {plan.source}{where} LIMIT {COUNT_LIMIT + 1})"
        return int(run.connection.execute(sql, values).fetchone()[0])

    @staticmethod
    def numbered(condition: str, before: int) -> str:
        """A condition of `resume` with its values numbered after `before` others."""
        return re.sub(r"\?\{(\d+)\}", lambda m: f"?{before + 1 + int(m[1])}", condition)

    # --- paging cookies: the order values of the last row, so that pages are found by key, however far ---

    @staticmethod
    def cookie(plan: Plan, rows: list[Row], number: int, offset: int | None = None) -> str:
        terms, width = plan.order, len(plan.projection.columns) if offset is None else offset
        parts = []
        for index, (_, column, _) in enumerate(terms):
            first, last = rows[0][width + index], rows[-1][width + index]
            parts.append(
                f"<{column.name}{_cookie_value(column, 'last', last)}{_cookie_value(column, 'first', first)} />"
            )
        inner = f'<cookie page="{number - 1}">{"".join(parts)}</cookie>'
        twice = quote(quote(inner, safe=""), safe="")
        return f'<cookie pagenumber="{number}" pagingcookie="{twice}" istracking="False" />'

    @staticmethod
    def resume(plan: Plan, token: str) -> tuple[str, int, list[Sql]]:
        """(condition with ?{n} for its n-th value, page number, values)."""
        broken = Fault(400, "0x80040203", "The paging cookie is malformed.")
        try:
            outer = fromstring(token)
            inner = fromstring(unquote(unquote(outer.get("pagingcookie", ""))))
            number = int(outer.get("pagenumber", "1"))
        except (ParseError, ValueError) as error:
            raise broken from error
        lasts = list(inner)
        if len(lasts) != len(plan.order):
            raise broken
        values: list[Sql] = []
        for element, (_, column, _) in zip(lasts, plan.order, strict=True):
            last = element.get("last")
            if element.tag != column.name:
                raise broken
            kind = "n" if column.type in ("Integer", "BigInt", "Decimal", "Money", "Double") else "s"
            values.append(None if last is None else literal(column, kind, last))
        branches = []
        for index, (sql, _, descending) in enumerate(plan.order):
            equal = [f"{plan.order[i][0]} IS ?{{{i}}}" for i in range(index)]
            if values[index] is None:
                beyond = "0" if descending else f"{sql} IS NOT NULL"
            elif descending:
                beyond = f"({sql} < ?{{{index}}} OR {sql} IS NULL)"
            else:
                beyond = f"{sql} > ?{{{index}}}"
            branches.append(f"({' AND '.join([*equal, beyond])})")
        if None not in values and not any(descending for _, _, descending in plan.order):
            columns, marks = (
                ", ".join(sql for sql, _, _ in plan.order),
                ", ".join(f"?{{{i}}}" for i in range(len(values))),
            )
            return f"({columns}) > ({marks})", number, values  # an index of all these columns starts at the right row
        condition = f"({' OR '.join(branches)})"
        head, descending = plan.order[0][0], plan.order[0][2]
        if values[0] is not None and not descending:  # lets the index of the first column start at the right place
            condition = f"{head} >= ?{{0}} AND {condition}"
        return condition, number, values


def _cookie_value(column: Column, name: str, value: Sql) -> str:
    if value is None:
        return f' {name}null="1"'
    if column.type in ("Uniqueidentifier",) or column.type in LOOKUPS:
        return f' {name}="{{{str(value).upper()}}}"'
    text = renderer(column)(value) if not isinstance(value, str) else value
    return f" {name}={quoteattr(text)}"


def order_terms(scope: Scope, order: str | None) -> list[tuple[str, Column, bool]]:
    """SQL of `$orderby`: a lookup sorts by the name of its row; the primary key makes the order total."""
    terms: list[tuple[str, Column, bool]] = []
    for path, descending in parse_order(order) if order else []:
        at, column = scope.resolve(path)
        sql = at.sql(column)
        if column.type in LOOKUPS and not column.polymorphic:
            for name, (relation, side) in scope.schema.navigation(at.table.name).items():
                if side == "one" and relation.attribute == column.name:
                    target = at.join(name)
                    if target.table.primary_name:
                        column = target.table.columns[target.table.primary_name]
                        sql = target.sql(column)
                    break
        terms.append((sql, column, descending))
    key = scope.table.columns[scope.table.primary_id]
    if not terms or terms[-1][1].name != key.name:
        terms.append((scope.sql(key), key, False))
    return terms


def _narrow(scope: Scope, node: Node | None, terms: list[tuple[str, Column, bool]]) -> Narrow | None:
    """The first indexed date of this table that the filter bounds for every row of the answer."""
    table = scope.table
    bounds: dict[str, list[Node]] = {}
    if node is None:
        return None
    together = node.parts if isinstance(node, Logic) and node.op == "and" else (node,)
    for part in together:
        if isinstance(part, Compare) and isinstance(part.left, Literal) != isinstance(part.right, Literal):
            path, value = (part.left, part.right) if isinstance(part.left, Path) else (part.right, part.left)
            bounded = part.op != "ne" and isinstance(value, Literal) and value.kind != "null"
        elif isinstance(part, Condition):
            path, bounded = part.path, is_range(fetch_name(part.name))
        else:
            continue
        column = table.columns.get(path.names[0]) if isinstance(path, Path) and len(path.names) == 1 else None
        if column is not None and column.indexed_date and bounded:
            bounds.setdefault(column.name, []).append(part)
    if not bounds:
        return None
    name, parts = next(iter(bounds.items()))
    count, parameters = _counted(scope, parts)
    column = table.columns[name]
    ordered = terms[0][0] == Scope(scope.schema, table, "t0", Parameters()).sql(column)
    return Narrow(
        quoted(index_name(table, column)), count, f"SELECT max(rowid) FROM {quoted(table.name)}", parameters, ordered,
        tuple(_counted(scope, [part]) for part in together if _is_lookup(scope, part)),
    )  # fmt: skip


def _counted(scope: Scope, parts: Sequence[Node]) -> tuple[str, Parameters]:
    """SQL that counts the rows that meet all parts, up to a limit, its last parameter."""
    parameters = Parameters()
    among = Scope(scope.schema, scope.table, "t0", parameters)
    where = " AND ".join(among.where(part) for part in parts)
    rows = f"SELECT 1 FROM {quoted(scope.table.name)} t0 WHERE {where} LIMIT ?{len(parameters.binds) + 1}"
    return f"SELECT count(*) FROM ({rows})", parameters


def _is_lookup(scope: Scope, part: Node) -> bool:
    """Whether this asks for the rows of one row of another table."""
    if not isinstance(part, Compare) or part.op != "eq":
        return False
    paths = [side for side in (part.left, part.right) if isinstance(side, Path)]
    if len(paths) != 1 or len(paths[0].names) != 1:
        return False
    return scope.resolve(paths[0])[1].type in LOOKUPS


def _number(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise bad_query(f"Invalid value '{text[:40]}' for {name} query option found. The {name} query option requires a "
                        "non-negative integer value.")  # fmt: skip
    return int(text)


def next_link(url: str, cookie: str) -> str:
    """The request's own URL with the cookie of the next page."""
    head, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair and not unquote(pair).startswith("$skiptoken=")]
    return f"{head}?{'&'.join([*kept, '$skiptoken=' + quote(cookie, safe=chr(34) + '=/ ')])}".replace(
        " ", "%20"
    ).replace('"', "%22")
