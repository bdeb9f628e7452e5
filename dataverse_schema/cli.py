"""`python -m dataverse_schema deploy`: the command line of the installer."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from connector.dataverse import ClientSecretTokens, DataverseClient, DataverseError

from .api import InstallError
from .deploy import Choices, deploy
from .eventing import Queue
from .model import Model, SourceError, load
from .rows import programs

# Creating a table takes Dataverse tens of seconds, and definitions are locked while another change is under way.
_DEADLINE = 600.0


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Exit status: 0 done, 1 it cannot be done (one line on stderr says why), 2 wrong arguments."""
    arguments = _parser().parse_args(argv)
    try:
        model = load()
        return _deploy(arguments, model, environment)
    except (InstallError, SourceError) as error:
        print(f"error: {error}", file=sys.stderr)
    except DataverseError as error:
        print(f"error: Dataverse: {error}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dataverse_schema", description="Install the loyalty solution.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("deploy", help="bring an environment to the state of the source")
    command.add_argument("--url", help="address of the environment; default: DATAVERSE_URL")
    command.add_argument("--dry-run", action="store_true", help="show the plan and change nothing")
    command.add_argument("--no-events", action="store_true", help="leave service endpoint and steps alone")
    command.add_argument("--rotate-key", action="store_true", help="write the queue's key again")
    command.add_argument(
        "--with-example", nargs="?", const="MAIN", metavar="CODE", help="create the example programme (default MAIN)"
    )
    return parser


def _deploy(arguments: argparse.Namespace, model: Model, environment: Mapping[str, str]) -> int:
    queue = None
    if not arguments.no_events:
        connection, name = _setting(environment, "ServiceBusConnection"), _setting(environment, "EVENTS_QUEUE")
        try:
            queue = Queue.from_connection_string(connection, name)
        except ValueError as error:
            raise InstallError(str(error)) from None
    program = None
    if arguments.with_example:
        known = programs(model)
        if arguments.with_example not in known:
            raise InstallError(
                f"--with-example: there is no programme {arguments.with_example}, only {', '.join(known)}"
            )
        program = known[arguments.with_example]
    choices = Choices(queue, arguments.rotate_key, program)
    with connect(environment, arguments.url) as client:
        deploy(client, model, choices, dry_run=arguments.dry_run)
    return 0


def connect(environment: Mapping[str, str], url: str | None = None) -> DataverseClient:
    """A client for the environment that the settings name."""
    address = (url or _setting(environment, "DATAVERSE_URL")).rstrip("/")
    if not address.startswith("https://"):
        raise InstallError(f"DATAVERSE_URL: {address} must begin with https://")
    ca_file = environment.get("DATAVERSE_CA_FILE") or None
    tokens = ClientSecretTokens(
        _setting(environment, "DATAVERSE_TENANT_ID"),
        _setting(environment, "DATAVERSE_CLIENT_ID"),
        _setting(environment, "DATAVERSE_CLIENT_SECRET"),
        address,
        environment.get("DATAVERSE_AUTHORITY") or "https://login.microsoftonline.com",
        ca_file,
    )
    return DataverseClient(address, tokens, ca_file=ca_file, deadline=_DEADLINE)


def _setting(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise InstallError(f"Setting {name} is missing.")
    return value
