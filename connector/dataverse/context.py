"""What Dataverse posts when a plug-in step fires: RemoteExecutionContext as JSON (.NET data contract serialisation).

An event is a hint. It says which row to look at; the values in it may be old by the time it is read, and all but the
ids are left out when the message would be too large.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from .odata import decode, guid, printable

type Columns = dict[str, Any]
"""Column values: str, int, bool, Decimal, None, aware UTC datetime, ``Reference``, tuples and ``Columns``."""


class ContextError(ValueError):
    """The body is not an execution context. ``field`` is the path of the value at fault."""

    def __init__(self, field: str, problem: str) -> None:
        # Both may quote the sender, who decides how long they are, and what is in them.
        super().__init__(printable(f"{field[:200]}: {problem[:200]}"))
        self.field = field


class Reference(NamedTuple):
    """A lookup's value: the row's table (logical name) and id."""

    table: str
    id: str


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """One operation in Dataverse.

    ``target`` holds what the caller sent, so a changed column is there and an unchanged one is not; for a deletion it
    is empty. ``pre`` and ``post`` hold the registered images of those names, where null columns are absent; None if
    there is no such image. ``trimmed`` says that the size limit removed all three: read the row instead.
    """

    message_name: str
    table: str
    record_id: str
    correlation_id: str
    operation_id: str
    depth: int
    initiating_user_id: str
    occurred_on: datetime
    target: Columns
    pre: Columns | None
    post: Columns | None
    trimmed: bool


def parse(body: bytes | str, *, max_size_exceeded: bool = False) -> ExecutionContext:
    """Read a message body. ``max_size_exceeded``: the message had the property ``MessageMaxSizeExceeded``.

    Unknown keys are ignored. Raises ``ContextError`` for anything that is not an execution context.
    """
    try:
        found = decode(body)
    except (ValueError, RecursionError):
        raise ContextError("body", "is not JSON") from None
    if not isinstance(found, dict):
        raise ContextError("body", "is not an object")
    parameters = _pairs(found.get("InputParameters"), "InputParameters")
    try:
        return ExecutionContext(
            message_name=_text(found, "MessageName"),
            table=_text(found, "PrimaryEntityName"),
            record_id=_id(found, "PrimaryEntityId"),
            correlation_id=_id(found, "CorrelationId"),
            operation_id=_id(found, "OperationId"),
            depth=_depth(found),
            initiating_user_id=_id(found, "InitiatingUserId"),
            occurred_on=_occurred_on(found),
            target=_entity(parameters.get("Target"), "InputParameters.Target") or {},
            pre=_image(found, "PreEntityImages", "pre"),
            post=_image(found, "PostEntityImages", "post"),
            trimmed=max_size_exceeded or not parameters,
        )
    except RecursionError:
        raise ContextError("body", "is nested too deeply") from None


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ContextError(name, "is missing" if value is None else "is not a text")
    return value


def _id(found: Mapping[str, Any], name: str) -> str:
    try:
        return guid(_text(found, name))
    except ContextError:
        raise
    except ValueError as error:
        raise ContextError(name, str(error)) from None


def _depth(found: Mapping[str, Any]) -> int:
    value = found.get("Depth")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ContextError("Depth", "is missing or not a positive number")
    return value


def _occurred_on(found: Mapping[str, Any]) -> datetime:
    value = _moment(_text(found, "OperationCreatedOn"), "OperationCreatedOn")
    if value is None:
        raise ContextError("OperationCreatedOn", "is not a /Date(milliseconds)/")
    return value


def _image(found: Mapping[str, Any], images: str, name: str) -> Columns | None:
    return _entity(_pairs(found.get(images), images).get(name), f"{images}.{name}")


def _pairs(value: Any, field: str) -> dict[str, Any]:
    """A .NET dictionary: ``[{"key": ..., "value": ...}, ...]``."""
    if value is None:
        return {}
    if not isinstance(value, list):
        raise ContextError(field, "is not a list of keys and values")
    pairs = {}
    for index, pair in enumerate(value):
        if not isinstance(pair, dict) or not isinstance(pair.get("key"), str):
            raise ContextError(f"{field}[{index}]", "has no key")
        pairs[pair["key"]] = pair.get("value")
    return pairs


def _entity(value: Any, field: str) -> Columns | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ContextError(field, "is not a row")
    if "Attributes" not in value:  # the target of a deletion is a reference
        return {}
    return {name: _value(item, f"{field}.{name}") for name, item in _pairs(value["Attributes"], field).items()}


def _value(value: Any, field: str) -> Any:
    if isinstance(value, str):
        return _moment(value, field) or value
    if isinstance(value, list):
        return tuple(_value(item, f"{field}[{index}]") for index, item in enumerate(value))
    if isinstance(value, dict):
        kind = str(value.get("__type", "")).partition(":")[0]
        if read := _TYPES.get(kind):
            return read(value, field)
        if "Attributes" in value:
            return _entity(value, field)
        return {str(name): _value(item, f"{field}.{name}") for name, item in value.items() if name != "__type"}
    return value


def _money(value: Mapping[str, Any], field: str) -> Decimal | None:
    amount = value.get("Value")
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
        raise ContextError(field, "is not an amount")
    return Decimal(amount)


def _option(value: Mapping[str, Any], field: str) -> int:
    option = value.get("Value")
    if isinstance(option, bool) or not isinstance(option, int):
        raise ContextError(field, "is not an option")
    return option


def _reference(value: Mapping[str, Any], field: str) -> Reference:
    table, row_id = value.get("LogicalName"), value.get("Id")
    if not isinstance(table, str) or not table:
        raise ContextError(f"{field}.LogicalName", "is missing")
    try:
        return Reference(table, guid(str(row_id)))
    except ValueError as error:
        raise ContextError(f"{field}.Id", str(error)) from None


def _collection(value: Mapping[str, Any], field: str) -> tuple[Columns, ...]:
    rows = value.get("Entities")
    if not isinstance(rows, list):
        raise ContextError(f"{field}.Entities", "is not a list")
    return tuple(_entity(row, f"{field}.Entities[{index}]") or {} for index, row in enumerate(rows))


_TYPES: dict[str, Callable[[Mapping[str, Any], str], Any]] = {
    "Money": _money,
    "OptionSetValue": _option,
    "EntityReference": _reference,
    "EntityCollection": _collection,
    "Entity": _entity,
}

_DATE = re.compile(r"/Date\((-?\d{1,18})(?:[+-]\d{4})?\)/")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(value: str, field: str) -> datetime | None:
    """The time in ``/Date(milliseconds)/``, which counts from 1970 in UTC whatever offset it shows; None if not one."""
    found = _DATE.fullmatch(value)
    if not found:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=int(found.group(1)))
    except OverflowError:
        raise ContextError(field, "is a time outside the calendar") from None
