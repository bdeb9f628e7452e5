"""`python -m dataverse_schema`: build the solution, install it, remove it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from connector.dataverse import DataverseClient, NotFound
from connector.doctor import examine
from connector.findings import Level
from connector.settings import Settings, SettingsError, read_settings
from connector.sign_in import dataverse_tokens

from .api import InstallError, explained
from .deploy import Choices, deploy
from .eventing import Queue
from .interface import load_interface
from .model import Model, SourceError, load
from .package import build, solution_zip
from .reference import reference
from .rows import Program, programs
from .uninstall import uninstall

# Creating a table takes Dataverse tens of seconds, and definitions are locked while another change is under way.
_TIMEOUT, _DEADLINE, _SIGN_IN_DEADLINE = 180.0, 900.0, 15.0


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Exit status: 0 done, 1 it cannot be done (one line on stderr says why), 2 wrong arguments."""
    arguments = _parser().parse_args(argv)
    try:
        model = load()
        if arguments.command == "build":
            for path in build(model, load_interface(model), arguments.out):
                print(path)
            return 0
        if arguments.command == "reference":
            return _reference(arguments, model)
        settings = read_settings(dict(environment) | ({"DATAVERSE_URL": arguments.url} if arguments.url else {}))
        with connect(settings) as client:
            signed_in(client)
            if arguments.command == "uninstall":
                interface = load_interface(model)
                uninstall(client, model, interface, with_data=arguments.with_data, dry_run=arguments.dry_run)
            else:
                deploy(client, model, _choices(arguments, model, settings), dry_run=arguments.dry_run)
                if arguments.doctor and not arguments.dry_run:
                    return _doctor(client, settings)
        return 0
    except (InstallError, SettingsError, SourceError) as error:
        print(f"error: {error}", file=sys.stderr)
    return 1


def signed_in(client: DataverseClient) -> None:
    """Raises `InstallError` unless Dataverse answers and knows us."""
    elsewhere = (
        "What answers there is no Dataverse. Check DATAVERSE_URL: the environment's address, as in its own pages."
    )
    try:
        # A wrong address should be said in seconds, not after the patience that definitions need.
        who = explained("Signing in", lambda: client.request("GET", "WhoAmI", deadline=_SIGN_IN_DEADLINE)).json()
    except ValueError:
        raise InstallError(elsewhere) from None
    except InstallError as error:
        if isinstance(error.__cause__, NotFound):
            raise InstallError(elsewhere) from error
        raise
    if not isinstance(who, dict) or "OrganizationId" not in who:
        raise InstallError(elsewhere)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dataverse_schema", description="Install the loyalty solution.")
    commands = parser.add_subparsers(dest="command", required=True)
    environment = argparse.ArgumentParser(add_help=False)
    environment.add_argument("--url", help="address of the environment; default: DATAVERSE_URL")
    environment.add_argument("--dry-run", action="store_true", help="show the plan and change nothing")
    command = commands.add_parser(
        "deploy", parents=[environment], help="bring an environment to the state of the source"
    )
    command.add_argument("--managed", action="store_true", help="import the managed solution instead of making parts")
    command.add_argument(
        "--application-user", metavar="CLIENT_ID", help="who gets the connector's role; default: DATAVERSE_CLIENT_ID"
    )
    command.add_argument("--doctor", action="store_true", help="end with the doctor; its WRONG is exit status 1")
    command.add_argument("--tables-only", action="store_true", help="no forms, views, roles, app and command")
    command.add_argument("--no-events", action="store_true", help="leave service endpoint and steps alone")
    command.add_argument("--rotate-key", action="store_true", help="write the queue's key again")
    command.add_argument(
        "--with-example", nargs="?", const="MAIN", metavar="CODE", help="create the example programme (default MAIN)"
    )
    command = commands.add_parser("uninstall", parents=[environment], help="remove what deploy made")
    command.add_argument("--with-data", action="store_true", help="remove tables and columns too, with all their data")
    command = commands.add_parser("build", help="write the managed and the unmanaged solution zip")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command = commands.add_parser("reference", help="write the reference of tables, events and roles")
    command.add_argument("--out", type=Path, default=Path("docs/reference"), metavar="DIR")
    command.add_argument("--check", action="store_true", help="fail if the files are not current")
    return parser


def _reference(arguments: argparse.Namespace, model: Model) -> int:
    outdated = []
    for name, text in reference(model, load_interface(model)).items():
        path = arguments.out / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        outdated.append(name)
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)
    if arguments.check and outdated:
        print(f"error: out of date: {', '.join(outdated)}; run python -m dataverse_schema reference", file=sys.stderr)
        return 1
    return 0


def _doctor(client: DataverseClient, settings: Settings) -> int:
    worst = 0
    for finding in examine(client, settings, Path.cwd(), lambda: datetime.now(UTC)):
        print(finding, flush=True)
        worst = max(worst, int(finding.level is Level.WRONG))
    return worst


def _choices(arguments: argparse.Namespace, model: Model, settings: Settings) -> Choices:
    return Choices(
        interface=None if arguments.tables_only else load_interface(model),
        queue=None if arguments.no_events else _queue(settings),
        rotate_key=arguments.rotate_key,
        program=_program(model, arguments.with_example) if arguments.with_example else None,
        application_user=None if arguments.tables_only else arguments.application_user or settings.dataverse_client_id,
        package=solution_zip(model, load_interface(model), managed=True) if arguments.managed else None,
    )


def _queue(settings: Settings) -> Queue:
    # Dataverse only sends: a company may give it a key of its own that can do no more.
    connection = settings.events_send_connection or settings.service_bus_connection
    if not connection:
        raise InstallError(
            "EventsSendConnection is missing: Dataverse sends events with a key, it has no managed identity"
        )
    try:
        return Queue.from_connection_string(connection, settings.events_queue)
    except ValueError as error:
        raise InstallError(str(error)) from None


def _program(model: Model, code: str) -> Program:
    known = programs(model)
    if code not in known:
        raise InstallError(f"--with-example: there is no programme {code}, only {', '.join(known)}")
    return known[code]


def connect(settings: Settings) -> DataverseClient:
    """A client that waits as long as definitions take."""
    url, ca_file = settings.dataverse_url.rstrip("/"), settings.dataverse_ca_file
    if ca_file and not Path(ca_file).is_file():
        raise InstallError(f"DATAVERSE_CA_FILE: there is no file {ca_file}.")
    return DataverseClient(url, dataverse_tokens(settings), ca_file=ca_file, timeout=_TIMEOUT, deadline=_DEADLINE)
