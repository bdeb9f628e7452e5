"""Time that a test moves."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Stopwatch:
    """Seconds pass only where somebody sleeps, or the test sets `now`. Stands for a clock and for the module `time`."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds
