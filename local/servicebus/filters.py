"""The rules of subscriptions, from the config file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.servicebus import sql_filter
from local.servicebus.model.message import Draft
from local.servicebus.model.settings import Rule


class FilterError(ValueError):
    """A rule that the service would refuse, or that is not supported here."""


# The service's names for a message's own properties, in lower case, and AMQP's.
_SYSTEM = {
    "contenttype": "content-type",
    "correlationid": "correlation-id",
    "label": "subject",
    "subject": "subject",
    "messageid": "message-id",
    "replyto": "reply-to",
    "replytosessionid": "reply-to-group-id",
    "sessionid": "group-id",
    "to": "to",
}


def rule_from_config(properties: Mapping[str, Any]) -> Rule:
    """A rule from the `Properties` of a rule in the config file. Raises FilterError."""
    for key in properties:
        if key not in ("FilterType", "CorrelationFilter", "SqlFilter"):
            raise FilterError(f"{key} is not supported")
    kind = properties.get("FilterType")
    if kind == "Correlation":
        return correlation(properties.get("CorrelationFilter"))
    if kind == "Sql":
        given = properties.get("SqlFilter")
        expression = given.get("SqlExpression") if isinstance(given, dict) else None
        if not isinstance(expression, str):
            raise FilterError("SqlFilter: SqlExpression is missing")
        return sql(expression)
    raise FilterError(f"FilterType must be Correlation or Sql, not {kind!r}")


def correlation(given: Any) -> Rule:
    """All named properties must be equal. Raises FilterError."""
    if not isinstance(given, dict):
        raise FilterError("CorrelationFilter: an object is expected")
    system: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for key, value in given.items():
        if key == "Properties" and isinstance(value, dict):
            custom = dict(value)
        elif key.lower() in _SYSTEM:
            system[_SYSTEM[key.lower()]] = value
        else:
            raise FilterError(f"CorrelationFilter: unknown property {key}")
    if not system and not custom:
        raise FilterError("CorrelationFilter: at least one property is needed")

    def takes(draft: Draft) -> bool:
        values = draft.content.property_values()
        application = draft.content.application_values()
        return all(values.get(key) == value for key, value in system.items()) and all(
            application.get(key) == value for key, value in custom.items()
        )

    return takes


def sql(expression: str) -> Rule:
    """The expression must be true. Raises FilterError."""
    try:
        matches = sql_filter.compile_filter(expression)
    except sql_filter.FilterSyntaxError as error:
        raise FilterError(f"SqlExpression: {error}") from error

    def takes(draft: Draft) -> bool:
        system = draft.content.property_values()
        application = draft.content.application_values()

        def lookup(scope: str, name: str) -> Any:
            return system.get(_SYSTEM.get(name.lower(), "")) if scope == "sys" else application.get(name)

        return matches(lookup)

    return takes
