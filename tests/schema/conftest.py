"""A new environment with Dynamics 365 Sales for each test, and a client that talks to it over HTTP."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connector.dataverse import DataverseClient
from dataverse_schema.deploy import Choices, deploy
from dataverse_schema.eventing import Queue
from dataverse_schema.interface import Interface, load_interface
from dataverse_schema.model import Model, load
from dataverse_schema.rows import programs
from local.dataverse.app import Application
from local.dataverse.auth import Identity
from local.dataverse.environment import Environment
from local.dataverse.provisioning import ensure_user
from local.tls import Certificates, ensure_certificates
from local.web import WebServer

INSTALLER, CONNECTOR = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
QUEUE = Queue("sb://localhost:1/", "send", "not-a-real-key", "dataverse-events")


class Token:
    """The token is the client id: signing in is not what these tests are about."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id

    def token(self) -> str:
        return self.client_id

    def renew(self, rejected: str) -> str:
        return rejected


class Stopped(Exception):
    """The installer's process has died."""


class Mortal:
    """A client whose process dies after n writes: before it sends the next, or `unheard`, when the next was done."""

    def __init__(self, client: DataverseClient, writes: int, *, unheard: bool = False) -> None:
        self._client = client
        self._unheard = unheard
        self.left = writes

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        if method != "GET":
            self.left -= 1
            if self.left < 0:
                if self._unheard:
                    self._client.request(method, path, body, headers)
                raise Stopped(f"{method} {path} {body}")
        return self._client.request(method, path, body, headers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@dataclass
class World:
    environment: Environment
    url: str
    ca_file: str

    def client(self, client_id: str = INSTALLER) -> DataverseClient:
        return DataverseClient(self.url, Token(client_id), ca_file=self.ca_file, deadline=10)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return ensure_certificates(tmp_path_factory.mktemp("tls"))


@contextmanager
def opened(home: Path, certificates: Certificates) -> Iterator[World]:
    """The environment kept in `home`, reachable over HTTPS."""
    environment = Environment(home / "dataverse.sqlite")

    def authenticate(header: str | None) -> Identity:
        return Identity((header or "").removeprefix("Bearer "), None)

    application = Application(environment, authenticate, url="http://localhost")
    stopping = threading.Event()
    jobs = threading.Thread(target=environment.job_loop, args=(stopping,))
    jobs.start()
    try:
        with WebServer(application, certificates=certificates, threads=4) as server:
            application.url = server.url
            yield World(environment, server.url, str(certificates.ca_file))
    finally:
        stopping.set()
        jobs.join()
        environment.close()


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment as Microsoft hands it over, to be copied: making one costs more than a test."""
    home = tmp_path_factory.mktemp("new")
    environment = Environment(home / "dataverse.sqlite")
    ensure_user(environment, "installer", application=INSTALLER)
    ensure_user(environment, "connector", application=CONNECTOR, roles=())
    environment.close()
    return home


@pytest.fixture(scope="session")
def installed_home(
    tmp_path_factory: pytest.TempPathFactory,
    new_home: Path,
    certificates: Certificates,
    model: Model,
    everything: Choices,
) -> Path:
    """An environment with everything installed, to be copied."""
    home = tmp_path_factory.mktemp("installed") / "home"
    shutil.copytree(new_home, home)
    with opened(home, certificates) as world, world.client() as client:
        deploy(client, model, everything, say=lambda line: None)
    return home


@pytest.fixture
def world(tmp_path: Path, new_home: Path, certificates: Certificates) -> Iterator[World]:
    with opened(shutil.copytree(new_home, tmp_path / "world"), certificates) as world:
        yield world


@pytest.fixture
def other_world(tmp_path: Path, new_home: Path, certificates: Certificates) -> Iterator[World]:
    with opened(shutil.copytree(new_home, tmp_path / "other"), certificates) as world:
        yield world


@pytest.fixture
def installed_world(tmp_path: Path, installed_home: Path, certificates: Certificates) -> Iterator[World]:
    with opened(shutil.copytree(installed_home, tmp_path / "installed"), certificates) as world:
        yield world


@pytest.fixture
def installed(installed_world: World) -> Iterator[DataverseClient]:
    """A client of an environment in which everything is installed."""
    with installed_world.client() as client:
        yield client


@pytest.fixture
def client(world: World) -> Iterator[DataverseClient]:
    with world.client() as client:
        yield client


@pytest.fixture(scope="session")
def model() -> Model:
    return load()


@pytest.fixture(scope="session")
def interface(model: Model) -> Interface:
    return load_interface(model)


@pytest.fixture(scope="session")
def everything(model: Model, interface: Interface) -> Choices:
    return Choices(interface=interface, queue=QUEUE, program=programs(model)["MAIN"], application_user=CONNECTOR)
