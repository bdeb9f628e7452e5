"""From the click on Redeem to the code on the screen, in a real browser: `python -m benchmarks.clerk [--clerks 1,20]`.

Starts the local stack and Chromium. Each clerk has a browser session and a customer of their own; all redeem at once, as fast as
codes appear. Beside it the bare floor, alternating with it in the same pages: create a row and read it back, through the same
shell and Dataverse. Then the dialog's first paint and requests, with an empty and a warm cache.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from connector.dataverse import ClientSecretTokens, Create, DataverseClient, Get
from local.dynamics.browser import arguments, chromium

_ROOT = Path(__file__).parent.parent
_POINTS = 1_000_000
_PATIENCE = 60
_CLICK = """async () => {
    const shown = () => document.getElementById("transaction") && !document.getElementById("result").hidden;
    return new Promise((done) => {
        const start = performance.now();
        const observer = new MutationObserver(() => {
            if (shown()) {
                observer.disconnect();
                requestAnimationFrame(() => done(performance.now() - start));
            }
        });
        observer.observe(document.getElementById("page"), { subtree: true, childList: true, attributes: true });
        document.getElementById("do").click();
    });
}"""
_FLOOR = """async () => {
    const headers = { "Content-Type": "application/json", Accept: "application/json" };
    const start = performance.now();
    const made = await fetch("/api/data/v9.2/accounts", { method: "POST", headers, body: JSON.stringify({ name: "floor" }) });
    const id = made.headers.get("OData-EntityId").slice(-37, -1);
    await (await fetch(`/api/data/v9.2/accounts(${id})?$select=name`, { headers, cache: "no-store" })).json();
    return performance.now() - start;
}"""
_PAINT = """() => {
    const resources = performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"));
    return {
        paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
        files: resources.filter((each) => !each.name.includes("/api/data/")).length,
        reads: resources.filter((each) => each.name.includes("/api/data/")).length,
        bytes: resources.reduce((sum, each) => sum + each.transferSize, 0),
    };
}"""


@contextmanager
def local_stack(home: Path) -> Iterator[dict[str, Any]]:
    """The endpoints of a fresh local stack."""
    command = [sys.executable, "-m", "local", "up", "--home", str(home)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = next((line for line in process.stdout if line.startswith("ready ")), None)
            if line is None:
                raise SystemExit("the local stack did not start; what it said is above")
            yield json.loads(line.removeprefix("ready "))
        finally:
            process.terminate()


class Counter:
    """Clerks at a counter of the stack: sign-in, customers, measurements."""

    def __init__(self, endpoints: dict[str, Any]) -> None:
        e = endpoints
        self.url = e["dynamics_url"]
        tokens = ClientSecretTokens(
            e["tenant_id"], e["client_id"], e["client_secret"], e["dataverse_url"], e["authority"], e["ca_file"]
        )
        self.client = DataverseClient(e["dataverse_url"], tokens, ca_file=e["ca_file"])

    def customers(self, count: int) -> list[str]:
        """Accounts with points, when their points are there."""
        made = [str(uuid4()) for _ in range(count)]
        for account in made:
            gift = {
                "loy_name": "gift",
                "loy_points": _POINTS,
                "loy_reason": "benchmark",
                "loy_status": 482100000,
                "loy_CustomerId_account@odata.bind": f"/accounts({account})",
            }
            self.client.commit(
                [
                    Create("accounts", {"accountid": account, "name": "Benchmark"}),
                    Create("loy_adjustments", gift | {"loy_adjustmentid": str(uuid4())}),
                ]
            )
        path = f"loy_memberships?$select=loy_customerkey&$filter=loy_balance ge {_POINTS}"
        keys = {f"account:{account}" for account in made}
        give_up_at = time.monotonic() + _PATIENCE
        while not keys <= {row["loy_customerkey"] for row in self.client.read(Get(path))[0]}:
            if time.monotonic() > give_up_at:
                raise SystemExit(f"clerk: the points of {count} new customers were not there within {_PATIENCE} s")
            time.sleep(0.2)
        return made

    def address(self, account: str, version: str) -> str:
        data = quote(json.dumps({"id": account, "table": "account", "lcid": 1033}))
        return f"{self.url}/%7b{version}%7d/WebResources/loy_/redeem.html?data={quote(data)}"

    async def signed_in(self, browser: Browser) -> tuple[BrowserContext, str]:
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"{self.url}/signin")
        await page.get_by_text("Clara Clerk", exact=True).check()
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_selector("#content[aria-busy=false]")
        version: str = await page.evaluate("async () => (await (await fetch('/shell/me')).json()).version")
        await page.close()
        return context, version


async def redeem_once(page: Page) -> float:
    await page.fill("#amount", "1")
    await page.click("#redeem-form button[type=submit]")
    await page.wait_for_selector("#do:visible")
    took: float = await page.evaluate(_CLICK)
    await page.click("#again")
    return took


async def work(page: Page, times: int) -> tuple[list[float], list[float]]:
    """Redemptions and floors of one clerk, one after the other; the first of each warms up and does not count."""
    codes, floors = [], []
    for turn in range(times + 1):
        code, floor = await redeem_once(page), await page.evaluate(_FLOOR)
        if turn:
            codes.append(code)
            floors.append(floor)
    return codes, floors


async def measure(counter: Counter, browser: Browser, clerks: int, times: int) -> None:
    pages = []
    contexts = []
    for account in counter.customers(clerks):
        context, version = await counter.signed_in(browser)
        page = await context.new_page()
        await page.goto(counter.address(account, version))
        await page.wait_for_selector("#page[aria-busy=false]")
        pages.append(page)
        contexts.append(context)
    results = await asyncio.gather(*(work(page, times) for page in pages))
    for name, place in (("click to code", 0), ("floor: create, read back", 1)):
        took = sorted(ms for result in results for ms in result[place])
        p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
        print(f"{clerks:>6}  {name:<26}{len(took):>6}{statistics.median(took):>10.0f}{p99:>10.0f}", flush=True)
    for context in contexts:
        await context.close()


async def paint(counter: Counter, browser: Browser) -> None:
    (account,) = counter.customers(1)
    context, version = await counter.signed_in(browser)
    print("\ndialog        first paint (ms)  files  reads   bytes over the wire")
    for name in ("empty cache", "warm cache"):
        page = await context.new_page()
        await page.goto(counter.address(account, version))
        await page.wait_for_selector("#page[aria-busy=false]")
        await page.wait_for_load_state("networkidle")
        seen = await page.evaluate(_PAINT)
        print(f"{name:<14}{seen['paint']:>16.0f}{seen['files']:>7}{seen['reads']:>7}{seen['bytes']:>22,}", flush=True)
        await page.close()
    await context.close()


async def run(endpoints: dict[str, Any], program: str, clerks: list[int], times: int) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=arguments(endpoints["ca_file"]))
        counter = Counter(endpoints)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        print("clerks  milliseconds              count       p50       p99")
        for count in clerks:
            await measure(counter, browser, count, max(3, times // count))
        await paint(counter, browser)
        await browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clerk", description=__doc__)
    parser.add_argument("--clerks", default="1,20", help="how many at once, one measurement each (default: 1,20)")
    parser.add_argument("--times", type=int, default=100, help="redemptions of a measurement (default: 100)")
    options = parser.parse_args()
    program = chromium()
    if program is None:
        print("clerk: there is no Chromium; install it (apt-get install chromium)", file=sys.stderr)
        return 1
    clerks = [int(count) for count in options.clerks.split(",")]
    with tempfile.TemporaryDirectory() as folder, local_stack(Path(folder)) as endpoints:
        asyncio.run(run(endpoints, program, clerks, options.times))
    return 0


if __name__ == "__main__":
    sys.exit(main())
