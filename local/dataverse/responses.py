"""Answers: the JSON and headers of the Web API."""

import json
import re
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from local.dataverse.errors import Fault

JSON_TYPE = "application/json; odata.metadata=minimal"
REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content", 304: "Not Modified",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    412: "Precondition Failed", 413: "Request Entity Too Large", 429: "Too Many Requests",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
}  # fmt: skip


@dataclass(slots=True)
class Response:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Prefer:
    representation: bool = False
    annotations: tuple[str, ...] = ()
    page_size: int | None = None
    track_changes: bool = False
    continue_on_error: bool = False

    def applied(self, *, page: bool = False) -> str:
        """What the answer says it applied."""
        parts = []
        if self.representation and not page:
            parts.append("return=representation")
        if page and self.page_size:
            parts.append(f"odata.maxpagesize={self.page_size}")
        if self.annotations:
            parts.append(f'odata.include-annotations="{",".join(self.annotations)}"')
        return ",".join(parts)


@lru_cache(maxsize=256)
def parse_prefer(text: str) -> Prefer:
    values: dict[str, Any] = {}
    for part in re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', text):
        name, _, value = part.strip().partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "return":
            values["representation"] = value == "representation"
        elif name == "odata.include-annotations":
            values["annotations"] = tuple(item.strip() for item in value.split(",") if item.strip())
        elif name == "odata.maxpagesize" and value.isdecimal() and int(value[:9]) > 0:
            values["page_size"] = int(value[:9])
        elif name == "odata.track-changes":
            values["track_changes"] = True
        elif name == "odata.continue-on-error":
            values["continue_on_error"] = value.lower() != "false"
    return Prefer(**values)


def error(fault: Fault, *, annotated: bool = False) -> Response:
    body: dict[str, Any] = {"code": fault.code, "message": fault.message}
    if annotated:
        body |= {
            "@Microsoft.PowerApps.CDS.ErrorDetails.HttpStatusCode": str(fault.status),
            "@Microsoft.PowerApps.CDS.HelpLink": "",
            "@Microsoft.PowerApps.CDS.TraceText": "",
            "@Microsoft.PowerApps.CDS.InnerError.Message": fault.message,
        } | fault.details
    headers = {"Content-Type": JSON_TYPE, "OData-Version": "4.0"}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    return Response(fault.status, json.dumps({"error": body}).encode(), headers)


def no_content(**headers: str) -> Response:
    return Response(204, b"", {"OData-Version": "4.0"} | headers)


def created(url: str) -> Response:
    return Response(204, b"", {"OData-Version": "4.0", "Location": url, "OData-EntityId": url})


def json_text(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(status, text.encode(), {"Content-Type": JSON_TYPE, "OData-Version": "4.0"} | (headers or {}))


def json_body(value: Any, status: int = 200) -> Response:
    return json_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False), status)


def request_id() -> str:
    return str(uuid.uuid4())
