"""Views: the query (FetchXML) and the grid (layout)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from ..interface import Interface, View
from ..model import Model, Table, component_id
from .xml import Element, el, parse, to_text

PUBLIC, ADVANCED_FIND, ASSOCIATED, QUICK_FIND, LOOKUP = 0, 1, 2, 4, 64
_ACTIVE = '<condition attribute="statecode" operator="eq" value="0" />'


@dataclass(frozen=True)
class RenderedView:
    id: UUID
    table: str
    name: str
    query_type: int
    default: bool
    fetch: Element
    layout: Element

    @property
    def fetch_text(self) -> str:
        return to_text(self.fetch)

    @property
    def layout_text(self) -> str:
        return to_text(self.layout)


def rendered_views(model: Model, interface: Interface, table: Table) -> Iterator[RenderedView]:
    """The views of the source, and for tables of ours the four that Dynamics needs for its own places."""
    for view in interface.views_of(table.logical_name):
        yield RenderedView(
            view.id, table.logical_name, view.name, PUBLIC, view.default, _fetch(table, view), _layout(table, view)
        )
    if table.extends:
        return
    base = next(view for view in interface.views_of(table.logical_name) if view.default)
    find = interface.quick_find[table.logical_name]
    for query_type, name, conditions in (
        (ADVANCED_FIND, f"{table.display} advanced find", ""),
        (ASSOCIATED, f"{table.display} associated", _ACTIVE),
        (QUICK_FIND, f"{table.display} quick find", _ACTIVE),
        (LOOKUP, f"{table.display} lookup", _ACTIVE),
    ):
        view = base.model_copy(update={"name": name, "filter": conditions, "link": ""})
        view_id = component_id("view", f"{table.logical_name}/{query_type}")
        fetch = _fetch(table, view, find if query_type == QUICK_FIND else ())
        yield RenderedView(view_id, table.logical_name, name, query_type, True, fetch, _layout(table, view))


def _fetch(table: Table, view: View, find: tuple[str, ...] = ()) -> Element:
    entity = el("entity", {"name": table.logical_name}, el("attribute", {"name": table.primary_id}))
    entity.extend(el("attribute", {"name": name}) for name, _ in view.columns)
    descending = "true" if view.order.startswith("-") else "false"
    entity.append(el("order", {"attribute": view.order.removeprefix("-"), "descending": descending}))
    if view.filter:
        entity.append(parse(f'<filter type="and">{view.filter}</filter>'))
    if find:
        # Dynamics puts what the user types in the place of {0}.
        typed = [el("condition", {"attribute": column, "operator": "like", "value": "{0}"}) for column in find]
        entity.append(el("filter", {"type": "or", "isquickfindfields": "1"}, *typed))
    if view.link:
        entity.append(parse(view.link))
    return el("fetch", {"version": "1.0", "mapping": "logical"}, entity)


def _layout(table: Table, view: View) -> Element:
    row = el("row", {"name": "result", "id": table.primary_id})
    row.extend(el("cell", {"name": name, "width": str(width)}) for name, width in view.columns)
    first = view.columns[0][0]
    jump = table.primary_name.logical_name if table.primary_name else first
    return el("grid", {"name": "resultset", "jump": jump, "select": "1", "icon": "1", "preview": "1"}, row)
