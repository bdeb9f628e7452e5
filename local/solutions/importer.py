"""Applies a package to an environment in one transaction: all of it or nothing."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, tostring

from defusedxml.ElementTree import fromstring

from local.dataverse import components, loc_labels, records
from local.dataverse import metadata_writes as writes
from local.dataverse.errors import Fault
from local.dataverse.metadata_input import labels
from local.dataverse.model import Option, Table
from local.dataverse.records import Unit
from local.dataverse.security import BASIC, DEEP, GLOBAL, LOCAL
from local.solutions import events, exporter, translate
from local.solutions.package import (
    IMPORT_ERROR,
    MANAGED_OVER_UNMANAGED,
    UNMANAGED_OVER_MANAGED,
    Package,
    described,
    text,
)  # fmt: skip
from local.solutions.xml import ENGLISH

_DEPTHS = {"Basic": BASIC, "Local": LOCAL, "Deep": DEEP, "Global": GLOBAL}
_FORM_TYPES = {"main": 2, "quick": 6, "quickCreate": 7, "card": 11, "dialog": 8}


def apply(unit: Unit, package: Package) -> None:
    """Raises `Fault`; the caller's transaction undoes what was done until then."""
    _solution(unit, package)
    unit.solution = package.name
    holder = Holder(unit, package)
    customizations = package.customizations
    for choice in customizations.findall("optionsets/optionset"):
        known = unit.schema.option_sets.get(choice.get("Name", ""))
        if known is None:
            writes.create_option_set(unit, translate.global_choice(choice), package.name)
        else:
            holder.has(components.CHOICE, known.id)
    entities = [entity for entity in customizations.iter("entity") if entity.get("Name")]
    for entity in entities:
        _table(holder, entity)
    for entity in entities:
        for attribute in translate.columns(entity):
            _column(holder, _named(unit, entity), attribute)
        for attribute in entity.iter("attribute"):
            if not translate.is_custom(attribute):
                _more_options(holder, _named(unit, entity), attribute)
    for child, kind, body in translate.lookups(customizations):
        _lookup(holder, child, kind, body)
    for entity in entities:
        table = _named(unit, entity)
        for key in entity.iter("EntityKey"):
            present = table.keys.get(text(key, "Name").lower())
            if present is None:
                writes.create_key(unit, table, translate.key_body(key), package.name)
            else:
                holder.has(components.KEY, present.id)
    for body in translate.many_to_many(customizations):
        relation = unit.schema.relationships.get(body["SchemaName"])
        if relation is None:
            writes.create_relationship(unit, body, package.name)
        else:
            holder.has(components.RELATIONSHIP, relation.id)
    unit.schema.changed()
    for set_name, row_id, row in _rows(package):
        holder.put(unit.schema.sets[set_name], row_id, row)
    _translations(unit, customizations)
    for entity in customizations.iter("Entity"):
        _merge_forms(holder, entity)
        ribbon = entity.find("RibbonDiffXml")
        if ribbon is not None and len(ribbon):
            name = text(entity, "Name").lower()
            components.note_layer(unit, package.name, "ribbon", name, _inner(_held(ribbon)))
    _roles(holder, customizations)
    _field_security(holder, customizations)
    _app_components(unit, customizations)
    _commands(holder)
    events.bring(holder)


@dataclass(frozen=True)
class Holder:
    """The package whose solution becomes a holder of each part it brings."""

    unit: Unit
    package: Package

    def has(self, kind: int, object_id: str, behavior: int = components.ALL) -> None:
        """Of a part that was there before."""
        if self.package.managed:
            components.keep(self.unit, kind, object_id)
        components.add(self.unit, self.package.name, kind, object_id, behavior)

    def puts_on(self, kind: str, part: str, content: str, *, new: bool) -> None:
        """Of an option or a tab on a choice or form of others: its own, or one that another solution put there too."""
        if new or components.is_layer(self.unit, kind, part):
            components.note_layer(self.unit, self.package.name, kind, part, content)

    def put(self, table: Table, row_id: str, row: dict[str, Any]) -> None:
        if records.read_row(self.unit, table, row_id) is None:
            records.create(self.unit, table, row | {table.primary_id: row_id})
        else:
            records.update(self.unit, table, row_id, row)
            self.has(components.ROWS[table.name], row_id)


def _solution(unit: Unit, package: Package) -> None:
    run = unit.connection.execute
    publisher = run(
        "SELECT publisherid FROM publisher WHERE uniquename = ?", (package.publisher["uniquename"],)
    ).fetchone()
    if publisher is None:
        publisher = (records.create(unit, unit.schema.tables["publisher"], package.publisher),)
    found = run("SELECT solutionid, ismanaged FROM solution WHERE uniquename = ?", (package.name,)).fetchone()
    if found is None:
        body = {"uniquename": package.name, "friendlyname": package.display, "version": package.version}
        body["publisherid@odata.bind"] = f"/publishers({publisher[0]})"
        solution = records.create(unit, unit.schema.tables["solution"], body)
        run("UPDATE solution SET ismanaged = ? WHERE solutionid = ?", (int(package.managed), solution))
        return
    if bool(found[1]) != package.managed:
        ours, theirs = ("managed", "unmanaged") if package.managed else ("unmanaged", "managed")
        code = MANAGED_OVER_UNMANAGED if package.managed else UNMANAGED_OVER_MANAGED
        raise Fault(
            400,
            code,
            f"The solution is already installed on this system as an {theirs} solution and the package supplied is "
            f"attempting to install it in {ours} mode. Import can only update solutions when the modes match.",
        )
    run("UPDATE solution SET version = ? WHERE solutionid = ?", (package.version, found[0]))


def _named(unit: Unit, entity: Element) -> Table:
    name = entity.get("Name", "").lower()
    if name not in unit.schema.tables:
        raise Fault(400, IMPORT_ERROR, f"The entity {name[:100]} was not found in the MetadataCache.")
    return unit.schema.tables[name]


def _table(holder: Holder, entity: Element) -> None:
    unit, name = holder.unit, entity.get("Name", "").lower()
    present = unit.schema.tables.get(name)
    if present is None:
        if entity.find("OwnershipTypeMask") is None:
            _named(unit, entity)
        writes.create_table(unit, translate.table_body(entity), holder.package.name)
        return
    if present.custom and entity.find("LocalizedNames") is not None:
        writes.update_table(unit, present, translate.table_texts(entity))
    listed = {
        root.get("schemaName", "").lower(): root.get("behavior") for root in holder.package.roots if root["type"] == "1"
    }
    behavior = int(listed.get(name) or components.LISTED)
    if present.custom:
        holder.has(components.TABLE, present.id, behavior)
    else:
        components.add(unit, holder.package.name, components.TABLE, present.id, behavior)


def _column(holder: Holder, table: Table, attribute: Element) -> None:
    body, name = translate.column_body(attribute), translate.logical_name(attribute)
    found = table.columns.get(name)
    if found is None:
        writes.create_column(holder.unit, table, body, holder.package.name)
        return
    if found.type != body["AttributeType"]:
        raise Fault(
            400,
            IMPORT_ERROR,
            f"Attribute {name} of {table.name} is a {found.type} in this system but a {body['AttributeType']} in the import.",
        )
    body.pop("OptionSet", None)
    writes.update_column(holder.unit, table, found, body)
    holder.has(components.COLUMN, found.id)
    _more_options(holder, table, attribute)


def _more_options(holder: Holder, table: Table, attribute: Element) -> None:
    """Options that are missing; labels of those that are there follow the package only on columns of the package."""
    column = table.columns.get(translate.logical_name(attribute))
    if column is None or text(attribute, "Type") != "picklist":
        return
    for option in translate.options(attribute):
        words, others = labels(option["Label"], "Label")
        present = next((each for each in column.options if each.value == option["Value"]), None)
        if present is None:
            column.options.append(Option(option["Value"], words, labels=others))
            holder.puts_on("option", f"{table.name}/{column.name}/{option['Value']}", words, new=True)
        else:
            if column.custom:
                present.label, present.labels = words, others
            holder.puts_on("option", f"{table.name}/{column.name}/{option['Value']}", words, new=False)
    holder.unit.env.save(table)


def _lookup(holder: Holder, child: str, kind: str, body: dict[str, Any]) -> None:
    unit, solution = holder.unit, holder.package.name
    column = unit.schema.tables[child].columns.get(body["Lookup"]["SchemaName"].lower())
    if column is not None:
        holder.has(components.COLUMN, column.id)
        for relation in unit.schema.relationships.values():
            if relation.referencing == child and relation.attribute == column.name:
                holder.has(components.RELATIONSHIP, relation.id)
    elif kind == "Lookup":
        writes.create_relationship(unit, body, solution)
    elif kind == "Customer":
        writes.create_customer(unit, body, solution)
    else:
        writes.create_polymorphic(unit, body, solution)


def _guid(value: str | None) -> str:
    return (value or "").strip().strip("{}").lower()


def _held(element: Element) -> Element:
    holder = Element("holder")
    holder.append(element)
    return holder


def _inner(element: Element | None) -> str:
    """The XML of the first child, without the white space of the package's layout."""
    if element is None or not len(element):
        return ""
    child = element[0]
    for node in child.iter():
        node.tail = None
        if len(node) and not (node.text or "").strip():
            node.text = None
    return tostring(child, encoding="unicode")


def _rows(package: Package) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(entity set, id, row) of everything that is a row in Dataverse."""
    customizations = package.customizations
    for page in customizations.findall("WebResources/WebResource"):
        content = package.files.get(text(page, "FileName").lstrip("/"))
        if content is None:
            raise Fault(400, IMPORT_ERROR, f"The file of web resource {text(page, 'Name')} is not in the package.")
        row: dict[str, Any] = {"name": text(page, "Name"), "displayname": text(page, "DisplayName")}
        row |= {"webresourcetype": int(text(page, "WebResourceType")), "content": base64.b64encode(content).decode()}
        yield "webresourceset", _guid(text(page, "WebResourceId")), row
    for name, data in package.files.items():
        if name.endswith("/environmentvariabledefinition.xml"):
            yield from _variable(fromstring(data))
            yield from _value(name, package)
    for entity in customizations.iter("Entity"):
        yield from _table_rows(entity)
    for board in customizations.findall("Dashboards/Dashboard"):
        row = {"name": described(board, "LocalizedNames"), "objecttypecode": "none", "type": 0}
        yield "systemforms", _guid(text(board, "FormId")), row | {"formxml": _inner(board.find("FormXml/forms"))}
    for map_ in customizations.findall("AppModuleSiteMaps/AppModuleSiteMap"):
        name, site_map = text(map_, "SiteMapUniqueName"), map_.find("SiteMap")
        holder = Element("holder")
        holder.extend([site_map] if site_map is not None else [])
        row = {
            "sitemapname": described(map_, "LocalizedNames"),
            "sitemapnameunique": name,
            "sitemapxml": _inner(holder),
        }
        yield "sitemaps", _derived("sitemap", name), row
    for app in customizations.findall("AppModules/AppModule"):
        name = text(app, "UniqueName")
        row = {
            "uniquename": name,
            "name": described(app, "LocalizedNames"),
            "description": described(app, "Descriptions"),
        }
        row |= {
            "clienttype": int(text(app, "ClientType") or 4),
            "webresourceid": _guid(text(app, "WebResourceId")) or None,
        }
        yield "appmodules", _derived("appmodule", name), row


def _derived(kind: str, name: str) -> str:
    """Packages name apps and site maps; their ids are made on import."""
    from local.dataverse.model import stable_id

    return stable_id(kind, name)


def _variable(definition: Element) -> Iterator[tuple[str, str, dict[str, Any]]]:
    name, shown, about = (
        definition.get("schemaname", ""),
        definition.find("displayname"),
        definition.find("description"),
    )
    row = {
        "schemaname": name,
        "displayname": shown.get("default", name) if shown is not None else name,
        "description": about.get("default") if about is not None else None,
        "type": int(text(definition, "type") or 100000000),
        "defaultvalue": text(definition, "defaultvalue") or None,
    }
    yield "environmentvariabledefinitions", _derived("environmentvariabledefinition", name), row


def _value(name: str, package: Package) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The value that lies beside a variable's definition, if there is one."""
    folder = name.rpartition("/")[0]
    data = package.files.get(f"{folder}/environmentvariablevalues.json")
    if data is None:
        return
    variable = folder.rpartition("/")[2]
    try:
        value = json.loads(data)["environmentvariablevalues"]["environmentvariablevalue"]
        row_id, words = value["@environmentvariablevalueid"], value["value"]
    except (ValueError, KeyError, TypeError):
        raise Fault(400, IMPORT_ERROR, f"The value of environment variable {variable[:100]} is not readable.") from None
    definition = _derived("environmentvariabledefinition", variable)
    bind = {"EnvironmentVariableDefinitionId@odata.bind": f"/environmentvariabledefinitions({definition})"}
    yield "environmentvariablevalues", _guid(row_id), {"schemaname": variable, "value": words} | bind


def _table_rows(entity: Element) -> Iterator[tuple[str, str, dict[str, Any]]]:
    table = text(entity, "Name").lower()
    for view in entity.iter("savedquery"):
        row: dict[str, Any] = {
            "name": described(view, "LocalizedNames"),
            "returnedtypecode": table,
            "querytype": int(text(view, "querytype") or 0),
            "fetchxml": _inner(view.find("fetchxml")),
            "layoutxml": _inner(view.find("layoutxml")),
            "isdefault": text(view, "isdefault") == "1",
            "isquickfindquery": text(view, "isquickfindquery") == "1",
        }
        yield "savedqueries", _guid(text(view, "savedqueryid")), row
    for chart in entity.iter("visualization"):
        row = {
            "name": described(chart, "LocalizedNames"),
            "primaryentitytypecode": table,
            "datadescription": _inner(chart.find("datadescription")),
            "presentationdescription": _inner(chart.find("presentationdescription")),
        }
        yield "savedqueryvisualizations", _guid(text(chart, "savedqueryvisualizationid")), row
    for forms in entity.findall("FormXml/forms"):
        for form in forms.findall("systemform"):
            holder, xml = Element("holder"), form.find("form")
            if xml is None or _is_difference(form) or form.get("unmodified") == "1":
                continue
            holder.append(xml)
            row = {"name": described(form, "LocalizedNames"), "objecttypecode": table, "formxml": _inner(holder)}
            row |= {"type": _FORM_TYPES.get(forms.get("type", "main"), 2), "formactivationstate": 1}
            yield "systemforms", _guid(text(form, "formid")), row


def _translations(unit: Unit, customizations: Element) -> None:
    """Names of views, charts and forms in further languages; a language that the environment lacks is left out."""
    for tag, table, key in exporter.NAMED:
        for element in customizations.iter(tag):
            found = element.iterfind("LocalizedNames/LocalizedName")
            words = {int(name.get("languagecode", "0")): name.get("description", "") for name in found}
            others = {lcid: word for lcid, word in words.items() if lcid in loc_labels.PROVISIONED and lcid != ENGLISH}
            if others and not _is_difference(element):
                loc_labels.put(unit.connection, table, _guid(text(element, key)), "name", others)


def _is_difference(form: Element) -> bool:
    return any(node.get("solutionaction") for node in form.iter())


def _merge_forms(holder: Holder, entity: Element) -> None:
    """Added tabs of a managed difference go at the end of the form they name, if the environment has it."""
    unit, table = holder.unit, holder.unit.schema.tables["systemform"]
    for form in entity.iter("systemform"):
        row_id = _guid(text(form, "formid"))
        present = records.read_row(unit, table, row_id) if _is_difference(form) else None
        if present is None:
            continue
        merged = fromstring(present["formxml"])
        tabs = merged.find("tabs")
        if tabs is None:
            continue
        for tab in form.iter("tab"):
            new = all(each.get("name") != tab.get("name") for each in tabs)
            if new:
                tabs.append(tab)
            holder.puts_on("tab", f"{row_id}/{tab.get('name')}", "", new=new)
        records.update(unit, table, row_id, {"formxml": tostring(merged, encoding="unicode")})


def _roles(holder: Holder, customizations: Element) -> None:
    unit = holder.unit
    run = unit.connection.execute
    (unit_id,) = run("SELECT businessunitid FROM businessunit WHERE parentbusinessunitid IS NULL").fetchone()
    known = {name.lower(): row_id for row_id, name in run("SELECT privilegeid, name FROM privilege")}
    table = unit.schema.tables["role"]
    for role in customizations.findall("Roles/Role"):
        row_id = _guid(role.get("id"))
        row = {"name": role.get("name"), "businessunitid@odata.bind": f"/businessunits({unit_id})"}
        holder.put(table, row_id, row if records.read_row(unit, table, row_id) is None else {"name": role.get("name")})
        run("DELETE FROM roleprivileges WHERE roleid = ?", (row_id,))
        for right in role.iter("RolePrivilege"):
            name, depth = right.get("name", ""), _DEPTHS.get(right.get("level", ""))
            if name.lower() not in known or depth is None:
                raise Fault(400, IMPORT_ERROR, f"Role {role.get('name')}: privilege {name[:100]} is unknown.")
            run(
                "INSERT INTO roleprivileges (roleprivilegeid, roleid, privilegeid, privilegedepthmask, versionnumber) "
                "VALUES (?, ?, ?, ?, ?)",
                (
                    _derived("roleprivilege", f"{row_id}/{name}"),
                    row_id,
                    known[name.lower()],
                    depth,
                    unit.env.next_version(),
                ),
            )
    unit.touched.add("roleprivileges")


def _field_security(holder: Holder, customizations: Element) -> None:
    """Profiles with the rights of the package; who has them is data and stays."""
    unit, tables = holder.unit, holder.unit.schema.tables
    for profile in customizations.findall("FieldSecurityProfiles/FieldSecurityProfile"):
        row_id = _guid(profile.get("fieldsecurityprofileid"))
        row = {"name": profile.get("name"), "description": profile.get("description")}
        holder.put(tables["fieldsecurityprofile"], row_id, row)
        unit.connection.execute("DELETE FROM fieldpermission WHERE fieldsecurityprofileid = ?", (row_id,))
        for right in profile.iter("FieldPermission"):
            table, column = text(right, "EntityName").lower(), text(right, "AttributeName").lower()
            if table not in tables or column not in tables[table].columns:
                words = f"Field security profile {profile.get('name')}: column {table[:60]}.{column[:60]} is unknown."
                raise Fault(400, IMPORT_ERROR, words)
            depths = {
                f"can{verb.lower()}": int(text(right, f"Can{verb}") or 0) for verb in ("Read", "Create", "Update")
            }
            bind = {"fieldsecurityprofileid@odata.bind": f"/fieldsecurityprofiles({row_id})"}
            body = {"entityname": table, "attributelogicalname": column} | depths | bind
            records.create(unit, tables["fieldpermission"], body)


def _app_components(unit: Unit, customizations: Element) -> None:
    run = unit.connection.execute
    for app in customizations.findall("AppModules/AppModule"):
        app_id = _derived("appmodule", text(app, "UniqueName"))
        run("DELETE FROM appmodulecomponent WHERE appmoduleidunique = ?", (app_id,))
        roles = {_guid(role.get("id")) for role in app.iterfind("AppModuleRoleMaps/Role")}
        mapped = {role for (role,) in run("SELECT roleid FROM appmoduleroles WHERE appmoduleid = ?", (app_id,))}
        relation = unit.schema.relationships["appmoduleroles_association"]
        for role_id in sorted(roles - mapped):
            records.associate(unit, unit.schema.tables["appmodule"], app_id, relation, role_id)
        for component in app.iter("AppModuleComponent"):
            kind, named = int(component.get("type", "0")), component.get("schemaName", "")
            object_id = _guid(component.get("id")) or (
                _derived("sitemap", named) if kind == 62 else unit.schema.tables[named.lower()].id
            )
            run(
                "INSERT INTO appmodulecomponent (appmodulecomponentid, appmoduleidunique, componenttype, objectid, "
                "versionnumber) VALUES (?, ?, ?, ?, ?)",
                (
                    _derived("component", f"{app_id}/{kind}/{object_id}"),
                    app_id,
                    kind,
                    object_id,
                    unit.env.next_version(),
                ),
            )


def _commands(holder: Holder) -> None:
    """Modern commands name their script; its id is that of this environment."""
    unit = holder.unit
    for name, data in holder.package.files.items():
        if not name.endswith("/appaction.xml"):
            continue
        action = fromstring(data)
        unique = action.get("uniquename", "")
        row: dict[str, Any] = {"uniquename": unique}
        table = unit.schema.tables["appaction"]
        for column in exporter.ACTION_COLUMNS:
            given = action.findtext(column)
            if given is not None:
                kind = table.columns[column].type
                row[column] = given == "1" if kind == "Boolean" else int(given) if kind == "Picklist" else given
        about = unit.schema.tables.get(row.get("contextvalue") or "")
        if about is not None:
            row["ContextEntity@odata.bind"] = f"/entities({about.id})"
        page = text(action, "onclickeventjavascriptwebresourceid/name")
        if page:
            found = unit.connection.execute("SELECT webresourceid FROM webresource WHERE name = ?", (page,)).fetchone()
            if found is None:
                raise Fault(400, IMPORT_ERROR, f"The command {unique[:100]} calls {page[:100]}, which does not exist.")
            row["OnClickEventJavaScriptWebResourceId@odata.bind"] = f"/webresourceset({found[0]})"
        known = unit.connection.execute("SELECT appactionid FROM appaction WHERE uniquename = ?", (unique,)).fetchone()
        holder.put(table, known[0] if known else _derived("appaction", unique), row)
