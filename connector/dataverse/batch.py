"""``$batch`` bodies: multipart/mixed with change sets (OData 4.0 part 1, section 11.7). Pure functions.

Both ends are machines that write CRLF and JSON on few lines, so plain ``split`` does; the standard library's e-mail
parser takes five times as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .odata import Part, Response

MAX_OPERATIONS = 1000  # in a batch, members of change sets included

type Item = Part | Sequence[Part]
"""A GET on its own, or a change set."""
type Reply = Response | list[Response]
"""The answer to a part on its own, or the answers inside a change set: one for each write, or the failing one only."""

_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^\s;,]+))', re.IGNORECASE)
_MARK = re.compile(rb"(--|)[ \t]*(?=\r\n|\Z)")
_STATUS = re.compile(rb"HTTP/1\.\d (\d{3})(?: |$)")
_HTTP_PART = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"


class MalformedBatch(ValueError):
    """The answer to a batch is not what one looks like."""


def content_type(boundary: str) -> str:
    return f'multipart/mixed; boundary="{boundary}"'


def build(items: Iterable[Item], root: str, boundary: str) -> str:
    """The body of a batch request. ``root`` is the path of the service root; ``boundary`` must be unguessable.

    Content-IDs number all writes of the batch from 1.
    """
    lines: list[str] = []
    content_id = 0
    for index, item in enumerate(items):
        if isinstance(item, Part):
            lines.append(f"--{boundary}\r\n{_HTTP_PART}\r\n")
            lines.append(_request(item, root))
            continue
        inner = f"cs{index}_{boundary}"
        lines.append(f'--{boundary}\r\nContent-Type: multipart/mixed; boundary="{inner}"\r\n\r\n')
        for part in item:
            content_id += 1
            lines.append(f"--{inner}\r\n{_HTTP_PART}Content-ID: {content_id}\r\n\r\n")
            lines.append(_request(part, root))
        lines.append(f"--{inner}--\r\n\r\n")
    lines.append(f"--{boundary}--\r\n")
    return "".join(lines)


def parse(content: str, body: bytes) -> list[Reply]:
    """The replies of a batch answer in the order of its items; fewer if the server stopped at a failure.

    ``content`` is the Content-Type of the answer. A failing change set is a list of one failing response, also where
    the server sends that response without the change set's envelope: then it is a plain ``Response``.
    A body cut short keeps its complete replies. Raises ``MalformedBatch``.
    """
    replies: list[Reply] = []
    for headers, payload in _parts(content, body):
        kind = headers.get("content-type", "")
        if kind.startswith("multipart/"):
            replies.append([_response(inner, inside) for inner, inside in _parts(kind, payload)])
        else:
            replies.append(_response(headers, payload))
    return replies


def _request(part: Part, root: str) -> str:
    headers = "".join([f"{name}: {value}\r\n" for name, value in part.headers])
    if part.body is None:
        return f"{part.method} {root}{part.path} HTTP/1.1\r\n{headers}\r\n\r\n"
    return (
        f"{part.method} {root}{part.path} HTTP/1.1\r\nContent-Type: application/json; type=entry\r\n{headers}\r\n"
        f"{part.body}\r\n"
    )


def _parts(content: str, body: bytes) -> list[tuple[dict[str, str], bytes]]:
    found = _BOUNDARY.search(content)
    if not found:
        raise MalformedBatch("the answer names no boundary")
    delimiter = b"\r\n--" + (found.group(1) or found.group(2)).encode("latin-1", "replace")
    # Each delimiter is followed by the chunk up to the next one; the mark of the last is two hyphens. A chunk with no
    # delimiter after it was cut short. Not one expression with the boundary in it: that is compiled for every answer.
    marked: list[tuple[bytes, bytes]] = []
    for piece in (b"\r\n" + body).split(delimiter)[1:]:
        mark = _MARK.match(piece)
        if mark:
            marked.append((mark.group(1), piece[mark.end() :]))
        elif marked:
            marked[-1] = (marked[-1][0], marked[-1][1] + delimiter + piece)
    if not marked:
        raise MalformedBatch("the answer holds no part")
    parts = []
    for closing, chunk in marked[:-1]:
        if closing:
            break
        parts.append(_headers_and_rest(chunk.removeprefix(b"\r\n")))
    return parts


def _response(mime: dict[str, str], payload: bytes) -> Response:
    if not mime.get("content-type", "").startswith("application/http"):
        raise MalformedBatch("a part is not application/http")
    line, _, rest = payload.partition(b"\r\n")
    status = _STATUS.match(line)
    if not status:
        raise MalformedBatch("a part has no status line")
    headers, body = _headers_and_rest(rest)
    if "content-id" in mime:
        headers["content-id"] = mime["content-id"]
    return Response(int(status.group(1)), headers, body.strip(b"\r\n"))


def _headers_and_rest(chunk: bytes) -> tuple[dict[str, str], bytes]:
    if chunk.startswith(b"\r\n"):
        return {}, chunk[2:]
    head, _, rest = chunk.partition(b"\r\n\r\n")
    headers = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return headers, rest
