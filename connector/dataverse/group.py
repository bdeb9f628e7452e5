"""Group commit: threads that want something of Dataverse at the same time share one ``$batch`` request.

A unit is what one caller wants to succeed or fail by itself: some GETs, or one change set. The caller whose unit is
first in the queue when a slot is free becomes the leader: it takes along what else is waiting, sends the request in its
own thread and hands everybody their replies. Nobody dispatches in the background, so nothing is left to stop.

Batches grow by themselves with the load: a unit that has Dataverse to itself leaves at once, those that arrive while requests are
under way leave together. How many, how often, and how many at once is decided by ``pace``.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from . import batch
from .errors import BadRequest, DataverseError, OutcomeUnknown, Transient
from .odata import Part, Response
from .pace import RATE, Pace
from .transport import API, Pressure, operation

MAX_BYTES = 4 * 1024 * 1024


class Send(Protocol):
    def __call__(self, part: Part, *, timeout: float) -> Response: ...


class Unit:
    """``parts`` are GETs, each an operation on its own, or (``atomic``) the writes of one change set."""

    __slots__ = ("atomic", "parts", "size")

    def __init__(self, parts: Sequence[Part], *, atomic: bool) -> None:
        if not parts:
            raise ValueError("a unit needs at least one operation")
        if len(parts) > batch.MAX_OPERATIONS:
            raise ValueError(f"{len(parts)} operations do not fit in one batch ({batch.MAX_OPERATIONS})")
        self.parts = tuple(parts)
        self.atomic = atomic
        self.size = sum(len(part.path) + len(part.body or "") + 200 for part in parts)

    def outcome(self, replies: Sequence[batch.Reply], writes_before: int) -> list[Response] | DataverseError:
        """What the replies to this unit's items mean for it; ``writes_before`` it in the batch shifted Content-IDs."""
        if len(replies) < (1 if self.atomic else len(self.parts)):
            return self.unanswered("the answer to the batch ended early")
        if self.atomic:
            (reply,) = replies
            return [_shifted(answer, writes_before) for answer in ([reply] if isinstance(reply, Response) else reply)]
        answers = [reply for reply in replies if isinstance(reply, Response)]
        return answers if len(answers) == len(replies) else self.unanswered("a read was answered like a change set")

    def unanswered(self, why: str) -> Transient:
        kind = OutcomeUnknown if self.atomic else Transient
        return kind(why, operation=operation(self.parts[0]))

    def failed(self, error: DataverseError) -> DataverseError:
        """The error of the whole request as this unit's own."""
        if isinstance(error, OutcomeUnknown) and not self.atomic:
            details = {"status": error.status, "code": error.code, "request_id": error.request_id}
            return Transient(error.message, retry_after=error.retry_after, repeats=error.repeats, **details)
        return error.fresh()


class _Rider:
    """A unit on its way. ``called`` is set when it shall lead or when it has its outcome."""

    __slots__ = ("called", "deadline", "leads", "outcome", "unit", "waits")

    def __init__(self, unit: Unit, deadline: float) -> None:
        self.unit = unit
        self.deadline = deadline
        self.called = threading.Event()
        self.waits = True
        self.leads = False
        self.outcome: list[Response] | DataverseError | None = None


class GroupCommit:
    """``submit`` from any number of threads.

    ``slots`` bounds requests at once, ``rate`` those a second, ``max_operations`` what a batch holds; within these bounds
    ``pace`` adapts. A unit is never split. ``timeout`` is in seconds, for each wait on the socket.
    ``departed`` is told the number of operations and of units of each batch.
    """

    def __init__(
        self,
        send: Send,
        pressure: Pressure,
        *,
        clock: Callable[[], float],
        slots: int = 8,
        max_operations: int = 100,
        rate: float = RATE,
        timeout: float = 20.0,
        departed: Callable[[int, int], None] = lambda operations, units: None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots: {slots} is less than 1")
        if not 1 <= max_operations <= batch.MAX_OPERATIONS:
            raise ValueError(f"max_operations: {max_operations} is not between 1 and {batch.MAX_OPERATIONS}")
        self._send = send
        self._pressure = pressure
        self._clock = clock
        self._slots = slots
        self._pace = Pace(clock, rate, max_operations)
        self._timeout = timeout
        self._departed = departed
        self._lock = threading.Lock()
        self._queue: deque[_Rider] = deque()
        self._changed = threading.Condition(self._lock)  # arrivals and landings
        self._boarding = False
        self._taken = 0  # slots
        self._closed = False

    def submit(self, unit: Unit, deadline: float) -> list[Response]:
        """Block until the unit has its answers: one for each GET; for a change set one for each write, or the failing one.

        Content-IDs in them count from 1. ``deadline`` is a time of ``clock`` until which the unit may wait for its
        departure. Raises ``DataverseError`` if the request failed as a whole; a single operation's error is an answer.
        """
        rider = _Rider(unit, deadline)
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            self._queue.append(rider)
            if self._boarding:
                self._changed.notify_all()
            else:
                self._appoint()
        if not rider.called.wait(max(0.0, deadline - self._clock())):
            self._give_up(rider)
            rider.called.wait()
        if rider.leads:
            self._lead(rider)
        if isinstance(rider.outcome, list):
            return rider.outcome
        raise rider.outcome or unit.unanswered("the request was abandoned")

    @property
    def waiting(self) -> int:
        """Units that have not departed yet, those of leaders aside."""
        return len(self._queue)

    def close(self) -> None:
        """Refuse new units and return when those on their way have arrived."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._taken and not self._queue)

    def _appoint(self) -> None:
        """Let the first in the queue lead, if a slot is free. Call with the lock held, after anything that may free one.

        One batch boards at a time: it takes along all that fits, so a second one would only share out the passengers.
        """
        slots = min(self._slots, self._pressure.parallelism)
        if self._queue and not self._boarding and self._taken < slots:
            self._taken += 1
            self._boarding = True
            leader = self._queue.popleft()
            leader.waits = False
            leader.leads = True
            leader.called.set()

    def _give_up(self, rider: _Rider) -> None:
        with self._lock:
            if rider.waits:
                self._queue.remove(rider)
                self._changed.notify_all()
                raise Transient("no request to Dataverse was free in time", operation=operation(rider.unit.parts[0]))

    def _lead(self, leader: _Rider) -> None:
        riders = [leader]
        try:
            self._board(riders)
            try:
                self._ride(riders)
            except BadRequest:
                self._ride_apart(riders)
        except DataverseError as error:
            for rider in riders:
                rider.outcome = rider.unit.failed(error)
        finally:
            with self._lock:
                self._taken -= 1
                self._appoint()
                self._changed.notify_all()
            for rider in riders[1:]:
                rider.called.set()

    def _board(self, riders: list[_Rider]) -> None:
        """Wait out a pause that the service asked for, then take along, in order, what is there and fits."""
        try:
            self._pressure.wait(riders[0].deadline)
            with self._lock:
                self._tarry(riders[0])
                operations, size, room = len(riders[0].unit.parts), riders[0].unit.size, self._pace.room
                while self._queue:
                    unit = self._queue[0].unit
                    operations += len(unit.parts)
                    size += unit.size
                    if operations > room or size > MAX_BYTES:
                        break
                    rider = self._queue.popleft()
                    rider.waits = False
                    riders.append(rider)
        finally:
            with self._lock:
                self._boarding = False
                self._appoint()

    def _tarry(self, leader: _Rider) -> None:
        """Wait for a token, unless alone or full. Call with the lock held."""
        if pause := self._pace.pause():
            self._changed.wait_for(lambda: self._alone() or self._full(leader), pause)
        self._pace.departed()

    def _alone(self) -> bool:
        return self._taken == 1 and not self._queue

    def _full(self, leader: _Rider) -> bool:
        return len(leader.unit.parts) + sum(len(r.unit.parts) for r in self._queue) >= self._pace.room

    def _ride(self, riders: list[_Rider]) -> None:
        places: dict[Part, int] = {}  # a GET that several want is sent once
        items: list[batch.Item] = []
        seats: list[list[int]] = []
        for rider in riders:
            if rider.unit.atomic:
                seats.append([len(items)])
                items.append(rider.unit.parts)
                continue
            for part in rider.unit.parts:
                if part not in places:
                    places[part] = len(items)
                    items.append(part)
            seats.append([places[part] for part in rider.unit.parts])
        operations = sum(1 if isinstance(item, Part) else len(item) for item in items)
        self._departed(operations, len(riders))
        began, answered = self._clock(), False
        try:
            replies = self._exchange(items, max(rider.deadline for rider in riders))
            answered = True
        finally:
            with self._lock:
                self._pace.arrived(operations, self._clock() - began, answered=answered)
        writes_before = 0
        for rider, seat in zip(riders, seats, strict=True):
            mine = replies[seat[0] :][:1] if rider.unit.atomic else [replies[i] for i in seat if i < len(replies)]
            rider.outcome = rider.unit.outcome(mine, writes_before)
            writes_before += len(rider.unit.parts) if rider.unit.atomic else 0

    def _ride_apart(self, riders: list[_Rider]) -> None:
        """Dataverse could not read the batch: find whose fault it is, so that nobody suffers for a neighbour."""
        for rider in riders:
            try:
                self._ride([rider])
            except DataverseError as error:
                rider.outcome = rider.unit.failed(error)

    def _exchange(self, items: Sequence[batch.Item], deadline: float) -> list[batch.Reply]:
        boundary = f"batch_{secrets.token_hex(8)}"
        headers = (("Content-Type", batch.content_type(boundary)), ("Prefer", "odata.continue-on-error"))
        body = batch.build(items, API, boundary)
        timeout = max(1.0, min(self._timeout, deadline - self._clock()))
        answer = self._send(Part("POST", "$batch", headers, body), timeout=timeout)
        try:
            replies = batch.parse(answer.headers.get("content-type", ""), answer.body)
        except batch.MalformedBatch as error:
            raise OutcomeUnknown(f"the answer to a batch is unreadable: {error}", status=answer.status) from None
        if len(replies) > len(items):
            raise OutcomeUnknown("the answer to a batch has more parts than the batch", status=answer.status)
        return replies


def _shifted(answer: Response, by: int) -> Response:
    content_id = answer.headers.get("content-id", "")
    if not by or not content_id.isdecimal():
        return answer
    return answer._replace(headers={**answer.headers, "content-id": str(int(content_id) - by)})
