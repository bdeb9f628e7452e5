"""Charts and the dashboard."""

from __future__ import annotations

from ..interface import Chart, Interface, Tile
from ..model import Languages, Model, component_id
from .forms import labels, subgrid_control
from .xml import Element, braces, el, to_text


def data_description(model: Model, chart: Chart) -> Element:
    """What is grouped and what is counted."""
    table = model.by_name[chart.table]
    group = {"name": chart.group, "groupby": "true", "alias": "axis"} | ({"dategrouping": chart.by} if chart.by else {})
    measure = {
        "name": chart.measure or table.primary_id,
        "aggregate": "sum" if chart.measure else "count",
        "alias": "measure",
    }
    query = el("entity", {"name": chart.table}, el("attribute", group), el("attribute", measure))
    fetch = el("fetch", {"mapping": "logical", "aggregate": "true"}, query)
    series = el("measurecollection", None, el("measure", {"alias": "measure"}))
    category = el("category", {"alias": "axis"}, series)
    return el("datadefinition", None, el("fetchcollection", None, fetch), el("categorycollection", None, category))


def presentation(chart: Chart) -> Element:
    series = el("Series", {"ChartType": chart.type, "IsValueShownAsLabel": "True"})
    return el("Chart", None, el("Series", None, series), el("ChartAreas", None, el("ChartArea")))


def data_text(model: Model, chart: Chart) -> str:
    return to_text(data_description(model, chart))


def presentation_text(chart: Chart) -> str:
    return to_text(presentation(chart))


def dashboard_form(model: Model, interface: Interface) -> Element:
    """Two tiles a row."""
    languages = model.languages
    tiles = interface.dashboard.tiles
    cells = [_tile(interface, tile, languages) for tile in tiles]
    sections = []
    for start in range(0, len(cells), 2):
        pair = cells[start : start + 2]
        rows = [el("row", None, *pair)] + [el("row") for _ in range(9)]
        sections.append(
            el(
                "section",
                {
                    "name": f"row_{start // 2}",
                    "id": _id(f"section/{start // 2}"),
                    "showlabel": "false",
                    "showbar": "false",
                    "columns": "11",
                    "IsUserDefined": "0",
                },
                labels("", languages),
                el("rows", None, *rows),
            )
        )
    tab = el(
        "tab",
        {"name": "tab", "id": _id("tab"), "IsUserDefined": "0", "showlabel": "false", "verticallayout": "true"},
        labels("", languages),
        el("columns", None, el("column", {"width": "100%"}, el("sections", None, *sections))),
    )
    return el("form", None, el("tabs", None, tab))


def _tile(interface: Interface, tile: Tile, languages: Languages) -> Element:
    chart = interface.chart(tile.table, tile.chart).id if tile.chart else None
    name = tile.label.lower().replace(" ", "_")
    return el(
        "cell",
        {"id": _id(f"cell/{tile.label}"), "showlabel": "true", "rowspan": "10", "colspan": "1"},
        labels(tile.label, languages),
        subgrid_control(f"tile_{name}", tile.table, interface.view(tile.table, tile.view).id, chart=chart),
    )


def _id(place: str) -> str:
    return braces(component_id("dashboard", place))
