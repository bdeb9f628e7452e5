"""Who may do what: users, business units, teams, roles with privileges and depth, shares, column security.

A privilege has a depth: own rows (1), the business unit's (2), it and those below (4), everything (8). System
Administrator is recognised by its template, as in Dataverse, and may do everything.
"""

import sqlite3
from dataclasses import dataclass, field

from local.dataverse.conditions import Parameters
from local.dataverse.errors import Fault, missing_access, missing_privilege
from local.dataverse.model import Schema, Table, stable_id
from local.dataverse.storage import quoted

SYSTEM_ADMINISTRATOR = "627090ff-40a3-4053-8790-584edc5be201"
SYSTEM_CUSTOMIZER = "119f245c-3cc8-4b62-b31c-d1a046ced15d"
BASIC, LOCAL, DEEP, GLOBAL = 1, 2, 4, 8
RIGHTS = {
    "Read": 1, "Write": 2, "Append": 4, "AppendTo": 16, "Create": 32, "Delete": 65536, "Share": 262144, "Assign": 524288,
}  # fmt: skip
SPECIAL = (
    "prvActOnBehalfOfAnotherUser", "prvBypassCustomPlugins", "prvCreateEntity", "prvWriteEntity", "prvDeleteEntity",
    "prvCreateAttribute", "prvWriteAttribute", "prvDeleteAttribute", "prvCreateRelationship", "prvDeleteRelationship",
    "prvPublishCustomization", "prvImportCustomization", "prvExportCustomization", "prvCreateOptionSet",
    "prvWriteOptionSet", "prvDeleteOptionSet", "prvOverrideCreatedOnCreatedBy", "prvBulkDelete",
)  # fmt: skip
SECURITY_TABLES = frozenset({
    "systemuser", "role", "roleprivileges", "systemuserroles", "team", "teammembership", "teamroles", "businessunit",
    "fieldsecurityprofile", "fieldpermission", "systemuserprofiles", "privilege",
})  # fmt: skip
# what every signed-in user may read: without these no client could find its way
_OPEN = frozenset({
    "organization", "transactioncurrency", "usersettings", "privilege", "sdkmessage", "sdkmessagefilter", "roleprivileges",
    "entity",
})  # fmt: skip


def privilege_name(right: str, table: Table) -> str:
    return f"prv{right}{'Activity' if table.activity else table.privilege or table.schema_name}"


def privilege_id(name: str) -> str:
    return stable_id("privilege", name.lower())


def privileges_of(table: Table) -> list[str]:
    rights = [r for r in RIGHTS if table.user_owned or r not in ("Assign", "Share")]
    return [privilege_name(right, table) for right in rights]


@dataclass(slots=True)
class Caller:
    """The user on whose behalf a request runs; `acting` is the real one when it impersonates."""

    user: str
    business_unit: str
    object_id: str | None = None
    acting: str | None = None
    admin: bool = False
    teams: tuple[str, ...] = ()
    units_below: tuple[str, ...] = ()
    depths: dict[str, int] = field(default_factory=dict)
    columns: dict[tuple[str, str, str], bool] = field(default_factory=dict)
    has_roles: bool = True

    def depth(self, privilege: str) -> int:
        return GLOBAL if self.admin else self.depths.get(privilege.lower(), 0)

    def restricted_to(self, other: "Caller") -> "Caller":
        """The rights that both have: what an impersonated request may do."""
        depths = self.depths
        if self.admin:
            depths = other.depths
        elif not other.admin:
            depths = {name: min(depth, other.depths.get(name, 0)) for name, depth in self.depths.items()}
        return Caller(
            self.user, self.business_unit, self.object_id, other.user, self.admin and other.admin, self.teams,
            self.units_below, depths, self.columns, self.has_roles,
        )  # fmt: skip


def load_caller(connection: sqlite3.Connection, user: str) -> Caller:
    """Reads a user's rights. A disabled or unknown user is refused."""
    row = connection.execute(
        "SELECT businessunitid, isdisabled, azureactivedirectoryobjectid FROM systemuser WHERE systemuserid = ?",
        (user,),
    ).fetchone()
    if row is None:
        raise Fault(403, "0x80072560", "The user is not a member of the organization.")
    if row[1]:
        raise Fault(403, "0x80040225", f"The specified user(Id = {user}) is disabled. Consider enabling this user.")
    teams = tuple(t for (t,) in connection.execute("SELECT teamid FROM teammembership WHERE systemuserid = ?", (user,)))
    caller = Caller(user, row[0], row[2], teams=teams)
    held = (
        "SELECT roleid FROM systemuserroles WHERE systemuserid = ?1 UNION SELECT r.roleid FROM teamroles r "
        "JOIN teammembership m ON m.teamid = r.teamid WHERE m.systemuserid = ?1"
    )
    roles = connection.execute(f"SELECT roleid, roletemplateid FROM role WHERE roleid IN ({held})", (user,)).fetchall()
    caller.has_roles = bool(roles)
    caller.admin = any(template == SYSTEM_ADMINISTRATOR for _, template in roles)
    for name, depth in connection.execute(
        "SELECT lower(p.name), max(rp.privilegedepthmask) FROM roleprivileges rp "
        f"JOIN privilege p ON p.privilegeid = rp.privilegeid WHERE rp.roleid IN ({held}) GROUP BY p.name",
        (user,),
    ):
        caller.depths[name] = depth
    caller.units_below = tuple(
        unit
        for (unit,) in connection.execute(
            "WITH RECURSIVE below(id) AS (SELECT ?1 UNION SELECT businessunitid FROM businessunit "
            "JOIN below ON parentbusinessunitid = below.id) SELECT id FROM below",
            (row[0],),
        )
    )
    for table, column, read, create, update in connection.execute(
        "SELECT entityname, attributelogicalname, max(canread), max(cancreate), max(canupdate) FROM fieldpermission "
        "WHERE fieldsecurityprofileid IN (SELECT fieldsecurityprofileid FROM systemuserprofiles WHERE systemuserid = ?) "
        "GROUP BY entityname, attributelogicalname",
        (user,),
    ):
        caller.columns[table, column, "read"] = read == 4
        caller.columns[table, column, "create"] = create == 4
        caller.columns[table, column, "update"] = update == 4
    return caller


def require(caller: Caller, right: str, table: Table) -> int:
    """The depth of the caller's privilege on the table; Dataverse's refusal if there is none."""
    if caller.admin:
        return GLOBAL
    if not caller.has_roles:
        raise Fault(403, "0x80042f09", f"The user with id {caller.user} has not been assigned any roles. They need a "
                                       "role with the prvReadUser privilege.")  # fmt: skip
    name = privilege_name(right, table)
    depth = caller.depths.get(name.lower(), 0)
    if not depth and right == "Read" and (table.name in _OPEN or table.intersect):
        return GLOBAL
    if not depth:
        raise missing_privilege(caller.acting or caller.user, name, privilege_id(name), table.otc, table.name)
    return depth if table.user_owned else GLOBAL


def require_special(caller: Caller, name: str) -> None:
    if not caller.depth(name):
        raise Fault(403, "0x80040220", f"Principal user (Id={caller.user}, type=8) is missing {name} privilege "
                                       f"(Id={privilege_id(name)}) on OTC=0 for entity 'none'.")  # fmt: skip


def visible(caller: Caller, table: Table, alias: str, parameters: Parameters, right: str = "Read") -> str:
    """SQL that keeps the rows the caller may read; empty if that is all of them."""
    depth = require(caller, right, table)
    if depth >= GLOBAL:
        return ""
    principals = ", ".join(parameters.constant(who) for who in (caller.user, *caller.teams))
    parts = [f"{alias}.ownerid IN ({principals})"]
    if depth >= LOCAL:
        units = caller.units_below if depth >= DEEP else (caller.business_unit,)
        parts.append(f"{alias}.owningbusinessunit IN ({', '.join(parameters.constant(unit) for unit in units)})")
    parts.append(
        f"EXISTS (SELECT 1 FROM principalobjectaccess p WHERE p.objectid = {alias}.{quoted(table.primary_id)} "
        f"AND p.principalid IN ({principals}) AND p.accessrightsmask & {RIGHTS[right]})"
    )
    return f"({' OR '.join(parts)})"


def may(caller: Caller, right: str, table: Table, connection: sqlite3.Connection, row_id: str) -> bool:
    """Whether the caller has this right on one row."""
    if caller.admin:
        return True
    try:
        parameters = Parameters()
        condition = visible(caller, table, "t", parameters, right)
    except Fault:
        return False
    if not condition:
        return True
    values = [bind(None) for bind in parameters.binds]  # type: ignore[arg-type]  # constants only
    sql = (
        f"SELECT 1 FROM {quoted(table.name)} t WHERE t.{quoted(table.primary_id)} = ?{len(values) + 1} AND {condition}"
    )
    return connection.execute(sql, [*values, row_id]).fetchone() is not None


def check(caller: Caller, right: str, table: Table, connection: sqlite3.Connection, row_id: str) -> None:
    """Refuses as Dataverse does: missing privilege, or missing right on this row."""
    if caller.admin:
        return
    require(caller, right, table)
    if not may(caller, right, table, connection, row_id):
        raise missing_access(caller.user, f"{right}Access", table.name, row_id)


def hidden_columns(schema: Schema, caller: Caller, table: Table) -> frozenset[str]:
    """Secured columns that the caller may not read: they come back empty."""
    if caller.admin:
        return frozenset()
    secured = (c.name for c in table.columns.values() if c.secured)
    return frozenset(name for name in secured if not caller.columns.get((table.name, name, "read")))
