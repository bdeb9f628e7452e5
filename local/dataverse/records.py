"""Writing rows: create, update, upsert, delete, associate; what Dataverse checks and fills in on the way.

Every function works inside a `Unit`: one transaction of one caller. Values are parsed first (so that a bad body changes
nothing), rules of the table run, the row is written, and steps registered for the message queue their events.
"""

import datetime
import re
import sqlite3
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from local.dataverse import components, rules
from local.dataverse.definitions import intersect_ids
from local.dataverse.errors import (
    Fault,
    bad_payload,
    bad_request,
    duplicate_id,
    duplicate_key,
    no_resource,
    no_row,
    no_row_for_key,
    required,
    row_exists,
    undeclared,
    version_mismatch,
    wrong_state,
)  # fmt: skip
from local.dataverse.model import LOOKUPS, Column, Relationship, Schema, Table
from local.dataverse.security import SECURITY_TABLES, Caller, check, require, require_special
from local.dataverse.storage import quoted, type_column
from local.dataverse.values import Parser, guid, literal, parser

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.events import Written

Values = dict[str, Any]
DEEPEST = 8
_BY_ID = re.compile(r"/?(\w+)\(([0-9a-fA-F-]{36})\)")
_READ_ONLY_TABLES = frozenset({"entity", "sdkmessage", "sdkmessagefilter", "privilege", "principalobjectaccess"})
WATCHED = frozenset({
    "sdkmessageprocessingstep", "sdkmessageprocessingstepimage", "serviceendpoint", "transactioncurrency", "organization",
})  # fmt: skip
_OWNERS = ("systemuser", "team")
_UNDELETABLE = frozenset({"systemuser", "organization", "usersettings"})


@dataclass(slots=True)
class Unit:
    """One transaction: the caller, the time, and what earlier parts of a change set made."""

    env: "Environment"
    connection: sqlite3.Connection
    caller: Caller
    now: datetime.datetime
    moment: str  # `now` as it is stored
    request_id: str
    base: str = ""
    bypass_steps: bool = False
    suppress_duplicates: bool = True
    depth: int = 1
    references: dict[str, str] = field(default_factory=dict)  # Content-ID -> URL of the row
    shared: dict[str, str] = field(default_factory=dict)
    solution: str | None = None  # to which new components belong
    bulk: dict[tuple[str, str], list["Written"]] | None = (
        None  # in a bulk call: what its own message's steps will hear of
    )
    rows: int = 0
    touched: set[str] = field(default_factory=set)  # tables whose cached content is stale after the commit

    @property
    def schema(self) -> Schema:
        return self.env.schema


@dataclass(slots=True)
class Writable:
    """How the properties of a body are read, compiled once for a table."""

    setters: dict[str, tuple[Column, Parser]]
    binds: dict[str, tuple[Column, str]]  # navigation property -> (lookup, target table)
    collections: dict[str, Relationship]
    lookups: frozenset[str]  # names that only navigation properties may set
    defaults: Values
    needed: list[Column]
    money: list[Column]


def writable(schema: Schema, table: Table) -> Writable:
    setters, lookups = {}, set()
    for column in table.columns.values():
        if column.type in LOOKUPS:
            lookups |= {column.name, column.property_name}
        else:
            setters[column.name] = (column, parser(schema, table, column))
    binds, collections = {}, {}
    for name, (relation, side) in schema.navigation(table.name).items():
        if side == "one":
            binds[name] = (table.columns[relation.attribute], relation.referenced)
        else:
            collections[name] = relation
    defaults: Values = {}
    for column in table.columns.values():
        if column.default is not None:
            defaults[column.name] = int(column.default) if column.type == "Boolean" else column.default
    needed = [
        c for c in table.columns.values()
        if c.required == "SystemRequired" and c.name not in (table.primary_id, "ownerid") and not c.auto_number
        and c.name not in defaults
    ]  # fmt: skip
    money = [c for c in table.columns.values() if c.type == "Money" and f"{c.name}_base" in table.columns]
    return Writable(setters, binds, collections, frozenset(lookups), defaults, needed, money)


@dataclass(slots=True)
class Parsed:
    values: Values
    parents: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # rows to create and point at
    children: list[tuple[Relationship, list[dict[str, Any]]]] = field(default_factory=list)
    links: list[tuple[Relationship, list[str]]] = field(default_factory=list)


# --- bodies ---


def parse_body(unit: Unit, table: Table, body: Any, *, creating: bool) -> Parsed:
    """Column values from a JSON object; refuses what the table does not have."""
    if not isinstance(body, dict):
        raise bad_payload(table.set_name, "The request must contain a JSON object.")
    how = unit.env.writable(table)
    parsed = Parsed({})
    values = parsed.values
    admin = unit.caller.admin
    for name, value in body.items():
        found = how.setters.get(name)
        if found is not None:
            column, parse = found
            if column.create if creating else column.update:
                values[name] = parse(value)
                if column.secured and not admin:
                    _check_column(unit, table, column, "create" if creating else "update")
            elif column.name == table.primary_id and value is not None:
                values[name] = parse(value)
            continue
        if "@" in name:
            navigation, _, annotation = name.partition("@")
            if annotation == "odata.bind":
                _bind(unit, table, how, navigation, value, parsed, creating)
            continue
        _navigation(unit, table, how, name, value, parsed, creating)
    return parsed


def _check_column(unit: Unit, table: Table, column: Column, right: str) -> None:
    if not unit.caller.columns.get((table.name, column.name, right)):
        raise Fault(403, "0x8004f508", f"Caller user with Id {unit.caller.user} does not have {right} permissions for "
                                       f"the secured attribute(s): {column.name} of entity {table.name}.")  # fmt: skip


def _bind(unit: Unit, table: Table, how: Writable, navigation: str, value: Any, parsed: Parsed, creating: bool) -> None:
    found = how.binds.get(navigation)
    if found is None:
        relation = how.collections.get(navigation)
        if relation is None or not creating:
            raise undeclared(table.set_name, navigation, table.name)
        if not isinstance(value, list):
            raise bad_payload(table.set_name, f"'{navigation}@odata.bind' must be an array of references.")
        parsed.links.append((relation, [resolve(unit, text, table)[1] for text in value]))
        return
    column, target = found
    if value is None:
        set_lookup(parsed.values, column, None, None)
        return
    bound, row_id = resolve(unit, value, table)
    if bound.name != target and not (column.type == "Owner" and bound.name in column.targets):
        raise bad_payload(
            table.set_name, f"'{navigation}@odata.bind' needs a row of '{target}'; '{bound.set_name}' was given."
        )
    _check_target(unit, table, bound, row_id)
    if column.create if creating else column.update:
        set_lookup(parsed.values, column, bound.name, row_id)


def _navigation(unit: Unit, table: Table, how: Writable, name: str, value: Any, parsed: Parsed, creating: bool) -> None:
    if name in how.binds:
        column, target = how.binds[name]
        if value is None:
            set_lookup(parsed.values, column, None, None)
        elif isinstance(value, dict) and creating:
            parsed.parents.append((name, value))
        elif isinstance(value, dict) and (target_table := unit.schema.tables[target]).primary_id in value:
            row_id = guid(value[target_table.primary_id])
            if row_id is None:
                raise bad_payload(table.set_name, f"'{name}' holds an invalid id.")
            _check_target(unit, table, target_table, row_id)
            set_lookup(parsed.values, column, target, row_id)
        else:
            raise bad_payload(
                table.set_name, f"The navigation property '{name}' needs a reference ('{name}@odata.bind')."
            )
        return
    if name in how.collections:
        if not creating:
            raise bad_payload(table.set_name, f"Deep update of the collection '{name}' is not supported.")
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise bad_payload(table.set_name, f"The collection '{name}' must be an array of objects.")
        parsed.children.append((how.collections[name], value))
        return
    if name in how.lookups:
        raise bad_payload(
            table.set_name,
            f"CRM do not support direct update of Entity Reference properties, Use Navigation properties instead. ({name})",
        )
    raise undeclared(table.set_name, name[:100], table.name)


def set_lookup(values: Values, column: Column, table: str | None, row_id: str | None) -> None:
    values[column.name] = row_id
    if column.polymorphic:
        values[type_column(column.name)] = table


def _check_target(unit: Unit, table: Table, target: Table, row_id: str) -> None:
    if unit.connection.execute(unit.env.exists_sql(target), (row_id,)).fetchone() is None:
        raise no_row(target.name, row_id)
    if not unit.caller.admin:
        require(unit.caller, "Append", table)
        check(unit.caller, "AppendTo", target, unit.connection, row_id)


# --- finding rows ---


def resolve(unit: Unit, reference: Any, table: Table | None = None) -> tuple[Table, str]:
    """(table, id) of a reference: `/accounts(id)`, `accounts(key='x')`, a full URL or `$1` of this change set."""
    where = table.set_name if table else ""
    if not isinstance(reference, str):
        raise bad_payload(
            where, "A reference must be a string such as '/accounts(00000000-0000-0000-0000-000000000001)'."
        )
    text = reference
    if text.startswith("$"):
        if text[1:] not in unit.references:
            raise bad_request(f"Content-ID Reference: '{text[:20]}' does not exist in the batch context.")
        text = unit.references[text[1:]]
    found = _BY_ID.fullmatch(text)
    if found is None:
        text = re.sub(r"^https?://[^/]+", "", text)
        text = re.sub(r"^/?api/data/v\d+\.\d/", "", text)
        found = _BY_ID.fullmatch(text)
    if found is not None:
        target = unit.schema.sets.get(found[1])
        row_id = guid(found[2])
        if target is None:
            raise no_resource(found[1])
        if row_id is None:
            raise bad_payload(where, f"'{reference[:120]}' holds an invalid id.")
        return target, row_id
    shaped = re.fullmatch(r"/?(\w+)\((.*)\)", text, re.DOTALL)
    if shaped is None or shaped[1] not in unit.schema.sets:
        raise bad_payload(where, f"Invalid URI '{reference[:120]}' in a reference.")
    target = unit.schema.sets[shaped[1]]
    return target, find(unit.connection, unit.schema, target, parse_key(target, unquote(shaped[2])), must=True) or ""


def parse_key(table: Table, text: str) -> Values:
    """Column values of a key in parentheses: `{primary id}` alone or `a='x',b=1`; refuses what is no key."""
    text = text.strip()
    row_id = guid(text)
    if row_id is not None:
        return {table.primary_id: row_id}
    values: Values = {}
    position = 0
    pattern = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^']|'')*)'|([^,']*))\s*(?:,|$)")
    while position < len(text):
        found = pattern.match(text, position)
        if found is None:
            raise Fault(400, "0x80060888", f"Bad Request - Error in query syntax: '{text[:60]}' is no valid key or id.")
        position = found.end()
        name = found[1]
        if name == "ownerid" and table.name in _OWNERS:  # of owners the id has two names
            name = table.primary_id
        column = table.columns.get(name)
        if column is None or column.type in LOOKUPS:
            lookup = table.columns.get(name[1:-6]) if name.startswith("_") and name.endswith("_value") else None
            if lookup is None or lookup.type not in LOOKUPS:
                raise _no_key(table)
            column = lookup
        raw, kind = (found[2].replace("''", "'"), "s") if found[2] is not None else (found[3].strip(), "n")
        values[column.name] = literal(column, kind, raw)
    if list(values) == [table.primary_id]:
        return values
    if not values or not any(sorted(key.columns) == sorted(values) for key in table.keys.values()):
        raise _no_key(table)
    for key in table.keys.values():
        if sorted(key.columns) == sorted(values) and key.status != "Active":
            raise Fault(400, "0x80060890", f"The key {key.schema_name} of the {table.name} entity is not active.")
    return values


def _no_key(table: Table) -> Fault:
    return Fault(
        400, "0x80060890",
        f"The key in the request URI is not valid for resource 'Microsoft.Dynamics.CRM.{table.name}'. Ensure that the "
        "names and number of key properties match the declared or alternate key properties for the resource "
        f"'Microsoft.Dynamics.CRM.{table.name}'.",
    )  # fmt: skip


def find(
    connection: sqlite3.Connection, schema: Schema, table: Table, key: Values, *, must: bool = False
) -> str | None:
    """The id of the row with this key, if there is one."""
    where = " AND ".join(f"{quoted(name)} = ?" for name in key)
    sql = f"SELECT {quoted(table.primary_id)} FROM {quoted(table.name)} WHERE {where}"
    row = connection.execute(sql, list(key.values())).fetchone()
    if row is None:
        if must:
            raise no_row(table.name, key[table.primary_id]) if table.primary_id in key else no_row_for_key(table.name)
        return None
    return str(row[0])


def read_row(unit: Unit, table: Table, row_id: str) -> Values | None:
    """All stored columns of a row."""
    cursor = unit.connection.execute(
        f"SELECT * FROM {quoted(table.name)} WHERE {quoted(table.primary_id)} = ?", (row_id,)
    )
    row = cursor.fetchone()
    if row is None:
        return None
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


# --- create ---


def create(
    unit: Unit, table: Table, body: Any, *, key: Values | None = None, link: Values | None = None, level: int = 0
) -> str:
    """Creates a row (and what is nested in it); answers its id. `key` and `link` are values the body does not repeat."""
    if level > DEEPEST:
        raise bad_payload(table.set_name, "The rows are nested too deeply.")
    if table.name in _READ_ONLY_TABLES or table.intersect:
        raise Fault(400, "0x80040800", f"The 'Create' method does not support entities of type '{table.name}'.")
    caller = unit.caller
    require(caller, "Create", table)
    parsed = parse_body(unit, table, body, creating=True)
    values = parsed.values
    if key:
        for name, value in key.items():
            values.setdefault(name, value)
    if link:
        values.update(link)
    for navigation, nested in parsed.parents:
        column, target = unit.env.writable(table).binds[navigation]
        set_lookup(values, column, target, create(unit, unit.schema.tables[target], nested, level=level + 1))
    row_id = values.get(table.primary_id) or str(uuid.uuid4())
    values[table.primary_id] = row_id
    sent = dict(values)
    rules.inherit(unit, table, values, nested=level > 0)
    _fill_new(unit, table, values)
    children = [(relation, rows) for relation, rows in parsed.children]
    rules.before_create(unit, table, values)
    for column in unit.env.writable(table).needed:
        if values.get(column.name) is None:
            raise required(column.name, table.name)
    _insert(unit, table, values)
    for relation, rows in children:
        _create_children(unit, table, row_id, relation, rows, level)
    for relation, ids in parsed.links:
        for other in ids:
            associate(unit, table, row_id, relation, other)
    rules.after_create(unit, table, row_id, values, nested=level > 0)
    unit.env.events.created(unit, table, row_id, sent)
    if unit.solution and table.name in components.ROWS:
        components.add(unit, unit.solution, components.ROWS[table.name], row_id)
    _touched(unit, table)
    return row_id


def _fill_new(unit: Unit, table: Table, values: Values) -> None:
    """Defaults, audit columns, owner, state."""
    moment, caller = unit.moment, unit.caller
    columns = table.columns
    for name, value in unit.env.writable(table).defaults.items():
        values.setdefault(name, value)
    if "createdon" in columns:
        overridden = values.get("overriddencreatedon")
        if overridden and not caller.admin:
            require_special(caller, "prvOverrideCreatedOnCreatedBy")
        values["createdon"] = overridden or moment
        if overridden:
            values["overriddencreatedon"] = moment
        values["modifiedon"] = moment
        values["createdby"] = values["modifiedby"] = caller.user
        if caller.acting:
            values["createdonbehalfby"] = values["modifiedonbehalfby"] = caller.acting
    if table.user_owned:
        if not values.get("ownerid"):
            values["ownerid"], values[type_column("ownerid")] = caller.user, "systemuser"
        _fill_owner(unit, table, values)
    if "statecode" in columns:
        _check_state(table, values, columns["statecode"].default, columns["statuscode"].default)
    if "exchangerate" in columns and table.name != "transactioncurrency":
        fill_money(unit, table, values, {})


def _fill_owner(unit: Unit, table: Table, values: Values) -> None:
    owner, kind = values["ownerid"], values[type_column("ownerid")]
    if owner == unit.caller.user:
        unit_id: str | None = unit.caller.business_unit
    else:
        row = unit.connection.execute(
            f"SELECT businessunitid FROM {'team' if kind == 'team' else 'systemuser'} WHERE {kind}id = ?", (owner,)
        ).fetchone()
        if row is None:
            raise no_row(str(kind), str(owner))
        unit_id = row[0]
        if not unit.caller.admin:
            require(unit.caller, "Assign", table)
    values["owningbusinessunit"] = unit_id
    values["owninguser"] = owner if kind == "systemuser" else None
    values["owningteam"] = owner if kind == "team" else None


def _check_state(table: Table, values: Values, state: int, status: int) -> None:
    """Completes and checks the pair of state and status, given the present pair."""
    states, statuses = table.columns["statecode"].options, table.columns["statuscode"].options
    wanted_state, wanted_status = values.get("statecode"), values.get("statuscode")
    if "statecode" in values and wanted_state is None:
        raise required("statecode", table.name)
    if wanted_state is None:
        wanted_state = state
    if wanted_status is None:
        kept = wanted_state == state
        wanted_status = status if kept else next(s.default_status for s in states if s.value == wanted_state)
    if all(option.state != wanted_state for option in statuses if option.value == wanted_status):
        raise wrong_state(wanted_status, wanted_state, table.name)
    values["statecode"], values["statuscode"] = wanted_state, wanted_status


def fill_money(unit: Unit, table: Table, values: Values, old: Values) -> None:
    """Currency, exchange rate and the base-currency copies of the money that is being written."""
    currency = values.get("transactioncurrencyid") or old.get("transactioncurrencyid") or unit.env.base_currency
    if currency is None:
        return
    values["transactioncurrencyid"] = currency
    rate = unit.env.exchange_rate(unit.connection, currency)
    changed = rate != old.get("exchangerate")
    values["exchangerate"] = rate
    for column in unit.env.writable(table).money:
        if column.name in values or changed:
            amount = values.get(column.name, old.get(column.name))
            values[f"{column.name}_base"] = None if amount is None else to_base(amount, rate)


def to_base(amount: int, rate: int) -> int:
    """Money (four places) divided by an exchange rate (ten places), rounded half up."""
    sign = -1 if amount < 0 else 1
    return sign * ((abs(amount) * 2 * 10**10 + rate) // (2 * rate))


def _insert(unit: Unit, table: Table, values: Values) -> None:
    values["versionnumber"] = unit.env.next_version()
    sql = unit.env.insert_sql(table, tuple(values))
    try:
        unit.connection.execute(sql, list(values.values()))
    except sqlite3.IntegrityError as error:
        raise integrity_fault(table, error) from None
    unit.rows += 1


def integrity_fault(table: Table, error: sqlite3.IntegrityError) -> Fault:
    """Dataverse's refusal for a violated unique index."""
    names = re.findall(r"\.(\w+)(?:,|$)", str(error))
    if names == [table.primary_id]:
        return duplicate_id()
    for key in table.keys.values():
        if sorted(key.columns) == sorted(names):
            labels = ", ".join(table.columns[name].label or name for name in key.columns)
            return duplicate_key(key.label or key.schema_name, labels)
    return duplicate_id()


def _create_children(
    unit: Unit, table: Table, row_id: str, relation: Relationship, rows: list[dict[str, Any]], level: int
) -> None:
    if relation.kind == "N:N":
        other = relation.referencing if relation.referenced == table.name else relation.referenced
        for row in rows:
            associate(unit, table, row_id, relation, create(unit, unit.schema.tables[other], row, level=level + 1))
        return
    child = unit.schema.tables[relation.referencing]
    link: Values = {}
    set_lookup(link, child.columns[relation.attribute], table.name, row_id)
    for row in rows:
        create(unit, child, row, link=link, level=level + 1)


# --- update ---


def update(unit: Unit, table: Table, row_id: str, body: Any, *, if_match: str | None = None) -> bool:
    """Updates a row; False if there is none. `if_match` is the version it must have, or None."""
    parsed = parse_body(unit, table, body, creating=False)
    if parsed.values.pop(table.primary_id, row_id) != row_id:
        raise bad_payload(table.set_name, f"The value of '{table.primary_id}' differs from the id in the URL.")
    return change(unit, table, row_id, parsed.values, if_match=if_match)


def change(
    unit: Unit, table: Table, row_id: str, values: Values, *, if_match: str | None = None, system: bool = False
) -> bool:
    """Writes column values to a row; False if there is none. `system`: by Dataverse itself, beyond the caller's rights."""
    env, caller = unit.env, unit.caller
    old: Values | None = None
    if not caller.admin and not system:
        require(caller, "Write", table)
    if env.needs_old(table, values) or if_match is not None or not caller.admin:
        old = read_row(unit, table, row_id)
        if old is None:
            return False
        if if_match is not None and str(old["versionnumber"]) != if_match:
            raise version_mismatch()
        if not system:
            check(caller, "Write", table, unit.connection, row_id)
    sent = dict(values)
    if old is not None:
        _fill_changed(unit, table, values, old)
        rules.before_update(unit, table, row_id, values, old, system=system)
    if "modifiedon" in table.columns:
        values["modifiedon"], values["modifiedby"] = unit.moment, caller.user
        if caller.acting or (old and old.get("modifiedonbehalfby")):
            values["modifiedonbehalfby"] = caller.acting
    values["versionnumber"] = env.next_version()
    sql = env.update_sql(table, tuple(values))
    try:
        cursor = unit.connection.execute(sql, [*values.values(), row_id])
    except sqlite3.IntegrityError as error:
        raise integrity_fault(table, error) from None
    if cursor.rowcount == 0:
        return False
    unit.rows += 1
    if old is not None:
        rules.after_update(unit, table, row_id, values, old)
    env.events.updated(unit, table, row_id, sent, old)
    _touched(unit, table)
    return True


def _fill_changed(unit: Unit, table: Table, values: Values, old: Values) -> None:
    if "statecode" in values or "statuscode" in values:
        _check_state(table, values, old["statecode"], old["statuscode"])
    if values.get("ownerid") and values["ownerid"] != old["ownerid"]:
        check(unit.caller, "Assign", table, unit.connection, old[table.primary_id])
        _fill_owner(unit, table, values)
    elif "ownerid" in values and values["ownerid"] is None:
        raise required("ownerid", table.name)
    if "exchangerate" in table.columns and table.name != "transactioncurrency":
        names = {column.name for column in unit.env.writable(table).money}
        if "transactioncurrencyid" in values or names & values.keys():
            fill_money(unit, table, values, old)


# --- upsert, delete ---


def upsert(
    unit: Unit, table: Table, key: Values, body: Any, *, if_match: str | None = None, if_none_match: bool = False
) -> tuple[str, bool]:
    """(id, whether it was created). `if_match` "*" or a version: update only; `if_none_match`: create only."""
    by_id = table.primary_id in key
    row_id = str(key[table.primary_id]) if by_id else find(unit.connection, unit.schema, table, key)
    if by_id and if_none_match:
        row_id = find(unit.connection, unit.schema, table, key)
    if row_id is not None and if_none_match:
        raise row_exists()
    if row_id is not None:
        if not by_id and isinstance(body, dict):
            body = {name: value for name, value in body.items() if name not in key}
        version = if_match if if_match not in (None, "*") else None
        if update(unit, table, row_id, body, if_match=version):
            return row_id, False
    if if_match is not None:
        raise no_row(table.name, str(key[table.primary_id])) if by_id else no_row_for_key(table.name)
    return create(unit, table, body, key=key), True


def delete(unit: Unit, table: Table, row_id: str, *, if_match: str | None = None, cascade: bool = False) -> None:
    """Deletes a row and, as their relationships say, what depends on it."""
    if table.name in _UNDELETABLE or table.name in _READ_ONLY_TABLES:
        raise Fault(405, "0x80040800", f"The 'Delete' method does not support entities of type '{table.name}'.")
    old = read_row(unit, table, row_id)
    if old is None:
        raise no_row(table.name, row_id)
    if if_match not in (None, "*") and str(old["versionnumber"]) != if_match:
        raise version_mismatch()
    if not cascade:
        check(unit.caller, "Delete", table, unit.connection, row_id)
    rules.before_delete(unit, table, row_id, old, cascade=cascade)
    for relation in unit.schema.references_to(table.name):
        _delete_references(unit, table, row_id, relation)
    for relation in unit.schema.relationships.values():
        if relation.kind == "N:N" and table.name in (relation.referenced, relation.referencing):
            ids = intersect_ids(unit.schema, relation)
            for name, side in zip(ids, (relation.referenced, relation.referencing), strict=True):
                if side == table.name:
                    unit.connection.execute(
                        f"DELETE FROM {quoted(relation.intersect)} WHERE {quoted(name)} = ?", (row_id,)
                    )
    unit.connection.execute(f"DELETE FROM {quoted(table.name)} WHERE {quoted(table.primary_id)} = ?", (row_id,))
    unit.rows += 1
    if table.change_tracking:
        unit.connection.execute(
            'INSERT INTO "#deleted" VALUES (?, ?, ?, ?)', (unit.env.next_version(), table.name, row_id, unit.moment)
        )
    if table.name in components.ROWS:
        components.dropped(unit, row_id)
    rules.after_delete(unit, table, row_id, old, cascade=cascade)
    unit.env.events.deleted(unit, table, row_id, old)
    _touched(unit, table)


def _delete_references(unit: Unit, table: Table, row_id: str, relation: Relationship) -> None:
    child = unit.schema.tables[relation.referencing]
    column = child.columns[relation.attribute]
    if column.name in (
        "createdby",
        "modifiedby",
        "createdonbehalfby",
        "modifiedonbehalfby",
        "owninguser",
        "owningteam",
    ):
        return
    where = f"{quoted(column.name)} = ?"
    if column.polymorphic and column.type != "Owner":
        where += f" AND {quoted(type_column(column.name))} = '{table.name}'"
    ids = [
        found for (found,) in unit.connection.execute(
            f"SELECT {quoted(child.primary_id)} FROM {quoted(child.name)} WHERE {where}", (row_id,)
        ).fetchall()
    ]  # fmt: skip
    if not ids:
        return
    if relation.on_delete == "Restrict":
        raise Fault(
            405, "0x80040227",
            f"The {table.name} with id {row_id} cannot be deleted because rows of '{child.name}' are associated with it.",
        )  # fmt: skip
    for child_id in ids:
        if relation.on_delete == "Cascade":
            delete(unit, child, child_id, cascade=True)
        elif relation.on_delete == "RemoveLink":
            values: Values = {}
            set_lookup(values, column, None, None)
            change(unit, child, child_id, values, system=True)


# --- many-to-many ---


def associate(unit: Unit, table: Table, row_id: str, relation: Relationship, other_id: str) -> None:
    mine, theirs = intersect_ids(unit.schema, relation)
    first = relation.referenced == table.name
    if not first:
        mine, theirs = theirs, mine
    other = unit.schema.tables[relation.referencing if first else relation.referenced]
    _check_target(unit, table, other, other_id)
    if not unit.caller.admin:
        check(unit.caller, "Append", table, unit.connection, row_id)
    intersect = unit.schema.tables[relation.intersect]
    exists = unit.connection.execute(
        f"SELECT 1 FROM {quoted(intersect.name)} WHERE {quoted(mine)} = ? AND {quoted(theirs)} = ?", (row_id, other_id)
    ).fetchone()
    if exists:
        raise Fault(412, "0x80040237", "Cannot insert duplicate key.")
    unit.connection.execute(
        f"INSERT INTO {quoted(intersect.name)} ({quoted(intersect.primary_id)}, {quoted(mine)}, {quoted(theirs)}, "
        "versionnumber) VALUES (?, ?, ?, ?)",
        (str(uuid.uuid4()), row_id, other_id, unit.env.next_version()),
    )
    _touched(unit, intersect)


def disassociate(unit: Unit, table: Table, row_id: str, relation: Relationship, other_id: str) -> None:
    mine, theirs = intersect_ids(unit.schema, relation)
    if relation.referenced != table.name:
        mine, theirs = theirs, mine
    if not unit.caller.admin:
        check(unit.caller, "Append", table, unit.connection, row_id)
    unit.connection.execute(
        f"DELETE FROM {quoted(relation.intersect)} WHERE {quoted(mine)} = ? AND {quoted(theirs)} = ?",
        (row_id, other_id),
    )
    _touched(unit, unit.schema.tables[relation.intersect])


def _touched(unit: Unit, table: Table) -> None:
    if table.name in SECURITY_TABLES or table.name in WATCHED:
        unit.touched.add(table.name)
