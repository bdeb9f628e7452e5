"""Request bodies of the Web API's metadata endpoints, from the source. Pure functions.

Shapes: "Create and update column/table/relationship definitions using the Web API", Microsoft Dataverse documentation.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from .model import Column, Key, Languages, Relationship, Table

_CRM = "Microsoft.Dynamics.CRM"
Body = dict[str, Any]


def label(text: str, languages: Languages) -> Body:
    """`text` as a Label in every language."""
    localized = [
        {"@odata.type": f"{_CRM}.LocalizedLabel", "Label": word, "LanguageCode": lcid}
        for lcid, word in languages.of(text).items()
    ]
    return {"@odata.type": f"{_CRM}.Label", "LocalizedLabels": localized}


def table_body(table: Table, languages: Languages) -> Body:
    """A table with its primary name column; the other columns follow one by one."""
    assert table.primary_name is not None, "standard tables are not created"
    primary = table.primary_name
    return {
        "@odata.type": f"{_CRM}.EntityMetadata",
        "SchemaName": table.schema_name,
        "EntitySetName": table.entity_set,
        **_table_texts(table, languages),
        "OwnershipType": table.ownership,
        "IsActivity": False,
        "HasActivities": False,
        "HasNotes": False,
        "ChangeTrackingEnabled": table.change_tracking,
        "IsAuditEnabled": {"Value": table.audit},
        "Attributes": [
            {
                "@odata.type": f"{_CRM}.StringAttributeMetadata",
                "SchemaName": primary.schema_name,
                "DisplayName": label(primary.display, languages),
                "Description": label("", languages),
                "AttributeType": "String",
                "AttributeTypeName": {"Value": "StringType"},
                "IsPrimaryName": True,
                "IsAuditEnabled": {"Value": table.audit},
                "RequiredLevel": {"Value": "None"},
                "FormatName": {"Value": "Text"},
                "MaxLength": primary.max_length,
            }
        ],
    }


def _table_texts(table: Table, languages: Languages) -> Body:
    return {
        "DisplayName": label(table.display, languages),
        "DisplayCollectionName": label(table.plural, languages),
        "Description": label(table.description, languages),
    }


def column_body(column: Column, audit: bool, languages: Languages) -> Body:
    """A column that is not a lookup; lookups are made by their relationship."""
    assert not column.is_lookup, "lookups are made by their relationship"
    return {
        "@odata.type": f"{_CRM}.{column.type}AttributeMetadata",
        **_column_common(column, languages),
        "AttributeType": column.type,
        "AttributeTypeName": {"Value": f"{column.type}Type"},
        "IsAuditEnabled": {"Value": audit},
        **_column_tail(column, languages),
    }


def _column_common(column: Column, languages: Languages) -> Body:
    return {
        "SchemaName": column.schema_name,
        "DisplayName": label(column.display, languages),
        "Description": label(column.description, languages),
        "RequiredLevel": {"Value": "ApplicationRequired" if column.required else "None"},
    }


def _column_tail(column: Column, languages: Languages) -> Body:
    match column.type:
        case "String":
            return {"FormatName": {"Value": "Text"}, "MaxLength": column.max_length}
        case "Memo":
            return {"Format": "TextArea", "MaxLength": column.max_length}
        case "Integer":
            return {"Format": "None", "MinValue": column.minimum, "MaxValue": column.maximum}
        case "Decimal":
            return {"Precision": column.precision, "MinValue": column.minimum, "MaxValue": column.maximum}
        case "Boolean":
            return {"DefaultValue": bool(column.default), "OptionSet": _yes_no(languages)}
        case "DateTime":
            form = "DateOnly" if column.behavior == "DateOnly" else "DateAndTime"
            return {"Format": form, "DateTimeBehavior": {"Value": column.behavior}}
        case "Picklist":
            return {
                # -1 is the platform's word for "no default".
                "DefaultFormValue": -1 if column.default is None else int(column.default),
                "OptionSet": {
                    "@odata.type": f"{_CRM}.OptionSetMetadata",
                    "IsGlobal": False,
                    "OptionSetType": "Picklist",
                    "Options": [_option(value, text, languages) for value, text in column.options],
                },
            }
    raise AssertionError(column.type)


def _yes_no(languages: Languages) -> Body:
    return {
        "@odata.type": f"{_CRM}.BooleanOptionSetMetadata",
        "OptionSetType": "Boolean",
        "TrueOption": _option(1, "Yes", languages),
        "FalseOption": _option(0, "No", languages),
    }


def _option(value: int, text: str, languages: Languages) -> Body:
    return {"Value": value, "Label": label(text, languages)}


def lookup_body(relationship: Relationship, languages: Languages) -> Body:
    """A 1:N relationship together with its lookup column (`POST RelationshipDefinitions`)."""
    return {
        "@odata.type": f"{_CRM}.OneToManyRelationshipMetadata",
        **_relationship(relationship),
        "Lookup": {
            "@odata.type": f"{_CRM}.LookupAttributeMetadata",
            **_column_common(relationship.column, languages),
            "AttributeType": "Lookup",
            "AttributeTypeName": {"Value": "LookupType"},
        },
    }


def customer_body(relationships: Iterable[Relationship], languages: Languages) -> Body:
    """A lookup to account or contact (`POST CreateCustomerRelationships`)."""
    ends = list(relationships)
    return {
        "OneToManyRelationships": [_relationship(end) for end in ends],
        "Lookup": {
            "@odata.type": f"{_CRM}.ComplexLookupAttributeMetadata",
            **_column_common(ends[0].column, languages),
            "AttributeType": "Lookup",
            "AttributeTypeName": {"Value": "LookupType"},
        },
    }


def _relationship(relationship: Relationship) -> Body:
    return {
        "SchemaName": relationship.schema_name,
        "ReferencedEntity": relationship.target,
        "ReferencingEntity": relationship.table,
        "ReferencingEntityNavigationPropertyName": relationship.navigation,
        "ReferencedEntityNavigationPropertyName": relationship.schema_name,
        "CascadeConfiguration": {
            "Assign": "NoCascade",
            "Delete": relationship.on_delete,
            "Merge": "NoCascade",
            "Reparent": "NoCascade",
            "Share": "NoCascade",
            "Unshare": "NoCascade",
        },
    }


def key_body(key: Key, languages: Languages) -> Body:
    return {
        "SchemaName": key.schema_name,
        "DisplayName": label(key.display, languages),
        "KeyAttributes": list(key.columns),
    }


def number(value: int | float | Decimal | None) -> Decimal | None:
    """Bounds come back as 100000000000 or 100000000000.0: compare them as numbers."""
    return None if value is None else Decimal(str(value)).normalize()
