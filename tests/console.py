"""The administrator's commands on an `Office`: what they print, what they send."""

import contextlib
import io
import json
from collections.abc import Sequence
from typing import Any
from unittest import mock

from connector import cli
from connector.app import App
from connector.bus import Change
from connector.rows.programs import Programs
from connector.settings import Settings, read_settings
from tests.office import Office

SETTINGS = {
    "DATAVERSE_URL": "https://contoso.crm4.dynamics.com",
    "DATAVERSE_TENANT_ID": "contoso.onmicrosoft.com",
    "DATAVERSE_CLIENT_ID": "00000000-0000-0000-0000-000000000001",
    "DATAVERSE_CLIENT_SECRET": "the-client-secret",
    "ServiceBusConnection": "Endpoint=sb://contoso.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=the-key=",
    "LOYALTY_PROGRAM": "CJ",
}


def settings(**more: str) -> Settings:
    return read_settings(SETTINGS | more)


class _Sender:
    def __init__(self, sent: list[Change]) -> None:
        self._sent = sent

    def send(self, changes: Sequence[Change]) -> None:
        self._sent += changes

    def close(self) -> None:
        """Nothing is open."""


class Console:
    """`sent` are the changes that the last command put on the queue; they are not applied."""

    def __init__(self, office: Office, **parts: Any) -> None:
        self._office = office
        self._parts = parts
        self.sent: list[Change] = []
        self.output = ""
        self.errors = ""

    def app(self) -> App:
        app = App(settings())
        office = self._office
        vars(app).update(
            # Closing an app closes its client; this one belongs to the office.
            client=mock.Mock(wraps=office.client, close=lambda: None),
            programs=Programs(office.client, "CJ"),
            processor=office.processor,
            changes=_Sender(self.sent),
            **self._parts,
        )
        return app

    def run(self, *arguments: str) -> int:
        """The exit status."""
        self.sent.clear()
        output, errors = io.StringIO(), io.StringIO()
        with (
            mock.patch.object(cli, "App", lambda _: self.app()),
            mock.patch.dict("os.environ", SETTINGS),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            try:
                status = cli.main(arguments)
            except SystemExit as stopped:
                status = int(stopped.code or 0)
        self.output, self.errors = output.getvalue(), errors.getvalue()
        return status

    def json(self, *arguments: str) -> tuple[int, Any]:
        status = self.run(*arguments, "--json")
        return status, json.loads(self.output)

    def apply(self) -> None:
        """Apply what the last command sent, and what follows."""
        self._office.sent += self.sent
        self._office.work([])
