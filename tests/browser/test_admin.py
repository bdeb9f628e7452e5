"""The admin: from a parked event to the entry it should have been; and a salesperson who may do neither."""

import json
import re
from typing import Any
from urllib.parse import quote

import requests
from azure.servicebus import ServiceBusClient
from playwright.sync_api import Locator, Page, expect

from connector.dataverse import Update
from tests.browser.conftest import PAID, Desks, Shop, events_lost
from tests.stack import Stack, wait_until

PARKED = re.compile("customerid: there is no customer")


def test_a_parked_event_is_looked_at_repaired_and_resumed(desk: Desks, shop: Shop, stack: Stack) -> None:
    account = shop.account("Repaired Ltd")
    invoice = shop.invoice(None, "120.00", pay=False)
    admin = desk("Adam Admin")
    page = admin.log()
    page.get_by_role("searchbox").fill(invoice)
    page.get_by_role("searchbox").press("Enter")
    row = page.locator("#body tr[data-id]")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("Parked")
    expect(row).to_contain_text("Set customerid to an account or contact; then resume.")

    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Check first").click()
    expect(page.locator("#findings")).to_contain_text(
        "Would be booked: 0 of 1 rows; entries: 0, points: 0. Would be parked again: 1."
    )
    expect(page.locator("#findings .badge")).to_have_text("Parked")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#notice")).to_contain_text("1 row was parked again")

    row.get_by_role("button", name=PARKED).click()
    trace = page.locator(".trace")
    expect(trace.get_by_role("link", name="Invoice")).to_have_attribute(
        "href", re.compile(f"etn=invoice&id={invoice}$")
    )
    expect(trace).to_contain_text("Event: Create")
    expect(trace).to_contain_text("No entry in the ledger.")

    # Nobody hears of the repair: only Resume looks again.
    with events_lost(stack):
        bind = {"customerid_account@odata.bind": f"/accounts({account})"}
        shop.client.commit([Update(f"invoices({invoice})", bind)])
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Check first").click()
    findings = page.locator("#findings")
    expect(findings).to_contain_text(
        "Would be booked: 1 of 1 rows; entries: 1, points: +120. Would be parked again: 0."
    )
    expect(findings).to_contain_text("120 points earned")
    expect(findings).to_contain_text("pending 0 → 120")
    assert shop.balance(account) is None, "nothing is booked by looking"
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#notice")).to_contain_text("1 row is settled.")
    shop.pay(invoice)
    shop.wait_for(account, 120)
    page.get_by_role("searchbox").fill(f"account:{account}")
    page.get_by_role("searchbox").press("Enter")
    page.get_by_role("tab", name="Everything").click()
    applied = page.locator("#body tr[data-id]").filter(has_text="120 points earned")
    applied.get_by_role("button").click()
    expect(page.locator(".trace")).to_contain_text("Entry 1 of the ledger: +120, Earned with invoice")


def test_many_rows_are_resumed_together(desk: Desks, shop: Shop) -> None:
    invoices = [shop.invoice(None, "10.00", pay=False) for _ in range(5)]
    page = desk("Adam Admin").log()
    expect(page.get_by_role("tab", name=re.compile(r"Needs attention \(([5-9]|\d\d+)\)"))).to_be_visible()
    account = shop.account("Bulk Repair Ltd")
    bind = {"customerid_account@odata.bind": f"/accounts({account})"}
    for invoice in invoices:
        shop.client.commit([Update(f"invoices({invoice})", bind | PAID)])
    shop.wait_for(account, 50)
    page.reload()
    page.get_by_label("Choose all").check()
    count = page.locator("#body input[type=checkbox]:checked").count()
    assert count >= 5
    page.get_by_role("button", name="Check first").click()
    # Their points are there already, and the connector knows it.
    settled = page.locator("#findings tr").filter(has_text="nothing to do, its 10 points are in the ledger already")
    expect(settled).to_have_count(5)
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#notice")).to_contain_text("settled")
    assert shop.balance(account) == 50


def test_bulk_runs_show_their_state_and_move_on_by_themselves(desk: Desks, shop: Shop) -> None:
    run = shop.client.request("POST", "loy_bulkruns", {"loy_name": "Night of points", "loy_kind": 482100003,
                                                       "loy_status": 482100001, "loy_asof": "2026-11-30",
                                                       "loy_posted": 12345})  # fmt: skip
    path = run.headers["odata-entityid"].partition("/v9.2/")[2]
    page = desk("Adam Admin").log()
    page.get_by_role("tab", name="Bulk runs").click()
    card = page.locator("article").filter(has_text="Night of points")
    expect(card).to_contain_text("Running")
    expect(card).to_contain_text("Nov 30, 2026")
    expect(card).to_contain_text("12,345")
    shop.client.commit([Update(path, {"loy_status": 482100003})])
    expect(card).to_contain_text("Done")


def test_a_decided_change_is_replayed(desk: Desks, shop: Shop) -> None:
    account = shop.member("Replayed Ltd", 40)
    page = desk("Adam Admin").log()
    page.get_by_role("searchbox").fill(f"account:{account}")
    page.get_by_role("searchbox").press("Enter")
    page.get_by_role("tab", name="Everything").click()
    row = page.locator("#body tr[data-id]")
    expect(row).to_have_count(1)
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Check first").click()
    expect(page.locator("#findings")).to_contain_text("The adjustment was decided before.")
    expect(page.locator("#findings")).to_contain_text("Would be booked: 0 of 1 rows")
    page.get_by_role("button", name="Replay").click()
    expect(page.locator("#notice")).to_contain_text("1 row is settled.")
    assert shop.balance(account) == 40


def run_timer(stack: Stack, name: str) -> None:
    """A timer of the function app, now."""
    url, key = stack.endpoints["functions_admin_url"], stack.endpoints["master_key"]
    answer = requests.post(
        f"{url}/functions/{name}",
        json={"input": ""},
        headers={"x-functions-key": key},
        verify=stack.endpoints["ca_file"],
        timeout=60,
    )
    assert answer.status_code == 202, answer.text


def test_a_dead_letter_is_shown_looked_at_and_sent_again(desk: Desks, shop: Shop, stack: Stack) -> None:
    """The function app's own message, dead-lettered as after its last delivery; its timer, its log row, its second round."""
    account = shop.account("Dead Letter Ltd")
    key = f"account:{account}"
    with ServiceBusClient.from_connection_string(stack.endpoints["servicebus_connection_string"]) as bus:
        # Who holds the session gets the messages of this customer instead of the function app.
        with bus.get_queue_receiver("loyalty-changes", session_id=key) as session:

            def fail() -> None:
                messages = wait_until(lambda: session.receive_messages(1, max_wait_time=5), 60, "a message")
                session.dead_letter_message(messages[0], "MaxDeliveryCountExceeded", "connection refused")

            shop.give(account, 40, 12)
            fail()
            run_timer(stack, "ResubmitDeadLetters")
            page = desk("Adam Admin").log()
            page.get_by_role("searchbox").fill(key)
            row = page.locator("#body tr[data-id]")

            def shown() -> bool:
                page.get_by_role("searchbox").press("Enter")
                return row.count() == 1

            wait_until(shown, 60, "the row of the dead letter")
            expect(row).to_contain_text("Dead-lettered")
            expect(row).to_contain_text("MaxDeliveryCountExceeded: connection refused")
            fail()  # the second round fails as well; the third is for the admin
        row.get_by_role("checkbox").check()
        page.get_by_role("button", name="Check first").click()
        expect(page.locator("#findings")).to_contain_text("Would be booked: 1 of 1 rows; entries: 1, points: +40.")
        assert shop.balance(account) is None, "nothing is booked by looking"
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#notice")).to_contain_text("1 row is settled.")
        assert shop.balance(account) == 40
        # The dead letter itself comes back later, and books nothing.
        run_timer(stack, "ResubmitDeadLetters")
        page.get_by_role("tab", name="Everything").click()
        expect(row).to_contain_text("Applied")
        row.get_by_role("button").click()
        expect(page.locator(".trace")).to_contain_text("Entry 1 of the ledger: +40")
        expect(page.locator(".trace")).not_to_contain_text("Entry 2")
    assert shop.balance(account) == 40


def test_the_trace_leads_to_an_entry_that_names_another_record(desk: Desks, shop: Shop) -> None:
    """The entry of a void names the redemption that it undoes, not the row that asked."""
    account = shop.member("Traced Ltd", 100)
    shop.ask(account, 40)
    shop.wait_for(account, 60)
    (redeemed,) = shop.redemptions(account)
    shop.ask(account, 40, loy_type=482100001, loy_voidscode=redeemed["loy_transactioncode"])
    shop.wait_for(account, 100)
    (void,) = [row for row in shop.redemptions(account) if row["loy_redemptionid"] != redeemed["loy_redemptionid"]]
    page = desk("Adam Admin").log()
    page.get_by_role("tab", name="Everything").click()
    for record, entry in ((redeemed, "Entry 2 of the ledger: -40"), (void, "Entry 3 of the ledger: +40")):
        page.get_by_role("searchbox").fill(record["loy_redemptionid"])
        page.get_by_role("searchbox").press("Enter")
        row = page.locator("#body tr[data-id]")
        expect(row).to_have_count(1)
        row.get_by_role("button").click()
        expect(page.locator(".trace").get_by_text(entry)).to_be_visible()
        expect(page.locator(".trace").get_by_text("of the ledger")).to_have_count(1)
        expect(page.locator(".trace")).to_contain_text(re.compile(r"\d+ ms, delivery 1"))
        page.get_by_role("searchbox").fill("")
        page.get_by_role("searchbox").press("Enter")
        expect(row).not_to_have_count(1)


def tab_to(page: Page, there: Locator, key: str = "Tab") -> None:
    for _ in range(20):
        if there.evaluate("node => node === document.activeElement"):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead to {there}")


def test_the_log_with_the_keyboard_alone(desk: Desks, shop: Shop) -> None:
    invoice = shop.invoice(None, "10.00", pay=False)
    page = desk("Adam Admin").log()
    tab_to(page, page.get_by_role("tab", selected=True))
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Rejected")).to_be_focused()
    page.keyboard.press("ArrowRight")
    tab_to(page, page.get_by_role("searchbox"))
    page.keyboard.type(invoice)
    page.keyboard.press("Enter")
    row = page.locator("#body tr[data-id]")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("Parked")
    tab_to(page, row.get_by_role("checkbox"))
    page.keyboard.press("Space")
    tab_to(page, page.get_by_role("button", name="Check first"), "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#findings-title")).to_be_focused()
    tab_to(page, page.get_by_role("button", name="Resume"), "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("1 row was parked again")
    expect(page.locator("#notice")).to_be_focused()
    tab_to(page, row.get_by_role("button"))
    page.keyboard.press("Enter")
    expect(page.locator(".trace")).to_contain_text("No entry in the ledger.")


def test_the_log_in_german(desk: Desks, shop: Shop) -> None:
    invoice = shop.invoice(None, "10.00", pay=False)
    page = desk("Adam Admin", "de-DE").log()
    page.get_by_role("searchbox").fill(invoice)
    page.get_by_role("searchbox").press("Enter")
    row = page.locator("#body tr[data-id]")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("customerid: es gibt keinen Kunden.")
    expect(row).to_contain_text("customerid auf eine Firma oder einen Kontakt setzen, dann fortsetzen.")
    expect(row.get_by_role("link", name=f"Rechnung {invoice[:8]}")).to_be_visible()
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Erst prüfen").click()
    expect(page.locator("#findings")).to_contain_text("Wieder geparkt würden: 1.")


def test_a_bulk_run_is_steered_from_its_form(desk: Desks, shop: Shop) -> None:
    """Nobody works on a sweep by this row: the counters are moved here as a worker would."""
    run = shop.client.request("POST", "loy_bulkruns", {"loy_name": "Steered", "loy_kind": 482100003,
                                                       "loy_status": 482100001, "loy_selected": 5000,
                                                       "loy_done": 100, "loy_failed": 0})  # fmt: skip
    path = run.headers["odata-entityid"].partition("/v9.2/")[2]
    admin = desk("Adam Admin", "de-DE")
    page = admin.open_record("loy_bulkrun", path[-37:-1]).frame_locator("iframe[title=Live]")
    expect(page.locator("#run")).to_contain_text("100 von 5.000 Kunden")
    for done in (900, 1700):
        shop.client.commit([Update(path, {"loy_done": done})])
        expect(page.locator("#run")).to_contain_text(f"{done:,} von 5.000 Kunden".replace(",", "."))
    expect(page.locator("#run")).to_contain_text("In der Sekunde")
    expect(page.get_by_role("img", name=re.compile("Besuchte Kunden"))).to_be_visible()
    page.get_by_role("button", name="Anhalten").click()
    expect(page.locator("#head")).to_contain_text("Angehalten")
    assert shop.client.request("GET", f"{path}?$select=loy_status").json()["loy_status"] == 482100002
    page.get_by_role("button", name="Lauf abbrechen").click()
    expect(page.get_by_role("button", name="Nein, weiter")).to_be_focused()
    page.get_by_role("button", name="Ja, abbrechen").click()
    expect(page.locator("#head")).to_contain_text("Abgebrochen")
    expect(page.get_by_role("button")).to_have_count(0)


def before(row: dict[str, Any]) -> int:
    """Points outstanding before a run, of the customers it visited."""
    return sum(points for name, points in json.loads(row["loy_figures"]).items() if name.startswith("before|"))


def test_a_bulk_run_of_the_function_app_is_started_and_watched(desk: Desks, shop: Shop, stack: Stack) -> None:
    """A dry run over everybody whose points would have ended: the timer of the function app works on it."""
    account = shop.member("Counted Ltd", 60)
    run = shop.client.request("POST", "loy_bulkruns", {"loy_name": "Rehearsed", "loy_kind": 482100000,
                                                       "loy_status": 482100000, "loy_asof": "2040-01-01",
                                                       "loy_dryrun": True})  # fmt: skip
    path = run.headers["odata-entityid"].partition("/v9.2/")[2]
    page = desk("Adam Admin").open_record("loy_bulkrun", path[-37:-1]).frame_locator("iframe[title=Live]")
    expect(page.locator("#head")).to_contain_text("Draft")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#head")).to_contain_text("Running")
    run_timer(stack, "RunMassJobs")
    expect(page.locator("#head")).to_contain_text("Done", timeout=60_000)
    row = shop.client.request("GET", path).json()
    assert row["loy_done"] == row["loy_selected"] > 0
    expect(page.locator("#run")).to_contain_text(f"{row['loy_done']:,} of {row['loy_selected']:,} customers")
    expect(page.locator("#run")).to_contain_text("Rehearsal: nothing is written")
    expect(page.locator("#run")).to_contain_text("Entries it would write")
    expect(page.locator("#run")).not_to_contain_text("Entries written")
    expect(page.locator(".outstanding dd").first).to_contain_text(f"{before(row):,}")
    expect(page.locator(".outstanding dd").first).to_contain_text(f"${before(row) / 100:,.2f}")
    expect(page.locator(".outstanding dd").last).to_contain_text(f"-{int(row['loy_pointscancelled']):,}")
    expect(page.locator("#failures li")).to_have_count(row["loy_failed"])
    assert shop.balance(account) == 60, "a rehearsal writes nothing"


def test_what_is_outstanding_is_counted_on_request(desk: Desks, shop: Shop, stack: Stack) -> None:
    """From the navigation; the timer of the function app counts, and the page sees the end by itself."""
    shop.member("Outstanding Ltd", 75)
    page = desk("Adam Admin").page
    page.goto(stack.endpoints["dynamics_url"])
    page.get_by_role("link", name="Points outstanding").click()
    frame = page.frame_locator("iframe[title='loy_/outstanding.html']")
    expect(frame.locator("#page")).to_have_attribute("aria-busy", "false")
    frame.get_by_role("button", name="Count now").click()
    expect(frame.locator("#notice")).to_contain_text("has been ordered")
    run_timer(stack, "RunMassJobs")
    expect(frame.get_by_role("button", name="Count now")).to_be_enabled(timeout=60_000)
    counts = (
        "loy_bulkruns?$select=loy_status,loy_done,loy_figures&$filter=loy_kind eq 482100005&$orderby=createdon desc"
    )
    row = shop.client.request("GET", counts).json()["value"][0]
    assert row["loy_status"] == 482100003
    owed = sum(json.loads(row["loy_figures"]).values())
    balances = shop.client.request("GET", "loy_memberships?$select=loy_balance,loy_pending").json()["value"]
    assert owed == sum((each["loy_balance"] or 0) + (each["loy_pending"] or 0) for each in balances)
    assert row["loy_done"] == len(balances)
    expect(frame.locator("#points tbody tr").last).to_contain_text(f"{owed:,}")
    expect(frame.locator("#points tbody tr").last).to_contain_text(f"{owed / 100:,.2f}")


def test_a_salesperson_may_neither_see_nor_redeem(desk: Desks, shop: Shop) -> None:
    account = shop.member("Not For Sam Ltd", 100)
    sam = desk("Sam Salesperson")
    page = sam.open_record("account", account)
    expect(page.get_by_role("heading", name="Not For Sam Ltd")).to_be_visible()
    expect(page.get_by_role("button", name="Customer Redemption")).to_have_count(0)
    expect(page.get_by_role("link", name="What happened")).to_have_count(0)
    page = sam.dialog(account)
    expect(page.locator("#notice")).to_contain_text("Your security role does not let you see this customer's points.")
    expect(page.locator("#ask")).to_be_hidden()
    # Whatever the screen offers: Dataverse refuses.
    row = {"loy_requestid": "sam-1", "loy_type": 482100000, "loy_points": 1}
    answer = page.request.post(f"{sam.url}/api/data/v9.2/loy_redemptions", data=row)
    assert (answer.status, answer.json()["error"]["code"]) == (403, "0x80040220")
    page.goto(f"{sam.url}/WebResources/loy_/log.html?userlcid=1033")
    expect(page.locator("#notice")).to_contain_text("Your security role does not let you do this.")


def test_a_clerk_cannot_complete_a_redemption_by_hand(desk: Desks, shop: Shop) -> None:
    account = shop.member("No Shortcut Ltd", 100)
    shop.ask(account, 999)
    clerk = desk("Clara Clerk")
    (row,) = shop.redemptions(account)
    path = f"{clerk.url}/api/data/v9.2/loy_redemptions({row['loy_redemptionid']})"
    answer = clerk.page.request.patch(path, data={"loy_status": 482100001, "loy_transactioncode": "AAA-AAA-AAA"})
    assert answer.status == 403


def test_the_shell_passes_nothing_on_for_strangers(desk: Desks, shop: Shop) -> None:
    clerk = desk("Clara Clerk")
    stranger = clerk.context.browser.new_context()  # type: ignore[union-attr]
    try:
        assert stranger.request.get(f"{clerk.url}/api/data/v9.2/accounts").status == 401
        assert stranger.request.get(f"{clerk.url}/WebResources/loy_/redeem.html").status == 401
    finally:
        stranger.close()
    elsewhere = clerk.page.request.post(
        f"{clerk.url}/api/data/v9.2/loy_redemptions", data={}, headers={"Origin": "https://elsewhere.example"}
    )
    assert elsewhere.status == 403
    # Nobody becomes somebody else by a header.
    me = clerk.page.request.get(f"{clerk.url}/api/data/v9.2/WhoAmI").json()["UserId"]
    admin = desk("Adam Admin").page.request.get(f"{clerk.url}/api/data/v9.2/WhoAmI").json()["UserId"]
    forged = clerk.page.request.get(f"{clerk.url}/api/data/v9.2/WhoAmI", headers={"MSCRMCallerID": admin})
    assert forged.json()["UserId"] == me != admin


def test_a_page_asked_for_a_stranger_record_says_so(desk: Desks, shop: Shop) -> None:
    clerk = desk("Clara Clerk")
    for data in ("", "{", json.dumps({"id": "x' or 1", "table": "account"}), json.dumps({"table": "invoice"})):
        clerk.page.goto(f"{clerk.url}/WebResources/loy_/redeem.html?data={quote(data)}")
        expect(clerk.page.locator("#notice")).to_contain_text("Open this page with the command")
    page = clerk.dialog("00000000-0000-0000-0000-00000000dead")
    expect(page.locator("#notice")).to_contain_text("This record does not exist any more.")
