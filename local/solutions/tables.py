"""Definitions of tables as `customizations.xml` writes them: the inverse of `translate`."""

from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element

from local.dataverse.model import LOOKUPS, Column, Key, Option, OptionSet, Relationship, Schema, Table
from local.solutions.xml import el, leaf, texts

INTRODUCED = "1.0.0.0"
_TYPES = {
    "String": "nvarchar", "Memo": "ntext", "Integer": "int", "BigInt": "bigint", "Decimal": "decimal", "Double": "float",
    "Money": "money", "Boolean": "bit", "DateTime": "datetime", "Picklist": "picklist",
    "MultiSelectPicklist": "multiselectpicklist", "File": "file", "Image": "image", "Lookup": "lookup", "Customer": "customer",
    "Owner": "owner", "State": "state", "Status": "status", "Uniqueidentifier": "uniqueidentifier",
}  # fmt: skip
_LEVELS = {
    "None": "none", "Recommended": "recommended", "ApplicationRequired": "required", "SystemRequired": "systemrequired",
}  # fmt: skip
_BEHAVIORS = {"UserLocal": 1, "DateOnly": 2, "TimeZoneIndependent": 3}
_SYSTEM = {
    "createdby", "createdon", "createdonbehalfby", "importsequencenumber", "modifiedby", "modifiedon", "modifiedonbehalfby",
    "overriddencreatedon", "ownerid", "owningbusinessunit", "owningteam", "owninguser", "statecode", "statuscode",
    "timezoneruleversionnumber", "utcconversiontimezonecode",
}  # fmt: skip
# Settings that exports of every plain custom table carry, with the values of one that nobody changed.
_ON = (
    "IsMapiGridEnabled", "IsReadingPaneEnabled", "IsCustomizable", "IsRenameable", "IsMappable", "CanModifyAuditSettings",
    "CanModifyMobileVisibility", "CanModifyMobileClientVisibility", "CanModifyMobileClientReadOnly",
    "CanModifyMobileClientOffline", "CanModifyConnectionSettings", "CanModifyDuplicateDetectionSettings",
    "CanModifyMailMergeSettings", "CanModifyQueueSettings", "CanCreateAttributes", "CanCreateForms", "CanCreateCharts",
    "CanCreateViews", "CanModifyAdditionalSettings", "CanEnableSyncToExternalSearchIndex",
    "CanChangeHierarchicalRelationship", "CanChangeTrackingBeEnabled",
)  # fmt: skip
_OFF = (
    "IsDuplicateCheckSupported", "IsBusinessProcessEnabled", "IsRequiredOffline", "IsInteractionCentricEnabled",
    "IsCollaboration", "AutoRouteToOwnerQueue", "IsConnectionsEnabled", "IsDocumentManagementEnabled",
    "AutoCreateAccessTeams", "IsOneNoteIntegrationEnabled", "IsKnowledgeManagementEnabled", "IsSLAEnabled",
    "IsDocumentRecommendationsEnabled", "IsBPFEntity", "IsActivity", "IsActivityParty", "IsReplicated",
    "IsReplicationUserFiltered", "IsMailMergeEnabled", "IsVisibleInMobile", "IsVisibleInMobileClient",
    "IsReadOnlyInMobileClient", "IsOfflineInMobileClient", "DaysSinceRecordLastModified", "SyncToExternalSearchIndex",
    "EnforceStateTransitions", "EntityHelpUrlEnabled", "IsEnabledForExternalChannels", "IsSolutionAware",
)  # fmt: skip


def ordered[T](parts: dict[str, T]) -> list[T]:
    """By name, as exports have them, whatever order they were made in."""
    return [parts[name] for name in sorted(parts)]


def whole(schema: Schema, table: Table) -> Element:
    """`entity` of a custom table with all its columns and keys."""
    columns = [c for c in ordered(table.columns) if c.custom or c.name in _SYSTEM]
    return el(
        "entity",
        {"Name": table.schema_name},
        texts("LocalizedNames", "LocalizedName", table.label, table.labels),
        texts("LocalizedCollectionNames", "LocalizedCollectionName", table.plural, table.plurals),
        texts("Descriptions", "Description", table.description),
        el("attributes", None, *(attribute(schema, table, column) for column in columns)),
        el("EntityKeys", None, *(_key(key) for key in ordered(table.keys))),
        leaf("EntitySetName", table.set_name),
        leaf("OwnershipTypeMask", "UserOwned" if table.user_owned else "OrgOwned"),
        leaf("IsAuditEnabled", table.audit),
        leaf("ChangeTrackingEnabled", table.change_tracking),
        *(leaf(setting, True) for setting in _ON),
        *(leaf(setting, False) for setting in _OFF),
        leaf("IsQuickCreateEnabled", bool(table.extra.get("IsQuickCreateEnabled"))),
        leaf("IntroducedVersion", INTRODUCED),
    )


def part(schema: Schema, table: Table, columns: Iterable[Column], keys: Iterable[Key]) -> Element:
    """`entity` of a table of which only some parts travel; the rest stays as the environment has it."""
    listed = el("attributes", None, *(attribute(schema, table, column) for column in columns))
    entity = el("entity", {"Name": table.schema_name, "unmodified": "1"}, listed)
    made = [_key(key) for key in keys]
    if made:
        entity.append(el("EntityKeys", None, *made))
    return entity


def attribute(schema: Schema, table: Table, column: Column) -> Element:
    primary, name = column.name == table.primary_id, column.name == table.primary_name
    mask = "ValidForAdvancedFind|RequiredForGrid" if primary else "ValidForAdvancedFind|ValidForForm|ValidForGrid"
    return el(
        "attribute",
        {"PhysicalName": column.schema_name},
        leaf("Type", "primarykey" if primary else _TYPES[column.type]),
        leaf("Name", column.name),
        leaf("LogicalName", column.name),
        leaf("RequiredLevel", _LEVELS[column.required]),
        leaf("DisplayMask", f"PrimaryName|{mask}|RequiredForForm" if name else mask),
        leaf("ImeMode", "auto"),
        leaf("ValidForUpdateApi", column.update),
        leaf("ValidForReadApi", column.read),
        leaf("ValidForCreateApi", column.create),
        leaf("IsCustomField", column.custom and not primary),
        leaf("IsAuditEnabled", table.audit),
        leaf("IsSecured", column.secured),
        leaf("IntroducedVersion", INTRODUCED),
        leaf("IsCustomizable", True),
        leaf("IsRenameable", True),
        leaf("CanModifySearchSettings", True),
        leaf("CanModifyRequirementLevelSettings", True),
        leaf("CanModifyAdditionalSettings", True),
        leaf("SourceType", 0),
        leaf("IsGlobalFilterEnabled", False),
        leaf("IsSortableEnabled", False),
        leaf("CanModifyGlobalFilterSettings", True),
        leaf("CanModifyIsSortableSettings", True),
        leaf("IsDataSourceSecret", False),
        leaf("AutoNumberFormat", column.auto_number),
        *(leaf(flag, False) for flag in ("IsSearchable", "IsFilterable", "IsRetrievable", "IsLocalizable")),
        *_tail(schema, table, column),
        texts("displaynames", "displayname", column.label, column.labels),
        texts("Descriptions", "Description", column.description),
    )


def _tail(schema: Schema, table: Table, column: Column) -> list[Element]:
    name = f"{table.name}_{column.name}"
    match column.type:
        case "String":
            return [leaf("Format", "text"), leaf("MaxLength", column.length), leaf("Length", 2 * column.length)]
        case "Memo":
            return [leaf("Format", "textarea"), leaf("MaxLength", column.length)]
        case "Integer" | "BigInt":
            return [leaf("Format", "none" if column.custom else ""), *_bounds(column)]
        case "Decimal" | "Double" | "Money":
            return [*_bounds(column), leaf("Accuracy", column.precision)]
        case "Boolean":
            return [leaf("AppDefaultValue", bool(column.default)), choice(name, "bit", column.options)]
        case "DateTime":
            return [
                leaf("Format", "date" if column.format == "DateOnly" or column.behavior == "DateOnly" else "datetime"),
                leaf("CanChangeDateTimeBehavior", column.custom),
                leaf("Behavior", _BEHAVIORS[column.behavior]),
            ]
        case "Picklist" | "MultiSelectPicklist":
            default = leaf("AppDefaultValue", -1 if column.default is None else column.default)
            if column.option_set:
                return [default, leaf("OptionSetName", column.option_set)]
            return [default, choice(name, "picklist", schema.options_of(column))]
        case "State":
            return [_states(name, column)]
        case "Status":
            return [_statuses(name, column)]
        case kind if kind in LOOKUPS:
            style = "polymorphic" if column.polymorphic and kind == "Lookup" and column.custom else "single"
            return [leaf("LookupStyle", style), el("LookupTypes")]
    return []


def _bounds(column: Column) -> Iterator[Element]:
    for tag, value in (("MinValue", column.minimum), ("MaxValue", column.maximum)):
        if value is not None:
            yield leaf(tag, f"{value:.10f}".rstrip("0").rstrip(".") if isinstance(value, float) else value)


def _options(options: Iterable[Option]) -> Element:
    return el(
        "options",
        None,
        *(
            el(
                "option",
                {"value": str(option.value), "ExternalValue": "", "IsHidden": "0"},
                texts("labels", "label", option.label, option.labels),
            )
            for option in options
        ),
    )


def choice(name: str, kind: str, options: Iterable[Option]) -> Element:
    """The choice of one column."""
    head = (leaf("OptionSetType", kind), leaf("IntroducedVersion", INTRODUCED), leaf("IsCustomizable", True))
    return el("optionset", {"Name": name}, *head, _options(options))


def global_choice(choice: OptionSet) -> Element:
    return el(
        "optionset",
        {"Name": choice.name, "localizedName": choice.label, "description": choice.description},
        leaf("OptionSetType", "picklist"),
        leaf("IsGlobal", True),
        leaf("IntroducedVersion", INTRODUCED),
        leaf("IsCustomizable", True),
        texts("displaynames", "displayname", choice.label, choice.labels),
        texts("Descriptions", "Description", choice.description),
        _options(choice.options),
    )


def _states(name: str, column: Column) -> Element:
    states = el("states")
    for option in column.options:
        meaning = {
            "value": str(option.value),
            "defaultstatus": str(option.default_status),
            "invariantname": option.label,
        }
        states.append(el("state", meaning, texts("labels", "label", option.label, option.labels)))
    head = (leaf("OptionSetType", "state"), leaf("IntroducedVersion", INTRODUCED), leaf("IsCustomizable", True))
    return el("optionset", {"Name": name}, *head, states)


def _statuses(name: str, column: Column) -> Element:
    statuses = el("statuses")
    for option in column.options:
        meaning = {"value": str(option.value), "state": str(option.state)}
        statuses.append(el("status", meaning, texts("labels", "label", option.label, option.labels)))
    head = (leaf("OptionSetType", "status"), leaf("IntroducedVersion", INTRODUCED), leaf("IsCustomizable", True))
    return el("optionset", {"Name": name}, *head, statuses)


def _key(key: Key) -> Element:
    return el(
        "EntityKey",
        None,
        leaf("Name", key.schema_name),
        leaf("LogicalName", key.name),
        leaf("IntroducedVersion", INTRODUCED),
        leaf("IsCustomizable", True),
        el("EntityKeyAttributes", None, *(leaf("AttributeName", name) for name in key.columns)),
        texts("displaynames", "displayname", key.label),
    )


def relationship(schema: Schema, relation: Relationship) -> Element:
    described = el("RelationshipDescription", None, texts("Descriptions", "Description", ""))
    if relation.kind == "N:N":
        sides = ((relation.nav_collection, 0), (relation.nav_lookup, 1))
        return el(
            "EntityRelationship",
            {"Name": relation.schema_name},
            leaf("EntityRelationshipType", "ManyToMany"),
            leaf("IsCustomizable", True),
            leaf("IntroducedVersion", INTRODUCED),
            leaf("IsHierarchical", False),
            leaf("FirstEntityName", schema.tables[relation.referenced].schema_name),
            leaf("SecondEntityName", schema.tables[relation.referencing].schema_name),
            leaf("IntersectEntityName", relation.intersect),
            described,
            el("EntityRelationshipRoles", None, *(_role(navigation, kind) for navigation, kind in sides)),
        )
    child, parent = schema.tables[relation.referencing], schema.tables[relation.referenced]
    cascade = {"Archive": relation.on_delete, "RollupView": "NoCascade"} | relation.cascade
    parts = ("Assign", "Delete", "Archive", "Reparent", "Share", "Unshare", "RollupView")
    return el(
        "EntityRelationship",
        {"Name": relation.schema_name},
        leaf("EntityRelationshipType", "OneToMany"),
        leaf("IsCustomizable", True),
        leaf("IntroducedVersion", INTRODUCED),
        leaf("IsHierarchical", relation.hierarchical),
        leaf("ReferencingEntityName", child.schema_name),
        leaf("ReferencedEntityName", parent.schema_name),
        *(leaf(f"Cascade{part}", cascade.get(part, "NoCascade")) for part in parts),
        leaf("IsValidForAdvancedFind", True),
        leaf("ReferencingAttributeName", child.columns[relation.attribute].schema_name),
        described,
        el(
            "EntityRelationshipRoles",
            None,
            _role(relation.nav_lookup, 1, shown=True),
            _role(relation.nav_collection, 0),
        ),
    )


def _role(navigation: str, kind: int, *, shown: bool = False) -> Element:
    places = (
        [leaf("NavPaneDisplayOption", "UseCollectionName"), leaf("NavPaneArea", "Details"), leaf("NavPaneOrder", 10000)]
        if shown
        else []
    )
    tail = (leaf("NavigationPropertyName", navigation), leaf("RelationshipRoleType", kind))
    return el("EntityRelationshipRole", None, *places, *tail)
