"""Plug-in steps: which writes they hear of, and the RemoteExecutionContext that they post.

The context is written as .NET's DataContract JSON, byte for byte as far as documented (slashes escaped, dictionaries as
arrays of key and value). An asynchronous step's message goes into the outbox in the transaction of the write itself.
"""

import datetime
import json
import sqlite3
import uuid
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any

from local.dataverse.model import CHOICES, LOOKUPS, Column, Schema, Table
from local.dataverse.projection import primary_names
from local.dataverse.storage import type_column
from local.dataverse.values import formatted, renderer, unscaled

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.records import Unit

Values = dict[str, Any]
_CONTRACTS = "http:\\/\\/schemas.microsoft.com\\/xrm\\/2011\\/Contracts"
QUEUE_LIMIT, WEBHOOK_LIMIT = 192 * 1024, 256 * 1024
WEBHOOK = 8
_CLAIMS = "http://schemas.microsoft.com/xrm/2011/Claims/"
PRE, POST, BOTH = 0, 1, 2
NOBODY = "00000000-0000-0000-0000-000000000000"


@dataclass(slots=True, frozen=True)
class Image:
    kind: int
    alias: str
    columns: frozenset[str] | None


@dataclass(slots=True, frozen=True)
class Endpoint:
    id: str
    name: str
    contract: int
    authtype: int | None
    url: str | None
    address: str | None
    path: str | None
    key_name: str | None
    key: str | None
    token: str | None
    auth_value: str | None


@dataclass(slots=True, frozen=True)
class Step:
    id: str
    name: str
    message: str
    table: str
    synchronous: bool
    stage: int
    rank: int
    filtering: frozenset[str] | None
    auto_delete: bool
    endpoint: Endpoint
    images: tuple[Image, ...]

    @property
    def many(self) -> bool:
        return self.message.endswith("Multiple")


@dataclass(slots=True)
class Written:
    """One row that was written. `sent`: the caller's values (None: a delete); `old`, `now`: the row before and after."""

    id: str
    sent: Values | None
    old: Values | None = None
    now: Values | None = None


def _names(text: str | None) -> frozenset[str] | None:
    names = frozenset(name.strip().lower() for name in (text or "").split(",") if name.strip())
    return names or None


class Events:
    """The registered steps, and what a write does about them."""

    def __init__(self, env: "Environment") -> None:
        self._env = env
        self.steps: dict[tuple[str, str], list[Step]] = {}
        self.queued = 0  # messages put into the outbox since the start

    def load(self, connection: sqlite3.Connection) -> None:
        """Reads the registration rows."""
        endpoints = {
            row[0]: Endpoint(*row)
            for row in connection.execute(
                "SELECT serviceendpointid, name, contract, authtype, url, coalesce(namespaceaddress, solutionnamespace), "
                "path, saskeyname, saskey, sastoken, authvalue FROM serviceendpoint"
            )
        }
        images: dict[str, list[Image]] = {}
        for step, kind, alias, columns in connection.execute(
            "SELECT sdkmessageprocessingstepid, imagetype, entityalias, attributes FROM sdkmessageprocessingstepimage"
        ):
            images.setdefault(step, []).append(Image(kind, alias, _names(columns)))
        steps: dict[tuple[str, str], list[Step]] = {}
        for row in connection.execute(
            "SELECT s.sdkmessageprocessingstepid, s.name, m.name, f.primaryobjecttypecode, s.mode, s.stage, s.rank, "
            "s.filteringattributes, s.asyncautodelete, s.eventhandler FROM sdkmessageprocessingstep s "
            "JOIN sdkmessage m ON m.sdkmessageid = s.sdkmessageid "
            "LEFT JOIN sdkmessagefilter f ON f.sdkmessagefilterid = s.sdkmessagefilterid "
            "WHERE s.statecode = 0 AND s.\"eventhandler:type\" = 'serviceendpoint' ORDER BY s.rank, s.createdon, s.name"
        ):
            endpoint = endpoints.get(row[9])
            if endpoint is None:
                continue
            step = Step(
                row[0], row[1] or "", row[2], row[3] or "", row[4] == 0, row[5], row[6] or 1, _names(row[7]), bool(row[8]),
                endpoint, tuple(images.get(row[0], ())),
            )  # fmt: skip
            steps.setdefault((step.table, step.message), []).append(step)
        self.steps = steps

    def listens(self, table: str, message: str) -> bool:
        return (table, message) in self.steps or ("", message) in self.steps

    def _of(self, table: str, message: str) -> list[Step]:
        return self.steps.get((table, message), []) + self.steps.get(("", message), [])

    # --- what was written; each step hears of it in its own form, whichever call wrote it (merged pipelines) ---

    def created(self, unit: "Unit", table: Table, row_id: str, sent: Values) -> None:
        if self.steps and not unit.bypass_steps:
            self._written(unit, table, "Create", Written(row_id, sent))

    def updated(self, unit: "Unit", table: Table, row_id: str, sent: Values, old: Values | None) -> None:
        if self.steps and not unit.bypass_steps:
            self._written(unit, table, "Update", Written(row_id, sent, old))

    def deleted(self, unit: "Unit", table: Table, row_id: str, old: Values) -> None:
        if self.steps and not unit.bypass_steps:
            for step in self._of(table.name, "Delete"):
                self._post(unit, step, table, [Written(row_id, None, old)])

    def _written(self, unit: "Unit", table: Table, message: str, row: "Written") -> None:
        for step in self._of(table.name, message):
            if step.filtering is None or message == "Create" or not step.filtering.isdisjoint(row.sent or ()):
                self._post(unit, step, table, [row])
        many = f"{message}Multiple"
        if not self._of(table.name, many):
            return
        if unit.bulk is not None and unit.depth == 1:
            unit.bulk.setdefault((table.name, many), []).append(row)
        else:
            self._multiple(unit, table, many, [row])

    def bulk_ended(self, unit: "Unit") -> None:
        """All rows of a bulk call are written: steps of the message itself hear of them at once."""
        rows, unit.bulk = unit.bulk or {}, None
        for (table, message), written in rows.items():
            self._multiple(unit, unit.schema.tables[table], message, written)

    def _multiple(self, unit: "Unit", table: Table, message: str, rows: list["Written"]) -> None:
        sent = {name for row in rows for name in row.sent or ()}
        for step in self._of(table.name, message):
            if step.filtering is None or message == "CreateMultiple" or not step.filtering.isdisjoint(sent):
                self._post(unit, step, table, rows)

    def _post(self, unit: "Unit", step: Step, table: Table, rows: list["Written"]) -> None:
        from local.dataverse.records import read_row

        for row in rows:
            row.now = read_row(unit, table, row.id) if row.sent is not None else None
        job, row_id = str(uuid.uuid4()), NOBODY if step.many else rows[0].id
        body = context(self._env, unit, step, table, rows, job)
        limit = WEBHOOK_LIMIT if step.endpoint.contract == WEBHOOK else QUEUE_LIMIT
        if len(body) > limit:
            body = context(self._env, unit, step, table, rows, job, trimmed=True)
        if step.synchronous:
            self._env.outbox.call(step, table.name, body)
            return
        unit.connection.execute(
            'INSERT INTO "#outbox" (job, step, endpoint, created, due, message, tbl, row, body) '
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (job, step.id, step.endpoint.id, unit.now.timestamp(), unit.now.timestamp() + self._env.faults.event_delay(),
             step.message, table.name, row_id, body),
        )  # fmt: skip
        self._env.outbox.enlist(unit, job, step, table.name, None if step.many else row_id)
        self.queued += 1
        unit.touched.add("#outbox")


def claims(organization: str, user: str, table: str, message: str) -> dict[str | bytes, Any]:
    """Application properties of a broker message."""
    return {
        f"{_CLAIMS}Organization": organization, f"{_CLAIMS}User": user, f"{_CLAIMS}InitiatingUser": user,
        f"{_CLAIMS}EntityLogicalName": table, f"{_CLAIMS}RequestName": message,
    }  # fmt: skip


# --- .NET DataContract JSON ---


def text(value: str | None) -> str:
    return "null" if value is None else encode_basestring_ascii(value).replace("/", "\\/")


def _typed(kind: str) -> str:
    return f'"__type":"{kind}:{_CONTRACTS}"'


def _milliseconds(value: str) -> int:
    moment = datetime.datetime.fromisoformat(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


def reference(table: str, row_id: str, name: str | None = None, *, typed: bool = True) -> str:
    kind = _typed("EntityReference") + "," if typed else ""
    return f'{{{kind}"Id":"{row_id}","KeyAttributes":[],"LogicalName":"{table}","Name":{text(name)},"RowVersion":null}}'


def _value(column: Column, value: Any, values: Values, names: dict[str, str]) -> str:
    kind = column.type
    if value is None:
        return "null"
    if kind in LOOKUPS:
        target = values.get(type_column(column.name)) if column.polymorphic else column.targets[0]
        return reference(str(target), value, names.get(column.name))
    if kind == "Money":
        return f'{{{_typed("Money")},"Value":{unscaled(value, 4)}}}'
    if kind in CHOICES:
        return f'{{{_typed("OptionSetValue")},"Value":{value}}}'
    if kind == "MultiSelectPicklist":
        return "[" + ",".join(f'{{{_typed("OptionSetValue")},"Value":{part}}}' for part in value.split(",")) + "]"
    if kind == "DateTime":
        return f'"\\/Date({_milliseconds(value)})\\/"'
    if kind in ("String", "Memo", "EntityName"):
        return text(value)
    return renderer(column)(value)


def _attributes(table: Table, values: Values, names: dict[str, str]) -> str:
    pairs = []
    for name, value in values.items():
        column = table.columns.get(name)
        if column is not None and column.read:
            pairs.append(f'{{"key":"{name}","value":{_value(column, value, values, names)}}}')
    return f"[{','.join(pairs)}]"


def _entity(table: Table, row_id: str, attributes: str, formatted_values: str, *, typed: bool) -> str:
    kind = _typed("Entity") + "," if typed else ""
    return (
        f'{{{kind}"Attributes":{attributes},"EntityState":null,"FormattedValues":{formatted_values},"Id":"{row_id}",'
        f'"KeyAttributes":[],"LogicalName":"{table.name}","RelatedEntities":[],"RowVersion":null}}'
    )


def _image(
    env: "Environment", unit: "Unit", table: Table, row_id: str, row: Values, only: frozenset[str] | None
) -> str:
    """Columns that hold nothing are absent from an image; lookups carry the name of their row."""
    values = {
        name: value
        for name, value in row.items()
        if value is not None and (only is None or name.split(":")[0] in only or name == table.primary_id)
    }
    schema: Schema = env.schema
    names: dict[str, str] = {}
    shown = []
    for name, value in values.items():
        column = table.columns.get(name)
        if column is None:
            continue
        if column.type in LOOKUPS:
            target = values.get(type_column(name)) if column.polymorphic else column.targets[0]
            label = primary_names(unit.connection, schema.tables[str(target)], [value]).get(value) if target else None
            if label:
                names[name] = label
                shown.append((name, label))
        else:
            display = formatted(schema, column, value)
            if display is not None:
                shown.append((name, display))
    pairs = ",".join(f'{{"key":"{name}","value":{text(display)}}}' for name, display in shown)
    return _entity(table, row_id, _attributes(table, values, names), f"[{pairs}]", typed=False)


def _target(table: Table, row: Written, *, typed: bool, whole: bool) -> str:
    """What the caller sent; `whole`: with what Dataverse adds before the main operation is over."""
    if row.sent is None:
        return reference(table.name, row.id)
    attributes: Values = {table.primary_id: row.id} | row.sent
    if whole and row.now is not None and "modifiedon" in table.columns:
        for name in ("modifiedon", "modifiedby", "modifiedonbehalfby"):
            attributes[name] = row.now.get(name)
    return _entity(table, row.id, _attributes(table, attributes, {}), "[]", typed=typed)


def _inputs(step: Step, table: Table, rows: list[Written], *, whole: bool) -> str:
    if not step.many:
        return f'[{{"key":"Target","value":{_target(table, rows[0], typed=True, whole=whole)}}}]'
    entities = ",".join(_target(table, row, typed=False, whole=whole) for row in rows)
    collection = (
        f'{{{_typed("EntityCollection")},"Entities":[{entities}],"EntityName":"{table.name}","MinActiveRowVersion":"-1",'
        '"MoreRecords":false,"PagingCookie":null,"TotalRecordCount":-1,"TotalRecordCountLimitExceeded":false}'
    )
    return f'[{{"key":"Targets","value":{collection}}}]'


def _outputs(step: Step, rows: list[Written]) -> str:
    if step.message == "Create":
        return f'[{{"key":"id","value":"{rows[0].id}"}}]'
    if step.message == "CreateMultiple":
        return f'[{{"key":"Ids","value":{json.dumps([row.id for row in rows], separators=(",", ":"))}}}]'
    return "[]"


def _images(env: "Environment", unit: "Unit", step: Step, table: Table, row: Written) -> tuple[str, str]:
    """(before, after): the images registered for the step, as dictionaries."""
    before, after = [], []
    for image in step.images:
        if image.kind in (PRE, BOTH) and row.old is not None:
            shot = _image(env, unit, table, row.id, row.old, image.columns)
            before.append(f'{{"key":{text(image.alias)},"value":{shot}}}')
        if image.kind in (POST, BOTH) and row.now is not None and step.stage == 40:
            shot = _image(env, unit, table, row.id, row.now, image.columns)
            after.append(f'{{"key":{text(image.alias)},"value":{shot}}}')
    if row.now is not None and not step.synchronous and not step.many:
        names = (table.primary_name, table.primary_id)
        primary = {name: row.now[name] for name in names if name and row.now.get(name) is not None}
        named = _entity(table, row.id, _attributes(table, primary, {}), "[]", typed=False)
        after.insert(0, f'{{"key":"AsynchronousStepPrimaryName","value":{named}}}')
    return f"[{','.join(before)}]", f"[{','.join(after)}]"


def context(
    env: "Environment", unit: "Unit", step: Step, table: Table, rows: list[Written], job: str, *, trimmed: bool = False,
    main: bool = False,
) -> str:  # fmt: skip
    """RemoteExecutionContext. `main`: that of the main operation (stage 30), the parent of what runs after it.

    A step of CreateMultiple or UpdateMultiple gets `Targets`, and its images as the two collections of
    IPluginExecutionContext4; Microsoft shows no such body, so the JSON form of those two is our reading of the names.
    """
    caller = unit.caller
    row_id = NOBODY if step.many else rows[0].id
    extension = reference("sdkmessageprocessingstep", step.id, step.name, typed=False)
    created = round(unit.now.timestamp() * 1000)
    entra = text(caller.object_id or NOBODY)
    initiating = caller.acting or caller.user
    shared = [("IsAutoTransact", "true"), ("AcceptLang", '""'), *((k, text(v)) for k, v in unit.shared.items())]
    variables = ",".join(f'{{"key":{text(key)},"value":{value}}}' for key, value in shared)
    bulky, collections = ['"ParentContext":null', '"PostEntityImages":[]', '"PreEntityImages":[]'], []
    if not main and not trimmed:
        images = [_images(env, unit, step, table, row) for row in rows]
        if step.stage == 40:
            bulky[0] = f'"ParentContext":{context(env, unit, step, table, rows, job, main=True)}'
        if step.many:
            before, after = (",".join(side) for side in zip(*images, strict=True))
            collections = [f'"PostEntityImagesCollection":[{after}]', f'"PreEntityImagesCollection":[{before}]']
        else:
            bulky[1:] = [f'"PostEntityImages":{images[0][1]}', f'"PreEntityImages":{images[0][0]}']
    parts = [
        f'{{"BusinessUnitId":"{caller.business_unit}"',
        f'"CorrelationId":"{unit.request_id}"',
        f'"Depth":{unit.depth}',
        f'"InitiatingUserAzureActiveDirectoryObjectId":{entra}',
        f'"InitiatingUserId":"{initiating}"',
        *([] if trimmed else [f'"InputParameters":{_inputs(step, table, rows, whole=not main)}']),
        '"IsExecutingOffline":false',
        f'"IsInTransaction":{json.dumps(step.synchronous)}',
        '"IsOfflinePlayback":false',
        '"IsolationMode":1',
        f'"MessageName":"{step.message}"',
        f'"Mode":{0 if step.synchronous else 1}',
        f'"OperationCreatedOn":"\\/Date({created}+0000)\\/"',
        f'"OperationId":"{job}"',
        f'"OrganizationId":"{env.organization_id}"',
        f'"OrganizationName":"unq{env.organization_id.replace("-", "")[:24]}"',
        f'"OutputParameters":{"[]" if main else _outputs(step, rows)}',
        f'"OwningExtension":{extension}',
        *([] if trimmed else [*bulky, *collections]),
        f'"PrimaryEntityId":"{row_id}"',
        f'"PrimaryEntityName":"{table.name}"',
        f'"RequestId":"{unit.request_id}"',
        '"SecondaryEntityName":"none"',
        f'"SharedVariables":[{variables}]',
        f'"Stage":{30 if main else step.stage}',
        f'"UserAzureActiveDirectoryObjectId":{entra}',
        f'"UserId":"{caller.user}"}}',
    ]
    return ",".join(parts)
