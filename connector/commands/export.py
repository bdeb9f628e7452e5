"""connector export"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from connector import histories
from connector.app import App
from connector.identity import Customer
from connector.loyalty.journal_text import transaction

HELP = "write the ledger as a plain text accounting journal (hledger, ledger)"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")


def run(app: App, arguments: argparse.Namespace) -> int:
    with ExitStack() as stack:
        out = stack.enter_context(arguments.out.open("w", encoding="utf-8")) if arguments.out else sys.stdout
        print("commodity P\n    format 1000. P\n", file=out)
        for rows in histories.members(app.client, "loy_customerkey,loy_sequence"):
            customers = {row["loy_membershipid"]: Customer.parse(row["loy_customerkey"]) for row in rows}
            for page in histories.entries(app.client, customers):
                for entry in page:
                    for line in transaction(entry):
                        print(line, file=out)
    return 0
