"""The whole local stack under load: a queue ten times as deep, one customer alone, a thousand redemptions at once."""

import itertools
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

from benchmarks.mass_expiry.processes import Local
from connector.app import App
from connector.identity import Customer
from connector.rows.choices import AdjustmentStatus
from connector.settings import read_settings

DEPTHS = (200, 2_000)
TILLS = 1_000
HOT = 200
_WITHIN = 600.0


class Load:
    def __init__(self, stack: Local, say: Callable[[str], None]) -> None:
        self._stack, self._say = stack, say
        self._app = App(read_settings(stack.endpoints["settings"]))

    def customers(self, number: int) -> list[Customer]:
        made = [Customer("account", str(uuid4())) for _ in range(number)]
        for some in itertools.batched(made, 500, strict=False):
            rows = [{"accountid": customer.id, "name": "Limits"} for customer in some]
            self._app.client.create_multiple("accounts", "account", rows)
        return made

    def drained(self, customers: Sequence[Customer], points: int) -> tuple[float, float]:
        """An adjustment for each place in `customers`; seconds until all were put there, and until all were decided."""
        before, began = self._open(), time.monotonic()
        for some in itertools.batched(customers, 500, strict=False):
            rows = [_adjustment(customer, points) for customer in some]
            self._app.client.create_multiple("loy_adjustments", "loy_adjustment", rows)
        asked = time.monotonic() - began
        while (left := self._open() - before) > 0:
            if time.monotonic() - began > _WITHIN:
                raise TimeoutError(f"{left} changes are not decided after {_WITHIN:.0f} s")
            time.sleep(0.2)
        return asked, time.monotonic() - began

    def _open(self) -> int:
        condition = f"loy_status eq {AdjustmentStatus.REQUESTED.value}"
        found: Any = self._app.client.request("GET", f"loy_adjustments/$count?$filter={condition}")
        return int(found.body.decode("utf-8-sig"))

    def tills(self, customers: Sequence[Customer]) -> dict[str, Any]:
        """One redemption for each customer, all at once; what was answered, and after how many seconds."""
        url = f"{self._stack.endpoints['functions_url']}/api/redemptions"
        key = {"x-functions-key": self._stack.endpoints["function_key"], "Prefer": "wait=30"}

        def redeem(customer: Customer) -> tuple[int, float]:
            began = time.monotonic()
            body, headers = {"customer": str(customer), "points": 100}, key | {"Idempotency-Key": str(uuid4())}
            try:
                status = requests.post(url, json=body, headers=headers, timeout=300).status_code
            except requests.RequestException:
                status = 0
            return status, time.monotonic() - began

        began = time.monotonic()
        with ThreadPoolExecutor(len(customers)) as pool:
            found = list(pool.map(redeem, customers))
        seconds = sorted(took for _, took in found)
        return {
            "answers": Counter(status for status, _ in found),
            "all": time.monotonic() - began,
            "median": statistics.median(seconds),
            "p95": seconds[int(len(seconds) * 0.95)],
            "slowest": seconds[-1],
        }

    def close(self) -> None:
        self._app.close()


def run(say: Callable[[str], None]) -> dict[str, Any]:
    """Figures by name, from one stack."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="limits-") as home, Local(Path(home), "--program", "CJ") as stack:
        load = Load(stack, say)
        customers = load.customers(max(*DEPTHS, TILLS))
        for depth in DEPTHS:
            asked, took = load.drained(customers[:depth], 1000)
            found[f"{depth} changes at once"] = {"seconds": took, "a second": depth / took, "rows made in": asked}
            say(f"{depth} changes: {took:.1f} s")
        _, took = load.drained([customers[0]] * HOT, 1)
        found["one customer alone"] = {"seconds": took, "a second": HOT / took}
        say(f"one customer alone: {HOT / took:.0f} a second")
        found[f"{TILLS} redemptions at once"] = load.tills(customers[:TILLS])
        load.close()
    return found


def _adjustment(customer: Customer, points: int) -> dict[str, Any]:
    bind = {f"loy_CustomerId_{customer.table}@odata.bind": f"/{customer.entity_set}({customer.id})"}
    row = {"loy_adjustmentid": str(uuid4()), "loy_name": "Limits", "loy_points": points, "loy_reason": "limits"}
    return row | bind
