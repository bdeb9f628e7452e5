"""How fast a run may go: within what Dataverse grants, and behind people who redeem.

Service protection counts requests and execution seconds of each application user over a sliding window and tells in each answer
what is left. We keep a reserve of it and spend the rest as fast as it comes back, so that a refusal (429) is rare; when there
is one, the client pauses for everybody. When redemptions take longer than usual, fewer calls run at once.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from connector.dataverse import DataverseClient
from connector.mass.allowance import Allowance

WINDOW = 300.0  # seconds
_GRANTED = {"requests": 6000.0, "seconds": 1200.0}  # in a window, on each web server
_NARROWEST = 0.25
CALL = 1000  # rows in a bulk call at most
_FEWEST = 20


class Pace:
    """Shared by the lanes of one application user. `lanes` is the most calls at once; `window` is shorter for scaled limits."""

    def __init__(
        self,
        client: DataverseClient,
        lanes: int,
        *,
        window: float = WINDOW,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._lanes = lanes
        self._window = window
        self._clock = clock
        self._sleep = sleep
        self._changed = threading.Condition()
        self._running = 0  # calls, with those that wait for what they cost
        self._out = 0  # without them
        self._width = float(lanes)
        self._rows = float(CALL)
        self._allowances: dict[str, Allowance] = {}
        self._throttled = 0.0

    @property
    def width(self) -> float:
        """Calls at once, as redemptions and the service allow; below 1, one call with a pause after it."""
        return min(self._width, float(self._client.parallelism or self._lanes))

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around a bulk call: waits until it may begin."""
        began = self._clock()
        with self._changed:
            self._changed.wait_for(lambda: self._running < max(1.0, self.width))
            self._running += 1
        try:
            while (pause := self._spend()) > 0:
                self._sleep(pause)
            started = self._clock()
            with self._changed:
                self._throttled += started - began
            try:
                yield
            finally:
                self._ended()
            with self._changed:
                self._rows = min(float(CALL), self._rows * 1.05 + 1)
            if self._width < 1:
                self._sleep((self._clock() - started) * (1 / self._width - 1))
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify()

    def held_back(self) -> float:
        """Seconds that calls were held back since this was asked last."""
        with self._changed:
            seconds, self._throttled = self._throttled, 0.0
        return seconds

    @property
    def rows(self) -> int:
        """Rows that a bulk call may have now."""
        return int(self._rows)

    def smaller(self) -> None:
        """A bulk call was too large: more than Dataverse takes, or than it finished in its time."""
        with self._changed:
            self._rows = max(float(_FEWEST), self._rows / 2)

    def narrow(self) -> None:
        """Redemptions suffer."""
        with self._changed:
            self._width = max(_NARROWEST, self._width / 2)

    def widen(self) -> None:
        """Redemptions are as quick as ever."""
        with self._changed:
            self._width = min(float(self._lanes), self._width * 1.25)
            self._changed.notify_all()

    def _spend(self) -> float:
        """Begin a call; or the seconds until what it costs may have come back."""
        now = self._clock()
        with self._changed:
            for name, left in self._client.budget.items():
                if name not in self._allowances:
                    granted = _GRANTED[name] * self._window / WINDOW
                    self._allowances[name] = Allowance(self._window, granted, left, now)
            pause = max((allowance.wait(now, self._out) for allowance in self._allowances.values()), default=0.0)
            if not pause:
                self._out += 1
        return pause

    def _ended(self) -> None:
        now = self._clock()
        with self._changed:
            self._out -= 1
            for name, allowance in self._allowances.items():
                allowance.ended(self._client.budget[name], now)
