"""The rules of subscriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.servicebus.model.message import Draft
from local.servicebus.model.settings import Rule


class FilterError(ValueError):
    """A rule that the service would refuse."""


# The correlation filter's names for message properties, and AMQP's.
_SYSTEM = {
    "ContentType": "content-type",
    "CorrelationId": "correlation-id",
    "Label": "subject",
    "Subject": "subject",
    "MessageId": "message-id",
    "ReplyTo": "reply-to",
    "ReplyToSessionId": "reply-to-group-id",
    "SessionId": "group-id",
    "To": "to",
}


def rule_from_config(properties: Mapping[str, Any]) -> Rule:
    """A rule from the `Properties` of a rule in the config file. Raises FilterError."""
    kind = properties.get("FilterType")
    if kind == "Correlation":
        return correlation(properties.get("CorrelationFilter"))
    raise FilterError(f"FilterType must be Correlation, not {kind!r}")


def correlation(given: Any) -> Rule:
    """All named properties must be equal. Raises FilterError."""
    if not isinstance(given, dict):
        raise FilterError("CorrelationFilter: an object is expected")
    system: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for key, value in given.items():
        if key == "Properties" and isinstance(value, dict):
            custom = dict(value)
        elif key in _SYSTEM:
            system[_SYSTEM[key]] = value
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
