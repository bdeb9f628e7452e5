"""Which customers a run visits, page by page."""

from collections.abc import Iterator
from itertools import pairwise
from math import ceil

from connector.dataverse import BadRequest, DataverseClient
from connector.identity import PARTITIONS
from connector.mass.book import Part, Place
from connector.mass.order import BadOrder, Order
from connector.rows import ledger
from connector.rows.choices import BulkKind
from connector.rows.values import Row

_COLUMNS = f"{ledger.MEMBERSHIP},loy_partition,_loy_customerid_value"
_TOO_MANY = 0x8004E023  # an aggregation over more than 50,000 rows is refused
_REFUSED = 50_000
_PAGES = 5  # a part of fewer pages than this is not divided further


def due(order: Order) -> str:
    """The condition on memberships; empty for everyone."""
    match order.kind:
        case BulkKind.EXPIRY:
            return f"loy_nextexpiryon lt {order.as_of}"
        case BulkKind.REVIEW:
            return f"loy_nextreviewon le {order.as_of}"
        case BulkKind.RULES:
            return ""
        case BulkKind.BACKFILL:
            return "loy_sequence eq 0"
    raise BadOrder(f"loy_kind: {order.kind.name} is not visited customer by customer")


def parts(client: DataverseClient, order: Order, page: int) -> list[Part]:
    """All customers to visit, divided by partition into parts of some pages each. Counts are of this moment."""
    found, waiting = [], [(0, PARTITIONS)]
    while waiting:
        low, high = waiting.pop()
        count = _count(client, order, low, high)
        pieces = min(high - low, ceil(count / (_PAGES * page)))
        if pieces > 1:
            edges = [low + (high - low) * piece // pieces for piece in range(pieces + 1)]
            waiting += reversed(list(pairwise(edges)))
        elif count:
            found.append(Part(low, high, count))
    return found


def pages(client: DataverseClient, order: Order, part: Part, page: int) -> Iterator[list[Row]]:
    """Memberships to visit after what is done of the part, in order of their place."""
    yield from _pages(client, due(order), part, part.done, _even(part.selected, page))


def everybody(client: DataverseClient, part: Part, page: int) -> Iterator[list[Row]]:
    """All memberships from what is done of the part to what was begun."""
    for rows in _pages(client, "", part, part.done, page):
        within = [row for row in rows if place(row) <= part.begun]
        yield within
        if len(within) < len(rows):
            return


def place(row: Row) -> Place:
    return row["loy_partition"], row["loy_customerkey"]


def _pages(client: DataverseClient, condition: str, part: Part, after: Place, size: int) -> Iterator[list[Row]]:
    low = max(part.low, after[0])
    where = " and ".join(filter(None, [f"loy_partition ge {low} and loy_partition lt {part.high}", condition]))
    path = f"loy_memberships?$select={_COLUMNS}&$filter={where}&$orderby=loy_partition,loy_customerkey"
    for rows in client.pages(path, max_page_size=size):
        found: list[Row] = [row for row in rows if place(row) > after]
        if found:
            yield found


def _count(client: DataverseClient, order: Order, low: int, high: int) -> int:
    where = " and ".join(filter(None, [f"loy_partition ge {low} and loy_partition lt {high}", due(order)]))
    try:
        rows = client.get(f"loy_memberships?$apply=filter({where})/aggregate($count as customers)")
    except BadRequest as error:
        if error.code != _TOO_MANY:
            raise
        return _REFUSED
    return rows[0]["customers"] if rows else 0


def _even(selected: int, page: int) -> int:
    """A page size that makes the pages of a part equally full."""
    return min(page, ceil(selected / max(1, ceil(selected / page)))) if selected else page
