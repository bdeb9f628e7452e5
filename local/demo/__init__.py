"""`python -m local demo`: the main job on real purchases, from an empty folder to an audited ledger."""

import argparse
import json
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import requests

from connector.app import App
from connector.audit import Audit, Report
from connector.dataverse import DataverseError
from connector.rows.programs import read_program
from connector.settings import read_settings
from local.demo.guide import guide
from local.demo.journey import Basket, Slice, read_slice
from local.demo.screen import Screen
from local.demo.shop import Shop, customer_of
from local.demo.stack import Ended, Stack, StackError
from local.demo.summary import read_summary, table
from local.demo.tills import Tills
from local.demo.watch import Watch
from local.home import HomeError

HOLDS = "every law of the ledger holds"
_PART = 50
_REGRET = 400  # invoices later, something turns out to have been wrong


def main(argv: list[str]) -> int:
    options = _options(argv)
    screen = Screen()
    holds = None
    try:
        with Stack(options.home, screen) as stack:
            started = time.monotonic()
            endpoints = stack.start()
            screen.progress("reading the purchases ...")
            purchases = read_slice(options.households, options.weeks)
            summary = run(endpoints, purchases, started, screen)
            holds = summary["audit"] == HOLDS
            print(f"\n{table(summary)}\n", flush=True)
            if options.once:
                print(json.dumps(summary), flush=True)
            else:
                customer = customer_of(purchases.households[0])
                print(guide(options.home, endpoints, customer), flush=True)
                stack.stay()
    except Ended as ended:
        if holds is None:
            return 128 + ended.number
    except (HomeError, StackError, TimeoutError, DataverseError, requests.RequestException, OSError) as error:
        screen.say(f"demo: {error}")
        return 1
    return 0 if holds else 1


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local demo", description=__doc__)
    parser.add_argument("--households", type=_count, default=100, metavar="N", help="how many (0: all; default 100)")
    parser.add_argument("--weeks", type=_count, default=10, metavar="N", help="of the year (0: all 53; default 10)")
    parser.add_argument(
        "--home",
        type=Path,
        default=Path(".local/demo"),
        help="what a stack left there is deleted first; other folders are refused (default .local/demo)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        default=os.environ.get("ONCE") == "1",
        help="end when done; the last line is JSON",
    )
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return int(text)


def run(endpoints: dict[str, Any], purchases: Slice, started: float, screen: Screen | None = None) -> dict[str, Any]:
    """Let a slice of purchases flow through a running stack, then look at what came out."""
    screen = screen or Screen()
    app = App(read_settings(endpoints["settings"]))
    watch = Watch(endpoints, screen)
    before = watch.progress()
    flowing = time.monotonic()
    screen.say(f"{len(purchases.baskets):,} invoices of {len(purchases.households):,} households ...")
    try:
        with Tills(endpoints["functions_url"], endpoints["function_key"]) as tills:
            _shopping_days(Shop(app.client), tills, purchases, watch)
        progress = watch.settle(_loaded(len(purchases.baskets), purchases), timeout=120 + len(purchases.baskets))
        elapsed = time.monotonic() - flowing
        requests_made = progress.requests - before.requests - app.client.counters.snapshot()["requests"]
        screen.say("settled; auditing every customer, invoice and redemption ...")
        report = _audit(app, screen, len(purchases.households))
        screen.progress("counting what came out ...")
        summary = read_summary(app.client)
    finally:
        screen.done()
        app.close()
    changes = progress.applied - before.applied
    return {
        "households": len(purchases.households),
        "invoices": len(purchases.baskets),
        "lines": sum(len(basket.lines) for basket in purchases.baskets),
        **summary,
        "redemptions": dict(tills.outcomes),
        "changes": changes,
        "dead": progress.dead,
        "requests_per_change": requests_made / max(1, changes),
        "invoices_per_second": len(purchases.baskets) / elapsed,
        "setup_seconds": flowing - started,
        "elapsed_seconds": time.monotonic() - started,
        "audit": HOLDS if report.holds else f"{report.broken} violations: {report.violations[:5]}",
    }


def _audit(app: App, screen: Screen, customers: int) -> Report:
    def progress(report: Report) -> None:
        counts = report.counts
        screen.progress(f"audited {counts['customers']:,} of {customers:,} customers, {counts['entries']:,} entries")

    return Audit(app.client, read_program(app.client, app.settings.loyalty_program), app.now()).run(progress)


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
