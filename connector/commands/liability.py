"""connector liability"""

import argparse
import json
import sys
import time

from connector.app import App
from connector.commands.tables import by_month_and_tier
from connector.mass import Order, Progress
from connector.mass.liability import points_of
from connector.rows.choices import BulkKind, BulkStatus

HELP = "count the points outstanding by tier and month of expiry; the count is kept for Dynamics too"
_LOOK = 1.0  # seconds between two looks when the function app's timer has the last parts


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one line of JSON: points by tier and month")


def run(app: App, arguments: argparse.Namespace) -> int:
    run_id = app.mass.start(Order(BulkKind.OUTSTANDING, app.now().date(), f"Points outstanding {app.now():%F %H:%M}"))
    while (found := app.mass.work(run_id, progress=_show)).status is BulkStatus.RUNNING:
        time.sleep(_LOOK)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if found.status is not BulkStatus.DONE:
        print(f"connector: run {run_id} is {found.status.name.lower()}: its row can be resumed", file=sys.stderr)
        return 1
    points = points_of(found)
    if arguments.json:
        tiers: dict[str, dict[str, int]] = {}
        for (tier, month), n in sorted(points.items()):
            tiers.setdefault(tier, {})[month] = n
        print(json.dumps(tiers))
    else:
        print(by_month_and_tier(points, app.programs.current().point_value))
    return 0


def _show(progress: Progress) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress.totals.done} customers ...", end="", file=sys.stderr, flush=True)
