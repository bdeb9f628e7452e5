"""The Service Bus endpoint and the plug-in steps: what makes Dataverse tell the connector about changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .api import InstallError, Json, WebApi, text
from .model import Model, Step, component_id
from .tables import Action

# Columns of serviceendpoint, sdkmessageprocessingstep and sdkmessageprocessingstepimage: table reference of Dataverse.
_QUEUE, _NAMESPACE_ADDRESS, _JSON, _NORMAL, _SAS_KEY, _USER_ID = 2, 2, 2, 1, 2, 2
_POST_OPERATION, _ASYNCHRONOUS, _SERVER = 40, 1, 0
_PRE_IMAGE, _POST_IMAGE = 0, 1


@dataclass(frozen=True)
class Queue:
    """Where Dataverse sends events. `key` needs the right Send and nothing else."""

    address: str
    key_name: str
    key: str = field(repr=False)
    name: str

    @classmethod
    def from_connection_string(cls, connection: str, queue: str) -> Queue:
        """Raises ValueError naming what is missing; the message never contains the string."""
        parts = dict(part.split("=", 1) for part in connection.strip().split(";") if "=" in part)
        for name in ("Endpoint", "SharedAccessKeyName", "SharedAccessKey"):
            if not parts.get(name):
                raise ValueError(f"ServiceBusConnection has no {name}")
        if not parts["Endpoint"].startswith("sb://"):
            raise ValueError("ServiceBusConnection: Endpoint must begin with sb://")
        if not queue:
            raise ValueError("EVENTS_QUEUE is empty")
        address = parts["Endpoint"].rstrip("/") + "/"
        return cls(address, parts["SharedAccessKeyName"], parts["SharedAccessKey"], queue)


def plan_events(api: WebApi, model: Model, queue: Queue, *, rotate_key: bool = False) -> Iterator[Action]:
    """Endpoint and steps that are missing, differ from the source, or exist twice."""
    endpoint_id, actions = _plan_endpoint(api, model, queue, rotate_key)
    yield from actions
    steps = _steps_of(api, endpoint_id)
    for step in model.steps:
        matching = [row for row in steps if _is(step, row)]
        yield from _plan_step(step, matching, endpoint_id)
    for row in steps:
        if not any(_is(step, row) for step in model.steps):
            yield _delete_step(row, "not in the source any more")


def _plan_endpoint(api: WebApi, model: Model, queue: Queue, rotate_key: bool) -> tuple[str, list[Action]]:
    name = model.solution.endpoint.name
    found = api.rows(
        "serviceendpoints?$select=serviceendpointid,name,contract,messageformat,namespaceformat,namespaceaddress,path,"
        f"authtype,saskeyname,issaskeyset,userclaim,connectionmode&$filter=name eq {text(name)}"
    )
    if len(found) > 1:
        raise InstallError(
            f'There are {len(found)} service endpoints called "{name}". Delete all but one, then run again.'
        )
    wanted: Json = {
        "name": name,
        "contract": _QUEUE,
        "connectionmode": _NORMAL,
        "messageformat": _JSON,
        "namespaceformat": _NAMESPACE_ADDRESS,
        "namespaceaddress": queue.address,
        "path": queue.name,
        "userclaim": _USER_ID,
        "authtype": _SAS_KEY,
        "saskeyname": queue.key_name,
    }
    secret = {"saskey": queue.key}
    if not found:
        endpoint_id = str(model.solution.endpoint.id)
        row = {"serviceendpointid": endpoint_id} | wanted | secret
        title = f'Create service endpoint "{name}" to queue {queue.name} at {queue.address}'
        return endpoint_id, [Action(title, lambda api: api.create("serviceendpoints", row))]
    endpoint_id = found[0]["serviceendpointid"]
    changed = {column: value for column, value in wanted.items() if found[0].get(column) != value}
    # The key cannot be read back: it is written when the place or its name changes, when none is set, and on request.
    if changed or rotate_key or not found[0].get("issaskeyset"):
        title = f'Update service endpoint "{name}" ({", ".join(changed) or "key"})'
        path, body = f"serviceendpoints({endpoint_id})", changed | secret
        return endpoint_id, [Action(title, lambda api: api.update(path, body))]
    return endpoint_id, []


def _steps_of(api: WebApi, endpoint_id: str) -> list[Json]:
    return api.rows(
        "sdkmessageprocessingsteps?$select=sdkmessageprocessingstepid,name,stage,mode,rank,filteringattributes,"
        "asyncautodelete,statecode"
        "&$expand=sdkmessageid($select=name),sdkmessagefilterid($select=primaryobjecttypecode),"
        "sdkmessageprocessingstepid_sdkmessageprocessingstepimage($select=imagetype,entityalias,attributes)"
        f"&$filter=_eventhandler_value eq {endpoint_id}"
    )


def _is(step: Step, row: Json) -> bool:
    message = (row.get("sdkmessageid") or {}).get("name")
    table = (row.get("sdkmessagefilterid") or {}).get("primaryobjecttypecode")
    return (message, table) == (step.message, step.table)


def _columns(step: Step) -> Json:
    return {
        "name": step.name,
        "stage": _POST_OPERATION,
        "mode": _ASYNCHRONOUS,
        "rank": 1,
        "filteringattributes": ",".join(step.filtering) or None,
        # Dataverse keeps a system job for each event; successful ones are of no use to anybody.
        "asyncautodelete": True,
    }


def _images(step: Step) -> dict[int, tuple[str, str]]:
    """Image type -> (alias, columns)."""
    images = {}
    if step.pre_image:
        images[_PRE_IMAGE] = ("pre", ",".join(step.pre_image))
    if step.post_image:
        images[_POST_IMAGE] = ("post", ",".join(step.post_image))
    return images


def _plan_step(step: Step, found: list[Json], endpoint_id: str) -> Iterator[Action]:
    if not found:
        title = f"Create step {step.name}"
        yield Action(title, lambda api: _create_step(api, step, endpoint_id))
        yield from (_create_image(step, str(step.id), kind) for kind in _images(step))
        return
    keep, *surplus = found
    for row in surplus:
        yield _delete_step(row, "registered twice")
    changed = {column: value for column, value in _columns(step).items() if not _same(keep.get(column), value)}
    if keep.get("statecode"):
        changed |= {"statecode": 0, "statuscode": 1}
    step_id = keep["sdkmessageprocessingstepid"]
    if changed:
        title = f"Update step {step.name} ({', '.join(changed)})"
        yield Action(title, lambda api: api.update(f"sdkmessageprocessingsteps({step_id})", changed))
    yield from _plan_images(step, step_id, keep.get("sdkmessageprocessingstepid_sdkmessageprocessingstepimage") or [])


def _plan_images(step: Step, step_id: str, found: list[Json]) -> Iterator[Action]:
    wanted = _images(step)
    right: set[int] = set()
    for row in found:
        kind = row["imagetype"]
        alias, columns = wanted.get(kind, ("", ""))
        if kind not in right and (row.get("entityalias"), _list(row.get("attributes"))) == (alias, _list(columns)):
            right.add(kind)
            continue
        yield _delete_image(step, row)
    for kind in wanted:
        if kind not in right:
            yield _create_image(step, step_id, kind)


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) or (wanted is None and isinstance(found, str)):
        return _list(found) == _list(wanted)
    return bool(found == wanted)


def _list(columns: Any) -> list[str]:
    """A comma list without regard to order and blanks."""
    return sorted(part.strip() for part in str(columns or "").split(",") if part.strip())


def _create_step(api: WebApi, step: Step, endpoint_id: str) -> None:
    filters = api.rows(
        "sdkmessagefilters?$select=sdkmessagefilterid&$expand=sdkmessageid($select=sdkmessageid,name)"
        f"&$filter=primaryobjecttypecode eq {text(step.table)} and sdkmessageid/name eq {text(step.message)}"
    )
    if not filters:
        raise InstallError(f"Dataverse knows no message {step.message} for table {step.table}.")
    api.create(
        "sdkmessageprocessingsteps",
        {
            "sdkmessageprocessingstepid": str(step.id),
            **_columns(step),
            "supporteddeployment": _SERVER,
            "sdkmessageid@odata.bind": f"/sdkmessages({filters[0]['sdkmessageid']['sdkmessageid']})",
            "sdkmessagefilterid@odata.bind": f"/sdkmessagefilters({filters[0]['sdkmessagefilterid']})",
            "eventhandler_serviceendpoint@odata.bind": f"/serviceendpoints({endpoint_id})",
        },
    )


def _create_image(step: Step, step_id: str, kind: int) -> Action:
    alias, columns = _images(step)[kind]
    row = {
        "sdkmessageprocessingstepimageid": str(component_id("image", f"{step_id}/{alias}")),
        "sdkmessageprocessingstepid@odata.bind": f"/sdkmessageprocessingsteps({step_id})",
        "imagetype": kind,
        "name": alias,
        "entityalias": alias,
        "messagepropertyname": "Target",
        "attributes": columns,
    }
    return Action(f"Create image {alias} of {step.name}", lambda api: api.create("sdkmessageprocessingstepimages", row))


def _delete_step(row: Json, why: str) -> Action:
    path = f"sdkmessageprocessingsteps({row['sdkmessageprocessingstepid']})"
    return Action(f"Delete step {row['name']} ({why})", lambda api: api.delete(path))


def _delete_image(step: Step, row: Json) -> Action:
    path = f"sdkmessageprocessingstepimages({row['sdkmessageprocessingstepimageid']})"
    return Action(f"Delete image {row.get('entityalias')} of {step.name}", lambda api: api.delete(path))
