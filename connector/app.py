"""Puts the parts together, once a process, on first use: what is not needed is not paid for at a cold start."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING

from connector.bus import Change, ChangeSender, QueueSender
from connector.bus.client import service_bus
from connector.chores import Chores
from connector.counter import Counter
from connector.dataverse import DataverseClient
from connector.listening import Listener
from connector.processing import Processor
from connector.rows.programs import Programs
from connector.settings import Settings, settings
from connector.sign_in import dataverse_tokens
from connector.store import Store

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusClient, ServiceBusMessage

    from connector.dead_letters import DeadLetters
    from connector.mass import MassJobs
    from connector.publishing import Publisher
    from connector.sweep import Sweep
    from connector.telemetry import Telemetry
    from connector.watch import Watch


@dataclass(frozen=True)
class App:
    """The connector for one environment. Parts are made when first asked for, and shared by all threads."""

    settings: Settings

    @staticmethod
    def now() -> datetime:
        return datetime.now(UTC)

    @cached_property
    def client(self) -> DataverseClient:
        return connect(self.settings)

    @cached_property
    def store(self) -> Store:
        return Store(self.client, self.now)

    @cached_property
    def programs(self) -> Programs:
        return Programs(self.client, self.settings.loyalty_program)

    @cached_property
    def processor(self) -> Processor:
        return Processor(self.store, self.programs, self.send_changes, self.now)

    @cached_property
    def listener(self) -> Listener:
        return Listener(self.client, self.send_changes, self.now, lambda: self.publisher.look())

    @cached_property
    def publisher(self) -> "Publisher":
        from connector.publishing import Publisher

        return Publisher(self.client, self.settings.loyalty_program, self.now)

    @cached_property
    def counter(self) -> Counter:
        return Counter(self.client, self.programs)

    @cached_property
    def chores(self) -> Chores:
        return Chores(self.client, self.send_changes, self.now)

    @cached_property
    def sweep(self) -> "Sweep":
        from connector.sweep import Sweep

        return Sweep(self.client, self.programs, self.processor, self.send_changes, self.now)

    @cached_property
    def mass(self) -> "MassJobs":
        from connector.mass import MassJobs

        return MassJobs(self.mass_clients, self.programs, self.send_changes, self.send_notices, self.now)

    @cached_property
    def mass_clients(self) -> list[DataverseClient]:
        """Our application user, and those who help with mass jobs."""
        return [self.client, *(connect(other) for other in self.settings.helpers)]

    @cached_property
    def dead_letters(self) -> "DeadLetters":
        from connector.dead_letters import DeadLetters

        return DeadLetters(self.bus, self.client, self.listener, self.settings, self.now)

    @cached_property
    def watch(self) -> "Watch":
        from connector.watch import Watch

        return Watch(self.client, self.bus, self.settings, self.now)

    @cached_property
    def telemetry(self) -> "Telemetry":
        from connector.telemetry import Telemetry

        return Telemetry(self.settings.telemetry == "opentelemetry", self.client, self.processor)

    @cached_property
    def bus(self) -> "ServiceBusClient":
        return service_bus(self.settings)

    @cached_property
    def changes(self) -> ChangeSender:
        return ChangeSender(self.bus, self.settings.changes_queue)

    @cached_property
    def notices(self) -> QueueSender:
        return QueueSender(self.bus, self.settings.notices_queue)

    def send_changes(self, changes: Sequence[Change]) -> None:
        if changes:
            self.changes.send(changes)

    def send_notices(self, notices: "Sequence[ServiceBusMessage]") -> None:
        self.notices.send(notices)

    def close(self) -> None:
        """For commands that end; a function app is simply stopped."""
        made = self.__dict__
        for helper in made.get("mass_clients", ())[1:]:
            helper.close()
        for part in ("changes", "notices", "bus", "client"):
            if part in made:
                made[part].close()


def connect(settings: Settings) -> DataverseClient:
    """A client for the environment that the settings name."""
    return DataverseClient(
        settings.dataverse_url.rstrip("/"),
        dataverse_tokens(settings),
        ca_file=settings.dataverse_ca_file,
        slots=settings.dataverse_slots,
    )


@cache
def app() -> App:
    """The app of this process."""
    return App(settings())
