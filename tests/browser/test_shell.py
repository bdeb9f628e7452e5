"""The stand-in shows what the environment says: navigation, grids, subgrids, forms of every table of ours."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import Desks, Shop


def test_everything_in_the_navigation_opens(desk: Desks, shop: Shop) -> None:
    shop.member("Listed Ltd", 10)
    admin = desk("Adam Admin")
    page = admin.page
    page.goto(f"{admin.url}/main.aspx")
    links = page.locator("nav a")
    expect(links.filter(has_text="Integration log")).to_have_count(1)
    addresses = sorted({str(link.get_attribute("href")) for link in links.all()})
    assert len(addresses) >= 12
    for address in addresses:
        page.goto(f"{admin.url}{address}")
        expect(page.locator("#content")).to_have_attribute("aria-busy", "false")
        expect(page.locator(".problem")).to_have_count(0)
        expect(page.locator(".grid, iframe.whole").first).to_be_visible()


def test_a_redemption_is_on_the_form_of_its_customer(desk: Desks, shop: Shop) -> None:
    account = shop.member("Subgrid Ltd", 80)
    shop.ask(account, 30)
    shop.wait_for(account, 50)
    (row,) = shop.redemptions(account)
    page = desk("Clara Clerk").open_record("account", account)
    page.get_by_role("tab", name="Loyalty").click()
    line = page.get_by_role("region", name="Redemptions").get_by_role("row").filter(has_text=row["loy_transactioncode"])
    expect(line).to_contain_text("Completed")
    line.get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("elsewhere")
    expect(page.locator("main")).to_contain_text("Subgrid Ltd")


def test_the_form_of_a_log_row_traces_and_resumes_it(desk: Desks, shop: Shop) -> None:
    invoice = shop.invoice(None, "5.00", pay=False)
    admin = desk("Adam Admin")
    path = f"loy_integrationlogs?$select=loy_name&$filter=loy_recordid eq '{invoice}'"
    found = []
    while not found:
        found = shop.client.request("GET", path).json()["value"]
    page = admin.open_record("loy_integrationlog", found[0]["loy_integrationlogid"])
    log = page.frame_locator("iframe[title='Trace and resume']")
    expect(log.locator(".trace")).to_contain_text("No entry in the ledger.")
    expect(log.locator("#body tr[data-id]")).to_have_count(1)
    expect(log.get_by_role("tab")).to_have_count(0)
    log.locator("#body").get_by_role("checkbox").check()
    log.get_by_role("button", name="Resume").click()
    expect(log.locator("#notice")).to_have_text(re.compile("1 row was parked again"))
    expect(log.locator(".trace")).to_be_visible()


def test_pages_come_with_the_strict_content_policy(desk: Desks, shop: Shop) -> None:
    clerk = desk("Clara Clerk")
    answer = clerk.page.request.get(f"{clerk.pages}/loy_/redeem.html")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "connect-src 'self'" in policy and "'unsafe-eval'" not in policy
    page = clerk.dialog(shop.account("Policy Ltd"))
    page.evaluate(
        "document.head.append(Object.assign(document.createElement('script'), { textContent: 'window.broken = 1' }))"
    )
    assert page.evaluate("window.broken") is None
    assert any("Content Security Policy" in fault for fault in clerk.faults)
    clerk.faults.clear()
