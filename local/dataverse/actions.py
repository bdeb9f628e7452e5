"""Functions and actions, file columns, and queries that are not OData: one function each, found by name."""

import json
import re
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from local.dataverse import records
from local.dataverse.errors import Fault, bad_payload, bad_request, no_resource, wrong_method
from local.dataverse.model import Column, Table
from local.dataverse.projection import Run
from local.dataverse.queries import Options, parse_options
from local.dataverse.records import Unit
from local.dataverse.responses import Response, json_body, no_content
from local.dataverse.security import RIGHTS, may

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request

Parameters = dict[str, Any]
Handler = Callable[["Environment", "Request", Parameters], Response]
FUNCTIONS: dict[str, Handler] = {}
ACTIONS: dict[str, Handler] = {}
_WHOLE = re.compile(r"-?[0-9]{1,19}")


def function(handler: Handler) -> Handler:
    FUNCTIONS[handler.__name__] = handler
    return handler


def action(handler: Handler) -> Handler:
    ACTIONS[handler.__name__] = handler
    return handler


def answer(request: "Request", name: str, **values: Any) -> Response:
    return json_body({"@odata.context": f"{request.base}/$metadata#Microsoft.Dynamics.CRM.{name}Response", **values})


def _arguments(inside: str | None, query: str) -> Parameters:
    """Arguments of a function call `F(A=@a,B='x')`, aliases resolved; values that are JSON are parsed."""
    from local.dataverse.odata import split_outside

    options = parse_options(query)
    found: Parameters = {}
    for part in split_outside(inside or "", ","):
        name, equals, value = part.partition("=")
        if not part.strip():
            continue
        if not equals:
            raise bad_request("Request message has unresolved parameters.")
        value = value.strip()
        if value.startswith("@"):
            if value not in options.aliases:
                raise bad_request(f"The parameter alias '{value[:40]}' has no value.")
            value = options.aliases[value].strip()
        found[name.strip()] = _value(value)
    return found


def _value(text: str) -> Any:
    if text.startswith("'") and text.endswith("'"):
        return text[1:-1].replace("''", "'")
    if text.startswith(("{", "[")):
        for candidate in (text, text.replace("'", '"')):  # single quotes are accepted too
            try:
                return json.loads(candidate)
            except (ValueError, RecursionError):
                continue
        raise bad_request("A parameter value is no valid JSON.")
    return {"true": True, "false": False, "null": None}.get(text, int(text) if _WHOLE.fullmatch(text) else text)


def unbound(env: "Environment", request: "Request", name: str, inside: str | None) -> Response:
    request.seconds += env.meter.count("action", name if name in FUNCTIONS or name in ACTIONS else "unknown")
    if name in FUNCTIONS:
        if request.method != "GET":
            raise wrong_method(request.method)
        return FUNCTIONS[name](env, request, _arguments(inside, request.query))
    if name in ACTIONS and inside is None:
        if request.method != "POST":
            raise wrong_method(request.method)
        body = request.json() if request.body.strip() else {}
        if not isinstance(body, dict):
            raise bad_request("The body of an action must be a JSON object of its parameters.")
        return ACTIONS[name](env, request, body)
    raise no_resource(name)


def bound_to_set(env: "Environment", request: "Request", table: Table, name: str) -> Response:
    raise no_resource(f"Microsoft.Dynamics.CRM.{name}")


def bound_to_row(
    env: "Environment", request: "Request", table: Table, row_id: str, name: str, inside: str | None
) -> Response:
    request.seconds += env.meter.count("action", name)
    if name == "RetrievePrincipalAccess" and table.name in ("systemuser", "team") and request.method == "GET":
        return _principal_access(env, request, row_id, _arguments(inside, request.query))
    from local.dataverse import role_actions

    found = role_actions.bound(env, request, table, row_id, name)
    if found is not None:
        return found
    raise no_resource(f"Microsoft.Dynamics.CRM.{name}")


def special_query(env: "Environment", request: "Request", table: Table, options: Options, run: Run) -> Response | None:
    """FetchXML, saved views, SQL and aggregation; None for an ordinary OData query."""
    from local.dataverse import special

    return special.handle(env, request, table, options, run)


def file_column(
    env: "Environment", request: "Request", table: Table, row_id: str, column: Column, *, raw: bool
) -> Response:
    from local.dataverse import files

    return files.handle(env, request, table, row_id, column, raw=raw)


# --- functions ---


@function
def WhoAmI(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    caller = request.caller
    return answer(
        request, "WhoAmI", BusinessUnitId=caller.business_unit, UserId=caller.user, OrganizationId=env.organization_id
    )


@function
def RetrieveCurrentOrganization(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    url = request.base.partition("/api/")[0]
    detail = {"OrganizationId": env.organization_id, "FriendlyName": "local", "UniqueName": "local", "UrlName": "local",
              "OrganizationVersion": "9.2.0.0", "State": "Enabled",
              "Endpoints": {"Count": 1, "Keys": ["WebApplication"], "Values": [url]}}  # fmt: skip
    return answer(request, "RetrieveCurrentOrganization", Detail=detail)


@function
def RetrieveVersion(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    return answer(request, "RetrieveVersion", Version="9.2.0.0")


@function
def RetrieveTotalRecordCount(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    names = parameters.get("EntityNames")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise bad_request("The parameter 'EntityNames' must be an array of table names.")
    counts = []
    for name in names:
        if name not in env.schema.tables:
            raise Fault(
                400, "0x80041102", f"The entity with a name = '{name[:60]}' was not found in the MetadataCache."
            )
        counts.append(env.storage.reader.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])
    collection = {"Count": len(names), "IsReadOnly": False, "Keys": names, "Values": counts}
    return answer(request, "RetrieveTotalRecordCount", EntityRecordCountCollection=collection)


def _principal_access(env: "Environment", request: "Request", principal: str, parameters: Parameters) -> Response:
    target = parameters.get("Target")
    if not isinstance(target, dict) or not isinstance(target.get("@odata.id"), str):
        raise bad_request("The parameter 'Target' must be {'@odata.id': ...}.")
    caller = env.caller(principal)
    with env.unit(request.caller) as unit:
        table, row_id = records.resolve(unit, target["@odata.id"])
        rights = [f"{right}Access" for right in RIGHTS if may(caller, right, table, unit.connection, row_id)]
    return answer(request, "RetrievePrincipalAccess", AccessRights=", ".join(rights) or "None")


# --- actions ---


@action
def PublishXml(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    if not isinstance(parameters.get("ParameterXml"), str):
        raise bad_request("The parameter 'ParameterXml' is missing.")
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        fromstring(parameters["ParameterXml"])
    except (ParseError, ValueError):
        raise Fault(400, "0x80040203", "The parameter 'ParameterXml' is no valid XML.") from None
    return no_content()


@action
def PublishAllXml(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    return no_content()


@action
def BulkDelete(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    from local.dataverse import bulk_delete

    job = bulk_delete.submit(env, request.caller, parameters)
    return answer(request, "BulkDelete", JobId=job)


@action
def GrantAccess(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    access = parameters.get("PrincipalAccess")
    principal = access.get("Principal") if isinstance(access, dict) else None
    names = str(access.get("AccessMask", "")) if isinstance(access, dict) else ""
    mask = 0
    for name in filter(None, (part.strip() for part in names.split(","))):
        right = name.removesuffix("Access")
        if right not in RIGHTS:
            raise bad_request(f"'{name[:40]}' is no access right.")
        mask |= RIGHTS[right]
    _share(env, request, parameters.get("Target"), principal, mask)
    return no_content()


@action
def RevokeAccess(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    _share(env, request, parameters.get("Target"), parameters.get("Revokee"), 0)
    return no_content()


def _share(env: "Environment", request: "Request", target: Any, principal: Any, mask: int) -> None:
    with env.unit(request.caller) as unit:
        table, row_id = entity(unit, target, "Target")
        who_table, who = entity(unit, principal, "Principal")
        from local.dataverse.security import check

        check(request.caller, "Share", table, unit.connection, row_id)
        unit.connection.execute(
            "DELETE FROM principalobjectaccess WHERE objectid = ? AND principalid = ?", (row_id, who)
        )
        if mask:
            unit.connection.execute(
                "INSERT INTO principalobjectaccess (principalobjectaccessid, principalid, principaltypecode, objectid, "
                "objecttypecode, accessrightsmask, versionnumber) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (str(uuid.uuid4()), who, who_table.name, row_id, table.name, mask, env.next_version()),
            )


def entity(unit: Unit, value: Any, name: str) -> tuple[Table, str]:
    """(table, id) of an entity-typed parameter: `@odata.id`, or `@odata.type` with the key column."""
    if isinstance(value, dict):
        if isinstance(value.get("@odata.id"), str):
            return records.resolve(unit, value["@odata.id"])
        kind = str(value.get("@odata.type", "")).lstrip("#").removeprefix("Microsoft.Dynamics.CRM.")
        table = unit.schema.tables.get(kind)
        if table is not None and isinstance(value.get(table.primary_id), str):
            return records.resolve(unit, f"{table.set_name}({value[table.primary_id]})")
    raise bad_payload("", f"The parameter '{name}' must be an entity: '@odata.type' with its key, or '@odata.id'.")
