"""Dataverse events in: queue `dataverse-events` -> changes."""

import azure.functions as func

from connector.app import app
from connector.bus.change import ROUND
from connector.tracing import span, tell

events = func.Blueprint()


@events.function_name("DataverseEvent")
@events.service_bus_queue_trigger(arg_name="message", queue_name="%EVENTS_QUEUE%", connection="ServiceBusConnection")
def dataverse_event(message: func.ServiceBusMessage) -> None:
    properties = message.application_properties or {}
    trimmed = str(properties.get("MessageMaxSizeExceeded", "")).lower() == "true"
    again = ROUND in properties
    with span("event", properties):
        heard = app().listener.hear(message.get_body(), trimmed=trimmed, queue=app().settings.events_queue, again=again)
        if heard:
            tell(correlation_id=heard[0].correlation_id)
