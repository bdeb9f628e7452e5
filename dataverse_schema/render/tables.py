"""Tables, columns, keys and relationships as `customizations.xml` describes them.

Element names and values follow exports of Dataverse 9.2; `Type` here and `AttributeType` of the Web API are two words for
the same thing (`nvarchar` and `String`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..model import Column, Key, Languages, Model, Option, Relationship, Table
from .xml import Element, el, leaf, texts

_VERSION = "1.0.0.0"
_MASK = "ValidForAdvancedFind|ValidForForm|ValidForGrid"
_TYPES = {
    "String": "nvarchar",
    "Memo": "ntext",
    "Integer": "int",
    "Decimal": "decimal",
    "Boolean": "bit",
    "DateTime": "datetime",
    "Picklist": "picklist",
    "Lookup": "lookup",
    "Customer": "customer",
}
_BEHAVIORS = {"UserLocal": 1, "DateOnly": 2, "TimeZoneIndependent": 3}

# Table settings that every export of a plain custom table carries.
_ON = [
    "IsMapiGridEnabled",
    "IsReadingPaneEnabled",
    "IsCustomizable",
    "IsRenameable",
    "IsMappable",
    "CanModifyAuditSettings",
    "CanModifyMobileVisibility",
    "CanModifyMobileClientVisibility",
    "CanModifyMobileClientReadOnly",
    "CanModifyMobileClientOffline",
    "CanModifyConnectionSettings",
    "CanModifyDuplicateDetectionSettings",
    "CanModifyMailMergeSettings",
    "CanModifyQueueSettings",
    "CanCreateAttributes",
    "CanCreateForms",
    "CanCreateCharts",
    "CanCreateViews",
    "CanModifyAdditionalSettings",
    "CanEnableSyncToExternalSearchIndex",
    "CanChangeHierarchicalRelationship",
    "CanChangeTrackingBeEnabled",
]
_OFF = [
    "IsDuplicateCheckSupported",
    "IsBusinessProcessEnabled",
    "IsRequiredOffline",
    "IsInteractionCentricEnabled",
    "IsCollaboration",
    "AutoRouteToOwnerQueue",
    "IsConnectionsEnabled",
    "IsDocumentManagementEnabled",
    "AutoCreateAccessTeams",
    "IsOneNoteIntegrationEnabled",
    "IsKnowledgeManagementEnabled",
    "IsSLAEnabled",
    "IsDocumentRecommendationsEnabled",
    "IsBPFEntity",
    "IsRetrieveAuditEnabled",
    "IsRetrieveMultipleAuditEnabled",
    "IsActivity",
    "IsActivityParty",
    "IsReplicated",
    "IsReplicationUserFiltered",
    "IsMailMergeEnabled",
    "IsVisibleInMobile",
    "IsVisibleInMobileClient",
    "IsReadOnlyInMobileClient",
    "IsOfflineInMobileClient",
    "DaysSinceRecordLastModified",
    "IsQuickCreateEnabled",
    "SyncToExternalSearchIndex",
    "EnforceStateTransitions",
    "EntityHelpUrlEnabled",
    "IsEnabledForExternalChannels",
    "IsMSTeamsIntegrationEnabled",
    "IsSolutionAware",
]


def entity_info(model: Model, table: Table, options: Iterable[Option] = ()) -> Element:
    """`EntityInfo` of a table of ours, or of a standard table with our columns (and `options` of its own choices)."""
    languages = model.languages
    name = schema_name(table)
    if table.extends:
        columns = [_column(table, column, languages) for column in table.columns]
        columns += _extended_choices(options, languages)
        # `unmodified`: what is not listed stays as the environment has it.
        entity = el("entity", {"Name": name, "unmodified": "1"}, el("attributes", None, *columns))
        return el("EntityInfo", None, entity)
    columns = [_primary_id(table, languages), _primary_name(table, languages)]
    columns += [_column(table, column, languages) for column in table.columns]
    columns += _system_columns(table, languages)
    entity = el(
        "entity",
        {"Name": name},
        texts("LocalizedNames", "LocalizedName", table.display, languages),
        texts("LocalizedCollectionNames", "LocalizedCollectionName", table.plural, languages),
        texts("Descriptions", "Description", table.description, languages),
        el("attributes", None, *columns),
        el("EntityKeys", None, *(_key(key, languages) for key in table.keys)),
        leaf("EntitySetName", table.entity_set),
        # The Web API says OrganizationOwned; the package says OrgOwned and is refused otherwise.
        leaf("OwnershipTypeMask", "UserOwned" if table.ownership == "UserOwned" else "OrgOwned"),
        leaf("IsAuditEnabled", table.audit),
        leaf("ChangeTrackingEnabled", table.change_tracking),
        *(leaf(setting, True) for setting in _ON),
        *(leaf(setting, False) for setting in _OFF),
        leaf("IntroducedVersion", _VERSION),
    )
    return el("EntityInfo", None, entity)


def schema_name(table: Table) -> str:
    """Standard tables keep the schema name that Dynamics gave them."""
    return {"account": "Account", "contact": "Contact", "invoicedetail": "InvoiceDetail"}.get(
        table.logical_name, table.schema_name
    )


def _attribute(
    schema: str,
    kind: str,
    display: str,
    description: str,
    languages: Languages,
    *tail: Element,
    required: str = "none",
    mask: str = _MASK,
    custom: bool = True,
    writable: bool = True,
    creatable: bool = True,
    audit: bool = False,
) -> Element:
    logical = schema.lower()
    return el(
        "attribute",
        {"PhysicalName": schema},
        leaf("Type", kind),
        leaf("Name", logical),
        leaf("LogicalName", logical),
        leaf("RequiredLevel", required),
        leaf("DisplayMask", mask),
        leaf("ImeMode", "auto"),
        leaf("ValidForUpdateApi", writable),
        leaf("ValidForReadApi", True),
        leaf("ValidForCreateApi", creatable),
        leaf("IsCustomField", custom),
        leaf("IsAuditEnabled", audit),
        leaf("IsSecured", False),
        leaf("IntroducedVersion", _VERSION),
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
        leaf("AutoNumberFormat"),
        leaf("IsSearchable", False),
        leaf("IsFilterable", False),
        leaf("IsRetrievable", False),
        leaf("IsLocalizable", False),
        *tail,
        texts("displaynames", "displayname", display, languages),
        texts("Descriptions", "Description", description, languages),
    )


def _column(table: Table, column: Column, languages: Languages) -> Element:
    return _attribute(
        column.schema_name,
        _TYPES[column.type],
        column.display,
        column.description,
        languages,
        *_tail(table, column, languages),
        required="required" if column.required else "none",
        audit=table.audits(column),
    )


def _tail(table: Table, column: Column, languages: Languages) -> list[Element]:
    match column.type:
        case "String":
            return _string_tail(column.max_length or 0)
        case "Memo":
            return [leaf("Format", "textarea"), leaf("MaxLength", column.max_length)]
        case "Integer":
            return [leaf("Format", "none"), leaf("MinValue", column.minimum), leaf("MaxValue", column.maximum)]
        case "Decimal":
            return [
                leaf("MinValue", column.minimum),
                leaf("MaxValue", column.maximum),
                leaf("Accuracy", column.precision),
            ]
        case "Boolean":
            options = _choice(f"{table.logical_name}_{column.logical_name}", "bit", ((1, "Yes"), (0, "No")), languages)
            return [leaf("AppDefaultValue", bool(column.default)), options]
        case "DateTime":
            return [
                leaf("Format", "date" if column.behavior == "DateOnly" else "datetime"),
                leaf("CanChangeDateTimeBehavior", True),
                leaf("Behavior", _BEHAVIORS[column.behavior or "UserLocal"]),
            ]
        case "Picklist":
            default = -1 if column.default is None else column.default
            name = f"{table.logical_name}_{column.logical_name}"
            return [leaf("AppDefaultValue", default), _choice(name, "picklist", column.options, languages)]
        case "Lookup" | "Customer":
            # The targets come from the relationships; names in LookupTypes are refused.
            return [leaf("LookupStyle", "single"), el("LookupTypes")]


def _string_tail(length: int) -> list[Element]:
    return [leaf("Format", "text"), leaf("MaxLength", length), leaf("Length", 2 * length)]


def _choice(name: str, kind: str, options: Iterable[tuple[int, str]], languages: Languages) -> Element:
    return el(
        "optionset",
        {"Name": name},
        leaf("OptionSetType", kind),
        leaf("IntroducedVersion", _VERSION),
        leaf("IsCustomizable", True),
        el("options", None, *(_option(value, text, languages) for value, text in options)),
    )


def _option(value: int, text: str, languages: Languages) -> Element:
    words = texts("labels", "label", text, languages)
    return el("option", {"value": str(value), "ExternalValue": "", "IsHidden": "0"}, words)


def _extended_choices(options: Iterable[Option], languages: Languages) -> Iterator[Element]:
    """The account rating with our options beside the one that Dynamics brings."""
    added = [(option.value, option.label) for option in options]
    if added:
        choice = _choice("account_accountratingcode", "picklist", [(1, "Default Value"), *added], languages)
        tail = (leaf("AppDefaultValue", 1), choice)
        yield _attribute("AccountRatingCode", "picklist", "Account Rating", "", languages, *tail, custom=False)


def _primary_id(table: Table, languages: Languages) -> Element:
    return _attribute(
        f"{table.schema_name}Id",
        "primarykey",
        table.display,
        "",
        languages,
        required="systemrequired",
        mask="ValidForAdvancedFind|RequiredForGrid",
        custom=False,
        writable=False,
    )


def _primary_name(table: Table, languages: Languages) -> Element:
    assert table.primary_name is not None, "only tables of ours"
    primary = table.primary_name
    mask = f"PrimaryName|{_MASK}|RequiredForForm"
    tail = _string_tail(primary.max_length)
    return _attribute(
        primary.schema_name, "nvarchar", primary.display, "", languages, *tail, mask=mask, audit=table.audit
    )


def _system_columns(table: Table, languages: Languages) -> Iterator[Element]:
    """What Dynamics adds to each table by itself; packages list it all the same."""
    lookup = (leaf("LookupStyle", "single"), el("LookupTypes"))
    when = (leaf("Format", "datetime"), leaf("CanChangeDateTimeBehavior", False), leaf("Behavior", 1))
    whole = (leaf("Format", ""), leaf("MinValue", -1), leaf("MaxValue", 2147483647))

    def column(schema: str, kind: str, display: str, *tail: Element, **rest: bool | str) -> Element:
        settings = {"custom": False, "writable": False, "creatable": False} | rest
        return _attribute(schema, kind, display, "", languages, *tail, **settings)  # type: ignore[arg-type]

    yield column("CreatedBy", "lookup", "Created By", *lookup)
    yield column("CreatedOn", "datetime", "Created On", *when)
    yield column("CreatedOnBehalfBy", "lookup", "Created By (Delegate)", *lookup)
    yield column("ImportSequenceNumber", "int", "Import Sequence Number", *whole, creatable=True)
    yield column("ModifiedBy", "lookup", "Modified By", *lookup)
    yield column("ModifiedOn", "datetime", "Modified On", *when)
    yield column("ModifiedOnBehalfBy", "lookup", "Modified By (Delegate)", *lookup)
    yield column("OverriddenCreatedOn", "datetime", "Record Created On", *when, creatable=True)
    if table.ownership == "UserOwned":
        yield column("OwnerId", "owner", "Owner", *lookup, required="systemrequired", creatable=True, writable=True)
        yield column("OwningBusinessUnit", "lookup", "Owning Business Unit", *lookup)
        yield column("OwningTeam", "lookup", "Owning Team", *lookup)
        yield column("OwningUser", "lookup", "Owning User", *lookup)
    yield column("statecode", "state", "Status", _states(table, languages), required="systemrequired", writable=True)
    yield column("statuscode", "status", "Status Reason", _statuses(table, languages), creatable=True, writable=True)
    yield column("TimeZoneRuleVersionNumber", "int", "Time Zone Rule Version Number", *whole, creatable=True)
    yield column("UTCConversionTimeZoneCode", "int", "UTC Conversion Time Zone Code", *whole, creatable=True)


def _states(table: Table, languages: Languages) -> Element:
    states = el("states")
    for value, status, text in ((0, 1, "Active"), (1, 2, "Inactive")):
        words = texts("labels", "label", text, languages)
        meaning = {"value": str(value), "defaultstatus": str(status), "invariantname": text}
        states.append(el("state", meaning, words))
    return _system_choice(f"{table.logical_name}_statecode", "state", states)


def _statuses(table: Table, languages: Languages) -> Element:
    options = el("statuses")
    for value, state, text in ((1, 0, "Active"), (2, 1, "Inactive")):
        words = texts("labels", "label", text, languages)
        options.append(el("status", {"value": str(value), "state": str(state)}, words))
    return _system_choice(f"{table.logical_name}_statuscode", "status", options)


def _system_choice(name: str, kind: str, options: Element) -> Element:
    head = (leaf("OptionSetType", kind), leaf("IntroducedVersion", _VERSION), leaf("IsCustomizable", True))
    return el("optionset", {"Name": name}, *head, options)


def _key(key: Key, languages: Languages) -> Element:
    columns = el("EntityKeyAttributes", None, *(leaf("AttributeName", name) for name in key.columns))
    return el(
        "EntityKey",
        None,
        leaf("Name", key.schema_name),
        leaf("LogicalName", key.logical_name),
        leaf("IntroducedVersion", _VERSION),
        leaf("IsCustomizable", True),
        columns,
        texts("displaynames", "displayname", key.display, languages),
    )


def relationships(model: Model) -> Iterator[Element]:
    """Ours, then those to users, teams and business units that every table has."""
    for table in model.tables:
        for end in model.relationships(table):
            yield _relationship(model, end)
    for table in model.own_tables:
        yield from _system_relationships(table, model.languages)


def _relationship(model: Model, end: Relationship) -> Element:
    child = model.by_name[end.table]
    parent = model.by_name[end.target]
    lookup_side = el(
        "EntityRelationshipRole",
        None,
        leaf("NavPaneDisplayOption", "UseCollectionName"),
        leaf("NavPaneArea", "Details"),
        leaf("NavPaneOrder", 10000),
        leaf("NavigationPropertyName", end.navigation),
        leaf("RelationshipRoleType", 1),
    )
    collection_side = el(
        "EntityRelationshipRole",
        None,
        leaf("NavigationPropertyName", end.schema_name),
        leaf("RelationshipRoleType", 0),
    )
    return _one_to_many(
        end.schema_name,
        schema_name(child),
        schema_name(parent),
        end.column.schema_name,
        end.on_delete,
        el("EntityRelationshipRoles", None, lookup_side, collection_side),
        languages=model.languages,
    )


def _one_to_many(
    name: str, child: str, parent: str, column: str, on_delete: str, *roles: Element, languages: Languages
) -> Element:
    description = el("RelationshipDescription", None, texts("Descriptions", "Description", "", languages))
    return el(
        "EntityRelationship",
        {"Name": name},
        leaf("EntityRelationshipType", "OneToMany"),
        leaf("IsCustomizable", True),
        leaf("IntroducedVersion", _VERSION),
        leaf("IsHierarchical", False),
        leaf("ReferencingEntityName", child),
        leaf("ReferencedEntityName", parent),
        leaf("CascadeAssign", "NoCascade"),
        leaf("CascadeDelete", on_delete),
        leaf("CascadeArchive", on_delete),
        leaf("CascadeReparent", "NoCascade"),
        leaf("CascadeShare", "NoCascade"),
        leaf("CascadeUnshare", "NoCascade"),
        leaf("CascadeRollupView", "NoCascade"),
        leaf("IsValidForAdvancedFind", True),
        leaf("ReferencingAttributeName", column),
        description,
        *roles,
    )


def _system_relationships(table: Table, languages: Languages) -> Iterator[Element]:
    name, child = table.logical_name, table.schema_name
    ends = [
        (f"lk_{name}_createdby", "SystemUser", "CreatedBy", "NoCascade"),
        (f"lk_{name}_modifiedby", "SystemUser", "ModifiedBy", "NoCascade"),
    ]
    if table.ownership == "UserOwned":
        ends += [
            (f"business_unit_{name}", "BusinessUnit", "OwningBusinessUnit", "Restrict"),
            (f"owner_{name}", "Owner", "OwnerId", "NoCascade"),
            (f"team_{name}", "Team", "OwningTeam", "NoCascade"),
            (f"user_{name}", "SystemUser", "OwningUser", "NoCascade"),
        ]
    for relationship, parent, column, on_delete in ends:
        yield _one_to_many(relationship, child, parent, column, on_delete, languages=languages)
