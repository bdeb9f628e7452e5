"""RetrieveMetadataChanges: definitions that match a query, with the properties it names."""

from typing import TYPE_CHECKING, Any

from local.dataverse.actions import Parameters, answer, function
from local.dataverse.errors import bad_request
from local.dataverse.metadata_json import Node, table_node
from local.dataverse.responses import Response

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request

_PARTS = {
    "AttributeQuery": ["Attributes"],
    "KeyQuery": ["Keys"],
    "RelationshipQuery": ["OneToManyRelationships", "ManyToOneRelationships", "ManyToManyRelationships"],
}


@function
def RetrieveMetadataChanges(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    query = parameters.get("Query")
    if not isinstance(query, dict):
        raise bad_request("The parameter 'Query' must be an EntityQueryExpression.")
    found = []
    for table in env.schema.tables.values():
        node = table_node(env.schema, table)
        if not _matches(node, query.get("Criteria")):
            continue
        shown = _properties(node, query.get("Properties"))
        for name, parts in _PARTS.items():
            inner = query.get(name)
            for part in parts:
                related = node.related[part]() if isinstance(inner, dict) else None
                if isinstance(inner, dict) and isinstance(related, list):
                    shown[part] = [
                        _properties(item, inner.get("Properties"))
                        for item in related
                        if _matches(item, inner.get("Criteria"))
                    ]
        found.append(shown)
    stamp = str(env.schema.generation)
    return answer(
        request, "RetrieveMetadataChanges", EntityMetadata=found, ServerVersionStamp=stamp, DeletedMetadata=None
    )


def _properties(node: Node, wanted: Any) -> dict[str, Any]:
    names = wanted.get("PropertyNames") if isinstance(wanted, dict) else None
    if not isinstance(names, list) or (isinstance(wanted, dict) and wanted.get("AllProperties")):
        shown = dict(node.values)
        names = ["OptionSet"] if "OptionSet" in node.related else []
    else:
        shown = {key: node.values[key] for key in node.values if key in names or key in ("MetadataId", "@odata.type")}
    for name in ("OptionSet", "GlobalOptionSet"):
        if name in names and name in node.related:
            inner = node.related[name]()
            shown[name] = inner.values if isinstance(inner, Node) else None
    return shown


def _matches(node: Node, criteria: Any) -> bool:
    if not isinstance(criteria, dict):
        return True
    tests = []
    for condition in criteria.get("Conditions") or []:
        if not isinstance(condition, dict):
            raise bad_request("A condition of the metadata query is malformed.")
        given = condition.get("Value")
        value = given.get("Value") if isinstance(given, dict) else given
        actual = node.values.get(str(condition.get("PropertyName")))
        operator = condition.get("ConditionOperator")
        if operator in ("Equals", "NotEquals"):
            tests.append((_plain(actual) == _plain(value)) == (operator == "Equals"))
        elif operator in ("In", "NotIn"):
            options = value if isinstance(value, list) else str(value).strip("[]").split(",")
            inside = _plain(actual) in [_plain(option).strip("'\" ") for option in options]
            tests.append(inside == (operator == "In"))
        else:
            raise bad_request(f"The metadata condition operator '{str(operator)[:40]}' is not supported.")
    tests += [_matches(node, inner) for inner in criteria.get("Filters") or []]
    if not tests:
        return True
    return any(tests) if criteria.get("FilterOperator") == "Or" else all(tests)


def _plain(value: Any) -> str:
    return str(value).lower()
