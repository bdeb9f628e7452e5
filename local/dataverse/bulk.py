"""CreateMultiple, UpdateMultiple, UpsertMultiple: many rows of one table in one transaction."""

import json
from typing import TYPE_CHECKING, Any

from local.dataverse import records
from local.dataverse.errors import Fault, bad_payload, bad_request, no_resource, wrong_method
from local.dataverse.model import Table
from local.dataverse.records import Unit, Values
from local.dataverse.responses import Response, json_text, no_content
from local.dataverse.values import guid

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request

_KINDS = {"CreateMultiple": "create-multiple", "UpdateMultiple": "update-multiple", "UpsertMultiple": "upsert-multiple"}
_DETAILS = "@Microsoft.PowerApps.CDS.ErrorDetails.Plugin.BulkApiErrorDetails"


def handles(name: str) -> bool:
    return name in _KINDS or name == "DeleteMultiple"


def handle(env: "Environment", request: "Request", table: Table, name: str) -> Response:
    if request.method != "POST":
        raise wrong_method(request.method)
    if name == "DeleteMultiple":
        raise Fault(400, "0x80040216", "DeleteMultiple has not yet been implemented.")
    if not table.bulk or table.intersect:
        raise no_resource(f"Microsoft.Dynamics.CRM.{name}")
    if request.unit is not None:
        raise bad_request(f"{name} is not supported inside a change set.")
    targets = _targets(request, table)
    request.seconds += env.meter.count(_KINDS[name], table.name, len(targets))
    with env.unit(
        request.caller, request_id=request.request_id, base=request.base, bypass_steps=request.bypass_steps,
        shared=request.shared,
    ) as unit:  # fmt: skip
        unit.bulk = {}
        ids = _run(unit, table, name, targets)
        env.events.bulk_ended(unit)
    env.meter.rows_written += unit.rows
    if name != "CreateMultiple":
        return no_content()
    context = f"{request.base}/$metadata#Microsoft.Dynamics.CRM.CreateMultipleResponse"
    return json_text(json.dumps({"@odata.context": context, "Ids": ids}, separators=(",", ":")))


def _targets(request: "Request", table: Table) -> list[dict[str, Any]]:
    body = request.json()
    targets = body.get("Targets") if isinstance(body, dict) else None
    if not isinstance(targets, list) or not targets or not all(isinstance(target, dict) for target in targets):
        raise bad_payload(table.set_name, "The parameter 'Targets' must be an array of rows.")
    for target in targets:
        kind = target.get("@odata.type")
        if not isinstance(kind, str):
            raise bad_payload(table.set_name, "Each row of 'Targets' needs '@odata.type'.")
        if kind.lstrip("#") != f"Microsoft.Dynamics.CRM.{table.name}":
            raise bad_payload(
                table.set_name, f"'@odata.type' must be 'Microsoft.Dynamics.CRM.{table.name}', not '{kind[:80]}'."
            )
    return targets


def _run(unit: Unit, table: Table, name: str, targets: list[dict[str, Any]]) -> list[str]:
    ids: list[str] = []
    seen: set[str] = set()
    for index, target in enumerate(targets):
        try:
            if name == "CreateMultiple":
                ids.append(records.create(unit, table, target))
                continue
            key = _key(unit, table, target)
            mark = repr(sorted(key.items()))
            if mark in seen:
                if name == "UpdateMultiple":  # the first of several rows with one key wins, silently
                    continue
                raise Fault(400, "0x80040237", "Cannot insert duplicate key: 'Targets' holds the same key twice.")
            seen.add(mark)
            if name == "UpdateMultiple":
                row_id = (
                    records.find(unit.connection, unit.schema, table, key, must=True)
                    if table.primary_id not in key
                    else (key[table.primary_id])
                )
                if not records.update(unit, table, str(row_id), target):
                    raise Fault(404, "0x80040217", f"{table.label} With Ids = {row_id} Do Not Exist")
            else:
                records.upsert(unit, table, key, target)
        except Fault as fault:
            failed = {"RequestIndex": index, "Id": str(target.get(table.primary_id, "")), "StatusCode": fault.status}
            fault.details[_DETAILS] = json.dumps([failed])
            raise
    return ids


def _key(unit: Unit, table: Table, target: dict[str, Any]) -> Values:
    """What names the row: its id, `@odata.id`, or the columns of an alternate key."""
    given = target.get(table.primary_id)
    if given is not None:
        row_id = guid(given)
        if row_id is None:
            raise bad_payload(table.set_name, f"'{table.primary_id}' holds an invalid id.")
        return {table.primary_id: row_id}
    reference = target.get("@odata.id")
    if isinstance(reference, str) and reference.rstrip().endswith(")") and "(" in reference:
        set_name, _, inside = (
            reference.rpartition("/")[2].partition("(") if "'" not in reference else reference.partition("(")
        )
        if set_name.rpartition("/")[2] != table.set_name:
            raise bad_payload(table.set_name, f"'@odata.id' must name a row of '{table.set_name}'.")
        return records.parse_key(table, inside.rstrip()[:-1])
    raise bad_payload(table.set_name, f"Each row of 'Targets' needs '{table.primary_id}' or '@odata.id'.")
