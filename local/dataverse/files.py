"""File and image columns: small uploads in one request, large ones in chunks, downloads."""

import base64
import binascii
import re
import uuid
from typing import TYPE_CHECKING

from local.dataverse import records
from local.dataverse.errors import Fault, bad_request, wrong_method
from local.dataverse.model import Column, Table
from local.dataverse.queries import parse_options
from local.dataverse.records import Unit
from local.dataverse.responses import Response, no_content
from local.dataverse.security import check
from local.dataverse.storage import quoted

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request

CHUNK = 4 * 1024 * 1024
LARGEST = 128 * 1024 * 1024
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def handle(env: "Environment", request: "Request", table: Table, row_id: str, column: Column, *, raw: bool) -> Response:
    if request.method == "GET":
        return _download(env, request, table, row_id, column)
    if request.method == "DELETE":
        return _clear(env, request, table, row_id, column)
    if request.method not in ("PATCH", "PUT"):
        raise wrong_method(request.method)
    check(request.caller, "Write", table, env.storage.reader, row_id)
    options = parse_options(request.query)
    session = options.get("sessiontoken")
    name = request.headers.get("x-ms-file-name") or options.get("x-ms-file-name") or ""
    if session:
        return _chunk(env, request, table, row_id, column, session)
    if request.headers.get("x-ms-transfer-mode") == "chunked":
        return _begin(env, request, table, row_id, column, name)
    content = request.body
    if request.headers.get("content-type", "").startswith("application/json"):
        body = request.json()
        try:
            content = base64.b64decode(str(body.get("value", "")), validate=True)
        except (binascii.Error, AttributeError):
            raise bad_request("The value of a file column must be base64.") from None
    with env.unit(request.caller, request_id=request.request_id) as unit:
        _store(unit, table, row_id, column, name or "file", content)
    return no_content()


def _store(unit: Unit, table: Table, row_id: str, column: Column, name: str, content: bytes) -> None:
    if len(content) > LARGEST:
        raise Fault(400, "0x80044a02", "Attachment file size is too big.")
    file_id = str(uuid.uuid4())
    unit.connection.execute(
        'DELETE FROM "#file" WHERE tbl = ? AND row = ? AND col = ? AND committed = 1', (table.name, row_id, column.name)
    )
    unit.connection.execute(
        'INSERT INTO "#file" (id, tbl, row, col, name, content) VALUES (?, ?, ?, ?, ?, ?)',
        (file_id, table.name, row_id, column.name, name, content),
    )
    records.change(unit, table, row_id, {column.name: file_id})


def _begin(env: "Environment", request: "Request", table: Table, row_id: str, column: Column, name: str) -> Response:
    token = str(uuid.uuid4())
    with env.unit(request.caller) as unit:
        unit.connection.execute(
            'INSERT INTO "#file" (id, tbl, row, col, name, content, committed) VALUES (?, ?, ?, ?, ?, ?, 0)',
            (token, table.name, row_id, column.name, name or "file", b""),
        )
    url = f"{request.base}/{table.set_name}({row_id})/{column.name}?sessiontoken={token}"
    return Response(
        200, b"", {"OData-Version": "4.0", "Location": url, "x-ms-chunk-size": str(CHUNK), "Accept-Ranges": "bytes"}
    )


def _chunk(env: "Environment", request: "Request", table: Table, row_id: str, column: Column, token: str) -> Response:
    found = _RANGE.fullmatch(request.headers.get("content-range", ""))
    if found is None:
        raise bad_request("The header Content-Range must be 'bytes first-last/total'.")
    first, last, total = int(found[1]), int(found[2]), int(found[3])
    if last < first or last >= total or len(request.body) != last - first + 1 or total > LARGEST:
        raise bad_request("The header Content-Range does not match the body.")
    with env.unit(request.caller) as unit:
        row = unit.connection.execute(
            'SELECT content, name FROM "#file" WHERE id = ? AND tbl = ? AND row = ? AND col = ? AND committed = 0',
            (token, table.name, row_id, column.name),
        ).fetchone()
        if row is None:
            raise bad_request("The upload session does not exist.")
        if len(row[0]) != first:
            raise bad_request(f"The upload continues at byte {len(row[0])}.")
        content = row[0] + request.body
        unit.connection.execute('UPDATE "#file" SET content = ? WHERE id = ?', (content, token))
        if len(content) < total:
            return Response(206, b"", {"OData-Version": "4.0"})
        unit.connection.execute('DELETE FROM "#file" WHERE id = ?', (token,))
        _store(unit, table, row_id, column, row[1], content)
    return no_content()


def _download(env: "Environment", request: "Request", table: Table, row_id: str, column: Column) -> Response:
    reader = env.storage.reader
    check(request.caller, "Read", table, reader, row_id)
    sql = f"SELECT {quoted(column.name)} FROM {quoted(table.name)} WHERE {quoted(table.primary_id)} = ?"
    file_id = reader.execute(sql, (row_id,)).fetchone()[0]
    row = reader.execute('SELECT content, name FROM "#file" WHERE id = ?', (file_id,)).fetchone()
    if row is None:
        return no_content()
    name = str(row[1]).encode("ascii", "replace").decode().replace('"', "'").replace("\r", " ").replace("\n", " ")
    return Response(200, bytes(row[0]), {
        "Content-Type": "application/octet-stream", "OData-Version": "4.0", "x-ms-file-name": name,
        "x-ms-file-size": str(len(row[0])), "Content-Disposition": f'attachment; filename="{name}"',
    })  # fmt: skip


def _clear(env: "Environment", request: "Request", table: Table, row_id: str, column: Column) -> Response:
    with env.unit(request.caller) as unit:
        check(request.caller, "Write", table, unit.connection, row_id)
        unit.connection.execute(
            'DELETE FROM "#file" WHERE tbl = ? AND row = ? AND col = ?', (table.name, row_id, column.name)
        )
        records.change(unit, table, row_id, {column.name: None})
    return no_content()
