"""The management API of Service Bus, for reading: queues with their properties and message counts, as Atom entries.

Shapes and errors are those of Microsoft's REST reference ("Get Queue", "Enumeration", version 2021-05). What a client would
create, change or delete is in the configuration file here, and refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, quoteattr

from local.servicebus.broker import Broker
from local.servicebus.model.errors import Unauthorized
from local.servicebus.model.settings import QueueSettings

_ATOM = "http://www.w3.org/2005/Atom"
_CONNECT = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
_COUNTS = "http://schemas.microsoft.com/netservices/2011/06/servicebus"
_ENDLESS = timedelta.max
_PAGE = 100  # the most that the service lists at once


@dataclass(frozen=True, slots=True)
class Answer:
    status: HTTPStatus
    body: str
    content_type: str = "application/xml; charset=utf-8"


def manage(broker: Broker, method: str, target: str, authorization: str, host: str) -> Answer:
    """Answer a request; `target` is path and query, `authorization` the header of that name."""
    parts = urlsplit(target)
    path = unquote(parts.path).strip("/")
    try:
        rights = broker.rights(authorization, f"http://{host}/{path}")
    except Unauthorized as error:
        return _refused(HTTPStatus.UNAUTHORIZED, str(error))
    if "Manage" not in rights:
        claims = "Manage,EntityRead claims are required for this operation."
        return _refused(HTTPStatus.UNAUTHORIZED, f"Authorization failed for specified action: {claims}")
    if method != "GET":
        return _refused(HTTPStatus.METHOD_NOT_ALLOWED, "Entities are made by the configuration file of this broker.")
    if path.lower() == "$resources/queues":
        return _listed(broker, parse_qs(parts.query), host)
    name, settings = next(((n, s) for n, s in broker.queue_settings.items() if n.lower() == path.lower()), (path, None))
    if settings is None:
        # Not 404: the service answers with an empty feed.
        return Answer(HTTPStatus.OK, _feed("Publicly Listed Services", host, []), "application/atom+xml")
    entry = _entry(name, settings, broker.statistics()["queues"][name], broker.now(), host)
    return Answer(HTTPStatus.OK, entry, "application/atom+xml;type=entry;charset=utf-8")


def _listed(broker: Broker, query: dict[str, list[str]], host: str) -> Answer:
    try:
        skip = int(query.get("$skip", ["0"])[0])
        top = min(_PAGE, int(query.get("$top", [str(_PAGE)])[0]))
    except ValueError:
        return _refused(HTTPStatus.BAD_REQUEST, "$skip and $top are whole numbers.")
    counted, now = broker.statistics()["queues"], broker.now()
    some = sorted(broker.queue_settings.items())[skip : skip + top]
    entries = [_entry(name, settings, counted[name], now, host) for name, settings in some]
    return Answer(HTTPStatus.OK, _feed("Queues", host, entries), "application/atom+xml;type=feed;charset=utf-8")


def _feed(title: str, host: str, entries: list[str]) -> str:
    address = f"http://{host}/"
    return (
        f'<feed xmlns={quoteattr(_ATOM)}><title type="text">{escape(title)}</title><id>{escape(address)}</id>'
        f"{''.join(entries)}</feed>"
    )


def _entry(name: str, settings: QueueSettings, counted: dict[str, int], now: datetime, host: str) -> str:
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    waiting = counted["active"] + counted["locked"]
    total = waiting + counted["scheduled"] + counted["deferred"] + counted["dead_letters"]
    counts = "".join(
        f"<d2p1:{tag} xmlns:d2p1={quoteattr(_COUNTS)}>{number}</d2p1:{tag}>"
        for tag, number in (
            ("ActiveMessageCount", waiting),
            ("DeadLetterMessageCount", counted["dead_letters"]),
            ("ScheduledMessageCount", counted["scheduled"]),
            ("TransferMessageCount", 0),
            ("TransferDeadLetterMessageCount", 0),
        )
    )
    properties: list[tuple[str, str]] = [
        ("LockDuration", _duration(settings.lock_duration)),
        ("MaxSizeInMegabytes", "1024"),
        ("RequiresDuplicateDetection", _flag(settings.duplicate_window is not None)),
        ("RequiresSession", _flag(settings.requires_session)),
        ("DefaultMessageTimeToLive", _duration(settings.default_ttl or _ENDLESS)),
        ("DeadLetteringOnMessageExpiration", _flag(settings.dead_letter_on_expiration)),
        ("DuplicateDetectionHistoryTimeWindow", _duration(settings.duplicate_window or timedelta(minutes=10))),
        ("MaxDeliveryCount", str(settings.max_delivery_count)),
        ("EnableBatchedOperations", "true"),
        ("MessageCount", str(total)),
        ("Status", "Active"),
        *((tag, text) for tag, text in _forwards(settings) if text),
        ("EntityAvailabilityStatus", "Available"),
    ]
    described = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in properties)
    return (
        f"<entry xmlns={quoteattr(_ATOM)}><id>{escape(f'http://{host}/{name}')}</id>"
        f'<title type="text">{escape(name)}</title><published>{stamp}</published><updated>{stamp}</updated>'
        f'<content type="application/xml"><QueueDescription xmlns={quoteattr(_CONNECT)}>{described}'
        f"<CountDetails>{counts}</CountDetails></QueueDescription></content></entry>"
    )


def _forwards(settings: QueueSettings) -> tuple[tuple[str, str | None], ...]:
    return (
        ("ForwardTo", settings.forward_to),
        ("ForwardDeadLetteredMessagesTo", settings.forward_dead_letters_to),
    )


def _refused(status: HTTPStatus, detail: str) -> Answer:
    return Answer(status, f"<Error><Code>{status.value}</Code><Detail>{escape(detail)}</Detail></Error>")


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _duration(value: timedelta) -> str:
    """ISO 8601; without end as the service writes it."""
    if value == _ENDLESS:
        return "P10675199DT2H48M5.4775807S"
    days, seconds = divmod(value.total_seconds(), 86400)
    return f"P{int(days)}D" if not seconds else f"P{int(days)}DT{seconds:g}S" if days else f"PT{seconds:g}S"
