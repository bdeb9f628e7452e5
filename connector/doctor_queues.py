"""The queues: there, and with the properties on which order and safety rest.

What can be seen by connecting is checked first: that the queue exists, and whether it wants sessions. Its properties are read
through the management API, for which the connection needs the right Manage.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.servicebus import ServiceBusClient
from azure.servicebus.exceptions import (
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusConnectionError,
    ServiceBusError,
)
from azure.servicebus.management import QueueProperties, ServiceBusAdministrationClient

from connector.bus.client import service_bus, service_bus_management
from connector.findings import Finding, Level
from connector.settings import Settings

_SHORTEST_LOCK = timedelta(seconds=30)
_FEWEST_DELIVERIES = 5
_SHORTEST_LIFE = timedelta(days=7)
_EMULATOR = "usedevelopmentemulator=true"


@dataclass(frozen=True, slots=True)
class _Queue:
    name: str
    setting: str
    sessions: bool


def check_queues(settings: Settings) -> Iterator[Finding]:
    queues = (
        # Dataverse cannot name a session, so a queue that wants one refuses its events.
        _Queue(settings.events_queue, "EVENTS_QUEUE", False),
        _Queue(settings.changes_queue, "CHANGES_QUEUE", True),
        _Queue(settings.notices_queue, "NOTICES_QUEUE", False),
    )
    with service_bus(settings, retry_total=0) as client:
        for queue in queues:
            yield from _connect(client, queue)
    emulated = _EMULATOR in settings.service_bus_connection.replace(" ", "").lower()
    if (emulated or ":" in settings.service_bus_namespace) and not settings.service_bus_management:
        yield Finding(
            Level.UNKNOWN,
            "queues",
            "an emulator tells their properties at an address of its own",
            "Set SERVICE_BUS_MANAGEMENT, for example to http://localhost:5300.",
        )
        return
    with service_bus_management(settings) as management:
        for queue in queues:
            yield from _properties(management, queue)


def _connect(client: ServiceBusClient, queue: _Queue) -> Iterator[Finding]:
    about = f"queue {queue.name}"
    missing = Finding(Level.WRONG, about, "does not exist", f"Create it, or correct the setting {queue.setting}.")
    wants_session = False
    try:
        # Looking does not take anything off the queue.
        with client.get_queue_receiver(queue.name) as receiver:
            receiver.peek_messages(1)
    except MessagingEntityNotFoundError:
        yield missing
        return
    except (ServiceBusAuthenticationError, ServiceBusAuthorizationError) as error:
        # A queue that does not exist is refused while the token is checked, so the SDK calls it an authentication error.
        if "could not be found" in str(error.exc_msg):
            yield missing
        else:
            yield Finding(
                Level.WRONG, about, "the connection may not listen to it", "Use a key with the rights Send and Listen."
            )
        return
    except ServiceBusConnectionError:
        yield Finding(Level.WRONG, about, "cannot be reached", "Check the address in ServiceBusConnection.")
        return
    except ServiceBusError as error:
        if "session" not in str(error).lower():
            yield Finding(Level.WRONG, about, f"cannot be opened: {str(error)[:200]}", "Check the queue in the portal.")
            return
        wants_session = True
    if wants_session and not queue.sessions:
        yield Finding(
            Level.WRONG, about, "requires sessions, which its sender cannot give", "Create it again without sessions."
        )
    elif queue.sessions and not wants_session:
        yield Finding(
            Level.WRONG,
            about,
            "has no sessions: changes of one customer would overtake each other",
            "Create it again with sessions required; they cannot be switched on later.",
        )
    else:
        yield Finding(Level.GOOD, about, "is there" + (", with sessions" if queue.sessions else ""))


def _properties(management: ServiceBusAdministrationClient, queue: _Queue) -> Iterator[Finding]:
    about = f"queue {queue.name}"
    try:
        properties = management.get_queue(queue.name)
    except ResourceNotFoundError:
        return  # said already
    except HttpResponseError as error:
        refused = error.status_code in (401, 403)
        yield Finding(
            Level.UNKNOWN,
            about,
            "its properties may be read with the right Manage only"
            if refused
            else f"its properties cannot be read: status {error.status_code}",
            f"Look in the portal, at the queue's overview: sessions {'on' if queue.sessions else 'off'}, lock at least"
            f" {_SHORTEST_LOCK.seconds} s, at least {_FEWEST_DELIVERIES} deliveries, dead-lettering on expiration.",
        )
        return
    except AzureError:
        yield Finding(Level.UNKNOWN, about, "the management of Service Bus does not answer", "Try again later.")
        return
    found = list(judge(queue.name, properties, sessions=queue.sessions))
    yield from found or [Finding(Level.GOOD, about, "has the properties it needs")]


def judge(name: str, properties: QueueProperties, *, sessions: bool = False) -> Iterator[Finding]:
    """What is wrong with a queue's properties; `sessions`: it is the queue of changes."""
    about = f"queue {name}"
    lock, lifetime = properties.lock_duration, properties.default_message_time_to_live
    if str(properties.status) != "Active":
        yield Finding(Level.WRONG, about, f"is {properties.status}", "Activate it in the portal, at its overview.")
    if properties.forward_to:
        yield Finding(
            Level.WRONG, about, "forwards its messages elsewhere", "Clear 'Forward messages to' in its settings."
        )
    if sessions and properties.requires_duplicate_detection:
        yield Finding(
            Level.WRONG,
            about,
            "drops repeated messages: a change that is sent again on purpose would be lost",
            "Create it again without duplicate detection; it cannot be switched off later.",
        )
    if isinstance(lock, timedelta) and lock < _SHORTEST_LOCK:
        yield Finding(
            Level.WARNING, about, f"its lock lasts {lock.total_seconds():g} s", "Set the lock duration to one minute."
        )
    if isinstance(lifetime, timedelta) and lifetime < _SHORTEST_LIFE:
        yield Finding(
            Level.WARNING,
            about,
            f"a message lives {lifetime.total_seconds() / 86400:g} days: an outage over a weekend could lose it",
            f"Set the message time to live to {_SHORTEST_LIFE.days} days or more.",
        )
    deliveries = properties.max_delivery_count or 0
    if deliveries < _FEWEST_DELIVERIES:
        yield Finding(
            Level.WARNING,
            about,
            f"a message is given up after {deliveries} deliveries",
            "Set the delivery count to 10.",
        )
    if not properties.dead_lettering_on_message_expiration:
        yield Finding(
            Level.WARNING,
            about,
            "messages that expire are dropped without a trace",
            "Switch on dead-lettering on message expiration.",
        )
