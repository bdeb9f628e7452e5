"""The commands of an administrator: `python -m connector audit`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from connector.app import App
from connector.audit import Audit, Report
from connector.dataverse import DataverseError
from connector.doctor import examine
from connector.findings import Level
from connector.rows.programs import read_program
from connector.rows.values import Unusable
from connector.settings import SettingsError, read_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: all is well; 1: a law is broken; 2: the command could not be carried out."""
    parser = argparse.ArgumentParser(prog="connector", description="Loyalty points for Dynamics 365 Sales.")
    commands = parser.add_subparsers(dest="command", required=True)
    audit_parser = commands.add_parser("audit", help="prove the laws of the ledger from the rows alone")
    audit_parser.add_argument("--json", action="store_true", help="the report as one line of JSON")
    doctor_parser = commands.add_parser("doctor", help="say what is wrong with an environment and what to do about it")
    doctor_parser.add_argument("--json", action="store_true", help="one finding a line, as JSON")
    arguments = parser.parse_args(argv)
    try:
        app = App(read_settings(os.environ))
        try:
            run = doctor if arguments.command == "doctor" else audit
            return run(app, as_json=arguments.json)
        finally:
            app.close()
    except (SettingsError, DataverseError, Unusable) as error:
        print(f"connector: {error}", file=sys.stderr)
        return 2


def audit(app: App, *, as_json: bool) -> int:
    program = read_program(app.client, app.settings.loyalty_program)
    report = Audit(app.client, program, app.now()).run(_progress if sys.stderr.isatty() else lambda report: None)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if as_json:
        print(json.dumps({"holds": report.holds, "counts": report.counts, "violations": report.violations}))
    else:
        print("audit: " + ", ".join(f"{count} {what}" for what, count in report.counts.items()))
        for violation in report.violations:
            print(f"  broken: {violation}")
        print("every law of the ledger holds" if report.holds else f"{len(report.violations)} violations")
    return 0 if report.holds else 1


def doctor(app: App, *, as_json: bool) -> int:
    worst = 0
    for finding in examine(app.client, app.settings, Path.cwd(), app.now):
        print(json.dumps(asdict(finding)) if as_json else finding, flush=True)
        worst = max(worst, int(finding.level is Level.WRONG))
    return worst


def _progress(report: Report) -> None:
    counts = report.counts
    print(f"\r{counts['customers']} customers, {counts['entries']} entries ...", end="", file=sys.stderr, flush=True)
