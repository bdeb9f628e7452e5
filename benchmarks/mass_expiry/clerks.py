"""Clerks who redeem all the time, over the HTTP API: `python -m benchmarks.mass_expiry.clerks`, told on its standard input.

They come at random moments, whether or not the answer before has come, and their wait is counted from the moment they came. Two
thirds of them follow the run: they ask for customers who are being written right now, or will be next. Each redemption is a
line of JSON on the standard output.
"""

import json
import random
import sqlite3
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter

_printing = threading.Lock()
_WAIT = 30
_AHEAD = 2000  # customers: the page in the making and the next
_LAST = "SELECT loy_membershipid, loy_bulkrunid FROM loy_entry ORDER BY versionnumber DESC LIMIT 1 OFFSET ?"
_NEXT = (
    "SELECT loy_customerkey FROM loy_membership WHERE loy_partition = ? AND loy_customerkey > ? AND loy_nextexpiryon < ? "
    "ORDER BY loy_customerkey LIMIT 1 OFFSET ?"
)
_PLACE = "SELECT loy_partition, loy_customerkey FROM loy_membership WHERE loy_membershipid = ?"


@dataclass(frozen=True, slots=True)
class Orders:
    """`customers` are keys; `file` the local Dataverse's, to see where the run is; `each` redemptions a second of each clerk."""

    url: str
    function_key: str
    customers: list[str]
    file: str
    as_of: str
    clerks: int
    each: float
    seed: int


@dataclass(frozen=True, slots=True)
class Served:
    """`at` is when the clerk came, on the machine's clock; `waited` is in seconds; `outcome` completed, or why not."""

    at: float
    waited: float
    outcome: str
    where: str
    customer: str
    points: int


class Clerk:
    def __init__(self, orders: Orders, number: int, session: requests.Session) -> None:
        self._orders = orders
        self._chance = random.Random(f"{orders.seed}/clerk {number}")
        self._number = number
        self._session = session
        self._file = sqlite3.connect(f"file:{orders.file}?mode=ro", uri=True, check_same_thread=False, timeout=30)

    def work(self, stopping: threading.Event) -> None:
        come = time.monotonic()
        count = 0
        while True:
            come += self._chance.expovariate(self._orders.each)
            if stopping.wait(max(0.0, come - time.monotonic())):
                return
            count += 1
            where, customer = self._customer()
            points = self._chance.randint(1, 20)
            outcome = self._redeem(customer, points, f"clerk-{self._orders.seed}-{self._number}-{count}")
            served = Served(come, time.monotonic() - come, outcome, where, customer, points)
            with _printing:
                print(json.dumps(asdict(served)), flush=True)

    def _customer(self) -> tuple[str, str]:
        where = self._chance.choice(("anywhere", "next", "just now"))
        last = self._file.execute(_LAST, (self._chance.randrange(1000),)).fetchone()
        if last and last[1] and where != "anywhere":
            partition, key = self._file.execute(_PLACE, last[:1]).fetchone()
            if where == "just now":
                return where, key
            ahead = (partition, key, self._orders.as_of, self._chance.randrange(_AHEAD))
            if found := self._file.execute(_NEXT, ahead).fetchone():
                return where, found[0]
        return "anywhere", self._chance.choice(self._orders.customers)

    def _redeem(self, customer: str, points: int, key: str) -> str:
        """A clerk whose request gets no answer asks again with the same key."""
        body = {"customer": customer, "points": points, "description": "Voucher", "channel": "shop"}
        headers = {
            "x-functions-key": self._orders.function_key,
            "Idempotency-Key": key,
            "Prefer": f"wait={_WAIT}",
        }
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                answer = self._session.post(
                    f"{self._orders.url}/api/redemptions", json=body, headers=headers, timeout=_WAIT + 30
                )
            except requests.RequestException:
                continue
            if answer.status_code == 201:
                return "completed"
            if answer.status_code == 409:
                return str(answer.json()["code"])
        return "no answer"


def main() -> int:
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    orders = Orders(**told)
    stopping = threading.Event()
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=orders.clerks))
    threads = [
        threading.Thread(target=Clerk(orders, number, session).work, args=(stopping,))
        for number in range(orders.clerks)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()  # until whoever told us closes it
    stopping.set()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
