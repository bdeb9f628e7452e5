"""`$filter` -> SQL over one table and what it joins."""

from dataclasses import dataclass, field

from local.dataverse.conditions import (
    HIERARCHY,
    Parameters,
    bind_literal,
    compare,
    condition,
    fetch_name,
    text_condition,
)
from local.dataverse.definitions import intersect_ids
from local.dataverse.errors import bad_query, no_property
from local.dataverse.model import LOOKUPS, TEXTS, Column, Relationship, Schema, Table
from local.dataverse.odata import Compare, Condition, In, Lambda, Literal, Logic, Node, Not, Path, Text
from local.dataverse.storage import quoted, type_column


@dataclass(slots=True)
class Scope:
    """A table under an alias, the joins hung on it, and the parameters of the whole statement."""

    schema: Schema
    table: Table
    alias: str
    parameters: Parameters
    joins: list[str] = field(default_factory=list)
    counter: list[int] = field(default_factory=lambda: [0])
    variables: dict[str, "Scope"] = field(default_factory=dict)
    _joined: dict[str, "Scope"] = field(default_factory=dict)

    def fresh(self) -> str:
        self.counter[0] += 1
        return f"t{self.counter[0]}"

    def column(self, name: str) -> Column:
        """The column behind a property name."""
        column = self.table.columns.get(name)
        if column is not None and column.type not in LOOKUPS:
            return column
        if name.startswith("_") and name.endswith("_value"):
            lookup = self.table.columns.get(name[1:-6])
            if lookup is not None and lookup.type in LOOKUPS:
                return lookup
        raise no_property(name, self.table.name)

    def sql(self, column: Column) -> str:
        return f"{self.alias}.{quoted(column.name)}"

    def join(self, name: str) -> "Scope":
        """The scope of the row that a single-valued navigation property points at."""
        if name in self._joined:
            return self._joined[name]
        relation, side = self.schema.navigation(self.table.name).get(name, (None, ""))
        if relation is None:
            raise no_property(name, self.table.name)
        if side != "one":
            raise bad_query(f"The parent value for a property access of a property '{name}' is not a single value. "
                            "Property access can only be applied to a single value.")  # fmt: skip
        target = self.schema.tables[relation.referenced]
        alias = self.fresh()
        column = self.table.columns[relation.attribute]
        on = f"{alias}.{quoted(target.primary_id)} = {self.sql(column)}"
        if column.polymorphic and column.type != "Owner":
            on += f" AND {self.alias}.{quoted(type_column(column.name))} = '{target.name}'"
        self.joins.append(f"LEFT JOIN {quoted(target.name)} {alias} ON {on}")
        scope = Scope(self.schema, target, alias, self.parameters, self.joins, self.counter, self.variables)
        self._joined[name] = scope
        return scope

    def resolve(self, path: Path) -> tuple["Scope", Column]:
        names = path.names
        scope: Scope = self
        if len(names) > 1 and names[0] in self.variables:
            scope = self.variables[names[0]]
            names = names[1:]
        if len(names) > 8:
            raise bad_query("The path of a property is too long.")
        for name in names[:-1]:
            scope = scope.join(name)
        return scope, scope.column(names[-1])

    # --- conditions ---

    def where(self, node: Node) -> str:
        if isinstance(node, Logic):
            return f"({f' {node.op.upper()} '.join(self.where(part) for part in node.parts)})"
        if isinstance(node, Not):
            return f"({self.where(node.part)}) IS NOT 1"
        if isinstance(node, Compare):
            return self._compare(node)
        if isinstance(node, Text):
            scope, column = self.resolve(node.path)
            if column.type not in TEXTS:
                raise bad_query(f"No function signature for the function with name '{node.op}' matches the specified "
                                f"arguments: '{column.property_name}' is not a string.")  # fmt: skip
            return text_condition(scope.sql(column), node.op, node.value.index, node.wild, self.parameters)
        if isinstance(node, In):
            scope, column = self.resolve(node.path)
            return condition(scope.sql(column), column, "in", [value.index for value in node.values], self.parameters)
        if isinstance(node, Condition):
            scope, column = self._named(node.path)
            indexes = [value.index for value in node.values]
            return scope.condition(column, fetch_name(node.name), indexes)
        return self._lambda(node)

    def condition(self, column: Column, name: str, indexes: list[int]) -> str:
        """Any condition on a column of this scope, by its FetchXML name."""
        if name in HIERARCHY:
            return self._hierarchy(column, name, indexes)
        return condition(self.sql(column), column, name, indexes, self.parameters)

    def _hierarchy(self, column: Column, name: str, indexes: list[int]) -> str:
        """Rows above or below a row. A loop in the hierarchy ends: each row is met once."""
        table, key = quoted(self.table.name), quoted(self.table.primary_id)
        relation = next((r for r in self.schema.references_to(self.table.name) if r.hierarchical), None)
        if relation is None or column.name != self.table.primary_id:
            raise bad_query(f"The condition '{name}' needs the primary key of a table with a hierarchical relationship; "
                            f"'{column.name}' of '{self.table.name}' is none.")  # fmt: skip
        if len(indexes) != 1:
            raise bad_query(f"The condition '{name}' takes 1 value(s).")
        parent, start = quoted(relation.attribute), self.parameters.add(bind_literal(column, indexes[0]))
        if name.endswith("above"):
            first, step = f"SELECT {parent} FROM {table} WHERE {key} = {start}", f"SELECT r.{parent} FROM {table} r "
            step += f"JOIN line ON r.{key} = line.id WHERE r.{parent} IS NOT NULL"
        else:
            first, step = f"SELECT {key} FROM {table} WHERE {parent} = {start}", f"SELECT r.{key} FROM {table} r "
            step += f"JOIN line ON r.{parent} = line.id"
        if name.startswith("eq-or"):
            first = f"SELECT {start}"
        line = f"(WITH RECURSIVE line(id) AS ({first} UNION {step}) SELECT id FROM line WHERE id IS NOT NULL)"
        return f"{self.sql(column)} {'NOT IN' if name.startswith('not') else 'IN'} {line}"

    def _named(self, path: Path) -> tuple["Scope", Column]:
        """Query functions name lookups by their logical name."""
        column = self.table.columns.get(path.names[0])
        if len(path.names) == 1 and column is not None:
            return self, column
        return self.resolve(path)

    def _compare(self, node: Compare) -> str:
        left, right, operator = node.left, node.right, node.op
        if isinstance(left, Literal) and isinstance(right, Literal):
            raise bad_query("A comparison needs a property on one side at least.")
        if isinstance(left, Literal):
            left, right = right, left
            operator = {"gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}.get(operator, operator)
        assert isinstance(left, Path)
        scope, column = self.resolve(left)
        sql = scope.sql(column)
        if isinstance(right, Path):
            other_scope, other = self.resolve(right)
            if other.scale != column.scale or (other.type in TEXTS) != (column.type in TEXTS):
                raise bad_query(f"The columns '{column.name}' and '{other.name}' cannot be compared.")
            return compare(sql, operator, other_scope.sql(other))
        if right.kind == "null":
            if operator not in ("eq", "ne"):
                return "0"
            return f"{sql} IS {'NOT ' if operator == 'ne' else ''}NULL"
        return compare(sql, operator, self.parameters.add(bind_literal(column, right.index)))

    def _lambda(self, node: Lambda) -> str:
        scope: Scope = self
        names = node.path.names
        if names[0] in self.variables:
            scope, names = self.variables[names[0]], names[1:]
        for name in names[:-1]:
            scope = scope.join(name)
        inner, link, through = scope.collection(names[-1])
        inner.variables = self.variables | {node.variable: inner}
        body = inner.where(node.body) if node.body is not None else "1"
        source = f"{through}{quoted(inner.table.name)} {inner.alias} {' '.join(inner.joins)}"
        if node.every:
            return f"NOT EXISTS (SELECT 1 FROM {source} WHERE {link} AND ({body}) IS NOT 1)"
        return f"EXISTS (SELECT 1 FROM {source} WHERE {link} AND {body})"

    def collection(self, name: str) -> tuple["Scope", str, str]:
        """(scope of the related rows, condition that ties them to this row, joins needed before them)."""
        relation, side = self.schema.navigation(self.table.name).get(name, (None, ""))
        if relation is None:
            raise no_property(name, self.table.name)
        if side == "one":
            raise bad_query(f"Any/All may only be used following a collection; '{name}' is a single value.")
        alias = self.fresh()
        if side == "many":
            table = self.schema.tables[relation.referencing]
            scope = Scope(self.schema, table, alias, self.parameters, counter=self.counter)
            return scope, self._link(relation, table, alias), ""
        first = relation.referenced == self.table.name
        table = self.schema.tables[relation.referencing if first else relation.referenced]
        ids = intersect_ids(self.schema, relation)
        mine, theirs = ids if first else ids[::-1]
        between = self.fresh()
        scope = Scope(self.schema, table, alias, self.parameters, counter=self.counter)
        link = (
            f"{between}.{quoted(mine)} = {self.alias}.{quoted(self.table.primary_id)} "
            f"AND {between}.{quoted(theirs)} = {alias}.{quoted(table.primary_id)}"
        )
        return scope, link, f"{quoted(relation.intersect)} {between}, "

    def _link(self, relation: Relationship, table: Table, alias: str) -> str:
        column = table.columns[relation.attribute]
        link = f"{alias}.{quoted(column.name)} = {self.alias}.{quoted(self.table.primary_id)}"
        if column.polymorphic and column.type != "Owner":
            link += f" AND {alias}.{quoted(type_column(column.name))} = '{self.table.name}'"
        return link
