"""Removal, in the reverse order of installation. Tables and columns hold the company's data: they go only when told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from connector.dataverse import DataverseClient

from .api import InstallError, Json, WebApi, explained, text
from .components import without_tab
from .deploy import read_solution
from .interface import Form, Interface
from .model import Model, Table
from .render.forms import FormRenderer
from .tables import Action


def uninstall(
    client: DataverseClient,
    model: Model,
    interface: Interface,
    *,
    with_data: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Remove what the installer made; returns the titles of what was (or would be) removed. Raises `InstallError`.

    Without `with_data` tables, columns and rating options stay, with everything in them.
    """
    api = WebApi(client)
    actions = explained("Reading what is installed", lambda: list(plan_removal(api, model, interface, with_data)))
    for number, action in enumerate(actions, 1):
        say(f"[{number}/{len(actions)}] {'would: ' if dry_run else ''}{action.title}")
        if not dry_run:
            explained(action.title, partial(action.run, api))
    if not actions:
        say("Nothing to remove.")
    if not with_data:
        kept = explained("Looking what is left", lambda: [t.logical_name for t in model.own_tables if _exists(api, t)])
        if kept:
            say(f"Left, with their data: tables {', '.join(kept)}, our columns on {_names(model.extended_tables)},")
            say("and the rating options. Run again with --with-data to remove these too; it cannot be undone.")
    say(
        "Not ours to remove: the application user and its app registration, the queues of Service Bus, the function app;"
    )
    tracked = ", ".join(model.solution.change_tracking)
    say(f"change tracking of {tracked} stays on, for others may use it. Switch it off in the table's settings if not.")
    return [action.title for action in actions]


def plan_removal(api: WebApi, model: Model, interface: Interface, with_data: bool) -> Iterator[Action]:
    solution = read_solution(api, model)
    if solution and solution["ismanaged"]:
        if not with_data:
            raise InstallError(
                "The solution was imported managed: removing it removes its tables with all their data. "
                "Run again with --with-data if that is what you want; it cannot be undone."
            )
        yield from _events(api, model)
        yield _delete("managed solution", f"solutions({solution['solutionid']})", model.solution.unique_name)
        yield from _publisher(api, model)
        return
    yield from _events(api, model)
    yield from _components(api, model, interface, with_data)
    if with_data:
        yield from _tables(api, model)
    if solution:
        # The record only: the tables that stay lose nothing by it.
        yield _delete("solution", f"solutions({solution['solutionid']})", model.solution.unique_name)
    if with_data:
        yield from _publisher(api, model)


def _events(api: WebApi, model: Model) -> Iterator[Action]:
    name = model.solution.endpoint.name
    for endpoint in api.rows(f"serviceendpoints?$select=serviceendpointid&$filter=name eq {text(name)}"):
        endpoint_id = endpoint["serviceendpointid"]
        steps = "sdkmessageprocessingsteps?$select=sdkmessageprocessingstepid,name"
        for step in api.rows(f"{steps}&$filter=_eventhandler_value eq {endpoint_id}"):
            yield _delete("step", f"sdkmessageprocessingsteps({step['sdkmessageprocessingstepid']})", step["name"])
        yield _delete("service endpoint", f"serviceendpoints({endpoint_id})", name)


def _components(api: WebApi, model: Model, interface: Interface, with_data: bool) -> Iterator[Action]:
    for name in interface.command.tables:
        yield from _if_there(api, "command", f"appactions({interface.command.action_id(name)})", f"on {name}")
    unique_name = interface.app.unique_name
    yield from _all_named(api, "app", "appmodules", "appmoduleid", "uniquename", unique_name)
    yield from _all_named(api, "site map", "sitemaps", "sitemapid", "sitemapnameunique", unique_name)
    changed = [action for form in interface.forms for action in _form(api, model, interface, form, with_data)]
    yield from changed
    if changed:
        # Dataverse refuses to delete a page as long as a published form has it.
        yield Action("Publish the forms", lambda api: api.call("PublishAllXml", {}))
    for form in interface.forms:
        if form.kind == "quick_view":
            yield from _if_there(api, "form", f"systemforms({form.id})", f"{form.table}: {form.label}")
    yield from _if_there(api, "dashboard", f"systemforms({interface.dashboard.id})", interface.dashboard.name)
    for table in model.extended_tables:
        for view in interface.views_of(table.logical_name):
            yield from _if_there(api, "view", f"savedqueries({view.id})", f"{view.table}: {view.name}")
    for role in interface.roles:
        yield from _if_there(api, "role", f"roles({role.id})", role.name)
    for variable in interface.variables:
        definitions, key = "environmentvariabledefinitions", "environmentvariabledefinitionid"
        yield from _all_named(api, "environment variable", definitions, key, "schemaname", variable.schema_name)
    for resource in interface.web_resources:
        yield from _if_there(api, "web resource", f"webresourceset({resource.id})", resource.name)


def _form(api: WebApi, model: Model, interface: Interface, form: Form, with_data: bool) -> Iterator[Action]:
    if form.kind == "tab":
        yield from _tabs(api, form.table, FormRenderer(model, interface, form).tab_name)
    if form.kind == "main" and not with_data:
        # The table stays, and its form with it, without our pages and scripts.
        row = api.get(f"systemforms({form.id})?$select=formid,formxml")
        sections = tuple(section for section in form.sections if not section.page)
        bare = form.model_copy(update={"sections": sections, "libraries": (), "on_load": ""})
        formxml = FormRenderer(model, interface, bare).form_text()
        if row and bare != form and row["formxml"] != formxml:
            title = f"Take pages and scripts off form {form.label} of {form.table}"
            yield Action(title, lambda api: api.update(f"systemforms({form.id})", {"formxml": formxml}))


def _tabs(api: WebApi, table: str, tab_name: str) -> Iterator[Action]:
    forms = f"systemforms?$select=formid,name,formxml&$filter=objecttypecode eq {text(table)} and type eq 2"
    for row in api.rows(forms):
        formxml = without_tab(row["formxml"] or "<form />", tab_name)
        if formxml is not None:
            yield _put_form(row, table, formxml)


def _put_form(row: Json, table: str, formxml: str) -> Action:
    title = f"Take the Loyalty tab off form {row['name']} of {table}"
    return Action(title, lambda api: api.update(f"systemforms({row['formid']})", {"formxml": formxml}))


def _tables(api: WebApi, model: Model) -> Iterator[Action]:
    """Tables before those their lookups point to; then our columns and options on standard tables."""
    for table in reversed(model.own_tables):
        if _exists(api, table):
            yield _delete("table with its data", _path(table.logical_name), table.logical_name)
    for table in model.extended_tables:
        present = {
            row["LogicalName"] for row in api.rows(f"{_path(table.logical_name)}/Attributes?$select=LogicalName")
        }
        for column in table.columns:
            if column.logical_name in present:
                path = f"{_path(table.logical_name)}/Attributes(LogicalName={text(column.logical_name)})"
                yield _delete("column with its data", path, f"{table.logical_name}.{column.logical_name}")
    for option in model.solution.options:
        body = {"EntityLogicalName": option.table, "AttributeLogicalName": option.column, "Value": option.value}
        choices = api.rows(
            f"{_path(option.table)}/Attributes/Microsoft.Dynamics.CRM.PicklistAttributeMetadata"
            "?$select=LogicalName&$expand=OptionSet($select=Options)"
        )
        found = next((row for row in choices if row["LogicalName"] == option.column), None)
        if found and any(each["Value"] == option.value for each in found["OptionSet"]["Options"]):
            yield _delete_option(body, f"{option.label} ({option.value}) of {option.table}.{option.column}")


def _delete_option(body: Json, what: str) -> Action:
    return Action(f"Delete option {what}", lambda api: api.call("DeleteOptionValue", body))


def _publisher(api: WebApi, model: Model) -> Iterator[Action]:
    unique_name = model.solution.publisher.unique_name
    return _all_named(api, "publisher", "publishers", "publisherid", "uniquename", unique_name)


def _exists(api: WebApi, table: Table) -> bool:
    return api.get(f"{_path(table.logical_name)}?$select=LogicalName") is not None


def _path(table: str) -> str:
    return f"EntityDefinitions(LogicalName={text(table)})"


def _if_there(api: WebApi, kind: str, path: str, name: str) -> Iterator[Action]:
    if api.get(path) is not None:
        yield _delete(kind, path, name)


def _all_named(api: WebApi, kind: str, path: str, key: str, column: str, name: str) -> Iterator[Action]:
    """Packages name these; their ids are made on import."""
    for row in api.rows(f"{path}?$select={key}&$filter={column} eq {text(name)}"):
        yield _delete(kind, f"{path}({row[key]})", name)


def _delete(kind: str, path: str, name: str) -> Action:
    return Action(f"Delete {kind} {name}", lambda api: api.delete(path))


def _names(tables: tuple[Table, ...]) -> str:
    return ", ".join(table.logical_name for table in tables)
