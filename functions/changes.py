"""Session queue `loyalty-changes`: one change of one customer, one after another."""

import logging
import time
from datetime import UTC

import azure.functions as func

from connector.app import app
from connector.bus import Change, ChangeError
from connector.bus.change import ROUND
from connector.dataverse import Transient, Unauthorized
from connector.logs import about
from connector.rows.log import unreadable_write
from connector.tracing import span, tell

changes = func.Blueprint()
_log = logging.getLogger("loyalty.changes")

# While Dataverse is down or refuses our sign-in, a message waits longer each time instead of using up its deliveries.
_LONGEST_PAUSE = 30.0


@changes.function_name("LoyaltyChange")
@changes.service_bus_queue_trigger(
    arg_name="message", queue_name="%CHANGES_QUEUE%", connection="ServiceBusConnection", is_sessions_enabled=True
)
def loyalty_change(message: func.ServiceBusMessage) -> None:
    delivery = message.delivery_count or 1
    try:
        change = Change.parse(message.get_body())
        if ROUND in (message.application_properties or {}):
            change = change.model_copy(update={"resumed": True})
    except ChangeError as error:
        body = message.get_body().decode("utf-8", "replace")
        queue = app().settings.changes_queue
        app().client.commit([unreadable_write(body, queue=queue, error=str(error), now=app().now())])
        return
    subject = {"correlation_id": change.correlation_id, "change": change.id, "record": f"{change.table}:{change.row}"}
    with about(**subject), span("change", message.application_properties, **subject, delivery=delivery):
        try:
            decision = app().processor.process(change, delivery)
        except (Transient, Unauthorized):
            if delivery > 1:
                time.sleep(min(_LONGEST_PAUSE, 2.0 ** (delivery - 1)))
            raise
        except Exception:
            # The host logs it too, but knows nothing of the change.
            _log.exception("delivery %s failed", delivery)
            raise
        tell(outcome=decision.outcome.value)
        age = _age(message)
        app().telemetry.settled(age, decision.outcome.value)
        _log.info("%s after %.1f s: %s", decision.outcome.value, age, decision.message)


def _age(message: func.ServiceBusMessage) -> float:
    """Seconds since the message came to its queue."""
    enqueued = message.enqueued_time_utc
    if enqueued is None:
        return 0.0
    aware = enqueued if enqueued.tzinfo else enqueued.replace(tzinfo=UTC)
    return max(0.0, (app().now() - aware).total_seconds())
