"""Deleting a solution. An unmanaged one is only a list; a managed one takes with it what nobody else holds, data included."""

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import tostring

from defusedxml.ElementTree import fromstring

from local.dataverse import components, records, rules
from local.dataverse import metadata_writes as writes
from local.dataverse.components import CHOICE, COLUMN, KEY, RELATIONSHIP, TABLE
from local.dataverse.errors import Fault
from local.dataverse.model import Column, Table
from local.dataverse.records import Unit

# Web service error code CannotUninstallWithDependencies.
DEPENDENCIES = "0x8004f01d"
Doomed = dict[int, set[str]]
"""Component type -> ids of what goes."""


def before_delete(unit: Unit, solution: dict[str, Any]) -> None:
    """Before the row of a solution goes. Raises `Fault` if something that stays needs a part that goes."""
    if solution["uniquename"] in ("Active", "Default"):
        raise Fault(400, "0x80048017", "The solution cannot be deleted because it is restricted.")
    if not solution["ismanaged"]:
        unit.connection.execute(
            "UPDATE OR REPLACE \"#layer\" SET solution = 'Active' WHERE solution = ?", (solution["uniquename"],)
        )
        return
    doomed = _doomed(unit, solution["solutionid"])
    _undo_layers(unit, solution["uniquename"])
    blocked = sorted(set(_dependents(unit, doomed)))
    if blocked:
        raise Fault(
            400, DEPENDENCIES,
            f"Solution dependencies exist, cannot uninstall. DependencyCount : {len(blocked)}. {'; '.join(blocked[:10])}",
        )  # fmt: skip
    for name, kind in components.ROWS.items():
        table = unit.schema.tables[name]
        for row_id in sorted(doomed.get(kind, ())):
            if records.read_row(unit, table, row_id) is not None:
                records.delete(unit, table, row_id, cascade=True)
    _definitions(unit, doomed)


rules.BEFORE_DELETE["solution"] = before_delete


def _doomed(unit: Unit, solution_id: str) -> Doomed:
    """What the solution holds and neither another managed one nor the unmanaged layer does."""
    doomed: Doomed = {}
    for kind, object_id in unit.connection.execute(
        "SELECT componenttype, objectid FROM solutioncomponent c WHERE solutionid = ?1 AND NOT EXISTS (SELECT 1 FROM "
        "solutioncomponent o JOIN solution s ON s.solutionid = o.solutionid WHERE o.objectid = c.objectid "
        "AND o.solutionid <> ?1 AND (s.ismanaged = 1 OR s.uniquename = 'Active'))",
        (solution_id,),
    ):
        doomed.setdefault(kind, set()).add(object_id)
    # what belongs to the platform is nobody's to delete
    custom = {table.id for table in unit.schema.tables.values() if table.custom}
    doomed[TABLE] = doomed.get(TABLE, set()) & custom
    custom = {c.id for table in unit.schema.tables.values() for c in table.columns.values() if c.custom}
    doomed[COLUMN] = doomed.get(COLUMN, set()) & custom
    return doomed


def _undo_layers(unit: Unit, solution: str) -> None:
    """Takes off forms and choices of others what the solution put on them."""
    run = unit.connection.execute
    for kind, part, _ in components.layers(unit, solution):
        others = run(
            'SELECT 1 FROM "#layer" WHERE kind = ? AND part = ? AND solution <> ?', (kind, part, solution)
        ).fetchone()
        if others is not None:
            continue
        if kind == "tab":
            _without_tab(unit, *part.split("/", 1))
        elif kind == "option":
            table_name, column_name, value = part.split("/")
            table = unit.schema.tables.get(table_name)
            column = table.columns.get(column_name) if table else None
            if table is not None and column is not None:
                column.options = [option for option in column.options if option.value != int(value)]
                unit.env.save(table)
    run('DELETE FROM "#layer" WHERE solution = ?', (solution,))


def _without_tab(unit: Unit, form_id: str, name: str) -> None:
    table = unit.schema.tables["systemform"]
    form = records.read_row(unit, table, form_id)
    if form is None or not form["formxml"]:
        return
    root = fromstring(form["formxml"])
    for tabs in root.iter("tabs"):
        for tab in [each for each in tabs if each.get("name") == name]:
            tabs.remove(tab)
    records.update(unit, table, form_id, {"formxml": tostring(root, encoding="unicode")})


def _columns(unit: Unit, doomed: Doomed) -> Iterator[tuple[Table, Column]]:
    """Columns that go from tables that stay."""
    for table in unit.schema.tables.values():
        if table.id not in doomed[TABLE]:
            for column in table.columns.values():
                if column.id in doomed[COLUMN]:
                    yield table, column


def _dependents(unit: Unit, doomed: Doomed) -> Iterator[str]:
    """What stays but needs a part that goes, in words."""
    schema, run = unit.schema, unit.connection.execute
    tables = {table.name for table in schema.tables.values() if table.id in doomed[TABLE]}
    for relation in schema.relationships.values():
        if relation.referenced in tables and relation.referencing not in tables and relation.kind == "1:N":
            column = schema.tables[relation.referencing].columns[relation.attribute]
            if column.id not in doomed[COLUMN]:
                yield f"Column {relation.referencing}.{column.name} refers to {relation.referenced}"
    gone = {name: doomed.get(kind, set()) for name, kind in components.ROWS.items()}
    for step_id, name, table_name in run(
        "SELECT s.sdkmessageprocessingstepid, s.name, f.primaryobjecttypecode FROM sdkmessageprocessingstep s "
        "JOIN sdkmessagefilter f ON f.sdkmessagefilterid = s.sdkmessagefilterid"
    ):
        if table_name in tables and step_id not in gone["sdkmessageprocessingstep"]:
            yield f"SdkMessageProcessingStep {name} is registered on {table_name}"
    for app, name, object_id in run(
        "SELECT a.appmoduleid, a.uniquename, c.objectid FROM appmodule a "
        "JOIN appmodulecomponent c ON c.appmoduleidunique = a.appmoduleid"
    ):
        if app not in gone["appmodule"] and any(object_id in ids for ids in doomed.values()):
            yield f"App {name} contains {object_id}"
    for action, name, page in run("SELECT appactionid, uniquename, onclickeventjavascriptwebresourceid FROM appaction"):
        if page in gone["webresource"] and action not in gone["appaction"]:
            yield f"Command {name} calls a web resource"
    yield from _uses(unit, doomed, tables, gone)


def _uses(unit: Unit, doomed: Doomed, tables: set[str], gone: dict[str, set[str]]) -> Iterator[str]:
    """Forms and views that stay and show columns or pages that go."""
    run = unit.connection.execute
    columns: dict[str, list[str]] = {}
    for table, going in _columns(unit, doomed):
        columns.setdefault(table.name, []).append(going.name)
    pages = [
        name for page, name in run("SELECT webresourceid, name FROM webresource") if page in gone["webresource"]
    ]  # fmt: skip
    for form, name, table_name, xml in run("SELECT formid, name, objecttypecode, formxml FROM systemform"):
        if form in gone["systemform"] or table_name in tables:
            continue
        used = [c for c in columns.get(table_name, ()) if f'datafieldname="{c}"' in (xml or "")]
        for part in used + [page for page in pages if page in (xml or "")]:
            yield f"Form {name} of {table_name} shows {part}"
    for view, name, table_name, xml in run("SELECT savedqueryid, name, returnedtypecode, fetchxml FROM savedquery"):
        if view not in gone["savedquery"] and table_name not in tables:
            for column in columns.get(table_name, ()):
                if f'="{column}"' in (xml or ""):
                    yield f"View {name} of {table_name} reads {column}"


def _definitions(unit: Unit, doomed: Doomed) -> None:
    schema = unit.schema
    for table in list(schema.tables.values()):
        if table.id not in doomed[TABLE]:
            for key in [each for each in table.keys.values() if each.id in doomed.get(KEY, ())]:
                writes.delete_key(unit, table, key)
    for table, column in list(_columns(unit, doomed)):
        if column.name in table.columns:  # a base column goes with its money column
            writes.delete_column(unit, table, column)
    tables = [table for table in schema.tables.values() if table.id in doomed[TABLE]]
    names = {table.name for table in tables}
    for relation in list(schema.relationships.values()):
        among = relation.kind == "1:N" and {relation.referenced, relation.referencing} <= names
        if among:  # so that no table stands in another's way
            unit.env.forget(relation)
            del schema.relationships[relation.schema_name]
            components.dropped(unit, relation.id)
        elif relation.kind == "N:N" and relation.custom and relation.id in doomed.get(RELATIONSHIP, ()):
            writes.delete_relationship(unit, relation)
    schema.changed()
    for table in tables:
        writes.delete_table(unit, table)
        schema.changed()
    for choice in [each for each in schema.option_sets.values() if each.id in doomed.get(CHOICE, ())]:
        writes.delete_option_set(unit, choice)
