"""connector doctor"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from connector.app import App
from connector.doctor import examine
from connector.findings import Level

HELP = "say what is wrong with an environment and what to do about it"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--probe", action="store_true", help="also try whether an event comes back from Dataverse")
    parser.add_argument("--json", action="store_true", help="one finding a line, as JSON")


def run(app: App, arguments: argparse.Namespace) -> int:
    worst = 0
    for finding in examine(app.client, app.settings, Path.cwd(), app.now, probe=arguments.probe):
        print(json.dumps(asdict(finding)) if arguments.json else finding, flush=True)
        worst = max(worst, int(finding.level is Level.WRONG))
    return worst
