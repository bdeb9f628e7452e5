"""What goes wrong at a counter: each has a right behaviour, and nothing is ever booked twice or taken unseen."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Desks, Shop, redeem
from tests.browser.test_clerk import CODE
from tests.stack import Stack, wait_until

# A page that loses patience sooner than a clerk should.
PATIENCE = "window.Loyalty = { patience: { slow: 300, silent: 3600000, row: 1500 } }"
POST_REDEMPTIONS = "**/api/data/v9.2/loy_redemptions"


@contextmanager
def connector_asleep(stack: Stack) -> Iterator[None]:
    """The function app answers nothing, as if its host were gone; afterwards it goes on where it was."""
    pid = stack.pids["functions"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def answer_lost_once(page: Page) -> None:
    """The first creation reaches Dataverse, its answer never reaches the page."""
    state = {"lost": False}

    def handle(route: Route) -> None:
        if route.request.method == "POST" and not state["lost"]:
            state["lost"] = True
            route.fetch()
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(POST_REDEMPTIONS, handle)


def test_a_double_click_is_one_redemption(desk: Desks, shop: Shop) -> None:
    account = shop.member("Double Click Ltd", 100)
    page = desk("Clara Clerk").dialog(account)
    redeem(page, "40")
    page.locator("#do").evaluate("button => { button.click(); button.click(); button.click(); }")
    expect(page.locator("#transaction")).to_have_text(CODE)
    assert len(shop.redemptions(account)) == 1
    assert shop.balance(account) == 60


def test_a_lost_answer_is_asked_again_and_booked_once(desk: Desks, shop: Shop) -> None:
    account = shop.member("Lost Answer Ltd", 100)
    page = desk("Clara Clerk").dialog(account)
    answer_lost_once(page)
    redeem(page, "40")
    page.locator("#do").click()
    expect(page.locator("#transaction")).to_have_text(CODE)
    assert len(shop.redemptions(account)) == 1
    assert shop.balance(account) == 60


def test_a_lost_connection_is_said_and_waited_out(desk: Desks, shop: Shop) -> None:
    account = shop.member("Offline Ltd", 100)
    clerk = desk("Clara Clerk")
    page = clerk.dialog(account)
    redeem(page, "40")
    clerk.context.set_offline(True)
    page.locator("#do").click()
    expect(page.locator("#progress-text")).to_contain_text("There is no connection.")
    assert shop.redemptions(account) == []
    clerk.context.set_offline(False)
    expect(page.locator("#transaction")).to_have_text(CODE)
    assert len(shop.redemptions(account)) == 1


def test_a_reload_while_it_is_decided_goes_on_where_it_was(desk: Desks, shop: Shop, stack: Stack) -> None:
    account = shop.member("Reload Ltd", 100)
    page = desk("Clara Clerk").dialog(account)
    with connector_asleep(stack):
        redeem(page, "40", "Bicycle")
        page.locator("#do").click()
        wait_until(lambda: len(shop.redemptions(account)) == 1, about="the row of the redemption")
        page.reload()
        expect(page.locator("#progress")).to_be_visible()
    expect(page.locator("#transaction")).to_have_text(CODE)
    expect(page.locator("#result")).to_contain_text("Bicycle")
    assert len(shop.redemptions(account)) == 1
    page.reload()
    expect(page.locator("#amount")).to_be_focused()
    assert shop.balance(account) == 60


def test_a_reload_before_anything_arrived_sends_it(desk: Desks, shop: Shop) -> None:
    account = shop.member("Early Reload Ltd", 100)
    page = desk("Clara Clerk").dialog(account)
    page.route(POST_REDEMPTIONS, lambda route: route.abort("connectionreset"))
    redeem(page, "40")
    page.locator("#do").click()
    expect(page.locator("#progress-text")).to_contain_text("There is no connection.")
    page.unroute(POST_REDEMPTIONS)
    page.reload()
    expect(page.locator("#transaction")).to_have_text(CODE)
    assert len(shop.redemptions(account)) == 1


def test_two_clerks_at_once_cannot_overspend(desk: Desks, shop: Shop) -> None:
    account = shop.member("Two Clerks Ltd", 100)
    pages = [desk("Clara Clerk").dialog(account), desk("Clara Clerk").dialog(account)]
    for page in pages:
        redeem(page, "70")
    for page in pages:
        page.locator("#do").click()
    for page in pages:
        expect(page.locator("#result")).to_be_visible()
    winners = [page for page in pages if page.locator("#transaction").count()]
    (loser,) = [page for page in pages if page not in winners]
    assert len(winners) == 1
    expect(loser.locator("#refusal")).to_have_text(
        "The balance has changed: only 30 points are available, 70 were asked for."
    )
    expect(loser.locator("#balance")).to_have_text("30")
    assert shop.balance(account) == 30
    loser.get_by_role("button", name="Change the request").click()
    expect(loser.locator("#amount")).to_be_focused()


def test_a_balance_that_changed_meanwhile_is_seen_before_confirming(desk: Desks, shop: Shop) -> None:
    account = shop.member("Meanwhile Ltd", 100)
    page = desk("Clara Clerk").dialog(account)
    expect(page.locator("#balance")).to_have_text("100")
    shop.ask(account, 80)
    shop.wait_for(account, 20)
    page.locator("#amount").fill("50")
    page.locator("#redeem-form button[type=submit]").click()
    expect(page.locator("#amount-error")).to_have_text(
        "The balance has changed meanwhile: only 20 points are available."
    )
    expect(page.locator("#balance")).to_have_text("20")
    expect(page.locator("#confirm")).to_be_hidden()


def test_a_long_wait_says_what_will_happen(desk: Desks, shop: Shop, stack: Stack) -> None:
    account = shop.member("Patience Ltd", 100)
    clerk = desk("Clara Clerk")
    clerk.page.add_init_script(PATIENCE)
    page = clerk.dialog(account)
    with connector_asleep(stack):
        redeem(page, "40")
        page.locator("#do").click()
        text = page.locator("#progress-text")
        expect(text).to_contain_text("has arrived and is not lost")
        page.evaluate("Loyalty.patience.silent = 0")
        expect(text).to_contain_text("Hand out nothing before there is a code.")
    expect(page.locator("#transaction")).to_have_text(CODE)


def test_read_only_while_the_connector_is_down(desk: Desks, shop: Shop, stack: Stack) -> None:
    account = shop.member("Readable Ltd", 100)
    clerk = desk("Clara Clerk")
    with connector_asleep(stack):
        shop.ask(account, 10)
        (row,) = shop.redemptions(account)
        asked = datetime.fromisoformat(row["createdon"])
        wait_until(lambda: datetime.now(UTC) - asked > timedelta(seconds=2.5), about="a row that has waited")
        clerk.page.add_init_script(PATIENCE)
        clerk.page.clock.install()
        page = clerk.dialog(account)
        expect(page.locator("#notice")).to_contain_text("You can read (as of")
        expect(page.locator("#redeem-form button[type=submit]")).to_be_disabled()
        expect(page.locator("#balance")).to_have_text("100")
    shop.wait_for(account, 90)
    page.clock.fast_forward(16_000)
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#redeem-form button[type=submit]")).to_be_enabled()
    expect(page.locator("#balance")).to_have_text("90")


def test_the_connector_goes_down_while_the_dialog_is_open_and_comes_back(desk: Desks, shop: Shop, stack: Stack) -> None:
    account = shop.member("Interrupted Ltd", 100)
    clerk = desk("Clara Clerk", "de-DE")
    clerk.page.add_init_script(PATIENCE)
    clerk.page.clock.install()
    page = clerk.dialog(account)
    redeem(page, "40")
    expect(page.locator("#do")).to_be_enabled()
    with connector_asleep(stack):
        shop.ask(account, 10)
        (row,) = shop.redemptions(account)
        asked = datetime.fromisoformat(row["createdon"])
        wait_until(lambda: datetime.now(UTC) - asked > timedelta(seconds=2.5), about="a row that has waited")
        page.clock.fast_forward(16_000)
        expect(page.locator("#notice")).to_contain_text("Sie können lesen (Stand")
        expect(page.locator("#do")).to_be_disabled()
        page.get_by_role("button", name="Zurück").click()
        expect(page.locator("#redeem-form button[type=submit]")).to_be_disabled()
    shop.wait_for(account, 90)
    page.clock.fast_forward(16_000)
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#balance")).to_have_text("90")
    redeem(page, "40")
    page.locator("#do").click()
    expect(page.locator("#transaction")).to_have_text(CODE)
    assert shop.balance(account) == 50


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_after_the_pause_it_wants(desk: Desks, shop: Shop, status: int) -> None:
    account = shop.member("Busy Ltd", 100)
    page = desk("Clara Clerk").dialog(account)
    seen: list[str] = []

    def handle(route: Route) -> None:
        seen.append(route.request.method)
        if len(seen) == 1:
            route.fulfill(status=status, headers={"Retry-After": "1"}, json={"error": {"code": "", "message": "busy"}})
        else:
            route.continue_()

    page.route(POST_REDEMPTIONS, handle)
    redeem(page, "40")
    page.locator("#do").click()
    expect(page.locator("#transaction")).to_have_text(CODE)
    assert seen == ["POST", "POST"]
    assert len(shop.redemptions(account)) == 1
