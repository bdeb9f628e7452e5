"""Runs functions and keeps count: what `/admin/counters` shows."""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.functions.values import TypedData
from local.functions.worker import InvocationError, Worker

log = logging.getLogger(__name__)

_REMEMBERED = 2000  # durations of a function, for its percentiles


@dataclass
class Figures:
    """Of one function since the host started; durations in seconds."""

    succeeded: int = 0
    failed: int = 0
    running: int = 0
    seconds: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    events: Counter[str] = field(default_factory=Counter)  # sessions accepted, messages completed, ...

    def summary(self) -> dict[str, Any]:
        ordered = sorted(self.recent) or [0.0]
        return {
            "invocations": self.succeeded + self.failed + self.running,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "running": self.running,
            "seconds_total": round(self.seconds, 6),
            "seconds_median": round(ordered[len(ordered) // 2], 6),
            "seconds_p95": round(ordered[int(len(ordered) * 0.95)], 6),
            **self.events,
        }


class Invocations:
    """`timeout` in seconds or None. A function past it cannot be cancelled: `timed_out` is set, for the host to end."""

    def __init__(self, worker: Worker, timeout: float | None) -> None:
        self._worker, self._timeout = worker, timeout
        self.figures: dict[str, Figures] = {name: Figures() for name in worker.bindings}
        self.timed_out = asyncio.Event()

    async def run(
        self, name: str, inputs: Mapping[str, TypedData], metadata: Mapping[str, TypedData] | None = None
    ) -> TypedData | None:
        """The function's return value; InvocationError if it raised (already logged)."""
        figures, began = self.figures[name], time.perf_counter()
        overdue = self._timeout and asyncio.get_running_loop().call_later(self._timeout, self._overdue, name)
        figures.running += 1
        try:
            answer = await self._worker.invoke(name, inputs, metadata or {})
            figures.succeeded += 1
            return answer
        except InvocationError as error:
            figures.failed += 1
            log.error("function %s failed: %s\n%s", name, error.message, error.stack)
            raise
        finally:
            if overdue:
                overdue.cancel()
            took = time.perf_counter() - began
            figures.running -= 1
            figures.seconds += took
            figures.recent.append(took)

    @property
    def running(self) -> int:
        return sum(figures.running for figures in self.figures.values())

    def _overdue(self, name: str) -> None:
        log.error("function %s ran longer than functionTimeout (%s s): the worker must restart", name, self._timeout)
        self.timed_out.set()
