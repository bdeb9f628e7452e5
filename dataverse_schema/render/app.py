"""The model-driven app and its site map."""

from __future__ import annotations

from ..interface import Area, Group, Interface
from ..model import Model
from .xml import Element, braces, el, leaf, to_text

# The icon that Dynamics gives an app without one; the same id in every environment.
DEFAULT_ICON = "953b9fac-1e5e-e611-80d6-00155ded156f"
TABLE, ROLE, DASHBOARD, SITE_MAP = 1, 20, 60, 62


def site_map(model: Model, interface: Interface) -> Element:
    language = model.solution.language
    return el("SiteMap", None, *(_area(interface, area, language) for area in interface.app.areas))


def site_map_text(model: Model, interface: Interface) -> str:
    return to_text(site_map(model, interface))


def app_module(model: Model, interface: Interface) -> Element:
    app, language = interface.app, model.solution.language
    components = [el("AppModuleComponent", {"type": str(TABLE), "schemaName": table}) for table in app.tables]
    components.append(el("AppModuleComponent", {"type": str(DASHBOARD), "id": braces(interface.dashboard.id)}))
    components.append(el("AppModuleComponent", {"type": str(SITE_MAP), "schemaName": app.unique_name}))
    roles = [el("Role", {"id": braces(interface.role(name).id)}) for name in app.roles]
    return el(
        "AppModule",
        None,
        leaf("UniqueName", app.unique_name),
        leaf("IntroducedVersion", "1.0.0.0"),
        leaf("WebResourceId", DEFAULT_ICON),
        leaf("statecode", 0),
        leaf("statuscode", 1),
        leaf("FormFactor", 1),
        leaf("ClientType", 4),
        leaf("NavigationType", 0),
        el("AppModuleComponents", None, *components),
        el("AppModuleRoleMaps", None, *roles),
        names(app.name, language),
        el("Descriptions", None, leaf_text("Description", app.description, language)),
    )


def app_site_map(model: Model, interface: Interface) -> Element:
    return el(
        "AppModuleSiteMap",
        None,
        leaf("SiteMapUniqueName", interface.app.unique_name),
        site_map(model, interface),
        names(interface.app.name, model.solution.language),
    )


def names(text: str, language: int) -> Element:
    return el("LocalizedNames", None, leaf_text("LocalizedName", text, language))


def leaf_text(tag: str, text: str, language: int) -> Element:
    return el(tag, {"description": text, "languagecode": str(language)})


def _area(interface: Interface, area: Area, language: int) -> Element:
    groups = [_group(interface, area, group, language) for group in area.groups]
    return el("Area", {"Id": f"loy_{area.name}", "ShowGroups": "true"}, _titles(area.name, language), *groups)


def _group(interface: Interface, area: Area, group: Group, language: int) -> Element:
    entries = []
    if group.dashboard:
        board = interface.dashboard
        place = {"Url": "/workplace/home_dashboards.aspx", "DefaultDashboard": str(board.id)}
        entries.append(el("SubArea", {"Id": "loy_dashboard"} | place, _titles(board.name, language)))
    for page in group.pages:
        place = {"Id": f"loy_{page.title.replace(' ', '')}", "Url": f"$webresource:{page.resource}"}
        privilege = el("Privilege", {"Entity": page.table, "Privilege": "Read"})
        entries.append(el("SubArea", place, _titles(page.title, language), privilege))
    entries += [el("SubArea", {"Id": f"loy_{area.name}_{table}", "Entity": table}) for table in group.tables]
    return el("Group", {"Id": f"loy_{area.name}_{group.name}"}, _titles(group.name, language), *entries)


def _titles(text: str, language: int) -> Element:
    return el("Titles", None, el("Title", {"LCID": str(language), "Title": text}))
