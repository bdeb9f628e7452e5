"""The metadata endpoints: EntityDefinitions, RelationshipDefinitions, GlobalOptionSetDefinitions, $metadata."""

from collections.abc import Callable
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Any

from local.dataverse import metadata_writes as writes
from local.dataverse.errors import Fault, bad_query, no_property, no_resource, wrong_method
from local.dataverse.metadata_json import (
    NAMESPACE,
    Node,
    column_node,
    option_set_node,
    relationship_node,
    table_node,
)  # fmt: skip
from local.dataverse.model import Table
from local.dataverse.odata import (
    Compare,
    Condition,
    In,
    Lambda,
    Literal,
    Literals,
    Logic,
    Not,
    Path,
    Text,
    parse_expand,
    parse_filter,
    parse_order,
    tokenize,
)  # fmt: skip
from local.dataverse.odata import Node as Expression
from local.dataverse.queries import Options, parse_options
from local.dataverse.responses import Response, created, json_body, no_content
from local.dataverse.values import guid

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request

Segments = list[tuple[str, str | None]]
_ROOTS = ("EntityDefinitions", "RelationshipDefinitions", "GlobalOptionSetDefinitions", "$metadata")
_RELATED = {"OneToManyRelationships", "ManyToOneRelationships", "ManyToManyRelationships"}


def handles(name: str) -> bool:
    return name in _ROOTS


def handle(env: "Environment", request: "Request", parts: Segments) -> Response:
    request.seconds += env.meter.count("metadata", parts[0][0])
    if parts[0][0] == "$metadata":
        if request.method != "GET" or len(parts) > 1:
            raise wrong_method(request.method)
        from local.dataverse import csdl

        return csdl.document(env)
    if request.method == "GET":
        return _read(env, request, parts)
    return _write(env, request, parts)


# --- reading ---


def _read(env: "Environment", request: "Request", parts: Segments) -> Response:
    options = parse_options(request.query)
    found, context = _find(env, parts)
    if isinstance(found, list):
        nodes = _collection(found, options)
        body: dict[str, Any] = {"@odata.context": f"{request.base}/$metadata#{context}"}
        if options.get("$count") == "true":
            body["@odata.count"] = len(nodes)
        body["value"] = [_show(node, options) for node in nodes]
        return json_body(body)
    if isinstance(found, Node):
        return json_body({"@odata.context": f"{request.base}/$metadata#{context}/$entity"} | _show(found, options))
    return json_body({"@odata.context": f"{request.base}/$metadata#{context}", "value": found})


def _roots(env: "Environment", name: str) -> list[Node]:
    schema = env.schema
    if name == "EntityDefinitions":
        return [table_node(schema, table) for table in schema.tables.values()]
    if name == "RelationshipDefinitions":
        return [relationship_node(schema, relation) for relation in schema.relationships.values()]
    return [option_set_node(choice) for choice in schema.option_sets.values()]


def _pick(nodes: list[Node], key: str, what: str) -> Node:
    """The node with this MetadataId, or these property values."""
    row_id = guid(key)
    if row_id is not None:
        wanted = {"MetadataId": row_id}
    else:
        wanted = {}
        for part in key.split(","):
            name, _, value = part.partition("=")
            wanted[name.strip()] = value.strip().strip("'")
    for node in nodes:
        if all(str(node.values.get(name)).lower() == value.lower() for name, value in wanted.items()):
            return node
    raise Fault(
        404, "0x80060888", f"Could not find {what} with {', '.join(f'{k}={v}' for k, v in wanted.items())[:200]}."
    )


def _find(env: "Environment", parts: Segments) -> tuple[Node | list[Node] | Any, str]:
    """What a path of definitions names, and its @odata.context."""
    name, key = parts[0]
    if name == "EntityDefinitions" and key is not None:
        current: Any = table_node(env.schema, table_of(env, key))
    else:
        current = _roots(env, name)
        if key is not None:
            current = _pick(current, key, name)
    context = name
    for segment, inner in parts[1:]:
        if segment.startswith(NAMESPACE):
            cast = f"#{segment}"
            if isinstance(current, list):
                current = [node for node in current if _is(node, cast)]
            elif not _is(current, cast):
                raise Fault(404, "0x80060888", f"The definition is not of type {segment[:100]}.")
            if inner is not None and isinstance(current, list):
                current = _pick(current, inner, segment)
            continue
        if not isinstance(current, Node):
            raise no_resource(segment)
        if segment in current.related:
            current = current.related[segment]()
            context += f"/{segment}"
            if inner is not None and isinstance(current, list):
                current = _pick(current, inner, segment)
            if current is None:
                raise Fault(404, "0x80060888", f"'{segment}' is empty.")
        elif segment in current.values:
            return current.values[segment], f"{context}/{segment}"
        else:
            raise no_resource(segment)
    return current, context


def _is(node: Node, cast: str) -> bool:
    kind = node.values.get("@odata.type", "")
    return kind == cast or cast.endswith((".AttributeMetadata", ".EnumAttributeMetadata", ".RelationshipMetadataBase",
                                          ".OptionSetMetadataBase"))  # fmt: skip


def table_of(env: "Environment", key: str) -> Table:
    row_id = guid(key)
    for table in env.schema.tables.values():
        if table.id == row_id:
            return table
    name, _, value = key.partition("=")
    wanted = value.strip().strip("'").lower()
    if name.strip() == "LogicalName" and wanted in env.schema.tables:
        return env.schema.tables[wanted]
    if name.strip() == "SchemaName":
        for table in env.schema.tables.values():
            if table.schema_name.lower() == wanted:
                return table
    if row_id is None and not value:
        raise Fault(400, "0x80060888", f"'{key[:100]}' is no valid key of EntityDefinitions.")
    raise Fault(404, "0x80060888", f"Could not find an entity with the key {key[:100]}.")


def _collection(nodes: list[Node], options: Options) -> list[Node]:
    condition = options.get("$filter")
    if condition is not None:
        tokens = tokenize(condition, options.aliases)
        expression = parse_filter(tokens, condition)
        nodes = [node for node in nodes if _matches(expression, node.values, tokens.literals)]
    for path, descending in reversed(parse_order(options.get("$orderby") or "") if options.get("$orderby") else []):
        nodes = sorted(nodes, key=lambda node, p=path: str(_path(node.values, p)), reverse=descending)  # type: ignore[misc]
    top = options.get("$top")
    if top is not None:
        if not top.isdecimal():
            raise bad_query(f"Invalid value '{top[:40]}' for $top.")
        nodes = nodes[: int(top)]
    return nodes


def _path(values: Any, path: Path) -> Any:
    for name in path.names:
        if not isinstance(values, dict):
            return None
        if name not in values:
            raise (
                no_property(name, "EntityMetadata")
                if len(path.names) == 1
                else bad_query(f"Unknown property '{name}'.")
            )
        values = values[name]
    return values


def _plain(literal: Literal, literals: Literals) -> Any:
    kind, text = literals[literal.index]
    if kind == "b":
        return text == "true"
    if kind == "null":
        return None
    if kind == "n":
        return float(text) if "." in text else int(text)
    return text


def _matches(expression: Expression, values: dict[str, Any], literals: Literals) -> bool:
    if isinstance(expression, Logic):
        parts = (_matches(part, values, literals) for part in expression.parts)
        return all(parts) if expression.op == "and" else any(parts)
    if isinstance(expression, Not):
        return not _matches(expression.part, values, literals)
    if isinstance(expression, Compare):
        left, right = (
            _plain(side, literals) if isinstance(side, Literal) else _optional(values, side)
            for side in (expression.left, expression.right)
        )
        return _compare(expression.op, left, right)
    if isinstance(expression, In):
        return _optional(values, expression.path) in [_plain(value, literals) for value in expression.values]
    if isinstance(expression, Text):
        text = str(_optional(values, expression.path) or "").lower()
        wanted = literals[expression.value.index][1].lower()
        tests: dict[str, Callable[[str], bool]] = {
            "contains": text.__contains__, "startswith": text.startswith, "endswith": text.endswith,
        }  # fmt: skip
        return tests[expression.op](wanted)
    if isinstance(expression, Condition):
        wanted_values = [literals[value.index][1] for value in expression.values]
        inside = str(_optional(values, expression.path)) in wanted_values
        if expression.name in ("In", "NotIn"):
            return inside if expression.name == "In" else not inside
    if isinstance(expression, Lambda):
        raise bad_query("Lambda operators are not supported on definitions.")
    raise bad_query("The condition is not supported on definitions.")


def _optional(values: dict[str, Any], path: Path) -> Any:
    """A property that some kinds of definition lack counts as null there."""
    found: Any = values
    for name in path.names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _compare(operator: str, left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        left, right = left.lower(), right.lower()
    if operator in ("eq", "ne"):
        return bool((left == right) == (operator == "eq"))
    tests: dict[str, Callable[[Any, Any], Any]] = {"gt": gt, "ge": ge, "lt": lt, "le": le}
    try:
        return bool(tests[operator](left, right))
    except TypeError:
        return False


def _show(node: Node, options: Options) -> dict[str, Any]:
    return _shown(node, options.get("$select"), options.get("$expand"))


def _shown(node: Node, select: str | None, expand: str | None) -> dict[str, Any]:
    values = node.values
    if select:
        names = [name.strip() for name in select.split(",")]
        shown: dict[str, Any] = {name: values[name] for name in ("@odata.type",) if name in values}
        for name in names:
            if name in values:
                shown[name] = values[name]
            elif name in node.related:
                continue
            elif not _known_property(name):
                raise no_property(
                    name[:100], values.get("@odata.type", "#EntityMetadata").rpartition(".")[2].lstrip("#")
                )
        shown.setdefault("MetadataId", values.get("MetadataId"))
    else:
        shown = dict(values)
    for part in parse_expand(expand) if expand else []:
        if part.name not in node.related:
            if part.name in ("OptionSet", "GlobalOptionSet", "Options"):
                continue
            raise no_property(part.name, "EntityMetadata")
        found = node.related[part.name]()
        inner = Options(part.options)
        if isinstance(found, list):
            shown[part.name] = [_show(item, inner) for item in _collection(found, inner)]
        else:
            shown[part.name] = None if found is None else _show(found, inner)
    return shown


def _known_property(name: str) -> bool:
    """Properties that exist on some definitions only: selecting them elsewhere is allowed."""
    return name[:1].isupper() and name.isalnum() and len(name) < 60 and name in _SOMETIMES


_SOMETIMES = frozenset({
    "MaxLength", "Format", "FormatName", "MinValue", "MaxValue", "Precision", "PrecisionSource", "Targets", "DefaultValue",
    "DefaultFormValue", "DateTimeBehavior", "CalculationOf", "IsBaseCurrency", "Options", "DatabaseLength", "AutoNumberFormat",
    "Entity1LogicalName", "Entity2LogicalName", "ReferencedEntity", "ReferencingEntity", "ReferencedAttribute",
    "ReferencingAttribute", "IntersectEntityName", "ReferencedEntityNavigationPropertyName",
    "ReferencingEntityNavigationPropertyName", "Entity1NavigationPropertyName", "Entity2NavigationPropertyName",
    "Entity1IntersectAttribute", "Entity2IntersectAttribute", "CascadeConfiguration", "TrueOption", "FalseOption",
})  # fmt: skip


# --- writing ---


def _solution(request: "Request") -> str | None:
    options = parse_options(request.query)
    return request.headers.get("mscrm.solutionuniquename") or options.get("SolutionUniqueName")


def _write(env: "Environment", request: "Request", parts: Segments) -> Response:
    method, solution = request.method, _solution(request)
    name, key = parts[0]
    rest = parts[1:]
    if method not in ("POST", "PUT", "DELETE"):
        raise wrong_method(method)
    body = request.json() if method != "DELETE" else None
    with env.changing_metadata(request.caller) as unit:
        if name == "EntityDefinitions" and key is None and method == "POST":
            table = writes.create_table(unit, body, solution)
            return created(f"{request.base}/EntityDefinitions({table.id})")
        if name == "EntityDefinitions" and key is not None:
            return _write_in_table(unit, request, table_of(env, key), key, rest, body, solution)
        if name == "RelationshipDefinitions":
            if method == "POST" and key is None:
                relation = writes.create_relationship(unit, body, solution)
                return created(f"{request.base}/RelationshipDefinitions({relation.id})")
            if key is not None:
                found = _pick(_roots(env, name), key, "a relationship").values["SchemaName"]
                if method == "DELETE":
                    writes.delete_relationship(unit, env.schema.relationships[found])
                else:
                    writes.update_relationship(unit, env.schema.relationships[found], body)
                return no_content()
        if name == "GlobalOptionSetDefinitions":
            if method == "POST" and key is None:
                choice = writes.create_option_set(unit, body, solution)
                return created(f"{request.base}/GlobalOptionSetDefinitions({choice.id})")
            if key is not None:
                found = _pick(_roots(env, name), key, "an option set").values["Name"]
                if method == "DELETE":
                    writes.delete_option_set(unit, env.schema.option_sets[found])
                else:
                    writes.update_option_set(unit, env.schema.option_sets[found], body)
                return no_content()
    raise wrong_method(method)


def _write_in_table(
    unit: Any, request: "Request", table: Table, key: str, rest: Segments, body: Any, solution: str | None
) -> Response:
    method = request.method
    url = f"{request.base}/EntityDefinitions({key})"
    if not rest:
        if method == "PUT":
            writes.update_table(unit, table, body)
            return no_content()
        if method == "DELETE":
            writes.delete_table(unit, table)
            return no_content()
        raise wrong_method(method)
    part, inner = rest[0]
    if part == "Attributes":
        if method == "POST" and inner is None:
            column = writes.create_column(unit, table, body, solution)
            return created(f"{url}/Attributes({column.id})")
        if inner is not None:
            nodes = [column_node(unit.schema, table, column) for column in table.columns.values()]
            column = table.columns[_pick(nodes, inner, "an attribute").values["LogicalName"]]
            if method == "DELETE":
                writes.delete_column(unit, table, column)
            elif method == "PUT":
                writes.update_column(unit, table, column, body)
            else:
                raise wrong_method(method)
            return no_content()
    if part == "Keys":
        if method == "POST" and inner is None:
            made = writes.create_key(unit, table, body, solution)
            return created(f"{request.base}/EntityDefinitions(LogicalName='{table.name}')/Keys({made.id})")
        if inner is not None and method == "DELETE":
            found = _pick(table_node(unit.schema, table).related["Keys"](), inner, "a key")  # type: ignore[arg-type]
            writes.delete_key(unit, table, table.keys[found.values["LogicalName"]])
            return no_content()
    raise wrong_method(method) if part in _RELATED | {"Attributes", "Keys"} else no_resource(part)
