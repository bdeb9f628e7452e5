"""Actions on metadata: options, customer and polymorphic lookups, several tables at once."""

from typing import TYPE_CHECKING, Any

from local.dataverse import components
from local.dataverse import metadata_input as given
from local.dataverse import metadata_writes as writes
from local.dataverse.actions import Parameters, action, answer
from local.dataverse.metadata_input import fail
from local.dataverse.model import Option
from local.dataverse.responses import Response, json_body, no_content
from local.dataverse.security import require_special

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request


def _solution(request: "Request", parameters: Parameters) -> str | None:
    named = parameters.get("SolutionUniqueName")
    return str(named) if named else request.headers.get("mscrm.solutionuniquename")


def _value(parameters: Parameters, name: str = "Value") -> int:
    value = parameters.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise fail(f"The parameter '{name}' must be a whole number.")
    return value


@action
def CreateCustomerRelationships(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    with env.changing_metadata(request.caller) as unit:
        column, relations = writes.create_customer(unit, parameters, _solution(request, parameters))
    ids = [relation.id for relation in relations]
    return answer(request, "CreateCustomerRelationships", AttributeId=column.id, RelationshipIds=ids)


@action
def CreatePolymorphicLookupAttribute(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    with env.changing_metadata(request.caller) as unit:
        column, relations = writes.create_polymorphic(unit, parameters, _solution(request, parameters))
    ids = [relation.id for relation in relations]
    return answer(request, "CreatePolymorphicLookupAttribute", AttributeId=column.id, RelationshipIds=ids)


@action
def CreateEntities(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    """Several tables (with their columns) in one transaction."""
    bodies = parameters.get("Entities")
    if not isinstance(bodies, list) or not bodies:
        raise fail("The parameter 'Entities' must be an array of table definitions.")
    with env.changing_metadata(request.caller) as unit:
        tables = [writes.create_table(unit, body, _solution(request, parameters)) for body in bodies]
    return json_body({
        "@odata.context": f"{request.base}/$metadata#Microsoft.Dynamics.CRM.CreateEntitiesResponse",
        "EntityIds": [table.id for table in tables],
    })  # fmt: skip


@action
def InsertOptionValue(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    shown, others = given.labels(parameters.get("Label"), "Label")
    with env.changing_metadata(request.caller) as unit:
        require_special(request.caller, "prvWriteAttribute")
        options, owner, column = writes.options_named(unit, parameters)
        if parameters.get("Value") is None:
            value = max([99_999_999, *(option.value for option in options)]) + 1
        else:
            value = _value(parameters)
        if any(option.value == value for option in options):
            raise fail(f"The option value {value} already exists.", "0x8004431f")
        described, _ = given.labels(parameters.get("Description"), "Description")
        options.append(Option(value, shown, description=described, color=parameters.get("Color"), labels=others))
        env.save(owner)
        solution = _solution(request, parameters)
        if solution and column is not None and not column.custom:
            components.solution_id(unit, solution)
            components.note_layer(unit, solution, "option", f"{owner.name}/{column.name}/{value}", shown)
    return answer(request, "InsertOptionValue", NewOptionValue=value)


@action
def InsertStatusValue(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    shown, others = given.labels(parameters.get("Label"), "Label")
    state = _value(parameters, "StateCode")
    with env.changing_metadata(request.caller) as unit:
        require_special(request.caller, "prvWriteAttribute")
        options, owner, column = writes.options_named(unit, {"AttributeLogicalName": "statuscode"} | parameters)
        if column is None or column.type != "Status":
            raise fail("InsertStatusValue is for the column statuscode.", "0x80044320")
        value = (
            _value(parameters)
            if parameters.get("Value") is not None
            else (max([99_999_999, *(option.value for option in options)]) + 1)
        )
        if any(option.value == value for option in options):
            raise fail(f"The option value {value} already exists.", "0x8004431f")
        options.append(Option(value, shown, state=state, labels=others))
        env.save(owner)
    return answer(request, "InsertStatusValue", NewOptionValue=value)


def _existing(options: list[Option], value: int) -> Option:
    for option in options:
        if option.value == value:
            return option
    raise fail(f"The option value {value} does not exist.")


@action
def UpdateOptionValue(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    shown, others = given.labels(parameters.get("Label"), "Label")
    with env.changing_metadata(request.caller) as unit:
        require_special(request.caller, "prvWriteAttribute")
        options, owner, _ = writes.options_named(unit, parameters)
        option = _existing(options, _value(parameters))
        option.labels = option.labels | others if parameters.get("MergeLabels") else others
        option.label = shown or option.label
        env.save(owner)
    return no_content()


@action
def DeleteOptionValue(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    with env.changing_metadata(request.caller) as unit:
        require_special(request.caller, "prvWriteAttribute")
        options, owner, _ = writes.options_named(unit, parameters)
        options.remove(_existing(options, _value(parameters)))
        env.save(owner)
    return no_content()


@action
def OrderOption(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    values: Any = parameters.get("Values")
    with env.changing_metadata(request.caller) as unit:
        require_special(request.caller, "prvWriteAttribute")
        options, owner, _ = writes.options_named(unit, parameters)
        if not isinstance(values, list) or sorted(values) != sorted(option.value for option in options):
            raise fail("The parameter 'Values' must list every option value once.")
        options.sort(key=lambda option: values.index(option.value))
        env.save(owner)
    return no_content()


@action
def ReactivateEntityKey(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    with env.changing_metadata(request.caller) as unit:
        table = unit.schema.tables.get(str(parameters.get("EntityLogicalName")))
        key = table.keys.get(str(parameters.get("EntityKeyLogicalName")).lower()) if table else None
        if table is None or key is None:
            raise fail("The parameters 'EntityLogicalName' and 'EntityKeyLogicalName' must name a key.")
        if key.status == "Failed":
            key.status = "Pending"
            env.save(table)
            env.build_key_later(table, key)
    return no_content()
