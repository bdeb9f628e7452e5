"""`$batch`: multipart bodies in and out, change sets, continue-on-error, Content-ID references."""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.dataverse.errors import Fault, bad_request
from local.dataverse.responses import REASONS, Response, error

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request, Service

MOST_PARTS = 1000
_BOUNDARY = re.compile(r'boundary\s*=\s*(?:"([^"\r\n]{1,200})"|([^\s;,"]{1,200}))', re.IGNORECASE)
_ROOT = re.compile(r"(?:https?://[^/]+)?/?api/data/v\d+\.\d+/", re.IGNORECASE)


@dataclass(slots=True)
class Part:
    """One operation of a batch. `content_id` is empty outside change sets that give none."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    content_id: str = ""


class _Rollback(Exception):
    """Leaves the transaction of a change set; carries the failed part's answer."""

    def __init__(self, response: Response, content_id: str) -> None:
        super().__init__()
        self.response = response
        self.content_id = content_id


def _unreadable(why: str) -> Fault:
    return bad_request(f"The batch request could not be read: {why}.")


def boundary_of(content_type: str) -> bytes:
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/mixed") or found is None:
        raise _unreadable("Content-Type must be multipart/mixed with a boundary")
    return (found[1] or found[2]).encode()


def _split(body: bytes, boundary: bytes) -> list[bytes]:
    """The parts between boundaries, without the line break that belongs to the boundary."""
    mark = b"--" + boundary
    if not body.startswith(mark):
        start = body.find(b"\r\n" + mark)
        if start < 0:
            raise _unreadable("Stream was not readable: no boundary line found (line endings must be CRLF)")
        body = body[start + 2 :]
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    parts: list[bytes] = []
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            return parts
        if not piece.startswith(b"\r\n"):
            raise _unreadable("Stream was not readable: line endings must be CRLF")
        parts.append(piece[2:])
    raise _unreadable("the closing boundary is missing")


def _headers(block: bytes) -> dict[str, str]:
    headers = {}
    for line in block.split(b"\r\n"):
        if line:
            name, colon, value = line.partition(b":")
            if not colon:
                raise _unreadable(f"the header line '{line[:60].decode('latin-1')}' has no colon")
            headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    return headers


def _operation(mime: dict[str, str], content: bytes) -> Part:
    if not mime.get("content-type", "").lower().startswith("application/http"):
        raise _unreadable("each part needs Content-Type: application/http")
    head, _, body = content.partition(b"\r\n\r\n")
    line, _, rest = head.partition(b"\r\n")
    text = line.decode("utf-8", "replace")
    method, _, target = text.partition(" ")  # unencoded spaces inside the URL are accepted
    target, _, version = target.rpartition(" ")
    if not version.startswith("HTTP/") or not target or method not in ("GET", "POST", "PATCH", "PUT", "DELETE"):
        raise _unreadable(f"'{text[:80]}' is no request line")
    headers = _headers(rest)
    length = headers.get("content-length", "")
    body = body[: int(length)] if length.isdecimal() and len(length) < 10 else body.removesuffix(b"\r\n")
    content_id = mime.get("content-id") or headers.get("content-id", "")
    if content_id:
        headers["content-id"] = content_id
    return Part(method, target, headers, body, content_id)


def parse(content_type: str, body: bytes) -> list[Part | list[Part]]:
    """Operations and change sets (lists) in order. Refuses more than 1,000 operations, nesting, bare line feeds."""
    items: list[Part | list[Part]] = []
    count = 0
    for piece in _split(body, boundary_of(content_type)):
        head, blank, content = piece.partition(b"\r\n\r\n")
        if not blank:
            raise _unreadable("a part has no blank line after its headers")
        mime = _headers(head)
        if mime.get("content-type", "").lower().startswith("multipart/mixed"):
            members = []
            for inner in _split(content, boundary_of(mime["content-type"])):
                inner_head, inner_blank, inner_content = inner.partition(b"\r\n\r\n")
                if not inner_blank:
                    raise _unreadable("a part has no blank line after its headers")
                member = _operation(_headers(inner_head), inner_content)
                if member.method == "GET":
                    raise _unreadable("a change set must not hold GET requests")
                if not member.content_id:
                    raise _unreadable("each request of a change set needs a Content-ID")
                members.append(member)
            items.append(members)
            count += len(members)
        else:
            items.append(_operation(mime, content))
            count += 1
        if count > MOST_PARTS:
            raise bad_request(f"The number of requests in a batch exceeds the maximum of {MOST_PARTS}.", "0x80072325")
    return items


def _write(response: Response, content_id: str = "") -> bytes:
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"HTTP/1.1 {response.status} {REASONS.get(response.status, '')}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + response.body + b"\r\n"


Make = Callable[[Part], "Request"]


def run(env: "Environment", service: "Service", request: "Request", make: Make) -> Response:
    """Runs a batch. `make` builds the request of a part (target resolved, caller checked)."""
    if request.method != "POST":
        raise Fault(405, "0x8006088b", f"The requested resource does not support http method '{request.method}'.")
    items = parse(request.headers.get("content-type", ""), request.body)
    env.meter.batches += 1
    going_on = request.prefer.continue_on_error
    mark = f"batchresponse_{uuid.uuid4()}"
    out: list[bytes] = []
    status = 200
    for item in items:
        if isinstance(item, Part):
            response = _single(service, request, item, make)
            written = _write(response)
        else:
            response, written = _change_set(env, service, request, item, make)
        out.append(f"--{mark}\r\n".encode() + written)
        if response.status >= 400 and not going_on:
            status = response.status
            break
    out.append(f"--{mark}--\r\n".encode())
    headers = {"Content-Type": f"multipart/mixed; boundary={mark}", "OData-Version": "4.0"}
    return Response(status, b"".join(out), headers)


def _single(service: "Service", request: "Request", part: Part, make: Make) -> Response:
    try:
        inner = make(part)
    except Fault as fault:
        return error(fault)
    response = service.handle(inner)
    request.seconds += inner.seconds
    return response


def _change_set(
    env: "Environment", service: "Service", request: "Request", members: list[Part], make: Make
) -> tuple[Response, bytes]:
    """(the answer that decides the outcome, the bytes of the whole set)."""
    mark = f"changesetresponse_{uuid.uuid4()}"
    head = f"Content-Type: multipart/mixed; boundary={mark}\r\n\r\n".encode()
    out: list[bytes] = []
    env.meter.change_sets += 1
    last = Response(200)
    failed: tuple[Response, str] | None = None
    try:
        with env.unit(request.caller, request_id=request.request_id, base=request.base) as unit:
            for part in members:
                inner = make(part)
                inner.unit = unit
                unit.caller, unit.bypass_steps, unit.shared = inner.caller, inner.bypass_steps, inner.shared
                last = service.handle(inner)
                request.seconds += inner.seconds
                if last.status >= 400:
                    raise _Rollback(last, part.content_id)
                out.append(f"--{mark}\r\n".encode() + _write(last, part.content_id))
        env.meter.rows_written += unit.rows
    except _Rollback as rollback:
        failed = (rollback.response, rollback.content_id)
    except Fault as fault:
        failed = (error(fault), members[len(out)].content_id if len(out) < len(members) else "")
    if failed is not None:  # one answer for the whole set; nothing of it was saved
        response, content_id = failed
        response.headers["REQ_ID"] = request.request_id
        return response, head + f"--{mark}\r\n".encode() + _write(response, content_id) + f"--{mark}--\r\n".encode()
    return last, head + b"".join(out) + f"--{mark}--\r\n".encode()


def relative(target: str) -> str:
    """A part's URL relative to the service root."""
    return _ROOT.sub("", target, count=1).lstrip("/")
