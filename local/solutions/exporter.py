"""Writing a solution package from an environment: ExportSolution."""

import base64
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, indent, tostring

from defusedxml.ElementTree import fromstring

from local.dataverse import components, loc_labels
from local.dataverse.components import CHOICE, COLUMN, KEY, RELATIONSHIP, ROWS, TABLE
from local.dataverse.errors import Fault
from local.dataverse.model import Column, Relationship, Table
from local.dataverse.records import Unit
from local.dataverse.security import BASIC, DEEP, GLOBAL, LOCAL
from local.dataverse.storage import quoted
from local.solutions import tables
from local.solutions.xml import braces, el, held, leaf, names, texts

# Web service error codes.
EXPORT_ERROR, MANAGED_ERROR, MISSING_ERROR, DEFAULT_ERROR = "0x80048035", "0x80048036", "0x80048037", "0x80071158"
_PLATFORM = {
    "version": "9.2.24014.198",
    "SolutionPackageVersion": "9.2",
    "languagecode": "1033",
    "generatedBy": "CrmLive",
}
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_OPEN_PACKAGING = "http://schemas.openxmlformats.org/package/2006/content-types"
_LEVELS = {BASIC: "Basic", LOCAL: "Local", DEEP: "Deep", GLOBAL: "Global"}
_FORMS = {2: "main", 6: "quick", 7: "quickCreate", 8: "dialog", 11: "card", 12: "mainInteractionCentric"}
_DASHBOARD = 0
_SERVICE_ENDPOINT = 4618
_NIL = {"xsi:nil": "true"}
_ADDRESS = (
    "City", "County", "Country", "Fax", "FreightTermsCode", "ImportSequenceNumber", "Latitude", "Line1", "Line2", "Line3",
    "Longitude", "Name", "PostalCode", "PostOfficeBox", "PrimaryContactName", "ShippingMethodCode", "StateOrProvince",
    "Telephone1", "Telephone2", "Telephone3", "TimeZoneRuleVersionNumber", "UPSZone", "UTCOffset",
    "UTCConversionTimeZoneCode",
)  # fmt: skip
Row = dict[str, Any]


def export(unit: Unit, name: str, *, managed: bool) -> bytes:
    """The zip of an unmanaged solution. Raises `Fault` with the documented codes."""
    if name in ("Default", "Active"):
        raise Fault(
            400, DEFAULT_ERROR,
            "Exporting the default solution is not supported. To export components, add them to a custom solution.",
        )  # fmt: skip
    row = unit.connection.execute("SELECT solutionid, ismanaged FROM solution WHERE uniquename = ?", (name,)).fetchone()
    if row is None:
        raise Fault(
            400,
            MISSING_ERROR,
            "An error occurred while exporting a solution. The solution does not exist in this system.",
        )
    if row[1]:
        raise Fault(
            400,
            MANAGED_ERROR,
            "An error occurred while exporting a solution. Managed solutions cannot be exported.",
        )
    return _zip(Export(unit, str(row[0]), name, managed))


class Export:
    """What of an environment belongs to one solution."""

    def __init__(self, unit: Unit, solution_id: str, name: str, managed: bool) -> None:
        self.unit, self.schema, self.solution_id, self.name, self.managed = (
            unit,
            unit.schema,
            solution_id,
            name,
            managed,
        )
        self.ids: dict[int, set[str]] = {}
        self.behaviors: dict[str, int] = {}
        for kind, object_id, behavior in unit.connection.execute(
            "SELECT componenttype, objectid, rootcomponentbehavior FROM solutioncomponent WHERE solutionid = ?",
            (solution_id,),
        ):
            self.ids.setdefault(kind, set()).add(object_id)
            if kind == TABLE:
                self.behaviors[object_id] = behavior or 0
        known = {*components.DEFINITIONS.values(), *ROWS.values()}
        if strange := sorted(set(self.ids) - known):
            raise Fault(
                400, EXPORT_ERROR,
                f"An error occurred while exporting a Solution. Components of type {strange[0]} cannot be exported here.",
            )  # fmt: skip
        self.ribbons = {
            part: content for kind, part, content in components.layers(unit, name) if kind == "ribbon"
        }  # fmt: skip
        self.options = [part.split("/") for kind, part, _ in components.layers(unit, name) if kind == "option"]
        self.parts = [part for table in tables.ordered(self.schema.tables) if (part := self._part(table)) is not None]

    def all(self, table: str, order: str = "") -> list[Row]:
        """Rows of a component table, as they are stored."""
        key = self.schema.tables[table].primary_id
        cursor = self.unit.connection.execute(f"SELECT * FROM {quoted(table)} ORDER BY {quoted(order or key)}")
        return [dict(zip([d[0] for d in cursor.description], row, strict=True)) for row in cursor.fetchall()]

    def rows(self, table: str, order: str = "") -> list[Row]:
        """Those of the solution."""
        ids = self.ids.get(ROWS[table], set())
        return [row for row in self.all(table, order) if row[self.schema.tables[table].primary_id] in ids]

    def _part(self, table: Table) -> "Part | None":
        """What of a table travels; None if nothing does."""
        everything = self.behaviors.get(table.id) == components.ALL
        columns, keys = self.ids.get(COLUMN, set()), self.ids.get(KEY, set())
        added = {c for t, c, _ in self.options if t == table.name}
        part = Part(
            table,
            everything,
            [
                c
                for c in tables.ordered(table.columns)
                if c.id in columns or (everything and c.custom) or c.name in added
            ],
            [key for key in tables.ordered(table.keys) if everything or key.id in keys],
            self._below(table, everything, "systemform", "objecttypecode"),
            self._below(table, everything, "savedquery", "returnedtypecode"),
            self._below(table, everything, "savedqueryvisualization", "primaryentitytypecode"),
            self.ribbons.get(table.name),
        )
        found = any((part.columns, part.keys, part.forms, part.views, part.charts, part.ribbon))
        return part if found or table.id in self.behaviors else None

    def _below(self, table: Table, everything: bool, name: str, column: str) -> list[Row]:
        return [row for row in (self.all(name) if everything else self.rows(name)) if row[column] == table.name]

    def relationships(self) -> Iterator[Relationship]:
        """Of columns that travel, of tables that do, and those listed by themselves."""
        lookups = {(part.table.name, c.name) for part in self.parts for c in part.columns}
        wholes = {part.table.name for part in self.parts if part.everything and part.table.custom}
        listed = self.ids.get(RELATIONSHIP, set())
        for relation in tables.ordered(self.schema.relationships):
            if relation.kind == "N:N":
                travels = relation.id in listed
            elif relation.custom:
                travels = (relation.referencing, relation.attribute) in lookups
            else:
                travels = relation.referencing in wholes and relation.attribute in _OWN_LOOKUPS
            if travels:
                yield relation


_OWN_LOOKUPS = ("createdby", "modifiedby", "owningbusinessunit", "owningteam", "owninguser")


@dataclass(frozen=True)
class Part:
    """What of one table belongs to the solution. `everything`: the table with all that is below it."""

    table: Table
    everything: bool
    columns: list[Column]
    keys: list[Any]
    forms: list[Row]
    views: list[Row]
    charts: list[Row]
    ribbon: str | None


# --- the package ---


def _zip(export: Export) -> bytes:
    members = {
        "solution.xml": _document(_manifest(export)),
        "customizations.xml": _document(_customizations(export)),
        **{_file_name(page): base64.b64decode(page["content"] or "") for page in export.rows("webresource")},
        **dict(_folders(export)),
    }
    members["[Content_Types].xml"] = _document(_content_types(members))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _document(root: Element) -> bytes:
    indent(root)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _content_types(members: Iterable[str]) -> Element:
    kind = {"ContentType": "application/octet-stream"}
    types = [el("Default", {"Extension": extension} | kind) for extension in ("xml", "json")]
    pages = [el("Override", {"PartName": f"/{name}"} | kind) for name in members if name.startswith("WebResources/")]
    return el("Types", {"xmlns": _OPEN_PACKAGING}, *types, *pages)


def _file_name(page: Row) -> str:
    plain = "".join(letter for letter in page["name"] if letter.isalnum() or letter == "_")
    return f"WebResources/{plain}{page['webresourceid'].upper()}"


def _manifest(export: Export) -> Element:
    run = export.unit.connection.execute
    friendly, version, described, publisher_id = run(
        "SELECT friendlyname, version, description, publisherid FROM solution WHERE solutionid = ?",
        (export.solution_id,),
    ).fetchone()
    unique, shown, prefix, values = run(
        "SELECT uniquename, friendlyname, customizationprefix, customizationoptionvalueprefix FROM publisher "
        "WHERE publisherid = ?",
        (publisher_id,),
    ).fetchone()
    publisher = el(
        "Publisher",
        None,
        leaf("UniqueName", unique),
        names(shown),
        el("Descriptions"),
        el("EMailAddress", _NIL),
        el("SupportingWebsiteUrl", _NIL),
        leaf("CustomizationPrefix", prefix),
        leaf("CustomizationOptionValuePrefix", values),
        el("Addresses", None, _address(1), _address(2)),
    )
    manifest = el(
        "SolutionManifest",
        None,
        leaf("UniqueName", export.name),
        names(friendly),
        texts("Descriptions", "Description", described),
        leaf("Version", version),
        leaf("Managed", export.managed),
        publisher,
        el("RootComponents", None, *_roots(export)),
        el("MissingDependencies"),
    )
    return el("ImportExportXml", _PLATFORM | {"xmlns:xsi": _XSI}, manifest)


def _address(number: int) -> Element:
    empty = [el(name, _NIL) for name in ("AddressTypeCode", *_ADDRESS)]
    return el("Address", None, leaf("AddressNumber", number), *empty)


def _roots(export: Export) -> Iterator[Element]:
    def root(kind: int, behavior: int = components.ALL, **identity: str) -> Element:
        return el("RootComponent", {"type": str(kind)} | identity | {"behavior": str(behavior)})

    for part in export.parts:
        behavior = export.behaviors.get(part.table.id, components.LISTED)
        yield root(TABLE, behavior, schemaName=part.table.name)
    for choice in _choices(export):
        yield root(CHOICE, schemaName=choice.name)
    for role in export.rows("role"):
        yield root(20, id=braces(role["roleid"]))
    for profile in export.rows("fieldsecurityprofile"):
        yield root(70, id=braces(profile["fieldsecurityprofileid"]))
    for form in export.rows("systemform"):
        if form["type"] == _DASHBOARD:
            yield root(60, id=braces(form["formid"]))
    for page in export.rows("webresource", "name"):
        yield root(61, schemaName=page["name"])
    for site_map in export.rows("sitemap"):
        yield root(62, schemaName=site_map["sitemapnameunique"])
    for app in export.rows("appmodule"):
        yield root(80, schemaName=app["uniquename"])
    for step in export.rows("sdkmessageprocessingstep"):
        yield root(92, id=braces(step["sdkmessageprocessingstepid"]))
    for endpoint in export.rows("serviceendpoint"):
        yield root(95, id=braces(endpoint["serviceendpointid"]))


def _choices(export: Export) -> Iterator[Any]:
    ids = export.ids.get(CHOICE, set())
    return (choice for choice in tables.ordered(export.schema.option_sets) if choice.id in ids)


def _customizations(export: Export) -> Element:
    """The order of the parts is prescribed."""
    boards = [form for form in export.rows("systemform") if form["type"] == _DASHBOARD]
    site_maps, apps = export.rows("sitemap"), export.rows("appmodule")
    root = el(
        "ImportExportXml",
        {"xmlns:xsi": _XSI},
        el("Entities", None, *(_entity(export, part) for part in export.parts)),
        el("Roles", None, *(_role(export, role) for role in export.rows("role", "name"))),
        el("Workflows"),
        el(
            "FieldSecurityProfiles",
            None,
            *(_profile(export, row) for row in export.rows("fieldsecurityprofile", "name")),
        ),
        el("Templates"),
        el("EntityMaps"),
        el("EntityRelationships", None, *(tables.relationship(export.schema, r) for r in export.relationships())),
        el("OrganizationSettings"),
        el("optionsets", None, *(tables.global_choice(choice) for choice in _choices(export))),
        el("Dashboards", None, *(_dashboard(form) for form in boards)),
        el("WebResources", None, *(_web_resource(page) for page in export.rows("webresource", "name"))),
        el("CustomControls"),
        el("SolutionPluginAssemblies"),
        el("SdkMessageProcessingSteps", None, *(_step(export, row) for row in export.rows("sdkmessageprocessingstep"))),
        el("ServiceEndpoints", None, *(_endpoint(row) for row in export.rows("serviceendpoint"))),
        # the schema allows these two to be absent, not empty
        *([el("AppModuleSiteMaps", None, *map(_site_map, site_maps))] if site_maps else []),
        *([el("AppModules", None, *(_app(export, row) for row in apps))] if apps else []),
        el("EntityDataProviders"),
        el("Languages", None, *(leaf("Language", lcid) for lcid in loc_labels.PROVISIONED)),
    )
    _translations(export, root)
    return root


def _translations(export: Export, root: Element) -> None:
    """Names of views, charts and forms in the other languages."""
    for tag, table, key in NAMED:
        for element in root.iter(tag):
            row_id = (element.findtext(key) or "").strip("{}").lower()
            others = loc_labels.of(export.unit.connection, table, row_id, "name")
            for found in element.iterfind("LocalizedNames"):
                found.extend(
                    el("LocalizedName", {"description": word, "languagecode": str(lcid)})
                    for lcid, word in others.items()
                )


def _entity(export: Export, part: Part) -> Element:
    table = part.table
    name = leaf("Name", table.schema_name)
    name.attrib |= {"LocalizedName": table.label, "OriginalName": table.label if table.custom else ""}
    info = (
        tables.whole(export.schema, table)
        if part.everything and table.custom
        else tables.part(export.schema, table, part.columns, part.keys)
    )
    entity = el("Entity", None, name, el("EntityInfo", None, info))
    if part.forms:
        kinds = sorted({row["type"] for row in part.forms})
        groups = [
            el("forms", {"type": _FORMS[kind]}, *(_form(row) for row in part.forms if row["type"] == kind))
            for kind in kinds
        ]
        entity.append(el("FormXml", None, *groups))
    if part.views:
        entity.append(el("SavedQueries", None, el("savedqueries", None, *(_view(row) for row in part.views))))
    if part.charts:
        entity.append(el("Visualizations", None, *(_chart(row) for row in part.charts)))
    if part.ribbon:
        entity.append(fromstring(part.ribbon))
    return entity


def _tail(row: Row) -> list[Element]:
    return [leaf("IsCustomizable", True), leaf("CanBeDeleted", True), names(row["name"])]


def _form(row: Row) -> Element:
    form = fromstring(row["formxml"] or "<form />")
    head = [
        leaf("formid", braces(row["formid"])),
        leaf("IntroducedVersion", tables.INTRODUCED),
        leaf("FormPresentation", 1),
        leaf("FormActivationState", row["formactivationstate"]),
    ]
    return el("systemform", None, *head, form, *_tail(row))


def _view(row: Row) -> Element:
    return el(
        "savedquery",
        None,
        leaf("IsCustomizable", True),
        leaf("CanBeDeleted", row["querytype"] == 0),
        leaf("isquickfindquery", bool(row["isquickfindquery"])),
        leaf("isprivate", False),
        leaf("isdefault", bool(row["isdefault"])),
        leaf("savedqueryid", braces(row["savedqueryid"])),
        held("layoutxml", row["layoutxml"]),
        leaf("querytype", row["querytype"]),
        held("fetchxml", row["fetchxml"]),
        leaf("IntroducedVersion", tables.INTRODUCED),
        names(row["name"]),
    )


def _chart(row: Row) -> Element:
    return el(
        "visualization",
        None,
        leaf("savedqueryvisualizationid", braces(row["savedqueryvisualizationid"])),
        held("datadescription", row["datadescription"]),
        held("presentationdescription", row["presentationdescription"]),
        leaf("isdefault", bool(row["isdefault"])),
        leaf("IsCustomizable", True),
        leaf("CanBeDeleted", True),
        leaf("IntroducedVersion", tables.INTRODUCED),
        names(row["name"]),
    )


def _dashboard(row: Row) -> Element:
    return el(
        "Dashboard",
        None,
        leaf("FormId", braces(row["formid"])),
        names(row["name"]),
        leaf("IsCustomizable", True),
        leaf("IsDefault", bool(row["isdefault"])),
        leaf("CanBeDeleted", True),
        el("FormXml", None, el("forms", {"type": "dashboard"}, fromstring(row["formxml"] or "<form />"))),
        leaf("IntroducedVersion", tables.INTRODUCED),
    )


def _role(export: Export, role: Row) -> Element:
    privileges = export.unit.connection.execute(
        "SELECT p.name, r.privilegedepthmask FROM roleprivileges r JOIN privilege p ON p.privilegeid = r.privilegeid "
        "WHERE r.roleid = ? ORDER BY p.name",
        (role["roleid"],),
    )
    rights = [el("RolePrivilege", {"name": name, "level": _LEVELS[depth]}) for name, depth in privileges]
    return el(
        "Role",
        {"id": braces(role["roleid"]), "name": role["name"]},
        leaf("IsCustomizable", True),
        leaf("IsAutoAssigned", False),
        el("RolePrivileges", None, *rights),
    )


def _profile(export: Export, row: Row) -> Element:
    rights = [
        el(
            "FieldPermission",
            None,
            leaf("EntityName", right["entityname"]),
            leaf("AttributeName", right["attributelogicalname"]),
            leaf("CanRead", right["canread"]),
            leaf("CanUpdate", right["canupdate"]),
            leaf("CanCreate", right["cancreate"]),
        )
        for right in export.all("fieldpermission")
        if right["fieldsecurityprofileid"] == row["fieldsecurityprofileid"]
    ]
    rights.sort(key=lambda right: (right.findtext("EntityName"), right.findtext("AttributeName")))
    identity = {"name": row["name"], "fieldsecurityprofileid": braces(row["fieldsecurityprofileid"])}
    described = {"description": row["description"]} if row["description"] else {}
    return el("FieldSecurityProfile", identity | described, el("FieldPermissions", None, *rights))


def _web_resource(page: Row) -> Element:
    return el(
        "WebResource",
        None,
        leaf("WebResourceId", braces(page["webresourceid"])),
        leaf("Name", page["name"]),
        leaf("DisplayName", page["displayname"]),
        leaf("LanguageCode", page["languagecode"] or 1033),
        leaf("WebResourceType", page["webresourcetype"]),
        leaf("IntroducedVersion", tables.INTRODUCED),
        leaf("IsEnabledForMobileClient", False),
        leaf("IsAvailableForMobileOffline", False),
        leaf("IsCustomizable", True),
        leaf("CanBeDeleted", True),
        leaf("IsHidden", False),
        leaf("FileName", f"/{_file_name(page)}"),
    )


def _step(export: Export, row: Row) -> Element:
    if row["eventhandler:type"] != "serviceendpoint":
        raise Fault(
            400, EXPORT_ERROR,
            f"An error occurred while exporting a Solution. The step {row['name']} runs a plug-in, which cannot be "
            "exported here.",
        )  # fmt: skip
    table = export.unit.connection.execute(
        "SELECT primaryobjecttypecode FROM sdkmessagefilter WHERE sdkmessagefilterid = ?", (row["sdkmessagefilterid"],)
    ).fetchone()
    images = [
        el(
            "SdkMessageProcessingStepImage",
            {"Name": image["name"] or ""},
            leaf("SdkMessageProcessingStepImageId", braces(image["sdkmessageprocessingstepimageid"])),
            leaf("Attributes", image["attributes"]),
            leaf("EntityAlias", image["entityalias"]),
            leaf("ImageType", image["imagetype"]),
            leaf("MessagePropertyName", image["messagepropertyname"]),
            leaf("IsCustomizable", True),
        )
        for image in export.all("sdkmessageprocessingstepimage")
        if image["sdkmessageprocessingstepid"] == row["sdkmessageprocessingstepid"]
    ]
    return el(
        "SdkMessageProcessingStep",
        {"Name": row["name"] or "", "SdkMessageProcessingStepId": braces(row["sdkmessageprocessingstepid"])},
        leaf("SdkMessageId", braces(row["sdkmessageid"])),
        leaf("PrimaryEntity", table[0] if table else ""),
        leaf("AsyncAutoDelete", bool(row["asyncautodelete"])),
        leaf("FilteringAttributes", row["filteringattributes"]),
        leaf("InvocationSource", row["invocationsource"]),
        leaf("Mode", row["mode"]),
        leaf("Rank", row["rank"]),
        leaf("EventHandler", row["eventhandler"]),
        leaf("EventHandlerTypeCode", _SERVICE_ENDPOINT),
        leaf("Stage", row["stage"]),
        leaf("IsCustomizable", True),
        leaf("IsHidden", False),
        leaf("SupportedDeployment", row["supporteddeployment"]),
        leaf("IntroducedVersion", tables.INTRODUCED),
        el("SdkMessageProcessingStepImages", None, *images),
    )


def _endpoint(row: Row) -> Element:
    """Never with its secret."""
    return el(
        "ServiceEndpoint",
        {"ServiceEndpointId": braces(row["serviceendpointid"]), "Name": row["name"]},
        leaf("ConnectionMode", row["connectionmode"]),
        leaf("Contract", row["contract"]),
        leaf("Path", row["path"]),
        leaf("SolutionNamespace", row["solutionnamespace"]),
        leaf("UserClaim", row["userclaim"]),
        leaf("IsCustomizable", True),
        leaf("AuthType", row["authtype"]),
        leaf("MessageFormat", row["messageformat"]),
        *([leaf("NamespaceAddress", row["namespaceaddress"])] if row["namespaceaddress"] else []),
        leaf("NamespaceFormat", row["namespaceformat"] or 1),
        *([leaf("Url", row["url"])] if row["url"] else []),
        leaf("UseKeyVaultConfiguration", False),
    )


def _site_map(row: Row) -> Element:
    made = el("AppModuleSiteMap", None, leaf("SiteMapUniqueName", row["sitemapnameunique"]))
    if row["sitemapxml"]:
        made.append(fromstring(row["sitemapxml"]))
    made.append(names(row["sitemapname"]))
    return made


def _app(export: Export, row: Row) -> Element:
    run = export.unit.connection.execute
    by_id = {table.id: table.name for table in export.schema.tables.values()}
    maps = {each["sitemapid"]: each["sitemapnameunique"] for each in export.all("sitemap")}
    parts = []
    for kind, object_id in run(
        "SELECT componenttype, objectid FROM appmodulecomponent WHERE appmoduleidunique = ?",
        (row["appmoduleid"],),
    ):
        named = by_id.get(object_id) if kind == TABLE else maps.get(object_id) if kind == 62 else None
        identity = {"schemaName": named} if named else {"id": braces(object_id)}
        parts.append(el("AppModuleComponent", {"type": str(kind)} | identity))
    parts.sort(key=lambda part: (int(part.get("type", "0")), part.get("schemaName", ""), part.get("id", "")))
    roles = run("SELECT roleid FROM appmoduleroles WHERE appmoduleid = ? ORDER BY roleid", (row["appmoduleid"],))
    return el(
        "AppModule",
        None,
        leaf("UniqueName", row["uniquename"]),
        leaf("IntroducedVersion", tables.INTRODUCED),
        leaf("WebResourceId", row["webresourceid"] or "953b9fac-1e5e-e611-80d6-00155ded156f"),
        leaf("statecode", 0),
        leaf("statuscode", 1),
        leaf("FormFactor", 1),
        leaf("ClientType", row["clienttype"]),
        leaf("NavigationType", 0),
        el("AppModuleComponents", None, *parts),
        el("AppModuleRoleMaps", None, *(el("Role", {"id": braces(role)}) for (role,) in roles)),
        names(row["name"]),
        texts("Descriptions", "Description", row["description"]),
    )


# --- newer components: a folder each ---


def _folders(export: Export) -> Iterator[tuple[str, bytes]]:
    values = {row["environmentvariabledefinitionid"]: row for row in export.rows("environmentvariablevalue")}
    for row in export.rows("environmentvariabledefinition", "schemaname"):
        folder = f"environmentvariabledefinitions/{row['schemaname']}"
        yield f"{folder}/environmentvariabledefinition.xml", _document(_variable(row))
        value = values.get(row["environmentvariabledefinitionid"])
        if value is not None:
            yield f"{folder}/environmentvariablevalues.json", _value(value)
    pages = {row["webresourceid"]: row["name"] for row in export.all("webresource")}
    for row in export.rows("appaction", "uniquename"):
        action = el("appaction", {"uniquename": row["uniquename"]})
        for column in ACTION_COLUMNS:
            if row[column] is not None:
                action.append(leaf(column, row[column]))
        page = pages.get(row["onclickeventjavascriptwebresourceid"])
        if page:
            action.append(el("onclickeventjavascriptwebresourceid", None, leaf("name", page)))
        yield f"appactions/{row['uniquename']}/appaction.xml", _document(action)


NAMED = (
    ("savedquery", "savedquery", "savedqueryid"),
    ("visualization", "savedqueryvisualization", "savedqueryvisualizationid"),
    ("systemform", "systemform", "formid"),
)
"""Elements with names in several languages: tag, table, where the id is."""

ACTION_COLUMNS = (
    "name", "buttonlabeltext", "context", "contextvalue", "location", "onclickeventtype",
    "onclickeventjavascriptfunctionname", "onclickeventjavascriptparameters", "hidden",
)  # fmt: skip
"""Columns of a modern command that its file carries by name."""


def _variable(row: Row) -> Element:
    def said(tag: str, text: str) -> Element:
        return el(tag, {"default": text}, el("label", {"description": text, "languagecode": "1033"}))

    return el(
        "environmentvariabledefinition",
        {"schemaname": row["schemaname"]},
        *([leaf("defaultvalue", row["defaultvalue"])] if row["defaultvalue"] is not None else []),
        *([said("description", row["description"])] if row["description"] else []),
        said("displayname", row["displayname"]),
        leaf("introducedversion", tables.INTRODUCED),
        leaf("iscustomizable", True),
        leaf("isrequired", False),
        leaf("secretstore", 0),
        leaf("type", row["type"]),
    )


def _value(row: Row) -> bytes:
    value = {
        "@environmentvariablevalueid": row["environmentvariablevalueid"], "iscustomizable": "1", "value": row["value"],
    }  # fmt: skip
    return json.dumps({"environmentvariablevalues": {"environmentvariablevalue": value}}, indent=2).encode()
