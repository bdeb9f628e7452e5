"""The namespace's entities from a file in the form of the official emulator's config.json."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from local.servicebus.filters import FilterError, rule_from_config
from local.servicebus.model.settings import QueueSettings, Rule, SubscriptionSettings, TopicSettings


class ConfigError(ValueError):
    """One line that names the entity and the property."""


@dataclass(frozen=True, slots=True)
class NamespaceConfig:
    queues: dict[str, QueueSettings]
    topics: dict[str, TopicSettings]


_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?")
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_COMMON = {"DefaultMessageTimeToLive"}
_RECEIVING = {
    "LockDuration",
    "MaxDeliveryCount",
    "RequiresSession",
    "DeadLetteringOnMessageExpiration",
    "ForwardTo",
    "ForwardDeadLetteredMessagesTo",
} | _COMMON
_DUPLICATES = {"RequiresDuplicateDetection", "DuplicateDetectionHistoryTimeWindow"}


def read(path: Path) -> NamespaceConfig:
    """Raises ConfigError for a file that is missing, not JSON, or says what the service would refuse."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    return parse(document)


def parse(document: Any) -> NamespaceConfig:
    """The entities a config document declares. Raises ConfigError."""
    user = _object(_object(document, "the file").get("UserConfig"), "UserConfig")
    namespaces = _list(user.get("Namespaces"), "UserConfig.Namespaces")
    if len(namespaces) != 1:
        raise ConfigError(f"UserConfig.Namespaces: exactly one namespace is possible, not {len(namespaces)}")
    namespace = _object(namespaces[0], "the namespace")
    _only(namespace, {"Name", "Queues", "Topics"}, "the namespace")
    queues = {name: _queue(name, entry) for name, entry in _named(namespace.get("Queues"), "Queues")}
    topics = {name: _topic(name, entry) for name, entry in _named(namespace.get("Topics"), "Topics")}
    for name in topics:
        if name.lower() in (queue.lower() for queue in queues):
            raise ConfigError(f"{name}: is both a queue and a topic")
    config = NamespaceConfig(queues, topics)
    _check_forwarding(config)
    return config


def _queue(name: str, entry: Mapping[str, Any]) -> QueueSettings:
    _only(entry, {"Name", "Properties"}, name)
    properties = _object(entry.get("Properties") or {}, f"{name}: Properties")
    _only(properties, _RECEIVING | _DUPLICATES, name)
    return _settings(name, properties, _duplicate_window(name, properties))


def _settings(name: str, properties: Mapping[str, Any], window: timedelta | None) -> QueueSettings:
    defaults = QueueSettings()
    limit = properties.get("MaxDeliveryCount", defaults.max_delivery_count)
    if type(limit) is not int or not 1 <= limit <= 2000:
        raise ConfigError(f"{name}: MaxDeliveryCount must be a whole number from 1 to 2000, not {limit!r}")
    forward = _text(name, properties, "ForwardTo")
    requires_session = _flag(name, properties, "RequiresSession")
    if forward and requires_session:
        raise ConfigError(f"{name}: ForwardTo contradicts RequiresSession")
    lock = _duration(name, properties, "LockDuration", timedelta(seconds=5), timedelta(minutes=5))
    return QueueSettings(
        lock_duration=lock or defaults.lock_duration,
        max_delivery_count=limit,
        default_ttl=_duration(name, properties, "DefaultMessageTimeToLive", timedelta(seconds=1), None),
        dead_letter_on_expiration=_flag(name, properties, "DeadLetteringOnMessageExpiration"),
        requires_session=requires_session,
        duplicate_window=window,
        forward_to=forward,
        forward_dead_letters_to=_text(name, properties, "ForwardDeadLetteredMessagesTo"),
    )


def _duplicate_window(name: str, properties: Mapping[str, Any]) -> timedelta | None:
    key = "DuplicateDetectionHistoryTimeWindow"
    window = _duration(name, properties, key, timedelta(seconds=5), timedelta(days=7))
    if not _flag(name, properties, "RequiresDuplicateDetection"):
        return None
    return window or timedelta(minutes=10)


def _topic(name: str, entry: Mapping[str, Any]) -> TopicSettings:
    _only(entry, {"Name", "Properties", "Subscriptions"}, name)
    properties = _object(entry.get("Properties") or {}, f"{name}: Properties")
    _only(properties, _COMMON | _DUPLICATES, name)
    subscriptions = {
        key: _subscription(f"{name}/{key}", value)
        for key, value in _named(entry.get("Subscriptions"), f"{name}: Subscriptions")
    }
    ttl = _duration(name, properties, "DefaultMessageTimeToLive", timedelta(seconds=1), None)
    return TopicSettings(_duplicate_window(name, properties), ttl, subscriptions)


def _subscription(name: str, entry: Mapping[str, Any]) -> SubscriptionSettings:
    _only(entry, {"Name", "Properties", "Rules"}, name)
    properties = _object(entry.get("Properties") or {}, f"{name}: Properties")
    _only(properties, _RECEIVING, name)
    rules: dict[str, Rule] = {}
    for key, rule in _named(entry.get("Rules"), f"{name}: Rules"):
        try:
            rules[key] = rule_from_config(_object(rule.get("Properties"), f"{name}/{key}: Properties"))
        except FilterError as error:
            raise ConfigError(f"{name}: rule {key}: {error}") from error
    return SubscriptionSettings(_settings(name, properties, None), rules)


def _check_forwarding(config: NamespaceConfig) -> None:
    known = {name.lower() for name in (*config.queues, *config.topics)}
    receiving = dict(config.queues)
    for topic, settings in config.topics.items():
        receiving |= {f"{topic}/{name}": subscription.queue for name, subscription in settings.subscriptions.items()}
    for name, queue in receiving.items():
        for key, target in (
            ("ForwardTo", queue.forward_to),
            ("ForwardDeadLetteredMessagesTo", queue.forward_dead_letters_to),
        ):
            if target is None:
                continue
            if target.lower() not in known:
                raise ConfigError(f"{name}: {key} names an unknown entity: {target}")
            if target.lower() == name.lower():
                raise ConfigError(f"{name}: {key} names the entity itself")


def _named(value: Any, what: str) -> list[tuple[str, Mapping[str, Any]]]:
    result: list[tuple[str, Mapping[str, Any]]] = []
    for item in _list(value if value is not None else [], what):
        entry = _object(item, f"an entry of {what}")
        name = entry.get("Name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"{what}: Name must be 1 to 260 letters, digits, '.', '-', '_' or '/', not {name!r}")
        if name.lower() in (other.lower() for other, _ in result):
            raise ConfigError(f"{what}: {name} is there twice")
        result.append((name, entry))
    return result


def _duration(
    name: str, properties: Mapping[str, Any], key: str, least: timedelta, most: timedelta | None
) -> timedelta | None:
    text = properties.get(key)
    if text is None or text == "":
        return None
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None or not any(match.groups()):
        raise ConfigError(f"{name}: {key} must be an ISO 8601 duration like PT1M, not {text!r}")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    try:
        value = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        return None  # without end
    if value < least or (most is not None and value > most):
        limit = f"from {least} to {most}" if most else f"at least {least}"
        raise ConfigError(f"{name}: {key} must be {limit}, not {text}")
    return value


def _flag(name: str, properties: Mapping[str, Any], key: str) -> bool:
    value = properties.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{name}: {key} must be true or false, not {value!r}")
    return value


def _text(name: str, properties: Mapping[str, Any], key: str) -> str | None:
    value = properties.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{name}: {key} must be text, not {value!r}")
    return value or None


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{what}: an object is expected")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"{what}: a list is expected")
    return value


def _only(value: Mapping[str, Any], known: set[str], what: str) -> None:
    for key in value:
        if key not in known:
            raise ConfigError(f"{what}: unknown property {key}")
