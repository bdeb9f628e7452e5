"""`python -m local demo`: the main job on real purchases, from an empty folder to an audited ledger."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from connector.app import App
from connector.audit import Audit
from connector.rows.programs import read_program
from connector.settings import read_settings
from local.demo.journey import Basket, Slice, read_slice
from local.demo.shop import Shop
from local.demo.summary import read_summary, table
from local.demo.tills import Tills
from local.demo.watch import Watch

_PART = 50
_REGRET = 400  # invoices later, something turns out to have been wrong


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m local demo", description=__doc__)
    parser.add_argument("--households", type=int, default=100, metavar="N", help="how many (0: all 2,469; default 100)")
    parser.add_argument("--weeks", type=int, default=10, metavar="N", help="of the year (0: all 53; default 10)")
    parser.add_argument(
        "--home", type=Path, default=Path(".local/demo"), help="made anew each time (default .local/demo)"
    )
    parser.add_argument(
        "--once",
        action="store_true",
        default=os.environ.get("ONCE") == "1",
        help="end when done; the last line is JSON",
    )
    options = parser.parse_args(argv)
    started = time.monotonic()
    shutil.rmtree(options.home, ignore_errors=True)
    stack = _Stack(options.home)
    try:
        endpoints = stack.start()
        summary = run(endpoints, read_slice(options.households, options.weeks), started)
        print(f"\n{table(summary)}\n")
        if options.once:
            print(json.dumps(summary))
        else:
            _stay(endpoints)
        return 0 if summary["audit"] == HOLDS else 1
    except KeyboardInterrupt:
        return 130
    except (StackError, TimeoutError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    finally:
        stack.stop()


HOLDS = "every law of the ledger holds"


def run(endpoints: dict[str, Any], purchases: Slice, started: float) -> dict[str, Any]:
    """Let a slice of purchases flow through a running stack, then look at what came out."""
    app = App(read_settings(endpoints["settings"]))
    watch = Watch(endpoints)
    before = watch.counters("dataverse")["requests"]
    flowing = time.monotonic()
    tills = Tills(endpoints["functions_url"], endpoints["function_key"])
    try:
        _shopping_days(Shop(app.client), tills, purchases, watch)
        progress = watch.settle(_loaded(len(purchases.baskets), purchases), timeout=120 + len(purchases.baskets))
        elapsed = time.monotonic() - flowing
        requests_made = watch.counters("dataverse")["requests"] - before - app.client.counters.snapshot()["requests"]
        summary = read_summary(app.client)
        report = Audit(app.client, read_program(app.client, app.settings.loyalty_program), app.now()).run()
    finally:
        app.close()
    return {
        "households": len(purchases.households),
        "invoices": len(purchases.baskets),
        "lines": sum(len(basket.lines) for basket in purchases.baskets),
        **summary,
        "redemptions": dict(tills.outcomes),
        "changes": progress.applied,
        "dead": progress.dead,
        "requests_per_change": requests_made / max(1, progress.applied),
        "invoices_per_second": len(purchases.baskets) / elapsed,
        "setup_seconds": flowing - started,
        "elapsed_seconds": time.monotonic() - started,
        "audit": HOLDS if report.holds else f"{len(report.violations)} violations: {report.violations[:5]}",
    }


def _shopping_days(shop: Shop, tills: Tills, purchases: Slice, watch: Watch) -> None:
    """In order of time: purchases are invoiced, a little later paid, coupons redeemed; later some invoices turn out wrong."""
    first: dict[int, Basket] = {}
    for basket in purchases.baskets:
        first.setdefault(basket.household, basket)
    shop.open_accounts(first, first)
    unpaid: list[Basket] = []
    mishaps = _mishaps(shop, purchases.baskets)
    loaded = 0
    for baskets, coupons in purchases.parts(_PART):
        shop.issue(baskets)
        shop.pay(unpaid)
        for coupon in coupons:
            tills.redeem(coupon)
        unpaid = baskets
        loaded += len(baskets)
        while mishaps and mishaps[0][0] <= loaded - _REGRET:
            mishaps.popleft()[1]()
        watch.show(_loaded(loaded, purchases))
    shop.pay(unpaid)
    shop.blunder(purchases.households[0])
    tills.finish()
    watch.settle(_loaded(loaded, purchases), timeout=120 + loaded)
    for _, happen in mishaps:
        happen()


def _mishaps(shop: Shop, baskets: list[Basket]) -> deque[tuple[int, Callable[[], None]]]:
    """One invoice in forty is corrected, one in fifty cancelled, one in four hundred deleted; by place in the story."""
    kinds: tuple[tuple[int, Callable[[Basket], None]], ...] = (
        (40, shop.correct),
        (50, shop.cancel),
        (400, shop.delete),
    )
    found: deque[tuple[int, Callable[[], None]]] = deque()
    for place, basket in enumerate(baskets, 1):
        happen = next((happen for every, happen in kinds if place % every == every // 2), None)
        if happen:
            found.append((place, partial(happen, basket)))
    return found


def _loaded(count: int, purchases: Slice) -> str:
    return f"{count:,}/{len(purchases.baskets):,} invoices"


class StackError(Exception):
    """The local stack did not start; the text says what it said last."""


class _Stack:
    """`python -m local up` as a child."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> dict[str, Any]:
        print(f"starting the local stack in {self._home} ...", file=sys.stderr)
        environment = {**os.environ, "LOYALTY_PROGRAM": "CJ"}
        command = [sys.executable, "-m", "local", "up", "--home", str(self._home)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("ready "):
                return dict(json.loads(line.removeprefix("ready ")))
        raise StackError(f"the local stack ended with status {self._process.wait()}; its logs are in {self._home}/logs")

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)


def _stay(endpoints: dict[str, Any]) -> None:
    print(f"The stack stays up until Ctrl-C. HTTP API: {endpoints['functions_url']}/api", end="")
    print(f"  Dataverse: {endpoints['dataverse_url']}  (all addresses: endpoints.json in the home folder)")
    signal.pause()
