"""The reference pages, from the source: they cannot say anything else than what is installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .interface import Interface
from .model import Column, Model, Step, Table

_WRITTEN = "<!-- Written by `python -m dataverse_schema reference`; edit the source in dataverse_schema/ instead. -->"


def reference(model: Model, interface: Interface) -> dict[str, str]:
    """File name -> Markdown."""
    pages = {
        "tables.md": _tables(model),
        "events.md": _events(model),
        "roles.md": _roles(model, interface),
    }
    return {name: "\n".join(lines) + "\n" for name, lines in pages.items()}


def _tables(model: Model) -> Iterator[str]:
    yield from (_WRITTEN, "", "# Tables and columns", "")
    yield "Logical names; the schema name has the capitals shown. A lookup is set through its navigation property."
    for table in sorted(model.tables, key=lambda table: (table.extends, table.logical_name)):
        yield from _table(model, table)
    yield from ("", "## Options added to choices of Dynamics", "")
    options = model.solution.options
    yield from _grid(("Choice", "Value", "Label"), ((f"{o.table}.{o.column}", str(o.value), o.label) for o in options))


def _table(model: Model, table: Table) -> Iterator[str]:
    if table.extends:
        yield from ("", f"## {table.logical_name}: our columns", "")
    else:
        yield from ("", f"## {table.logical_name}", "", table.description, "")
        kept = "change tracking" if table.change_tracking else "no change tracking"
        audited = "audited" if table.audit else "not audited"
        yield f"Set `{table.entity_set}`, key `{table.primary_id}`, {table.ownership}, {audited}, {kept}."
        for key in table.keys:
            yield f"Alternate key `{key.schema_name}`: {', '.join(f'`{name}`' for name in key.columns)}."
        yield ""
    rows = [
        (f"`{c.schema_name}`", c.display, _type(c), "yes" if c.required else "", _notes(model, table, c))
        for c in table.columns
    ]
    if table.primary_name:
        primary = table.primary_name
        rows.insert(
            0, (f"`{primary.schema_name}`", primary.display, f"String({primary.max_length})", "", "primary name")
        )
    yield from _grid(("Column", "Label", "Type", "Required", "Notes"), rows)


def _type(column: Column) -> str:
    match column.type:
        case "String" | "Memo":
            return f"{column.type}({column.max_length})"
        case "Integer":
            return f"Integer {column.minimum}..{column.maximum}"
        case "Decimal":
            return f"Decimal({column.precision}) {column.minimum}..{column.maximum}"
        case "DateTime":
            return f"DateTime, {column.behavior}"
        case "Lookup" | "Customer":
            return f"{column.type} to {' or '.join(column.targets)}"
    return column.type


def _notes(model: Model, table: Table, column: Column) -> str:
    notes = [column.description] if column.description else []
    notes += [f"{value} {text}" for value, text in column.options]
    if column.default is not None:
        notes.append(f"default {column.default}")
    notes += [f"`{end.navigation}`" for end in model.relationships(table) if end.column is column]
    return "; ".join(notes)


def _events(model: Model) -> Iterator[str]:
    yield from (_WRITTEN, "", "# Events", "")
    yield "What Dataverse tells the connector about: asynchronous steps after the operation, posted as JSON to the events queue."
    yield "An event is a hint to look at a row again; losing, repeating or reordering one changes nothing in the end."
    yield ""
    rows = ((step.message, step.table, _list(step.filtering), _images(step)) for step in model.steps)
    yield from _grid(("Message", "Table", "Only when one of these changes", "Images"), rows)


def _images(step: Step) -> str:
    parts = [f"before: {_list(step.pre_image)}"] if step.pre_image else []
    parts += [f"after: {_list(step.post_image)}"] if step.post_image else []
    return "; ".join(parts)


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _roles(model: Model, interface: Interface) -> Iterator[str]:
    yield from (_WRITTEN, "", "# Roles", "")
    yield "A test fails when a role gets a right that is not listed there with intent."
    for role in interface.roles:
        yield from ("", f"## {role.name}", "", role.description, "")
        rows = ((f"`{name}`", level) for name, level in sorted(interface.privileges(model, role).items()))
        yield from _grid(("Privilege", "Level"), rows)


def _grid(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '\\|') for cell in row)} |"
