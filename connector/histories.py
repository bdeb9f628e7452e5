"""Reads histories of many customers with bounded memory: a page of entries at a time, never a whole history."""

from collections.abc import Iterator, Mapping

from connector.dataverse import DataverseClient
from connector.dataverse.odata import any_of
from connector.identity import Customer
from connector.loyalty.ledger import Entry
from connector.rows import ledger
from connector.rows.values import Row

CUSTOMERS_AT_ONCE = 40
ENTRIES_AT_ONCE = 20_000
_ENTRIES = 2000


def members(client: DataverseClient, columns: str, which: str = "") -> Iterator[list[Row]]:
    """Memberships, some at a time: fewer where histories are long, one alone where it is longer than the limit.

    `columns` must have `loy_sequence`, which is the length of a history; `which` is a filter, for everybody where empty.
    """
    path = f"loy_memberships?$select={columns}"
    if which:
        # As the key over both columns has them: the rows of a part are neighbours in it.
        path += f"&$filter={which}&$orderby=loy_partition,loy_customerkey"
    some: list[Row] = []
    entries = 0
    for page in client.pages(path, max_page_size=CUSTOMERS_AT_ONCE * 10):
        for row in page:
            length = row["loy_sequence"] or 0
            if some and (len(some) == CUSTOMERS_AT_ONCE or entries + length > ENTRIES_AT_ONCE):
                yield some
                some, entries = [], 0
            some.append(row)
            entries += length
    if some:
        yield some


def entries(client: DataverseClient, customers: Mapping[str, Customer]) -> Iterator[list[Entry]]:
    """Pages of the entries of some customers, by membership id. Those of one customer come in order, mixed with others'."""
    if not customers:
        return
    path = (
        f"loy_entries?$select={ledger.ENTRY}&$filter={any_of('_loy_membershipid_value', list(customers))}"
        "&$orderby=loy_sequence,loy_entryid"
    )
    for page in client.pages(path, max_page_size=_ENTRIES):
        yield [ledger.entry_of(customers[row["_loy_membershipid_value"]], row) for row in page]
