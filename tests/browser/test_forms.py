"""Forms of the stand-in: an admin edits rows, and scripts of a form hear and steer it as in Dynamics."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Desk, Desks, Shop

# What a form script may do, in one script: it hears load, change and save, and keeps a factor above ten from being saved.
SCRIPT = """
window.Heard = [];
window.Form = {
  onLoad: function (context) {
    var form = context.getFormContext();
    var name = form.getAttribute("loy_name").getValue();
    window.Heard.push(["load", form.ui.getFormType(), form.data.entity.getEntityName(), name]);
    form.getAttribute("loy_multiplier").addOnChange(function (event) {
      window.Heard.push(["change", event.getEventSource().getName(), event.getEventSource().getValue()]);
    });
    form.ui.setFormNotification("Tiers are looked at by night.", "INFO", "night");
  },
  onSave: function (context) {
    var form = context.getFormContext();
    var factor = form.getAttribute("loy_multiplier").getValue();
    form.ui.clearFormNotification("night");
    return Promise.resolve().then(function () {
      if (factor > 10) {
        context.getEventArgs().preventDefault();
        form.getControl("loy_multiplier").setNotification("More than ten times the points?", "factor");
      } else {
        form.getControl("loy_multiplier").clearNotification("factor");
      }
    });
  }
};
"""


def with_script(page: Page, table: str) -> None:
    """The table's form as if its XML named the script."""

    def handler(event: str, function: str) -> dict[str, Any]:
        return {"event": event, "column": "", "function": function, "enabled": True, "context": True, "parameters": ""}

    def words(route: Route) -> None:
        found = route.fetch().json()
        found["form"]["libraries"] = ["loy_/scripts/tried.js"]
        found["form"]["handlers"] = [handler("onload", "Form.onLoad"), handler("onsave", "Form.onSave")]
        route.fulfill(json=found)

    page.route(f"**/shell/table/{table}", words)
    page.route("**/loy_/scripts/tried.js", lambda route: route.fulfill(body=SCRIPT, content_type="text/javascript"))


def a_tier(shop: Shop, rank: int, **columns: Any) -> str:
    """A tier that nobody reaches, of a programme that nobody runs."""
    program, tier = str(uuid4()), str(uuid4())
    shop.client.request(
        "POST", "loy_programs", {"loy_programid": program, "loy_name": "Tried", "loy_code": program[:8]}
    )
    row = {
        "loy_tierid": tier,
        "loy_name": "Tried",
        "loy_code": f"T{rank}",
        "loy_rank": rank,
        "loy_multiplier": Decimal("1.5"),
        "loy_ProgramId@odata.bind": f"/loy_programs({program})",
        **columns,
    }
    shop.client.request("POST", "loy_tiers", row)
    return tier


def opened(desk: Desk, table: str, record: str = "") -> Page:
    page = desk.open_record(table, record)
    expect(page.locator(".problem")).to_have_count(0)
    return page


def test_an_admin_edits_a_tier_and_the_web_api_has_the_last_word(desk: Desks, shop: Shop) -> None:
    tier = a_tier(shop, 1)
    page = opened(desk("Adam Admin"), "loy_tier", tier)
    expect(page.get_by_label("Programme").locator("option:checked")).to_have_text("Tried")
    page.get_by_label("Name", exact=True).fill("Renamed")
    page.get_by_label("Minimum spend").fill("1234.50")
    page.get_by_label("Spend window").select_option(label="Calendar year")
    page.get_by_label("Minimum spend").press("Tab")
    expect(page.get_by_text("Unsaved changes")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Renamed")
    expect(page.get_by_text("Unsaved changes")).to_have_count(0)
    row = shop.client.request("GET", f"loy_tiers({tier})").json()
    assert (row["loy_name"], float(row["loy_minimumspend"]), row["loy_spendwindow"]) == ("Renamed", 1234.5, 482100002)

    page.get_by_label("Name", exact=True).fill("")
    page.get_by_label("Rank").fill("-5")
    page.get_by_label("Rank").press("Tab")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert").filter(has_text="loy_rank")).to_be_visible()
    assert shop.client.request("GET", f"loy_tiers({tier})?$select=loy_rank").json()["loy_rank"] == 1


def test_a_required_field_is_asked_for_and_a_new_row_gets_its_address(desk: Desks, shop: Shop) -> None:
    admin = desk("Adam Admin")
    page = admin.page
    page.goto(f"{admin.url}/main.aspx?pagetype=entitylist&etn=loy_bulkrun")
    page.get_by_role("button", name="New").click()
    expect(page.get_by_role("heading", name="New Bulk run")).to_be_visible()
    name = f"Rehearsal {uuid4().hex[:6]}"
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Kind").select_option(label="Expiry")
    page.get_by_label("As of").fill("2026-12-31")
    page.get_by_label("Dry run").select_option(label="Yes")
    page.get_by_label("Dry run").press("Tab")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    (row,) = shop.client.request("GET", f"loy_bulkruns?$filter=loy_name eq '{name}'").json()["value"]
    assert (row["loy_asof"][:10], row["loy_dryrun"], row["loy_status"]) == ("2026-12-31", True, 482100000)
    assert row["loy_bulkrunid"] in page.url
    expect(page.frame_locator("iframe[title=Live]").get_by_role("button", name="Start")).to_be_visible()

    page.goto(f"{admin.url}/main.aspx?pagetype=entityrecord&etn=loy_tier")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert").filter(has_text="Required fields must be filled in").first).to_be_visible()


def test_a_form_script_hears_and_steers_the_form(desk: Desks, shop: Shop) -> None:
    tier = a_tier(shop, 2)
    admin = desk("Adam Admin")
    with_script(admin.page, "loy_tier")
    page = opened(admin, "loy_tier", tier)
    expect(page.get_by_text("Tiers are looked at by night.")).to_be_visible()
    assert page.evaluate("window.Heard") == [["load", 2, "loy_tier", "Tried"]]
    factor = page.get_by_label("Multiplier")
    factor.fill("11")
    factor.press("Tab")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("More than ten times the points?")).to_be_visible()
    expect(page.get_by_text("Tiers are looked at by night.")).to_have_count(0)
    assert page.evaluate("window.Heard[1]") == ["change", "loy_multiplier", 11]
    assert float(shop.client.request("GET", f"loy_tiers({tier})").json()["loy_multiplier"]) == 1.5
    page.evaluate("Form.onSave = null")
    factor.fill("2")
    factor.press("Tab")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Unsaved changes")).to_have_count(0)
    assert float(shop.client.request("GET", f"loy_tiers({tier})").json()["loy_multiplier"]) == 2


def test_who_may_not_write_sees_text(desk: Desks, shop: Shop) -> None:
    tier = a_tier(shop, 3)
    page = opened(desk("Clara Clerk"), "loy_tier", tier)
    expect(page.get_by_role("heading", level=1)).to_have_text("Tried")
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    expect(page.locator("main input, main select")).to_have_count(0)
