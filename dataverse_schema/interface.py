"""What people see and may do: views, forms, charts, dashboard, app, command, roles, variables, web resources.

The source is one small TOML file per thing; `load_interface` checks it against the tables and turns mistakes into
`SourceError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from uuid import UUID
from xml.etree import ElementTree

from pydantic import BaseModel, Field

from .model import SOURCE, Model, Source, SourceError, Table, component_id, read_toml, validated

WEB_RESOURCE_TYPES = {
    ".html": 1,
    ".css": 2,
    ".js": 3,
    ".xml": 4,
    ".png": 5,
    ".jpg": 6,
    ".gif": 7,
    ".ico": 10,
    ".svg": 11,
    ".resx": 12,
}

# Columns that every table has and that our views may show.
_SYSTEM_COLUMNS = {"createdon": "DateTime", "modifiedon": "DateTime", "createdby": "Lookup", "statecode": "State"}
# What the views and forms use of the standard tables beside our own columns.
_STANDARD_COLUMNS = {
    "account": {"name": "String", "accountratingcode": "Picklist"},
    "contact": {"fullname": "String"},
}

# Table -> the word for it in privilege names, where that is not its schema name.
_PRIVILEGE_WORDS = {"account": "Account", "contact": "Contact", "invoice": "Invoice"}
_PRIVILEGE_VERBS = ("create", "read", "write", "delete", "append", "append_to", "assign", "share")

Level = Literal["Basic", "Local", "Deep", "Global"]


class View(Source):
    """`columns`: (logical name, width in pixels). `order`: a column, with `-` for latest or largest first."""

    table: str
    name: str
    columns: tuple[tuple[str, int], ...] = Field(min_length=1)
    order: str
    default: bool = False
    filter: str = ""
    link: str = ""

    @property
    def id(self) -> UUID:
        return component_id("view", f"{self.table}/{self.name}")


class Subgrid(Source):
    """Rows of `table` whose lookup `column` points to the row on the form."""

    table: str
    column: str
    view: str


class Section(Source):
    """Fields, or a grid of related rows, or a page: the name of an HTML web resource that gets the row's table and id,
    on so many `rows` of the form: a page does not stretch it."""

    label: str
    fields: tuple[str, ...] = ()
    read_only: bool = False
    subgrid: Subgrid | None = None
    page: str | None = None
    rows: int = 24


class Form(Source):
    """`main`: a form of a table of ours; `tab`: what is added to the company's forms; `quick_view`: for their forms.

    `on_load` is a function of `libraries`, scripts that are loaded in this order.
    """

    table: str
    kind: Literal["main", "tab", "quick_view"]
    label: str
    sections: tuple[Section, ...] = Field(min_length=1)
    libraries: tuple[str, ...] = ()
    on_load: str = ""

    @property
    def id(self) -> UUID:
        return component_id("form", f"{self.table}/{self.kind}")


class Chart(Source):
    table: str
    name: str
    type: Literal["Column", "Bar", "Pie", "Line"]
    group: str
    by: Literal["day", "week", "month", "quarter", "year"] | None = None
    measure: str | None = None

    @property
    def id(self) -> UUID:
        return component_id("chart", f"{self.table}/{self.name}")


class Tile(Source):
    label: str
    table: str
    view: str
    chart: str | None = None


class Dashboard(Source):
    name: str
    tiles: tuple[Tile, ...]

    @property
    def id(self) -> UUID:
        return component_id("dashboard", self.name)


class Page(Source):
    """An HTML web resource in the navigation, for whoever may read the rows of `table`."""

    title: str
    resource: str
    table: str


class Group(Source):
    name: str
    tables: tuple[str, ...] = ()
    dashboard: bool = False
    pages: tuple[Page, ...] = ()


class Area(Source):
    name: str
    groups: tuple[Group, ...]


class App(Source):
    unique_name: str
    name: str
    description: str
    roles: tuple[str, ...]
    areas: tuple[Area, ...]

    @property
    def id(self) -> UUID:
        return component_id("app", self.unique_name)

    @property
    def site_map_id(self) -> UUID:
        return component_id("sitemap", self.unique_name)

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple(table for area in self.areas for group in area.groups for table in group.tables)


class Role(Source):
    """`tables`: table -> verb -> level. `other`: privilege name -> level."""

    name: str
    description: str
    tables: Mapping[str, Mapping[str, Level]]
    other: Mapping[str, Level] = {}

    @property
    def id(self) -> UUID:
        return component_id("role", self.name)


class Variable(Source):
    schema_name: str
    display: str
    description: str
    type: Literal["String", "Number", "Boolean", "JSON"]
    default: str

    @property
    def id(self) -> UUID:
        return component_id("variable", self.schema_name)

    @property
    def type_code(self) -> int:
        return {"String": 100000000, "Number": 100000001, "Boolean": 100000002, "JSON": 100000003}[self.type]


class Command(Source):
    """A button on the forms of `tables` that calls `function` of the script `library`."""

    name: str
    label: str
    tooltip: str
    tables: tuple[str, ...]
    function: str
    library: str
    icon: str
    privilege_table: str

    def action_id(self, table: str) -> UUID:
        return component_id("appaction", f"{self.name}/{table}")


class WebResource(Source):
    """`name` is the virtual path inside Dynamics; `path` the file of the source."""

    name: str
    path: Path

    @property
    def id(self) -> UUID:
        return component_id("webresource", self.name)

    @property
    def type(self) -> int:
        return WEB_RESOURCE_TYPES[self.path.suffix]


class Interface(Source):
    views: tuple[View, ...]
    quick_find: Mapping[str, tuple[str, ...]]
    forms: tuple[Form, ...]
    charts: tuple[Chart, ...]
    dashboard: Dashboard
    app: App
    roles: tuple[Role, ...]
    variables: tuple[Variable, ...]
    command: Command
    web_resources: tuple[WebResource, ...]

    def views_of(self, table: str) -> Iterator[View]:
        return (view for view in self.views if view.table == table)

    def view(self, table: str, name: str) -> View:
        return next(view for view in self.views_of(table) if view.name == name)

    def chart(self, table: str, name: str) -> Chart:
        return next(chart for chart in self.charts if (chart.table, chart.name) == (table, name))

    def role(self, name: str) -> Role:
        return next(role for role in self.roles if role.name == name)

    def privileges(self, model: Model, role: Role) -> dict[str, Level]:
        """Privilege name -> level."""
        found: dict[str, Level] = {}
        for table, verbs in role.tables.items():
            word = _PRIVILEGE_WORDS.get(table) or model.by_name[table].schema_name
            for verb, level in verbs.items():
                found[f"prv{verb.title().replace('_', '')}{word}"] = level
        return found | dict(role.other)


def load_interface(model: Model, source: Path = SOURCE) -> Interface:
    """Read and check everything beside the tables. Raises `SourceError`."""
    raw_views = {path.stem: read_toml(path) for path in sorted((source / "views").glob("*.toml"))}
    charts = read_toml(source / "charts" / "charts.toml")
    interface = Interface(
        views=tuple(_views(raw_views)),
        quick_find={table: tuple(raw["quick_find"]) for table, raw in raw_views.items() if "quick_find" in raw},
        forms=tuple(_forms(source)),
        charts=tuple(_each(Chart, charts.get("charts", []), "charts/charts.toml: charts")),
        dashboard=validated(Dashboard, charts.get("dashboard", {}), "charts/charts.toml: dashboard"),
        app=validated(App, read_toml(source / "app.toml"), "app.toml"),
        roles=tuple(
            validated(Role, read_toml(path), f"roles/{path.name}") for path in sorted((source / "roles").glob("*.toml"))
        ),
        variables=tuple(
            _each(Variable, read_toml(source / "variables.toml").get("variables", []), "variables.toml: variables")
        ),
        command=validated(Command, read_toml(source / "command.toml"), "command.toml"),
        web_resources=tuple(_web_resources(source / "webresources", model.solution.publisher.prefix)),
    )
    _Check(model, interface).everything()
    return interface


def _each[T: BaseModel](kind: type[T], rows: Iterable[dict[str, Any]], place: str) -> Iterator[T]:
    for number, row in enumerate(rows, 1):
        yield validated(kind, row, f"{place} {row.get('name', number)}")


def _views(files: Mapping[str, dict[str, Any]]) -> Iterator[View]:
    for table, raw in files.items():
        rows = [{"table": table} | row for row in raw.get("views", [])]
        yield from _each(View, rows, f"views/{table}.toml: view")


def _forms(source: Path) -> Iterator[Form]:
    for path in sorted((source / "forms").glob("*.toml")):
        for kind, raw in read_toml(path).items():
            yield validated(Form, {"table": path.stem, "kind": kind} | raw, f"forms/{path.name}: {kind}")


def _web_resources(folder: Path, prefix: str) -> Iterator[WebResource]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            if path.suffix not in WEB_RESOURCE_TYPES:
                raise SourceError(
                    f"webresources/{path.relative_to(folder)}: Dynamics knows no web resource of this type"
                )
            yield WebResource(name=f"{prefix}_/{path.relative_to(folder).as_posix()}", path=path)


class _Check:
    """Every name that one file takes from another exists there."""

    def __init__(self, model: Model, interface: Interface) -> None:
        self.model = model
        self.interface = interface

    @cached_property
    def web_resources(self) -> set[str]:
        return {resource.name for resource in self.interface.web_resources}

    def everything(self) -> None:
        for view in self.interface.views:
            self.view(view)
        for name, columns in self.interface.quick_find.items():
            for column in columns:
                self.column(name, column, f"views/{name}.toml: quick_find")
        for form in self.interface.forms:
            self.form(form)
        for chart in self.interface.charts:
            place = f"charts/charts.toml: {chart.name}"
            self.column(chart.table, chart.group, place)
            if chart.measure:
                self.column(chart.table, chart.measure, place)
        for tile in self.interface.dashboard.tiles:
            self.tile(tile)
        for role in self.interface.roles:
            self.role(role)
        self.app()
        self.command()
        for table in self.model.own_tables:
            if not any(view.default for view in self.interface.views_of(table.logical_name)):
                raise SourceError(f"views/{table.logical_name}.toml: the table needs a default view")
            if not any((form.table, form.kind) == (table.logical_name, "main") for form in self.interface.forms):
                raise SourceError(f"forms/{table.logical_name}.toml: the table needs a main form")

    def table(self, name: str, place: str) -> Table:
        if name not in self.model.by_name:
            raise SourceError(f"{place}: there is no table {name}")
        return self.model.by_name[name]

    def column(self, table: str, column: str, place: str) -> None:
        if column not in column_types(self.table(table, place)):
            raise SourceError(f"{place}: {table} has no column {column}")

    def view(self, view: View) -> None:
        place = f"views/{view.table}.toml: view {view.name}"
        for column, _ in view.columns:
            self.column(view.table, column, place)
        if view.order.removeprefix("-") not in {column for column, _ in view.columns}:
            raise SourceError(f"{place}: the view is ordered by {view.order.removeprefix('-')}, which it does not show")
        try:
            conditions = ElementTree.fromstring(f"<filter>{view.filter}{view.link}</filter>")  # noqa: S314 - our own file
        except ElementTree.ParseError as error:
            raise SourceError(f"{place}: filter is not XML: {error}") from None
        for condition in conditions.findall("condition"):
            self.column(view.table, condition.get("attribute", ""), place)

    def form(self, form: Form) -> None:
        place = f"forms/{form.table}.toml: {form.kind}"
        if (form.kind == "main") == self.table(form.table, place).extends:
            raise SourceError(f"{place}: tables of ours have a main form, standard tables a tab and a quick view")
        for library in form.libraries:
            if library not in self.web_resources:
                raise SourceError(f"{place}: there is no web resource {library}")
        if bool(form.libraries) != bool(form.on_load):
            raise SourceError(f"{place}: libraries and on_load belong together")
        for section in form.sections:
            for column in section.fields:
                self.column(form.table, column, place)
            if section.page and section.page not in self.web_resources:
                raise SourceError(f"{place}: there is no web resource {section.page}")
            if not section.fields and not section.subgrid and not section.page:
                raise SourceError(f"{place}: section {section.label} is empty")
            if section.subgrid:
                grid = section.subgrid
                self.column(grid.table, grid.column, place)
                self.view_name(grid.table, grid.view, place)
                ends = self.model.relationships(self.model.by_name[grid.table])
                if not any((end.column.logical_name, end.target) == (grid.column, form.table) for end in ends):
                    raise SourceError(f"{place}: {grid.table}.{grid.column} does not point to {form.table}")

    def view_name(self, table: str, name: str, place: str) -> None:
        if not any(view.name == name for view in self.interface.views_of(table)):
            raise SourceError(f"{place}: {table} has no view {name}")

    def tile(self, tile: Tile) -> None:
        place = f"charts/charts.toml: dashboard: {tile.label}"
        self.table(tile.table, place)
        self.view_name(tile.table, tile.view, place)
        if tile.chart and not any((c.table, c.name) == (tile.table, tile.chart) for c in self.interface.charts):
            raise SourceError(f"{place}: {tile.table} has no chart {tile.chart}")

    def role(self, role: Role) -> None:
        place = f"roles: {role.name}"
        for name, verbs in role.tables.items():
            if name not in _PRIVILEGE_WORDS:
                table = self.table(name, place)
                for verb, level in verbs.items():
                    if table.ownership == "OrganizationOwned" and level != "Global":
                        raise SourceError(f"{place}: {name} belongs to the organisation: {verb} can only be Global")
                    if table.ownership == "OrganizationOwned" and verb in ("assign", "share"):
                        raise SourceError(f"{place}: {name} belongs to the organisation: it has no {verb}")
            for verb in verbs:
                if verb not in _PRIVILEGE_VERBS:
                    raise SourceError(f"{place}: {name}: {verb} is not one of {', '.join(_PRIVILEGE_VERBS)}")

    def app(self) -> None:
        for table in self.interface.app.tables:
            self.table(table, "app.toml")
        for group in (group for area in self.interface.app.areas for group in area.groups):
            for page in group.pages:
                if page.resource not in self.web_resources:
                    raise SourceError(f"app.toml: there is no web resource {page.resource}")
                self.table(page.table, "app.toml")
        for role in self.interface.app.roles:
            if not any(known.name == role for known in self.interface.roles):
                raise SourceError(f"app.toml: there is no role {role}")

    def command(self) -> None:
        command = self.interface.command
        for name in (command.library, command.icon):
            if name not in self.web_resources:
                raise SourceError(f"command.toml: there is no web resource {name}")
        for table in (*command.tables, command.privilege_table):
            self.table(table, "command.toml")


def column_types(table: Table) -> dict[str, str]:
    """Logical name -> attribute type of everything a view, form or chart of ours may show."""
    found = dict(_SYSTEM_COLUMNS) | {column.logical_name: column.type for column in table.columns}
    if table.primary_name:
        found[table.primary_name.logical_name] = "String"
    return found | _STANDARD_COLUMNS.get(table.logical_name, {})
