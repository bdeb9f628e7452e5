"""connector sweep"""

import argparse

from connector.app import App
from connector.commands.showing import line

HELP = "post changes for rows that events have missed"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--full", action="store_true", help="look at every row, not only at those changed since the last sweep"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be posted; send and keep nothing")


def run(app: App, arguments: argparse.Namespace) -> int:
    report = app.sweep.run(
        full=arguments.full, dry_run=arguments.dry_run, found=lambda preview: print(line(preview), flush=True)
    )
    print(f"{'Dry run. ' if arguments.dry_run else ''}{report}")
    return 0
