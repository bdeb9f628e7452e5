"""Forms, and the tab that is added to forms of the company."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from ..interface import Form, Interface, Section, Subgrid, column_types
from ..model import Languages, Model, Table, component_id
from .xml import Element, braces, el, leaf, texts, to_text

# Class ids of the form controls, as Microsoft's own exports use them.
_CONTROLS = {
    "String": "{4273EDBD-AC1D-40D3-9FB2-095C621B552D}",
    "Memo": "{E0DECE4B-6FC8-4A8F-A065-082708572369}",
    "Integer": "{C6D124CA-7EDA-4A60-AEA9-7FB8D318B68F}",
    "Decimal": "{C3EFE0C3-0EC6-42BE-8349-CBD9079DFD8E}",
    "DateTime": "{5B773807-9FB2-42DB-97C3-7A91EFF8ADFF}",
    "Boolean": "{67FAC785-CD58-4F9F-ABB3-4B7DDC6ED5ED}",
    "Picklist": "{3EF39988-22BB-4F0B-BBBE-64B5A3748AEE}",
    "Lookup": "{270BD3DB-D9AF-4782-9025-509E298DEC0A}",
    "Customer": "{270BD3DB-D9AF-4782-9025-509E298DEC0A}",
}
_SUBGRID = "{E7A81278-8635-4D9E-8D4D-59480B391C5B}"
_PAGE = "{9FDF5F91-88B1-47F4-AD53-C11EFC01A01D}"
_ROWS = 6


class FormRenderer:
    """Renders one form. Every id is derived from its place, so that the same form is the same in every release."""

    def __init__(self, model: Model, interface: Interface, form: Form) -> None:
        self.model = model
        self.interface = interface
        self.form = form
        self.table: Table = model.by_name[form.table]

    def form_element(self) -> Element:
        form = el("form", None, el("tabs", None, self.tab()), *self._scripts())
        if self.form.kind == "main":
            form.append(el("DisplayConditions", {"Order": "0", "FallbackForm": "true"}, el("Everyone")))
        return form

    def form_text(self) -> str:
        return to_text(self.form_element())

    def tab(self) -> Element:
        sections = [self._section(section) for section in self.form.sections]
        return el(
            "tab",
            {
                "name": self.tab_name,
                "id": self._id("tab"),
                "IsUserDefined": "1",
                "verticallayout": "true",
                "showlabel": "true",
                "expanded": "true",
            },
            self._labels(self.form.label),
            el("columns", None, el("column", {"width": "100%"}, el("sections", None, *sections))),
        )

    def _scripts(self) -> Iterator[Element]:
        if not self.form.on_load:
            return
        handler = {
            "functionName": self.form.on_load,
            "libraryName": self.form.libraries[-1],
            "handlerUniqueId": self._id("handler/onload"),
            "enabled": "true",
            "parameters": "",
            "passExecutionContext": "true",
        }
        event = {"name": "onload", "application": "false", "active": "false"}
        yield el("events", None, el("event", event, el("Handlers", None, el("Handler", handler))))
        libraries = [
            el("Library", {"name": name, "libraryUniqueId": self._id(f"library/{name}")})
            for name in self.form.libraries
        ]
        yield el("formLibraries", None, *libraries)

    @property
    def tab_name(self) -> str:
        return f"{self.model.solution.publisher.prefix}_{self.form.kind}"

    def _section(self, section: Section) -> Element:
        key = section.label.lower().replace(" ", "_")
        # Two columns of fields for short values, the full width for grids and long texts.
        wide = section.subgrid or section.page or any(self._type(name) == "Memo" for name in section.fields)
        width = 1 if wide or self.form.kind == "quick_view" else 2
        if section.page:
            rows = [el("row", None, self._page_cell(key, section))]
            rows += [el("row") for _ in range(section.rows - 1)]
        elif section.subgrid:
            rows = [el("row", None, self._grid_cell(key, section.subgrid))]
            rows += [el("row") for _ in range(_ROWS - 1)]
        else:
            cells = [self._field_cell(key, name, section.read_only) for name in section.fields]
            rows = [el("row", None, *cells[start : start + width]) for start in range(0, len(cells), width)]
        return el(
            "section",
            {
                "name": f"{self.tab_name}_{key}",
                "id": self._id(f"section/{key}"),
                "IsUserDefined": "0",
                "showlabel": "true",
                "showbar": "false",
                "layout": "varwidth",
                "columns": "1" * width,
                "labelwidth": "115",
                "celllabelalignment": "Left",
                "celllabelposition": "Left",
                "locklevel": "0",
            },
            self._labels(section.label),
            el("rows", None, *rows),
        )

    def _field_cell(self, section: str, name: str, read_only: bool) -> Element:
        locked = read_only or self.form.kind == "quick_view"
        control = {"id": name, "classid": _CONTROLS[self._type(name)], "datafieldname": name}
        return el(
            "cell",
            {"id": self._id(f"cell/{section}/{name}"), "showlabel": "true", "locklevel": "0"},
            self._labels(self._display(name)),
            el("control", control | {"disabled": "true" if locked else "false"}),
        )

    def _grid_cell(self, section: str, grid: Subgrid) -> Element:
        view = self.interface.view(grid.table, grid.view)
        ends = self.model.relationships(self.model.by_name[grid.table])
        relationship = next(
            end.schema_name
            for end in ends
            if (end.column.logical_name, end.target) == (grid.column, self.table.logical_name)
        )
        return el(
            "cell",
            {"id": self._id(f"cell/{section}"), "showlabel": "false", "rowspan": str(_ROWS), "colspan": "1"},
            self._labels(grid.view),
            subgrid_control(f"Subgrid_{section}", grid.table, view.id, relationship=relationship),
        )

    def _page_cell(self, key: str, section: Section) -> Element:
        parameters = [
            leaf("Url", section.page or ""),
            leaf("PassParameters", "true"),
            leaf("Security", "false"),
            leaf("Scrolling", "auto"),
            leaf("Border", "false"),
        ]
        return el(
            "cell",
            {"id": self._id(f"cell/{key}"), "showlabel": "false", "rowspan": str(section.rows), "colspan": "1"},
            self._labels(section.label),
            el("control", {"id": f"WebResource_{key}", "classid": _PAGE}, el("parameters", None, *parameters)),
        )

    def _type(self, name: str) -> str:
        return column_types(self.table)[name]

    def _display(self, name: str) -> str:
        primary = self.table.primary_name
        return primary.display if primary and primary.logical_name == name else self.table.column(name).display

    def _id(self, place: str) -> str:
        return braces(component_id("form", f"{self.form.table}/{self.form.kind}/{place}"))

    def _labels(self, text: str) -> Element:
        return labels(text, self.model.languages)


def labels(text: str, languages: Languages) -> Element:
    return texts("labels", "label", text, languages)


def subgrid_control(
    control_id: str, table: str, view: UUID, *, relationship: str = "", chart: UUID | None = None
) -> Element:
    """A grid of rows, or with `chart` that chart over them."""
    parameters = [
        leaf("TargetEntityType", table),
        leaf("ViewId", braces(view)),
        leaf("IsUserView", "false"),
        leaf("RelationshipName", relationship),
        leaf("AutoExpand", "Fixed"),
        leaf("EnableQuickFind", "false"),
        leaf("EnableViewPicker", "false"),
        leaf("ViewIds", braces(view)),
        leaf("EnableJumpBar", "false"),
        leaf("ChartGridMode", "Chart" if chart else "Grid"),
        leaf("VisualizationId", braces(chart) if chart else ""),
        leaf("IsUserChart", "false"),
        leaf("EnableChartPicker", "false"),
        leaf("RecordsPerPage", str(_ROWS)),
    ]
    return el(
        "control",
        {"id": control_id, "classid": _SUBGRID, "indicationOfSubgrid": "true"},
        el("parameters", None, *parameters),
    )
