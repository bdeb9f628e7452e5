"""connector explain"""

import argparse
from collections.abc import Iterator

from connector import histories
from connector.app import App
from connector.dataverse.odata import printable
from connector.identity import Customer
from connector.loyalty.explaining import explain
from connector.loyalty.ledger import Entry, LedgerError

HELP = "tell how a balance came about, from the entries alone"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("customer", type=Customer.parse, help="account:<id> or contact:<id>")


def run(app: App, arguments: argparse.Namespace) -> int:
    customer: Customer = arguments.customer

    def entries() -> Iterator[Entry]:
        for page in histories.entries(app.client, {customer.membership_id: customer}):
            yield from page

    try:
        for sentence in explain(entries()):
            print(printable(sentence))  # it may quote what people wrote
    except LedgerError as error:
        print(f"The history is broken from here on: {error}.")
        return 1
    return 0
