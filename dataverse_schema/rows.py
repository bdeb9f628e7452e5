"""Programmes as source: one programme with its tiers and earn rules a file, created in one change set or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from connector.dataverse import BadRequest, Create, DataverseClient

from .api import Json, WebApi, text
from .model import SOURCE, Column, Model, SourceError, Table, component_id, read_toml
from .tables import Action


@dataclass(frozen=True)
class Program:
    """A programme ready to be written. Ids are derived from the code: a repeated install cannot make a second one."""

    code: str
    writes: tuple[Create, ...]


def programs(model: Model, source: Path = SOURCE) -> dict[str, Program]:
    """Code -> programme, for every file in `data/`. Raises `SourceError`."""
    found = [load_program(model, path) for path in sorted((source / "data").glob("*.toml"))]
    return {program.code: program for program in found}


def load_program(model: Model, path: Path) -> Program:
    raw = read_toml(path)
    place = f"data/{path.name}"
    if unknown := raw.keys() - {"program", "tiers", "earn_rules"}:
        raise SourceError(f"{place}: unknown part {sorted(unknown)[0]}")
    code = raw.get("program", {}).get("loy_code")
    if not code:
        raise SourceError(f"{place}: program: loy_code is missing")
    writes = [_create(model, "loy_program", code, raw["program"], f"{place}: program")]
    parent = f"/{model.by_name['loy_program'].entity_set}({component_id('loy_program', code)})"
    for part, table, name in (("tiers", "loy_tier", "loy_code"), ("earn_rules", "loy_earnrule", "loy_version")):
        rows = raw.get(part, [])
        if not rows:
            raise SourceError(f"{place}: {part} is empty")
        for row in rows:
            where = f"{place}: {part} {row.get(name, '?')}"
            create = _create(model, table, f"{code}/{row.get(name)}", row, where)
            writes.append(Create(create.path, dict(create.row) | {"loy_ProgramId@odata.bind": parent}))
    return Program(code, tuple(writes))


def plan_program(api: WebApi, client: DataverseClient, program: Program) -> Sequence[Action]:
    """Nothing if a programme with this code exists, whoever made it: then it is the company's."""
    try:
        present = api.rows(f"loy_programs?$select=loy_programid&$filter=loy_code eq {text(program.code)}")
    except BadRequest:
        # An installation that was interrupted has the table and not yet its columns.
        present = []
    if present:
        return []
    title = f"Create programme {program.code} with its tiers and earn rule"
    return [Action(title, lambda _: client.commit(program.writes))]


def _create(model: Model, table_name: str, key: str, raw: Json, place: str) -> Create:
    table = model.by_name[table_name]
    row: Json = {table.primary_id: str(component_id(table_name, key))}
    for name, value in raw.items():
        row[name] = _value(table, name, value, place)
    for column in table.columns:
        if column.required and not column.is_lookup and column.logical_name not in row:
            raise SourceError(f"{place}: {column.logical_name} is missing")
    return Create(table.entity_set, row)


def _value(table: Table, name: str, value: Any, place: str) -> Any:
    if table.primary_name and name == table.primary_name.logical_name:
        return str(value)
    try:
        column = table.column(name)
    except KeyError:
        raise SourceError(f"{place}: {table.logical_name} has no column {name}") from None
    if column.type == "Picklist":
        for option, label in column.options:
            if label == value:
                return option
        raise SourceError(f"{place}: {name}: {value!r} is not one of {', '.join(label for _, label in column.options)}")
    return _plain(column, value, f"{place}: {name}")


def _plain(column: Column, value: Any, place: str) -> Any:
    kinds: dict[str, tuple[type, ...]] = {
        "String": (str,),
        "Memo": (str,),
        "Integer": (int,),
        "Decimal": (int, Decimal),
        "Boolean": (bool,),
        "DateTime": (date,),
    }
    expected = kinds.get(column.type, ())
    if not isinstance(value, expected) or (isinstance(value, bool) and column.type != "Boolean"):
        raise SourceError(f"{place}: {value!r} is no value of a {column.type} column")
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        low, high = column.minimum, column.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            raise SourceError(f"{place}: {value} is not between {low} and {high}")
    if isinstance(value, str):
        value = value.strip()
        if column.max_length is not None and len(value) > column.max_length:
            raise SourceError(f"{place}: {len(value)} characters, at most {column.max_length}")
    return value
