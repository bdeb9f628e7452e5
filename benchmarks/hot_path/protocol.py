"""What a measured process tells the driver, one line each on its output."""

import json
import re
import time
from datetime import datetime

from connector.bus import Change

_DONE = re.compile(r"done (\S+) (\d+\.\d+)")
_SETTLED = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) INFO loyalty\.changes: (\{.*\})")


def done(change: Change) -> None:
    """Says that a change is durable."""
    print(f"done {change.id} {time.time():.6f}\n", end="", flush=True)


def durable(line: str) -> tuple[str, float] | None:
    """The change that a line says is durable, and since when (seconds since 1970). Our app's log says it as JSON."""
    if found := _DONE.match(line):
        return found[1], float(found[2])
    if found := _SETTLED.match(line):
        at = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").astimezone()
        change = json.loads(found[2]).get("change")
        return (change, at.timestamp()) if change else None
    return None
