"""What is to happen when: the one place of the model that waits for time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from datetime import datetime

_COMPACT_ABOVE = 1_024

type Clock = Callable[[], datetime]
"""The current time, aware, in UTC."""


class Appointment:
    __slots__ = ("_agenda", "action")

    def __init__(self, agenda: Agenda, action: Callable[[], None]) -> None:
        self._agenda = agenda
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        if self.action is not None:
            self.action = None
            self._agenda.cancelled()


class Agenda:
    """Actions in the order of their times. Cancelled ones stay in the heap until they are most of it."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, int, Appointment]] = []
        self._numbers = itertools.count()
        self._cancelled = 0

    def at(self, when: datetime, action: Callable[[], None]) -> Appointment:
        appointment = Appointment(self, action)
        heapq.heappush(self._heap, (when, next(self._numbers), appointment))
        return appointment

    def next_due(self) -> datetime | None:
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def run_due(self, now: datetime) -> None:
        """Do everything due by `now`, earliest first, including what those actions add."""
        while (due := self.next_due()) is not None and due <= now:
            appointment = heapq.heappop(self._heap)[2]
            action, appointment.action = appointment.action, None
            assert action is not None
            action()

    def cancelled(self) -> None:
        self._cancelled += 1
        if self._cancelled > _COMPACT_ABOVE and 2 * self._cancelled > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0
