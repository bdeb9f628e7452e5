"""Reviews: what time alone brings, once."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from connector.loyalty import reviews
from connector.loyalty.decisions import Outcome
from connector.loyalty.earning import Status
from connector.loyalty.program import SpendableOn, Tier, Window
from tests.unit.loyalty_book import BASIC, NOW, PROGRAM, SILVER, TIERED, Book, an_invoice, at

DELAYED = replace(PROGRAM, spendable_on=SpendableOn.DAYS_AFTER_PAYMENT, spendable_days=30, lifetime_months=2)


def test_points_become_spendable_and_expire_on_their_days() -> None:
    book = Book(DELAYED)
    for number in (1, 2):
        book.look_at(an_invoice(number, 100, "2026-01-10"), at("2026-01-10"))
    assert book.review(at("2026-02-08")).message == "Review: nothing was due."
    assert book.review(at("2026-02-09")).message == "Review: 2 invoices' points became spendable."
    assert book.state.lots == {date(2026, 4, 30): 200}
    assert book.review(at("2026-04-30")).outcome is Outcome.NOTHING
    gone = book.review(at("2026-05-01"))
    assert (gone.message, gone.points, book.state.lots) == ("Review: 200 points expired.", -200, {})
    assert gone.entries[0].explained == {"expired": {"2026-04-30": 200}}
    book.check_history()


def test_a_late_review_finds_points_that_matured_and_expired_meanwhile() -> None:
    book = Book(DELAYED)
    book.look_at(an_invoice(1, 100, "2026-01-10"), at("2026-01-10"))
    late = book.review(NOW)
    assert late.message == "Review: 1 invoices' points became spendable, 100 points expired."
    assert [entry.points for entry in late.entries] == [0, -100]
    assert book.review(NOW).outcome is Outcome.NOTHING


def test_matured_points_repay_a_debt_first() -> None:
    book = Book(DELAYED)
    book.adjust("a", 50, at("2026-01-10"))
    book.look_at(an_invoice(1, 40, "2025-11-01"), at("2026-01-10"))
    book.redeem("r", 90, at("2026-01-10"))
    book.look_at(an_invoice(2, 100, "2026-01-10"), at("2026-01-10"))
    book.look_at(an_invoice(1, 40, "2025-11-01", Status.CANCELLED), at("2026-01-11"))
    assert (book.state.owed, book.state.pending_points) == (40, 100)
    book.review(at("2026-02-09"))
    assert (book.state.owed, book.state.lots, book.state.pending) == (0, {date(2026, 4, 30): 60}, {})


def test_a_tier_is_lost_when_its_window_moves_on() -> None:
    book = Book(replace(TIERED, tiers=(BASIC, replace(SILVER, window=Window.CALENDAR_YEAR))))
    book.look_at(an_invoice(1, 1000, "2025-12-31"), at("2025-12-31"))
    assert book.state.tier == "SILVER"
    lost = book.review(at("2026-01-01"))
    assert lost.message == "Review: tier looked at. The tier is now Basic."
    assert lost.entries[0].explained == {"from": "SILVER", "to": "BASIC", "spend": "1000.0000", "on": "2026-01-01"}


def test_a_tier_is_reached_by_tenure_alone() -> None:
    book = Book(
        replace(PROGRAM, tiers=(BASIC, Tier("LOYAL", "Loyal", 1, minimum_tenure_months=12))), since=date(2024, 2, 29)
    )
    book.adjust("a", 1, at("2025-02-27"))
    assert book.review(at("2025-02-27")).outcome is Outcome.NOTHING
    assert book.review(at("2025-02-28")).message == "Review: tier looked at. The tier is now Loyal."


def test_a_customer_without_a_ledger_is_left_alone() -> None:
    assert Book(PROGRAM).review().message == "Review: the customer has no ledger yet."


def test_more_documents_than_one_transaction_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "MATURING", 3)
    book = Book(DELAYED)
    for number in range(7):
        book.look_at(an_invoice(number, 10, "2026-01-10"), at("2026-01-10"))
    day = at("2026-02-09")
    assert [(len(d.entries), d.unfinished) for d in (book.review(day) for _ in range(3))] == [
        (3, True),
        (3, True),
        (1, False),
    ]
    assert book.review(day + timedelta(hours=1)).outcome is Outcome.NOTHING
    assert (book.state.balance, book.state.pending) == (70, {})
