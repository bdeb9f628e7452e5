"""The rows of a new environment: organisation, business unit, currency, users, roles, messages, publisher, solution."""

import secrets
import string
import uuid
from typing import TYPE_CHECKING, Any

from local.dataverse.model import Schema, Table, stable_id
from local.dataverse.security import (
    GLOBAL,
    SPECIAL,
    SYSTEM_ADMINISTRATOR,
    SYSTEM_CUSTOMIZER,
    privilege_id,
    privileges_of,
)
from local.dataverse.values import timestamp

if TYPE_CHECKING:
    from local.dataverse.environment import Environment

MESSAGES = (
    "Create", "Update", "Delete", "Retrieve", "RetrieveMultiple", "Associate", "Disassociate", "Assign", "SetState",
    "CreateMultiple", "UpdateMultiple", "Merge", "GrantAccess", "RevokeAccess",
)  # fmt: skip
# The same in every environment of Dataverse; those of the others were not found anywhere.
_MESSAGE_IDS = {
    "Create": "9ebdbb1b-ea3e-db11-86a7-000a3a5473e8", "Update": "20bebb1b-ea3e-db11-86a7-000a3a5473e8",
    "Delete": "a1bdbb1b-ea3e-db11-86a7-000a3a5473e8",
}  # fmt: skip
_FILTERED = ("Create", "Update", "Delete", "CreateMultiple", "UpdateMultiple")


def provision(env: "Environment", schema: Schema) -> None:
    """Fills an empty file; inside a transaction."""
    env.schema.tables, env.schema.relationships = schema.tables, schema.relationships
    env.schema.option_sets = schema.option_sets
    for table in schema.tables.values():
        env.storage.create_table(table)
        env.save(table)
    for relation in schema.relationships.values():
        env.save(relation)
    env.schema_changed()
    _rows(env)
    for message in MESSAGES:
        _insert(env, "sdkmessage", sdkmessageid=_message_id(message), name=message)
    for name in SPECIAL:
        _insert(env, "privilege", privilegeid=privilege_id(name), name=name)
    for table in schema.tables.values():
        register_table(env, table)


def _message_id(name: str) -> str:
    return _MESSAGE_IDS.get(name) or stable_id("message", name)


def register_table(env: "Environment", table: Table) -> None:
    """The rows that stand for a table: its privileges and its message filters."""
    for name in privileges_of(table):
        known = env.storage.writer.execute("SELECT 1 FROM privilege WHERE name = ?", (name,)).fetchone()
        if not known:
            _insert(env, "privilege", privilegeid=privilege_id(name), name=name)
    if table.intersect:
        return
    _insert(
        env, "entity", entityid=table.id, name=table.schema_name, logicalname=table.name, entitysetname=table.set_name,
        originallocalizedname=table.label, objecttypecode=table.otc, isactivity=int(table.activity),
    )  # fmt: skip
    for message in _FILTERED:
        if message.endswith("Multiple") and not table.bulk:
            continue
        _insert(
            env, "sdkmessagefilter", sdkmessagefilterid=stable_id("filter", message, table.name),
            name=f"{message} of {table.name}", primaryobjecttypecode=table.name, secondaryobjecttypecode="none",
            sdkmessageid=_message_id(message), iscustomprocessingstepallowed=1,
        )  # fmt: skip


def unregister_table(env: "Environment", table: Table) -> None:
    writer = env.storage.writer
    for name in privileges_of(table):
        if not table.activity and not table.privilege:
            writer.execute("DELETE FROM roleprivileges WHERE privilegeid = ?", (privilege_id(name),))
            writer.execute("DELETE FROM privilege WHERE privilegeid = ?", (privilege_id(name),))
    writer.execute(
        "DELETE FROM sdkmessageprocessingstep WHERE sdkmessagefilterid IN "
        "(SELECT sdkmessagefilterid FROM sdkmessagefilter WHERE primaryobjecttypecode = ?)",
        (table.name,),
    )
    writer.execute("DELETE FROM entity WHERE entityid = ?", (table.id,))
    writer.execute("DELETE FROM sdkmessagefilter WHERE primaryobjecttypecode = ?", (table.name,))


def _insert(env: "Environment", table_name: str, **values: Any) -> None:
    """A row straight into its table with the columns that Dataverse fills in."""
    table = env.schema.tables[table_name]
    row: dict[str, Any] = {}
    for column in table.columns.values():
        if column.default is not None:
            row[column.name] = int(column.default) if column.type == "Boolean" else column.default
    if "createdon" in table.columns:
        row["createdon"] = row["modifiedon"] = timestamp(env.clock())
    row["versionnumber"] = 1
    row |= values
    env.storage.writer.execute(env.insert_sql(table, tuple(row)), list(row.values()))


def _rows(env: "Environment") -> None:
    organization, unit, system = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4())
    currency = stable_id("currency", "USD")
    _insert(env, "organization", organizationid=organization, name="local", basecurrencyid=currency)
    _insert(env, "businessunit", businessunitid=unit, name="local", organizationid=organization)
    _insert(
        env, "transactioncurrency", transactioncurrencyid=currency, currencyname="US Dollar", isocurrencycode="USD",
        currencysymbol="$", exchangerate=10**10, currencyprecision=2,
    )  # fmt: skip
    admin, customizer = str(uuid.uuid4()), str(uuid.uuid4())
    _insert(
        env, "role", roleid=admin, name="System Administrator", roletemplateid=SYSTEM_ADMINISTRATOR, businessunitid=unit
    )
    _insert(
        env, "role", roleid=customizer, name="System Customizer", roletemplateid=SYSTEM_CUSTOMIZER, businessunitid=unit
    )
    for name in SPECIAL:
        if name.endswith(("Entity", "Attribute", "Relationship", "Customization", "OptionSet")):
            _insert(
                env, "roleprivileges", roleprivilegeid=str(uuid.uuid4()), roleid=customizer, privilegeid=privilege_id(name),
                privilegedepthmask=GLOBAL,
            )  # fmt: skip
    _insert(
        env, "systemuser", systemuserid=system, fullname="SYSTEM", lastname="SYSTEM", businessunitid=unit, accessmode=3,
        islicensed=0,
    )  # fmt: skip
    _insert(env, "usersettings", systemuserid=system)
    env.storage.writer.execute("INSERT OR REPLACE INTO \"#settings\" VALUES ('system user', ?)", (system,))
    give_role(env, system, "System Administrator")
    publisher = stable_id("publisher", "DefaultPublisher")
    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(4))
    _insert(
        env, "publisher", publisherid=publisher, uniquename="DefaultPublisherlocal", friendlyname="Default Publisher",
        customizationprefix=f"c{letters}", customizationoptionvalueprefix=10_000 + secrets.randbelow(80_000),
    )  # fmt: skip
    for name, friendly in (("Default", "Default Solution"), ("Active", "Active Solution")):
        _insert(
            env, "solution", solutionid=stable_id("solution", name), uniquename=name, friendlyname=friendly, version="1.0",
            publisherid=publisher,
        )  # fmt: skip


def give_role(env: "Environment", user: str, role: str) -> None:
    writer = env.storage.writer
    row = writer.execute("SELECT roleid FROM role WHERE name = ?", (role,)).fetchone()
    if row is None:
        raise ValueError(f"there is no role '{role}'")
    held = writer.execute(
        "SELECT 1 FROM systemuserroles WHERE systemuserid = ? AND roleid = ?", (user, row[0])
    ).fetchone()
    if not held:
        _insert(env, "systemuserroles", systemuserrolesid=str(uuid.uuid4()), systemuserid=user, roleid=row[0])


def ensure_user(
    env: "Environment", name: str, *, application: str | None = None, object_id: str | None = None,
    roles: tuple[str, ...] = ("System Administrator",),
) -> str:  # fmt: skip
    """The user of an application registration or a person, made with these roles if missing; answers its id."""
    with env.storage.writing() as writer:
        column, value = ("applicationid", application) if application else ("azureactivedirectoryobjectid", object_id)
        row = writer.execute(f"SELECT systemuserid FROM systemuser WHERE {column} = ?", (value,)).fetchone()
        if row:
            return str(row[0])
        unit = writer.execute("SELECT businessunitid FROM businessunit WHERE parentbusinessunitid IS NULL").fetchone()[
            0
        ]
        user = str(uuid.uuid4())
        _insert(
            env, "systemuser", systemuserid=user, fullname=name, lastname=name, businessunitid=unit,
            applicationid=application, azureactivedirectoryobjectid=object_id or (str(uuid.uuid4()) if application else None),
            accessmode=4 if application else 0, islicensed=0 if application else 1, domainname=name,
        )  # fmt: skip
        _insert(env, "usersettings", systemuserid=user)
        for role in roles:
            give_role(env, user, role)
    env.rights_changed()
    return user
