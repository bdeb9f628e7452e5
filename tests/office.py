"""The connector on the local Dataverse in this process: no socket, no queue, events taken from Dataverse's own outbox."""

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from requests.adapters import BaseAdapter

from connector.bus import Change
from connector.dataverse import Create, DataverseClient
from connector.identity import Customer, derived_id
from connector.listening import Listener
from connector.processing import Processor
from connector.publishing import Publisher
from connector.rows.programs import Programs
from connector.store import Store
from dataverse_schema.deploy import Choices, deploy
from dataverse_schema.eventing import Queue
from dataverse_schema.model import load
from dataverse_schema.rows import programs
from local.dataverse.adapter import DataverseAdapter
from local.dataverse.app import Application
from local.dataverse.auth import Identity
from local.dataverse.environment import Environment
from local.dataverse.provisioning import ensure_user

URL = "https://contoso.crm4.dynamics.com"
_CLIENT_ID = derived_id("test", "connector")


class _Tokens:
    def token(self) -> str:
        return "token"

    def renew(self, rejected: str) -> str:
        return "token"


class Office:
    """One environment with our tables and a programme, and a connector that is called by hand."""

    def __init__(
        self, home: Path, program: str = "CJ", clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.environment = Environment(home / "dataverse.db")
        self.client = self.client_of(_CLIENT_ID)
        self._install(program)
        self.now = clock
        self.sent: list[Change] = []
        self.publisher = Publisher(self.client, program, clock)
        self.listener = Listener(self.client, self.sent.extend, clock, self.publisher.look)
        self.processor = Processor(Store(self.client, clock), Programs(self.client, program), self.sent.extend, clock)

    def client_of(
        self, application_id: str, between: Callable[[BaseAdapter], BaseAdapter] = lambda adapter: adapter
    ) -> DataverseClient:
        """A client for one more user of the environment, an application with every right; `between` may stand in its way."""
        ensure_user(self.environment, f"# {application_id}", application=application_id)
        application = Application(self.environment, lambda header: Identity(application_id, None), url=URL)
        return DataverseClient(URL, _Tokens(), adapter=between(DataverseAdapter(application)), requests_per_second=1e6)

    def _install(self, program: str) -> None:
        """Tables, keys and steps by our own installer; keys are built by the environment's jobs, as in the cloud."""
        stopping = threading.Event()
        jobs = threading.Thread(target=self.environment.job_loop, args=(stopping,))
        jobs.start()
        model = load()
        queue = Queue(address="sb://localhost:1", key_name="key", key="c2VjcmV0", name="dataverse-events")
        try:
            deploy(self.client, model, Choices(queue=queue, program=programs(model)[program]), say=lambda line: None)
        finally:
            stopping.set()
            jobs.join()

    def account(self) -> Customer:
        """A customer without points."""
        customer = Customer("account", str(uuid4()))
        self.client.commit([Create("accounts", {"accountid": customer.id, "name": "Adatum"})])
        return customer

    def events(self) -> list[bytes]:
        """The events that wait in Dataverse's outbox, oldest first; they are taken out."""
        with self.environment.storage.writing() as connection:
            rows = connection.execute('SELECT body FROM "#outbox" ORDER BY id').fetchall()
            connection.execute('DELETE FROM "#outbox"')
        return [row[0].encode() if isinstance(row[0], str) else bytes(row[0]) for row in rows]

    def work(self, events: Iterable[bytes]) -> None:
        """Hear events, then apply every change that follows, and what follows from those."""
        self._apply()
        for event in events:
            self.listener.hear(event)
            self._apply()

    def _apply(self) -> None:
        while self.sent:
            self.processor.process(self.sent.pop(0))

    def close(self) -> None:
        self.client.close()
        self.environment.close()
