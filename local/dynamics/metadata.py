"""Navigation, views, forms and commands of the environment as JSON for the browser. The user's rights decide what is in it."""

import re
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring

from dataverse_schema.api import Json, WebApi, text
from local.dynamics.people import Person

_SUBGRID = "{E7A81278-8635-4D9E-8D4D-59480B391C5B}"
_PAGE = "{9FDF5F91-88B1-47F4-AD53-C11EFC01A01D}"
_SALES = ("account", "contact", "invoice")
_PUBLIC, _MAIN = 0, 2
_BASE = 1033
# Which privilege shows a command of ours; Dynamics takes it from the ribbon of the imported package.
_COMMAND_PRIVILEGE = "prvcreateloy_redemption"


class Metadata:
    """In one language (LCID); a text that is not translated is shown in English."""

    def __init__(self, api: WebApi, lcid: int) -> None:
        self._api = api
        self.lcid = lcid
        self._words: dict[str, Json] = {}

    def navigation(self, person: Person) -> list[Json]:
        """Areas, their groups and entries: those of Sales, and of each app that a role of the user opens."""
        sales = {"title": "Customers", "entries": self._tables(_SALES, person)}
        areas = [{"title": "Sales", "groups": [sales]}]
        for app in self._api.rows(
            "appmodules?$select=name,uniquename&$expand=appmoduleroles_association($select=name)&$orderby=name"
        ):
            if {role["name"] for role in app["appmoduleroles_association"]} & set(person.roles):
                areas += self._areas(app["uniquename"], person)
        return areas

    def table(self, name: str, person: Person) -> Json:
        """What the browser needs to show rows of a table; LookupError if there is no such table."""
        words = self._table(name)
        columns = self._columns(name)
        schema = words["schema"].lower()
        return words | {
            "labels": {column: about["title"] for column, about in columns.items()},
            "columns": columns,
            "views": self._views(name),
            "form": self._form(name),
            "commands": self._commands(name, person),
            "may": {verb: f"prv{verb}{schema}" in person.privileges for verb in ("create", "write")},
        }

    def _areas(self, app: str, person: Person) -> list[Json]:
        maps = self._api.rows(f"sitemaps?$select=sitemapxml&$filter=sitemapnameunique eq {text(app)}")
        return [_area(self, area, person) for row in maps for area in fromstring(row["sitemapxml"]).iter("Area")]

    def entry(self, sub: Element, person: Person) -> Json | None:
        """One line of the navigation; None for what the user may not see, or this stand-in cannot show."""
        table, url = sub.get("Entity"), sub.get("Url", "")
        if table:
            return next(iter(self._tables((table,), person)), None)
        needed = {f"prv{each.get('Privilege')}{each.get('Entity')}".lower() for each in sub.iter("Privilege")}
        if url.startswith("$webresource:") and needed <= person.privileges:
            return {"page": url.removeprefix("$webresource:"), "title": _title(sub, self.lcid)}
        return None

    def _tables(self, names: tuple[str, ...], person: Person) -> list[Json]:
        found = [self._table(name) for name in names]
        return [
            {"table": words["name"], "title": words["plural"]}
            for words in found
            if f"prvread{words['schema']}".lower() in person.privileges
        ]

    def _table(self, name: str) -> Json:
        if name not in self._words:
            row = self._api.get(
                f"EntityDefinitions(LogicalName={text(name)})?$select=LogicalName,SchemaName,EntitySetName,"
                "PrimaryIdAttribute,PrimaryNameAttribute,DisplayName,DisplayCollectionName"
            )
            if row is None:
                raise LookupError(name)
            self._words[name] = {
                "name": row["LogicalName"],
                "schema": row["SchemaName"],
                "set": row["EntitySetName"],
                "id": row["PrimaryIdAttribute"],
                "primary": row["PrimaryNameAttribute"],
                "title": _label(row["DisplayName"], self.lcid) or name.title(),
                "plural": _label(row["DisplayCollectionName"], self.lcid) or f"{name.title()}s",
            }
        return self._words[name]

    def _columns(self, name: str) -> dict[str, Json]:
        """What a form needs to know of each column: title, type, limits, choices, and where a lookup leads."""
        path = f"EntityDefinitions(LogicalName={text(name)})"
        columns = {row["LogicalName"]: _column(row, self.lcid) for row in self._api.rows(f"{path}/Attributes")}
        for kind in ("Picklist", "Boolean", "State", "Status"):
            cast = f"{path}/Attributes/Microsoft.Dynamics.CRM.{kind}AttributeMetadata"
            for row in self._api.rows(f"{cast}?$select=LogicalName&$expand=OptionSet"):
                columns[row["LogicalName"]]["options"] = _options(row["OptionSet"], self.lcid)
        ends = "ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName"
        for end in self._api.rows(f"{path}/ManyToOneRelationships?$select={ends}"):
            lookup = columns.get(end["ReferencingAttribute"])
            if lookup is not None:
                lookup.setdefault("targets", {})[end["ReferencedEntity"]] = end[
                    "ReferencingEntityNavigationPropertyName"
                ]
        return columns

    def _views(self, name: str) -> list[Json]:
        rows = self._api.rows(
            "savedqueries?$select=savedqueryid,name,layoutxml,isdefault"
            f"&$filter=returnedtypecode eq {text(name)} and querytype eq {_PUBLIC}&$orderby=name"
        )
        return [
            {
                "id": row["savedqueryid"],
                "name": self._words_of("savedqueries", row["savedqueryid"], "name") or row["name"],
                "default": bool(row["isdefault"]),
                "columns": [
                    {"name": cell.get("name"), "width": int(cell.get("width") or 100)}
                    for cell in fromstring(row["layoutxml"] or "<grid/>").iter("cell")
                ],
            }
            for row in rows
        ]

    def _form(self, name: str) -> Json:
        """The main form: tabs, the scripts it loads, and which of their functions hear which event."""
        rows = self._api.rows(
            f"systemforms?$select=formxml&$filter=objecttypecode eq {text(name)} and type eq {_MAIN} and "
            "formactivationstate eq 1"
        )
        form = fromstring(rows[0]["formxml"]) if rows else fromstring("<form/>")
        return {
            "tabs": [
                {
                    "title": _description(tab, self.lcid),
                    "sections": [_section(section, self.lcid) for section in tab.iter("section")],
                }
                for tab in form.iter("tab")
            ],
            "libraries": [library.get("name", "") for library in form.iterfind("formLibraries/Library")],
            "handlers": [
                _handler(event, handler) for event in form.iterfind("events/event") for handler in event.iter("Handler")
            ],
        }

    def _commands(self, name: str, person: Person) -> list[Json]:
        if _COMMAND_PRIVILEGE not in person.privileges:
            return []
        rows = self._api.rows(
            "appactions?$select=appactionid,buttonlabeltext,onclickeventjavascriptfunctionname"
            "&$expand=OnClickEventJavaScriptWebResourceId($select=name)"
            f"&$filter=contextvalue eq {text(name)} and location eq 0"
        )
        return [
            {
                "label": self._words_of("appactions", row["appactionid"], "buttonlabeltext") or row["buttonlabeltext"],
                "function": row["onclickeventjavascriptfunctionname"],
                "library": row["OnClickEventJavaScriptWebResourceId"]["name"],
            }
            for row in rows
        ]

    def _words_of(self, path: str, row_id: str, column: str) -> str:
        """What a row is called; Dynamics asks as its user and gets it in their language."""
        if self.lcid == _BASE:
            return ""
        reference = f"@row={{'@odata.id':'{path}({row_id})'}}&@column={text(column)}"
        call = f"RetrieveLocLabels(EntityMoniker=@row,AttributeName=@column,IncludeUnpublished=false)?{reference}"
        return _label((self._api.get(call) or {}).get("Label"), self.lcid)


def _area(metadata: Metadata, area: Element, person: Person) -> Json:
    groups = []
    for group in area.iter("Group"):
        entries = [entry for sub in group.iter("SubArea") if (entry := metadata.entry(sub, person))]
        if entries:
            groups.append({"title": _title(group, metadata.lcid), "entries": entries})
    return {"title": _title(area, metadata.lcid), "groups": groups}


def _section(section: Element, lcid: int) -> Json:
    cells = [cell for each in section.iter("cell") if (cell := _cell(each, lcid))]
    return {"title": _description(section, lcid), "columns": len(section.get("columns", "1")), "cells": cells}


def _cell(cell: Element, lcid: int) -> Json | None:
    control = cell.find("control")
    if control is None:
        return None
    kind = control.get("classid", "").upper()
    if kind == _PAGE:
        found: Any = re.sub(r"^\$webresource:", "", control.findtext("parameters/Url") or "")
        return {"kind": "page", "page": found, "title": _description(cell, lcid), "rows": int(cell.get("rowspan") or 6)}
    if kind == _SUBGRID:
        return {
            "kind": "grid",
            "table": control.findtext("parameters/TargetEntityType"),
            "view": (control.findtext("parameters/ViewId") or "").strip("{}").lower(),
            "relationship": control.findtext("parameters/RelationshipName"),
        }
    name, locked = control.get("datafieldname"), control.get("disabled") == "true"
    return {"kind": "field", "name": name, "title": _description(cell, lcid), "locked": locked}


def _handler(event: Element, handler: Element) -> Json:
    return {
        "event": event.get("name", "").lower(),
        "column": event.get("attribute", ""),
        "function": handler.get("functionName", ""),
        "enabled": handler.get("enabled") == "true",
        "context": handler.get("passExecutionContext") == "true",
        "parameters": handler.get("parameters", ""),
    }


def _column(row: Json, lcid: int) -> Json:
    limits = {"length": "MaxLength", "minimum": "MinValue", "maximum": "MaxValue", "precision": "Precision"}
    behavior = row.get("DateTimeBehavior") or {}
    return {
        "title": _label(row["DisplayName"], lcid) or row["LogicalName"],
        "type": row["AttributeType"],
        "required": row["RequiredLevel"]["Value"] in ("ApplicationRequired", "SystemRequired"),
        "create": row["IsValidForCreate"],
        "update": row["IsValidForUpdate"],
        "date_only": behavior.get("Value") == "DateOnly",
    } | {name: float(row[key]) for name, key in limits.items() if row.get(key) is not None}


def _options(option_set: Json, lcid: int) -> list[Json]:
    both = [option_set.get("FalseOption"), option_set.get("TrueOption")]
    options = option_set.get("Options") or [option for option in both if option]
    return [{"value": option["Value"], "title": _label(option["Label"], lcid)} for option in options]


def _title(element: Element, lcid: int) -> str:
    titles = {title.get("LCID"): title.get("Title") for title in element.iterfind("Titles/Title")}
    return titles.get(str(lcid)) or titles.get(str(_BASE)) or element.get("Title") or ""


def _description(element: Element, lcid: int) -> str:
    words = {label.get("languagecode"): label.get("description") for label in element.iterfind("labels/label")}
    return words.get(str(lcid)) or words.get(str(_BASE)) or ""


def _label(value: Json | None, lcid: int) -> str:
    words = {each["LanguageCode"]: each["Label"] for each in (value or {}).get("LocalizedLabels") or []}
    return words.get(lcid) or words.get(_BASE) or ""
