"""Tables of `customizations.xml` as the bodies that the metadata endpoints take: two notations, one meaning."""

from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby
from typing import Any
from xml.etree.ElementTree import Element

from local.dataverse.errors import Fault
from local.solutions.package import SCHEMA, described, text, unsupported

Json = dict[str, Any]
_CRM = "Microsoft.Dynamics.CRM"
_TYPES = {
    "nvarchar": "String", "ntext": "Memo", "int": "Integer", "bigint": "BigInt", "decimal": "Decimal", "float": "Double",
    "money": "Money", "bit": "Boolean", "datetime": "DateTime", "picklist": "Picklist",
    "multiselectpicklist": "MultiSelectPicklist", "file": "File", "image": "Image",
}  # fmt: skip
_LOOKUPS = {"lookup", "customer"}
# Made with the table, whether a package lists them or not.
_MADE_BY_PLATFORM = {"primarykey", "state", "status", "owner", "uniqueidentifier", "partylist"}
_BEHAVIORS = {"1": "UserLocal", "2": "DateOnly", "3": "TimeZoneIndependent"}
_LEVELS = {"required": "ApplicationRequired", "recommended": "Recommended", "systemrequired": "SystemRequired"}


def is_custom(attribute: Element) -> bool:
    return text(attribute, "IsCustomField") != "0" and text(attribute, "Type") not in _MADE_BY_PLATFORM


def logical_name(attribute: Element) -> str:
    return (text(attribute, "LogicalName") or attribute.get("PhysicalName", "")).lower()


def label(words: str) -> Json:
    return {"LocalizedLabels": [{"Label": words, "LanguageCode": 1033}]}


def label_at(element: Element, path: str) -> Json:
    """The texts under `LocalizedNames`, `displaynames`, `labels` and the like, in every language."""
    found = element.find(path)
    words = [
        {"Label": each.get("description") or "", "LanguageCode": int(each.get("languagecode") or 1033)}
        for each in (found if found is not None else ())
    ]
    return {"LocalizedLabels": words} if words else label("")


def table_body(entity: Element) -> Json:
    """A table with its primary name column."""
    name = entity.get("Name", "")
    primary = next((a for a in entity.iter("attribute") if "PrimaryName" in text(a, "DisplayMask").split("|")), None)
    if primary is None:
        raise Fault(400, SCHEMA, f"PrimaryName attribute not found for Entity {name}.")
    ownership = {"UserOwned": "UserOwned", "OrgOwned": "OrganizationOwned"}.get(text(entity, "OwnershipTypeMask"))
    if ownership is None:
        mask = text(entity, "OwnershipTypeMask")
        raise Fault(400, "0x80044150", f"Requested value '{mask[:60]}' was not found.")
    return {
        "SchemaName": name,
        "EntitySetName": text(entity, "EntitySetName"),
        **table_texts(entity),
        "OwnershipType": ownership,
        "ChangeTrackingEnabled": text(entity, "ChangeTrackingEnabled") == "1",
        "IsAuditEnabled": {"Value": text(entity, "IsAuditEnabled") == "1"},
        "Attributes": [column_body(primary) | {"IsPrimaryName": True}],
    }


def table_texts(entity: Element) -> Json:
    return {
        "DisplayName": label_at(entity, "LocalizedNames"),
        "DisplayCollectionName": label_at(entity, "LocalizedCollectionNames"),
        "Description": label_at(entity, "Descriptions"),
    }


def columns(entity: Element) -> Iterator[Element]:
    """Columns that are not lookups, not the primary name and not made by the platform."""
    for attribute in entity.iter("attribute"):
        primary = "PrimaryName" in text(attribute, "DisplayMask").split("|")
        if not primary and is_custom(attribute) and text(attribute, "Type") not in _LOOKUPS:
            yield attribute


def common(attribute: Element) -> Json:
    return {
        "SchemaName": attribute.get("PhysicalName"),
        "DisplayName": label_at(attribute, "displaynames"),
        "Description": label_at(attribute, "Descriptions"),
        "RequiredLevel": {"Value": _LEVELS.get(text(attribute, "RequiredLevel"), "None")},
        "IsSecured": text(attribute, "IsSecured") == "1",
    }


def column_body(attribute: Element) -> Json:
    kind = _TYPES.get(text(attribute, "Type"))
    if kind is None or text(attribute, "SourceType") not in ("", "0"):
        raise unsupported(f"column {logical_name(attribute)} of type {text(attribute, 'Type')[:40]}")
    body: Json = {"@odata.type": f"{_CRM}.{kind}AttributeMetadata", "AttributeType": kind} | common(attribute)
    match kind:
        case "String" | "Memo":
            if not text(attribute, "MaxLength"):
                name = logical_name(attribute)
                raise Fault(
                    400, "0x80040203", f"New string attributes must have a max length value (attribute {name})."
                )
            body |= {"MaxLength": int(text(attribute, "MaxLength"))}
            body |= {"FormatName": {"Value": "Text"}, "AutoNumberFormat": text(attribute, "AutoNumberFormat")}
        case "Integer" | "BigInt":
            body |= _bounds(attribute)
        case "Decimal" | "Double" | "Money":
            body |= _bounds(attribute) | {"Precision": int(text(attribute, "Accuracy") or 2)}
        case "Boolean":
            words = {option.get("value"): label_at(option, "labels") for option in attribute.iter("option")}
            sides: Json = {"TrueOption": {"Value": 1, "Label": words.get("1") or label("Yes")}}
            sides |= {"FalseOption": {"Value": 0, "Label": words.get("0") or label("No")}}
            body |= {"DefaultValue": text(attribute, "AppDefaultValue") == "1", "OptionSet": sides}
        case "DateTime":
            body |= {
                "Format": "DateOnly" if text(attribute, "Format") == "date" else "DateAndTime",
                "DateTimeBehavior": {"Value": _BEHAVIORS.get(text(attribute, "Behavior"), "UserLocal")},
            }
        case "Picklist" | "MultiSelectPicklist":
            body |= {"DefaultFormValue": int(text(attribute, "AppDefaultValue") or -1)}
            named = text(attribute, "OptionSetName")
            if named:
                body |= {"GlobalOptionSet@odata.bind": f"/GlobalOptionSetDefinitions(Name='{named}')"}
            else:
                body |= {"OptionSet": {"IsGlobal": False, "OptionSetType": "Picklist", "Options": options(attribute)}}
    return body


def _bounds(attribute: Element) -> Json:
    found = {"MinValue": text(attribute, "MinValue"), "MaxValue": text(attribute, "MaxValue")}
    return {
        name: int(value) if value.lstrip("-").isdecimal() else Decimal(value) for name, value in found.items() if value
    }


def options(element: Element) -> list[Json]:
    return [
        {"Value": int(option.get("value", "0")), "Label": label_at(option, "labels")}
        for option in element.iter("option")
    ]


def global_choice(optionset: Element) -> Json:
    return {
        "@odata.type": f"{_CRM}.OptionSetMetadata",
        "Name": optionset.get("Name"),
        "IsGlobal": True,
        "OptionSetType": "Picklist",
        "DisplayName": label(described(optionset, "displaynames") or optionset.get("localizedName", "")),
        "Options": options(optionset),
    }


def key_body(key: Element) -> Json:
    return {
        "SchemaName": text(key, "Name"),
        "DisplayName": label_at(key, "displaynames"),
        "KeyAttributes": [(name.text or "").strip() for name in key.iter("AttributeName")],
    }


def lookups(customizations: Element) -> Iterator[tuple[str, str, Json]]:
    """(child table, kind, body) of every 1:N relationship that brings a lookup; kind is Lookup, Customer or Polymorphic."""
    attributes: dict[tuple[str, str], Element] = {}
    for entity in customizations.iter("entity"):
        for attribute in entity.iter("attribute"):
            attributes[entity.get("Name", "").lower(), logical_name(attribute)] = attribute

    def place(node: Element) -> tuple[str, str]:
        return text(node, "ReferencingEntityName").lower(), text(node, "ReferencingAttributeName").lower()

    nodes = [
        node
        for node in customizations.iter("EntityRelationship")
        if text(node, "EntityRelationshipType") == "OneToMany" and place(node) in attributes
        if is_custom(attributes[place(node)])
    ]
    for where, group in groupby(sorted(nodes, key=place), key=place):
        ends, attribute = list(group), attributes[where]
        kind = "Customer" if text(attribute, "Type") == "customer" else "Polymorphic" if len(ends) > 1 else "Lookup"
        bodies = [_relationship(end) for end in ends]
        lookup = common(attribute) | {"AttributeType": "Lookup"}
        if kind == "Lookup":
            yield where[0], kind, {"@odata.type": f"{_CRM}.OneToManyRelationshipMetadata", "Lookup": lookup} | bodies[0]
        else:
            yield where[0], kind, {"Lookup": lookup, "OneToManyRelationships": bodies}


def _relationship(node: Element) -> Json:
    navigation = {
        text(role, "RelationshipRoleType"): text(role, "NavigationPropertyName")
        for role in node.iter("EntityRelationshipRole")
    }
    return {
        "SchemaName": node.get("Name"),
        "ReferencedEntity": text(node, "ReferencedEntityName").lower(),
        "ReferencingEntity": text(node, "ReferencingEntityName").lower(),
        "ReferencingEntityNavigationPropertyName": navigation.get("1") or None,
        "ReferencedEntityNavigationPropertyName": navigation.get("0") or None,
        "IsHierarchical": text(node, "IsHierarchical") == "1",
        "CascadeConfiguration": {
            part: text(node, f"Cascade{part}") or "NoCascade"
            for part in ("Assign", "Delete", "Reparent", "Share", "Unshare")
        },
    }


def many_to_many(customizations: Element) -> Iterator[Json]:
    for node in customizations.iter("EntityRelationship"):
        if text(node, "EntityRelationshipType") != "ManyToMany":
            continue
        navigation = {
            text(role, "RelationshipRoleType"): text(role, "NavigationPropertyName")
            for role in node.iter("EntityRelationshipRole")
        }
        yield {
            "@odata.type": f"{_CRM}.ManyToManyRelationshipMetadata",
            "SchemaName": node.get("Name"),
            "Entity1LogicalName": text(node, "FirstEntityName").lower(),
            "Entity2LogicalName": text(node, "SecondEntityName").lower(),
            "IntersectEntityName": text(node, "IntersectEntityName"),
            "Entity1NavigationPropertyName": navigation.get("0") or None,
            "Entity2NavigationPropertyName": navigation.get("1") or None,
        }
