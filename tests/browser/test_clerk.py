"""A clerk at a busy counter: the whole story, in two languages, by mouse and by keyboard."""

import re

from playwright.sync_api import expect

from connector.loyalty.codes import parse_code
from tests.browser.conftest import Desks, Shop, redeem

CODE = re.compile(r"^[2-9A-Z]{3}-[2-9A-Z]{3}-[2-9A-Z]{3}$")


def test_from_the_form_to_the_code_and_back(desk: Desks, shop: Shop) -> None:
    account = shop.member("Adatum Corporation", 1250)
    page = desk("Clara Clerk").open_record("account", account)
    page.get_by_role("button", name="Customer Redemption").click()
    dialog = page.frame_locator("dialog iframe")
    expect(dialog.get_by_role("heading", name="Adatum Corporation")).to_be_visible()
    expect(dialog.locator("#balance")).to_have_text("1,250")
    expect(dialog.locator(".worth")).to_have_text("$12.50")
    dialog.get_by_role("button", name="500", exact=True).click()
    expect(dialog.locator("#preview")).to_contain_text("500 points are worth $5.00. 750 will be left.")
    dialog.get_by_label("What for").fill("Coffee machine")
    dialog.get_by_role("button", name="Redeem …").click()
    expect(dialog.get_by_role("heading", name="Redeem 500 points of Adatum Corporation?")).to_be_visible()
    dialog.get_by_role("button", name="Redeem 500").click()
    expect(dialog.locator("#transaction")).to_have_text(CODE)
    code = dialog.locator("#transaction").inner_text()
    assert parse_code(code) == code
    expect(dialog.locator("#result")).to_contain_text("Coffee machine")
    expect(dialog.locator("#balance")).to_have_text("750")
    (row,) = shop.redemptions(account)
    assert (row["loy_transactioncode"], row["loy_points"]) == (code, 500)

    dialog.get_by_role("button", name="Next redemption").click()
    dialog.get_by_role("tab", name="Void").click()
    dialog.get_by_role("button", name=re.compile(code)).click()
    dialog.get_by_label("Reason").fill("Wrong customer")
    dialog.get_by_role("button", name="Void …").click()
    dialog.get_by_role("button", name="Void it").click()
    expect(dialog.get_by_role("heading", name="Voided: 500 points given back")).to_be_visible()
    expect(dialog.locator("#balance")).to_have_text("1,250")
    shop.wait_for(account, 1250)

    page.get_by_role("button", name="Close").click()
    expect(page.locator("dialog")).to_have_count(0)


def test_in_german_with_german_numbers_and_dates(desk: Desks, shop: Shop) -> None:
    account = shop.member("Fabrikam GmbH", 2500)
    page = desk("Clara Clerk", "de-DE").dialog(account)
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.locator("#balance")).to_have_text("2.500")
    page.get_by_label("Betrag", exact=True).check()
    page.get_by_label("Betrag USD").fill("12,505")
    # 12.505 is worth 1250.5 points: the customer gives a whole one more.
    expect(page.locator("#preview")).to_contain_text("1.251 Punkte")
    expect(page.locator("#preview")).to_contain_text(re.compile(r"verfallen|\d{2}\.\d{2}\.\d{4}"))
    page.get_by_role("button", name="Einlösen …").click()
    page.get_by_role("button", name="1.251 einlösen").click()
    expect(page.get_by_role("heading", name="1.251 Punkte eingelöst")).to_be_visible()
    shop.wait_for(account, 1249)


def test_with_the_keyboard_alone(desk: Desks, shop: Shop) -> None:
    account = shop.member("Litware", 300)
    page = desk("Clara Clerk").dialog(account)
    expect(page.locator("#amount")).to_be_focused()
    page.keyboard.type("120")
    page.keyboard.press("Enter")
    expect(page.locator("#do")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#amount")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#do")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#result-title")).to_be_focused()
    expect(page.locator("#transaction")).to_have_text(CODE)
    shop.wait_for(account, 180)


def test_the_preview_names_the_lots_that_will_be_used(desk: Desks, shop: Shop) -> None:
    account = shop.member("Woodgrove", 100, months=3)
    shop.give(account, 400, 12)
    shop.wait_for(account, 500)
    page = desk("Clara Clerk").dialog(account)
    page.locator("#amount").fill("150")
    lots = page.locator("#preview li")
    expect(lots).to_have_count(2)
    expect(lots.nth(0)).to_contain_text("100 of those that expire on")
    expect(lots.nth(1)).to_contain_text("50 of those that expire on")


def test_what_cannot_be_redeemed_is_said_before_anything_is_sent(desk: Desks, shop: Shop) -> None:
    account = shop.member("Proseware", 90)
    page = desk("Clara Clerk").dialog(account)
    for typed, sentence in {
        "": "Enter a whole number of points",
        "0": "Enter a whole number of points",
        "1.5": "Enter a whole number of points",
        "lots": "Enter a whole number of points",
        "91": "Only 90 points are available.",
    }.items():
        page.locator("#amount").fill(typed)
        page.locator("#redeem-form button[type=submit]").click()
        expect(page.locator("#amount-error")).to_contain_text(sentence)
    page.get_by_role("tab", name="Void").click()
    page.locator("#code").fill("K3Q-F7H-2M2")
    page.locator("#void-form button[type=submit]").click()
    expect(page.locator("#code-error")).to_contain_text("check it letter by letter")
    expect(page.locator("#reason-error")).to_contain_text("Say why")
    assert shop.redemptions(account) == []


def test_copy_and_print(desk: Desks, shop: Shop) -> None:
    account = shop.member("Tailspin", 50)
    clerk = desk("Clara Clerk")
    clerk.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = clerk.dialog(account)
    redeem(page, "50")
    page.locator("#do").click()
    expect(page.locator("#transaction")).to_have_text(CODE)
    page.get_by_role("button", name="Copy code").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#transaction").inner_text()
    page.emulate_media(media="print")
    expect(page.locator("#transaction")).to_be_visible()
    expect(page.locator("#summary")).to_be_hidden()
    expect(page.get_by_role("button", name="Print")).to_be_hidden()


def test_times_are_those_of_the_user(desk: Desks, shop: Shop) -> None:
    account = shop.account("Northwind")
    shop.invoice(account, "40.00", on="2026-07-01T22:30:00Z")
    shop.wait_for(account, 40)
    page = desk("Clara Clerk", "en-GB").dialog(account)
    row = page.get_by_role("row", name=re.compile("Earned with invoice"))
    expect(row).to_contain_text("2 Jul 2026, 00:30")


def test_a_code_of_another_customer_is_not_voided(desk: Desks, shop: Shop) -> None:
    theirs, ours = shop.member("Contoso", 60), shop.member("Relecloud", 60)
    shop.ask(theirs, 60)
    shop.wait_for(theirs, 0)
    (row,) = shop.redemptions(theirs)
    page = desk("Clara Clerk").dialog(ours)
    page.get_by_role("tab", name="Void").click()
    page.locator("#code").fill(row["loy_transactioncode"].lower().replace("-", " "))
    page.locator("#reason").fill("Returned")
    page.locator("#void-form button[type=submit]").click()
    page.locator("#do").click()
    expect(page.locator("#refusal")).to_contain_text("This customer has no redemption with the code")
    shop.wait_for(theirs, 0)
