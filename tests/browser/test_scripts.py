"""The pages' own arithmetic and reading, against the core that decides and against what Dynamics may pass."""

import json
import os
import random
import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from connector.loyalty import lots
from connector.loyalty.codes import parse_code, transaction_code
from connector.loyalty.ledger import State
from connector.loyalty.program import Program, Tier, Window
from connector.loyalty.tiers import held_by
from connector.loyalty.versions import Published, Terms, tiers_in_force
from tests.browser.conftest import PAGES

TODAY = date(2026, 11, 21)
SCRIPTS = ("texts", "page", "format", "dom", "webapi", "ledger", "codes", "wish", "service", "tiers")


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page with the modules and nothing else."""
    context = browser.new_context(timezone_id="America/New_York")
    empty = context.new_page()
    for name in SCRIPTS:
        empty.add_script_tag(path=PAGES / "scripts" / f"{name}.js")
    for path in sorted((PAGES / "texts").glob("*.js")):
        empty.add_script_tag(path=path)
    yield empty
    context.close()


@pytest.fixture(scope="module")
def dice() -> random.Random:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    print(f"SEED={seed}")
    return random.Random(seed)


def some_state(dice: random.Random) -> State:
    days = [TODAY + timedelta(days=dice.randint(-40, 400)) for _ in range(dice.randint(0, 6))]
    found = {day: dice.randint(1, 500) for day in days}
    if dice.random() < 0.3:
        found[date.max] = dice.randint(1, 500)
    return State(lots=found, owed=dice.choice((0, 0, 0, dice.randint(1, 300))))


def test_the_preview_draws_from_the_same_lots_as_the_core(page: Page, dice: random.Random) -> None:
    cases, expected = [], []
    for _ in range(300):
        state = some_state(dice)
        points = dice.randint(1, 900)
        moved = lots.consume(state, points, TODAY)
        drawn = None if moved is None else sorted([day.isoformat(), -taken] for day, taken in moved.lots.items())
        cases.append([state.to_json(), points])
        expected.append([state.available(TODAY), drawn])
    found = page.evaluate(
        """([cases, today]) => cases.map(([text, points]) => {
            const state = Loyalty.ledger.stateOf({ loy_state: text });
            return [Loyalty.ledger.available(state, today), Loyalty.ledger.consumed(state, points, today)];
        })""",
        [cases, TODAY.isoformat()],
    )
    assert found == expected


def test_a_membership_behind_its_ledger_is_caught_up(page: Page) -> None:
    found = page.evaluate(
        """() => {
            const state = Loyalty.ledger.stateOf({ loy_sequence: 3, loy_state: '{"lots":{"2027-01-31":50},"owed":5}' });
            const entry = (sequence, moved) => ({ loy_sequence: sequence, loy_movements: JSON.stringify(moved) });
            return Loyalty.ledger.caughtUp(state, [entry(3, { lots: { "2027-01-31": 50 } }),
                entry(4, { lots: { "2027-01-31": -50 } }), entry(5, { lots: { "2028-01-31": 7 }, owed: -5 })]);
        }"""
    )
    assert (found["lots"], found["owed"], found["sequence"]) == ({"2027-01-31": 0, "2028-01-31": 7}, 0, 5)


def test_codes_are_read_as_the_core_reads_them(page: Page, dice: random.Random) -> None:
    def core(text: str) -> str | None:
        try:
            return parse_code(text)
        except ValueError:
            return None

    typed = []
    for number in range(300):
        code = list(transaction_code(f"subject {number}"))
        if number % 3:
            place = dice.randrange(len(code))
            code[place] = dice.choice("23456789ABCDEFGHJKMNPQRSTUVWXYZ0OIL -")
        typed.append("".join(code).lower() if number % 2 else "".join(code))
    expected = [core(text) for text in typed]
    assert None in expected and any(expected)
    assert page.evaluate("texts => texts.map(text => Loyalty.parseCode(text))", typed) == expected


def test_tiers_stand_where_the_core_says(page: Page, dice: random.Random) -> None:
    for _ in range(60):
        window = dice.choice(list(Window))
        tier = Tier(
            "T", "Top", 1, minimum_tenure_months=dice.randint(0, 30), minimum_spend=dice.randint(0, 900),
            minimum_points=dice.randint(0, 900), window=window, window_months=dice.randint(1, 18),
        )  # fmt: skip
        months = [f"{2024 + m // 12}-{m % 12 + 1:02}" for m in range(8, 35)]
        since = date(2024, dice.randint(1, 12), dice.randint(1, 28))
        raw = {
            "spend": {month: f"{dice.randint(0, 90)}.0000" for month in months if dice.random() < 0.5},
            "earned": {month: dice.randint(0, 90) for month in months if dice.random() < 0.5},
            "since": since.isoformat(),
        }
        tiers = (Tier("B", "Base", 0), tier)
        program = Program("P", (), tiers)
        core = held_by(program, State.from_json(json.dumps(raw), 1, ""), TODAY).code == "T"
        versions = [{"loy_validfrom": None, "loy_terms": Terms((), tiers).to_json()}]
        standing: dict[str, Any] = page.evaluate(
            "([rows, raw, today]) =>"
            " Loyalty.standing(Loyalty.tiersInForce(rows, today), Object.assign({ tier: 'B' }, raw), today)",
            [versions, raw, TODAY.isoformat()],
        )
        assert all(c["have"] >= c["need"] for c in standing["next"]["conditions"]) == core, (tier, raw)


def test_tiers_are_those_in_force_whatever_was_published(page: Page, dice: random.Random) -> None:
    def some_day() -> date:
        return TODAY + timedelta(days=dice.randint(-3, 3))

    def tiers() -> tuple[Tier, ...]:
        return (
            Tier("B", "Base", 0),
            *(
                Tier(code, dice.choice("xy"), rank, valid_from=dice.choice([date.min, some_day()]))
                for rank, code in enumerate("XYZ", 1)
                if dice.random() < 0.8
            ),
        )

    differed = 0
    for _ in range(150):
        begins = [date.min, *sorted(some_day() for _ in range(dice.randint(0, 4)))]
        versions = [Published(number, day, Terms((), tiers())) for number, day in enumerate(begins, 1)]
        core = Program("P", (), (), tier_history=tiers_in_force(versions)).tiers_on(TODAY)
        rows = [
            {
                "loy_validfrom": None if each.begins == date.min else each.begins.isoformat(),
                "loy_terms": each.terms.to_json(),
            }
            for each in versions
        ]
        shown = page.evaluate("([rows, today]) => Loyalty.tiersInForce(rows, today)", [rows, TODAY.isoformat()])
        assert shown == json.loads(Terms((), core).to_json())["tiers"], rows
        differed += core != versions[-1].terms.tiers
    assert differed > 30


@pytest.mark.parametrize(
    ("culture", "text", "micros"),
    [
        ("en-US", "1,234.50", 1_234_500_000),
        ("de-DE", "1.234,50", 1_234_500_000),
        ("de-CH", "1’234.50", 1_234_500_000),
        ("en-US", " 12 ", 12_000_000),
        ("de-DE", "0,07", 70_000),
        ("en-US", "-1", None),
        ("en-US", "1e3", None),
        ("en-US", "", None),
        ("en-US", "1.2.3", None),
        ("en-US", "12345678901", None),
    ],
)
def test_amounts_as_typed(page: Page, culture: str, text: str, micros: int | None) -> None:
    script = "([culture, text]) => new Loyalty.Format(culture, null).parseMicros(text)"
    assert page.evaluate(script, [culture, text]) == micros


def test_an_amount_is_covered_by_whole_points(page: Page) -> None:
    # 0.07 / 0.01 is more than seven in binary fractions; seven points are enough.
    assert page.evaluate("[Loyalty.pointsFor(70000, 10000), Loyalty.pointsFor(70001, 10000)]") == [7, 8]


@pytest.mark.parametrize(
    ("offset", "shown"),
    [
        (None, "Jan 1, 2026, 7:30 AM"),  # the browser's zone
        (-300, "Jan 1, 2026, 7:30 AM"),  # Dynamics agrees with it
        (120, "Jan 1, 2026, 2:30 PM"),  # Dynamics knows better
    ],
)
def test_instants_in_the_time_zone_of_the_user(page: Page, offset: int | None, shown: str) -> None:
    script = "offset => new Loyalty.Format('en-US', offset).instant('2026-01-01T12:30:00Z')"
    assert page.evaluate(script, offset).replace("\u202f", " ") == shown


def test_what_dynamics_passes_is_read_and_strangers_are_not(page: Page) -> None:
    ours = '{"table":"contact","id":"0A000000-0000-0000-0000-000000000001","lcid":1031,"offset":60}'
    cases = {
        f"?data={ours}": ("contact:0a000000-0000-0000-0000-000000000001", "de-DE", 60),
        "?typename=account&id=%7b0A000000-0000-0000-0000-000000000001%7d&userlcid=1033": (
            "account:0a000000-0000-0000-0000-000000000001",
            "en-US",
            None,
        ),
        "?data=%257B%2522table%2522%253A%2522account%2522%257D": (None, "en-US", None),
        "?typename=constructor&id=0a000000-0000-0000-0000-000000000001": (None, "en-US", None),
        "?data=[1]": (None, "en-US", None),
    }
    for search, (key, culture, offset) in cases.items():
        found = page.evaluate("search => Loyalty.readPage(search)", search)
        assert ((found["customer"] or {}).get("key"), found["culture"], found["offset"]) == (key, culture, offset), (
            search
        )


def test_the_connector_is_called_silent_only_when_nothing_is_decided(page: Page) -> None:
    def row(created: str, status: int, decided: str | None = None) -> dict[str, Any]:
        day = "2026-11-21T"
        return {"createdon": day + created, "loy_status": status, "loy_decidedon": decided and day + decided}

    waiting, done = 482100000, 482100001
    cases = [
        ([], None),
        ([row("12:00:00Z", done, "12:00:01Z")], None),
        ([row("12:04:30Z", waiting)], None),  # half a minute is no silence
        ([row("12:01:00Z", waiting)], "2026-11-21T12:01:00Z"),
        # Others were decided since: one stuck wish is not the connector's silence.
        ([row("12:02:00Z", done, "12:02:01Z"), row("12:01:00Z", waiting)], None),
        ([row("12:01:00Z", waiting), row("12:00:00Z", done, "12:00:01Z")], "2026-11-21T12:01:00Z"),
    ]
    for rows, expected in cases:
        found = page.evaluate(
            "([rows, now]) => Loyalty.service.silentSince(rows, new Date(now))", [rows, "2026-11-21T12:05:00Z"]
        )
        assert found == expected, rows


def test_both_languages_say_the_same_things(page: Page) -> None:
    tables: dict[str, dict[str, Any]] = page.evaluate("Loyalty.textTables")
    assert set(tables["en"]) == set(tables["de"])

    def places(text: Any) -> set[str]:
        forms = text.values() if isinstance(text, dict) else [text]
        return set(re.findall(r"\{(\w+)\}", " ".join(forms)))

    for key, text in tables["en"].items():
        assert places(text) == places(tables["de"][key]), key
        assert isinstance(text, dict) == isinstance(tables["de"][key], dict), key
