"""FetchXML -> SQL: columns, links, filters, order, paging with cookies, aggregation."""

import json
from dataclasses import dataclass, field
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from local.dataverse.conditions import Inputs
from local.dataverse.errors import Fault
from local.dataverse.filters import Scope
from local.dataverse.model import LOOKUPS, Column, Schema, Table
from local.dataverse.odata import Literals
from local.dataverse.projection import Projection, Run
from local.dataverse.queries import PAGE, Plan, Queries
from local.dataverse.security import visible
from local.dataverse.storage import quoted
from local.dataverse.tabular import AGGREGATE_LIMIT, Group, Measure, Selection, aggregate, envelope, new_scope, texts
from local.dataverse.values import Sql

MOST_LINKS, MOST_CONDITIONS, SIMPLE_PAGING = 15, 500, 50_000
_MEASURES = {"sum": "sum", "avg": "average", "min": "min", "max": "max", "count": "count", "countcolumn": "countcolumn"}


def _bad(message: str, code: str = "0x80040203") -> Fault:
    return Fault(400, code, message)


def parse(text: str) -> Element:
    """The <fetch> element; hostile and broken XML is refused."""
    try:
        root: Element = fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise _bad(f"Invalid XML in the FetchXML query: {type(error).__name__}.", "0x80041114") from None
    if root.tag != "fetch":
        raise _bad("Invalid FetchXML: the root element must be <fetch>.", "0x80041114")
    return root


def _whole(element: Element, name: str) -> int | None:
    value = element.get(name)
    if value is None:
        return None
    if not value.isdecimal() or len(value) > 9:
        raise _bad(f"The attribute '{name}' of <{element.tag}> must be a whole number; it is '{value[:40]}'.")
    return int(value)


def _yes(element: Element, name: str) -> bool:
    return element.get(name, "false").lower() in ("true", "1")


@dataclass(slots=True)
class Compiler:
    schema: Schema
    run: Run
    root: Scope
    selection: Selection
    literals: Literals = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    joins: list[str] = field(default_factory=list)
    order: list[tuple[Scope, Column, bool]] = field(default_factory=list)
    aliases: dict[str, Scope] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    aggregate_order: list[tuple[str, bool]] = field(default_factory=list)
    columns: dict[str, tuple[Scope, Column]] = field(default_factory=dict)  # alias -> column
    links: int = 0
    counted: int = 0

    def column(self, scope: Scope, name: str | None) -> Column:
        column = scope.table.columns.get(name or "")
        if column is None:
            raise _bad(f"'{scope.table.name}' entity doesn't contain attribute with Name = '{(name or '')[:100]}' and "
                       "NameMapping = 'Logical'.", "0x80041103")  # fmt: skip
        return column

    def entity(self, element: Element, scope: Scope, prefix: str, *, aggregated: bool) -> None:
        filters = []
        for child in element:
            if child.tag == "attribute":
                self.attribute(child, scope, prefix, aggregated=aggregated)
            elif child.tag == "all-attributes":
                for column in scope.table.columns.values():
                    name = f"{prefix}{column.name}" if prefix else column.property_name
                    self.selection.add(scope, column, name, aliased=bool(prefix))
            elif child.tag == "order":
                self.orders(child, scope, aggregated=aggregated)
            elif child.tag == "filter":
                filters.append(child)
            elif child.tag == "link-entity":
                self.link(child, scope, aggregated=aggregated)
            elif child.tag != "no-attrs":
                raise _bad(f"Invalid Child Node, valid nodes are filter, order, link-entity, attribute, all-attributes. "
                           f"NodeName = {child.tag[:60]}", "0x80041114")  # fmt: skip
        for child in filters:  # after the links: their aliases may be named
            text = self.filter(child, scope)
            if text:
                self.conditions.append(text)

    def attribute(self, element: Element, scope: Scope, prefix: str, *, aggregated: bool) -> None:
        column = self.column(scope, element.get("name"))
        alias = element.get("alias")
        if not aggregated:
            name = alias or (f"{prefix}{column.name}" if prefix else column.property_name)
            self.selection.add(scope, column, name, aliased=bool(alias or prefix))
            if alias:
                self.columns[alias] = (scope, column)
            return
        if not alias:
            raise _bad("Alias is required for attributes of an aggregate query.")
        if _yes(element, "groupby"):
            self.groups.append(Group(alias, scope, column, element.get("dategrouping", "")))
            return
        kind = element.get("aggregate")
        if kind not in _MEASURES:
            raise _bad(f"The attribute '{column.name}' of an aggregate query needs 'aggregate' or 'groupby'.")
        self.measures.append(Measure(alias, _MEASURES[kind], scope, column, _yes(element, "distinct")))

    def orders(self, element: Element, scope: Scope, *, aggregated: bool) -> None:
        descending, alias = _yes(element, "descending"), element.get("alias")
        if aggregated:
            self.aggregate_order.append((alias or "", descending))
            return
        at = scope
        if element.get("entityname"):
            at = self.alias(element.get("entityname") or "")
        if alias and not element.get("attribute"):
            if alias not in self.columns:
                raise _bad(f"The order names the alias '{alias[:60]}' that no attribute has.")
            at, column = self.columns[alias]
        else:
            column = self.column(at, element.get("attribute"))
        self.order.append((at, column, descending))

    def alias(self, name: str) -> Scope:
        if name not in self.aliases:
            raise _bad(f"No link-entity has the alias '{name[:60]}'.")
        return self.aliases[name]

    def link(self, element: Element, parent: Scope, *, aggregated: bool) -> None:
        self.links += 1
        if self.links > MOST_LINKS:
            raise _bad(
                f"Number of link entities in the query exceeded the maximum limit of {MOST_LINKS}.", "0x8004430d"
            )
        name = element.get("name", "")
        table = self.schema.tables.get(name)
        if table is None:
            raise _bad(f"The entity with a name = '{name[:100]}' was not found in the MetadataCache.", "0x80041102")
        scope = Scope(self.schema, table, self.root.fresh(), self.root.parameters, self.joins, self.root.counter)
        near = self.column(scope, element.get("from") or self._default(table, parent.table, near=True))
        far = self.column(parent, element.get("to") or self._default(table, parent.table, near=False))
        kind = element.get("link-type", "inner")
        alias = element.get("alias") or f"{name}{self.links}"
        on = [f"{scope.sql(near)} = {parent.sql(far)}"]
        seen = visible(self.run.caller, table, scope.alias, self.root.parameters)
        if seen:
            on.append(seen)
        if kind in ("any", "not any", "exists", "in", "all", "not all"):
            inner = Compiler(self.schema, self.run, self.root, Selection(self.schema, self.run), self.literals)
            inner.entity(element, scope, "", aggregated=False)
            inside = " AND ".join([*on, *inner.conditions])
            text = f"EXISTS (SELECT 1 FROM {quoted(table.name)} {scope.alias} {' '.join(inner.joins)} WHERE {inside})"
            self.conditions.append(f"NOT {text}" if kind.startswith("not") else text)
            return
        if kind not in ("inner", "outer"):
            raise _bad(f"The link-type '{kind[:40]}' is not supported.")
        self.aliases[alias] = scope
        before = len(self.conditions)
        place = len(self.joins)
        self.joins.append("")
        self.entity(element, scope, f"{alias}.", aggregated=aggregated)
        if kind == "outer":  # conditions of an outer link restrict what is linked, not the parent
            on += self.conditions[before:]
            del self.conditions[before:]
        join = "LEFT JOIN" if kind == "outer" else "JOIN"
        self.joins[place] = f"{join} {quoted(table.name)} {scope.alias} ON {' AND '.join(on)}"

    def _default(self, table: Table, parent: Table, *, near: bool) -> str:
        """The columns of a link that names none: the one relationship between the two tables."""
        for relation in self.schema.relationships.values():
            if relation.kind == "1:N" and (relation.referenced, relation.referencing) == (table.name, parent.name):
                return table.primary_id if near else relation.attribute
            if relation.kind == "1:N" and (relation.referencing, relation.referenced) == (table.name, parent.name):
                return relation.attribute if near else parent.primary_id
        raise _bad(f"The link-entity '{table.name}' needs 'from' and 'to'.")

    def filter(self, element: Element, scope: Scope, depth: int = 0) -> str:
        if depth > 32:
            raise _bad("The filters are nested too deeply.")
        parts = []
        for child in element:
            if child.tag == "condition":
                parts.append(self.condition(child, scope))
            elif child.tag == "filter":
                text = self.filter(child, scope, depth + 1)
                if text:
                    parts.append(text)
            elif child.tag == "link-entity":
                before = len(self.conditions)
                self.link(child, scope, aggregated=False)
                parts += self.conditions[before:]
                del self.conditions[before:]
            else:
                raise _bad(f"Invalid Child Node of filter. NodeName = {child.tag[:60]}", "0x80041114")
        word = element.get("type", "and").lower()
        if word not in ("and", "or"):
            raise _bad(f"The filter type '{word[:40]}' must be 'and' or 'or'.")
        return f"({f' {word.upper()} '.join(parts)})" if parts else ""

    def condition(self, element: Element, scope: Scope) -> str:
        self.counted += 1
        if self.counted > MOST_CONDITIONS:
            raise _bad("Number of conditions in the query exceeded the maximum limit.", "0x8004430c")
        at = self.alias(element.get("entityname") or "") if element.get("entityname") else scope
        column = self.column(at, element.get("attribute"))
        operator = element.get("operator", "")
        if element.get("valueof"):
            other_name = element.get("valueof") or ""
            other_scope = at
            if "." in other_name:
                alias, _, other_name = other_name.partition(".")
                other_scope = self.alias(alias)
            other = self.column(other_scope, other_name)
            sign = {"eq": "=", "ne": "IS NOT", "neq": "IS NOT", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}.get(
                operator
            )
            if sign is None or other.scale != column.scale:
                raise _bad(f"The columns '{column.name}' and '{other.name}' cannot be compared with '{operator[:40]}'.")
            return f"{at.sql(column)} {sign} {other_scope.sql(other)}"
        given = [child.text or "" for child in element if child.tag == "value"]
        if element.get("value") is not None:
            given.insert(0, element.get("value") or "")
        indexes = []
        for value in given:
            indexes.append(len(self.literals))
            self.literals.append(
                ("s", value.strip("{}") if column.type in LOOKUPS or column.type == "Uniqueidentifier" else value)
            )
        return at.condition(column, operator, indexes)


def execute(
    queries: Queries, schema: Schema, table: Table, run: Run, text: str, page_size: int | None = None
) -> tuple[str, int]:
    """(JSON of the answer, number of rows)."""
    fetch = parse(text)
    entity = next((child for child in fetch if child.tag == "entity"), None)
    if entity is None or len(fetch) != 1:
        raise _bad("Invalid FetchXML: <fetch> must hold one <entity>.", "0x80041114")
    name = entity.get("name", "")
    if name not in schema.tables:
        raise _bad(f"The entity with a name = '{name[:100]}' was not found in the MetadataCache.", "0x80041102")
    if name != table.name:
        raise _bad(f"The entity '{name}' of the query does not match the entity set '{table.set_name}'.")
    aggregated = _yes(fetch, "aggregate")
    root = new_scope(schema, table)
    compiler = Compiler(schema, run, root, Selection(schema, run))
    if not aggregated and not _yes(fetch, "distinct"):
        compiler.selection.place(f"t0.{quoted(table.primary_id)}")
        compiler.selection.place("t0.versionnumber")
    seen = visible(run.caller, table, "t0", root.parameters)
    if seen:
        compiler.conditions.append(seen)
    compiler.entity(entity, root, "", aggregated=aggregated)
    top = _whole(fetch, "top")
    if aggregated:
        limit = min(_whole(fetch, "aggregatelimit") or AGGREGATE_LIMIT, AGGREGATE_LIMIT)
        rows = aggregate(
            run, schema, root, compiler.conditions, compiler.groups, compiler.measures, compiler.aggregate_order, top,
            compiler.literals, limit, joins=" ".join(compiler.joins),
        )  # fmt: skip
        names = ",".join([group.name for group in compiler.groups] + [measure.name for measure in compiler.measures])
        return envelope(run.base, table.set_name, names, rows), len(rows)
    return _rows(queries, schema, table, run, fetch, compiler, top, page_size)


def _rows(
    queries: Queries, schema: Schema, table: Table, run: Run, fetch: Element, compiler: Compiler, top: int | None,
    page_size: int | None,
) -> tuple[str, int]:  # fmt: skip
    root, selection = compiler.root, compiler.selection
    distinct = _yes(fetch, "distinct")
    if not distinct:
        selection.add(root, table.columns[table.primary_id], table.primary_id)
    if not selection.outputs:
        raise _bad("The query selects no attributes.")
    terms = [(scope.sql(column), column, descending) for scope, column, descending in compiler.order]
    own = all(scope is root for scope, _, _ in compiler.order)
    if not distinct:
        key = table.columns[table.primary_id]
        terms.append((root.sql(key), key, False))
    order_sql = ", ".join(f"{sql} DESC" if descending else sql for sql, _, descending in terms)
    extra = "".join(f", {sql}" for sql, _, _ in terms)
    plan = Plan(
        Projection(table, "", list(selection.sql)), f"{quoted(table.name)} t0 {' '.join(compiler.joins)}",
        compiler.conditions, root.parameters, terms, order_sql, extra,
    )  # fmt: skip
    count = _whole(fetch, "count")
    page = _whole(fetch, "page") or 1
    size = min(count or page_size or PAGE, PAGE)
    if top is not None:
        if count is not None or fetch.get("page"):
            raise _bad("The attribute 'top' cannot be used together with 'count' or 'page'.")
        size = min(top, PAGE)
    inputs = Inputs(compiler.literals, run.now, run.caller.user, run.caller.business_unit, run.caller.teams)
    values = root.parameters.values(inputs)
    paging, offset = "", 0
    cookie = fetch.get("paging-cookie")
    if page > 1 and cookie and own and not distinct:
        plain = unquote(cookie) if "%3c" in cookie.lower() else cookie
        token = f'<cookie pagenumber="{page}" pagingcookie="{_escaped(plain)}" />'
        condition_sql, _, more = queries.resume(plan, token)
        paging = queries.numbered(condition_sql, len(values))
        values = values + more
    elif page > 1:
        offset = (page - 1) * size
        if offset >= SIMPLE_PAGING:
            raise _bad(f"Paging without a cookie stops at {SIMPLE_PAGING} rows: use the paging cookie.", "0x80040203")
    conditions = [*plan.conditions, paging] if paging else plan.conditions
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    ordering = f" ORDER BY {order_sql}" if order_sql else ""
    sql = (
        f"SELECT {'DISTINCT ' if distinct else ''}{', '.join(selection.sql)}{extra} FROM {plan.source}{where}{ordering} "
        f"LIMIT {size + 1} OFFSET {offset}"
    )
    found = run.connection.execute(sql, values).fetchall()
    more_rows = len(found) > size and top is None
    rows = found[:size]
    shown = texts(run, schema, selection.outputs, rows, None if distinct else 1)
    head = []
    if run.wants("Microsoft.Dynamics.CRM.totalrecordcount"):
        head.append(f'"@Microsoft.Dynamics.CRM.totalrecordcount":{_total(run, plan, values, fetch)}')
        head.append('"@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded":false')
    if run.wants("Microsoft.Dynamics.CRM.morerecords"):
        head.append(f'"@Microsoft.Dynamics.CRM.morerecords":{str(more_rows).lower()}')
    if more_rows and own and not distinct and run.wants("Microsoft.Dynamics.CRM.fetchxmlpagingcookie"):
        text = queries.cookie(plan, rows, page + 1, offset=len(selection.sql))
        head.append(f'"@Microsoft.Dynamics.CRM.fetchxmlpagingcookie":{json.dumps(text)}')
    names = ",".join(output.name for output in selection.outputs)
    return envelope(run.base, table.set_name, names, shown, head), len(rows)


def _total(run: Run, plan: Plan, values: list[Sql], fetch: Element) -> int:
    if not _yes(fetch, "returntotalrecordcount"):
        return -1
    return Queries.count(run, plan, values[: len(plan.parameters.binds)])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
