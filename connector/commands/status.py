"""connector status"""

import argparse
import json

from connector.app import App
from connector.watch import alerts

HELP = "measure what an operator watches: waiting, parked, dead letters, budget"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one figure a line, as JSON")


def run(app: App, arguments: argparse.Namespace) -> int:
    status = 0
    for name, value, attributes in app.watch.measure().flat():
        alert = alerts(name, value)
        if arguments.json:
            print(json.dumps({"name": name, "value": value, "alert": alert, **attributes}))
        else:
            print(f"{'!' if alert else ' '} {name:34} {value:12g}  {' '.join(attributes.values())}".rstrip())
        status |= alert
    return status
