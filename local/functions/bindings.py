"""The functions of an app as the host sees them: raw bindings checked, `%Setting%` filled in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.functions.connection_string import ConnectionString, IdentityConnection, ServiceBusAddress
from local.functions.errors import StartError
from local.functions.ncrontab import Schedule

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}")
_ARGUMENT = re.compile(r"[A-Za-z](?:_?[A-Za-z0-9])*")


@dataclass(frozen=True)
class HttpTrigger:
    name: str
    argument: str
    route: str
    methods: frozenset[str]  # empty: all
    level: str  # anonymous, function, admin
    disabled: bool


@dataclass(frozen=True)
class TimerTrigger:
    name: str
    argument: str
    schedule: Schedule
    run_on_startup: bool
    disabled: bool


@dataclass(frozen=True)
class QueueTrigger:
    name: str
    argument: str
    queue: str
    connection: ServiceBusAddress
    sessions: bool
    binary: bool
    disabled: bool


type Trigger = HttpTrigger | TimerTrigger | QueueTrigger


def read_triggers(bindings: Mapping[str, list[dict[str, Any]]], settings: Mapping[str, str]) -> list[Trigger]:
    """One trigger for each function. StartError for what the host would drop: a wrong name, schedule or setting."""
    found = [_trigger(name, raw, settings) for name, raw in bindings.items()]
    routes: dict[tuple[str, str], str] = {}
    for trigger in found:
        if not isinstance(trigger, HttpTrigger):
            continue
        for method in trigger.methods or {"*"}:
            for taken in ((trigger.route.lower(), method), (trigger.route.lower(), "*")):
                if taken in routes:
                    raise StartError(f"function {trigger.name}: its route conflicts with that of {routes[taken]}")
            if method == "*" and any(route == trigger.route.lower() for route, _ in routes):
                raise StartError(f"function {trigger.name}: its route {trigger.route!r} is taken")
        routes |= {(trigger.route.lower(), method): trigger.name for method in trigger.methods or {"*"}}
    return found


def _trigger(name: str, bindings: list[dict[str, Any]], settings: Mapping[str, str]) -> Trigger:
    if not _NAME.fullmatch(name) or name.lower() == "host":
        raise StartError(f"function {name!r}: the name must match {_NAME.pattern} and must not be 'host'")
    trigger = next(b for b in bindings if b["type"].lower().endswith("trigger"))
    others = [b["type"] for b in bindings if b is not trigger and not (b["type"] == "http" and b["name"] == "$return")]
    if others:
        raise StartError(f"function {name}: this host knows triggers and the HTTP answer, not the binding {others[0]}")
    argument = trigger["name"]
    if not _ARGUMENT.fullmatch(argument):
        raise StartError(f"function {name}: the binding name {argument} is invalid")
    disabled = any(
        settings.get(key, "").lower() in ("1", "true")
        for key in (f"AzureWebJobs.{name}.Disabled", f"AzureWebJobs__{name}__Disabled")
    )

    def resolved(option: str) -> str:
        def fill(match: re.Match[str]) -> str:
            value = settings.get(match[1])
            if not value:
                raise StartError(f"function {name}: {option} needs the setting {match[1]}, which is not set")
            return value

        return re.sub(r"%([^%]+)%", fill, str(trigger.get(option) or ""))

    match trigger["type"]:
        case "httpTrigger":
            route = resolved("route").strip("/") or name
            if re.match(r"(admin|runtime)(/|$)", route, re.IGNORECASE):
                raise StartError(f"function {name}: its route {route!r} conflicts with one or more built in routes")
            methods = frozenset(str(m).upper() for m in trigger.get("methods") or ())
            level = str(trigger.get("authLevel") or "function").lower()
            return HttpTrigger(name, argument, route, methods, level, disabled)
        case "timerTrigger":
            try:
                schedule = Schedule.parse(resolved("schedule"))
            except ValueError as error:
                raise StartError(f"function {name}: schedule: {error}") from error
            return TimerTrigger(name, argument, schedule, bool(trigger.get("runOnStartup")), disabled)
        case "serviceBusTrigger":
            if trigger.get("topicName"):
                raise StartError(f"function {name}: this host listens to queues, not to topics")
            if str(trigger.get("cardinality") or "one").lower() != "one":
                raise StartError(f"function {name}: this host hands over one message a call (cardinality ONE)")
            setting = str(trigger.get("connection") or "AzureWebJobsServiceBus")
            try:
                connection = _connection(setting, settings)
            except ValueError as error:
                raise StartError(f"function {name}: its connection is wrong: {error}") from error
            return QueueTrigger(
                name,
                argument,
                resolved("queueName"),
                connection,
                bool(trigger.get("isSessionsEnabled")),
                str(trigger.get("dataType") or "").lower() in ("binary", "2"),
                disabled,
            )
        case other:
            raise StartError(f"function {name}: this host does not know the trigger {other}")


def _connection(setting: str, settings: Mapping[str, str]) -> ServiceBusAddress:
    text = settings.get(setting) or settings.get(f"AzureWebJobs{setting}")
    if text:
        return ConnectionString.parse(text)
    if settings.get(f"{setting}__fullyQualifiedNamespace"):
        return IdentityConnection.read(setting, settings)
    raise ValueError(f"the setting {setting} is not there")
