"""Change tracking: a full read that ends with a delta link, and what changed since one."""

import datetime
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from local.dataverse.errors import Fault, bad_query
from local.dataverse.model import Table
from local.dataverse.projection import Run
from local.dataverse.queries import PAGE, Options, next_link
from local.dataverse.responses import Response, json_text
from local.dataverse.security import GLOBAL, require
from local.dataverse.storage import quoted

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request

_FORMAT = "%m/%d/%Y %H:%M:%S"


def _token(version: int, now: datetime.datetime) -> str:
    return quote(f"{version}!{now.strftime(_FORMAT)}", safe="")


def _parse(env: "Environment", token: str) -> int:
    """The version of a token; refuses broken and expired ones."""
    parts = token.split("!")
    try:
        version, made = int(parts[0]), datetime.datetime.strptime(parts[1], _FORMAT).replace(tzinfo=datetime.UTC)
        if not 0 <= version < 2**63:
            raise ValueError(version)
    except (ValueError, IndexError) as error:
        raise Fault(400, "0x80040203", "The delta token is malformed.") from error
    row = env.storage.reader.execute("SELECT expirechangetrackingindays FROM organization").fetchone()
    days = 7 if row is None or row[0] is None else row[0]
    if (env.clock() - made).days >= days:
        raise Fault(
            400, "0x80044352", "Version stamp associated with the client has expired. Please perform a full sync."
        )
    return version


def _check(table: Table, run: Run, options: Options) -> None:
    if not table.change_tracking:
        raise Fault(400, "0x80072491", f"Change tracking is not enabled for entity {table.name}.")
    for name in ("$filter", "$orderby", "$expand", "$top"):
        if options.get(name) is not None:
            raise bad_query(f'The "${{{name[1:]}}}" query parameter isn\'t supported when Change Tracking is enabled.')
    if require(run.caller, "Read", table) < GLOBAL:
        raise Fault(403, "0x80040220", f"Change tracking needs organization-level read access to {table.name}.")


def handle(env: "Environment", request: "Request", table: Table, options: Options, run: Run) -> Response:
    _check(table, run, options)
    delta = options.get("$deltatoken")
    return (
        _full(env, request, table, options, run) if delta is None else _delta(env, request, table, options, run, delta)
    )


def _link(request: "Request", token: str) -> str:
    kept = [
        p for p in request.query.split("&") if p and not p.startswith(("$deltatoken=", "%24deltatoken=", "$skiptoken="))
    ]
    return f"{request.base}/{request.path}?{'&'.join([*kept, '$deltatoken=' + token])}".replace(" ", "%20")


def _full(env: "Environment", request: "Request", table: Table, options: Options, run: Run) -> Response:
    # the token is taken before the first page is read: what changes meanwhile is reported again, never missed
    start = env.committed_version()
    skip = options.get("$skiptoken")
    if skip is not None and "!!" in skip:
        head, _, skip = skip.partition("!!")
        options.values["$skiptoken"] = skip
        start = int(head) if head.isdecimal() else start
    texts, plan, cookie, _ = env.queries.page(table, run, options, page_size=request.prefer.page_size)
    request.seconds += env.meter.count("list", table.name, len(texts))
    columns = f"({plan.projection.context})" if plan.projection.context else ""
    parts = [f'{{"@odata.context":"{request.base}/$metadata#{table.set_name}{columns}"']
    if cookie is not None:
        url = f"{request.base}/{request.path}?{request.query}"
        parts.append(f',"@odata.nextLink":{json.dumps(next_link(url, f"{start}!!{cookie}"))}')
    else:
        parts.append(f',"@odata.deltaLink":{json.dumps(_link(request, _token(start, env.clock())))}')
    parts.append(f',"value":[{",".join(texts)}]}}')
    return json_text("".join(parts), headers={"Preference-Applied": "odata.track-changes"})


def _delta(env: "Environment", request: "Request", table: Table, options: Options, run: Run, token: str) -> Response:
    version = _parse(env, token)
    now = env.committed_version()
    size = min(request.prefer.page_size or PAGE, PAGE)
    projection = env.queries.projection(table, run, options.get("$select"), None)
    rows = run.connection.execute(
        f"SELECT {projection.select_list('t0')} FROM {quoted(table.name)} t0 WHERE versionnumber > ? AND versionnumber <= ? "
        "ORDER BY versionnumber LIMIT ?",
        (version, now, size + 1),
    ).fetchall()
    more = len(rows) > size
    rows = rows[:size]
    texts = projection.texts(run, rows)
    if more:
        now = rows[-1][1]
    context = f"{request.base}/$metadata#{table.set_name}"
    removed = run.connection.execute(
        'SELECT id FROM "#deleted" WHERE tbl = ? AND version > ? AND version <= ? ORDER BY version',
        (table.name, version, now),
    )
    for (row_id,) in removed:
        texts.append(f'{{"@odata.context":"{context}/$deletedEntity","id":"{row_id}","reason":"deleted"}}')
    request.seconds += env.meter.count("list", table.name, len(texts))
    columns = f"({projection.context})" if projection.context else ""
    name = "@odata.nextLink" if more else "@odata.deltaLink"
    link = json.dumps(_link(request, _token(now, env.clock())))
    body = f'{{"@odata.context":"{context}{columns}/$delta","{name}":{link},"value":[{",".join(texts)}]}}'
    return json_text(body, headers={"Preference-Applied": "odata.track-changes"})


def count(env: "Environment", table: Table, token: str) -> int:
    """The number of changes since a token."""
    version = _parse(env, token)
    reader = env.storage.reader
    changed = reader.execute(
        f"SELECT count(*) FROM {quoted(table.name)} WHERE versionnumber > ?", (version,)
    ).fetchone()[0]
    removed = reader.execute('SELECT count(*) FROM "#deleted" WHERE tbl = ? AND version > ?', (table.name, version))
    return int(changed) + int(removed.fetchone()[0])
