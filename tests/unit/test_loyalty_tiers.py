"""Tiers at their thresholds, tenure at the ends of months, what time alone changes, and the last day of points."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.loyalty.earning import Status
from connector.loyalty.ledger import Pending, State, month_of
from connector.loyalty.program import (
    EarnRule,
    Program,
    Rounding,
    SpendableOn,
    Tier,
    Window,
    add_months,
    end_of_period,
    months_between,
)
from connector.loyalty.reviews import Expiry, decide_review
from connector.loyalty.tiers import held_by, next_review, next_tier
from connector.recount import Recount
from tests.unit.loyalty_book import BASIC, CUSTOMER, GOLD, NOW, PROGRAM, SILVER, TIERED, Book, an_invoice, at
from tests.unit.loyalty_model import last_day, later, tenure, tier_on

CENT = Decimal("0.01")
SHIPPED = replace(
    PROGRAM,
    tiers=(
        BASIC,
        Tier("GOLD", "Gold", 1, minimum_tenure_months=60, minimum_spend=Decimal(3_000_000)),
        Tier("PLATINUM", "Platinum", 2, minimum_tenure_months=60, minimum_spend=Decimal(5_000_000)),
    ),
)
DATES = st.dates(date(1990, 1, 1), date(2060, 12, 31))


def a_state(spend: dict[str, Decimal | int], since: date | None = date(2020, 1, 1), earned: int = 0) -> State:
    months = {month: Decimal(amount) for month, amount in spend.items()}
    return State(sequence=1, tier="BASIC", spend=months, since=since, earned={"2026-06": earned} if earned else {})


@pytest.mark.parametrize(
    ("spend", "on", "code"),
    [
        ("2999999.99", "2025-01-01", "BASIC"),
        ("3000000", "2025-01-01", "GOLD"),
        ("3000000", "2024-12-31", "BASIC"),
        ("4999999.9999", "2030-01-01", "GOLD"),
        ("5000000", "2025-01-01", "PLATINUM"),
        ("9000000", "2024-12-31", "BASIC"),
    ],
)
def test_the_shipped_example_at_its_thresholds(spend: str, on: str, code: str) -> None:
    assert held_by(SHIPPED, a_state({"2021-05": Decimal(spend)}), date.fromisoformat(on)).code == code


def test_an_unknown_start_is_no_tenure() -> None:
    assert held_by(SHIPPED, a_state({"2021-05": 9_000_000}, since=None), date(2090, 1, 1)).code == "BASIC"


@pytest.mark.parametrize(
    ("window", "months", "on", "code"),
    [
        (Window.LIFETIME, 12, "2026-01-01", "SILVER"),
        (Window.ROLLING_MONTHS, 12, "2026-02-28", "SILVER"),
        (Window.ROLLING_MONTHS, 12, "2026-03-01", "BASIC"),
        (Window.ROLLING_MONTHS, 1, "2025-03-31", "SILVER"),
        (Window.ROLLING_MONTHS, 1, "2025-04-01", "BASIC"),
        (Window.ROLLING_MONTHS, 12, "2025-02-28", "BASIC"),
        (Window.CALENDAR_YEAR, 12, "2025-12-31", "SILVER"),
        (Window.CALENDAR_YEAR, 12, "2026-01-01", "BASIC"),
        (Window.CALENDAR_YEAR, 12, "2025-02-28", "BASIC"),
    ],
)
def test_windows_are_whole_months_that_end_with_the_month_of_the_question(
    window: Window, months: int, on: str, code: str
) -> None:
    program = replace(TIERED, tiers=(BASIC, replace(SILVER, window=window, window_months=months)))
    assert held_by(program, a_state({"2025-03": 1000}), date.fromisoformat(on)).code == code


@given(
    st.lists(
        st.builds(
            replace,
            st.just(SILVER),
            minimum_tenure_months=st.integers(0, 30),
            window=st.sampled_from(Window),
            window_months=st.integers(1, 14),
            grace_months=st.integers(0, 3),
            soft_landing=st.booleans(),
            minimum_points=st.sampled_from([0, 500]),
            minimum_spend=st.integers(0, 3000).map(Decimal),
        ),
        max_size=3,
    ),
    st.lists(st.tuples(st.dates(date(2024, 1, 1), date(2026, 12, 31)), st.integers(1, 900)), max_size=5),
    st.none() | st.dates(date(2023, 1, 1), date(2025, 12, 31)),
    st.dates(date(2024, 1, 1), date(2026, 12, 31)),
)
def test_the_highest_tier_whose_every_condition_holds(
    above: list[Tier], bought: list[tuple[date, int]], since: date | None, on: date
) -> None:
    others = (replace(tier, code=f"T{n}", rank=n, multiplier=Decimal(n + 1)) for n, tier in enumerate(above, 1))
    tiers = (BASIC, *others)
    program = replace(TIERED, tiers=tiers)
    spend: dict[str, Decimal] = {}
    earned: dict[str, int] = {}
    for day, amount in bought:
        spend[month_of(day)] = spend.get(month_of(day), Decimal(0)) + amount
        earned[month_of(day)] = earned.get(month_of(day), 0) + amount
    state = State(sequence=1, tier="BASIC", spend=spend, earned=earned, since=since)
    past = [(day, Fraction(amount), amount) for day, amount in bought]
    tier = tier_on(program, past, since, on)
    assert held_by(program, state, on) == tier
    before = {(int(month[:4]), int(month[5:])): (spend[month], earned[month]) for month in spend}
    invoice = {"statecode": 2, "statuscode": 100001, "totalamount_base": Decimal(1), "invoice_details": []}
    invoice |= {"totaltax_base": None, "freightamount_base": None}
    rule = EarnRule(1, date.min, Decimal(1))
    assert Recount(program, since, before).next(invoice, on, rule) == (1, tier.multiplier)


@given(DATES, DATES)
def test_tenure_is_counted_in_anniversaries(since: date, on: date) -> None:
    months = months_between(since, on)
    if on >= since:
        assert months == tenure(since, on)
    assert add_months(since, months) <= on < add_months(since, months + 1)


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        ("2024-01-31", 1, "2024-02-29"),
        ("2023-01-31", 1, "2023-02-28"),
        ("2024-02-29", 12, "2025-02-28"),
        ("2024-02-29", 48, "2028-02-29"),
        ("2025-12-31", 2, "2026-02-28"),
        ("2024-03-31", -1, "2024-02-29"),
        ("2024-01-15", -1, "2023-12-15"),
        ("2024-01-15", 0, "2024-01-15"),
    ],
)
def test_months_later(day: str, months: int, expected: str) -> None:
    assert add_months(date.fromisoformat(day), months) == date.fromisoformat(expected)


@given(DATES, st.integers(0, 300))
def test_months_later_agree_with_steps_of_one_month(day: date, months: int) -> None:
    assert add_months(day, months) == later(day, months)


@pytest.mark.parametrize(
    ("since", "reached"), [("2020-02-29", "2021-02-28"), ("2020-08-31", "2021-08-31"), ("2019-02-28", "2020-02-28")]
)
def test_tenure_of_a_year_is_reached_on_the_day(since: str, reached: str) -> None:
    program = replace(PROGRAM, tiers=(BASIC, Tier("LOYAL", "Loyal", 1, minimum_tenure_months=12)))
    state, day = a_state({}, date.fromisoformat(since)), date.fromisoformat(reached)
    assert held_by(program, state, day - timedelta(days=1)).code == "BASIC"
    assert held_by(program, state, day).code == "LOYAL"
    assert next_review(program, state, day - timedelta(days=1)) == day


def test_the_distance_to_the_next_tier() -> None:
    near = next_tier(SHIPPED, a_state({"2021-05": Decimal("2999999.99")}), date(2024, 12, 31))
    assert near
    assert (near.tier.code, near.spend, near.points, near.tenure_on) == ("GOLD", CENT, 0, date(2025, 1, 1))
    above = next_tier(SHIPPED, a_state({"2021-05": 3_000_000}), date(2025, 1, 1))
    assert above
    assert (above.tier.code, above.spend, above.tenure_on) == ("PLATINUM", 2_000_000, None)
    assert next_tier(SHIPPED, a_state({"2021-05": 5_000_000}), date(2025, 1, 1)) is None


def test_the_distance_counts_only_the_window_and_points() -> None:
    tier = replace(SILVER, window=Window.CALENDAR_YEAR, minimum_points=500)
    near = next_tier(
        replace(TIERED, tiers=(BASIC, tier)), a_state({"2025-12": 900, "2026-01": 300}, earned=450), date(2026, 6, 1)
    )
    assert near
    assert (near.spend, near.points, near.tenure_on) == (700, 50, None)


def test_the_multiplier_is_that_of_the_tier_held_before_the_invoice() -> None:
    book = Book(TIERED)
    nets = [("999.99", 999), ("5000", 5000), ("10", 15)]
    for number, (net, points) in enumerate(nets, 1):
        assert book.look_at(an_invoice(number, net, f"2026-01-{number:02}")).points == points
    assert [entry.moved.tier for entry in book.entries if entry.kind.value == "tier"] == ["GOLD"]


def test_a_tier_is_lost_when_the_spend_behind_it_is_taken_back() -> None:
    book = Book(TIERED)
    sale = an_invoice(1, 1000)
    assert book.look_at(sale).message == "Invoice INV-1: 1000 points earned. The tier is now Silver."
    gone = book.look_at(replace(sale, status=Status.CANCELLED))
    assert gone.message == "Invoice INV-1: 1000 points taken back. The tier is now Basic."


# --- grace and soft landings ---


def by_month(program: Program, state: State, first: date, months: int) -> str:
    """The tier in the middle of each month, initials only."""
    days = (add_months(first, n) for n in range(months))
    return "".join(held_by(program, state, day).code[0] for day in days)


@pytest.mark.parametrize(
    ("gold", "silver", "held"),
    [
        ({}, {}, "GBBBBBBB"),
        ({"grace_months": 2}, {}, "GGGBBBBB"),
        ({"soft_landing": True}, {}, "GSBBBBBB"),
        ({"grace_months": 2, "soft_landing": True}, {"grace_months": 1}, "GGGSSBBB"),
        ({"grace_months": 1, "soft_landing": True}, {"grace_months": 9}, "GGSSSSSS"),
        ({"soft_landing": True}, {"soft_landing": True}, "GSBBBBBB"),
        ({}, {"grace_months": 3}, "GSSSBBBB"),
    ],
)
def test_a_tier_is_kept_for_its_grace_and_then_left_step_by_step(
    gold: dict[str, Any], silver: dict[str, Any], held: str
) -> None:
    window: dict[str, Any] = {"window": Window.ROLLING_MONTHS, "window_months": 1}
    tiers = (BASIC, replace(SILVER, **window, **silver), replace(GOLD, **window, **gold))
    state = a_state({"2026-01": 3000})
    assert by_month(replace(TIERED, tiers=tiers), state, date(2026, 1, 15), 8) == held


def test_no_grace_is_given_for_spend_that_was_taken_back() -> None:
    gold = replace(GOLD, window=Window.CALENDAR_YEAR, grace_months=6)
    program = replace(TIERED, tiers=(BASIC, gold))
    assert held_by(program, a_state({"2026-01": 3000}), date(2027, 6, 30)).code == "GOLD"
    assert held_by(program, a_state({"2026-01": 3000}), date(2027, 7, 1)).code == "BASIC"
    assert held_by(program, a_state({"2026-01": 2999}), date(2026, 6, 1)).code == "BASIC"


# --- what time alone changes ---


@st.composite
def waiting_states(draw: st.DrawFn) -> tuple[Program, State, date]:
    today = draw(st.dates(date(2026, 1, 1), date(2026, 12, 31)))
    near = st.integers(0, 100).map(lambda days: today + timedelta(days=days))
    gold = replace(
        GOLD,
        window=draw(st.sampled_from(Window)),
        window_months=draw(st.integers(1, 4)),
        grace_months=draw(st.integers(0, 2)),
        soft_landing=draw(st.booleans()),
    )
    silver = replace(SILVER, minimum_tenure_months=draw(st.integers(0, 14)), grace_months=draw(st.integers(0, 1)))
    program = replace(TIERED, tiers=(BASIC, silver, gold))
    months = st.integers(-5, 2).map(lambda months: month_of(add_months(today.replace(day=1), months)))
    state = State(
        sequence=5,
        lots=draw(st.dictionaries(near | st.just(date.max), st.integers(1, 9), max_size=2)),
        pending=draw(
            st.dictionaries(st.sampled_from("ab"), st.builds(Pending, st.just(5), st.none() | near), max_size=2)
        ),
        spend=draw(st.dictionaries(months, st.sampled_from([Decimal(1000), Decimal(3000)]), max_size=3)),
        since=today - timedelta(days=draw(st.integers(0, 400))),
    )
    return program, replace(state, tier=held_by(program, state, today).code), today


@given(waiting_states())
def test_the_next_review_comes_no_later_than_the_first_change(case: tuple[Program, State, date]) -> None:
    program, state, today = case
    due = next_review(program, state, today)
    for day in (today + timedelta(days=n) for n in range(120)):
        if decide_review(program, CUSTOMER, state, datetime.combine(day, time(), UTC), Expiry(day)).entries:
            assert due is not None
            assert due <= day
            break


def test_a_review_that_is_overdue_is_not_put_off_by_another_change() -> None:
    """The tenure is reached today; a redemption earlier than the review of the day must leave it due."""
    program = replace(PROGRAM, tiers=(BASIC, Tier("LOYAL", "Loyal", 1, minimum_tenure_months=12)))
    book = Book(program, since=date(2025, 6, 15))
    book.look_at(an_invoice(1, 500, "2026-01-10"), at("2026-01-10"))
    assert next_review(program, book.state, date(2026, 6, 14)) == date(2026, 6, 15)
    book.redeem("r", 100, NOW)
    assert next_review(program, book.state, NOW.date()) == NOW.date()
    book.review(NOW)
    assert book.state.tier == "LOYAL"
    assert next_review(program, book.state, NOW.date()) == date(2028, 2, 1)


def test_nobody_is_reviewed_for_nothing() -> None:
    assert next_review(PROGRAM, State(), NOW.date()) is None
    never = replace(PROGRAM, lifetime_months=0, spendable_on=SpendableOn.ISSUE)
    book = Book(never)
    book.look_at(an_invoice())
    assert next_review(never, book.state, NOW.date()) is None


# --- the last day of points ---


@pytest.mark.parametrize(
    ("rounding", "last"),
    [
        (Rounding.DAY, "2026-08-28"),
        (Rounding.MONTH, "2026-08-31"),
        (Rounding.QUARTER, "2026-09-30"),
        (Rounding.YEAR, "2026-12-31"),
    ],
)
def test_points_expire_at_the_end_of_the_period(rounding: Rounding, last: str) -> None:
    program = replace(PROGRAM, rounding=rounding, lifetime_months=6)
    assert program.expiry(date(2026, 2, 28)) == date.fromisoformat(last)


@given(DATES, st.integers(1, 60), st.sampled_from(Rounding))
def test_the_last_day_agrees_with_walking_there(day: date, months: int, rounding: Rounding) -> None:
    program = replace(PROGRAM, rounding=rounding, lifetime_months=months)
    assert program.expiry(day) == last_day(program, day)
    assert end_of_period(program.expiry(day), rounding) == program.expiry(day)


def test_no_lifetime_means_for_ever() -> None:
    assert replace(PROGRAM, lifetime_months=0).expiry(date(2026, 1, 1)) == date.max
    assert PROGRAM.expiry(date(2026, 1, 1), 0) == date.max
    assert PROGRAM.expiry(date(2026, 1, 1), 1) == date(2026, 2, 28)
