"""Builds metadata: what a new environment has, and the parts that every new table or column brings along."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.dataverse.model import Column, Option, Relationship, Schema, Table, stable_id

STANDARD = Path(__file__).parent / "standard"
_MONEY_LIMIT = 922_337_203_685_477.0

Part = tuple[Table, Column]


def label_of(name: str) -> str:
    return name[:1].upper() + name[1:]


def _read_only(name: str, kind: str, **more: Any) -> Column:
    return Column(name, kind, create=False, update=False, **more)


def system_columns(table: Table, states: list[Option], statuses: list[Option]) -> Iterator[Column]:
    """The columns that Dataverse gives to every table of this ownership."""
    yield _read_only("createdon", "DateTime", label="Created On")
    yield _read_only("modifiedon", "DateTime", label="Modified On")
    for name in ("createdby", "modifiedby", "createdonbehalfby", "modifiedonbehalfby"):
        yield _read_only(name, "Lookup", targets=["systemuser"])
    yield _read_only("versionnumber", "BigInt", label="Version Number")
    yield Column("overriddencreatedon", "DateTime", update=False, format="DateOnly", label="Record Created On")
    yield Column("importsequencenumber", "Integer", update=False)
    yield Column("timezoneruleversionnumber", "Integer")
    yield Column("utcconversiontimezonecode", "Integer")
    if states:
        yield Column("statecode", "State", options=states, default=states[0].value, required="SystemRequired")
        yield Column("statuscode", "Status", options=statuses, default=states[0].default_status)
    if table.user_owned:
        yield Column("ownerid", "Owner", targets=["systemuser", "team"], required="SystemRequired", label="Owner")
        yield _read_only("owningbusinessunit", "Lookup", targets=["businessunit"])
        yield _read_only("owninguser", "Lookup", targets=["systemuser"])
        yield _read_only("owningteam", "Lookup", targets=["team"])


def currency_columns() -> Iterator[Column]:
    """What a table with money needs beside it."""
    yield Column("transactioncurrencyid", "Lookup", targets=["transactioncurrency"], label="Currency")
    yield _read_only("exchangerate", "Decimal", precision=10, minimum=0.0, maximum=900_000_000.0)


def base_column(column: Column) -> Column:
    """The base-currency copy of a money column, kept by Dataverse."""
    name = f"{column.name}_base"
    return _read_only(
        name, "Money", schema_name=f"{column.schema_name}_Base", precision=4, label=f"{column.label} (Base)",
        custom=column.custom, minimum=-_MONEY_LIMIT, maximum=_MONEY_LIMIT,
    )  # fmt: skip


def complete(column: Column, table: Table) -> Column:
    """Fills in what a definition left open: ids, names, limits of the type."""
    column.schema_name = column.schema_name or column.name
    column.id = column.id or stable_id("column", table.name, column.name)
    column.label = column.label or label_of(column.name)
    if column.type == "String":
        column.length = column.length or 100
    elif column.type == "Memo":
        column.length = column.length or 1_048_576
    elif column.type == "Money":
        column.precision = column.precision if column.precision else 2
        column.minimum = -_MONEY_LIMIT if column.minimum is None else column.minimum
        column.maximum = _MONEY_LIMIT if column.maximum is None else column.maximum
    elif column.type == "Decimal":
        column.minimum = -1e11 if column.minimum is None else column.minimum
        column.maximum = 1e11 if column.maximum is None else column.maximum
    elif column.type == "Boolean" and not column.options:
        column.options = [Option(1, "Yes"), Option(0, "No")]
    return column


def add_columns(schema: Schema, table: Table, columns: list[Column]) -> list[Column]:
    """Adds columns with what they bring along (base money, currency); answers all that were added."""
    added: list[Column] = []

    def add(column: Column) -> None:
        if column.name not in table.columns:
            table.columns[column.name] = complete(column, table)
            column.number = len(table.columns)
            added.append(column)

    for column in columns:
        add(column)
        if column.type == "Money":
            for extra in currency_columns():
                add(extra)
            add(base_column(column))
    for column in added:
        if column.name in _COMMON_LOOKUPS and column.targets:
            link(schema, table, column, [f"{_COMMON_LOOKUPS[column.name]}_{table.name}"], [column.name], [""])
    return added


_COMMON_LOOKUPS = {
    "createdby": "lk_createdby", "modifiedby": "lk_modifiedby", "createdonbehalfby": "lk_createdonbehalfby",
    "modifiedonbehalfby": "lk_modifiedonbehalfby", "owningbusinessunit": "business_unit", "owninguser": "user",
    "owningteam": "team", "transactioncurrencyid": "TransactionCurrency", "ownerid": "owner",
}  # fmt: skip


def link(
    schema: Schema,
    table: Table,
    column: Column,
    names: list[str],
    navs: list[str],
    collections: list[str],
    *,
    on_delete: str = "RemoveLink",
    custom: bool = False,
) -> list[Relationship]:
    """The 1:N relationships behind a lookup column: one for each target (an owner has one for all)."""
    made = []
    for target, name, nav, collection in zip(column.targets, names, navs, collections, strict=False):
        relation = Relationship(
            schema_name=name, kind="1:N", referenced=target, referencing=table.name, attribute=column.name,
            nav_lookup=nav, nav_collection=collection, id=stable_id("relationship", name), custom=custom,
            cascade={"Assign": "NoCascade", "Delete": on_delete, "Merge": "NoCascade", "Reparent": "NoCascade",
                     "Share": "NoCascade", "Unshare": "NoCascade"},
        )  # fmt: skip
        schema.relationships[name] = relation
        made.append(relation)
    return made


def intersect_table(schema: Schema, name: str, first: str, second: str, set_name: str = "") -> Table:
    """The hidden table behind a many-to-many relationship."""
    table = Table(
        name, set_name or f"{name}collection", schema_name=name, id=stable_id("table", name), label=name, plural=name,
        primary_id=f"{name}id", ownership="None", intersect=True, bulk=False, otc=_next_otc(schema),
    )  # fmt: skip
    ids = [schema.tables[first].primary_id, schema.tables[second].primary_id]
    if first == second:
        ids = [f"{ids[0]}one", f"{ids[1]}two"]
    columns = [_read_only(table.primary_id, "Uniqueidentifier"), *(_read_only(i, "Uniqueidentifier") for i in ids)]
    columns.append(_read_only("versionnumber", "BigInt"))
    schema.tables[name] = table
    add_columns(schema, table, columns)
    return table


def intersect_ids(schema: Schema, relation: Relationship) -> tuple[str, str]:
    """The columns of the intersect table: of the first (`referenced`) and the second side."""
    first, second = schema.tables[relation.referenced].primary_id, schema.tables[relation.referencing].primary_id
    return (f"{first}one", f"{second}two") if first == second else (first, second)


def _next_otc(schema: Schema) -> int:
    return max([10_000, *(table.otc for table in schema.tables.values())]) + 1


def new_table(schema: Schema, table: Table, columns: list[Column], *, states: bool = True) -> list[Column]:
    """Registers a custom table with its system columns."""
    table.otc = _next_otc(schema)
    schema.tables[table.name] = table
    active = [Option(0, "Active", default_status=1), Option(1, "Inactive", default_status=2)] if states else []
    status = [Option(1, "Active", state=0), Option(2, "Inactive", state=1)] if states else []
    key = Column(
        table.primary_id, "Uniqueidentifier", schema_name=f"{table.schema_name}Id", required="SystemRequired",
        update=False, custom=True, label=table.label,
    )  # fmt: skip
    return add_columns(schema, table, [key, *columns, *system_columns(table, active, status)])


def standard_schema() -> Schema:
    """Metadata of a new environment, without rows."""
    schema = Schema()
    for file in ("system.toml", "sales.toml"):
        for name, source in tomllib.loads((STANDARD / file).read_text()).items():
            _standard_table(schema, name, source)
    for relation in tomllib.loads((STANDARD / "relationships.toml").read_text())["many_to_many"]:
        name, intersect = relation["name"], relation["intersect"]
        intersect_table(schema, intersect, relation["first"], relation["second"])
        schema.relationships[name] = Relationship(
            name, "N:N", relation["first"], relation["second"], nav_lookup=name, nav_collection=name,
            intersect=intersect, id=stable_id("relationship", name),
        )  # fmt: skip
    schema.changed()
    return schema


def _options(pairs: list[list[Any]]) -> list[Option]:
    return [Option(pair[0], pair[1]) for pair in pairs]


def _standard_table(schema: Schema, name: str, source: dict[str, Any]) -> None:
    table = Table(
        name, source["set"], schema_name=source.get("schema", label_of(name)), privilege=source.get("privilege", ""),
        id=stable_id("table", name), label=label_of(name), plural=label_of(re.sub("set$", "", source["set"])),
        primary_id=source.get("id", f"{name}id"), primary_name=source["name"],
        ownership=source.get("ownership", "UserOwned"), otc=source["otc"], activity=source.get("activity", False),
        change_tracking=source.get("change_tracking", False),
    )  # fmt: skip
    schema.tables[name] = table
    key = Column(table.primary_id, "Uniqueidentifier", required="SystemRequired", update=False)
    columns = [key]
    links = []
    for column_name, field in source["columns"].items():
        link_fields = {k: field.pop(k) for k in ("relationship", "relationships", "nav", "on_delete") if k in field}
        field["options"] = _options(field.get("options", []))
        field["auto_number"] = field.pop("number", "")
        column = Column(column_name, **field)
        columns.append(column)
        if column.targets and link_fields.get("relationship") != "":
            links.append((column, link_fields))
    states = [] if source.get("stateless") else [Option(s[0], s[1], default_status=s[2]) for s in source["states"]]
    statuses = [] if source.get("stateless") else [Option(s[0], s[1], state=s[2]) for s in source["statuses"]]
    columns += system_columns(table, states, statuses)
    if source.get("currency"):
        columns += currency_columns()
    add_columns(schema, table, columns)
    for column, fields in links:
        names = fields.get("relationships") or [fields["relationship"]]
        pattern = fields.get("nav") or (f"{column.name}_{{target}}" if len(column.targets) > 1 else column.name)
        navs = [pattern.format(target=target) for target in column.targets]
        link(schema, table, column, names, navs, names, on_delete=fields.get("on_delete", "RemoveLink"))
