"""Every screen in light and dark, on a phone and at 200 % zoom: readable, and nothing that axe calls serious.

With SCREENSHOTS=docs/images the pictures of the README are made anew.
"""

import os
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Desks, Shop, redeem
from tests.browser.test_clerk import CODE

PHONE = {"width": 360, "height": 740}
ZOOMED = {"width": 640, "height": 450}  # 1280 x 900 at 200 %


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ["SCREENSHOTS"]) if "SCREENSHOTS" in os.environ else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def customer(shop: Shop) -> str:
    account = shop.account("Adatum Corporation")
    shop.give(account, 250, 1)
    shop.give(account, 400, 6)
    shop.invoice(account, "812.40", "99.95")
    shop.wait_for(account, 1562)
    return account


def accessible(page: Page) -> None:
    """Nothing serious for axe; in the dark only the contrast can be another."""
    for scheme, options in (("light", None), ("dark", {"runOnly": ["color-contrast"]})):
        page.emulate_media(color_scheme=scheme)
        for violation in Axe().run(page, options=options).response["violations"]:
            assert violation["impact"] not in ("serious", "critical"), (
                scheme,
                violation["help"],
                [node["html"] for node in violation["nodes"]],
            )
    page.emulate_media(color_scheme="light")


def fits(page: Page) -> None:
    """On a phone and zoomed nothing has to be scrolled sideways, but the shell's own grids of many columns."""
    before = page.viewport_size
    for size in (PHONE, ZOOMED):
        page.set_viewport_size(size)
        wide = page.evaluate(
            """() => Array.from(document.querySelectorAll("body *")).filter(node => {
                const box = node.getBoundingClientRect();
                return box.width && box.right > window.innerWidth + 1 && !node.closest(".unseen, .grid");
            }).map(node => node.outerHTML.slice(0, 120))"""
        )
        assert wide == [], size
    page.set_viewport_size(before)


def test_the_dialog(desk: Desks, customer: str, pictures: Path) -> None:
    page = desk("Clara Clerk", viewport={"width": 560, "height": 800}).dialog(customer)
    page.locator("#amount").fill("300")
    accessible(page)
    fits(page)
    page.screenshot(path=pictures / "redeem.png")
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=pictures / "redeem-dark.png")
    page.get_by_role("tab", name="Void").click()
    accessible(page)
    fits(page)
    page.get_by_role("tab", name="Redeem").click()
    redeem(page, "300", "Coffee machine")
    accessible(page)
    fits(page)
    page.locator("#do").click()
    expect(page.locator("#transaction")).to_have_text(CODE)
    expect(page.locator("#balance")).to_have_text("1,262")
    accessible(page)
    fits(page)
    page.screenshot(path=pictures / "code.png")


def test_the_dialog_in_german_on_a_phone(desk: Desks, customer: str, pictures: Path) -> None:
    page = desk("Clara Clerk", "de-DE", viewport=PHONE).dialog(customer)
    page.locator("#amount").fill("120")
    fits(page)
    page.screenshot(path=pictures / "phone-de.png")


def test_the_panel(desk: Desks, customer: str, pictures: Path) -> None:
    page = desk("Clara Clerk", viewport={"width": 1000, "height": 900}).panel(customer)
    page.get_by_role("button", name=re.compile("Earned with invoice")).click()
    expect(page.locator(".explain")).to_be_visible()
    accessible(page)
    fits(page)
    page.screenshot(path=pictures / "panel.png", full_page=True)


def test_the_log(desk: Desks, shop: Shop, pictures: Path) -> None:
    shop.invoice(None, "12.00", pay=False)
    page = desk("Adam Admin", viewport={"width": 1100, "height": 700}).log()
    row = page.locator("#body tr[data-id]").first
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Check first").click()
    expect(page.locator("#findings")).to_be_visible()
    row.get_by_role("button").click()
    expect(page.locator(".trace").first).to_be_visible()
    accessible(page)
    fits(page)
    page.get_by_role("tab", name="Everything").click()
    page.locator("#body tr[data-id] .sentence").nth(1).click()
    expect(page.locator(".trace")).to_have_count(2)
    page.screenshot(path=pictures / "log.png")
    page.get_by_role("tab", name="Bulk runs").click()
    accessible(page)


def test_the_shell(desk: Desks, shop: Shop, customer: str, pictures: Path) -> None:
    clerk = desk("Clara Clerk")
    page = clerk.open_record("account", customer)
    page.get_by_role("tab", name="Loyalty").click()
    expect(page.frame_locator("iframe[title=Customer]").locator("#balance")).to_be_visible()
    accessible(page)
    fits(page)
    page.get_by_role("button", name="Customer Redemption").click()
    dialog = page.frame_locator("dialog iframe")
    dialog.locator("#amount").fill("200")
    page.screenshot(path=pictures / "form.png")


def test_few_and_small_requests(desk: Desks, customer: str) -> None:
    """What a dialog costs when it opens: five small reads of the Web API, side by side."""
    clerk = desk("Clara Clerk")
    sizes: list[int] = []
    clerk.page.on(
        "requestfinished",
        lambda request: sizes.append(request.sizes()["responseBodySize"]) if "/api/data/" in request.url else None,
    )
    page = clerk.dialog(customer)
    expect(page.locator("#amount")).to_be_focused()
    page.wait_for_load_state("networkidle")
    assert len(sizes) <= 5, sizes
    assert sum(sizes) < 32_000, sizes
