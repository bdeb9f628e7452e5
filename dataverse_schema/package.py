"""The solution zip: `solution.xml`, `customizations.xml`, content types, web resources, environment variables.

The same source gives the same bytes. Service endpoint and plug-in steps are not in it: address and key differ by
environment and the key must not travel, so the installer makes them after the import.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID
from xml.etree.ElementTree import indent, tostring

from .interface import Form, Interface, WebResource
from .model import Languages, Model, Table
from .render.app import app_module, app_site_map, names
from .render.charts import dashboard_form, data_description, presentation
from .render.forms import FormRenderer
from .render.ribbon import ribbon
from .render.tables import entity_info, relationships, schema_name
from .render.views import QUICK_FIND, RenderedView, rendered_views
from .render.xml import Element, braces, el, leaf, texts

_VERSION = "1.0.0.0"
# The platform whose export format this follows.
_PLATFORM = {"version": "9.2.24014.198", "SolutionPackageVersion": "9.2", "generatedBy": "CrmLive"}
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_OPEN_PACKAGING = "http://schemas.openxmlformats.org/package/2006/content-types"
_TABLE, _ROLE, _DASHBOARD, _WEB_RESOURCE, _SITE_MAP, _APP = 1, 20, 60, 61, 62, 80
_WITH_ALL, _ONLY_LISTED = 0, 1

# The main forms that every environment with Dynamics 365 Sales has.
STANDARD_FORMS = {
    "account": UUID("8448b78f-8f42-454e-8e2a-f8196b0419af"),
    "contact": UUID("1fed44d1-ae68-4a41-bd2b-f13acac4acfa"),
}


def build(model: Model, interface: Interface, folder: Path) -> list[Path]:
    """Write the managed and the unmanaged zip to `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    version = model.solution.version.replace(".", "_")
    paths = []
    for managed in (False, True):
        path = folder / f"{model.solution.unique_name}_{version}{'_managed' if managed else ''}.zip"
        path.write_bytes(solution_zip(model, interface, managed=managed))
        paths.append(path)
    return paths


def solution_zip(model: Model, interface: Interface, *, managed: bool) -> bytes:
    members = dict(_members(model, interface, managed))
    members["[Content_Types].xml"] = _document(_content_types(members))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def _members(model: Model, interface: Interface, managed: bool) -> Iterator[tuple[str, bytes]]:
    yield "solution.xml", _document(_manifest(model, interface, managed))
    yield "customizations.xml", _document(customizations(model, interface, managed=managed))
    for resource in interface.web_resources:
        yield _file_name(resource), resource.path.read_bytes()
    for variable in interface.variables:
        folder = f"environmentvariabledefinitions/{variable.schema_name}"
        definition = el(
            "environmentvariabledefinition",
            {"schemaname": variable.schema_name},
            leaf("defaultvalue", variable.default),
            _described("description", variable.description, model.languages),
            _described("displayname", variable.display, model.languages),
            leaf("introducedversion", _VERSION),
            leaf("iscustomizable", True),
            leaf("isrequired", False),
            leaf("secretstore", 0),
            leaf("type", variable.type_code),
        )
        yield f"{folder}/environmentvariabledefinition.xml", _document(definition)


def _described(tag: str, text: str, languages: Languages) -> Element:
    element = texts(tag, "label", text, languages)
    element.set("default", text)
    return element


def _document(root: Element) -> bytes:
    indent(root)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _content_types(members: Mapping[str, bytes]) -> Element:
    kind = {"ContentType": "application/octet-stream"}
    types = el("Types", {"xmlns": _OPEN_PACKAGING}, el("Default", {"Extension": "xml"} | kind))
    # Exported web resources have no extension, so each needs a line of its own.
    types.extend(
        el("Override", {"PartName": f"/{name}"} | kind) for name in sorted(members) if name.startswith("WebResources/")
    )
    return types


def _file_name(resource: WebResource) -> str:
    plain = "".join(letter for letter in resource.name if letter.isalnum() or letter == "_")
    return f"WebResources/{plain}{str(resource.id).upper()}"


def _manifest(model: Model, interface: Interface, managed: bool) -> Element:
    solution, languages = model.solution, model.languages
    nothing = {"xsi:nil": "true"}
    publisher = el(
        "Publisher",
        None,
        leaf("UniqueName", solution.publisher.unique_name),
        names(solution.publisher.display, languages),
        el("Descriptions"),
        el("EMailAddress", nothing),
        el("SupportingWebsiteUrl", nothing),
        leaf("CustomizationPrefix", solution.publisher.prefix),
        leaf("CustomizationOptionValuePrefix", solution.publisher.option_value_prefix),
        el("Addresses", None, _address(1), _address(2)),
    )
    manifest = el(
        "SolutionManifest",
        None,
        leaf("UniqueName", solution.unique_name),
        names(solution.display, languages),
        texts("Descriptions", "Description", solution.description, languages),
        leaf("Version", solution.version),
        leaf("Managed", managed),
        publisher,
        el("RootComponents", None, *_root_components(model, interface)),
        el("MissingDependencies"),
    )
    return el("ImportExportXml", _PLATFORM | {"languagecode": str(languages.base), "xmlns:xsi": _XSI}, manifest)


def _address(number: int) -> Element:
    """Exports write both addresses of a publisher although they are empty."""
    empty = [
        "City",
        "County",
        "Country",
        "Fax",
        "FreightTermsCode",
        "ImportSequenceNumber",
        "Latitude",
        "Line1",
        "Line2",
        "Line3",
        "Longitude",
        "Name",
        "PostalCode",
        "PostOfficeBox",
        "PrimaryContactName",
        "ShippingMethodCode",
        "StateOrProvince",
        "Telephone1",
        "Telephone2",
        "Telephone3",
        "TimeZoneRuleVersionNumber",
        "UPSZone",
        "UTCOffset",
        "UTCConversionTimeZoneCode",
    ]
    nothing = {"xsi:nil": "true"}
    return el(
        "Address",
        None,
        leaf("AddressNumber", number),
        el("AddressTypeCode", nothing),
        *(el(name, nothing) for name in empty),
    )


def _root_components(model: Model, interface: Interface) -> Iterator[Element]:
    for table in model.tables:
        # All of ours; of a standard table never more than we bring ourselves.
        behavior = _ONLY_LISTED if table.extends else _WITH_ALL
        yield _root(_TABLE, behavior, schemaName=table.logical_name)
    for role in interface.roles:
        yield _root(_ROLE, _WITH_ALL, id=braces(role.id))
    yield _root(_DASHBOARD, _WITH_ALL, id=braces(interface.dashboard.id))
    for resource in interface.web_resources:
        yield _root(_WEB_RESOURCE, _WITH_ALL, schemaName=resource.name)
    yield _root(_SITE_MAP, _WITH_ALL, schemaName=interface.app.unique_name)
    yield _root(_APP, _WITH_ALL, schemaName=interface.app.unique_name)


def _root(kind: int, behavior: int, **identity: str) -> Element:
    return el("RootComponent", {"type": str(kind)} | identity | {"behavior": str(behavior)})


def customizations(model: Model, interface: Interface, *, managed: bool) -> Element:
    """`customizations.xml`; the order of the parts is prescribed."""
    languages = model.languages
    return el(
        "ImportExportXml",
        {"xmlns:xsi": _XSI},
        el("Entities", None, *(_entity(model, interface, table, managed) for table in model.tables)),
        el("Roles", None, *_roles(model, interface)),
        el("Workflows"),
        el("FieldSecurityProfiles"),
        el("Templates"),
        el("EntityMaps"),
        el("EntityRelationships", None, *relationships(model)),
        el("OrganizationSettings"),
        el("optionsets"),
        el("Dashboards", None, _dashboard(model, interface)),
        el("WebResources", None, *(_web_resource(resource, languages.base) for resource in interface.web_resources)),
        el("CustomControls"),
        el("SolutionPluginAssemblies"),
        el("AppModuleSiteMaps", None, app_site_map(model, interface)),
        el("AppModules", None, app_module(model, interface)),
        el("EntityDataProviders"),
        el("Languages", None, *(leaf("Language", lcid) for lcid in languages.spoken)),
    )


def _entity(model: Model, interface: Interface, table: Table, managed: bool) -> Element:
    name = schema_name(table)
    display = table.display or name
    # A managed layer adds options to those of others; an unmanaged import could replace them, so there the installer adds.
    options = [option for option in model.solution.options if managed and option.table == table.logical_name]
    entity = el(
        "Entity",
        None,
        leaf("Name", name, {"LocalizedName": display, "OriginalName": "" if table.extends else display}),
        entity_info(model, table, options),
    )
    forms = list(_forms(model, interface, table, managed))
    if forms:
        entity.append(el("FormXml", None, *forms))
    views = [_view(view, model.languages) for view in rendered_views(model, interface, table)]
    if views:
        entity.append(el("SavedQueries", None, el("savedqueries", None, *views)))
    charts = list(_charts(model, interface, table))
    if charts:
        entity.append(el("Visualizations", None, *charts))
    if table.logical_name in interface.command.tables:
        entity.append(ribbon(interface.command, table.logical_name, model.languages))
    return entity


def _forms(model: Model, interface: Interface, table: Table, managed: bool) -> Iterator[Element]:
    for form in interface.forms:
        if form.table != table.logical_name:
            continue
        if form.kind != "tab":
            yield el(
                "forms", {"type": "main" if form.kind == "main" else "quick"}, _system_form(model, interface, form)
            )
        elif managed:
            # Only a managed package can carry a difference. With an unmanaged one the installer adds the tab.
            yield el("forms", {"type": "main"}, _form_difference(model, interface, form))


def _system_form(model: Model, interface: Interface, form: Form) -> Element:
    return el(
        "systemform",
        None,
        leaf("formid", braces(form.id)),
        leaf("IntroducedVersion", _VERSION),
        leaf("FormPresentation", 1),
        leaf("FormActivationState", 1),
        FormRenderer(model, interface, form).form_element(),
        leaf("IsCustomizable", True),
        leaf("CanBeDeleted", True),
        names(form.label, model.languages),
    )


def _form_difference(model: Model, interface: Interface, form: Form) -> Element:
    tab = FormRenderer(model, interface, form).tab()
    tab.attrib |= {"locklevel": "0", "ordinalvalue": "8210", "solutionaction": "Added"}
    for tag, step in (("column", 1), ("section", 1), ("row", 1), ("cell", 10000)):
        for number, element in enumerate(tab.iter(tag)):
            if tag == "column":
                element.set("id", str(number))
            if tag in ("section", "cell"):
                element.set("ordinalvalue", str(number * step))
    return el(
        "systemform",
        None,
        leaf("formid", braces(STANDARD_FORMS[form.table])),
        el("form", None, el("tabs", None, tab)),
        names(form.label, model.languages),
    )


def _view(view: RenderedView, languages: Languages) -> Element:
    return el(
        "savedquery",
        None,
        leaf("IsCustomizable", True),
        leaf("CanBeDeleted", view.query_type == 0),
        leaf("isquickfindquery", view.query_type == QUICK_FIND),
        leaf("isprivate", False),
        leaf("isdefault", view.default),
        leaf("savedqueryid", braces(view.id)),
        el("layoutxml", None, view.layout),
        leaf("querytype", view.query_type),
        el("fetchxml", None, view.fetch),
        leaf("IntroducedVersion", _VERSION),
        names(view.name, languages),
    )


def _charts(model: Model, interface: Interface, table: Table) -> Iterator[Element]:
    for chart in interface.charts:
        if chart.table == table.logical_name:
            yield el(
                "visualization",
                None,
                leaf("savedqueryvisualizationid", braces(chart.id)),
                el("datadescription", None, data_description(model, chart)),
                el("presentationdescription", None, presentation(chart)),
                leaf("isdefault", False),
                leaf("IsCustomizable", True),
                leaf("CanBeDeleted", True),
                leaf("IntroducedVersion", _VERSION),
                names(chart.name, model.languages),
            )


def _roles(model: Model, interface: Interface) -> Iterator[Element]:
    for role in interface.roles:
        privileges = [
            el("RolePrivilege", {"name": name, "level": level})
            for name, level in sorted(interface.privileges(model, role).items())
        ]
        yield el(
            "Role",
            {"id": braces(role.id), "name": role.name},
            leaf("IsCustomizable", True),
            leaf("IsAutoAssigned", False),
            el("RolePrivileges", None, *privileges),
        )


def _dashboard(model: Model, interface: Interface) -> Element:
    board = interface.dashboard
    return el(
        "Dashboard",
        None,
        leaf("FormId", braces(board.id)),
        names(board.name, model.languages),
        leaf("IsCustomizable", True),
        leaf("IsDefault", False),
        leaf("CanBeDeleted", True),
        el("FormXml", None, el("forms", {"type": "dashboard"}, dashboard_form(model, interface))),
        leaf("IntroducedVersion", _VERSION),
    )


def _web_resource(resource: WebResource, language: int) -> Element:
    return el(
        "WebResource",
        None,
        leaf("WebResourceId", braces(resource.id)),
        leaf("Name", resource.name),
        leaf("DisplayName", resource.path.name),
        leaf("LanguageCode", language),
        leaf("WebResourceType", resource.type),
        leaf("IntroducedVersion", _VERSION),
        leaf("IsEnabledForMobileClient", False),
        leaf("IsAvailableForMobileOffline", False),
        leaf("IsCustomizable", True),
        leaf("CanBeDeleted", True),
        leaf("IsHidden", False),
        leaf("FileName", f"/{_file_name(resource)}"),
    )
