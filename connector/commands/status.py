"""connector status"""

import argparse
import json

from connector.app import App

HELP = "measure what an operator watches: waiting, parked, dead letters, budget"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one figure a line, as JSON")


def run(app: App, arguments: argparse.Namespace) -> int:
    for name, value, attributes in app.watch.measure().flat():
        if arguments.json:
            print(json.dumps({"name": name, "value": value, **attributes}))
        else:
            print(f"{name:34} {value:12g}  {' '.join(attributes.values())}".rstrip())
    return 0
