"""The messages between host and worker: plain classes in place of the generated protobuf ones, and how the host
turns values into them (by .NET type: text as `string`, byte[] as `bytes`, everything else as `json`)."""

import base64
import datetime
import json
import uuid
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any


class Message:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class TypedData(Message):
    """At most one of string, json, bytes, http, ..."""

    def WhichOneof(self, group: str) -> str | None:
        return next(iter(vars(self)), None)


class ParameterBinding(Message):
    def WhichOneof(self, group: str) -> str:
        return "data"


def _message(name: str, **constants: Any) -> type[Message]:
    return type(name, (Message,), constants)


PROTOS = SimpleNamespace(
    TypedData=TypedData,
    ParameterBinding=ParameterBinding,
    BindingInfo=_message(
        "BindingInfo", **{"in": 0, "out": 1, "inout": 2, "undefined": 0, "string": 1, "binary": 2, "stream": 3}
    ),
    StatusResult=_message("StatusResult", Failure=0, Success=1, Cancelled=2),
    RpcHttpCookie=_message(
        "RpcHttpCookie", SameSite=SimpleNamespace(**{"None": 0, "Lax": 1, "Strict": 2, "ExplicitNone": 3})
    ),
    **{
        name: _message(name)
        for name in (
            "RpcHttp",
            "RpcException",
            "RpcFunctionMetadata",
            "RpcRetryOptions",
            "WorkerMetadata",
            "WorkerInitResponse",
            "FunctionMetadataResponse",
            "FunctionLoadResponse",
            "InvocationResponse",
            "Timestamp",
            "NullableString",
            "NullableBool",
            "NullableDouble",
            "NullableTimestamp",
        )
    },
)


def typed(value: object) -> TypedData:
    if value is None:
        return TypedData()
    if isinstance(value, str):
        return TypedData(string=value)
    if isinstance(value, bytes):
        return TypedData(bytes=value)
    return TypedData(json=json.dumps(value, default=_dotnet, separators=(",", ":")))


def plain(data: TypedData | None) -> Any:
    """The Python value in a worker's answer; json is parsed, http stays as it is."""
    kind = data and data.WhichOneof("data")
    if not kind:
        return None
    value = getattr(data, kind)
    return json.loads(value) if kind == "json" else value


def moment(value: datetime.datetime) -> TypedData:
    """A .NET DateTime of unspecified kind as JSON: no offset, no trailing zeros."""
    return TypedData(json=json.dumps(_unspecified(value)))


def _unspecified(value: datetime.datetime) -> str:
    if value.year == datetime.MAXYEAR:
        return "9999-12-31T23:59:59.9999999"  # DateTime.MaxValue: a message that never expires
    text = value.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".")


def _dotnet(value: object) -> object:
    """What Json.NET makes of the AMQP types that Python's json does not know."""
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, datetime.datetime):
        return _unspecified(value) + "Z"
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    return str(value)


def http_request(
    method: str, url: str, headers: Mapping[str, str], params: Mapping[str, str], query: Mapping[str, str], body: bytes
) -> TypedData:
    return TypedData(
        http=PROTOS.RpcHttp(
            method=method,
            url=url,
            headers={name.lower(): value for name, value in headers.items()},
            params=dict(params),
            query={name: value for name, value in query.items() if value},  # the host drops `?flag=`
            body=typed(body or None),
        )
    )


def timer_info(past_due: bool, last: datetime.datetime, following: datetime.datetime) -> TypedData:
    return typed(
        {
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": {
                "Last": last.isoformat(),
                "Next": following.isoformat(),
                "LastUpdated": last.isoformat(),
            },
            "IsPastDue": past_due,
        }
    )
