"""`$select` and `$expand` of a table, compiled: which SQL columns to read and how a row becomes JSON text."""

import datetime
import fnmatch
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any

from local.dataverse.conditions import Inputs, Parameters
from local.dataverse.definitions import intersect_ids
from local.dataverse.errors import bad_query, no_property
from local.dataverse.filters import Scope
from local.dataverse.model import LOOKUPS, Column, Relationship, Schema, Table
from local.dataverse.odata import Expand, parse_expand, parse_filter, parse_order, tokenize
from local.dataverse.security import Caller, hidden_columns, visible
from local.dataverse.storage import quoted, type_column
from local.dataverse.values import Renderer, formatted, renderer

Row = Sequence[Any]
MOST_EXPANDS = 15
MOST_RELATED = 5000
_FORMATTED = "OData.Community.Display.V1.FormattedValue"
_TARGET = "Microsoft.Dynamics.CRM.lookuplogicalname"
_NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"
_CHUNKS = (1, 8, 64, 500)


@dataclass(slots=True)
class Run:
    """One read: where from, for whom, when, and how it wants its JSON."""

    connection: sqlite3.Connection
    caller: Caller
    now: datetime.datetime
    base: str  # absolute URL of the service root
    annotations: tuple[str, ...] = ()
    single: bool = False  # one row by its key: Microsoft's examples show an ETag behind its lookups, and none in lists

    def wants(self, annotation: str) -> bool:
        return any(fnmatch.fnmatchcase(annotation, pattern) for pattern in self.annotations)


@dataclass(slots=True)
class Field:
    prefix: str  # ',"name":'
    index: int
    render: Renderer
    column: Column
    type_index: int = -1


@dataclass(slots=True)
class Related:
    """One expanded navigation property."""

    name: str
    side: str
    projection: "Projection"
    key_index: int  # in the parent's row
    sql: Callable[[int, Caller], tuple[str, Parameters]]
    literals: list[tuple[str, str]]
    top: int | None
    reference: bool
    type_index: int = -1
    target: str = ""


@dataclass(slots=True)
class Projection:
    table: Table
    context: str  # what stands in parentheses after the set in @odata.context
    columns: list[str] = field(default_factory=list)  # SQL column names; the first two are id and version
    fields: list[Field] = field(default_factory=list)
    related: list[Related] = field(default_factory=list)
    schema: Schema = field(default_factory=Schema)

    def select_list(self, alias: str) -> str:
        return ", ".join(f"{alias}.{name}" for name in self.columns)

    def texts(self, run: Run, rows: Sequence[Row]) -> list[str]:
        """Each row as a JSON object."""
        extra = [related_texts(run, related, rows) for related in self.related]
        marks = self._annotations(run, rows) if run.annotations else None
        fields = self.fields
        texts = []
        for number, row in enumerate(rows):
            parts = [f'{{"@odata.etag":"W/\\"{row[1]}\\""']
            add = parts.append
            if marks is None:
                for item in fields:
                    value = row[item.index]
                    add(item.prefix)
                    add("null" if value is None else item.render(value))
            else:
                for item, mark in zip(fields, marks[number], strict=True):
                    value = row[item.index]
                    add(mark)
                    add(item.prefix)
                    add("null" if value is None else item.render(value))
            for texts_of_related in extra:
                add(texts_of_related[number])
            add("}")
            texts.append("".join(parts))
        return texts

    def _annotations(self, run: Run, rows: Sequence[Row]) -> list[list[str]]:
        """For each row, the annotations that stand before each field."""
        names = self._lookup_names(run, rows)
        show_text, show_target, show_navigation = run.wants(_FORMATTED), run.wants(_TARGET), run.wants(_NAVIGATION)
        symbol = "$"
        marks = []
        for row in rows:
            line = []
            for item in self.fields:
                value, column = row[item.index], item.column
                if value is None:
                    line.append("")
                    continue
                name, text = column.property_name, ""
                if column.type in LOOKUPS:
                    target = row[item.type_index] if item.type_index >= 0 else column.targets[0]
                    if show_target:
                        text += f',"{name}@{_TARGET}":"{target}"'
                    if show_navigation:
                        navigation = navigation_of(self.schema, self.table, column, target)
                        text += f',"{name}@{_NAVIGATION}":"{navigation}"'
                    shown = names.get((target, value))
                else:
                    shown = formatted(self.schema, column, value, symbol)
                if show_text and shown is not None:
                    text += f',"{name}@{_FORMATTED}":{encode_basestring(shown)}'
                line.append(text)
            marks.append(line)
        return marks

    def _lookup_names(self, run: Run, rows: Sequence[Row]) -> dict[tuple[str, str], str]:
        wanted: dict[str, set[str]] = {}
        for item in self.fields:
            if item.column.type not in LOOKUPS:
                continue
            for row in rows:
                if row[item.index] is not None:
                    target = row[item.type_index] if item.type_index >= 0 else item.column.targets[0]
                    wanted.setdefault(target, set()).add(row[item.index])
        return {
            (target, row_id): name
            for target, ids in wanted.items()
            for row_id, name in primary_names(run.connection, self.schema.tables[target], sorted(ids)).items()
        }


def primary_names(connection: sqlite3.Connection, table: Table, ids: Sequence[str]) -> dict[str, str]:
    """id -> display name, where there is one."""
    if not table.primary_name:
        return {}
    found: dict[str, str] = {}
    sql = f"SELECT {quoted(table.primary_id)}, {quoted(table.primary_name)} FROM {quoted(table.name)} WHERE "
    for chunk in chunks(ids):
        rows = connection.execute(f"{sql} {quoted(table.primary_id)} IN ({', '.join('?' * len(chunk))})", chunk)
        found.update((row[0], row[1]) for row in rows if row[1] is not None)
    return found


def navigation_of(schema: Schema, table: Table, column: Column, target: str) -> str:
    for name, (relation, side) in schema.navigation(table.name).items():
        if side == "one" and relation.attribute == column.name and relation.referenced == target:
            return name
    return column.name


def chunks(ids: Sequence[str]) -> list[list[str | None]]:
    """Ids in pieces of a few fixed sizes (padded with null), so that few statements are prepared."""
    pieces: list[list[str | None]] = []
    position = 0
    while position < len(ids):
        left = len(ids) - position
        size = next((size for size in _CHUNKS if size >= left), _CHUNKS[-1])
        piece: list[str | None] = list(ids[position : position + size])
        pieces.append(piece + [None] * (size - len(piece)))
        position += size
    return pieces


def related_texts(run: Run, related: Related, rows: Sequence[Row]) -> list[str]:
    """For each parent row, `,"nav":...`."""
    keys = {row[related.key_index] for row in rows if row[related.key_index] is not None}
    if related.type_index >= 0:
        keys = {
            row[related.key_index]
            for row in rows
            if row[related.key_index] is not None and row[related.type_index] == related.target
        }
    found: dict[str, list[Row]] = {}
    inputs = Inputs(related.literals, run.now, run.caller.user, run.caller.business_unit, run.caller.teams)
    for chunk in chunks(sorted(keys)):
        sql, parameters = related.sql(len(chunk), run.caller)
        for row in run.connection.execute(sql, [*chunk, *parameters.values(inputs)[len(chunk) :]]):
            found.setdefault(row[-1], []).append(row)
    if related.top is not None:
        found = {key: value[: related.top] for key, value in found.items()}
    flat = [row for group in found.values() for row in group]
    if related.reference:
        texts = [f'{{"@odata.id":"{run.base}/{related.projection.table.set_name}({row[0]})"}}' for row in flat]
    else:
        texts = related.projection.texts(run, flat)
        if related.side == "one" and not run.single:
            texts = ["{" + text.partition(",")[2] for text in texts]
    position = 0
    by_key: dict[str, list[str]] = {}
    for key, group in found.items():
        by_key[key] = texts[position : position + len(group)]
        position += len(group)
    prefix = f',"{related.name}":'
    answer = []
    for row in rows:
        mine = by_key.get(row[related.key_index], [])
        if related.type_index >= 0 and row[related.type_index] != related.target:
            mine = []
        if related.side == "one":
            answer.append(prefix + (mine[0] if mine else "null"))
        else:
            answer.append(f"{prefix}[{','.join(mine)}]")
    return answer


def compile_projection(
    schema: Schema, table: Table, caller: Caller, select: str | None, expand: str | None, depth: int = 0
) -> Projection:
    """Refuses unknown names as Dataverse does."""
    hidden = hidden_columns(schema, caller, table)
    chosen = _chosen(table, select)
    context = ",".join(column.property_name for column in chosen) if select else ""
    projection = Projection(table, context, [quoted(table.primary_id), "versionnumber"], schema=schema)
    places = {table.primary_id: 0, "versionnumber": 1}

    def place(name: str) -> int:
        if name not in places:
            places[name] = len(projection.columns)
            projection.columns.append(quoted(name))
        return places[name]

    for column in chosen:
        if column.name in hidden:
            index = len(projection.columns)
            projection.columns.append(f"{quoted(table.primary_id)} NOTNULL AND NULL")  # what may not be read is empty
        else:
            index = place(column.name)
        item = Field(f',"{column.property_name}":', index, renderer(column), column)
        if column.type in LOOKUPS and column.polymorphic:
            item.type_index = place(type_column(column.name))
        projection.fields.append(item)
    expands = parse_expand(expand) if expand else []
    if len(expands) > MOST_EXPANDS:
        raise bad_query(f"The number of $expand properties exceeds the maximum of {MOST_EXPANDS}.")
    names = []
    for part in expands:
        related = _related(
            schema, table, caller, part, place, depth, nested=any("$expand" in e.options for e in expands)
        )
        projection.related.append(related)
        names.append(f"{part.name}({related.projection.context})")
    projection.context = ",".join(filter(None, [context, *names]))
    return projection


def _chosen(table: Table, select: str | None) -> list[Column]:
    readable = [c for c in table.columns.values() if c.read and c.stored]
    if not select:
        return readable
    chosen: dict[str, Column] = {}
    by_property = {column.property_name: column for column in readable}
    for name in select.split(","):
        name = name.strip()
        if name == "*":
            chosen |= by_property
            continue
        column = by_property.get(name)
        if column is None:
            raise no_property(name[:100], table.name)
        chosen[name] = column
        if column.type == "Money" and "transactioncurrencyid" in table.columns:
            chosen["_transactioncurrencyid_value"] = table.columns["transactioncurrencyid"]
    key = table.columns[table.primary_id]
    chosen.setdefault(key.name, key)
    return list(chosen.values())


def _related(
    schema: Schema, table: Table, caller: Caller, part: Expand, place: Callable[[str], int], depth: int, *, nested: bool
) -> Related:
    relation, side = schema.navigation(table.name).get(part.name, (None, ""))
    if relation is None:
        raise no_property(part.name, table.name)
    options = part.options
    if part.reference and side != "one":
        raise bad_query("Expand with $ref is only supported on lookup type navigation property.")
    if (side == "one" or nested or depth) and ("$top" in options or "$orderby" in options):
        raise bad_query("Only $select and $filter clause can be provided while doing $expand on many-to-one relationship "
                        "or nested one-to-many relationship.")  # fmt: skip
    if side == "many-many" and (depth or "$expand" in options):
        raise bad_query("Many-to-many relationships cannot be expanded together with nested $expand.")
    if depth > 8:
        raise bad_query("The $expand option is nested too deeply.")
    if side == "many":
        target = schema.tables[relation.referencing]
    elif side == "one":
        target = schema.tables[relation.referenced]
    else:
        target = schema.tables[relation.referencing if relation.referenced == table.name else relation.referenced]
    inner = compile_projection(schema, target, caller, options.get("$select"), options.get("$expand"), depth + 1)
    top = None
    if "$top" in options:
        if not options["$top"].isdecimal():
            raise bad_query(f"Invalid value '{options['$top'][:40]}' for $top.")
        top = int(options["$top"])
    tokens = tokenize(options["$filter"]) if "$filter" in options else None
    if tokens is not None:
        parse_filter(tokens, options["$filter"])
    order = parse_order(options["$orderby"]) if "$orderby" in options else []

    def sql(count: int, who: Caller) -> tuple[str, Parameters]:
        parameters = Parameters()
        ids = ", ".join(parameters.constant(None) for _ in range(count))
        scope = Scope(schema, target, "t0", parameters)
        through, key, tie = "", "", ""
        if side == "one":
            key = f"t0.{quoted(target.primary_id)}"
        elif side == "many":
            key, tie = _tie(relation, target, table)
        else:
            through, key, tie = _through(schema, relation, table, target)
        conditions = [f"{key} IN ({ids})"]
        if tie:
            conditions.append(tie)
        if tokens is not None:
            conditions.append(scope.where(parse_filter(tokens, options["$filter"])))
        seen = visible(who, target, "t0", parameters)
        if seen:
            conditions.append(seen)
        terms = []
        for path, descending in order:
            at, column = scope.resolve(path)
            terms.append(at.sql(column) + (" DESC" if descending else ""))
        ordering = f" ORDER BY {', '.join(terms)}" if terms else f" ORDER BY t0.{quoted(target.primary_id)}"
        text = (
            f"SELECT {inner.select_list('t0')}, {key} FROM {through}{quoted(target.name)} t0 {' '.join(scope.joins)} "
            f"WHERE {' AND '.join(conditions)}{'' if side == 'one' else ordering}"
        )
        return text, parameters

    cached: dict[tuple[int, str], tuple[str, Parameters]] = {}

    def remembered(count: int, who: Caller) -> tuple[str, Parameters]:
        key = (count, "" if who.admin else who.user)
        if key not in cached:
            cached[key] = sql(count, who)
        return cached[key]

    attribute = table.columns[relation.attribute] if side == "one" else table.columns[table.primary_id]
    split = side == "one" and attribute.polymorphic and attribute.type != "Owner"
    return Related(
        part.name, side, inner, place(attribute.name), remembered, tokens.literals if tokens else [], top, part.reference,
        place(type_column(attribute.name)) if split else -1, relation.referenced if split else "",
    )  # fmt: skip


def _tie(relation: Relationship, child: Table, parent: Table) -> tuple[str, str]:
    column = child.columns[relation.attribute]
    split = column.polymorphic and column.type != "Owner"
    tie = f"t0.{quoted(type_column(column.name))} = '{parent.name}'" if split else ""
    return f"t0.{quoted(column.name)}", tie


def _through(schema: Schema, relation: Relationship, table: Table, target: Table) -> tuple[str, str, str]:
    mine, theirs = intersect_ids(schema, relation)
    if relation.referenced != table.name:
        mine, theirs = theirs, mine
    return (
        f"{quoted(relation.intersect)} x, ",
        f"x.{quoted(mine)}",
        f"x.{quoted(theirs)} = t0.{quoted(target.primary_id)}",
    )
