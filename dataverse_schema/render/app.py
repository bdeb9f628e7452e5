"""The model-driven app and its site map."""

from __future__ import annotations

from ..interface import Area, Group, Interface
from ..model import Languages, Model
from .xml import Element, braces, el, leaf, texts, to_text

# The icon that Dynamics gives an app without one; the same id in every environment.
DEFAULT_ICON = "953b9fac-1e5e-e611-80d6-00155ded156f"
TABLE, ROLE, DASHBOARD, SITE_MAP = 1, 20, 60, 62


def site_map(model: Model, interface: Interface) -> Element:
    languages = model.languages
    return el("SiteMap", None, *(_area(interface, area, languages) for area in interface.app.areas))


def site_map_text(model: Model, interface: Interface) -> str:
    return to_text(site_map(model, interface))


def app_module(model: Model, interface: Interface) -> Element:
    app, languages = interface.app, model.languages
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
        names(app.name, languages),
        texts("Descriptions", "Description", app.description, languages),
    )


def app_site_map(model: Model, interface: Interface) -> Element:
    return el(
        "AppModuleSiteMap",
        None,
        leaf("SiteMapUniqueName", interface.app.unique_name),
        site_map(model, interface),
        names(interface.app.name, model.languages),
    )


def names(text: str, languages: Languages) -> Element:
    return texts("LocalizedNames", "LocalizedName", text, languages)


def _area(interface: Interface, area: Area, languages: Languages) -> Element:
    groups = [_group(interface, area, group, languages) for group in area.groups]
    return el("Area", {"Id": f"loy_{area.name}", "ShowGroups": "true"}, _titles(area.name, languages), *groups)


def _group(interface: Interface, area: Area, group: Group, languages: Languages) -> Element:
    entries = []
    if group.dashboard:
        board = interface.dashboard
        place = {"Url": "/workplace/home_dashboards.aspx", "DefaultDashboard": str(board.id)}
        entries.append(el("SubArea", {"Id": "loy_dashboard"} | place, _titles(board.name, languages)))
    for page in group.pages:
        place = {"Id": f"loy_{page.title.replace(' ', '')}", "Url": f"$webresource:{page.resource}"}
        privilege = el("Privilege", {"Entity": page.table, "Privilege": "Read"})
        entries.append(el("SubArea", place, _titles(page.title, languages), privilege))
    entries += [el("SubArea", {"Id": f"loy_{area.name}_{table}", "Entity": table}) for table in group.tables]
    return el("Group", {"Id": f"loy_{area.name}_{group.name}"}, _titles(group.name, languages), *entries)


def _titles(text: str, languages: Languages) -> Element:
    titles = [el("Title", {"LCID": str(lcid), "Title": word}) for lcid, word in languages.of(text).items()]
    return el("Titles", None, *titles)
