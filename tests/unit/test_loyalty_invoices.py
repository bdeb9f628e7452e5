"""Invoices that change: what is posted, where points come from and go to, and what the log is told."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.loyalty.decisions import Outcome
from connector.loyalty.earning import Status
from connector.loyalty.invoices import NeedLater, decide_invoice
from connector.loyalty.ledger import Kind, Pending
from connector.loyalty.program import Program, SpendableOn
from tests.unit.loyalty_book import CUSTOMER, NOW, OTHER, PROGRAM, TIERED, Book, an_invoice, at

JAN, FEB = date(2028, 1, 31), date(2028, 2, 29)
DELAYED = replace(PROGRAM, spendable_on=SpendableOn.DAYS_AFTER_PAYMENT, spendable_days=30)


def kinds(book: Book) -> list[str]:
    return [entry.kind.value for entry in book.entries]


def test_points_wait_for_the_payment_and_live_from_it() -> None:
    book = Book(PROGRAM)
    issued = an_invoice(1, 100, "2026-01-10", Status.ISSUED)
    assert book.look_at(issued, at("2026-01-10")).message == "Invoice INV-1: 100 points earned."
    assert (book.state.balance, book.state.pending) == (0, {"invoice:1": Pending(100)})
    paid = replace(issued, status=Status.PAID, paid_on=date(2026, 2, 20))
    decision = book.look_at(paid, at("2026-02-21"))
    assert decision.message == "Invoice INV-1: pending points became spendable."
    assert (decision.points, book.state.lots, book.state.pending) == (0, {FEB: 100}, {})
    again = book.look_at(paid, at("2026-03-01"))
    assert (again.outcome, again.entries) == (Outcome.NOTHING, ())
    assert again.message == "Invoice INV-1: nothing to do, its 100 points are in the ledger already."


@pytest.mark.parametrize(
    ("spendable_on", "day"),
    [
        (SpendableOn.ISSUE, "2026-01-10"),
        (SpendableOn.PAYMENT, "2026-01-20"),
        (SpendableOn.DAYS_AFTER_PAYMENT, "2026-02-19"),
    ],
)
def test_points_become_spendable_on_the_day_of_the_setting(spendable_on: SpendableOn, day: str) -> None:
    program = replace(DELAYED, spendable_on=spendable_on)
    paid = an_invoice(1, 100, "2026-01-10", paid_on=date(2026, 1, 20))
    eve = Book(program)
    eve.look_at(paid, at(day) - timedelta(days=1))
    assert (eve.state.balance, eve.state.pending) == (0, {"invoice:1": Pending(100, date.fromisoformat(day))})
    eve.review(at(day))
    direct = Book(program)
    direct.look_at(paid, at(day))
    assert eve.state.lots == direct.state.lots == {program.expiry(date.fromisoformat(day)): 100}


def test_a_payment_undone_before_its_points_were_spendable_takes_their_day_away() -> None:
    book = Book(DELAYED)
    paid = an_invoice(1, 100, "2026-01-10")
    book.look_at(paid, at("2026-01-10"))
    assert book.state.pending == {"invoice:1": Pending(100, date(2026, 2, 9))}
    book.look_at(replace(paid, status=Status.ISSUED, paid_on=None), at("2026-01-20"))
    assert book.state.pending == {"invoice:1": Pending(100)}
    book.review(at("2026-03-01"))
    assert (book.state.balance, book.state.pending_points) == (0, 100)
    book.look_at(replace(paid, paid_on=date(2026, 3, 1)), at("2026-03-02"))
    assert book.state.pending == {"invoice:1": Pending(100, date(2026, 3, 31))}
    book.check_history()


def test_an_invoice_paid_and_made_smaller_at_once_gives_its_own_points_back() -> None:
    """The points that go are those that were pending, not another invoice's lot."""
    book = Book(PROGRAM)
    issued = an_invoice(1, 100, "2026-01-10", Status.ISSUED)
    book.look_at(issued)
    book.look_at(an_invoice(2, 70, "2026-02-10"))
    book.look_at(replace(issued, net=Decimal(40), status=Status.PAID, paid_on=date(2026, 1, 12)))
    assert book.state.lots == {JAN: 40, FEB: 70}


def test_a_full_refund_leaves_no_residue() -> None:
    book = Book(TIERED)
    sale = an_invoice(1, "1234.56", lines=[("", "1000.55"), ("shoes", "234.01")])
    book.look_at(sale)
    cancelled = book.look_at(replace(sale, status=Status.CANCELLED))
    assert (book.points_of("invoice:1"), book.state.total, book.state.lots) == (0, 0, {})
    assert (book.state.spend, book.state.earned, book.state.tier) == ({}, {}, "BASIC")
    assert cancelled.message == "Invoice INV-1: 1234 points taken back. The tier is now Basic."
    assert book.look_at(replace(sale, status=Status.CANCELLED)).outcome is Outcome.NOTHING
    assert book.look_at(None, document="invoice:1").outcome is Outcome.NOTHING
    book.look_at(sale)
    assert (book.state.balance, book.state.total_spend, book.state.tier) == (1234, Decimal("1234.56"), "SILVER")


@given(st.lists(st.decimals(0, 2000, places=4), max_size=5), st.sampled_from([PROGRAM, TIERED, DELAYED]))
def test_after_any_amendments_a_cancellation_leaves_nothing(nets: list[Decimal], program: Program) -> None:
    book = Book(program)
    sale = an_invoice(1, 1500)
    for net in [sale.net, *nets]:
        book.look_at(replace(sale, net=net))
    book.look_at(None, document="invoice:1")
    assert (book.points_of("invoice:1"), book.state.total, book.state.owed) == (0, 0, 0)
    assert (book.state.spend, book.state.earned, book.state.lots, book.state.pending) == ({}, {}, {}, {})
    book.check_history()


def test_taken_back_points_come_from_own_lots_then_others_latest_first_then_debt() -> None:
    book = Book(PROGRAM)
    book.look_at(an_invoice(1, 100, "2026-01-10"))
    book.look_at(an_invoice(2, 100, "2026-02-10"))
    book.look_at(an_invoice(3, 100, "2026-03-10"))
    book.redeem("r", 130)
    assert book.state.lots == {FEB: 70, date(2028, 3, 31): 100}
    book.look_at(None, document="invoice:2")
    assert book.state.lots == {date(2028, 3, 31): 70}
    book.look_at(None, document="invoice:1")
    decision = book.decide(None, "invoice:3", NOW)
    assert decision.message == "Deleted or moved invoice:3: 100 points taken back, 100 of them owed by the customer."
    book.commit(decision)
    assert (book.state.lots, book.state.owed, book.state.balance, book.state.available(NOW.date())) == (
        {},
        130,
        -130,
        0,
    )


def test_later_earnings_repay_a_debt_first() -> None:
    book = Book(PROGRAM)
    sale = an_invoice(1, 100)
    book.look_at(sale)
    book.redeem("r", 80)
    book.look_at(replace(sale, status=Status.CANCELLED))
    assert (book.state.owed, book.state.balance) == (80, -80)
    book.look_at(an_invoice(2, 50, status=Status.ISSUED))
    assert (book.state.owed, book.state.pending_points) == (80, 50)
    book.look_at(an_invoice(2, 50))
    assert (book.state.owed, book.state.lots, book.state.pending) == (30, {}, {})
    book.look_at(an_invoice(3, 100))
    assert (book.state.owed, book.state.lots) == (0, {JAN: 70})
    book.look_at(an_invoice(3, 100, status=Status.CANCELLED))
    assert (book.state.owed, book.state.total) == (30, -30)
    book.check_history()


def test_an_invoice_moved_to_another_customer_takes_its_points_with_it_and_back() -> None:
    sale = an_invoice(1, 100)
    one, two = Book(PROGRAM, CUSTOMER), Book(PROGRAM, OTHER)
    for _ in range(3):
        one.look_at(sale)
        two.look_at(None, document="invoice:1")
        assert (one.state.balance, two.state.balance) == (100, 0)
        one.look_at(None, document="invoice:1")
        two.look_at(replace(sale, customer=OTHER))
        assert (one.state.balance, two.state.balance) == (0, 100)
    keys = [entry.key for book in (one, two) for entry in book.entries]
    assert len(set(keys)) == len(keys)


def test_customers_with_alike_ids_never_share_a_key() -> None:
    """Ids of imported customers may differ in their last digits only."""
    delayed = an_invoice(1, 100, "2026-01-10")
    books = [Book(DELAYED, f"account:00000000-0000-0000-0000-00000000000{n}") for n in (1, 2)]
    for book in books:
        book.look_at(delayed, at("2026-01-10"))
        book.review(NOW)
        book.look_at(None, document="invoice:1")
    assert not {entry.key for entry in books[0].entries} & {entry.key for entry in books[1].entries}


def test_a_negative_total_is_parked_until_it_is_cancelled() -> None:
    book = Book(PROGRAM)
    negative = an_invoice(1, "-0.01")
    parked = book.look_at(negative)
    assert (parked.outcome, parked.reason, parked.field, parked.entries) == (
        Outcome.PARKED,
        "negative_total",
        "totalamount",
        (),
    )
    assert parked.message == "Invoice INV-1: totalamount without tax and freight is -0.01, below zero."
    assert book.look_at(replace(negative, status=Status.CANCELLED)).outcome is Outcome.NOTHING


def test_a_posted_invoice_cancelled_with_a_negative_total_is_taken_back() -> None:
    book = Book(PROGRAM)
    book.look_at(an_invoice(1, 100))
    book.look_at(an_invoice(1, "-100", status=Status.CANCELLED))
    assert (book.points_of("invoice:1"), book.state.spend) == (0, {})


@pytest.mark.parametrize("net", ["0", "0.00"])
def test_an_invoice_of_nothing_leaves_no_entry(net: str) -> None:
    decision = Book(PROGRAM).look_at(an_invoice(1, net))
    assert (decision.outcome, decision.entries) == (Outcome.NOTHING, ())
    assert decision.message == "Invoice INV-1: nothing to do, its totalamount is zero."


def test_what_was_never_here_and_is_gone_is_nothing() -> None:
    book = Book(PROGRAM)
    gone = book.look_at(None, document="invoice:9")
    assert gone.message == "Nothing to do: invoice:9 is gone and never earned points."
    early = replace(PROGRAM, rules=(replace(PROGRAM.rules[0], valid_from=date(2026, 5, 1)),))
    assert Book(early).look_at(an_invoice(1, status=Status.CANCELLED)).outcome is Outcome.NOTHING


def test_an_invoice_too_small_for_points_counts_and_is_taken_off_again() -> None:
    book = Book(PROGRAM)
    small = an_invoice(1, "0.99")
    assert book.look_at(small).message == "Invoice INV-1: spend counted, no points earned."
    gone = book.look_at(replace(small, status=Status.CANCELLED))
    assert gone.message == "Invoice INV-1: spend taken off, it had no points."
    assert (kinds(book), book.state.spend) == (["earn", "takeback"], {})


def test_an_invoice_keeps_the_date_it_was_posted_with() -> None:
    book = Book(TIERED)
    book.look_at(an_invoice(1, 1000, "2026-01-01"))
    book.look_at(an_invoice(2, 100, "2026-02-01"))
    redated = an_invoice(1, 1200, "2026-03-01")
    book.look_at(redated)
    assert [book.points_of("invoice:1"), book.points_of("invoice:2")] == [1200, 125]
    assert (book.state.spend, book.state.latest) == (
        {"2026-01": 1200, "2026-02": 100},
        (at("2026-02-01"), "invoice:2"),
    )


def test_entries_of_later_invoices_are_asked_for_only_when_they_can_matter() -> None:
    book = Book(TIERED)
    book.look_at(an_invoice(2, 100, "2026-02-01"))

    def answer(net: int) -> object:
        late = an_invoice(1, net, "2026-01-01")
        return decide_invoice(TIERED, CUSTOMER, book.state, late, late.document, [], NOW, since=book.since)

    assert not isinstance(answer(899), NeedLater)
    assert answer(900) == NeedLater(at("2026-01-01"))
    assert not isinstance(
        decide_invoice(PROGRAM, CUSTOMER, book.state, an_invoice(1, 900, "2026-01-01"), "invoice:1", [], NOW), NeedLater
    )


def test_corrections_say_what_they_are_and_why() -> None:
    book = Book(TIERED)
    book.look_at(an_invoice(2, 100, "2026-02-01"))
    decision = book.look_at(an_invoice(1, 1000, "2026-01-01"))
    assert decision.message == "Invoice INV-1: 1000 points earned, 1 later invoices corrected. The tier is now Silver."
    correction = decision.entries[1]
    assert (correction.cause, correction.kind, correction.points) == ("invoice:2", Kind.EARN, 25)
    assert correction.explained == {
        "base": "100",
        "because": "invoice:1",
        "multiplier": "1.25",
        "spendable_on": "2026-02-01",
    }
    book.look_at(an_invoice(1, 1000, "2026-01-01", Status.CANCELLED))
    assert [book.points_of("invoice:1"), book.points_of("invoice:2")] == [0, 100]


def test_the_start_of_tenure_and_the_first_tier_come_with_the_first_entry() -> None:
    book = Book(TIERED, since=date(2019, 5, 5))
    first = book.look_at(an_invoice()).entries[0]
    assert (first.sequence, first.moved.tier, first.moved.since) == (1, "BASIC", date(2019, 5, 5))
    assert (book.state.tier, book.state.since) == ("BASIC", date(2019, 5, 5))
