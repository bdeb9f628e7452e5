"""Definitions as the Web API shows them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local.dataverse.model import (
    CHOICES,
    LOOKUPS,
    Column,
    Key,
    Option,
    OptionSet,
    Relationship,
    Schema,
    Table,
    stable_id,
)
from local.dataverse.security import privilege_id, privileges_of

NAMESPACE = "Microsoft.Dynamics.CRM."
Json = dict[str, Any]


@dataclass(slots=True)
class Node:
    """A definition and what can be expanded from it."""

    values: Json
    related: dict[str, Callable[[], "Node | list[Node] | None"]] = field(default_factory=dict)


def label(text: str, others: dict[int, str] | None = None) -> Json:
    if not text and not others:
        return {"LocalizedLabels": [], "UserLocalizedLabel": None}
    labels = {1033: text} | (others or {})
    listed = [
        {"Label": value, "LanguageCode": language, "IsManaged": False, "MetadataId": stable_id("label", value, str(language)),
         "HasChanged": None}
        for language, value in labels.items()
    ]  # fmt: skip
    return {"LocalizedLabels": listed, "UserLocalizedLabel": listed[0]}


def managed(value: Any, name: str) -> Json:
    return {"Value": value, "CanBeChanged": True, "ManagedPropertyLogicalName": name}


def table_node(schema: Schema, table: Table) -> Node:
    values: Json = {
        "MetadataId": table.id, "LogicalName": table.name, "SchemaName": table.schema_name,
        "EntitySetName": table.set_name, "LogicalCollectionName": table.set_name, "CollectionSchemaName": table.set_name,
        "DisplayName": label(table.label, table.labels), "DisplayCollectionName": label(table.plural, table.plurals),
        "Description": label(table.description), "PrimaryIdAttribute": table.primary_id,
        "PrimaryNameAttribute": table.primary_name or None, "PrimaryImageAttribute": None, "ObjectTypeCode": table.otc,
        "OwnershipType": table.ownership, "IsCustomEntity": table.custom, "IsActivity": table.activity,
        "IsIntersect": table.intersect, "IsPrivate": table.intersect, "IsManaged": not table.custom, "IsLogicalEntity": False,
        "IsBPFEntity": False, "IsChildEntity": False, "IsImportable": True, "TableType": "Standard", "DataProviderId": None,
        "DataSourceId": None, "ExternalName": None, "ChangeTrackingEnabled": table.change_tracking,
        "IsOptimisticConcurrencyEnabled": table.optimistic, "IsAuditEnabled": managed(table.audit, "canmodifyauditsettings"),
        "IsCustomizable": managed(True, "iscustomizable"), "IsRenameable": managed(True, "isrenameable"),
        "CanCreateAttributes": managed(True, "cancreateattributes"), "CanCreateForms": managed(True, "cancreateforms"),
        "CanCreateViews": managed(True, "cancreateviews"), "CanCreateCharts": managed(True, "cancreatecharts"),
        "HasActivities": False, "HasNotes": False, "HasChanged": None, "IsEnabledForCharts": True,
        "IsValidForAdvancedFind": not table.intersect, "IsQuickCreateEnabled": False, "EntityColor": None,
        "CanChangeTrackingBeEnabled": managed(True, "canchangetrackingbeenabled"), "CreatedOn": None, "ModifiedOn": None,
        "Privileges": [
            {"Name": name, "PrivilegeId": privilege_id(name), "PrivilegeType": name[3:].partition(table.schema_name)[0],
             "CanBeBasic": True, "CanBeLocal": True, "CanBeDeep": True, "CanBeGlobal": True}
            for name in privileges_of(table)
        ],
    }  # fmt: skip
    values |= table.extra
    relations = list(schema.relationships.values())
    return Node(values, {
        "Attributes": lambda: [column_node(schema, table, column) for column in table.columns.values()],
        "Keys": lambda: [key_node(table, key) for key in table.keys.values()],
        "OneToManyRelationships": lambda: [
            relationship_node(schema, r) for r in relations if r.kind == "1:N" and r.referenced == table.name
        ],
        "ManyToOneRelationships": lambda: [
            relationship_node(schema, r) for r in relations if r.kind == "1:N" and r.referencing == table.name
        ],
        "ManyToManyRelationships": lambda: [
            relationship_node(schema, r)
            for r in relations
            if r.kind == "N:N" and table.name in (r.referenced, r.referencing)
        ],
    })  # fmt: skip


_KIND = {"Customer": "Lookup", "Owner": "Lookup", "Uniqueidentifier": "Uniqueidentifier"}


def kind_of(column: Column) -> str:
    """The name of the attribute's metadata type, without `AttributeMetadata`."""
    if column.type == "Uniqueidentifier":
        return "UniqueIdentifier"
    return _KIND.get(column.type, column.type)


def column_node(schema: Schema, table: Table, column: Column) -> Node:
    kind = kind_of(column)
    attribute_type = "Virtual" if column.type in ("MultiSelectPicklist", "File", "Image") else column.type
    values: Json = {
        "@odata.type": f"#{NAMESPACE}{kind}AttributeMetadata", "MetadataId": column.id, "LogicalName": column.name,
        "SchemaName": column.schema_name, "EntityLogicalName": table.name, "AttributeType": attribute_type,
        "AttributeTypeName": {"Value": f"{column.type}Type"}, "ColumnNumber": column.number, "AttributeOf": None,
        "DisplayName": label(column.label, column.labels), "Description": label(column.description),
        "RequiredLevel": managed(column.required, "canmodifyrequirementlevelsettings"),
        "IsPrimaryId": column.name == table.primary_id, "IsPrimaryName": column.name == table.primary_name,
        "IsCustomAttribute": column.custom, "IsManaged": not column.custom, "IsLogical": False, "SourceType": 0,
        "IsValidForCreate": column.create, "IsValidForUpdate": column.update, "IsValidForRead": column.read,
        "IsValidODataAttribute": True, "IsSecured": column.secured, "IsFilterable": True, "IsSearchable": False,
        "IsRetrievable": True, "IsAuditEnabled": managed(False, "canmodifyauditsettings"),
        "IsCustomizable": managed(True, "iscustomizable"), "IsRenameable": managed(True, "isrenameable"),
        "IsValidForAdvancedFind": managed(True, "canmodifysearchsettings"), "IntroducedVersion": "1.0.0.0",
        "AutoNumberFormat": column.auto_number, "HasChanged": None, "DeprecatedVersion": None, "ExternalName": None,
    }  # fmt: skip
    related: dict[str, Callable[[], Node | list[Node] | None]] = {}
    if kind in ("String", "Memo"):
        values |= {"MaxLength": column.length, "Format": column.format or ("Text" if kind == "String" else "TextArea")}
        values["FormatName"] = {"Value": values["Format"]}
        values["DatabaseLength"] = column.length * 2
    elif kind in ("Integer", "BigInt", "Decimal", "Double", "Money"):
        low, high = column.minimum, column.maximum
        if kind in ("Integer", "BigInt"):
            edge = 2**31 if kind == "Integer" else 2**63
            low, high = int(low if low is not None else -edge), int(high if high is not None else edge - 1)
        values |= {"MinValue": low, "MaxValue": high}
        if kind not in ("Integer", "BigInt"):
            values["Precision"] = column.precision
        if kind == "Money":
            base = column.name.endswith("_base")
            values |= {
                "PrecisionSource": 2,
                "IsBaseCurrency": base,
                "CalculationOf": column.name[:-5] if base else None,
            }
    elif kind == "DateTime":
        values |= {
            "Format": column.format or ("DateOnly" if column.behavior == "DateOnly" else "DateAndTime"),
            "DateTimeBehavior": {"Value": column.behavior},
            "CanChangeDateTimeBehavior": managed(True, "canchangedatetimebehavior"),
        }  # fmt: skip
    elif column.type in LOOKUPS:
        values["Targets"] = list(column.targets)
    elif kind == "Boolean":
        values["DefaultValue"] = bool(column.default)
    if column.type in CHOICES or column.type == "MultiSelectPicklist":
        values["DefaultFormValue"] = column.default
    if column.type in CHOICES or column.type in ("MultiSelectPicklist", "Boolean"):
        related["OptionSet"] = lambda: choice_node(schema, table, column)
        related["GlobalOptionSet"] = lambda: (
            option_set_node(schema.option_sets[column.option_set]) if column.option_set else None
        )
    return Node(values, related)


def option_json(option: Option) -> Json:
    values: Json = {
        "Value": option.value, "Label": label(option.label, option.labels), "Description": label(option.description),
        "Color": option.color, "IsManaged": False, "ExternalValue": "", "ParentValues": [], "Tag": None, "IsHidden": False,
        "MetadataId": None, "HasChanged": None,
    }  # fmt: skip
    if option.state is not None:
        values |= {"@odata.type": f"#{NAMESPACE}StatusOptionMetadata", "State": option.state, "TransitionData": None}
    elif option.default_status is not None:
        values |= {"@odata.type": f"#{NAMESPACE}StateOptionMetadata", "DefaultStatus": option.default_status,
                   "InvariantName": option.label}  # fmt: skip
    return values


def choice_node(schema: Schema, table: Table, column: Column) -> Node:
    if column.option_set:
        return option_set_node(schema.option_sets[column.option_set])
    name = f"{table.name}_{column.name}"
    values: Json = {
        "MetadataId": stable_id("optionset", name), "Name": name, "IsGlobal": False, "IsCustomOptionSet": column.custom,
        "OptionSetType": "Picklist", "DisplayName": label(column.label), "Description": label(column.description),
        "IsManaged": not column.custom, "HasChanged": None,
    }  # fmt: skip
    if column.type == "Boolean":
        options = {option.value: option for option in column.options}
        values |= {
            "OptionSetType": "Boolean",
            "TrueOption": option_json(options[1]),
            "FalseOption": option_json(options[0]),
        }
    else:
        kind = {"State": "State", "Status": "Status"}.get(column.type, "Picklist")
        values |= {"OptionSetType": kind, "Options": [option_json(option) for option in column.options]}
    return Node(values)


def option_set_node(choice: OptionSet) -> Node:
    return Node({
        "@odata.type": f"#{NAMESPACE}OptionSetMetadata", "MetadataId": choice.id, "Name": choice.name, "IsGlobal": True,
        "IsCustomOptionSet": choice.custom, "OptionSetType": "Picklist", "DisplayName": label(choice.label, choice.labels),
        "Description": label(choice.description), "IsManaged": not choice.custom, "HasChanged": None,
        "Options": [option_json(option) for option in choice.options],
    })  # fmt: skip


def key_node(table: Table, key: Key) -> Node:
    return Node({
        "MetadataId": key.id, "LogicalName": key.name, "SchemaName": key.schema_name, "EntityLogicalName": table.name,
        "DisplayName": label(key.label), "KeyAttributes": list(key.columns), "EntityKeyIndexStatus": key.status,
        "AsyncJob": None, "IsManaged": False, "IsSynchronous": False, "IsExportKey": False, "IsSecondaryKey": False,
        "IntroducedVersion": "1.0.0.0", "HasChanged": None,
    })  # fmt: skip


def relationship_node(schema: Schema, relation: Relationship) -> Node:
    values: Json = {
        "MetadataId": relation.id, "SchemaName": relation.schema_name, "IsCustomRelationship": relation.custom,
        "IsManaged": not relation.custom, "IsValidForAdvancedFind": True, "SecurityTypes": "None", "HasChanged": None,
        "IntroducedVersion": "1.0.0.0", "IsCustomizable": managed(True, "iscustomizable"),
    }  # fmt: skip
    first, second = schema.tables.get(relation.referenced), schema.tables.get(relation.referencing)
    if relation.kind == "N:N":
        from local.dataverse.definitions import intersect_ids

        mine, theirs = intersect_ids(schema, relation) if first and second else ("", "")
        values |= {
            "@odata.type": f"#{NAMESPACE}ManyToManyRelationshipMetadata", "RelationshipType": "ManyToManyRelationship",
            "Entity1LogicalName": relation.referenced, "Entity2LogicalName": relation.referencing,
            "Entity1IntersectAttribute": mine, "Entity2IntersectAttribute": theirs,
            "Entity1NavigationPropertyName": relation.nav_collection, "Entity2NavigationPropertyName": relation.nav_lookup,
            "IntersectEntityName": relation.intersect,
        }  # fmt: skip
    else:
        values |= {
            "@odata.type": f"#{NAMESPACE}OneToManyRelationshipMetadata", "RelationshipType": "OneToManyRelationship",
            "ReferencedEntity": relation.referenced, "ReferencedAttribute": first.primary_id if first else "",
            "ReferencingEntity": relation.referencing, "ReferencingAttribute": relation.attribute,
            "ReferencedEntityNavigationPropertyName": relation.nav_collection or None,
            "ReferencingEntityNavigationPropertyName": relation.nav_lookup, "IsHierarchical": relation.hierarchical,
            "CascadeConfiguration": dict(relation.cascade), "RelationshipBehavior": 1,
        }  # fmt: skip
    return Node(values | relation.extra)
