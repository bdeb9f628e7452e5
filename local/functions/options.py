"""host.json and the app settings that override it (`AzureFunctionsJobHost__section__option`)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from local.functions.errors import StartError

_OVERRIDE = "AzureFunctionsJobHost__"
_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,7}))?)?")


@dataclass(frozen=True)
class HostOptions:
    """What this host reads; the names in comments are host.json's. Times in seconds."""

    function_timeout: float | None = 1800.0  # functionTimeout; "-1" is None: unbounded
    route_prefix: str = "api"  # extensions.http.routePrefix
    max_auto_lock_renewal: float = 300.0  # extensions.serviceBus.maxAutoLockRenewalDuration
    max_concurrent_calls: int = 16  # .maxConcurrentCalls (for each core)
    max_concurrent_sessions: int = 8  # .maxConcurrentSessions
    session_idle_timeout: float = 60.0  # .sessionIdleTimeout; the client's try time-out if unset
    log_level: str = "Information"  # logging.logLevel.default


_SERVICE_BUS = {  # name in host.json, lower case -> field, kind
    "maxautolockrenewalduration": ("max_auto_lock_renewal", "span"),
    "maxconcurrentcalls": ("max_concurrent_calls", "count"),
    "maxconcurrentsessions": ("max_concurrent_sessions", "count"),
    "sessionidletimeout": ("session_idle_timeout", "span"),
}
_FIXED = {"autocompletemessages": True, "maxconcurrentcallspersession": 1, "prefetchcount": 0}


def read_options(app: Path, environment: Mapping[str, str], cores: int) -> HostOptions:
    """The options in force. StartError names the option that the host would refuse or that this one cannot honour."""
    file = app / "host.json"
    try:
        document = json.loads(file.read_text()) if file.exists() else {"version": "2.0"}
    except ValueError as error:
        raise StartError(f"host.json is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != "2.0":
        raise StartError('host.json: version must be "2.0"')
    bundle = document.get("extensionBundle")
    if bundle is not None and not (
        isinstance(bundle, dict) and bundle.get("id") and re.match(r"[\[(]?\s*\d", str(bundle.get("version", "")))
    ):
        raise StartError("host.json: extensionBundle needs an id and a version range")
    settings = _flat(document)
    for setting, text in environment.items():
        if setting.lower().startswith(_OVERRIDE.lower()):
            settings[setting[len(_OVERRIDE) :].replace("__", ".").lower()] = text

    chosen: dict[str, Any] = {"max_concurrent_calls": 16 * cores}
    timeout = settings.get("functiontimeout")
    if timeout is not None:
        chosen["function_timeout"] = None if str(timeout) == "-1" else _span("functionTimeout", timeout)
    if "extensions.http.routeprefix" in settings:
        chosen["route_prefix"] = str(settings["extensions.http.routeprefix"]).strip("/")
    if "logging.loglevel.default" in settings:
        chosen["log_level"] = str(settings["logging.loglevel.default"])
    for name, (field, kind) in _SERVICE_BUS.items():
        value = settings.get(f"extensions.servicebus.{name}")
        if value is not None:
            option = f"extensions.serviceBus.{name}"
            chosen[field] = _span(option, value) if kind == "span" else _count(option, value)
    for name, only in _FIXED.items():
        value = settings.get(f"extensions.servicebus.{name}", only)
        if str(value).lower() != str(only).lower():
            raise StartError(f"extensions.serviceBus.{name}: this host only does {only}, not {value}")
    assert chosen.keys() <= {field.name for field in fields(HostOptions)}
    return HostOptions(**chosen)


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as dotted lower-case keys: .NET configuration does not distinguish case."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{prefix}{key}".lower()
        if isinstance(value, dict):
            found |= _flat(value, name + ".")
        else:
            found[name] = value
    return found


def _span(name: str, value: object) -> float:
    match = _SPAN.fullmatch(str(value))
    if not match:
        raise StartError(f"{name}: {value!r} is not a time span such as 00:05:00")
    days, hours, minutes, seconds, fraction = match.groups()
    if int(hours) > 23 or int(minutes) > 59 or int(seconds or 0) > 59:
        raise StartError(f"{name}: {value!r} is out of range")
    whole = int(days or 0) * 86_400 + int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)
    return whole + (int(fraction) / 10 ** len(fraction) if fraction else 0)


def _count(name: str, value: object) -> int:
    text = str(value)
    if not text.isdigit() or int(text) < 1:
        raise StartError(f"{name}: {value!r} is not a whole number of at least 1")
    return int(text)
