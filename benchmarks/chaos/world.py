"""Virtual time: tasks that take turns in one thread, so that a seed gives one history however fast the machine is.

A task runs until it waits: for time, for an event, for a condition. Nothing else happens meanwhile. `Threads` offers what the
connector uses of `threading` on these terms.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


class Task:
    """Something that runs in turns. `owner` is whose it is: a simulated process, or nobody."""

    def __init__(self, world: "World", work: Callable[[], None], owner: Any) -> None:
        self.owner = owner
        self.failure: BaseException | None = None
        self._world = world
        self._turn = 0  # a wake-up for an earlier wait is void
        self._dying = False
        self._greenlet = greenlet(lambda: self._run(work), parent=world.hub)

    @property
    def done(self) -> bool:
        return bool(self._greenlet.dead)

    def kill(self) -> None:
        """Ends it where it waits, as a process that is killed ends. Not from within itself."""
        if not self.done:
            self._turn += 1
            self._dying = True
            before, self._world.current = self._world.current, self
            self._greenlet.parent = getcurrent()
            self._greenlet.throw(GreenletExit)
            self._world.current = before

    def wake(self, turn: int) -> None:
        if turn == self._turn and not self.done:
            self._turn += 1
            self._world.current = self
            self._greenlet.switch()
            self._world.current = None

    def wait(self, arrange: Callable[[Callable[[], None]], None]) -> None:
        """Stop until `arrange`d: it is given what wakes this task up at this point, and only here."""
        if self._dying:
            raise GreenletExit
        turn = self._turn
        arrange(lambda: self.wake(turn))
        self._world.hub.switch()
        self._world.current = self

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except GreenletExit:
            pass
        except BaseException as error:
            self.failure = error
            self._world.failures.append(error)


class World:
    """`agendas` are other lists of things to do in time: the broker's."""

    def __init__(self, start: datetime, seed: str) -> None:
        self.random = random.Random(seed)
        self.hub = getcurrent()
        self.current: Task | None = None
        self.failures: list[BaseException] = []
        self.turns = 0
        self.leaps: list[tuple[datetime, datetime]] = []
        self.next_due: Callable[[], datetime | None] = lambda: None
        self.run_due: Callable[[datetime], None] = lambda now: None
        self._now = start
        self._heap: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - EPOCH).total_seconds()

    def at(self, when: datetime, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(when, self._now), next(self._numbers), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        # A rest of a float's rounding would be no time at all, and whoever waits for its end would wait for ever.
        self.at(self._now + max(timedelta(seconds=seconds), _TICK if seconds > 0 else timedelta()), action)

    def spawn(self, work: Callable[[], None], owner: Any = None) -> Task:
        task = Task(self, work, owner)
        turn = task._turn
        self.at(self._now, lambda: task.wake(turn))
        return task

    def sleep(self, seconds: float) -> None:
        """In a task; whoever is none, a person who looks at the end, does not wait."""
        if self.current is not None:
            self.current.wait(lambda wake: self.after(seconds, wake))

    def run(self, until: datetime) -> None:
        """Let everything happen up to a moment. A task that failed unexpectedly fails the run."""
        while True:
            due = self._heap[0][0] if self._heap else None
            other = self.next_due()
            if other is not None and (due is None or other <= due):
                if other > until:
                    break
                self._now = max(self._now, other)
                self.run_due(self._now)
            elif due is not None and due <= until:
                self._now, _, action = heapq.heappop(self._heap)
                self.turns += 1
                action()
            else:
                break
            if self.failures:
                raise self.failures[0]
        self._now = max(self._now, until)

    def leap(self, to: datetime) -> None:
        """Time in which nobody did anything: what was due in it is due at its end."""
        heap = [(max(when, to), number, action) for when, number, action in self._heap]
        heapq.heapify(heap)
        self.leaps.append((self._now, to))
        self._heap, self._now = heap, to


class Event:
    def __init__(self, world: World) -> None:
        self._world = world
        self._set = False
        self._waiting: list[Callable[[], None]] = []

    def set(self) -> None:
        self._set = True
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            self._world.after(0, wake)

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        task = self._world.current
        if not self._set and task is not None:

            def arrange(wake: Callable[[], None]) -> None:
                self._waiting.append(wake)
                if timeout is not None:
                    self._world.after(timeout, wake)

            task.wait(arrange)
        return self._set


class Lock:
    def __init__(self, world: World) -> None:
        self._world = world
        self._held = False
        self._waiting: deque[Callable[[], None]] = deque()

    def acquire(self) -> bool:
        while self._held:
            task = self._world.current
            assert task is not None, "only a task can wait for a lock"
            task.wait(self._waiting.append)
        self._held = True
        return True

    def release(self) -> None:
        self._held = False
        while self._waiting:  # a waiter that was killed meanwhile ignores it: wake all
            self._world.after(0, self._waiting.popleft())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class Condition:
    def __init__(self, world: World, lock: Lock | None = None) -> None:
        self._world = world
        self._lock = lock or Lock(world)
        self._waiting: list[Callable[[], None]] = []

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()

    def notify_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            self._world.after(0, wake)

    notify = notify_all  # whoever is woken for nothing looks and waits again

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        until = None if timeout is None else self._world.monotonic() + timeout
        while not predicate():
            left = None if until is None else until - self._world.monotonic()
            task = self._world.current
            if task is None or (left is not None and left <= 0):
                return False
            self._lock.release()
            task.wait(lambda wake, left=left: self._arrange(wake, left))  # type: ignore[misc]
            self._lock.acquire()
        return True

    def _arrange(self, wake: Callable[[], None], left: float | None) -> None:
        self._waiting.append(wake)
        if left is not None:
            self._world.after(left, wake)


class Threads:
    """Takes the place of the module `threading` where the connector's threads meet."""

    def __init__(self, world: World) -> None:
        self._world = world

    def Lock(self) -> Lock:
        return Lock(self._world)

    def Event(self) -> Event:
        return Event(self._world)

    def Condition(self, lock: Any = None) -> Any:
        return Condition(self._world, lock)


class Timepiece:
    """Takes the place of the module `time`."""

    def __init__(self, world: World) -> None:
        self.sleep = world.sleep
        self.monotonic = world.monotonic
        self.time = world.monotonic


class Future:
    """What `concurrent.futures.Future` is to those who wait for it."""

    def __init__(self, world: World, work: Callable[[], Any]) -> None:
        self._work = work
        self._value: Any = None
        self._error: BaseException | None = None
        self.finished = Event(world)

    def run(self) -> None:
        try:
            self._value = self._work()
        except Exception as error:
            self._error = error
        self.finished.set()

    def done(self) -> bool:
        return self.finished.is_set()

    def exception(self) -> BaseException | None:
        self.finished.wait()
        return self._error

    def result(self) -> Any:
        if error := self.exception():
            raise error
        return self._value


class Pool:
    """Takes the place of a pool of threads: so many tasks of the process that made it. Outside all processes, in turn."""

    def __init__(self, world: World, size: int = 4, **_: Any) -> None:
        self._world = world
        self._owner: Any = world.current.owner if world.current else None
        self._free = size
        self._futures: list[Future] = []
        self._waiting: deque[Future] = deque()

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future:
        future = Future(self._world, lambda: work(*arguments))
        if self._owner is None:
            future.run()
            return future
        self._futures.append(future)
        self._waiting.append(future)
        self._start()
        return future

    def map(self, work: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        futures = [self.submit(work, item) for item in items]
        return (future.result() for future in futures)

    def _start(self) -> None:
        if self._free and self._waiting:
            self._free -= 1
            self._owner.spawn(self._drain)

    def _drain(self) -> None:
        while self._waiting:
            self._waiting.popleft().run()
        self._free += 1

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind not in (GreenletExit, GeneratorExit):  # who is killed waits for nobody
            for future in self._futures:
                future.finished.wait()


def first_of(
    world: World, futures: Iterable[Future], timeout: float | None = None, return_when: str = ""
) -> tuple[set[Future], set[Future]]:
    """Takes the place of `concurrent.futures.wait` until the first is done."""
    waiting = list(futures)
    end = None if timeout is None else world.monotonic() + timeout
    while waiting and not any(future.done() for future in waiting) and (end is None or world.monotonic() < end):
        world.sleep(0.05)
    return {f for f in waiting if f.done()}, {f for f in waiting if not f.done()}
