"""Which tables, columns, lookups, keys and options are missing or outdated, and how to bring them about.

Nothing is ever made smaller or removed: a company's own labels in other languages, longer columns and extra options stay,
and so does data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from . import metadata
from .api import InstallError, Json, WebApi, text
from .environment import PresentTable, key_states, label_text, read_table
from .model import Column, Key, Languages, Model, Relationship, Table

KEY_DEADLINE = 1800.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


@dataclass(frozen=True)
class Action:
    """One thing to do, with the words that the plan shows for it."""

    title: str
    run: Callable[[WebApi], object]


def plan_tables(api: WebApi, model: Model) -> Iterator[Action]:
    languages = model.languages
    present = {table.logical_name: read_table(api, table.logical_name) for table in model.tables}
    for option in model.solution.options:
        if option.table not in present:
            present[option.table] = read_table(api, option.table)
    for table in model.own_tables:
        if present[table.logical_name] is None:
            yield _create_table(table, languages)
    for table in model.tables:
        yield from _plan_columns(table, _expected(table, present), languages)
    for table in model.tables:
        yield from _plan_lookups(table, _expected(table, present), model)
    for table in model.tables:
        yield from _plan_keys(table, _expected(table, present), languages)
    yield from _plan_options(model, present)


def wait_for_keys(
    api: WebApi,
    model: Model,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Until every alternate key can be used. A failed index is tried once more, then said."""
    started, pause = clock(), _FIRST_PAUSE
    retried: set[str] = set()
    for table in model.own_tables:
        while table.keys:
            states = key_states(api, table.logical_name)
            waiting = [key for key in table.keys if states.get(key.logical_name) != "Active"]
            if not waiting:
                break
            for key in waiting:
                if states.get(key.logical_name) != "Failed":
                    continue
                if key.logical_name in retried:
                    raise InstallError(
                        f"The index of key {key.schema_name} of {table.logical_name} cannot be built: the table probably "
                        f"holds two rows with the same {', '.join(key.columns)}. Remove one and run this command again."
                    )
                retried.add(key.logical_name)
                api.call(
                    "ReactivateEntityKey",
                    {"EntityLogicalName": table.logical_name, "EntityKeyLogicalName": key.logical_name},
                )
            if clock() - started > KEY_DEADLINE:
                names = ", ".join(key.schema_name for key in waiting)
                raise InstallError(
                    f"Dataverse is still building the index of {names} of {table.logical_name}. "
                    "Run this command again later."
                )
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _expected(table: Table, present: dict[str, PresentTable | None]) -> PresentTable:
    """The table as it is, or as it will be after its creation."""
    found = present[table.logical_name]
    if found is not None:
        return found
    if table.extends:
        raise InstallError(
            f"Table {table.logical_name} does not exist in this environment. The connector needs Dynamics 365 Sales."
        )
    return PresentTable(definition={}, columns={})


def _path(table: Table, tail: str = "") -> str:
    return f"EntityDefinitions(LogicalName={text(table.logical_name)}){tail}"


def _create_table(table: Table, languages: Languages) -> Action:
    body = metadata.table_body(table, languages)
    return Action(f"Create table {table.logical_name}", lambda api: api.create("EntityDefinitions", body))


def _plan_columns(table: Table, present: PresentTable, languages: Languages) -> Iterator[Action]:
    if present.definition and not table.extends:
        yield from _plan_table_update(table, present.definition, languages)
    for column in table.columns:
        if column.is_lookup:
            continue
        found = present.columns.get(column.logical_name)
        if found is None:
            yield _create_column(table, column, languages)
            continue
        _same_type(table, column, found)
        yield from _plan_column_update(table, column, found, languages)
        yield from _plan_choice_update(table, column, present.options.get(column.logical_name, {}), languages)


def _create_column(table: Table, column: Column, languages: Languages) -> Action:
    body = metadata.column_body(column, table.audits(column), languages)
    title = f"Create column {table.logical_name}.{column.logical_name} ({column.type})"
    return Action(title, lambda api: api.create(_path(table, "/Attributes"), body))


def _same_type(table: Table, column: Column, found: Json) -> None:
    allowed = {"Customer", "Lookup"} if column.type == "Customer" else {column.type}
    if found["AttributeType"] not in allowed:
        raise InstallError(
            f"Column {column.logical_name} of {table.logical_name} exists already, as {found['AttributeType']}; the connector "
            f"needs {column.type}. Remove that column (export its data first), then run this command again."
        )


def _plan_table_update(table: Table, found: Json, languages: Languages) -> Iterator[Action]:
    if found.get("OwnershipType") not in (None, table.ownership):
        raise InstallError(
            f"Table {table.logical_name} exists already and is {found['OwnershipType']}; the connector needs "
            f"{table.ownership}, and Dataverse cannot change that. Remove the table, then run this command again."
        )
    wanted: Json = {
        "DisplayName": metadata.label(table.display, languages),
        "DisplayCollectionName": metadata.label(table.plural, languages),
        "Description": metadata.label(table.description, languages),
    }
    if table.change_tracking:
        # Dataverse can switch it on and never off again.
        wanted["ChangeTrackingEnabled"] = True
    changed = {name: value for name, value in wanted.items() if _differs(found.get(name), value)}
    if changed:
        title = f"Update table {table.logical_name} ({', '.join(changed)})"
        yield Action(title, lambda api: api.replace(_path(table), found | changed))


def _plan_column_update(table: Table, column: Column, found: Json, languages: Languages) -> Iterator[Action]:
    wanted = metadata.column_body(column, table.audits(column), languages)
    changed: Json = {}
    for name in ("DisplayName", "Description"):
        if _differs(found.get(name), wanted[name]):
            changed[name] = wanted[name]
    if (found.get("RequiredLevel") or {}).get("Value", "None") != wanted["RequiredLevel"]["Value"]:
        changed["RequiredLevel"] = wanted["RequiredLevel"]
    for name in ("MaxLength", "MaxValue", "Precision"):
        if name in wanted and name in found and _number(found[name]) < _number(wanted[name]):
            changed[name] = wanted[name]
    if "MinValue" in wanted and "MinValue" in found and _number(found["MinValue"]) > _number(wanted["MinValue"]):
        changed["MinValue"] = wanted["MinValue"]
    if changed:
        title = f"Update column {table.logical_name}.{column.logical_name} ({', '.join(changed)})"
        path = _path(table, f"/Attributes(LogicalName={text(column.logical_name)})")
        yield Action(title, lambda api: api.replace(path, found | changed))


def _differs(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return any(label_text(found, lcid) != label_text(wanted, lcid) for lcid in _spoken(wanted))
    return bool(found) != bool(wanted)


def _spoken(label: Json) -> list[int]:
    return [int(localized["LanguageCode"]) for localized in label["LocalizedLabels"]]


def _number(value: Any) -> Any:
    return metadata.number(value)


def _plan_choice_update(table: Table, column: Column, found: dict[int, str], languages: Languages) -> Iterator[Action]:
    for value, words in column.options:
        if value not in found:
            yield _insert_option(table.logical_name, column.logical_name, value, words, languages)
        elif found[value] != words:
            yield _rename_option(table.logical_name, column.logical_name, value, words, languages)


def _plan_lookups(table: Table, present: PresentTable, model: Model) -> Iterator[Action]:
    languages = model.languages
    for _, group in groupby(model.relationships(table), key=lambda end: end.column.logical_name):
        ends = list(group)
        found = present.columns.get(ends[0].column.logical_name)
        if found is None:
            yield _create_lookup(ends, languages)
            continue
        _same_type(table, ends[0].column, found)
        for end in ends:
            if end.schema_name not in present.relationships:
                raise InstallError(
                    f"Column {end.column.logical_name} of {table.logical_name} exists already but does not point to "
                    f"{end.target} by {end.schema_name}. Remove that column, then run this command again."
                )


def _create_lookup(ends: list[Relationship], languages: Languages) -> Action:
    first = ends[0]
    title = f"Create lookup {first.table}.{first.column.logical_name} to {' or '.join(end.target for end in ends)}"
    if first.column.type == "Customer":
        customer = metadata.customer_body(ends, languages)
        return Action(title, lambda api: api.call("CreateCustomerRelationships", customer))
    body = metadata.lookup_body(first, languages)
    return Action(title, lambda api: api.create("RelationshipDefinitions", body))


def _plan_keys(table: Table, present: PresentTable, languages: Languages) -> Iterator[Action]:
    for key in table.keys:
        if key.logical_name not in present.keys:
            yield _create_key(table, key, languages)


def _create_key(table: Table, key: Key, languages: Languages) -> Action:
    body = metadata.key_body(key, languages)
    title = f"Create key {key.schema_name} of {table.logical_name} ({', '.join(key.columns)})"
    return Action(title, lambda api: api.create(_path(table, "/Keys"), body))


def _plan_options(model: Model, present: dict[str, PresentTable | None]) -> Iterator[Action]:
    """Options on choices of Dynamics: added, never renamed and never replaced; a label that the company edited stays."""
    for option in model.solution.options:
        table = present[option.table]
        found = table.options.get(option.column) if table else None
        if found is None:
            raise InstallError(f"Choice {option.table}.{option.column} does not exist in this environment.")
        if option.value not in found:
            yield _insert_option(option.table, option.column, option.value, option.label, model.languages)


def _option(table: str, column: str, value: int, words: str, languages: Languages) -> Json:
    return {
        "EntityLogicalName": table,
        "AttributeLogicalName": column,
        "Value": value,
        "Label": metadata.label(words, languages),
    }


def _insert_option(table: str, column: str, value: int, words: str, languages: Languages) -> Action:
    body = _option(table, column, value, words, languages)

    def run(api: WebApi) -> None:
        api.call("InsertOptionValue", body | ({"SolutionUniqueName": api.solution} if api.solution else {}))

    return Action(f"Add option {words} ({value}) to {table}.{column}", run)


def _rename_option(table: str, column: str, value: int, words: str, languages: Languages) -> Action:
    body = _option(table, column, value, words, languages) | {"MergeLabels": True}
    title = f"Rename option {value} of {table}.{column} to {words}"
    return Action(title, lambda api: api.call("UpdateOptionValue", body))
