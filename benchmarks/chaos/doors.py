"""Ways into the local Dataverse of this process: an environment with our tables, and who may come in."""

import atexit
import shutil
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

import requests

from benchmarks.chaos.bus import EVENTS
from connector.dataverse import DataverseClient
from connector.identity import derived_id
from connector.settings import Settings, read_settings
from dataverse_schema.deploy import Choices, deploy
from dataverse_schema.eventing import Queue
from dataverse_schema.model import load
from local.dataverse.adapter import DataverseAdapter
from local.dataverse.app import Application
from local.dataverse.auth import Identity
from local.dataverse.environment import Environment
from local.dataverse.provisioning import ensure_user

URL = "https://contoso.crm4.dynamics.com"
PROGRAM = "CHAOS"
CONNECTOR: str = derived_id("chaos", "connector")
PEOPLE: str = derived_id("chaos", "people")
MANAGER: str = derived_id("chaos", "manager")


# Timers ask for these again and again: the indexes that automatic tuning of Dataverse's database would add.
_TUNED = (
    ("loy_integrationlog", "loy_outcome"),
    ("loy_redemption", "loy_status"),
    ("loy_adjustment", "loy_status"),
    ("loy_bulkrun", "loy_status"),
)


class Tokens:
    def token(self) -> str:
        return "token"

    def renew(self, rejected: str) -> str:
        return "token"


def connector_settings() -> Settings:
    return read_settings(
        {
            "DATAVERSE_URL": URL,
            "DATAVERSE_TENANT_ID": "contoso",
            "DATAVERSE_CLIENT_ID": CONNECTOR,
            "DATAVERSE_CLIENT_SECRET": "unused",
            "ServiceBusConnection": "Endpoint=sb://none;SharedAccessKeyName=none;SharedAccessKey=none",
            "LOYALTY_PROGRAM": PROGRAM,
        }
    )


@cache
def installed() -> Path:
    """An environment with our tables, made once a process by our own installer."""
    home = Path(tempfile.mkdtemp(prefix="chaos-", dir=_memory()))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    environment = Environment(home / "dataverse.db")
    for application in (CONNECTOR, PEOPLE, MANAGER):
        ensure_user(environment, f"# {application}", application=application)
    client = DataverseClient(
        URL, Tokens(), adapter=DataverseAdapter(door(environment, CONNECTOR)), requests_per_second=1e6
    )
    stopping = threading.Event()
    jobs = threading.Thread(target=environment.job_loop, args=(stopping,))
    jobs.start()
    queue = Queue(address="sb://localhost:1", key_name="key", key="c2VjcmV0", name=EVENTS)
    try:
        deploy(client, load(), Choices(queue=queue, program=None), say=lambda line: None)
    finally:
        stopping.set()
        jobs.join()
    client.close()
    with environment.storage.writing() as connection:
        for table, column in _TUNED:
            connection.execute(f'CREATE INDEX "{table}.{column}" ON {table} ({column})')
    environment.close()
    return home


def _memory() -> Path | None:
    fast = Path("/dev/shm")
    return fast if fast.is_dir() else None


def door(environment: Environment, application: str) -> Application:
    return Application(environment, lambda header: Identity(application, None), url=URL)


class Undisturbed(requests.adapters.BaseAdapter):
    """For people and judges: no fault reaches them."""

    def __init__(self, environment: Environment, who: str) -> None:
        super().__init__()
        self._environment = environment
        self._inner = DataverseAdapter(door(environment, who))

    def send(self, request: requests.PreparedRequest, *arguments: Any, **named: Any) -> requests.Response:
        faults, meter = self._environment.faults, self._environment.meter
        active, faults.active = faults.active, False
        enforced, meter.enforced = meter.enforced, False
        try:
            return self._inner.send(request)
        finally:
            faults.active, meter.enforced = active, enforced

    def close(self) -> None: ...
