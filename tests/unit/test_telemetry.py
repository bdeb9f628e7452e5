"""Metrics reach an OpenTelemetry reader when they are wanted, and nothing is done when they are not."""

from types import SimpleNamespace
from typing import Any

import pytest

from connector.dataverse.transport import Counters
from connector.telemetry import Telemetry

sdk = pytest.importorskip("opentelemetry.sdk.metrics")


def measured(reader: Any) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points = [(dict(point.attributes), getattr(point, "value", None)) for point in metric.data.data_points]
                found[metric.name] = points
    return found


def test_counters_gauges_and_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = sdk.MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    counters = Counters()
    counters.request(10)
    counters.work(3, units=2)
    client, processor = SimpleNamespace(counters=counters), SimpleNamespace(conflicts=4)
    telemetry = Telemetry(True, client, processor)  # type: ignore[arg-type]
    telemetry.settled(1.5, "applied")
    telemetry.gauges([("loyalty.dead_letters", 3.0, {"queue": "q"}), ("loyalty.parked", 1.0, {})])
    telemetry.gauges([("loyalty.dead_letters", 5.0, {"queue": "q"})])
    found = measured(reader)
    assert found["loyalty.dataverse.requests"] == [({}, 1)]
    assert found["loyalty.conflicts"] == [({}, 4)]
    assert found["loyalty.batches"] == [({"units": "2"}, 1)]
    assert found["loyalty.dead_letters"] == [({"queue": "q"}, 5.0)]
    assert found["loyalty.parked"] == [({}, 1.0)]
    assert found["loyalty.change.age"][0][0] == {"outcome": "applied"}
    provider.shutdown()


def test_without_the_setting_it_does_nothing() -> None:
    telemetry = Telemetry(False, SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    telemetry.settled(1.0, "applied")
    telemetry.gauges([("loyalty.parked", 1.0, {})])
