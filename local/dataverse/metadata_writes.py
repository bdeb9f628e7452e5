"""Changes of metadata: definitions, storage and the rows that stand for them, in one transaction."""

import re
import uuid
from typing import Any

from local.dataverse import components, provisioning, records
from local.dataverse import metadata_input as given
from local.dataverse.definitions import add_columns, intersect_table, link, new_table
from local.dataverse.errors import Fault, bad_request
from local.dataverse.metadata_input import fail
from local.dataverse.model import Column, Key, Option, OptionSet, Relationship, Table
from local.dataverse.records import Unit
from local.dataverse.security import require_special
from local.dataverse.storage import quoted

Json = dict[str, Any]
_OWNERSHIP = {"UserOwned", "OrganizationOwned", "TeamOwned", "None"}


def add_to_solution(unit: Unit, solution: str | None, kind: str, object_id: str) -> None:
    """Notes a new part in a solution; an unknown solution is refused."""
    components.add(unit, solution, components.DEFINITIONS[kind], object_id)


def _must_be_custom(custom: bool, what: str) -> None:
    if not custom:
        raise Fault(400, "0x80047004", f"The {what} is a system component and cannot be deleted.")


# --- tables ---


def create_table(unit: Unit, body: Any, solution: str | None) -> Table:
    require_special(unit.caller, "prvCreateEntity")
    if not isinstance(body, dict):
        raise bad_request("A table definition must be a JSON object.")
    name = given.schema_name(body, "table")
    schema = unit.schema
    if name.lower() in schema.tables:
        raise fail(f"An entity with the specified name {name} already exists.", "0x80047013")
    ownership = body.get("OwnershipType", "UserOwned")
    if ownership not in _OWNERSHIP:
        raise fail("The property 'OwnershipType' has an unknown value.")
    shown, others = given.labels(body.get("DisplayName"), "DisplayName")
    plural, plurals = given.labels(body.get("DisplayCollectionName"), "DisplayCollectionName")
    described, _ = given.labels(body.get("Description"), "Description")
    attributes = body.get("Attributes")
    if not isinstance(attributes, list) or not attributes:
        raise fail("The property 'Attributes' must hold the primary name column.")
    if not shown or not plural:
        raise fail("The properties 'DisplayName' and 'DisplayCollectionName' are required.")
    wanted_set = body.get("EntitySetName")
    table = Table(
        name.lower(), str(wanted_set).lower() if wanted_set else _plural(name.lower(), schema.sets.keys()),
        schema_name=name, id=str(uuid.uuid4()), label=shown, plural=plural, description=described, labels=others,
        plurals=plurals, primary_id=f"{name.lower()}id", ownership="UserOwned" if ownership == "TeamOwned" else ownership,
        custom=True, change_tracking=bool(body.get("ChangeTrackingEnabled", False)), audit=_managed(body.get("IsAuditEnabled")),
    )  # fmt: skip
    table.extra = {
        n: body[n] for n in ("HasActivities", "HasNotes", "IsQuickCreateEnabled") if isinstance(body.get(n), bool)
    }
    columns: list[Column] = []
    for attribute in attributes:
        column = given.column(schema, table, attribute)
        if isinstance(attribute, dict) and attribute.get("IsPrimaryName"):
            if column.type != "String":
                raise fail("The primary name column must be a String.")
            table.primary_name = column.name
        if any(other.name == column.name for other in columns):
            raise fail(f"The column {column.schema_name} is defined twice.", "0x80047013")
        columns.append(column)
    if not table.primary_name:
        raise fail("One column of 'Attributes' needs 'IsPrimaryName': true.", "0x80047012")
    new_table(schema, table, columns)
    schema.changed()
    unit.env.storage.create_table(table)
    _save_all(unit, table)
    provisioning.register_table(unit.env, table)
    add_to_solution(unit, solution, "table", table.id)
    unit.touched.add("privilege")
    return table


def _managed(value: Any) -> bool:
    return bool(value.get("Value")) if isinstance(value, dict) else bool(value)


def _plural(name: str, taken: Any) -> str:
    """The entity set name that Dataverse makes of a logical name."""
    if re.search(r"[^aeiou]y$", name):
        plural = f"{name[:-1]}ies"
    elif re.search(r"(s|x|z|ch|sh)$", name):
        plural = f"{name}es"
    else:
        plural = f"{name}s"
    while plural in taken:
        plural += "set"
    return plural


def _save_all(unit: Unit, table: Table) -> None:
    unit.env.save(table)
    for relation in unit.schema.relationships.values():
        if table.name in (relation.referencing, relation.referenced):
            unit.env.save(relation)


def update_table(unit: Unit, table: Table, body: Any) -> None:
    require_special(unit.caller, "prvWriteEntity")
    if not isinstance(body, dict):
        raise bad_request("A table definition must be a JSON object.")
    if "DisplayName" in body:
        table.label, table.labels = given.labels(body["DisplayName"], "DisplayName")
    if "DisplayCollectionName" in body:
        table.plural, table.plurals = given.labels(body["DisplayCollectionName"], "DisplayCollectionName")
    if "Description" in body:
        table.description, _ = given.labels(body["Description"], "Description")
    if "IsAuditEnabled" in body:
        table.audit = _managed(body["IsAuditEnabled"])
    tracking = body.get("ChangeTrackingEnabled")
    if tracking is False and table.change_tracking:
        raise fail(
            "Change tracking cannot be disabled once it is enabled (property 'ChangeTrackingEnabled').", "0x80072493"
        )
    if tracking and not table.change_tracking:
        table.change_tracking = True
        unit.env.storage.track_changes(table)
    table.extra |= {
        n: body[n] for n in ("HasActivities", "HasNotes", "IsQuickCreateEnabled") if isinstance(body.get(n), bool)
    }
    unit.env.save(table)


def delete_table(unit: Unit, table: Table) -> None:
    require_special(unit.caller, "prvDeleteEntity")
    _must_be_custom(table.custom, f"entity {table.name}")
    schema = unit.schema
    for relation in list(schema.relationships.values()):
        if relation.kind == "1:N" and relation.referenced == table.name and relation.referencing != table.name:
            raise Fault(400, "0x8004f01f", f"The entity {table.name} cannot be deleted because the column "
                                           f"{relation.referencing}.{relation.attribute} depends on it.")  # fmt: skip
    for relation in list(schema.relationships.values()):
        if table.name in (relation.referenced, relation.referencing):
            if relation.kind == "N:N" and relation.intersect in schema.tables:
                unit.env.storage.drop_table(schema.tables[relation.intersect])
                unit.env.forget(schema.tables.pop(relation.intersect))
            unit.env.forget(relation)
            del schema.relationships[relation.schema_name]
            components.dropped(unit, relation.id)
    _delete_rows_of(unit, table)
    provisioning.unregister_table(unit.env, table)
    parts = [table.id, *(column.id for column in table.columns.values()), *(key.id for key in table.keys.values())]
    for part in parts:
        components.dropped(unit, part)
    unit.env.storage.drop_table(table)
    del schema.tables[table.name]
    unit.env.forget(table)
    unit.touched |= {"privilege", "sdkmessageprocessingstep"}


def _delete_rows_of(unit: Unit, table: Table) -> None:
    """Views, forms, charts, commands and app entries of a table go with it."""
    for name, column, value in (
        ("savedquery", "returnedtypecode", table.name),
        ("userquery", "returnedtypecode", table.name),
        ("systemform", "objecttypecode", table.name),
        ("savedqueryvisualization", "primaryentitytypecode", table.name),
        ("appaction", "contextvalue", table.name),
        ("appmodulecomponent", "objectid", table.id),
    ):
        part = unit.schema.tables[name]
        where = f"FROM {quoted(name)} WHERE {quoted(column)} = ?"
        for (row_id,) in unit.connection.execute(f"SELECT {quoted(part.primary_id)} {where}", (value,)).fetchall():
            records.delete(unit, part, row_id, cascade=True)
    unit.connection.execute("DELETE FROM \"#layer\" WHERE kind = 'ribbon' AND part = ?", (table.name,))


# --- columns ---


def create_column(unit: Unit, table: Table, body: Any, solution: str | None) -> Column:
    require_special(unit.caller, "prvCreateAttribute")
    if isinstance(body, dict) and given.kind_of(body) in ("Lookup", "State", "Status", "UniqueIdentifier"):
        raise fail(
            "Lookup columns are created with their relationship; state and id columns with their table.", "0x80048d19"
        )
    column = given.column(unit.schema, table, body)
    _add(unit, table, column)
    add_to_solution(unit, solution, "column", column.id)
    return column


def _add(unit: Unit, table: Table, column: Column) -> None:
    for added in add_columns(unit.schema, table, [column]):
        unit.env.storage.add_column(table, added)
    _save_all(unit, table)


def update_column(unit: Unit, table: Table, column: Column, body: Any) -> None:
    require_special(unit.caller, "prvWriteAttribute")
    if not isinstance(body, dict):
        raise bad_request("A column definition must be a JSON object.")
    if "@odata.type" in body:
        kind = given.kind_of(body)
        if kind not in (column.type, {"Customer": "Lookup", "Owner": "Lookup"}.get(column.type)):
            raise fail(f"The type of the column {column.name} cannot be changed.", "0x80048d19")
    if "RequiredLevel" in body:
        column.required = given.required_level(body)
    if isinstance(body.get("IsSecured"), bool):
        column.secured = body["IsSecured"]
    if isinstance(body.get("AutoNumberFormat"), str):
        column.auto_number = body["AutoNumberFormat"]
    if column.type == "Decimal" and body.get("Precision") not in (None, column.precision):
        places = int(given.number(body, "Precision") or 0) - column.precision
        change = f"* {10**places}" if places > 0 else f"/ {10**-places}"
        name = quoted(column.name)
        unit.connection.execute(f"UPDATE {quoted(table.name)} SET {name} = {name} {change} WHERE {name} IS NOT NULL")
    before = list(column.options)
    given.fill(unit.schema, column, body)
    if before and not column.options and not column.option_set:
        column.options = before
    unit.env.save(table)


def delete_column(unit: Unit, table: Table, column: Column) -> None:
    require_special(unit.caller, "prvDeleteAttribute")
    _must_be_custom(column.custom, f"attribute {column.name}")
    if column.name in (table.primary_id, table.primary_name):
        raise fail(f"The column {column.name} is needed by its table and cannot be deleted.", "0x8004f01f")
    for key in table.keys.values():
        if column.name in key.columns:
            raise fail(f"The column {column.name} cannot be deleted: the key {key.schema_name} uses it.", "0x8004f01f")
    for relation in list(unit.schema.relationships.values()):
        if relation.kind == "1:N" and relation.referencing == table.name and relation.attribute == column.name:
            unit.env.forget(relation)
            del unit.schema.relationships[relation.schema_name]
            components.dropped(unit, relation.id)
    unit.env.storage.drop_column(table, column)
    del table.columns[column.name]
    base = table.columns.get(f"{column.name}_base")
    if column.type == "Money" and base is not None:
        unit.env.storage.drop_column(table, base)
        del table.columns[base.name]
    components.dropped(unit, column.id)
    unit.env.save(table)


# --- keys ---


def create_key(unit: Unit, table: Table, body: Any, solution: str | None) -> Key:
    require_special(unit.caller, "prvWriteEntity")
    key = given.key(table, body)
    table.keys[key.name] = key
    unit.env.save(table)
    add_to_solution(unit, solution, "key", key.id)
    unit.env.build_key_later(table, key)
    return key


def delete_key(unit: Unit, table: Table, key: Key) -> None:
    require_special(unit.caller, "prvWriteEntity")
    unit.env.storage.drop_key(table, key)
    del table.keys[key.name]
    components.dropped(unit, key.id)
    unit.env.save(table)


# --- relationships ---


def create_relationship(unit: Unit, body: Any, solution: str | None) -> Relationship:
    require_special(unit.caller, "prvCreateRelationship")
    if not isinstance(body, dict):
        raise bad_request("A relationship definition must be a JSON object.")
    kind = str(body.get("@odata.type", "")).rpartition(".")[2]
    if kind == "ManyToManyRelationshipMetadata":
        return _many_to_many(unit, body, solution)
    if kind != "OneToManyRelationshipMetadata":
        raise fail(
            "'@odata.type' must name OneToManyRelationshipMetadata or ManyToManyRelationshipMetadata.", "0x80048d19"
        )
    lookup = body.get("Lookup")
    if not isinstance(lookup, dict):
        raise fail("The property 'Lookup' must define the lookup column.")
    return _lookup(unit, lookup, [body], solution, "Lookup")[1][0]


def _table(unit: Unit, body: Json, name: str) -> Table:
    wanted = given.text(body, name).lower()
    if wanted not in unit.schema.tables:
        raise Fault(400, "0x80060402", f"The entity '{wanted[:100]}' of the property '{name}' does not exist.")
    return unit.schema.tables[wanted]


def _lookup(
    unit: Unit, lookup: Json, bodies: list[Json], solution: str | None, kind: str
) -> tuple[Column, list[Relationship]]:
    """A lookup column and the relationships behind it, one for each target."""
    child = _table(unit, bodies[0], "ReferencingEntity")
    targets, names = [], []
    for body in bodies:
        if _table(unit, body, "ReferencingEntity").name != child.name:
            raise fail("All relationships of a lookup must have the same 'ReferencingEntity'.")
        targets.append(_table(unit, body, "ReferencedEntity").name)
        name = given.schema_name(body, "relationship")
        if name in unit.schema.relationships or name in names:
            raise fail(f"A relationship with the name {name} already exists.", "0x80047010")
        names.append(name)
    if len(set(targets)) != len(targets):
        raise fail("A lookup can name each target once.")
    column = given.column(unit.schema, child, lookup, kind=kind)
    column.targets = targets
    _add(unit, child, column)
    many = len(targets) > 1
    navs = [f"{column.schema_name}_{target}" if many else column.schema_name for target in targets]
    collections = []
    for body, nav, name in zip(bodies, list(navs), names, strict=True):
        collections.append(str(body.get("ReferencedEntityNavigationPropertyName") or name))
        wanted = body.get("ReferencingEntityNavigationPropertyName")
        if isinstance(wanted, str) and wanted and not many:
            navs[navs.index(nav)] = wanted
    made = link(unit.schema, child, column, names, navs, collections, custom=True)
    for relation, body in zip(made, bodies, strict=True):
        relation.id = str(uuid.uuid4())
        cascade = body.get("CascadeConfiguration")
        if isinstance(cascade, dict):
            relation.cascade |= {k: v for k, v in cascade.items() if isinstance(v, str)}
        if isinstance(body.get("IsHierarchical"), bool):
            relation.extra["IsHierarchical"] = body["IsHierarchical"]
        if isinstance(body.get("AssociatedMenuConfiguration"), dict):
            relation.extra["AssociatedMenuConfiguration"] = body["AssociatedMenuConfiguration"]
        unit.env.save(relation)
        add_to_solution(unit, solution, "relationship", relation.id)
    add_to_solution(unit, solution, "column", column.id)
    return column, made


def _many_to_many(unit: Unit, body: Json, solution: str | None) -> Relationship:
    first, second = _table(unit, body, "Entity1LogicalName"), _table(unit, body, "Entity2LogicalName")
    name = given.schema_name(body, "relationship")
    if name in unit.schema.relationships:
        raise fail(f"A relationship with the name {name} already exists.", "0x80047010")
    intersect = str(body.get("IntersectEntityName") or name).lower()
    if intersect in unit.schema.tables:
        raise fail(
            f"An entity with the name {intersect} already exists (property 'IntersectEntityName').", "0x80047013"
        )
    table = intersect_table(unit.schema, intersect, first.name, second.name, f"{intersect}set")
    relation = Relationship(
        name, "N:N", first.name, second.name, intersect=intersect, id=str(uuid.uuid4()), custom=True,
        nav_collection=str(body.get("Entity1NavigationPropertyName") or name),
        nav_lookup=str(body.get("Entity2NavigationPropertyName") or name),
    )  # fmt: skip
    unit.schema.relationships[name] = relation
    unit.schema.changed()
    unit.env.storage.create_table(table)
    mine, theirs = table.columns.keys() - {table.primary_id, "versionnumber"}
    for column in (mine, theirs):
        index = quoted(f"{intersect}.{column}")
        unit.connection.execute(f"CREATE INDEX {index} ON {quoted(intersect)} ({quoted(column)})")
    unit.env.save(table)
    unit.env.save(relation)
    add_to_solution(unit, solution, "relationship", relation.id)
    return relation


def create_customer(unit: Unit, body: Json, solution: str | None) -> tuple[Column, list[Relationship]]:
    """A lookup to account and contact."""
    require_special(unit.caller, "prvCreateRelationship")
    column, relations = _from_parameters(unit, body, solution, "Customer")
    if sorted(column.targets) != ["account", "contact"]:
        raise fail("A customer lookup has exactly two relationships: to account and to contact.")
    return column, relations


def create_polymorphic(unit: Unit, body: Json, solution: str | None) -> tuple[Column, list[Relationship]]:
    require_special(unit.caller, "prvCreateRelationship")
    return _from_parameters(unit, body, solution, "Lookup")


def _from_parameters(unit: Unit, body: Json, solution: str | None, kind: str) -> tuple[Column, list[Relationship]]:
    lookup, relations = body.get("Lookup"), body.get("OneToManyRelationships")
    if not isinstance(lookup, dict):
        raise fail("The parameter 'Lookup' must define the lookup column.")
    if not isinstance(relations, list) or not relations or not all(isinstance(item, dict) for item in relations):
        raise fail("The parameter 'OneToManyRelationships' must be an array of relationships.")
    return _lookup(unit, lookup, relations, solution or body.get("SolutionUniqueName"), kind)


def update_relationship(unit: Unit, relation: Relationship, body: Any) -> None:
    require_special(unit.caller, "prvWriteEntity")
    if not isinstance(body, dict):
        raise bad_request("A relationship definition must be a JSON object.")
    cascade = body.get("CascadeConfiguration")
    if isinstance(cascade, dict):
        relation.cascade |= {k: v for k, v in cascade.items() if isinstance(v, str)}
    unit.env.save(relation)


def delete_relationship(unit: Unit, relation: Relationship) -> None:
    require_special(unit.caller, "prvDeleteRelationship")
    _must_be_custom(relation.custom, f"relationship {relation.schema_name}")
    schema = unit.schema
    if relation.kind == "N:N":
        table = schema.tables.pop(relation.intersect)
        unit.env.storage.drop_table(table)
        unit.env.forget(table)
    else:
        child = schema.tables[relation.referencing]
        column = child.columns.get(relation.attribute)
        if column is not None:
            delete_column(unit, child, column)
    if relation.schema_name in schema.relationships:
        unit.env.forget(relation)
        del schema.relationships[relation.schema_name]
    components.dropped(unit, relation.id)


# --- choices ---


def create_option_set(unit: Unit, body: Any, solution: str | None) -> OptionSet:
    require_special(unit.caller, "prvCreateOptionSet")
    choice = given.option_set(unit.schema, body)
    unit.schema.option_sets[choice.name] = choice
    unit.env.save(choice)
    add_to_solution(unit, solution, "optionset", choice.id)
    return choice


def update_option_set(unit: Unit, choice: OptionSet, body: Any) -> None:
    require_special(unit.caller, "prvWriteOptionSet")
    if not isinstance(body, dict):
        raise bad_request("A choice definition must be a JSON object.")
    if "DisplayName" in body:
        choice.label, choice.labels = given.labels(body["DisplayName"], "DisplayName")
    if "Description" in body:
        choice.description, _ = given.labels(body["Description"], "Description")
    unit.env.save(choice)


def delete_option_set(unit: Unit, choice: OptionSet) -> None:
    require_special(unit.caller, "prvDeleteOptionSet")
    for table in unit.schema.tables.values():
        for column in table.columns.values():
            if column.option_set == choice.name:
                raise fail(
                    f"The choice {choice.name} cannot be deleted: {table.name}.{column.name} uses it.", "0x8004f01f"
                )
    del unit.schema.option_sets[choice.name]
    components.dropped(unit, choice.id)
    unit.env.forget(choice)


def options_named(unit: Unit, body: Json) -> tuple[list[Option], Table | OptionSet, Column | None]:
    """The options that an action names: of a column, or of a global choice."""
    name = body.get("OptionSetName")
    if isinstance(name, str) and name:
        choice = unit.schema.option_sets.get(name)
        if choice is None:
            raise fail(f"The option set '{name[:100]}' does not exist.")
        return choice.options, choice, None
    table = unit.schema.tables.get(str(body.get("EntityLogicalName")))
    column = table.columns.get(str(body.get("AttributeLogicalName"))) if table else None
    if table is None or column is None:
        raise fail("The parameters 'EntityLogicalName' and 'AttributeLogicalName' must name a column.", "0x80041103")
    if column.type not in ("Picklist", "MultiSelectPicklist", "Status", "State"):
        raise fail(f"The column {column.name} is of type {column.type}: it has no options to change.", "0x80044320")
    if column.option_set:
        choice = unit.schema.option_sets[column.option_set]
        return choice.options, choice, column
    return column.options, table, column
