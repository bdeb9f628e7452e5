"""Routes of the Web API: path and method -> a call of the model -> an answer."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from local.dataverse import actions, bulk, changes, metadata_api, records
from local.dataverse.conditions import Inputs, Parameters
from local.dataverse.definitions import intersect_ids
from local.dataverse.environment import Environment
from local.dataverse.errors import (
    Fault,
    bad_payload,
    bad_request,
    no_resource,
    no_route,
    no_row,
    request_too_long,
    wrong_method,
)  # fmt: skip
from local.dataverse.filters import Scope
from local.dataverse.model import LOOKUPS, Relationship, Table
from local.dataverse.projection import Run
from local.dataverse.queries import COUNT_LIMIT, next_link, parse_options
from local.dataverse.records import Unit, Values
from local.dataverse.responses import (
    Prefer,
    Response,
    created,
    error,
    json_body,
    json_text,
    no_content,
    parse_prefer,
)  # fmt: skip
from local.dataverse.security import Caller, check, require_special, visible
from local.dataverse.storage import quoted, type_column
from local.dataverse.values import renderer

_FAST = re.compile(r"(\w+)(?:\(([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})\))?")
_SEGMENT = re.compile(r"([$\w.]+)(?:\((.*)\))?", re.DOTALL)
_VERSION = re.compile(r'(?:W/)?"(\d+)"')
NAMESPACE = "Microsoft.Dynamics.CRM."
LONGEST_URL, LONGEST_BATCH_URL = 32_768, 65_536
MOST_VALUES = 5_000_000  # of one JSON body: parsed, a hostile one takes thirty times its length in memory


@dataclass(slots=True)
class Request:
    """One operation. `path` is relative to the service root, not decoded; `headers` have lower-case names."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    base: str
    caller: Caller
    request_id: str
    unit: Unit | None = None  # the change set this is part of
    seconds: float = 0.0  # modelled execution
    url: str = ""
    _prefer: Prefer | None = field(default=None, repr=False)

    @property
    def prefer(self) -> Prefer:
        if self._prefer is None:
            self._prefer = parse_prefer(self.headers.get("prefer", ""))
        return self._prefer

    @property
    def bypass_steps(self) -> bool:
        """Whether steps are not to hear of this write. Raises `Fault` without the privilege."""
        if self.headers.get("mscrm.bypasscustompluginexecution", "").lower() != "true":
            return False
        require_special(self.caller, "prvBypassCustomPlugins")
        return True

    @property
    def shared(self) -> dict[str, str]:
        """Shared variables of the pipeline."""
        if "tag=" not in self.query:
            return {}
        tag = parse_options(self.query).get("tag")
        return {"tag": tag} if tag is not None else {}

    def json(self) -> Any:
        if len(self.body) > MOST_VALUES and self.body.count(b",") + self.body.count(b"{") > MOST_VALUES:
            raise request_too_long()
        try:
            return json.loads(self.body, parse_float=Decimal, parse_constant=_no_constant)
        except (ValueError, ArithmeticError, RecursionError):
            raise bad_request("An error occurred while reading the request body: it is no valid JSON.") from None


def _no_constant(name: str) -> None:
    raise ValueError(name)


class Service:
    """Answers requests about one environment."""

    def __init__(self, env: Environment) -> None:
        self.env = env

    def handle(self, request: Request) -> Response:
        """Never raises: whatever is wrong with a request becomes the documented error."""
        try:
            return self._route(request)
        except Fault as fault:
            return error(fault, annotated="*" in request.prefer.annotations)
        except RecursionError:
            return error(bad_request("The request is nested too deeply."))
        except UnicodeEncodeError:  # JSON can spell half of a surrogate pair, which no text may hold
            return error(bad_request("The request holds text that is not valid Unicode."))

    def _route(self, request: Request) -> Response:
        fast = _FAST.fullmatch(request.path)
        if fast is not None:
            table = self.env.schema.sets.get(fast[1])
            if table is not None:
                if fast[2] is None:
                    return self._set(request, table)
                return self._row(request, table, {table.primary_id: fast[2].lower()})
        return self._segments(request)

    def _segments(self, request: Request) -> Response:
        parts = split_path(request.path)
        if not parts:
            return self._service_document(request)
        name, key = parts[0]
        if name.startswith("$") and name != "$metadata":
            if request.unit is None or name[1:] not in request.unit.references:
                raise bad_request(f"Content-ID Reference: '{name[:20]}' does not exist in the batch context.")
            parts = split_path(request.unit.references[name[1:]]) + parts[1:]
            name, key = parts[0]
        if metadata_api.handles(name):
            return metadata_api.handle(self.env, request, parts)
        table = self.env.schema.sets.get(name)
        if table is None:
            if len(parts) == 1:
                return actions.unbound(self.env, request, name, key)
            raise no_resource(name)
        if key is None:
            return self._of_set(request, table, parts[1:])
        return self._of_row(request, table, records.parse_key(table, key), parts[1:])

    def _service_document(self, request: Request) -> Response:
        if request.method != "GET":
            raise wrong_method(request.method)
        sets = [{"name": t.set_name, "kind": "EntitySet", "url": t.set_name} for t in self.env.schema.tables.values()]
        return json_body({"@odata.context": f"{request.base}/$metadata", "value": sets})

    # --- a set ---

    def _of_set(self, request: Request, table: Table, rest: list[tuple[str, str | None]]) -> Response:
        if not rest:
            return self._set(request, table)
        name = rest[0][0]
        if name == "$count" and len(rest) == 1 and request.method == "GET":
            return self._count(request, table)
        if name.startswith(NAMESPACE) and len(rest) == 1:
            short = name.removeprefix(NAMESPACE)
            if bulk.handles(short):
                return bulk.handle(self.env, request, table, short)
            return actions.bound_to_set(self.env, request, table, short)
        raise no_resource(name)

    def _set(self, request: Request, table: Table) -> Response:
        if request.method == "GET":
            return self._list(request, table)
        if request.method == "POST":
            return self._create(request, table)
        raise wrong_method(request.method)

    def run(self, request: Request) -> Run:
        connection = request.unit.connection if request.unit else self.env.storage.reader
        return Run(connection, request.caller, self.env.clock(), request.base, request.prefer.annotations)

    def _list(
        self,
        request: Request,
        table: Table,
        restrict: Callable[[Scope], str] | None = None,
        restrict_key: str = "",
        parent: str = "",
    ) -> Response:
        options = parse_options(request.query)
        run = self.run(request)
        special = actions.special_query(self.env, request, table, options, run)
        if special is not None:
            return special
        if request.prefer.track_changes or options.get("$deltatoken") is not None:
            return changes.handle(self.env, request, table, options, run)
        texts, plan, cookie, count = self.env.queries.page(
            table,
            run,
            options,
            page_size=request.prefer.page_size,
            restrict=restrict,
            restrict_key=restrict_key,
            parent=parent,
        )
        request.seconds += self.env.meter.count("list", table.name, len(texts))
        columns = f"({plan.projection.context})" if plan.projection.context else ""
        parts = [f'{{"@odata.context":"{request.base}/$metadata#{table.set_name}{columns}"']
        if run.annotations:
            total = -1 if count is None else min(count, COUNT_LIMIT)
            exceeded = "true" if count is not None and count > COUNT_LIMIT else "false"
            if run.wants("Microsoft.Dynamics.CRM.totalrecordcount"):
                parts.append(f',"@Microsoft.Dynamics.CRM.totalrecordcount":{total}')
            if run.wants("Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"):
                parts.append(f',"@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded":{exceeded}')
            if run.wants("Microsoft.Dynamics.CRM.globalmetadataversion"):
                parts.append(f',"@Microsoft.Dynamics.CRM.globalmetadataversion":"{self.env.schema.generation}"')
        if count is not None:
            parts.append(f',"@odata.count":{min(count, COUNT_LIMIT)}')
        parts.append(f',"value":[{",".join(texts)}]')
        if cookie is not None:
            url = f"{request.base}/{request.path}?{request.query}"
            parts.append(f',"@odata.nextLink":{json.dumps(next_link(url, cookie))}')
        parts.append("}")
        applied = request.prefer.applied(page=True)
        return json_text("".join(parts), headers={"Preference-Applied": applied} if applied else None)

    def _count(
        self,
        request: Request,
        table: Table,
        restrict: Callable[[Scope], str] | None = None,
        key: str = "",
        parent: str = "",
    ) -> Response:
        options, run = parse_options(request.query), self.run(request)
        if options.get("$deltatoken") is not None:
            number = changes.count(self.env, table, options.get("$deltatoken") or "")
        else:
            plan, literals = self.env.queries.plan(table, run, options, restrict, key)
            caller = request.caller
            literals = [*literals, ("g", parent)] if restrict is not None else literals
            inputs = Inputs(literals, run.now, caller.user, caller.business_unit, caller.teams)
            number = min(self.env.queries.count(run, plan, plan.parameters.values(inputs)), COUNT_LIMIT)
        request.seconds += self.env.meter.count("list", table.name)
        return Response(200, f"\ufeff{number}".encode(), {"Content-Type": "text/plain", "OData-Version": "4.0"})

    def _create(self, request: Request, table: Table) -> Response:
        body = request.json()

        def work(unit: Unit) -> Response:
            row_id = records.create(unit, table, body)
            url = f"{request.base}/{table.set_name}({row_id})"
            self._remember(request, f"{table.set_name}({row_id})")
            if request.prefer.representation:
                return self._represent(request, unit, table, row_id, 201)
            return created(url)

        request.seconds += self.env.meter.count("create", table.name)
        return self.write(request, work)

    def write(self, request: Request, work: Callable[[Unit], Response]) -> Response:
        """Runs `work` in the request's change set, or in a transaction of its own."""
        solution = request.headers.get("mscrm.solutionuniquename")
        if request.unit is not None:
            request.unit.solution = solution
            return work(request.unit)
        with self.env.unit(
            request.caller, request_id=request.request_id, base=request.base, bypass_steps=request.bypass_steps,
            shared=request.shared,
        ) as unit:  # fmt: skip
            unit.solution = solution
            response = work(unit)
        self.env.meter.rows_written += unit.rows
        return response

    @staticmethod
    def _remember(request: Request, url: str) -> None:
        content = request.headers.get("content-id")
        if request.unit is not None and content:
            request.unit.references[content] = url

    def _represent(
        self, request: Request, unit: Unit, table: Table, row_id: str, status: int, *, expand: bool = True
    ) -> Response:
        options = parse_options(request.query)
        run = Run(unit.connection, request.caller, self.env.clock(), request.base, request.prefer.annotations)
        found = self.env.queries.row(
            table, run, row_id, options.get("$select"), options.get("$expand") if expand else None
        )
        if found is None:
            raise no_row(table.name, row_id)
        text, projection, version = found
        columns = f"({projection.context})" if projection.context else ""
        body = f'{{"@odata.context":"{request.base}/$metadata#{table.set_name}{columns}/$entity",{text[1:]}'
        url = f"{request.base}/{table.set_name}({row_id})"
        headers = {"Preference-Applied": request.prefer.applied(), "OData-EntityId": url, "ETag": f'W/"{version}"'}
        if status == 201:
            headers["Location"] = url
        return json_text(body, status, headers)

    # --- a row ---

    def _row(self, request: Request, table: Table, key: Values) -> Response:
        if request.method == "GET":
            return self._get(request, table, key)
        if request.method == "PATCH":
            return self._patch(request, table, key)
        if request.method == "DELETE":
            return self._delete(request, table, key)
        raise wrong_method(request.method)

    def _id_of(self, request: Request, table: Table, key: Values) -> str:
        """The id of an existing row."""
        connection = request.unit.connection if request.unit else self.env.storage.reader
        return records.find(connection, self.env.schema, table, key, must=True) or ""

    def _get(self, request: Request, table: Table, key: Values) -> Response:
        options, run = parse_options(request.query), self.run(request)
        expand = options.get("$expand")
        row_id = key.get(table.primary_id) or self._id_of(request, table, key)
        request.seconds += self.env.meter.count("read", table.name)
        found = self.env.queries.row(table, run, str(row_id), options.get("$select"), expand)
        if found is None:
            raise no_row(table.name, str(row_id))
        text, projection, version = found
        condition = request.headers.get("if-none-match")
        known = condition is not None and str(version) in _VERSION.findall(condition)
        if known and not expand and not run.annotations and table.optimistic:
            return Response(304, b"", {"OData-Version": "4.0", "ETag": f'W/"{version}"'})
        columns = f"({projection.context})" if projection.context else ""
        headers = {"ETag": f'W/"{version}"'}
        applied = request.prefer.applied(page=True)
        if applied:
            headers["Preference-Applied"] = applied
        body = f'{{"@odata.context":"{request.base}/$metadata#{table.set_name}{columns}/$entity",{text[1:]}'
        return json_text(body, headers=headers)

    def _patch(self, request: Request, table: Table, key: Values) -> Response:
        body = request.json()
        if_match = self._if_match(request, table)
        none_match = request.headers.get("if-none-match", "").strip() == "*"
        by_id = table.primary_id in key
        kind = "update" if if_match else "upsert"
        request.seconds += self.env.meter.count(kind, table.name)

        def work(unit: Unit) -> Response:
            row_id, was_created = records.upsert(unit, table, key, body, if_match=if_match, if_none_match=none_match)
            self._remember(request, f"{table.set_name}({row_id})")
            if request.prefer.representation:
                return self._represent(request, unit, table, row_id, 201 if was_created else 200, expand=False)
            named = f"{table.set_name}({row_id})" if by_id else unquote(request.path)
            return created(f"{request.base}/{named}")

        return self.write(request, work)

    @staticmethod
    def _if_match(request: Request, table: Table) -> str | None:
        """None, "*" or a version."""
        text = request.headers.get("if-match", "").strip()
        if not text or text == "null":
            return None
        if text == "*":
            return "*"
        if not table.optimistic:
            raise Fault(400, "0x8006088d", f"Optimistic concurrency isn't enabled for entity type {table.name}.")
        found = _VERSION.fullmatch(text)
        if found is None:
            raise bad_request(f"The If-Match header value '{text[:60]}' is no valid ETag.")
        return found[1]

    def _delete(self, request: Request, table: Table, key: Values) -> Response:
        if_match = self._if_match(request, table)
        request.seconds += self.env.meter.count("delete", table.name)

        def work(unit: Unit) -> Response:
            row_id = records.find(unit.connection, self.env.schema, table, key, must=True) or ""
            records.delete(unit, table, row_id, if_match=if_match)
            return no_content()

        if table.name == "solution":  # a managed one takes its tables with it
            if request.unit is not None:
                raise bad_request("A solution cannot be deleted inside a change set here.")
            with self.env.changing_metadata(request.caller) as unit:
                return work(unit)
        return self.write(request, work)

    # --- below a row ---

    def _of_row(self, request: Request, table: Table, key: Values, rest: list[tuple[str, str | None]]) -> Response:
        if not rest:
            return self._row(request, table, key)
        name, inner = rest[0]
        if name.startswith(NAMESPACE) and len(rest) == 1:
            row_id = self._id_of(request, table, key)
            return actions.bound_to_row(self.env, request, table, row_id, name.removeprefix(NAMESPACE), inner)
        found = self.env.schema.navigation(table.name).get(name)
        if found is not None:
            return self._navigate(request, table, key, name, inner, found, rest[1:])
        if inner is None and len(rest) <= 2 and (len(rest) == 1 or rest[1][0] == "$value"):
            return self._property(request, table, key, name, raw=len(rest) == 2)
        raise no_resource(name)

    def _property(self, request: Request, table: Table, key: Values, name: str, *, raw: bool) -> Response:
        column = table.columns.get(name)
        if column is None or column.type in LOOKUPS:
            lookup = table.columns.get(name[1:-6]) if name.startswith("_") and name.endswith("_value") else None
            if lookup is None or lookup.type not in LOOKUPS:
                raise no_resource(name)
            column = lookup
        if column.type in ("File", "Image"):
            return actions.file_column(self.env, request, table, self._id_of(request, table, key), column, raw=raw)
        row_id = self._id_of(request, table, key)
        if request.method == "GET":
            run = self.run(request)
            check(request.caller, "Read", table, run.connection, row_id)
            sql = f"SELECT {quoted(column.name)} FROM {quoted(table.name)} WHERE {quoted(table.primary_id)} = ?"
            value = run.connection.execute(sql, (row_id,)).fetchone()[0]
            request.seconds += self.env.meter.count("read", table.name)
            if value is None or not column.read:
                return no_content()
            text = renderer(column)(value)
            if raw:
                plain = json.loads(text) if text.startswith('"') else text
                return Response(200, str(plain).encode(), {"Content-Type": "text/plain", "OData-Version": "4.0"})
            return json_text(
                f'{{"@odata.context":"{request.base}/$metadata#{table.set_name}({row_id})/{name}","value":{text}}}'
            )
        if request.method == "PUT":
            body = request.json()
            if not isinstance(body, dict) or "value" not in body:
                raise bad_payload(table.set_name, f"The body must be {{\"value\": ...}} for the property '{name}'.")
            values = {name: body["value"]}
        elif request.method == "DELETE":
            if column.type in LOOKUPS:
                raise bad_request(f"The lookup '{name}' is cleared through '/$ref'.")
            values = {name: None}
        else:
            raise wrong_method(request.method)

        def work(unit: Unit) -> Response:
            records.update(unit, table, row_id, values)
            return no_content()

        request.seconds += self.env.meter.count("update", table.name)
        return self.write(request, work)

    def _navigate(
        self, request: Request, table: Table, key: Values, name: str, inner: str | None, found: tuple[Relationship, str],
        rest: list[tuple[str, str | None]],
    ) -> Response:  # fmt: skip
        relation, side = found
        row_id = self._id_of(request, table, key)
        if rest and rest[-1][0] == "$ref":
            return self._reference(request, table, row_id, name, inner, relation, side)
        if side == "one":
            column = table.columns[relation.attribute]
            run = self.run(request)
            check(request.caller, "Read", table, run.connection, row_id)
            names = quoted(column.name) + (f", {quoted(type_column(column.name))}" if column.polymorphic else "")
            sql = f"SELECT {names} FROM {quoted(table.name)} WHERE {quoted(table.primary_id)} = ?"
            row = run.connection.execute(sql, (row_id,)).fetchone()
            wrong_kind = column.polymorphic and column.type != "Owner" and row[1] != relation.referenced
            if row[0] is None or wrong_kind:
                return no_content()
            target = self.env.schema.tables[row[1] if column.polymorphic else relation.referenced]
            return self._of_row(request, target, {target.primary_id: row[0]}, rest)
        child, restrict = self._restriction(table, relation, side)
        if inner is not None:
            return self._of_row(request, child, records.parse_key(child, inner), rest)
        if rest and rest[0][0] == "$count" and request.method == "GET":
            return self._count(request, child, restrict, f"{table.name}/{name}", row_id)
        if rest:
            raise no_resource(rest[0][0])
        if request.method == "POST" and side == "many":
            return self._create_related(request, child, relation, table, row_id)
        if request.method != "GET":
            raise wrong_method(request.method)
        check(request.caller, "Read", table, self.env.storage.reader, row_id)
        return self._list(request, child, restrict, f"{table.name}/{name}", row_id)

    def _create_related(
        self, request: Request, child: Table, relation: Relationship, table: Table, row_id: str
    ) -> Response:
        body = request.json()

        def work(unit: Unit) -> Response:
            link: Values = {}
            records.set_lookup(link, child.columns[relation.attribute], table.name, row_id)
            made = records.create(unit, child, body, link=link)
            self._remember(request, f"{child.set_name}({made})")
            if request.prefer.representation:
                return self._represent(request, unit, child, made, 201)
            return created(f"{request.base}/{child.set_name}({made})")

        request.seconds += self.env.meter.count("create", child.name)
        return self.write(request, work)

    def _restriction(self, table: Table, relation: Relationship, side: str) -> tuple[Table, Callable[[Scope], str]]:
        """The table of a collection and the condition (on ?1, the parent's id) that picks its rows."""
        schema = self.env.schema
        if side == "many":
            child = schema.tables[relation.referencing]
            column = child.columns[relation.attribute]
            tie = f"t0.{quoted(column.name)} = ?1"
            if column.polymorphic and column.type != "Owner":
                tie += f" AND t0.{quoted(type_column(column.name))} = '{table.name}'"
            return child, lambda _: tie
        first = relation.referenced == table.name
        child = schema.tables[relation.referencing if first else relation.referenced]
        mine, theirs = intersect_ids(schema, relation)
        if not first:
            mine, theirs = theirs, mine
        inside = (
            f"t0.{quoted(child.primary_id)} IN (SELECT {quoted(theirs)} FROM {quoted(relation.intersect)} "
            f"WHERE {quoted(mine)} = ?1)"
        )
        return child, lambda _: inside

    def _reference(
        self,
        request: Request,
        table: Table,
        row_id: str,
        name: str,
        inner: str | None,
        relation: Relationship,
        side: str,
    ) -> Response:
        schema = self.env.schema
        if request.method == "GET":
            return self._read_references(request, table, row_id, relation, side)

        def given(unit: Unit) -> tuple[Table, str]:
            if request.method == "DELETE":
                options = parse_options(request.query)
                if options.get("$id"):
                    return records.resolve(unit, options.get("$id"))
                child, _ = self._restriction(table, relation, side)
                return child, records.find(
                    unit.connection, schema, child, records.parse_key(child, inner or ""), must=True
                ) or ""
            body = request.json()
            if not isinstance(body, dict) or "@odata.id" not in body:
                raise bad_payload(table.set_name, 'The body must be {"@odata.id": "..."}.')
            return records.resolve(unit, body["@odata.id"])

        def work(unit: Unit) -> Response:
            if side == "one":
                if request.method not in ("PUT", "DELETE"):
                    raise wrong_method(request.method)
                column = table.columns[relation.attribute]
                values: Values = {}
                if request.method == "DELETE":
                    records.set_lookup(values, column, None, None)
                else:
                    target, other = given(unit)
                    records.parse_body(
                        unit, table, {f"{name}@odata.bind": f"/{target.set_name}({other})"}, creating=False
                    )
                    records.set_lookup(values, column, target.name, other)
                records.change(unit, table, row_id, values)
                return no_content()
            if request.method not in ("POST", "DELETE"):
                raise wrong_method(request.method)
            target, other = given(unit)
            if side == "many-many":
                act = records.associate if request.method == "POST" else records.disassociate
                act(unit, table, row_id, relation, other)
                return no_content()
            child = schema.tables[relation.referencing]
            if target.name != child.name:
                raise bad_payload(table.set_name, f"'{name}' takes rows of '{child.name}'.")
            values = {}
            adding = request.method == "POST"
            records.set_lookup(
                values, child.columns[relation.attribute], table.name if adding else None, row_id if adding else None
            )
            if not records.change(unit, child, other, values):
                raise no_row(child.name, other)
            return no_content()

        request.seconds += self.env.meter.count("associate", table.name)
        return self.write(request, work)

    def _read_references(
        self, request: Request, table: Table, row_id: str, relation: Relationship, side: str
    ) -> Response:
        run = self.run(request)
        check(request.caller, "Read", table, run.connection, row_id)
        if side == "one":
            column = table.columns[relation.attribute]
            sql = f"SELECT {quoted(column.name)} FROM {quoted(table.name)} WHERE {quoted(table.primary_id)} = ?"
            value = run.connection.execute(sql, (row_id,)).fetchone()[0]
            if value is None:
                return no_content()
            target = self.env.schema.tables[relation.referenced]
            return json_body({
                "@odata.context": f"{request.base}/$metadata#$ref", "@odata.id": f"{request.base}/{target.set_name}({value})",
            })  # fmt: skip
        child, restrict = self._restriction(table, relation, side)
        scope = Scope(self.env.schema, child, "t0", Parameters())
        scope.parameters.constant(row_id)
        seen = visible(request.caller, child, "t0", scope.parameters)
        where = restrict(scope) + (f" AND {seen}" if seen else "")
        values = [bind(None) for bind in scope.parameters.binds]  # type: ignore[arg-type]
        rows = run.connection.execute(
            f"SELECT {quoted(child.primary_id)} FROM {quoted(child.name)} t0 WHERE {where} LIMIT 5000", values
        )
        ids = [{"@odata.id": f"{request.base}/{child.set_name}({found})"} for (found,) in rows]
        return json_body({"@odata.context": f"{request.base}/$metadata#Collection($ref)", "value": ids})


def split_path(path: str) -> list[tuple[str, str | None]]:
    """[(segment, what stood in its parentheses)], decoded. Slashes inside quotes or parentheses do not split."""
    decoded = unquote(path).strip("/")
    if not decoded:
        return []
    parts, depth, quoting, start = [], 0, False, 0
    for index, char in enumerate(decoded):
        if char == "'":
            quoting = not quoting
        elif quoting:
            continue
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "/" and depth == 0:
            parts.append(decoded[start:index])
            start = index + 1
    parts.append(decoded[start:])
    segments: list[tuple[str, str | None]] = []
    for part in parts:
        found = _SEGMENT.fullmatch(part)
        if found is None:
            raise no_route(decoded[:200])
        segments.append((found[1], found[2]))
    return segments
