"""What a limit over a sliding window leaves: by what its headers tell, and by when what was spent comes back.

A sliding window does not refill evenly. What was spent in a burst comes back in one, a window later.
"""

from collections import deque

_RESERVE = 0.08  # of what is granted, left for everything else that this application user does
_SMOOTH = 0.3
_PARTS = 10
_SOON = 0.005  # seconds


class Allowance:
    """One limit (requests, or seconds of execution) of one application user. `window` in seconds, `granted` in one window.

    What was spent before we came is taken to have been spent evenly. Of several web servers that answer in turn, each tells only
    its own rest: then less is spent than all of them grant.
    """

    def __init__(self, window: float, granted: float, left: float, now: float) -> None:
        self._window = window
        self._granted = max(granted, left)
        self._left = left
        part = (self._granted - left) / _PARTS
        self._spent = deque((now - window * (1 - n / _PARTS), part) for n in range(1, _PARTS + 1))  # when, how much
        self._cost = 0.0
        self._unread = 0  # calls that have ended since the header fell

    def wait(self, now: float, running: int) -> float:
        """Seconds until one more call may begin beside those that run, of which no header knows yet; 0 if now."""
        self._slide(now)
        missing = self._granted * _RESERVE + self._cost * (running + 1) - self._left
        if missing <= 0 or not self._spent:
            return 0.0
        for when, amount in self._spent:
            missing -= amount
            if missing <= 0:
                return max(_SOON, min(when + self._window - now, self._window / _PARTS))
        return self._window / _PARTS

    def ended(self, told: float, now: float) -> None:
        """A call has ended; `told` is what is left by the header that came last."""
        self._slide(now)
        self._unread += 1
        spent, self._left = self._left - told, told
        self._granted = max(self._granted, told)
        if spent > 0:
            self._spent.append((now, spent))
            cost, self._unread = spent / self._unread, 0
            self._cost += (cost - self._cost) * (_SMOOTH if self._cost else 1)
        while spent < 0 and self._spent:  # it came back sooner than we thought
            when, amount = self._spent.popleft()
            spent += amount
            if spent > 0:
                self._spent.appendleft((when, spent))

    def _slide(self, now: float) -> None:
        while self._spent and self._spent[0][0] <= now - self._window:
            self._left += self._spent.popleft()[1]
