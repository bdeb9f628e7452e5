"""What an operator needs to see, measured now. Names and alerts are explained in `docs/operations.md`."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any

from connector.bus.change import TABLES
from connector.dataverse import DataverseClient
from connector.dataverse.odata import text, utc
from connector.identity import derived_id
from connector.rows import wishes
from connector.rows.choices import NoticeStatus
from connector.rows.log import PARKED
from connector.settings import Settings

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusClient, ServiceBusReceivedMessage, ServiceBusReceiver

_MOST = 1000  # dead letters counted in each queue
_NIGHTLY = 26 * 3600.0  # between two nights, with some delay
ALERT_ABOVE = {
    "loyalty.oldest_event.seconds": 600.0,
    "loyalty.oldest_wish.seconds": 300.0,
    "loyalty.notices.waiting": 1000.0,
    "loyalty.parked": 0.0,
    "loyalty.dead_letters": 0.0,
    "loyalty.sweep.age.seconds": _NIGHTLY,
    "loyalty.mirror.overdue.seconds": _NIGHTLY,
}
ALERT_BELOW = {"loyalty.budget.requests.left": 600.0, "loyalty.budget.seconds.left": 120.0}
"""From where on a figure needs a person. Alerts may give some of them time to pass, which one measurement cannot."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Ages are in seconds. `oldest_event` waits on the queue, `oldest_wish` is a redemption or adjustment without answer.

    `parked` counts log rows by reason class, `dead_letters` messages by queue (1,000 is the most that is counted).
    `sweep_age` is the time since a sweep last came to its end; before any has, since the first began or, without one, since the
    programme was made; None without a programme. `mirror_overdue` tells for how long the copy of some customer should have
    been written anew, because a tier, pending points or a lot was due by time.
    """

    oldest_event: float
    oldest_wish: float
    notices_waiting: int
    parked: Counter[str]
    dead_letters: dict[str, int]
    sweep_age: float | None
    mirror_overdue: float = 0.0
    budget: dict[str, float] = field(default_factory=dict)

    def flat(self) -> Iterator[tuple[str, float, dict[str, str]]]:
        """Each as name, value and attributes."""
        yield "loyalty.oldest_event.seconds", self.oldest_event, {}
        yield "loyalty.oldest_wish.seconds", self.oldest_wish, {}
        yield "loyalty.notices.waiting", self.notices_waiting, {}
        yield "loyalty.parked", self.parked.total(), {}
        for reason, count in sorted(self.parked.items()):
            yield "loyalty.parked.by_reason", count, {"reason": reason}
        for queue, count in self.dead_letters.items():
            yield "loyalty.dead_letters", count, {"queue": queue}
        if self.sweep_age is not None:
            yield "loyalty.sweep.age.seconds", self.sweep_age, {}
        yield "loyalty.mirror.overdue.seconds", self.mirror_overdue, {}
        for name, left in self.budget.items():
            yield f"loyalty.budget.{name}.left", left, {}


def alerts(name: str, value: float) -> bool:
    """Whether a figure needs a person as it is now."""
    return value > ALERT_ABOVE.get(name, inf) or value < ALERT_BELOW.get(name, -inf)


class Watch:
    def __init__(
        self, client: DataverseClient, bus: "ServiceBusClient", settings: Settings, clock: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._bus = bus
        self._settings = settings
        self._clock = clock

    def measure(self) -> Figures:
        queues = (self._settings.events_queue, self._settings.changes_queue)
        return Figures(
            oldest_event=self._oldest_event(),
            oldest_wish=self._oldest_wish(),
            notices_waiting=self._count("loy_entries", f"loy_noticestatus eq {NoticeStatus.WAITING.value}"),
            parked=self._parked(),
            dead_letters={queue: sum(1 for _ in dead_letters(self._bus, queue)) for queue in queues},
            sweep_age=self._sweep_age(),
            mirror_overdue=self._mirror_overdue(),
            budget=self._client.budget,
        )

    def _oldest_event(self) -> float:
        with self._bus.get_queue_receiver(self._settings.events_queue) as receiver:
            messages = receiver.peek_messages(1)
        return self._age(messages[0].enqueued_time_utc) if messages else 0.0

    def _oldest_wish(self) -> float:
        ages = [0.0]
        for subject in wishes.OPEN:
            condition = f"$filter={wishes.waits(subject)}&$orderby=modifiedon&$top=1"
            path = f"{TABLES[subject]}s?$select=modifiedon&{condition}"
            ages += [self._age(utc(row["modifiedon"])) for row in self._client.get(path)]
        return max(ages)

    def _parked(self) -> Counter[str]:
        grouped = f"loy_integrationlogs?$apply=filter({PARKED})/groupby((loy_reasonclass),aggregate($count as rows))"
        return Counter({row.get("loy_reasonclass") or "": row["rows"] for row in self._client.get(grouped)})

    def _count(self, entity_set: str, condition: str) -> int:
        """Dataverse counts to 5,000 and no further."""
        found: Any = self._client.request("GET", f"{entity_set}/$count?$filter={condition}")
        return int(found.body.decode("utf-8-sig"))

    def _sweep_age(self) -> float | None:
        run = derived_id("sweep", self._settings.loyalty_program)
        row = self._client.get(f"loy_bulkruns({run})?$select=loy_endedon,createdon")
        if row is None:
            path = f"loy_programs?$select=createdon&$filter=loy_code eq {text(self._settings.loyalty_program)}"
            row = next(iter(self._client.get(path)), None)
        return self._age(utc(row.get("loy_endedon") or row["createdon"])) if row else None

    def _mirror_overdue(self) -> float:
        """A review is due from the first minute of its day (UTC)."""
        today = self._clock().date()
        due = f"$filter=loy_nextreviewon lt {today}&$orderby=loy_nextreviewon&$top=1"
        rows = self._client.get(f"loy_memberships?$select=loy_nextreviewon&{due}")
        return max((self._age(utc(f"{row['loy_nextreviewon']}T00:00:00Z")) for row in rows), default=0.0)

    def _age(self, since: datetime | None) -> float:
        return max(0.0, (self._clock() - since.astimezone(UTC)).total_seconds()) if since else 0.0


def dead_letters(bus: "ServiceBusClient", queue: str) -> Iterator["ServiceBusReceivedMessage"]:
    """The first thousand messages in the dead-letter queue of a queue, oldest first; they stay there."""
    from azure.servicebus import ServiceBusSubQueue

    with bus.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        yield from peeked(receiver)


def peeked(receiver: "ServiceBusReceiver") -> Iterator["ServiceBusReceivedMessage"]:
    """The first thousand messages of a link."""
    seen, after = 0, 0
    while seen < _MOST:
        messages = receiver.peek_messages(min(100, _MOST - seen), sequence_number=after)
        if not messages:
            return
        yield from messages
        seen += len(messages)
        after = (messages[-1].sequence_number or 0) + 1
