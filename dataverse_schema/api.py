"""The Web API as the installer needs it: definitions and rows, answered as JSON, errors as one sentence each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from connector.dataverse import DataverseError, Forbidden, NotFound, Unauthorized
from connector.dataverse.odata import text

__all__ = ["Client", "InstallError", "Json", "WebApi", "explained", "text"]

Json = dict[str, Any]
_NOT_A_MEMBER = 0x80072560
# Dataverse changes definitions one at a time: somebody else's publish or import holds the lock for minutes.
_LOCKED = 0x80071151
_PATIENCE = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0)


class InstallError(Exception):
    """The installation cannot go on; the message says in a sentence why and what to do."""


class Client(Protocol):
    """What of `connector.dataverse.DataverseClient` is used here."""

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any: ...


@dataclass(frozen=True)
class WebApi:
    """`solution`: unique name of the unmanaged solution that new components are added to, once it exists."""

    client: Client
    solution: str | None = None
    sleep: Callable[[float], None] = time.sleep

    def get(self, path: str) -> Json | None:
        """One row or definition; None when there is none."""
        try:
            found: Json = self._send("GET", path, headers={"Consistency": "Strong"}).json()
        except NotFound:
            return None
        return found

    def root(self) -> str:
        """The absolute address under which rows are named in references."""
        context = str((self.get("WhoAmI") or {}).get("@odata.context", ""))
        return context.partition("$metadata")[0]

    def rows(self, path: str) -> list[Json]:
        found = self.get(path)
        rows: list[Json] = (found or {}).get("value", [])
        return rows

    def create(self, path: str, body: Json) -> None:
        self._send("POST", path, body)

    def call(self, action: str, body: Json | None = None) -> Json:
        """An unbound or bound action; its answer."""
        answer = self._send("POST", action, body or {})
        found: Json = {} if answer.status == 204 else answer.json()
        return found

    def replace(self, path: str, definition: Json) -> None:
        """Definitions know no PATCH: the whole definition goes back, labels in other languages stay."""
        self._send("PUT", path, definition, headers={"MSCRM.MergeLabels": "true"})

    def update(self, path: str, body: Json) -> None:
        self._send("PATCH", path, body, headers={"If-Match": "*"})

    def delete(self, path: str) -> None:
        try:
            self._send("DELETE", path)
        except NotFound:
            return

    def _send(self, method: str, path: str, body: Json | None = None, headers: Mapping[str, str] | None = None) -> Any:
        sent = dict(headers or {})
        if self.solution and method in ("POST", "PUT"):
            sent["MSCRM.SolutionUniqueName"] = self.solution
        for pause in _PATIENCE:
            try:
                return self.client.request(method, path, body, sent)
            except DataverseError as error:
                if error.code != _LOCKED:
                    raise
            self.sleep(pause)
        return self.client.request(method, path, body, sent)


def explained[T](what: str, call: Callable[[], T]) -> T:
    """The result of `call`; its Dataverse error becomes an `InstallError` that begins with `what`."""
    try:
        return call()
    except DataverseError as error:
        raise InstallError(f"{what}: {_sentence(error)}") from error


def _sentence(error: DataverseError) -> str:
    """What happened and what to do."""
    said = error.message.rstrip(".")
    if error.status == 0:
        return f"Dataverse does not answer ({said}). Check the URL and the network, then run again."
    if isinstance(error, Unauthorized):
        return f"Dataverse does not let us in ({said}). Check URL, tenant, client id and client secret."
    if error.code == _NOT_A_MEMBER:
        return (
            "this app registration is no user of the environment. Add it in the Power Platform admin centre "
            "(Environments, Settings, Application users), then run again."
        )
    if isinstance(error, Forbidden):
        return (
            f"Dataverse refuses ({said}). Give the user that installs the role System Administrator or System Customizer, "
            "then run again."
        )
    return f"Dataverse answers {error.status} {error.hex_code}: {said}."
