"""The adaptive rule of group commit: how often a request leaves, how much it carries, how many are under way at once.

*How often.* A unit that has Dataverse to itself leaves at once. Otherwise requests spend tokens, which come at ``rate`` in the
long run, and a third faster while there is something saved up; without a token a batch waits for one, at most ``1 / rate``
seconds, and grows meanwhile. A full batch does not wait.

*How much.* As many operations as took ``TARGET`` seconds lately, within a lower and an upper bound: an environment with slow
plug-ins gets small batches, which neither run into time-outs nor let a redemption wait behind fifty others.

*How many at once.* As many as Dataverse recommends (``x-ms-dop-hint``), half as many after each refusal for load, and slowly
more again: additive increase, multiplicative decrease, as in TCP. That is in ``Pressure``, which every call passes.
"""

from __future__ import annotations

from collections.abc import Callable

# Requests a second: three quarters of the 6,000 in 300 s that Dataverse grants a user on each of its web servers. The rest is
# for calls that do not come this way: pages of a sweep or an audit, mass jobs.
RATE = 15.0
SAVED = 20.0  # seconds' worth of requests that a quiet time saves up: with them at most 4,800 in 300 s
PEAK = 4 / 3  # of the rate, as long as there is something saved up
BURST = 1.0  # seconds' worth of requests that may be sent at once after a quiet time
TARGET = 1.0  # seconds that a batch should take
LEAST = 10  # operations: one change, whatever it takes
_WEIGHT = 0.3  # of the newest observation


class Bucket:
    """Tokens that come at ``rate`` a second, until there are so many ``seconds``' worth of them."""

    def __init__(self, rate: float, seconds: float, now: float) -> None:
        self._rate = rate
        self._depth = max(1.0, rate * seconds)
        self._tokens, self._filled_at = self._depth, now

    def pause(self, now: float) -> float:
        """Seconds until there is a token; 0 if there is one."""
        self._tokens = min(self._depth, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return max(0.0, 1 - self._tokens) / self._rate

    def take(self, now: float) -> None:
        """A token, if there is one."""
        self.pause(now)
        self._tokens = max(0.0, self._tokens - 1)


class Pace:
    """Not thread-safe: the caller holds its lock. ``clock`` is in seconds, ``most`` is the upper bound of operations."""

    def __init__(self, clock: Callable[[], float], rate: float, most: int) -> None:
        if rate <= 0:
            raise ValueError(f"rate: {rate} is not more than 0")
        self._clock = clock
        self._most = most
        self._buckets = Bucket(rate, SAVED, clock()), Bucket(rate * PEAK, BURST, clock())
        # Nothing is known yet: begin small. A batch that goes well makes the next one larger.
        self._seconds = TARGET / LEAST

    @property
    def room(self) -> int:
        """Operations that a batch should hold now; a single unit may be larger."""
        return min(self._most, max(LEAST, int(TARGET / self._seconds)))

    def pause(self) -> float:
        """Seconds until there is a token; 0 if there is one."""
        now = self._clock()
        return max(bucket.pause(now) for bucket in self._buckets)

    def departed(self) -> None:
        """A request leaves and takes a token, if there is one."""
        now = self._clock()
        for bucket in self._buckets:
            bucket.take(now)

    def arrived(self, operations: int, seconds: float, *, answered: bool = True) -> None:
        """What became of a request with so many operations, and when. Without an answer it teaches only if it took long.

        The network's share makes short batches look slow; so they grow.
        """
        if answered or seconds > TARGET:
            self._seconds += _WEIGHT * (seconds / operations - self._seconds)
