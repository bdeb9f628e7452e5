"""One environment for each test, in this process, behind a `requests` session without a socket."""

import datetime
import shutil
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from local.dataverse.adapter import DataverseAdapter
from local.dataverse.app import Application
from local.dataverse.auth import Identity, Unauthorized
from local.dataverse.environment import Environment
from local.dataverse.provisioning import ensure_user

URL = "https://org.example"
ROOT = f"{URL}/api/data/v9.2/"


def label(text: str) -> dict[str, Any]:
    return {"LocalizedLabels": [{"Label": text, "LanguageCode": 1033}]}


class Dataverse:
    """The environment and a client of it. `now` is the clock; tests move it. Tokens are user names here."""

    def __init__(self, path: Path) -> None:
        self.now = datetime.datetime(2026, 3, 1, 9, 30, tzinfo=datetime.UTC)
        self.env = Environment(path, clock=lambda: self.now)
        self.env.storage.writer.execute("PRAGMA synchronous=OFF")  # nobody pulls the plug on a test
        self.people: dict[str, Identity] = {}
        application = str(uuid.uuid4())
        self.admin = ensure_user(self.env, "admin", application=application)
        self.people["admin"] = Identity(application, None)
        self.application = Application(
            self.env, self._authenticate, url=URL, authorization_uri="https://login.example/t"
        )
        self.session = requests.Session()
        self.session.mount(URL, DataverseAdapter(self.application))
        self.session.headers["Authorization"] = "Bearer admin"

    def _authenticate(self, header: str | None) -> Identity:
        name = (header or "").removeprefix("Bearer ")
        if name not in self.people:
            raise Unauthorized(name)
        return self.people[name]

    def person(self, name: str, *roles: str) -> str:
        """A user with these roles, who signs in by the token of the same name; answers the user's id."""
        object_id = str(uuid.uuid4())
        self.people[name] = Identity(None, object_id)
        return ensure_user(self.env, name, object_id=object_id, roles=roles)

    def send(self, method: str, path: str, body: Any = None, user: str = "admin", **headers: str) -> requests.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()} | {"Authorization": f"Bearer {user}"}
        data = body if isinstance(body, bytes | str) or body is None else None
        url = path if path.startswith("http") else ROOT + path
        return self.session.request(method, url, json=body if data is None else None, data=data, headers=sent)

    def ok(self, method: str, path: str, body: Any = None, user: str = "admin", **headers: str) -> Any:
        """The JSON of a successful answer; the new row's id after a create."""
        answer = self.send(method, path, body, user, **headers)
        assert answer.status_code < 300, answer.text
        if answer.content:
            return answer.json(parse_float=Decimal)
        return answer.headers.get("OData-EntityId", "").rpartition("(")[2].rstrip(")")

    def fails(
        self, status: int, code: str, method: str, path: str, body: Any = None, user: str = "admin", **headers: str
    ) -> str:
        """Asserts the documented refusal; answers its message."""
        answer = self.send(method, path, body, user, **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
        return str(answer.json()["error"]["message"])

    def table(self, name: str = "new_Thing", **more: Any) -> str:
        """A custom table; answers its path below the service root."""
        self.ok(
            "POST",
            "EntityDefinitions",
            {
                "SchemaName": name,
                "DisplayName": label("Thing"),
                "DisplayCollectionName": label("Things"),
                "OwnershipType": "UserOwned",
                "Attributes": [column("String", "new_Name", MaxLength=100, IsPrimaryName=True)],
                **more,
            },
        )
        return f"EntityDefinitions(LogicalName='{name.lower()}')"

    def key(self, table: str, name: str, *columns: str) -> None:
        self.ok(
            "POST", f"{table}/Keys", {"SchemaName": name, "DisplayName": label(name), "KeyAttributes": list(columns)}
        )
        self.env.run_jobs()


def column(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "@odata.type": f"Microsoft.Dynamics.CRM.{kind}AttributeMetadata",
        "SchemaName": name,
        "DisplayName": label(name),
        **more,
    }


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment, made once: each test starts from a copy."""
    path = tmp_path_factory.mktemp("dataverse") / "template.db"
    env = Environment(path)
    env.storage.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    env.close()
    return path


@pytest.fixture
def dataverse(tmp_path: Path, template: Path) -> Iterator[Dataverse]:
    shutil.copyfile(template, tmp_path / "dataverse.db")
    made = Dataverse(tmp_path / "dataverse.db")
    yield made
    made.env.close()
