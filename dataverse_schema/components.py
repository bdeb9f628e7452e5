"""Views, forms, charts, pages, roles, variables, app and command as rows: what is missing or different from the source.

A component is ours by its id. What Dynamics adds to our XML, or a company to its own forms, is no difference.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID
from xml.etree.ElementTree import ParseError

from .api import InstallError, Json, WebApi, text
from .environment import label_text
from .interface import Form, Interface, Role
from .model import Languages, Model
from .render.app import DEFAULT_ICON, site_map_text
from .render.charts import dashboard_form, data_text, presentation_text
from .render.forms import FormRenderer
from .render.views import PUBLIC, QUICK_FIND, RenderedView, rendered_views
from .render.xml import Element, parse, to_text
from .tables import Action

_DASHBOARD, _MAIN, _QUICK_VIEW = 0, 2, 6
_ACTIVE = 1
_DEPTHS = {"Basic": 1, "Local": 2, "Deep": 4, "Global": 8}
# Entity set -> type and key of rows whose texts are translated one by one.
_KINDS = {
    "appactions": ("appaction", "appactionid"),
    "savedqueries": ("savedquery", "savedqueryid"),
    "savedqueryvisualizations": ("savedqueryvisualization", "savedqueryvisualizationid"),
    "systemforms": ("systemform", "formid"),
}
# appaction: a button on the form of one table that calls JavaScript with the form.
_ONE_TABLE, _ON_FORM, _JAVASCRIPT, _PASS_FORM = 1, 0, 2, '[{"type":5}]'


def plan_components(api: WebApi, model: Model, interface: Interface) -> Iterator[Action]:
    """In the order in which they can refer to each other."""
    yield from _web_resources(api, interface)
    yield from _variables(api, interface)
    for table in model.tables:
        for view in rendered_views(model, interface, table):
            yield from _view(api, model.languages, view)
    yield from _charts(api, model, interface)
    for form in interface.forms:
        if form.kind == "tab":
            yield from _tabs(api, model, interface, form)
        else:
            yield from _form(api, model, interface, form)
    yield from _dashboard(api, model, interface)
    for role in interface.roles:
        yield from _role(api, model, interface, role)
    yield from _app(api, model, interface)
    yield from _commands(api, model.languages, interface)


def _translate(
    api: WebApi, path: str, row_id: UUID | str, name: str, column: str, words: dict[int, str]
) -> Iterator[Action]:
    """`words` (LCID -> text) of a row's column, once the row is there; a language that is right already is not written."""
    kind, key = _KINDS[path]
    reference = f"@row={{'@odata.id':'{path}({row_id})'}}&@column={text(column)}"
    call = "RetrieveLocLabels(EntityMoniker=@row,AttributeName=@column,IncludeUnpublished=true)"
    present = (api.get(f"{call}?{reference}") or {}).get("Label")
    missing = {lcid: word for lcid, word in words.items() if label_text(present, lcid) != word}
    if missing:
        body: Json = {
            "EntityMoniker": {"@odata.type": f"Microsoft.Dynamics.CRM.{kind}", key: str(row_id)},
            "AttributeName": column,
            "Labels": [{"Label": word, "LanguageCode": lcid} for lcid, word in missing.items()],
        }
        yield Action(
            f"Translate {kind} {name} ({', '.join(missing.values())})", lambda api: api.call("SetLocLabels", body)
        )


def _ensure(
    api: WebApi, kind: str, path: str, key: str, row_id: UUID, name: str, wanted: Json, *, named_by: str = ""
) -> Iterator[Action]:
    """Create the row with our id, or update the columns that differ.

    `named_by`: the column whose value packages identify the row by; an imported one has an id that is not ours.
    """
    found = _find(api, path, key, row_id, named_by, wanted)
    if found is None:
        row = {key: str(row_id)} | wanted
        yield Action(f"Create {kind} {name}", lambda api: api.create(path, row))
        return
    yield from _update(kind, path, found[key], name, found, wanted)


def _find(api: WebApi, path: str, key: str, row_id: UUID, named_by: str, wanted: Json) -> Json | None:
    select = f"$select={','.join([key, *(column for column in wanted if '@' not in column)])}"
    if not named_by:
        return api.get(f"{path}({row_id})?{select}")
    found = api.rows(f"{path}?{select}&$filter={named_by} eq {text(wanted[named_by])}")
    return found[0] if found else None


def _update(kind: str, path: str, row_id: UUID | str, name: str, found: Json, wanted: Json) -> Iterator[Action]:
    changed = {
        column: value for column, value in wanted.items() if "@" not in column and not _same(found.get(column), value)
    }
    if changed:
        title = f"Update {kind} {name} ({', '.join(changed)})"
        yield Action(title, lambda api: api.update(f"{path}({row_id})", changed))


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and wanted.startswith("<") and isinstance(found, str):
        try:
            return holds(parse(found), parse(wanted))
        except (ParseError, ValueError):
            return False
    if isinstance(wanted, int | Decimal) and isinstance(found, int | Decimal):
        return found == wanted
    return bool((found or "") == (wanted or ""))


def holds(found: Element, wanted: Element) -> bool:
    """Whether `found` has everything that `wanted` has, in its order; attributes and elements beside it do not matter."""
    if found.tag != wanted.tag or _text(found.text) != _text(wanted.text):
        return False
    if any(_text(found.get(name)) != _text(value) for name, value in wanted.attrib.items()):
        return False
    candidates = iter(found)
    return all(any(holds(candidate, child) for candidate in candidates) for child in wanted)


def _text(value: str | None) -> str:
    """Ids come back with or without braces and in either case."""
    return (value or "").strip().strip("{}").lower()


def _web_resources(api: WebApi, interface: Interface) -> Iterator[Action]:
    for resource in interface.web_resources:
        wanted: Json = {
            "name": resource.name,
            "displayname": resource.path.name,
            "webresourcetype": resource.type,
            "content": base64.b64encode(resource.path.read_bytes()).decode("ascii"),
        }
        yield from _ensure(api, "web resource", "webresourceset", "webresourceid", resource.id, resource.name, wanted)


def _variables(api: WebApi, interface: Interface) -> Iterator[Action]:
    for variable in interface.variables:
        wanted: Json = {
            "schemaname": variable.schema_name,
            "displayname": variable.display,
            "description": variable.description,
            "type": variable.type_code,
            "defaultvalue": variable.default,
        }
        yield from _ensure(
            api,
            "environment variable",
            "environmentvariabledefinitions",
            "environmentvariabledefinitionid",
            variable.id,
            variable.schema_name,
            wanted,
            named_by="schemaname",
        )


def _view(api: WebApi, languages: Languages, view: RenderedView) -> Iterator[Action]:
    wanted: Json = {"name": view.name, "fetchxml": view.fetch_text, "layoutxml": view.layout_text}
    fixed: Json = {"returnedtypecode": view.table, "querytype": view.query_type, "isdefault": view.default}
    title = f"{view.table}: {view.name}"
    if view.query_type == PUBLIC:
        row = wanted | fixed
        yield from _ensure(api, "view", "savedqueries", "savedqueryid", view.id, title, row)
        yield from _translate(api, "savedqueries", view.id, title, "name", languages.translated(view.name))
        return
    # Dynamics makes one of these for each new table and wants exactly one: ours takes its place.
    found = api.rows(
        "savedqueries?$select=savedqueryid,name,fetchxml,layoutxml"
        f"&$filter=returnedtypecode eq {text(view.table)} and querytype eq {view.query_type}"
    )
    if found:
        del wanted["name"]
        yield from _update("view", "savedqueries", found[0]["savedqueryid"], title, found[0], wanted)
        return
    row = {"savedqueryid": str(view.id), "isquickfindquery": view.query_type == QUICK_FIND} | wanted | fixed
    yield Action(f"Create view {title}", lambda api: api.create("savedqueries", row))


def _charts(api: WebApi, model: Model, interface: Interface) -> Iterator[Action]:
    for chart in interface.charts:
        wanted: Json = {
            "name": chart.name,
            "primaryentitytypecode": chart.table,
            "datadescription": data_text(model, chart),
            "presentationdescription": presentation_text(chart),
        }
        key = "savedqueryvisualizationid"
        yield from _ensure(api, "chart", "savedqueryvisualizations", key, chart.id, chart.name, wanted)
        words = model.languages.translated(chart.name)
        yield from _translate(api, "savedqueryvisualizations", chart.id, chart.name, "name", words)


def _form(api: WebApi, model: Model, interface: Interface, form: Form) -> Iterator[Action]:
    wanted: Json = {
        "name": form.label,
        "objecttypecode": form.table,
        "type": _MAIN if form.kind == "main" else _QUICK_VIEW,
        "formxml": FormRenderer(model, interface, form).form_text(),
        "formactivationstate": _ACTIVE,
    }
    title = f"{form.table}: {form.label}"
    yield from _ensure(api, "form", "systemforms", "formid", form.id, title, wanted)
    yield from _translate(api, "systemforms", form.id, title, "name", model.languages.translated(form.label))
    if form.kind == "main":
        # The empty form that Dynamics makes for a new table would be shown first.
        for row in _main_forms(api, form.table):
            if row["formid"] != str(form.id):
                yield _deactivate(row, form.table)


def _deactivate(row: Json, table: str) -> Action:
    path = f"systemforms({row['formid']})"
    title = f"Deactivate form {row['name']} of {table}"
    return Action(title, lambda api: api.update(path, {"formactivationstate": 0}))


def _main_forms(api: WebApi, table: str) -> list[Json]:
    return api.rows(
        f"systemforms?$select=formid,name,formxml&$filter=objecttypecode eq {text(table)} and type eq {_MAIN} "
        f"and formactivationstate eq {_ACTIVE}"
    )


def _tabs(api: WebApi, model: Model, interface: Interface, form: Form) -> Iterator[Action]:
    """Our tab at the end of every active main form of the company; the rest of the form is not touched."""
    renderer = FormRenderer(model, interface, form)
    for row in _main_forms(api, form.table):
        merged = with_tab(row["formxml"] or "", renderer.tab())
        if merged is not None:
            yield _put_form(row, form.table, merged)


def _put_form(row: Json, table: str, formxml: str) -> Action:
    path = f"systemforms({row['formid']})"
    title = f"Put the Loyalty tab on form {row['name']} of {table}"
    return Action(title, lambda api: api.update(path, {"formxml": formxml}))


def with_tab(formxml: str, tab: Element) -> str | None:
    """`formxml` with `tab` added or brought up to date; None if it has it already.

    Raises `InstallError` when the form is not as expected: then it stays as it is.
    """
    try:
        form = parse(formxml)
    except (ParseError, ValueError):
        raise InstallError("A form of the company is not readable XML; it was left alone.") from None
    tabs = form.find("tabs")
    if tabs is None:
        raise InstallError("A form of the company has no tabs; it was left alone.")
    for present in tabs:
        if present.get("name") == tab.get("name") or _text(present.get("id")) == _text(tab.get("id")):
            if holds(present, tab):
                return None
            position = list(tabs).index(present)
            tabs.remove(present)
            tabs.insert(position, tab)
            return to_text(form)
    tabs.append(tab)
    return to_text(form)


def without_tab(formxml: str, name: str) -> str | None:
    """`formxml` without the tab called `name`; None if it has none."""
    form = parse(formxml)
    tabs = form.find("tabs")
    ours = [tab for tab in tabs if tab.get("name") == name] if tabs is not None else []
    if tabs is None or not ours:
        return None
    for tab in ours:
        tabs.remove(tab)
    return to_text(form)


def _dashboard(api: WebApi, model: Model, interface: Interface) -> Iterator[Action]:
    board = interface.dashboard
    wanted: Json = {
        "name": board.name,
        "objecttypecode": "none",
        "type": _DASHBOARD,
        "formxml": to_text(dashboard_form(model, interface)),
    }
    yield from _ensure(api, "dashboard", "systemforms", "formid", board.id, board.name, wanted)


def _role(api: WebApi, model: Model, interface: Interface, role: Role) -> Iterator[Action]:
    """Missing rights are added. Rights that a company has added stay: the doctor says when they are too many."""
    wanted = interface.privileges(model, role)
    role_id = str(role.id)
    present: dict[str, int] = {}
    if api.get(f"roles({role_id})?$select=name") is None:
        same_name = api.rows(f"roles?$select=roleid&$filter=name eq {text(role.name)}")
        if same_name:
            raise InstallError(
                f'A role called "{role.name}" exists that is not the connector\'s. Rename it, then run again.'
            )
        yield Action(f"Create role {role.name}", lambda api: _create_role(api, role))
    else:
        present = {
            row["privilegeid"]: int(row["privilegedepthmask"])
            for row in api.rows(
                f"roleprivilegescollection?$select=privilegeid,privilegedepthmask&$filter=roleid eq {role_id}"
            )
        }
    known = privilege_ids(api)
    missing = [name for name, level in wanted.items() if present.get(known.get(name.lower(), ""), 0) < _DEPTHS[level]]
    if missing:
        title = f"Give role {role.name} its rights ({len(missing)})"
        yield Action(title, lambda api: _grant(api, role, {name: wanted[name] for name in missing}))


def privilege_ids(api: WebApi) -> dict[str, str]:
    """Lower-case name -> id of every privilege of the environment."""
    return {row["name"].lower(): row["privilegeid"] for row in api.rows("privileges?$select=name,privilegeid")}


def _create_role(api: WebApi, role: Role) -> None:
    root = api.rows("businessunits?$select=businessunitid&$filter=_parentbusinessunitid_value eq null")
    unit = root[0]["businessunitid"]
    row: Json = {"roleid": str(role.id), "name": role.name, "businessunitid@odata.bind": f"/businessunits({unit})"}
    api.create("roles", row)


def _grant(api: WebApi, role: Role, rights: dict[str, Any]) -> None:
    # Rights on our tables exist only now, after their creation.
    known = privilege_ids(api)
    if unknown := sorted(name for name in rights if name.lower() not in known):
        raise InstallError(f"Role {role.name}: Dataverse knows no privilege {', '.join(unknown)}.")
    privileges = [{"PrivilegeId": known[name.lower()], "Depth": level} for name, level in rights.items()]
    api.call(f"roles({role.id})/Microsoft.Dynamics.CRM.AddPrivilegesRole", {"Privileges": privileges})


def _app(api: WebApi, model: Model, interface: Interface) -> Iterator[Action]:
    app = interface.app
    site_map: Json = {
        "sitemapname": app.name,
        "sitemapnameunique": app.unique_name,
        "sitemapxml": site_map_text(model, interface),
    }
    map_key, app_key = ("sitemaps", "sitemapid", app.site_map_id), ("appmodules", "appmoduleid", app.id)
    yield from _ensure(api, "site map", *map_key, app.name, site_map, named_by="sitemapnameunique")
    row: Json = {
        "uniquename": app.unique_name,
        "name": app.name,
        "description": app.description,
        "clienttype": 4,
    }
    yield from _ensure(api, "app", *app_key, app.name, row | {"webresourceid": DEFAULT_ICON}, named_by="uniquename")
    present = _find(api, *map_key, "sitemapnameunique", site_map)
    if not present or _outside_app(api, interface, present["sitemapid"]):
        yield Action(f"Put tables and site map into app {app.name}", lambda api: _fill_app(api, interface))


def _outside_app(api: WebApi, interface: Interface, site_map_id: str) -> list[Json]:
    """Tables, dashboard and site map that are not in the app."""
    tables = " or ".join(f"LogicalName eq {text(name)}" for name in interface.app.tables)
    wanted = [
        ("entity", "entityid", row["MetadataId"])
        for row in api.rows(f"EntityDefinitions?$select=MetadataId&$filter={tables}")
    ]
    wanted += [("systemform", "formid", str(interface.dashboard.id)), ("sitemap", "sitemapid", site_map_id)]
    ids = " or ".join(f"objectid eq {component_id}" for _, _, component_id in wanted)
    present = {row["objectid"] for row in api.rows(f"appmodulecomponents?$select=objectid&$filter={ids}")}
    return [
        {"@odata.type": f"Microsoft.Dynamics.CRM.{kind}", key: component_id}
        for kind, key, component_id in wanted
        if component_id not in present
    ]


def _fill_app(api: WebApi, interface: Interface) -> None:
    app = interface.app
    # The roles first: tables and site map in the app are the mark that it is filled.
    roles = f"appmodules({app.id})/appmoduleroles_association"
    present = {row["roleid"] for row in api.rows(f"{roles}?$select=roleid")}
    for role in (interface.role(name) for name in app.roles):
        if str(role.id) not in present:
            api.create(f"{roles}/$ref", {"@odata.id": f"{api.root()}roles({role.id})"})
    outside = _outside_app(api, interface, str(app.site_map_id))
    api.call("AddAppComponents", {"AppId": str(app.id), "Components": outside})


def _commands(api: WebApi, languages: Languages, interface: Interface) -> Iterator[Action]:
    """The modern form of the command: classic ribbons come only with an imported package."""
    command = interface.command
    library = next(resource for resource in interface.web_resources if resource.name == command.library)
    for table in command.tables:
        row_id = command.action_id(table)
        wanted: Json = {
            "uniquename": f"loy_{command.name}!{table}!0",
            "name": f"loy.{table}.{command.name}",
            "buttonlabeltext": command.label,
            "context": _ONE_TABLE,
            "contextvalue": table,
            "location": _ON_FORM,
            "onclickeventtype": _JAVASCRIPT,
            "onclickeventjavascriptfunctionname": command.function,
            "onclickeventjavascriptparameters": _PASS_FORM,
            "OnClickEventJavaScriptWebResourceId@odata.bind": f"/webresourceset({library.id})",
        }
        title = f"{command.label} on {table}"
        key = ("appactions", "appactionid", row_id)
        found = _find(api, *key, "uniquename", wanted)
        if found is None:
            yield _create_command(table, {"appactionid": str(row_id)} | wanted, title)
        else:
            yield from _ensure(api, "command", *key, title, wanted, named_by="uniquename")
        words = languages.translated(command.label)
        command_id = found["appactionid"] if found else row_id
        yield from _translate(api, "appactions", command_id, title, "buttonlabeltext", words)


def _create_command(table: str, row: Json, title: str) -> Action:
    def run(api: WebApi) -> None:
        # `contextvalue` names the table and `ContextEntity` points to it; the second is a row of the table of tables.
        tables = api.rows(f"entities?$select=entityid&$filter=logicalname eq {text(table)}")
        context = {"ContextEntity@odata.bind": f"/entities({tables[0]['entityid']})"} if tables else {}
        api.create("appactions", row | context)

    return Action(f"Create command {title}", run)
