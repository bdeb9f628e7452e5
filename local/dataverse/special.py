"""Queries other than OData's own: `fetchXml`, `savedQuery`, `userQuery`, `sql`, `$apply`."""

import re
from typing import TYPE_CHECKING

from local.dataverse import fetchxml
from local.dataverse.errors import Fault, bad_query
from local.dataverse.filters import Scope
from local.dataverse.model import Table
from local.dataverse.odata import Literals, Path, parse_filter, split_outside, tokenize
from local.dataverse.projection import Run
from local.dataverse.queries import Options
from local.dataverse.responses import Response, json_text
from local.dataverse.security import visible
from local.dataverse.storage import quoted
from local.dataverse.tabular import Group, Measure, aggregate, envelope, new_scope
from local.dataverse.values import guid

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request

_METHODS = {"sum", "average", "min", "max", "countdistinct"}


def handle(env: "Environment", request: "Request", table: Table, options: Options, run: Run) -> Response | None:
    """The answer; None if the query is an ordinary one."""
    values = options.values
    if values.keys().isdisjoint({"fetchXml", "savedQuery", "userQuery", "sql", "$apply"}):
        return None
    size = request.prefer.page_size
    if "fetchXml" in values:
        text, rows = fetchxml.execute(env.queries, env.schema, table, run, values["fetchXml"], size)
    elif "sql" in values:
        from local.dataverse import sql_query

        paging = sql_query.Paging(size, values.get("$skiptoken"), f"{request.base}/{request.path}?{request.query}")
        text, rows = sql_query.execute(env.schema, table, run, values["sql"], paging)
    elif "$apply" in values:
        text, rows = _apply(env, table, run, options)
    else:
        kind = "savedquery" if "savedQuery" in values else "userquery"
        xml = _view(env, table, run, kind, values.get("savedQuery") or values.get("userQuery") or "")
        text, rows = fetchxml.execute(env.queries, env.schema, table, run, xml, size)
    request.seconds += env.meter.count("list", table.name, rows)
    applied = request.prefer.applied(page=True)
    return json_text(text, headers={"Preference-Applied": applied} if applied else None)


def _view(env: "Environment", table: Table, run: Run, kind: str, key: str) -> str:
    row_id = guid(key)
    view = env.schema.tables[kind]
    row = run.connection.execute(
        f"SELECT fetchxml, returnedtypecode FROM {quoted(view.name)} WHERE {quoted(view.primary_id)} = ?", (row_id,)
    ).fetchone()
    if row is None:
        raise Fault(404, "0x80040217", f"{kind} With Id = {key[:60]} Does Not Exist")
    if row[1] != table.name:
        raise Fault(400, "0x80040203", f"The view is for '{row[1]}', not for the entity set '{table.set_name}'.")
    return str(row[0] or "")


# --- $apply ---


def _apply(env: "Environment", table: Table, run: Run, options: Options) -> tuple[str, int]:
    root = new_scope(env.schema, table)
    conditions: list[str] = []
    literals: Literals = []
    groups: list[Group] = []
    measures: list[Measure] = []
    seen = visible(run.caller, table, "t0", root.parameters)
    if seen:
        conditions.append(seen)
    for step in split_outside(options.get("$apply") or "", "/"):
        name, _, inside = step.strip().partition("(")
        if not inside.endswith(")"):
            raise bad_query(f"Syntax error in $apply near '{step[:60]}'.")
        inside = inside[:-1]
        if groups or measures:
            raise bad_query("In $apply nothing may follow groupby or aggregate.")
        if name == "filter":
            _filter(root, conditions, literals, inside, options)
        elif name == "aggregate":
            measures = _measures(root, inside)
        elif name == "groupby":
            parts = split_outside(inside, ",")
            listed = parts[0].strip()
            if not (listed.startswith("(") and listed.endswith(")")):
                raise bad_query("groupby needs a list of properties in parentheses.")
            groups = [_group(root, item.strip()) for item in listed[1:-1].split(",")]
            if len(parts) > 1:
                found = re.fullmatch(r"\s*aggregate\((.*)\)\s*", parts[1], re.DOTALL)
                if found is None or len(parts) > 2:
                    raise bad_query("groupby may be followed by aggregate(...) only.")
                measures = _measures(root, found[1])
        else:
            raise bad_query(f"The transformation '{name[:40]}' of $apply is not supported.")
    if options.get("$filter"):
        _filter(root, conditions, literals, options.get("$filter") or "", options)
    order = []
    for item in filter(None, (options.get("$orderby") or "").split(",")):
        words = item.split()
        order.append((words[0].replace("/", "_"), words[-1] == "desc"))
    if any(name == measure.name for name, _ in order for measure in measures):
        raise bad_query("The results of an aggregation cannot be ordered by an aggregated value.")
    top = options.get("$top")
    limit = int(top) if top is not None and top.isdecimal() and len(top) < 6 else None
    rows = aggregate(run, env.schema, root, conditions, groups, measures, order, limit, literals)
    names = ",".join([group.name for group in groups] + [measure.name for measure in measures])
    return envelope(run.base, table.set_name, names, rows), len(rows)


def _filter(root: Scope, conditions: list[str], literals: Literals, text: str, options: Options) -> None:
    if literals:
        raise bad_query("Only one filter is supported in an aggregation.")
    tokens = tokenize(text, options.aliases)
    conditions.append(root.where(parse_filter(tokens, text)))
    literals += tokens.literals


def _group(root: Scope, text: str) -> Group:
    scope, column = root.resolve(Path(tuple(text.split("/"))))
    return Group(text.replace("/", "_"), scope, column)


def _measures(root: Scope, text: str) -> list[Measure]:
    measures = []
    for part in split_outside(text, ","):
        words = part.split()
        if len(words) == 3 and words[0] == "$count" and words[1] == "as":
            measures.append(Measure(words[2], "count"))
            continue
        if len(words) != 5 or words[1] != "with" or words[3] != "as" or words[2] not in _METHODS:
            raise bad_query(f"Syntax error in aggregate near '{part.strip()[:60]}'.")
        scope, column = root.resolve(Path(tuple(words[0].split("/"))))
        if words[2] == "countdistinct":
            measures.append(Measure(words[4], "countcolumn", scope, column, distinct=True))
        else:
            measures.append(Measure(words[4], words[2], scope, column))
    if not measures:
        raise bad_query("aggregate needs at least one expression.")
    return measures
