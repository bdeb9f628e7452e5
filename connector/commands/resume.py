"""connector resume"""

import argparse

from connector import replay
from connector.app import App
from connector.dataverse.odata import guid, printable

HELP = "send parked changes again"


def options(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--log", metavar="ID", type=guid, help="one row of the integration log")
    what.add_argument("--reason", metavar="CLASS", help="all that were parked for this reason, for example no_rule")
    what.add_argument("--all", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="list them and send nothing")


def run(app: App, arguments: argparse.Namespace) -> int:
    sent = unreadable = 0
    for row, change in replay.parked(app.client, app.now(), log=arguments.log or "", reason=arguments.reason or ""):
        print(printable(f"{row['loy_reasonclass']} {row['loy_field'] or '-'}: {row['loy_name']}"), flush=True)
        if change is None:
            unreadable += 1
            continue
        if not arguments.dry_run:
            app.send_changes([change])
        sent += 1
    print(f"{sent} parked changes{'' if arguments.dry_run or not sent else ', sent again'}")
    if unreadable:
        print(f"{unreadable} messages could not be read: there is nothing to send")
    return 1 if unreadable else 0
