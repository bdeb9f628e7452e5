"""The customer's panel on the form: what they have, why, and until when."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import Desks, Shop, redeem


def test_an_entry_unfolds_to_lines_rule_arithmetic_lot_and_what_became_of_it(desk: Desks, shop: Shop) -> None:
    account = shop.account("Explained Ltd")
    invoice = shop.invoice(account, "60.50", "39.80", pay=False)
    shop.wait_for(account, 0)
    shop.pay(invoice)
    shop.wait_for(account, 100)
    clerk = desk("Clara Clerk")
    page = clerk.dialog(account)
    redeem(page, "30", "Umbrella")
    page.locator("#do").click()
    code = page.locator("#transaction").inner_text()

    page = clerk.panel(account)
    earned = page.get_by_role("button", name=re.compile("Earned with invoice"))
    expect(earned).to_have_attribute("aria-expanded", "false")
    earned.click()
    expect(earned).to_have_attribute("aria-expanded", "true")
    explained = page.locator(".explain")
    expect(explained.get_by_role("link")).to_have_attribute("href", re.compile(f"etn=invoice&id={invoice}$"))
    # Each line is rounded down; the largest takes the point that is left.
    expect(explained.get_by_role("row")).to_have_text(
        ["LineCategoryNetPoints", "1Garden$60.5061", "2Garden$39.8039"], use_inner_text=False
    )
    expect(explained).to_contain_text("Version 1 of the earn rule: 1 per unit of net money.")
    expect(explained).to_contain_text("100.3 × 1 (tier) makes 100 points, rounded down.")
    expect(explained).to_contain_text("+100 to the pending points of the invoice")

    # The invoice was issued, then paid: its points became spendable, and that lot was drawn from.
    page.get_by_role("button", name=re.compile("Spendable from")).click()
    expect(page.locator(".explain").filter(has_text="Since then taken")).to_contain_text(f"-30 Redeemed, {code}")


def test_the_tier_says_why_and_how_far_the_next_one_is(desk: Desks, shop: Shop) -> None:
    account = shop.account("Golden Ltd", since="2019-03-01T10:00:00Z")
    shop.invoice(account, "1000000.00", "2400000.00")
    shop.wait_for(account, 3_400_000)
    page = desk("Clara Clerk").panel(account)
    tier = page.locator("#tier")
    expect(tier).to_contain_text("Gold")
    expect(tier).to_contain_text("$3,400,000.00 spent ($3,000,000.00 needed)")
    expect(tier).to_contain_text("On the way to Platinum")
    spend = tier.get_by_role("progressbar", name="$3,400,000.00 spent ($5,000,000.00 needed)")
    expect(spend).to_have_attribute("value", "3400000")
    expect(spend).to_have_attribute("max", "5000000")


def test_the_calendar_shows_what_expires_in_which_month(desk: Desks, shop: Shop) -> None:
    account = shop.account("Calendar Ltd")
    shop.give(account, 70, 2)
    shop.give(account, 30, 5)
    shop.give(account, 900, 36)
    shop.wait_for(account, 1000)
    page = desk("Clara Clerk").panel(account)
    months = page.locator(".month")
    expect(months).to_have_count(13)
    full = page.locator(".month.full strong")
    expect(full).to_have_text(["70", "30", "900"])
    expect(months.nth(12)).to_contain_text("Later")


def test_a_long_history_comes_in_pages(desk: Desks, shop: Shop) -> None:
    account = shop.account("Historic Ltd")
    for place in range(17):
        shop.give(account, place + 1, 12)
    shop.wait_for(account, 17 * 18 // 2)
    page = desk("Clara Clerk").panel(account)
    entries = page.locator("#history > li")
    expect(entries).to_have_count(15)
    page.get_by_role("button", name="Show older entries").click()
    # Seventeen adjustments; the first entry also sets the tier.
    expect(entries).to_have_count(17)
    expect(page.get_by_role("button", name="Show older entries")).to_be_hidden()


def test_on_the_form_the_panel_knows_its_customer(desk: Desks, shop: Shop) -> None:
    account = shop.member("On The Form Ltd", 77)
    page = desk("Clara Clerk", "de-DE").open_record("account", account)
    expect(page.get_by_role("button", name="Punkte einlösen")).to_be_visible()
    page.get_by_role("tab", name="Treueprogramm").click()
    expect(page.get_by_role("tabpanel", name="Treueprogramm")).to_contain_text("Vorgemerkte Punkte")
    expect(page.get_by_role("region", name="Einlösungen")).to_be_visible()
    panel = page.frame_locator("iframe[title=Kunde]")
    expect(panel.locator("#balance")).to_have_text("77")
    expect(panel.locator("html")).to_have_attribute("lang", "de")
    expect(panel.get_by_role("heading", name="Wann Punkte verfallen")).to_be_visible()


def test_a_customer_without_points_yet(desk: Desks, shop: Shop) -> None:
    page = desk("Clara Clerk").panel(shop.account("New Ltd"))
    expect(page.locator("#summary")).to_contain_text("the first invoice makes this customer a member")
    expect(page.locator("#rest")).to_be_hidden()
