"""Every screen in light and dark, on a phone and at 200 % zoom: readable, and nothing that axe calls serious.

With SCREENSHOTS=docs/images the pictures of the README are made anew.
"""

import json
import os
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from connector.dataverse import Update
from tests.browser.conftest import Desks, Shop, events_lost, redeem
from tests.browser.test_clerk import CODE
from tests.stack import Stack, wait_until

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


def test_the_dialog_and_the_panel_in_german_on_a_phone(desk: Desks, customer: str, pictures: Path) -> None:
    clerk = desk("Clara Clerk", "de-DE", viewport=PHONE)
    page = clerk.dialog(customer)
    page.locator("#amount").fill("120")
    accessible(page)
    fits(page)
    page.screenshot(path=pictures / "phone-de.png")
    redeem(page, "120")
    accessible(page)
    fits(page)
    page = clerk.panel(customer)
    page.locator(".history button").first.click()
    accessible(page)
    fits(page)


def test_the_panel(desk: Desks, customer: str, pictures: Path) -> None:
    page = desk("Clara Clerk", viewport={"width": 1000, "height": 900}).panel(customer)
    page.get_by_role("button", name=re.compile("Earned with invoice")).click()
    expect(page.locator(".explain")).to_be_visible()
    accessible(page)
    fits(page)
    page.screenshot(path=pictures / "panel.png", full_page=True)


def test_the_log(desk: Desks, shop: Shop, stack: Stack, pictures: Path) -> None:
    """One invoice is repaired and nobody hears of it, one is not: Check tells them apart."""
    broken, repaired = shop.invoice(None, "12.00", pay=False), shop.invoice(None, "249.90", pay=False)
    of_both = f"loy_integrationlogs?$select=loy_name&$filter=loy_recordid eq '{broken}' or loy_recordid eq '{repaired}'"
    wait_until(lambda: len(shop.client.request("GET", of_both).json()["value"]) == 2, about="two parked rows")
    account = shop.account("Fourth Coffee")
    with events_lost(stack):
        shop.client.commit(
            [Update(f"invoices({repaired})", {"customerid_account@odata.bind": f"/accounts({account})"})]
        )
    page = desk("Adam Admin", viewport={"width": 1100, "height": 760}).log()
    rows = page.locator("#body tr[data-id]")
    expect(rows.nth(1)).to_be_visible()
    for place in (0, 1):
        rows.nth(place).get_by_role("checkbox").check()
    page.get_by_role("button", name="Check first").click()
    expect(page.locator("#findings")).to_contain_text("Would be booked: 1 of 2 rows")
    page.screenshot(path=pictures / "log.png")
    rows.first.get_by_role("button").click()
    expect(page.locator(".trace").first).to_be_visible()
    accessible(page)
    fits(page)


def test_the_log_in_german(desk: Desks, shop: Shop) -> None:
    shop.invoice(None, "12.00", pay=False)
    page = desk("Adam Admin", "de-DE").log()
    page.get_by_role("tab", name="Alles").click()
    page.locator("#body tr[data-id] .sentence").first.click()
    expect(page.locator(".trace").first).to_be_visible()
    accessible(page)
    fits(page)


TIERS = {"BASIC": 57_565_132, "GOLD": 41_200_300}
BEFORE = {
    (tier, month): points * (20 - place) // 20
    for tier, points in TIERS.items()
    for place, month in enumerate(["2026-11", "2026-12", *(f"2027-{month:02}" for month in range(1, 13)), "never"])
}
RUN = {
    "loy_name": "Expiry of November",
    "loy_kind": 482100000,
    "loy_asof": "2026-11-30",
    "loy_status": 482100002,
    "loy_selected": 5_000_000,
    "loy_done": 3_208_114,
    "loy_excluded": 1_905,
    "loy_secondround": 212,
    "loy_failed": 3,
    "loy_entries": 3_208_114,
    "loy_pointscancelled": 98_765_432,
    "loy_noticesconfirmed": 3_190_050,
    "loy_startedon": "2026-11-30T22:00:00Z",
    "loy_figures": json.dumps(
        {"cancelled|GOLD|2026-11": 41200300, "cancelled|BASIC|2026-11": 57565132}
        | {f"before|{tier}|{month}": points for (tier, month), points in BEFORE.items()}
        | {f"after|{tier}|{month}": points for (tier, month), points in BEFORE.items() if month != "2026-11"}
    ),
}


@pytest.mark.parametrize("culture", ["en-US", "de-DE"])
def test_a_bulk_run(desk: Desks, shop: Shop, pictures: Path, culture: str) -> None:
    run = shop.client.request("POST", "loy_bulkruns", RUN).headers["odata-entityid"][-37:-1]
    admin = desk("Adam Admin", culture, viewport={"width": 1000, "height": 620})
    page = admin.page
    page.goto(f"{admin.pages}/loy_/bulkrun.html?typename=loy_bulkrun&id=%7b{run}%7d&userlcid={admin.lcid}&data=")
    expect(page.locator("#run progress")).to_be_visible()
    outstanding = page.locator(".outstanding")
    gone = sum(TIERS.values())
    expect(outstanding.locator("dd").last).to_contain_text(
        f"-{gone:,}" if culture == "en-US" else f"-{gone:,}".replace(",", ".")
    )
    expect(outstanding.locator("tbody tr").first).to_contain_text("57,565,132" if culture == "en-US" else "57.565.132")
    expect(outstanding.get_by_role("img")).to_be_visible()
    page.locator("summary").click()
    accessible(page)
    fits(page)
    if culture == "en-US":
        page.screenshot(path=pictures / "bulk-run.png", full_page=True)
    page = admin.log()
    page.get_by_role("tab").last.click()
    expect(page.locator("article").first).to_be_visible()
    accessible(page)
    fits(page)


@pytest.mark.parametrize("culture", ["en-US", "de-DE"])
def test_points_outstanding(desk: Desks, shop: Shop, customer: str, pictures: Path, culture: str) -> None:
    """The latest count, then beside an earlier one."""
    now = datetime.now(UTC)
    counts = []
    for ended, factor in ((now - timedelta(days=30), 1), (now, 2)):
        points = {f"outstanding|{tier}|{month}": n * factor for (tier, month), n in BEFORE.items()}
        row = {
            "loy_name": "Night",
            "loy_kind": 482100005,
            "loy_asof": f"{ended:%F}",
            "loy_status": 482100003,
            "loy_done": 5_000_000,
            "loy_endedon": f"{ended:%FT%TZ}",
            "loy_figures": json.dumps(points | {"outstanding|GOLD|pending": 1_000, "outstanding|GOLD|owed": -250}),
        }
        counts.append(shop.client.request("POST", "loy_bulkruns", row).headers["odata-entityid"][-37:-1])
    admin = desk("Adam Admin", culture, viewport={"width": 1000, "height": 620})
    page = admin.page
    page.goto(f"{admin.pages}/loy_/outstanding.html?userlcid={admin.lcid}&data=")
    expect(page.locator("#as-of")).to_contain_text("5,000,000" if culture == "en-US" else "5.000.000")
    total = 2 * sum(BEFORE.values()) + 1_000 - 250
    said = f"{total:,}" if culture == "en-US" else f"{total:,}".replace(",", ".")
    expect(page.locator("#points dd")).to_contain_text(said)
    expect(page.locator("#points tbody tr").last).to_contain_text(said)
    expect(page.locator("#points tbody .was")).to_have_count(0)
    accessible(page)
    fits(page)
    page.locator("#earlier").select_option(counts[0])
    expect(page.locator("#points dd")).to_have_count(3)
    grown = sum(BEFORE.values())
    expect(page.locator("#points dd").last).to_contain_text(
        f"+{grown:,}" if culture == "en-US" else f"+{grown:,}".replace(",", ".")
    )
    expect(page.locator("#points tbody tr").first.locator(".was").first).to_contain_text(
        "57,565,132" if culture == "en-US" else "57.565.132"
    )
    accessible(page)
    fits(page)
    if culture == "en-US":
        page.screenshot(path=pictures / "points-outstanding.png", full_page=True)


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


def test_the_programme_with_its_rules_and_versions(desk: Desks, shop: Shop, customer: str, pictures: Path) -> None:
    (programme,) = shop.client.get("loy_programs?$select=loy_code&$filter=loy_code eq 'MAIN'")
    of_it = f"_loy_programid_value eq {programme['loy_programid']}"
    (platinum,) = shop.client.get(f"loy_tiers?$select=loy_code&$filter=loy_code eq 'PLATINUM' and {of_it}")
    versions = f"loy_programversions?$select=loy_version&$filter={of_it}"
    before = len(shop.client.get(versions))
    shop.client.commit([Update(f"loy_tiers({platinum['loy_tierid']})", {"loy_multiplier": Decimal("2.5")})])
    wait_until(lambda: len(shop.client.get(versions)) > before, about="the version of the edit")
    admin = desk("Adam Admin", viewport={"width": 1280, "height": 900})
    page = admin.open_record("loy_program", programme["loy_programid"])
    expect(page.get_by_text("PLATINUM").first).to_be_visible()
    expect(page.get_by_text("multiplier").first).to_be_visible()
    accessible(page)
    fits(page)
    page.screenshot(path=pictures / "programme.png", full_page=True)


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
