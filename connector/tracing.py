"""Traces through the OpenTelemetry API, for companies that have it set up; otherwise nothing at all, and nothing imported.

From a Dataverse event over its change to the commit of its entries is one trace, and each of its spans carries the correlation
id of the log. Messages carry it as Service Bus's own SDKs do (W3C Trace Context). Exceptions are named and not quoted.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_NAME = "loyalty-connector"
# Service Bus's SDKs write both, and read whichever is there.
_PROPERTIES = ("traceparent", "Diagnostic-Id")
_tracer: "Tracer | None" = None


def install() -> None:
    """From now on spans are made; who gets them is the matter of whoever sets OpenTelemetry up."""
    global _tracer
    from opentelemetry.trace import get_tracer

    _tracer = get_tracer(_NAME)


def uninstall() -> None:
    global _tracer
    _tracer = None


@contextmanager
def span(name: str, properties: Mapping[Any, Any] | None = None, **attributes: str | int) -> Iterator[None]:
    """A span of the current trace; where there is none, of the one that a message's application `properties` carry."""
    if _tracer is None:
        yield
        return
    from opentelemetry.trace import Status, StatusCode

    given = {f"loyalty.{key}": value for key, value in attributes.items() if value != ""}
    with _tracer.start_as_current_span(
        name, _carried(properties or {}), attributes=given, record_exception=False, set_status_on_exception=False
    ) as made:
        try:
            yield
        except BaseException as error:
            made.set_attribute("error.type", type(error).__qualname__)
            made.set_status(Status(StatusCode.ERROR))
            raise


def tell(**attributes: str | int) -> None:
    """More about the span that is open now."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes({f"loyalty.{key}": value for key, value in attributes.items()})


def carrier() -> dict[str | bytes, Any]:
    """Application properties that let whoever gets a message go on with the current trace."""
    if _tracer is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(found)
    parent = found.get("traceparent")
    return dict.fromkeys(_PROPERTIES, parent) if parent else {}


def _carried(properties: Mapping[Any, Any]) -> Any:
    """A context, or None for the current one: the platform may have continued the trace already."""
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if get_current_span().get_span_context().is_valid:
        return None
    parent = next((str(properties[name]) for name in _PROPERTIES if properties.get(name)), "")
    return TraceContextTextMapPropagator().extract({"traceparent": parent}) if parent else None
