"""Redemptions, voids and adjustments: decided against the balance as it is, answered in a sentence."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.loyalty.codes import parse_code
from connector.loyalty.decisions import Decision, Outcome
from connector.loyalty.earning import Status
from connector.loyalty.ledger import State
from connector.loyalty.redemptions import Redemption, Void, decide_redemption, decide_void
from tests.unit.loyalty_book import CUSTOMER, NOW, OTHER, PROGRAM, TIERED, Book, DuplicateKey, an_invoice, at

TODAY = NOW.date()


def a_book(**lots: int) -> Book:
    """Points by year of expiry, for example `y2027=100`: usable until the last day of that year."""
    book = Book(PROGRAM)
    book.adjust("opening", sum(lots.values()), at("2026-01-01"))
    days = {date(int(year[1:]), 12, 31): points for year, points in lots.items()}
    book.state = replace(book.state, lots=days)
    return book


def code_of(decision: Decision) -> str:
    assert decision.result
    return decision.result.code


def refusal(decision: Decision) -> tuple[str, str, str]:
    assert (decision.outcome, decision.entries) == (Outcome.REJECTED, ())
    assert decision.result
    assert not decision.result.completed
    assert (decision.result.points, decision.result.code, decision.result.reason) == (0, "", decision.message)
    assert decision.result.reason_code == decision.reason
    return decision.reason, decision.field, decision.message


def test_points_are_spent_earliest_expiry_first() -> None:
    book = a_book(y2028=50, y2026=30, y2027=40)
    decision = book.redeem("r1", 75)
    assert book.state.lots == {date(2028, 12, 31): 45}
    assert decision.entries[0].moved.lots == {date(2026, 12, 31): -30, date(2027, 12, 31): -40, date(2028, 12, 31): -5}
    code = code_of(decision)
    assert parse_code(code) == code
    assert decision.message == f"Redeemed 75 points with code {code}; 45 are left."
    assert decision.result
    assert (decision.result.completed, decision.result.points, decision.result.balance) == (True, 75, 45)
    assert decision.result.value == Decimal("0.75")
    assert decision.entries[0].explained == {"code": code, "value": "0.75"}


def test_the_whole_balance_can_be_spent_and_not_a_point_more() -> None:
    assert a_book(y2027=100).redeem("r", 100).outcome is Outcome.APPLIED
    assert a_book(y2027=100).redeem("r", 101).outcome is Outcome.REJECTED


@pytest.mark.parametrize("points", [None, 0, -1])
def test_no_points_are_no_redemption(points: int | None) -> None:
    refused = refusal(a_book(y2027=100).redeem("r", points))
    assert refused == ("invalid_points", "loy_points", "Points must be a whole number above zero.")


def test_below_the_minimum() -> None:
    book = a_book(y2027=100)
    book.program = replace(PROGRAM, minimum_redemption=50)
    refused = refusal(book.redeem("r1", 49))
    assert refused == ("below_minimum", "loy_points", "At least 50 points must be redeemed; 49 were asked for.")
    assert book.redeem("r2", 50).outcome is Outcome.APPLIED


def test_insufficient_points() -> None:
    sentence = "Only 100 points are available; 101 were asked for."
    assert refusal(a_book(y2027=100).redeem("r", 101)) == ("insufficient_points", "loy_points", sentence)


def test_insufficient_points_of_somebody_who_owes() -> None:
    book = Book(PROGRAM)
    book.look_at(an_invoice(1, 100))
    book.redeem("r1", 60)
    book.look_at(an_invoice(1, 100, status=Status.CANCELLED))
    sentence = "Only 0 points are available; 1 were asked for. 60 points are owed."
    assert refusal(book.redeem("r2", 1)) == ("insufficient_points", "loy_points", sentence)


def test_a_customer_without_a_ledger_has_nothing_to_spend() -> None:
    refused = refusal(Book(PROGRAM).redeem("r", 1))
    assert refused[2] == "Only 0 points are available; 1 were asked for."


def test_pending_points_cannot_be_spent() -> None:
    book = Book(PROGRAM)
    book.look_at(an_invoice(1, 100, status=Status.ISSUED))
    assert refusal(book.redeem("r", 1))[0] == "insufficient_points"


@pytest.mark.parametrize(("now", "available"), [("2026-12-31T23:59:59", 130), ("2027-01-01", 100)])
def test_lots_past_their_day_cannot_be_spent_even_before_they_are_expired(now: str, available: int) -> None:
    book = a_book(y2026=30, y2027=100)
    assert book.state.balance == 130
    assert book.state.available(at(now).date()) == available
    assert refusal(book.redeem("r1", available + 1, at(now)))[2].startswith(f"Only {available} points are available;")
    assert book.redeem("r2", available, at(now)).outcome is Outcome.APPLIED
    assert book.state.lots == ({} if available == 130 else {date(2026, 12, 31): 30})


# --- the same wish decided twice ---


def test_two_deciders_of_one_redemption_write_the_same_entry() -> None:
    book = a_book(y2027=1000)
    one, two = (decide_redemption(PROGRAM, CUSTOMER, book.state, Redemption("r1", 100), NOW) for _ in range(2))
    assert one == two


def test_a_redemption_decided_again_after_its_commit_meets_its_own_key() -> None:
    book = a_book(y2027=1000)
    code = code_of(book.redeem("r1", 100))
    again = decide_redemption(PROGRAM, CUSTOMER, book.state, Redemption("r1", 100), NOW)
    assert code_of(again) == code
    with pytest.raises(DuplicateKey, match=r"^redemption:r1$"):
        book.redeem("r1", 100)
    with pytest.raises(DuplicateKey):
        book.redeem("r1", 250)
    assert book.state.balance == 900


def test_twenty_wishes_for_the_points_of_one() -> None:
    book = a_book(y2027=100)
    decisions = [book.redeem(f"r{n}", 100) for n in range(20)]
    assert [decision.outcome for decision in decisions].count(Outcome.APPLIED) == 1
    assert {refusal(decision)[0] for decision in decisions[1:]} == {"insufficient_points"}


def test_another_attempt_has_another_code_and_the_same_key() -> None:
    state = a_book(y2027=100).state
    tries = [decide_redemption(PROGRAM, CUSTOMER, state, Redemption("r1", 10, attempt=n), NOW) for n in range(3)]
    assert len({code_of(decision) for decision in tries}) == 3
    assert {decision.entries[0].key for decision in tries} == {"redemption:r1"}


# --- voids ---


def test_a_void_restores_the_lots_it_came_from() -> None:
    book = a_book(y2026=30, y2027=40)
    before = book.state.lots
    code = code_of(book.redeem("r1", 50))
    decision = book.void("v1", code)
    assert book.state.lots == before
    assert decision.message == f"Voided {code}: 50 points given back; 70 are available."
    assert decision.result
    assert (decision.result.points, decision.result.value, decision.result.code) == (50, Decimal("0.50"), code)


@pytest.mark.parametrize(
    ("now", "lots"),
    [
        ("2026-12-31T23:00:00", {date(2026, 12, 31): 30, date(2027, 12, 31): 40}),
        ("2027-01-01", {date(2027, 1, 31): 30, date(2027, 12, 31): 40}),
        ("2028-03-01", {date(2028, 3, 31): 70}),
    ],
)
def test_lots_past_their_day_come_back_for_a_courtesy_period(now: str, lots: dict[date, int]) -> None:
    book = a_book(y2026=30, y2027=40)
    code = code_of(book.redeem("r1", 70))
    book.void("v1", code, at(now))
    assert book.state.lots == lots


def test_a_void_repays_a_debt_first() -> None:
    book = Book(PROGRAM)
    book.look_at(an_invoice(1, 100))
    code = code_of(book.redeem("r1", 60))
    book.look_at(an_invoice(1, 100, status=Status.CANCELLED))
    book.void("v1", code)
    assert (book.state.owed, book.state.lots, book.state.total) == (0, {}, 0)


def test_a_void_is_worth_what_the_redemption_was_worth() -> None:
    book = a_book(y2027=100)
    code = code_of(book.redeem("r1", 50))
    book.program = replace(PROGRAM, point_value=Decimal("0.02"))
    result = book.void("v1", code).result
    assert result
    assert result.value == Decimal("0.50")


def test_a_redemption_is_voided_once() -> None:
    book = a_book(y2027=100)
    code = code_of(book.redeem("r1", 50))
    book.void("v1", code)
    sentence = f"The redemption {code} was voided before."
    assert refusal(book.void("v2", code)) == ("already_voided", "loy_voidscode", sentence)


def test_two_voids_that_do_not_see_each_other_write_the_same_key() -> None:
    book = a_book(y2027=100)
    code = code_of(book.redeem("r1", 50))
    entry = book.entries[-1]
    book.void("v1", code)
    with pytest.raises(DuplicateKey, match=r"^redemption:r1:void$"):
        book.commit(decide_void(PROGRAM, CUSTOMER, book.state, Void("v2", code, "", entry, False), NOW))


def test_only_redemptions_of_the_customer_can_be_voided() -> None:
    book, stranger = a_book(y2027=100), Book(PROGRAM, OTHER)
    code = code_of(book.redeem("r1", 50))
    sentence = f"No redemption of this customer has the transaction code {code}."
    adjustment, redemption = book.entries
    for wish, state, customer in [
        (Void("v", code, "", None, False), book.state, CUSTOMER),
        (Void("v", code, "", adjustment, False), book.state, CUSTOMER),
        (Void("v", code, "", redemption, False), stranger.state, OTHER),
    ]:
        refused = refusal(decide_void(PROGRAM, customer, state, wish, NOW))
        assert refused == ("unknown_code", "loy_voidscode", sentence)


LOTS = st.dictionaries(st.dates(date(2026, 6, 15), date(2029, 1, 1)), st.integers(1, 500), max_size=6)


@given(LOTS, st.integers(1, 2000))
def test_a_void_on_the_same_day_restores_everything_exactly(lots: dict[date, int], points: int) -> None:
    book = Book(PROGRAM, state=State(lots=lots))
    decision = book.redeem("r1", points)
    assert (decision.outcome is Outcome.APPLIED) == (points <= sum(lots.values()))
    if decision.outcome is Outcome.APPLIED:
        drawn = {day: lots[day] - book.state.lots.get(day, 0) for day in lots}
        *emptied, last = sorted(day for day in lots if drawn[day])
        assert all(drawn[day] == lots[day] for day in emptied)
        assert [day for day in lots if day < last] == [day for day in lots if day in emptied]
        book.void("v1", code_of(decision))
    assert book.state.lots == lots


# --- adjustments ---


def test_points_given_live_as_long_as_the_programme_or_the_wish_says() -> None:
    book = Book(PROGRAM)
    book.adjust("a1", 10)
    book.adjust("a2", 20, lifetime_months=1)
    assert book.adjust("a3", 30, lifetime_months=0).message == "Adjusted by +30 points."
    assert book.state.lots == {date(2028, 6, 30): 10, date(2026, 7, 31): 20, date.max: 30}
    assert (book.state.tier, book.state.since, book.state.earned) == ("BASIC", book.since, {})


def test_points_taken_go_earliest_expiry_first() -> None:
    book = a_book(y2026=30, y2027=40)
    decision = book.adjust("a1", -35)
    assert (decision.message, book.state.lots) == ("Adjusted by -35 points.", {date(2027, 12, 31): 35})


@pytest.mark.parametrize(("now", "available"), [("2026-06-15", 70), ("2027-01-01", 40)])
def test_more_cannot_be_taken_than_is_there(now: str, available: int) -> None:
    book = a_book(y2026=30, y2027=40)
    sentence = f"Only {available} points are available; 71 cannot be taken."
    assert refusal(book.adjust("a1", -71, at(now))) == ("insufficient_points", "loy_points", sentence)


def test_an_adjustment_of_nothing_is_refused() -> None:
    assert refusal(Book(PROGRAM).adjust("a1", 0)) == ("invalid_points", "loy_points", "Points must not be zero.")


def test_points_given_repay_a_debt_first() -> None:
    book = Book(PROGRAM)
    book.look_at(an_invoice(1, 100))
    book.redeem("r1", 100)
    book.look_at(an_invoice(1, 100, status=Status.CANCELLED))
    book.adjust("a1", 150)
    assert (book.state.owed, book.state.lots) == (0, {date(2028, 6, 30): 50})


def test_the_same_adjustment_meets_its_own_key() -> None:
    book = Book(PROGRAM)
    book.adjust("a1", 10)
    with pytest.raises(DuplicateKey, match=r"^adjustment:a1$"):
        book.adjust("a1", 10)


def test_points_given_by_hand_make_no_tier() -> None:
    program = replace(
        TIERED, tiers=(TIERED.tiers[0], replace(TIERED.tiers[1], minimum_spend=Decimal(0), minimum_points=5))
    )
    book = Book(program)
    book.adjust("a1", 1000)
    assert book.state.tier == "BASIC"


def test_the_day_counts_in_utc() -> None:
    book = a_book(y2026=30)
    assert book.redeem("r", 30, datetime.fromisoformat("2026-12-31T23:30:00+00:00")).outcome is Outcome.APPLIED
