"""One trace from an event over its change to the commit, in two processes, with the correlation id of the log."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest
from azure.servicebus import ServiceBusMessage
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from connector import tracing
from connector.bus import ChangeSender
from connector.dataverse import Transient
from connector.listening import Listener
from functions import changes, events
from tests.integration.test_parking import customer_with_invoice
from tests.office import Office


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.close()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], dict[str, ReadableSpan]]]:
    """The spans that were exported, by name."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    tracing.install()
    yield lambda: {span.name: span for span in exporter.get_finished_spans()}
    tracing.uninstall()
    provider.shutdown()


class Bus:
    """A queue's sender that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[ServiceBusMessage] = []

    def get_queue_sender(self, queue: str) -> "Bus":
        return self

    def send_messages(self, messages: list[ServiceBusMessage]) -> None:
        self.sent += messages


def message(body: bytes, properties: dict[str, Any] | None = None) -> func.ServiceBusMessage:
    found: Any = SimpleNamespace(
        get_body=lambda: body,
        application_properties=properties or {},
        delivery_count=1,
        enqueued_time_utc=datetime.now(UTC),
    )
    return found


def function(blueprint_function: Any) -> Callable[[func.ServiceBusMessage], None]:
    handler: Callable[[func.ServiceBusMessage], None] = blueprint_function.build().get_user_function()
    return handler


def app_of(office: Office, bus: Bus, **parts: Any) -> Any:
    sender = ChangeSender(bus, "loyalty-changes")  # type: ignore[arg-type]
    listener = Listener(office.client, sender.send, office.now)
    settings = SimpleNamespace(events_queue="dataverse-events", changes_queue="loyalty-changes")
    telemetry = SimpleNamespace(settled=lambda age, outcome: None)
    made = {"listener": listener, "processor": office.processor, "settings": settings, "telemetry": telemetry}
    return SimpleNamespace(client=office.client, now=office.now, **made | parts)


def invoice_event(office: Office) -> bytes:
    _, invoice = customer_with_invoice(office, "10")
    (event,) = [event for event in office.events() if invoice.encode() in event]
    return event


def hear(office: Office, monkeypatch: pytest.MonkeyPatch, event: bytes, **parts: Any) -> ServiceBusMessage:
    """An event is heard; the change that follows from it."""
    bus = Bus()
    for module in (events, changes):
        monkeypatch.setattr(module, "app", lambda: app_of(office, bus, **parts))
    function(events.dataverse_event)(message(event))
    (change,) = bus.sent
    return change


def properties_of(change: ServiceBusMessage) -> dict[str, Any]:
    return {str(name): value for name, value in (change.application_properties or {}).items()}


def test_event_change_and_commit_are_one_trace(
    office: Office, spans: Callable[[], dict[str, ReadableSpan]], monkeypatch: pytest.MonkeyPatch
) -> None:
    event = invoice_event(office)
    change = hear(office, monkeypatch, event)
    # The other process: nothing but the message connects it with the first.
    assert context.get_current() == {}
    function(changes.loyalty_change)(message(str(change).encode(), properties_of(change)))
    found = spans()
    assert set(found) == {"event", "change", "commit"}
    traces = {span.context.trace_id for span in found.values() if span.context}
    assert len(traces) == 1
    parents = {name: span.parent.span_id if span.parent else None for name, span in found.items()}
    ids = {name: span.context.span_id for name, span in found.items() if span.context}
    assert parents == {"event": None, "change": ids["event"], "commit": ids["change"]}
    correlation = json.loads(event)["CorrelationId"]
    assert {(span.attributes or {})["loyalty.correlation_id"] for span in found.values()} == {correlation}
    assert (found["change"].attributes or {})["loyalty.outcome"] == "applied"
    assert (found["commit"].attributes or {})["loyalty.entries"] == 1


def test_the_platform_s_own_trace_goes_on(
    office: Office, spans: Callable[[], dict[str, ReadableSpan]], monkeypatch: pytest.MonkeyPatch
) -> None:
    change = hear(office, monkeypatch, invoice_event(office))
    host = trace.NonRecordingSpan(trace.SpanContext(7, 9, is_remote=True, trace_flags=trace.TraceFlags(1)))
    with trace.use_span(host):
        function(changes.loyalty_change)(message(str(change).encode(), properties_of(change)))
    made = spans()["change"]
    assert made.parent is not None
    assert (made.parent.trace_id, made.parent.span_id) == (7, 9)


def test_a_failure_is_named_and_not_quoted(
    office: Office, spans: Callable[[], dict[str, ReadableSpan]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails:
        def process(self, *_: Any) -> None:
            raise Transient("client_secret=hush of Ada Lovelace")

    change = hear(office, monkeypatch, invoice_event(office), processor=Fails())
    with pytest.raises(Transient):
        function(changes.loyalty_change)(message(str(change).encode(), properties_of(change)))
    made = spans()["change"]
    assert (made.attributes or {})["error.type"] == "Transient"
    assert not made.status.is_ok
    assert "hush" not in made.to_json()


@pytest.mark.parametrize("parent", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", 7])
def test_a_stranger_s_trace_parent_is_read_or_left(
    office: Office, spans: Callable[[], dict[str, ReadableSpan]], monkeypatch: pytest.MonkeyPatch, parent: Any
) -> None:
    change = hear(office, monkeypatch, invoice_event(office))
    function(changes.loyalty_change)(message(str(change).encode(), {"traceparent": parent}))
    made = spans()["change"]
    assert made.parent is None


def test_without_the_setting_messages_carry_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    change = hear(office, monkeypatch, invoice_event(office))
    assert properties_of(change) == {}
    function(changes.loyalty_change)(message(str(change).encode()))
