"""The script of the forms of tier and earn rule: it finds what the connector finds, and says it before the row is saved."""

import os
import random
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from connector.loyalty.contradictions import contradictions
from connector.loyalty.program import EarnRule, Tier, Window
from connector.loyalty.versions import Terms
from tests.browser.conftest import PAGES

WINDOWS = {Window.LIFETIME: 482100000, Window.ROLLING_MONTHS: 482100001, Window.CALENDAR_YEAR: 482100002}
# In an order that Dynamics may choose: it promises none.
LIBRARIES = ("texts/terms.de.js", "scripts/terms.js", "scripts/texts.js", "texts/terms.en.js")

# The parts of the client API that the script uses, with the behaviour that Microsoft documents: a control with a
# notification keeps its form from being saved; handlers of onsave can prevent it too.
FORM = """() => {
window.makeForm = function (table, row, others, lcid) {
  const notes = {}, field = {}, saves = [], attributes = {};
  Object.keys(row).forEach(function (name) {
    const changed = [];
    attributes[name] = {
      getValue: () => row[name],
      setValue: (value) => { row[name] = value; },
      addOnChange: (handler) => changed.push(handler),
      fireOnChange: () => changed.forEach((handler) => handler()),
    };
  });
  window.Xrm = {
    Utility: { getGlobalContext: () => ({ userSettings: { languageId: lcid } }) },
    WebApi: { retrieveMultipleRecords: async (name, options) => {
      window.asked = [name, options];
      return { entities: others };
    } },
  };
  const form = {
    getAttribute: (name) => attributes[name] || null,
    getControl: (name) => attributes[name] ? {
      setNotification: (text, id) => { field[name] = text; },
      clearNotification: () => { delete field[name]; },
    } : null,
    ui: {
      setFormNotification: (text, level, id) => { notes[id] = level + ": " + text; },
      clearFormNotification: (id) => { delete notes[id]; },
    },
    data: { entity: {
      getEntityName: () => table, getId: () => row[table + "id"] || "", addOnSave: (handler) => saves.push(handler),
    } },
  };
  return {
    load: () => Loyalty.terms.onLoad({ getFormContext: () => form }),
    edit: (name, value) => { attributes[name].setValue(value); attributes[name].fireOnChange(); },
    save: () => {
      let prevented = false;
      saves.forEach((handler) => handler({ getEventArgs: () => ({ preventDefault: () => { prevented = true; } }) }));
      return !prevented;
    },
    notes: notes, field: field,
  };
};
}"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(timezone_id="America/New_York")
    empty = context.new_page()
    for name in LIBRARIES:
        empty.add_script_tag(path=PAGES / name)
    empty.evaluate(FORM)
    yield empty
    context.close()


def tier_row(tier: Tier) -> dict[str, Any]:
    return {
        "loy_tierid": tier.id,
        "loy_code": tier.code,
        "loy_rank": tier.rank,
        "loy_minimumtenuremonths": tier.minimum_tenure_months or None,
        "loy_minimumspend": float(tier.minimum_spend),
        "loy_minimumpoints": tier.minimum_points,
        "loy_spendwindow": WINDOWS[tier.window],
        "loy_windowmonths": tier.window_months,
        "loy_ratingcode": tier.rating_code,
    }


def rule_row(rule: EarnRule) -> dict[str, Any]:
    return {"loy_version": rule.version, "loy_validfrom": rule.valid_from.isoformat()}


def test_it_finds_what_the_connector_finds(page: Page) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    print(f"SEED={seed}")
    dice = random.Random(seed)
    cases, expected, kinds = [], [], set()
    for _ in range(400):
        tiers = tuple(
            Tier(
                code, code, dice.randint(0, 4), id=code,
                minimum_tenure_months=dice.choice((0, 0, 12)), minimum_spend=Decimal(dice.choice((0, 100, 200))),
                minimum_points=dice.choice((0, 0, 5)), window=dice.choice(list(WINDOWS)),
                window_months=dice.choice((6, 12)), rating_code=dice.choice((None, 1, 2)),
            )
            for code in dice.sample("ABCDE", dice.randint(1, 4))
        )  # fmt: skip
        versions = dice.sample(range(1, 5), dice.randint(1, 3))
        rules = tuple(EarnRule(v, date(2026, dice.randint(1, 3), 1), Decimal(1)) for v in versions)
        found = list(contradictions(Terms(rules, tiers)))
        kinds |= {each.kind for each in found}
        cases.append([[tier_row(tier) for tier in tiers], [rule_row(rule) for rule in rules]])
        expected.append(
            [
                [each.kind, each.severe, [r.code if isinstance(r, Tier) else r.version for r in each.rows]]
                for each in found
            ]
        )
    found_there = page.evaluate(
        """cases => cases.map(([tiers, rules]) => Loyalty.terms.ofTiers(tiers).concat(Loyalty.terms.ofRules(rules)).map(
            (each) => [each.kind, Boolean(each.severe), each.rows.map((row) => row.loy_code || row.loy_version)]))""",
        cases,
    )
    assert found_there == expected
    assert len(kinds) == 6  # every kind occurred


PROGRAM = "[{ id: '{AAAAAAAA-0000-4000-8000-000000000001}' }]"
SILVER = "{ loy_tierid: 's', loy_code: 'SILVER', loy_rank: 1, loy_minimumspend: 100, loy_spendwindow: 482100000 }"
BASE = "{ loy_tierid: 'b', loy_code: 'BASE', loy_rank: 0, loy_spendwindow: 482100000 }"


def tier_form(lcid: int) -> str:
    return f"""makeForm("loy_tier", {{
        loy_tierid: "{{C}}", loy_code: "GOLD", loy_rank: 2, loy_minimumtenuremonths: null, loy_minimumspend: 300,
        loy_minimumpoints: 0, loy_spendwindow: 482100000, loy_windowmonths: 12, loy_ratingcode: 7, loy_problem: null,
        loy_programid: {PROGRAM} }}, [{BASE}, {SILVER}, {{ loy_tierid: "c", loy_code: "GOLD", loy_rank: 1 }}], {lcid})"""


@pytest.mark.parametrize(
    ("lcid", "says"),
    [
        (1033, "Tiers GOLD and SILVER have the same rank 1."),
        (1031, "Die Stufen GOLD und SILVER haben denselben Rang 1."),
    ],
)
def test_a_rank_that_another_tier_has_cannot_be_saved(page: Page, lcid: int, says: str) -> None:
    found = page.evaluate(
        f"""async () => {{
            const form = {tier_form(lcid)};
            await form.load();
            const before = [form.save(), Object.assign({{}}, form.field)];
            form.edit("loy_rank", 1);
            const wrong = [form.save(), Object.assign({{}}, form.field)];
            form.edit("loy_rank", 3);
            return [before, wrong, [form.save(), form.field], asked, Object.keys(form.notes)];
        }}"""
    )
    assert found[:3] == [[True, {}], [False, {"loy_rank": says}], [True, {}]]
    assert found[3][0] == "loy_tier"
    assert "_loy_programid_value eq aaaaaaaa-0000-4000-8000-000000000001" in found[3][1]
    assert found[4] == ["loy_terms_forward"]


def test_what_is_only_doubtful_is_said_and_can_be_saved(page: Page) -> None:
    found = page.evaluate(
        f"""async () => {{
            const form = {tier_form(1033)};
            await form.load();
            form.edit("loy_minimumspend", 50);
            return [form.save(), form.notes.loy_terms_never_held];
        }}"""
    )
    assert found == [True, "WARNING: Nobody will ever hold tier SILVER: tier GOLD above it asks for no more."]


def test_two_rules_of_one_day_cannot_be_saved_wherever_the_user_is(page: Page) -> None:
    found = page.evaluate(
        f"""async () => {{
            const day = new Date(2026, 2, 1);
            const row = {{ loy_version: 2, loy_validfrom: day, loy_programid: {PROGRAM}, loy_problem: "Something." }};
            const other = {{ loy_earnruleid: "x", loy_version: 1, loy_validfrom: "2026-03-01" }};
            const form = makeForm("loy_earnrule", row, [other], 1033);
            await form.load();
            return [form.save(), form.field.loy_validfrom, form.notes];
        }}"""
    )
    assert found == [
        False,
        "Earn rules 1 and 2 both begin on 2026-03-01.",
        {"loy_problem": "WARNING: The connector found: Something."},
    ]


def test_a_new_row_without_a_programme_is_left_alone(page: Page) -> None:
    found = page.evaluate(
        """async () => {
            const form = makeForm("loy_tier", { loy_code: null, loy_rank: null, loy_programid: null }, [], 1033);
            await form.load();
            return [form.save(), form.field, form.notes];
        }"""
    )
    assert found == [True, {}, {}]
