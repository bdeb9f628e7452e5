"""Service protection as published, and a model of how long Dataverse would take for what was asked.

The three limits hold for each user on one web server over a sliding window of 300 s: 6,000 requests, 1,200 s of execution,
52 requests at once. `scale` divides window and limits alike, so that a laptop meets them within seconds.

Execution seconds are modelled, not measured. Sources: a community timing of 1,000 rows of a standard table (single creates
142 s, CreateMultiple 11 s; single updates 149 s, UpdateMultiple 19 s), less an assumed 60 ms of network each for the single
calls; reads are our assumption (10 ms for a row by key, 20 ms for a page and 0.02 ms for each row of it).
"""

import collections
import math
import threading
from dataclasses import asdict, dataclass, field
from typing import Any

from local.dataverse.errors import Fault

WINDOW, REQUESTS, EXECUTION, CONCURRENT = 300.0, 6000, 1200.0, 52
SECONDS = {
    "create": 0.082, "update": 0.089, "upsert": 0.095, "delete": 0.085, "associate": 0.08,
    "create-multiple": 0.011, "update-multiple": 0.019, "upsert-multiple": 0.021,
    "read": 0.01, "list": 0.02, "row-read": 0.00002, "action": 0.02, "metadata": 0.05,
}  # fmt: skip


@dataclass(slots=True)
class Window:
    """One user's last 300 seconds."""

    requests: collections.deque[tuple[float, float]] = field(default_factory=collections.deque)  # (when, seconds)
    spent: float = 0.0
    running: int = 0
    pressure: int = 0  # requests refused since the last one that was let in


@dataclass(slots=True)
class User:
    """What one user has asked for so far."""

    requests: int = 0
    refused: int = 0
    seconds: float = 0.0


class Meter:
    """Counts what is done and enforces the limits. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.batches = 0
        self.change_sets = 0
        self.operations: dict[str, dict[str, int]] = {}
        self.rows_written = 0
        self.statuses: dict[int, int] = {}
        self.execution_seconds = 0.0
        self.enforced = False
        self.scale = 1.0
        self.servers = 1
        self.dop_hint = 8
        self._windows: dict[str, Window] = {}
        self._users: dict[str, User] = {}

    def count(self, kind: str, table: str, rows: int = 1) -> float:
        """Records one operation; answers its modelled seconds."""
        seconds = SECONDS[kind] * (rows if kind.endswith("-multiple") else 1)
        if kind == "list":
            seconds += SECONDS["row-read"] * rows
        with self._lock:
            of_kind = self.operations.setdefault(kind, {})
            of_kind[table] = of_kind.get(table, 0) + (rows if kind.endswith("-multiple") else 1)
            self.execution_seconds += seconds
        return seconds

    def status(self, status: int) -> None:
        with self._lock:
            self.requests += 1
            self.statuses[status] = self.statuses.get(status, 0) + 1

    # --- service protection ---

    def configure(self, changes: dict[str, Any]) -> None:
        """`enforced` (bool), `scale` (>= 1: window and limits divided by it), `servers`, `dop_hint`."""
        for name, value in changes.items():
            if name == "enforced" and isinstance(value, bool):
                self.enforced = value
            elif (
                name in ("scale", "servers", "dop_hint")
                and not isinstance(value, bool)
                and isinstance(value, int | float)
            ):
                if not 1 <= value <= 10_000:
                    raise Fault(400, "", f"The limit setting '{name}' must be between 1 and 10000.")
                setattr(self, name, float(value) if name == "scale" else int(value))
            else:
                raise Fault(400, "", f"There is no limit setting '{str(name)[:40]}', or its value has the wrong type.")
        with self._lock:
            self._windows.clear()

    def enter(self, user: str, now: float) -> None:
        """Lets a request in, or refuses it with 429 and a Retry-After that grows while the caller keeps pushing."""
        if not self.enforced:
            return
        with self._lock:
            window = self._windows.setdefault(user, Window())
            self._forget(window, now)
            limits = self.servers / self.scale
            span = WINDOW / self.scale
            fault: Fault | None = None
            if window.running >= CONCURRENT * self.servers:
                fault = Fault(429, "0x80072326", f"Number of concurrent requests exceeded the limit of {CONCURRENT}.")
                wait = 1.0
            elif len(window.requests) >= REQUESTS * limits:
                fault = Fault(429, "0x80072322", f"Number of requests exceeded the limit of {REQUESTS} over time window of "
                                                 "300 seconds.")  # fmt: skip
                wait = window.requests[0][0] + span - now
            elif window.spent >= EXECUTION * limits:
                fault = Fault(429, "0x80072321", "Combined execution time of incoming requests exceeded limit of "
                                                 "1,200,000 milliseconds over time window of 300 seconds. Decrease number "
                                                 "of concurrent requests or reduce the duration of requests and try "
                                                 "again later.")  # fmt: skip
                wait = window.requests[0][0] + span - now if window.requests else 1.0
            if fault is not None:
                window.pressure += 1
                self._users.setdefault(user, User()).refused += 1
                fault.retry_after = max(1, math.ceil(wait) + min(window.pressure // 5, 60))
                raise fault
            window.pressure = 0
            window.running += 1

    def leave(self, user: str, now: float, seconds: float) -> dict[str, str]:
        """Ends a request; answers the headers that tell what is left."""
        with self._lock:
            of_user = self._users.setdefault(user, User())
            of_user.requests += 1
            of_user.seconds += seconds
            if not self.enforced:
                return {}
            window = self._windows.setdefault(user, Window())
            window.running = max(0, window.running - 1)
            window.requests.append((now, seconds))
            window.spent += seconds
            self._forget(window, now)
            limits = self.servers / self.scale
            left = max(0, int(REQUESTS * limits) - len(window.requests))
            time_left = max(0.0, EXECUTION * limits - window.spent)
        return {
            "x-ms-ratelimit-burst-remaining-xrm-requests": str(left),
            "x-ms-ratelimit-time-remaining-xrm-requests": f"{time_left:.2f}",
        }

    def _forget(self, window: Window, now: float) -> None:
        oldest = now - WINDOW / self.scale
        while window.requests and window.requests[0][0] < oldest:
            window.spent -= window.requests.popleft()[1]

    def counters(self) -> dict[str, Any]:
        with self._lock:
            return {
                "requests": self.requests,
                "batches": self.batches,
                "change_sets": self.change_sets,
                "operations": {kind: dict(tables) for kind, tables in self.operations.items()},
                "rows_written": self.rows_written,
                "statuses": {str(status): count for status, count in self.statuses.items()},
                "modelled_execution_seconds": round(self.execution_seconds, 3),
                "users": {name: asdict(user) for name, user in self._users.items()},
            }

    def reset(self) -> None:
        with self._lock:
            self.requests = self.batches = self.change_sets = self.rows_written = 0
            self.operations, self.statuses, self.execution_seconds, self._users = {}, {}, 0.0, {}
