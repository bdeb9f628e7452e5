"""What a customer has depends on the invoices alone: not on the order, the number or the history of what we heard of them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.loyalty import invoices as invoices_module
from connector.loyalty.earning import Invoice, Line, Status
from connector.loyalty.program import EarnRule, Program, Rounding, SpendableOn, Tier, Window
from tests.unit.loyalty_book import BASIC, NOW, SINCE, TIERED, Book, an_invoice
from tests.unit.loyalty_model import Worth, worth

LINE_AMOUNTS = ("0.01", "0.99", "1.37", "33.33", "100", "333.3333", "999.99", "1000", "2000", "2500.50")


@st.composite
def programs(draw: st.DrawFn) -> Program:
    windows = st.sampled_from(Window)

    def tier(code: str, rank: int, multiplier: str) -> Tier:
        return Tier(
            code,
            code.title(),
            rank,
            Decimal(multiplier),
            minimum_tenure_months=draw(st.sampled_from([0, 0, 66, 72])),
            minimum_spend=Decimal(draw(st.sampled_from([0, 1000, 3000])) if rank == 1 else 3000),
            minimum_points=draw(st.sampled_from([0, 0, 1500])),
            window=draw(windows),
            window_months=draw(st.sampled_from([1, 3, 12])),
            grace_months=draw(st.sampled_from([0, 0, 2])),
            soft_landing=draw(st.booleans()),
        )

    first = replace(BASIC, multiplier=Decimal(draw(st.sampled_from(["1", "1", "0", "0.5"]))))
    return Program(
        "MAIN",
        rules=(
            EarnRule(1, date(2000, 1, 1), Decimal(1), frozenset({"gift card"})),
            EarnRule(2, date(2025, 12, 1), Decimal(draw(st.sampled_from(["2", "0.333333"]))), frozenset({"gift card"})),
        ),
        tiers=(first, tier("SILVER", 1, "1.25"), tier("GOLD", 2, "1.5")),
        spendable_on=draw(st.sampled_from(SpendableOn)),
        spendable_days=draw(st.sampled_from([0, 30])),
        rounding=draw(st.sampled_from(Rounding)),
    )


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    amounts = draw(st.lists(st.sampled_from(LINE_AMOUNTS), max_size=3))
    categories = st.sampled_from(["", "shoes", "Gift Card"])
    lines = tuple(Line(str(n), draw(categories), Decimal(amount)) for n, amount in enumerate(amounts, 1))
    total = sum((line.net for line in lines), Decimal(0)) or Decimal(draw(st.sampled_from(LINE_AMOUNTS)))
    discount = draw(st.sampled_from(["0", "0", "0.1", "0.3333", "1"]))
    return {"lines": lines, "net": (total * (1 - Decimal(discount))).quantize(Decimal("0.0001"))}


@st.composite
def sightings(draw: st.DrawFn) -> tuple[list[Invoice], list[Invoice]]:
    """Invoices as they are in the end, and what we saw of them, in the order we saw it; each one's last sight is true."""
    final: list[Invoice] = []
    seen: list[list[Invoice]] = []
    for number in range(draw(st.integers(2, 6))):
        months = draw(st.integers(0, 16))
        on = datetime(2025 + months // 12, months % 12 + 1, draw(st.sampled_from([1, 15, 28])), 9, tzinfo=UTC)
        paid_on = on.date() + timedelta(days=draw(st.sampled_from([0, 10, 500, 700])))
        status = draw(st.sampled_from([Status.PAID, Status.PAID, Status.ISSUED, Status.CANCELLED]))
        # Points that became spendable stay spendable when a payment is undone, so an unpaid one never was paid.
        earlier = [Status.ISSUED, Status.CANCELLED] + [Status.PAID] * (status is not Status.ISSUED)
        sights = [
            Invoice(
                id=f"{number}",
                number=f"INV-{number}",
                customer="",
                status=step,
                invoiced_on=on,
                paid_on=paid_on if step is Status.PAID else None,
                **draw(contents()),
            )
            for step in [*draw(st.lists(st.sampled_from(earlier), max_size=2)), status]
        ]
        final.append(sights[-1])
        seen.append(sights)
    turns = draw(st.permutations([number for number, sights in enumerate(seen) for _ in sights]))
    left = [iter(sights) for sights in seen]
    order = [next(left[number]) for number in turns]
    return final, order + draw(st.lists(st.sampled_from(final), max_size=4))


def same(book: Book, expected: Worth) -> None:
    assert {d: book.points_of(d) for d in expected.points} == expected.points
    assert Fraction(book.state.total_spend) == expected.spend
    assert {d: p.points for d, p in book.state.pending.items()} == expected.pending
    assert dict(book.state.lots) == expected.lots
    assert book.state.owed == 0
    assert book.state.tier in ("", expected.tier)


def has(book: Book) -> dict[str, Any]:
    state = book.state
    return {
        "lots": state.lots,
        "pending": state.pending,
        "spend": state.spend,
        "earned": state.earned,
        "tier": state.tier,
    }


@given(programs(), sightings(), st.sampled_from([None, SINCE, date(2019, 10, 31)]))
def test_any_order_and_any_past_give_what_the_invoices_are_worth(
    program: Program, facts: tuple[list[Invoice], list[Invoice]], since: date | None
) -> None:
    final, order = facts
    in_order, as_heard = Book(program, since=since), Book(program, since=since)
    for invoice in sorted(final, key=lambda i: (i.invoiced_on, i.document)):
        in_order.look_at(invoice)
    for invoice in order:
        as_heard.look_at(invoice)
    expected = worth(program, final, since, NOW)
    same(in_order, expected)
    same(as_heard, expected)
    as_heard.check_history()
    if in_order.entries and as_heard.entries:
        assert has(in_order) | {"pending": None} == has(as_heard) | {"pending": None}
    before = len(as_heard.entries)
    for invoice in final:
        as_heard.look_at(invoice)
    assert len(as_heard.entries) == before, "a settled history was touched again"


def test_every_order_of_invoices_around_the_thresholds() -> None:
    facts = [
        an_invoice(1, "999.99", "2025-03-01"),
        an_invoice(2, "0.01", "2025-03-01"),
        an_invoice(3, 2000, "2025-04-01"),
        an_invoice(4, 100, "2025-04-02"),
        an_invoice(5, 100, "2025-04-03", Status.ISSUED),
    ]
    for order in permutations(facts):
        book = Book(TIERED)
        for invoice in order:
            book.look_at(invoice)
        points = [book.points_of(invoice.document) for invoice in facts]
        assert points == [999, 0, 2500, 150, 150]
        assert (book.state.pending_points, book.state.tier) == (150, "GOLD")


def test_points_corrected_upwards_wait_for_payment_and_live_as_long_as_the_rest() -> None:
    """A small invoice has no points until an older one lifts the tier before it; they are not spendable before it is paid."""
    small = an_invoice(2, "0.9", "2026-02-01", Status.ISSUED)
    book = Book(TIERED)
    book.look_at(small)
    book.look_at(an_invoice(1, 1000, "2026-01-01"))
    assert (book.points_of("invoice:2"), book.state.pending_points) == (1, 1)

    paid = replace(small, status=Status.PAID, paid_on=date(2026, 3, 1))
    late = Book(TIERED)
    late.look_at(small)
    late.look_at(paid)
    late.look_at(an_invoice(1, 1000, "2026-01-01"))
    book.look_at(paid)
    assert late.state.lots == book.state.lots == {date(2028, 1, 31): 1000, date(2028, 3, 31): 1}


def test_more_corrections_than_one_transaction_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-way, the old invoice is not settled yet: another look at it, by whomever, does the rest."""
    monkeypatch.setattr(invoices_module, "CORRECTIONS", 3)
    book = Book(TIERED)
    facts = [an_invoice(n, 100, f"2026-02-{n:02}") for n in range(2, 11)]
    for invoice in facts:
        book.look_at(invoice)
    old = an_invoice(1, 1000, "2026-01-01")
    steps = []
    while True:
        decision = book.commit(book.decide(old, old.document, NOW))
        steps.append(
            (len({entry.cause for entry in decision.entries if entry.cause.startswith("inv")}), decision.unfinished)
        )
        if not decision.unfinished:
            break
    assert steps == [(3, True), (3, True), (4, False)]
    assert [book.points_of(invoice.document) for invoice in [old, *facts]] == [1000] + [125] * 9
    assert book.decide(old, old.document, NOW).message.endswith("1000 points are in the ledger already.")
    book.check_history()
