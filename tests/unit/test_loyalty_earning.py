"""From an invoice to points, exactly."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.loyalty.earning import Invoice, Line, Status, base_points, whole, written
from connector.loyalty.program import EarnRule
from tests.unit.loyalty_book import PROGRAM, RULE, TIERED, Book, an_invoice, at
from tests.unit.loyalty_model import base as model_base

MULTIPLIERS = st.sampled_from([Decimal(m) for m in ("0", "0.5", "1", "1.25", "1.3333", "1.5", "3")])


@st.composite
def invoices(draw: st.DrawFn) -> Invoice:
    nets = draw(st.lists(st.decimals("-50", "5000", places=4), min_size=1, max_size=6))
    categories = st.sampled_from(["", "shoes", "GIFT card"])
    lines = tuple(Line(f"{n}", draw(categories), net) for n, net in enumerate(nets, 1))
    net = draw(st.just(sum(nets)) | st.decimals(0, 20000, places=4))
    return replace(an_invoice(net=max(Decimal(0), net)), lines=lines)


def points_by_line(invoice: Invoice, rule: EarnRule = RULE, multiplier: Decimal = Decimal(1)) -> list[int]:
    return [points for *_, points in base_points(invoice, rule).explain(multiplier)["lines"]]


@given(invoices(), st.decimals("0.000001", "100", places=6), MULTIPLIERS)
def test_lines_add_up_to_the_document_rounded_down(invoice: Invoice, rate: Decimal, multiplier: Decimal) -> None:
    rule = replace(RULE, points_per_unit=rate)
    base = base_points(invoice, rule)
    exact = max(Fraction(0), model_base(replace(PROGRAM, rules=(rule,)), invoice))
    assert base.points == exact
    points = base.times(multiplier)
    assert points == exact * Fraction(multiplier) // 1
    lines = points_by_line(invoice, rule, multiplier)
    assert sum(lines) == (points if lines else 0)
    if not lines:
        assert points == 0


@given(st.lists(st.decimals("0.0001", "5000", places=4), min_size=1, max_size=8), MULTIPLIERS)
def test_each_line_is_rounded_down_and_the_largest_takes_the_rest(nets: list[Decimal], multiplier: Decimal) -> None:
    lines = tuple(Line(f"{n}", "", net) for n, net in enumerate(nets))
    points = points_by_line(replace(an_invoice(net=sum(nets)), lines=lines), RULE, multiplier)
    floors = [int(net * multiplier) for net in nets]
    largest = nets.index(max(nets))
    assert [p for n, p in enumerate(points) if n != largest] == [f for n, f in enumerate(floors) if n != largest]
    assert 0 <= points[largest] - floors[largest] < len(nets)


@given(st.fractions(0, 10**12))
def test_the_base_is_written_exactly(points: Fraction) -> None:
    assert Fraction(written(points)) == points


def test_the_base_is_written_as_people_write_numbers() -> None:
    examples = {"0": 0, "100": 100, "12.5": Fraction(25, 2), "0.0001": Fraction(1, 10**4), "4/3": Fraction(4, 3)}
    assert {written(Fraction(points)) for points in examples.values()} == set(examples)


@pytest.mark.parametrize(
    ("net", "lines", "multiplier", "points"),
    [
        # 2.00 earning and 1.00 excluded, 1.00 off the whole: 4/3 of base, and one and a half times that is 2 exactly.
        ("2", [("", "2"), ("gift card", "1")], "1.5", 2),
        ("1", [("", "1"), ("gift card", "2")], "3", 1),
        # An exact base just below a whole number stays below it.
        ("999999.9999", [("", "1000000")], "1", 999999),
        ("10000000", [("", "2.9999"), ("", "0.00009999"), ("gift card", "9999997.00000001")], "1", 2),
        ("2.999999999999", [], "1", 2),
        # A third three times is the whole of it.
        ("100", [("", "33.3333"), ("", "33.3333"), ("", "33.3334")], "1", 100),
        ("0.1", [("", "0.3"), ("", "0.3"), ("", "0.3")], "10", 1),
        ("922337203685477.5807", [("", "922337203685477.5807")], "1000", 922337203685477580),
    ],
)
def test_nasty_fractions(net: str, lines: list[tuple[str, str]], multiplier: str, points: int) -> None:
    assert base_points(an_invoice(net=net, lines=lines), RULE).times(Decimal(multiplier)) == points
    assert whole(base_points(an_invoice(net=net, lines=lines), RULE).points, Decimal(multiplier)) == points


def test_a_discount_on_the_invoice_falls_on_all_lines_in_proportion() -> None:
    lines = [("", "300"), ("shoes", "100"), ("gift card", "100")]
    assert points_by_line(an_invoice(net=450, lines=lines)) == [270, 90]


def test_excluded_categories_earn_nothing_in_whatever_case_they_are_written() -> None:
    base = base_points(an_invoice(net=60, lines=[("Gift CARD", "10"), ("gift card", "20"), ("gift", "30")]), RULE)
    assert base.points == 30
    assert base.explain(Decimal(1))["excluded"] == [["1", "Gift CARD", "10"], ["2", "gift card", "20"]]


def test_an_invoice_of_excluded_lines_alone_counts_as_spend_and_earns_nothing() -> None:
    book = Book(TIERED)
    decision = book.look_at(an_invoice(net=1500, lines=[("gift card", "1500")]))
    assert (decision.points, book.state.total_spend, book.state.tier) == (0, 1500, "SILVER")
    assert decision.message == "Invoice INV-1: spend counted, no points earned. The tier is now Silver."


def test_an_invoice_without_lines_earns_on_its_own_total() -> None:
    assert base_points(an_invoice(net="12.34"), RULE).points == Fraction("12.34")


def test_lines_of_nothing_earn_nothing() -> None:
    assert base_points(an_invoice(net=10, lines=[("", "0"), ("", "0")]), RULE).points == 0


RULES = (
    EarnRule(1, date(2025, 1, 1), Decimal(1)),
    EarnRule(2, date(2025, 7, 1), Decimal(2)),
    EarnRule(3, date(2026, 1, 1), Decimal(3), frozenset({"shoes"})),
)


@pytest.mark.parametrize(
    ("on", "points", "version"),
    [("2025-01-01", 10, "1"), ("2025-06-30T23:59:59", 10, "1"), ("2025-07-01", 20, "2"), ("2026-02-01", 30, "3")],
)
def test_the_rule_in_force_on_the_invoice_date(on: str, points: int, version: str) -> None:
    book = Book(replace(PROGRAM, rules=RULES))
    decision = book.look_at(an_invoice(net=10, on=on))
    assert (decision.points, decision.entries[0].rule_version) == (points, version)


def test_an_invoice_before_the_first_rule_is_parked_with_a_next_step() -> None:
    book = Book(replace(PROGRAM, rules=RULES))
    decision = book.look_at(an_invoice(7, 10, "2024-12-31T23:59:59"))
    assert decision.message == "Programme MAIN has no earn rule in force on 2024-12-31, the date of invoice INV-7."
    assert (decision.reason, decision.field, decision.entries) == ("no_rule", "loy_validfrom", ())
    assert decision.next_step == "Add the earn rule to the programme, then resume."


def test_changes_of_a_sale_use_the_rule_version_of_the_sale() -> None:
    """A version that came into force for its date only after the sale was posted does not touch it."""
    book = Book(replace(PROGRAM, rules=RULES[:2]))
    sale = an_invoice(1, 100, "2026-02-01")
    assert book.look_at(sale).points == 200
    book.program = replace(PROGRAM, rules=RULES)
    assert book.look_at(sale).entries == ()
    refund = book.look_at(replace(sale, net=Decimal(60)))
    assert (refund.points, refund.entries[0].rule_version) == (-80, "2")
    assert book.look_at(replace(sale, net=Decimal(110))).points == 100
    assert book.look_at(replace(sale, status=Status.CANCELLED)).points == -220
    assert book.look_at(an_invoice(2, 100, "2026-02-01")).points == 300


def test_a_rule_version_that_is_gone_parks_a_change_and_never_a_cancellation() -> None:
    book = Book(replace(PROGRAM, rules=RULES[:2]))
    sale = an_invoice(1, 100, "2026-02-01")
    book.look_at(sale)
    book.program = replace(PROGRAM, rules=RULES[2:])
    parked = book.look_at(replace(sale, net=Decimal(60)))
    assert parked.message == "Programme MAIN no longer has version 2 of its earn rule."
    assert book.look_at(replace(sale, status=Status.CANCELLED)).points == -200


def test_the_entry_explains_its_arithmetic() -> None:
    book = Book(TIERED)
    book.look_at(an_invoice(1, 1000, "2026-01-01"))
    entry = book.look_at(an_invoice(2, "19.90", lines=[("shoes", "14.90"), ("gift card", "5")])).entries[0]
    assert entry.explained == {
        "base": "14.9",
        "multiplier": "1.25",
        "rate": "1",
        "lines": [["1", "shoes", "14.90", 18]],
        "excluded": [["2", "gift card", "5"]],
        "invoice": "INV-2",
        "status": "paid",
        "spendable_on": "2026-01-10",
    }
    assert entry.occurred_on == at("2026-01-10")
