"""Chromium in front of the whole local stack: people of three roles at their desks."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from connector.dataverse import ClientSecretTokens, Create, DataverseClient, Update
from local.dynamics.browser import arguments, chromium
from tests.stack import Stack, wait_until

PAGES = Path(__file__).parents[2] / "dataverse_schema" / "webresources"
PAID = {"statecode": 2, "statuscode": 100001}
REDEEM, REQUESTED = 482100000, 482100000
LANGUAGES = {"en-US": "1033", "en-GB": "1033", "de-DE": "1031"}
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def program() -> str:
    found = chromium()
    if found is None:
        pytest.skip("no Chromium here: install it (apt-get install chromium) to run the browser tests")
    return found


@pytest.fixture(scope="session")
def playwright(program: str, stack: Stack) -> Iterator[Playwright]:
    with pytest.MonkeyPatch.context() as environment:
        # Requests that tests make themselves, beside the browser, go through Playwright's own process.
        environment.setenv("NODE_EXTRA_CA_CERTS", stack.endpoints["ca_file"])
        with sync_playwright() as running:
            yield running


@pytest.fixture(scope="session")
def browser(program: str, playwright: Playwright, stack: Stack) -> Iterator[Browser]:
    running = playwright.chromium.launch(executable_path=program, args=arguments(stack.endpoints["ca_file"]))
    yield running
    running.close()


class Shop:
    """What happens in the company: customers, invoices, adjustments; and what the ledger says."""

    def __init__(self, client: DataverseClient) -> None:
        self.client = client

    def account(self, name: str, since: str = "2019-03-01T10:00:00Z") -> str:
        account = str(uuid4())
        self.client.commit([Create("accounts", {"accountid": account, "name": name, "overriddencreatedon": since})])
        return account

    def invoice(self, account: str | None, *amounts: str, pay: bool = True, on: str = "2026-05-03T10:00:00Z") -> str:
        invoice = str(uuid4())
        lines = [
            {
                "isproductoverridden": True,
                "ispriceoverridden": True,
                "productdescription": "thing",
                "quantity": 1,
                "priceperunit": Decimal(amount),
                "lineitemnumber": number,
                "loy_productcategory": "Garden",
            }
            for number, amount in enumerate(amounts, 1)
        ]
        row: dict[str, Any] = {
            "invoiceid": invoice,
            "name": "Invoice",
            "invoice_details": lines,
            "overriddencreatedon": on,
        }
        if account:
            row["customerid_account@odata.bind"] = f"/accounts({account})"
        self.client.commit([Create("invoices", row)])
        if pay:
            self.pay(invoice)
        return invoice

    def pay(self, invoice: str) -> None:
        self.client.commit([Update(f"invoices({invoice})", PAID)])

    def give(self, account: str, points: int, months: int) -> None:
        """Points with a lifetime of their own."""
        row = {
            "loy_adjustmentid": str(uuid4()),
            "loy_name": "welcome",
            "loy_points": points,
            "loy_reason": "Welcome gift",
            "loy_lifetimemonths": months,
            "loy_status": REQUESTED,
            "loy_CustomerId_account@odata.bind": f"/accounts({account})",
        }
        self.client.commit([Create("loy_adjustments", row)])

    def member(self, name: str, points: int, months: int = 12) -> str:
        """An account with so many spendable points."""
        account = self.account(name)
        self.give(account, points, months)
        self.wait_for(account, points)
        return account

    def balance(self, account: str) -> int | None:
        path = f"loy_memberships?$select=loy_balance&$filter=loy_customerkey eq 'account:{account}'"
        rows = self.client.request("GET", path).json()["value"]
        return rows[0]["loy_balance"] if rows else None

    def wait_for(self, account: str, points: int) -> None:
        wait_until(lambda: self.balance(account) == points, about=f"a balance of {points}")

    def redemptions(self, account: str) -> list[dict[str, Any]]:
        path = (
            "loy_redemptions?$select=loy_status,loy_points,loy_transactioncode,loy_requestid,loy_reasoncode,createdon"
            f"&$filter=_loy_customerid_value eq {account}"
        )
        return self.client.request("GET", path).json()["value"]

    def ask(self, account: str, points: int, **columns: Any) -> None:
        """A redemption by somebody else."""
        row = {
            "loy_redemptionid": str(uuid4()),
            "loy_requestid": str(uuid4()),
            "loy_name": "elsewhere",
            "loy_type": REDEEM,
            "loy_status": REQUESTED,
            "loy_points": points,
            "loy_CustomerId_account@odata.bind": f"/accounts({account})",
            **columns,
        }
        self.client.commit([Create("loy_redemptions", row)])


@pytest.fixture(scope="session")
def shop(stack: Stack) -> Iterator[Shop]:
    e = stack.endpoints
    tokens = ClientSecretTokens(
        e["tenant_id"], e["client_id"], e["client_secret"], e["dataverse_url"], e["authority"], e["ca_file"]
    )
    with DataverseClient(e["dataverse_url"], tokens, ca_file=e["ca_file"]) as client:
        yield Shop(client)


class Desk:
    """A signed-in user in a browser of their own."""

    def __init__(self, context: BrowserContext, url: str, culture: str) -> None:
        self.context = context
        self.url = url
        # As Dynamics writes the address of web resources: braces and a version.
        self.pages = f"{url}/%7b{'0' * 18}%7d/WebResources"
        self.lcid = int(LANGUAGES[culture])
        self.faults: list[str] = []
        self.page = self._watched(context.new_page())

    def sign_in(self, name: str) -> "Desk":
        self.page.goto(self.url)
        self.page.get_by_text(name, exact=True).check()
        self.page.get_by_label("Language").select_option(str(self.lcid))
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.locator("#content")).to_have_attribute("aria-busy", "false")
        return self

    def another_page(self) -> Page:
        return self._watched(self.context.new_page())

    def open_record(self, table: str, record: str) -> Page:
        self.page.goto(f"{self.url}/main.aspx?pagetype=entityrecord&etn={table}&id={record}")
        expect(self.page.locator("#content")).to_have_attribute("aria-busy", "false")
        return self.page

    def dialog(self, account: str, page: Page | None = None) -> Page:
        """The dialog's page by itself, as the command would open it."""
        data = quote(json.dumps({"id": account, "table": "account", "lcid": self.lcid}))
        page = page or self.page
        page.goto(f"{self.pages}/loy_/redeem.html?data={quote(data)}")
        expect(page.locator("#page")).to_have_attribute("aria-busy", "false")
        return page

    def panel(self, account: str) -> Page:
        query = (
            f"typename=account&type=1&id=%7b{account.upper()}%7d&userlcid={self.lcid}&orglcid=1033&orgname=local&data="
        )
        self.page.goto(f"{self.pages}/loy_/panel.html?{query}")
        expect(self.page.locator("#page")).to_have_attribute("aria-busy", "false")
        return self.page

    def log(self) -> Page:
        self.page.goto(f"{self.pages}/loy_/log.html?userlcid={self.lcid}&data=")
        return self.page

    def _watched(self, page: Page) -> Page:
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: self._heard(message.text))
        return page

    def _heard(self, text: str) -> None:
        # A failed request is the business of the page; a broken policy or a script error never is.
        if not text.startswith("Failed to load resource"):
            self.faults.append(text)


type Desks = Callable[..., Desk]


@pytest.fixture(scope="session")
def badges() -> dict[tuple[str, str], Any]:
    """The cookies of those who have signed in before, by name and culture."""
    return {}


@pytest.fixture
def desk(browser: Browser, stack: Stack, badges: dict[tuple[str, str], Any]) -> Iterator[Desks]:
    """`desk("Clara Clerk", "de-DE", viewport=...)`: every page of it must end without script errors or policy violations."""
    made: list[Desk] = []

    def make(name: str, culture: str = "en-US", **options: Any) -> Desk:
        options = {"viewport": {"width": 1280, "height": 900}, "timezone_id": "Europe/Berlin"} | options
        badge = badges.get((name, culture))
        context = browser.new_context(locale=culture, storage_state=badge, **options)
        context.set_default_timeout(20_000)
        found = Desk(context, stack.endpoints["dynamics_url"], culture)
        made.append(found)
        if badge is None:
            found.sign_in(name)
            badges[name, culture] = context.storage_state()
        return found

    yield make
    for each in made:
        each.context.close()
        assert not each.faults


@contextmanager
def events_lost(stack: Stack) -> Iterator[None]:
    """What happens meanwhile leads to events that nobody ever hears of; at least one."""
    admin, ca_file = stack.endpoints["dataverse_admin_url"], stack.endpoints["ca_file"]

    def turn(dial: float) -> int:
        answer = requests.post(f"{admin}/faults", json={"event_lost": dial}, verify=ca_file, timeout=30).json()
        return int(answer["counts"].get("event_lost", 0))

    before = turn(1.0)
    try:
        yield
        wait_until(lambda: turn(1.0) > before, about="a lost event")
    finally:
        turn(0.0)


def redeem(page: Page, points: str, what_for: str = "") -> None:
    """Asks for points, up to the question whether it is meant."""
    page.locator("#amount").fill(points)
    page.locator("#description").fill(what_for)
    page.locator("#redeem-form button[type=submit]").click()
    expect(page.locator("#confirm")).to_be_visible()
