"""Points outstanding: what the company owes its customers, by tier and month of expiry."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from connector.dataverse import DataverseClient
from connector.mass.figures import by_month
from connector.mass.selection import PARTITIONS

PENDING, OWED = "pending", "owed"
_RANGES = 16
_PAGE = 5000


def outstanding(
    client: DataverseClient, *, lanes: int = 4, seen: Callable[[int], None] = lambda customers: None
) -> Counter[tuple[str, str]]:
    """Points by (tier, month of expiry) over all memberships, with `pending` and `owed` (below zero) beside the months.

    `seen` hears how many customers each page held.
    """

    def count(low: int) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        high = low + PARTITIONS // _RANGES
        where = f"loy_partition ge {low} and loy_partition lt {high}"
        path = f"loy_memberships?$select=loy_state,loy_pending&$filter={where}&$orderby=loy_partition,loy_customerkey"
        for page in client.pages(path, max_page_size=_PAGE):
            for row in page:
                state = json.loads(row["loy_state"] or "{}")
                tier = state.get("tier") or "-"
                lots = {date.fromisoformat(day): points for day, points in state.get("lots", {}).items()}
                for month, points in by_month(lots).items():
                    found[tier, month] += points
                found[tier, PENDING] += row["loy_pending"] or 0
                found[tier, OWED] -= state.get("owed", 0)
            seen(len(page))
        return found

    total: Counter[tuple[str, str]] = Counter()
    with ThreadPoolExecutor(lanes) as pool:
        for part in pool.map(count, range(0, PARTITIONS, PARTITIONS // _RANGES)):
            total.update(part)
    return Counter({key: points for key, points in total.items() if points})
