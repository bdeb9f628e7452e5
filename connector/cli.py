"""The commands of an administrator: `python -m connector audit`."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from azure.core.exceptions import AzureError

from connector.app import App
from connector.dataverse import DataverseError
from connector.logs import redact
from connector.rows.values import Unusable
from connector.settings import SettingsError, read_settings

COMMANDS = (
    "audit",
    "backfill",
    "dead-letters",
    "doctor",
    "explain",
    "export",
    "liability",
    "mass",
    "replay",
    "resume",
    "status",
    "sweep",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: all is well; 1: something needs a person; 2: the command could not be carried out."""
    parser = argparse.ArgumentParser(prog="connector", description="Loyalty points for Dynamics 365 Sales.")
    parsers = parser.add_subparsers(dest="command", required=True)
    modules = {name: import_module(f"connector.commands.{name.replace('-', '_')}") for name in COMMANDS}
    for name, module in modules.items():
        module.options(parsers.add_parser(name, help=module.HELP, description=module.HELP))
    arguments = parser.parse_args(argv)
    try:
        app = App(read_settings(os.environ))
        try:
            return int(modules[arguments.command].run(app, arguments))
        finally:
            app.close()
    except (SettingsError, DataverseError, Unusable, AzureError) as error:
        print(f"connector: {redact(str(error))}", file=sys.stderr)
        return 2
