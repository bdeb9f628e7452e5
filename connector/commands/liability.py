"""connector liability"""

import argparse
import json
import sys

from connector.app import App
from connector.commands.tables import by_month_and_tier
from connector.mass.liability import outstanding

HELP = "points outstanding by tier and month of expiry"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one line of JSON: points by tier and month")


def run(app: App, arguments: argparse.Namespace) -> int:
    customers = 0

    def seen(more: int) -> None:
        nonlocal customers
        customers += more
        if sys.stderr.isatty():
            print(f"\r{customers} customers ...", end="", file=sys.stderr, flush=True)

    points = outstanding(app.client, seen=seen)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if arguments.json:
        found: dict[str, dict[str, int]] = {}
        for (tier, month), n in sorted(points.items()):
            found.setdefault(tier, {})[month] = n
        print(json.dumps(found))
    else:
        print(by_month_and_tier(points, app.programs.current().point_value))
    return 0
