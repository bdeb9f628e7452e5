"""connector replay"""

import argparse
from collections.abc import Iterable
from datetime import date

from connector import replay
from connector.app import App
from connector.bus import Change
from connector.commands.showing import line
from connector.dataverse.odata import guid
from connector.differences import differences
from connector.identity import Customer
from connector.loyalty.decisions import Outcome

HELP = "look again at an event, an invoice, a customer or a day; show the difference, then send it"


def options(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--event", metavar="ID", type=guid, help="correlation id, or id of a log row")
    what.add_argument("--invoice", metavar="ID", type=guid)
    what.add_argument("--customer", metavar="KEY", type=Customer.parse, help="account:<id> or contact:<id>")
    what.add_argument(
        "--day", metavar="YYYY-MM-DD", type=date.fromisoformat, help="invoices created or changed then (UTC)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the difference and send nothing")


def run(app: App, arguments: argparse.Namespace) -> int:
    cause = f"replay {app.now():%Y-%m-%dT%H:%M:%S.%f}"
    found = parked = 0
    for preview in differences(app.processor, _chosen(app, arguments, cause)):
        print(line(preview), flush=True)
        if not arguments.dry_run:
            app.send_changes([preview.change])
        found += 1
        parked += preview.decision.outcome is Outcome.PARKED
    print(f"{found} differences{'' if arguments.dry_run or not found else ', sent'}")
    return 1 if parked else 0


def _chosen(app: App, arguments: argparse.Namespace, cause: str) -> Iterable[Change]:
    if arguments.event:
        return replay.of_event(app.client, arguments.event)
    if arguments.invoice:
        return replay.of_invoice(arguments.invoice, cause)
    if arguments.customer:
        return replay.of_customer(app.client, arguments.customer, cause)
    return replay.of_day(app.client, arguments.day, cause)
