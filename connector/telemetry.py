"""Metrics through the OpenTelemetry API, for companies that have it set up; otherwise nothing at all, and nothing imported.

The API alone does nothing: the host's own OpenTelemetry set-up, or an exporter's package, decides where metrics go.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from connector.dataverse import DataverseClient
from connector.processing import Processor

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation

_NAME = "loyalty-connector"


class Telemetry:
    """`wanted` is the setting. Each process reports its own counters; gauges come from whichever ran the timer."""

    def __init__(self, wanted: bool, client: DataverseClient, processor: Processor) -> None:
        self._client = client
        self._processor = processor
        self._gauges: dict[str, Any] = {}
        self._meter = self._age = None
        if wanted:
            from opentelemetry.metrics import get_meter

            self._meter = get_meter(_NAME)
            self._age = self._meter.create_histogram("loyalty.change.age", unit="s")
            self._meter.create_observable_counter("loyalty.dataverse.requests", [self._counter("requests")])
            self._meter.create_observable_counter("loyalty.dataverse.retries", [self._counter("retries")])
            self._meter.create_observable_counter("loyalty.conflicts", [self._conflicts])
            self._meter.create_observable_counter("loyalty.batches", [self._batches])

    def settled(self, age: float, outcome: str) -> None:
        """A change was decided `age` seconds after it came to its queue."""
        if self._age:
            self._age.record(age, {"outcome": outcome})

    def gauges(self, figures: Iterable[tuple[str, float, dict[str, str]]]) -> None:
        """Figures as `Figures.flat` gives them."""
        if self._meter is None:
            return
        for name, value, attributes in figures:
            if name not in self._gauges:
                self._gauges[name] = self._meter.create_gauge(name)
            self._gauges[name].set(value, attributes)

    def _counter(self, name: str) -> Any:
        def observe(options: "CallbackOptions") -> "list[Observation]":
            return [_observation(self._client.counters.snapshot()[name])]

        return observe

    def _conflicts(self, options: "CallbackOptions") -> "list[Observation]":
        return [_observation(self._processor.conflicts)]

    def _batches(self, options: "CallbackOptions") -> "list[Observation]":
        """How many requests carried how many callers' work."""
        batches = self._client.counters.snapshot()["batches"]
        return [_observation(count, {"units": str(units)}) for units, count in batches.items()]


def _observation(value: float, attributes: dict[str, str] | None = None) -> "Observation":
    from opentelemetry.metrics import Observation

    return Observation(value, attributes)
