"""Actions on roles and apps: granting privileges, reading them, filling an app."""

import uuid
from typing import TYPE_CHECKING, Any

from local.dataverse.actions import Parameters, action, answer
from local.dataverse.components import ROWS
from local.dataverse.components import TABLE as COMPONENT_TABLE
from local.dataverse.errors import bad_request, wrong_method
from local.dataverse.metadata_input import fail
from local.dataverse.model import Table
from local.dataverse.records import Unit
from local.dataverse.responses import Response, no_content
from local.dataverse.security import BASIC, DEEP, GLOBAL, LOCAL, check
from local.dataverse.values import guid

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request

_DEPTHS = {"Basic": BASIC, "Local": LOCAL, "Deep": DEEP, "Global": GLOBAL}
_NAMES = {mask: name for name, mask in _DEPTHS.items()}


def bound(env: "Environment", request: "Request", table: Table, row_id: str, name: str) -> Response | None:
    """The answer to an operation bound to a role or user; None if there is none of that name."""
    if table.name == "role" and name in ("AddPrivilegesRole", "ReplacePrivilegesRole", "RemovePrivilegeRole"):
        if request.method != "POST":
            raise wrong_method(request.method)
        body = request.json()
        with env.unit(request.caller) as unit:
            check(request.caller, "Write", table, unit.connection, row_id)
            _change(unit, row_id, name, body if isinstance(body, dict) else {})
            unit.touched.add("roleprivileges")
        return no_content()
    if table.name == "role" and name == "RetrieveRolePrivilegesRole":
        return _role_privileges(env, request, row_id)
    if table.name == "systemuser" and name == "RetrieveUserPrivileges":
        return _user_privileges(env, request, row_id)
    return None


def _change(unit: Unit, role: str, name: str, body: Parameters) -> None:
    if name == "RemovePrivilegeRole":
        wanted = guid(body.get("PrivilegeId"))
        unit.connection.execute("DELETE FROM roleprivileges WHERE roleid = ? AND privilegeid = ?", (role, wanted))
        return
    privileges = body.get("Privileges")
    if not isinstance(privileges, list):
        raise bad_request("The parameter 'Privileges' must be an array.")
    if name == "ReplacePrivilegesRole":
        unit.connection.execute("DELETE FROM roleprivileges WHERE roleid = ?", (role,))
    for item in privileges:
        privilege, depth = _privilege(unit, item)
        unit.connection.execute("DELETE FROM roleprivileges WHERE roleid = ? AND privilegeid = ?", (role, privilege))
        unit.connection.execute(
            "INSERT INTO roleprivileges (roleprivilegeid, roleid, privilegeid, privilegedepthmask, versionnumber) "
            "VALUES (?, ?, ?, ?, ?)",
            (str(uuid.uuid4()), role, privilege, depth, unit.env.next_version()),
        )


def _privilege(unit: Unit, item: Any) -> tuple[str, int]:
    if not isinstance(item, dict):
        raise bad_request("Each of 'Privileges' must be an object with PrivilegeId and Depth.")
    depth = item.get("Depth")
    mask = (
        _DEPTHS.get(depth)
        if isinstance(depth, str)
        else [BASIC, LOCAL, DEEP, GLOBAL][depth]
        if depth in (0, 1, 2, 3)
        else None
    )
    if mask is None:
        raise fail(f"The privilege depth '{str(depth)[:20]}' is unknown.")
    row = unit.connection.execute(
        "SELECT privilegeid FROM privilege WHERE privilegeid = ?", (guid(item.get("PrivilegeId")),)
    ).fetchone()
    if row is None:
        raise fail(f"The privilege '{str(item.get('PrivilegeId'))[:60]}' does not exist.")
    return row[0], mask


def _role_privileges(env: "Environment", request: "Request", role: str) -> Response:
    rows = env.storage.reader.execute(
        "SELECT r.privilegeid, p.name, r.privilegedepthmask FROM roleprivileges r JOIN privilege p USING (privilegeid) "
        "WHERE r.roleid = ?",
        (role,),
    )
    return answer(request, "RetrieveRolePrivilegesRole", RolePrivileges=[_shown(row) for row in rows])


def _shown(row: tuple[str, str, int]) -> dict[str, Any]:
    return {"Depth": _NAMES[row[2]], "PrivilegeId": row[0], "PrivilegeName": row[1], "BusinessUnitId": None}


def _user_privileges(env: "Environment", request: "Request", user: str) -> Response:
    caller = env.caller(user)
    rows = env.storage.reader.execute("SELECT privilegeid, name FROM privilege").fetchall()
    shown = [_shown((row_id, name, caller.depth(name))) for row_id, name in rows if caller.depth(name)]
    return answer(request, "RetrieveUserPrivileges", RolePrivileges=shown)


def _component_type(table: str) -> int:
    kind = COMPONENT_TABLE if table == "entity" else ROWS.get(table)
    if kind is None:
        raise bad_request(f"A {table} cannot be a component of an app.")
    return kind


@action
def AddAppComponents(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    """Puts forms, views, tables and a site map into an app."""
    app, components = guid(parameters.get("AppId")), parameters.get("Components")
    if not isinstance(components, list):
        raise bad_request("The parameter 'Components' must be an array of components.")
    with env.unit(request.caller) as unit:
        known = unit.connection.execute("SELECT 1 FROM appmodule WHERE appmoduleid = ?", (app,)).fetchone()
        if known is None:
            raise fail("The parameter 'AppId' names no app.")
        for component in components:
            kind = str(component.get("@odata.type", "")).rpartition(".")[2] if isinstance(component, dict) else ""
            table = unit.schema.tables.get(kind)
            if table is None or guid(component.get(table.primary_id)) is None:
                raise bad_request(f"A component of type '{kind[:60]}' needs '@odata.type' and its id.")
            row_id = guid(component[table.primary_id])
            if unit.connection.execute(env.exists_sql(table), (row_id,)).fetchone() is None:
                raise fail(f"The {kind} {row_id} does not exist.")
            unit.connection.execute(
                "INSERT INTO appmodulecomponent (appmodulecomponentid, appmoduleidunique, componenttype, objectid, "
                "versionnumber) VALUES (?, ?, ?, ?, ?)",
                (str(uuid.uuid4()), app, _component_type(table.name), row_id, env.next_version()),
            )
    return no_content()
