"""The laws of a ledger, after anything that can happen to two customers, and the tamper evidence of its chain."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from connector.loyalty.decisions import Outcome
from connector.loyalty.earning import Invoice, Status
from connector.loyalty.ledger import Entry, Journal, Kind, LedgerError, Movements, Pending, State, fold
from connector.loyalty.program import Rounding, SpendableOn, Window
from tests.unit.loyalty_book import CUSTOMER, GOLD, NOW, OTHER, SILVER, TIERED, Book, an_invoice, at
from tests.unit.loyalty_model import worth

AMOUNTS = st.sampled_from([Decimal(amount) for amount in ("0", "0.5", "1.37", "99.99", "250", "1000", "3000.25")])
INVOICES = st.integers(0, 5)
NAMES = (CUSTOMER, OTHER)


class TwoCustomers(RuleBasedStateMachine):
    """Invoices come, change, move and go; points are spent, restored, given and taken; time passes.

    Beside the ledgers stands what the invoices are worth by the model, and a plain account of everything else.
    """

    @initialize(
        spendable_on=st.sampled_from(SpendableOn),
        lifetime=st.sampled_from([0, 1, 2, 24]),
        rounding=st.sampled_from(Rounding),
        window=st.sampled_from(Window),
    )
    def start(self, spendable_on: SpendableOn, lifetime: int, rounding: Rounding, window: Window) -> None:
        self.program = replace(
            TIERED,
            tiers=(TIERED.tiers[0], replace(SILVER, window=window), replace(GOLD, minimum_points=1500)),
            spendable_on=spendable_on,
            spendable_days=10,
            lifetime_months=lifetime,
            rounding=rounding,
        )
        self.now = datetime(2026, 1, 31, 12, tzinfo=UTC)
        self.books = {name: Book(self.program, name) for name in NAMES}
        self.invoices: dict[int, Invoice] = {}
        self.seen: set[int] = set()
        self.codes: list[tuple[str, str, int]] = []
        self.voided: set[str] = set()
        self.other_points = dict.fromkeys(NAMES, 0)
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"{self.count}"

    def tell(self, number: int) -> None:
        """Both customers hear of an invoice; it is nobody's when it was deleted."""
        invoice = self.invoices.get(number)
        for name, book in self.books.items():
            book.look_at(invoice if invoice and invoice.customer == name else None, self.now, f"invoice:{number}")

    @rule(number=INVOICES, net=AMOUNTS, status=st.sampled_from(Status), owner=st.sampled_from([*NAMES, CUSTOMER]))
    def invoice_is_written(self, number: int, net: Decimal, status: Status, owner: str) -> None:
        paid_on = self.now.date() if status is Status.PAID else None
        before = self.invoices.get(number)
        if before and before.paid_on and paid_on:
            paid_on = before.paid_on
        on = datetime(2025, 1 + (number * 5) % 12, 15, number, tzinfo=UTC)
        self.invoices[number] = Invoice(f"{number}", f"INV-{number}", owner, status, on, net, (), paid_on)
        self.tell(number)

    @rule(number=INVOICES)
    def invoice_is_deleted(self, number: int) -> None:
        self.invoices.pop(number, None)
        self.tell(number)

    @rule(number=INVOICES)
    def event_is_repeated(self, number: int) -> None:
        before = {name: book.state for name, book in self.books.items()}
        self.tell(number)
        for name, book in self.books.items():
            # Only the day may have come on which its pending points are spendable.
            assert {e.kind for e in book.entries[before[name].sequence :]} <= {Kind.MATURE, Kind.TIER}

    @rule(who=st.sampled_from(NAMES), points=st.sampled_from([1, 50, 250, 1000]))
    def points_are_redeemed(self, who: str, points: int) -> None:
        book = self.books[who]
        available = book.state.available(self.now.date())
        decision = book.redeem(self.name(), points, self.now)
        assert (decision.outcome is Outcome.APPLIED) == (points <= available)
        assert decision.result
        if decision.outcome is Outcome.APPLIED:
            assert decision.result.balance == available - points
            self.codes.append((who, decision.result.code, points))
            self.other_points[who] -= points

    @precondition(lambda self: self.codes)
    @rule(pick=st.integers(0, 1000))
    def redemption_is_voided(self, pick: int) -> None:
        who, code, points = self.codes[pick % len(self.codes)]
        decision = self.books[who].void(self.name(), code, self.now)
        assert (decision.outcome is Outcome.APPLIED) == (code not in self.voided)
        if code not in self.voided:
            self.voided.add(code)
            self.other_points[who] += points

    @rule(who=st.sampled_from(NAMES), points=st.sampled_from([-500, -1, 1, 300]))
    def points_are_adjusted(self, who: str, points: int) -> None:
        book = self.books[who]
        if book.adjust(self.name(), points, self.now).outcome is Outcome.APPLIED:
            self.other_points[who] += points

    @rule(days=st.sampled_from([0, 1, 9, 31, 400]))
    def time_passes(self, days: int) -> None:
        self.now += timedelta(days=days)
        for book in self.books.values():
            book.review(self.now)
            assert book.review(self.now).outcome is Outcome.NOTHING
            today = self.now.date()
            assert all(day >= today for day in book.state.lots)
            assert all(p.spendable_on is None or p.spendable_on > today for p in book.state.pending.values())

    @invariant()
    def points_are_those_of_the_invoices_and_of_what_people_did(self) -> None:
        for name, book in getattr(self, "books", {}).items():
            owned = [invoice for invoice in self.invoices.values() if invoice.customer == name]
            expected = worth(self.program, owned, book.since, self.now)
            for number in range(6):
                document = f"invoice:{number}"
                assert book.points_of(document) == expected.points.get(document, 0), document
            assert Fraction(book.state.total_spend) == expected.spend
            expired = sum(entry.points for entry in book.entries if entry.kind is Kind.EXPIRE)
            assert book.state.total == sum(expected.points.values()) + self.other_points[name] + expired

    def teardown(self) -> None:
        for name, book in getattr(self, "books", {}).items():
            book.check_history()
            if book.entries:
                book.review(self.now)
                owned = [invoice for invoice in self.invoices.values() if invoice.customer == name]
                assert book.state.tier == worth(self.program, owned, book.since, self.now).tier


TestTwoCustomers = TwoCustomers.TestCase


def a_history() -> Book:
    """One of every kind of entry."""
    book = Book(replace(TIERED, lifetime_months=1))
    book.look_at(an_invoice(1, 1200, "2026-05-01", Status.ISSUED), at("2026-05-01"))
    book.look_at(an_invoice(1, 1200, "2026-05-01", paid_on=date(2026, 5, 3)), at("2026-05-03"))
    code = book.redeem("r1", 100, at("2026-05-04")).result
    assert code
    book.void("v1", code.code, at("2026-05-05"))
    book.redeem("r2", 100, at("2026-05-06"))
    book.look_at(an_invoice(1, 1100, "2026-05-01", paid_on=date(2026, 5, 3)), at("2026-05-07"))
    book.adjust("a1", 25, at("2026-05-08"))
    book.review(at("2026-08-01"))
    assert {entry.kind for entry in book.entries} == set(Kind)
    return book


ALTERATIONS = {
    "customer": lambda e: OTHER,
    "sequence": lambda e: e.sequence + 1,
    "kind": lambda e: Kind.ADJUST if e.kind is not Kind.ADJUST else Kind.EARN,
    "points": lambda e: e.points + 1,
    "cause": lambda e: e.cause + "0",
    "key": lambda e: e.key + "0",
    "occurred_on": lambda e: e.occurred_on + timedelta(seconds=1),
    "movements": lambda e: e.movements.replace("}", " }", 1) if e.movements != "{}" else "{ }",
    "explanation": lambda e: e.explanation.replace("}", " }", 1),
    "rule_version": lambda e: e.rule_version + "1",
    "previous_hash": lambda e: "0" * 64,
    "hash": lambda e: "0" * 64,
}


def test_every_stored_field_of_an_entry_can_be_altered() -> None:
    """The code has no column of its own: it is the explanation that keeps it, and a row id that follows from it."""
    assert set(ALTERATIONS) == set(Entry.__dataclass_fields__) - {"code"}
    redemption = next(entry for entry in a_history().entries if entry.code)
    assert redemption.explained["code"] == redemption.code


@pytest.mark.parametrize("field", ALTERATIONS)
def test_altering_any_field_of_any_entry_breaks_the_chain(field: str) -> None:
    entries = a_history().entries
    for place, entry in enumerate(entries):
        altered = replace(entry, **{field: ALTERATIONS[field](entry)})
        assert altered != entry
        with pytest.raises(LedgerError):
            fold([*entries[:place], altered, *entries[place + 1 :]])


def test_a_rehashed_forgery_still_breaks_the_chain_at_the_next_entry() -> None:
    entries = a_history().entries
    for place, entry in enumerate(entries[:-1]):
        forged = replace(entry, cause="invoice:forged")
        forged = replace(forged, hash=forged.digest())
        with pytest.raises(LedgerError, match=f"entry {place + 2} does not continue the hash chain"):
            fold([*entries[:place], forged, *entries[place + 1 :]])


def test_entries_left_out_doubled_or_swapped_are_found() -> None:
    entries = a_history().entries
    for place in range(len(entries) - 1):
        for wrong in (
            entries[:place] + entries[place + 1 :],
            entries[: place + 1] + entries[place:],
            [*entries[:place], entries[place + 1], entries[place], *entries[place + 2 :]],
        ):
            with pytest.raises(LedgerError):
                fold(wrong)


def test_points_that_do_not_match_the_movements_are_found_even_with_a_good_hash() -> None:
    entry = a_history().entries[0]
    wrong = replace(entry, points=entry.points + 1)
    with pytest.raises(LedgerError, match="says 1201 points and moves 1200"):
        fold([replace(wrong, hash=wrong.digest())])


@pytest.mark.parametrize(
    ("movements", "law"),
    [
        (Movements(lots={date(2026, 1, 31): -11}), "lot 2026-01-31 would fall to -1"),
        (Movements(lots={date(2026, 2, 28): -1}), "lot 2026-02-28 would fall to -1"),
        (Movements(pending={"invoice:1": -6}), "pending points of invoice:1 would fall to -1"),
        (Movements(owed=-1), "more points repaid than owed"),
    ],
)
def test_nothing_falls_below_zero(movements: Movements, law: str) -> None:
    state = State(lots={date(2026, 1, 31): 10}, pending={"invoice:1": Pending(5)})
    journal = Journal(CUSTOMER, state)
    with pytest.raises(LedgerError, match=law):
        journal.append(Kind.ADJUST, movements, cause="c", key="k", occurred_on=NOW, explanation={})
    assert (journal.entries, journal.state) == ([], state)


DAYS = st.dates(date(2000, 1, 1), date.max)
DOCUMENTS = st.text(min_size=1, max_size=8).map("invoice:{}".format)
MONTHS = st.dates(date(2000, 1, 1), date(2099, 12, 31)).map("{:%Y-%m}".format)
SPENDS = st.decimals(-10_000_000_000, 10_000_000_000, places=4).filter(bool)
MOMENTS = st.integers(0, 2**33).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
PLACES = st.none() | st.tuples(MOMENTS, DOCUMENTS)
WHOLE = st.integers(-(2**31), 2**31).filter(bool)
NATURAL = st.integers(1, 2**31)


@given(
    st.builds(
        Movements,
        lots=st.dictionaries(DAYS, WHOLE, max_size=4),
        pending=st.dictionaries(DOCUMENTS, WHOLE, max_size=4),
        spendable_on=st.dictionaries(DOCUMENTS, st.none() | DAYS, max_size=4),
        owed=st.integers(),
        spend=st.dictionaries(MONTHS, SPENDS, max_size=4),
        earned=st.dictionaries(MONTHS, WHOLE, max_size=4),
        latest=PLACES,
        tier=st.none() | st.text(min_size=1, max_size=20),
        since=st.none() | DAYS,
    )
)
def test_movements_survive_json_exactly(movements: Movements) -> None:
    assert Movements.from_json(movements.to_json()) == movements
    assert Movements.from_json(movements.to_json()).to_json() == movements.to_json()


@given(
    st.builds(
        State,
        sequence=st.integers(0, 2**31),
        last_hash=st.text("0123456789abcdef", max_size=64),
        lots=st.dictionaries(DAYS, NATURAL, max_size=4),
        pending=st.dictionaries(DOCUMENTS, st.builds(Pending, NATURAL, st.none() | DAYS), max_size=4),
        owed=st.integers(0),
        spend=st.dictionaries(MONTHS, SPENDS, max_size=4),
        earned=st.dictionaries(MONTHS, WHOLE, max_size=4),
        latest=PLACES,
        tier=st.text(max_size=20),
        since=st.none() | DAYS,
    )
)
def test_states_survive_json_exactly(state: State) -> None:
    again = State.from_json(state.to_json(), state.sequence, state.last_hash)
    assert again == state
    assert again.to_json() == state.to_json()


def test_a_fold_can_begin_at_any_state() -> None:
    entries = a_history().entries
    whole = fold(entries)
    for place in range(len(entries) + 1):
        middle = fold(entries[:place])
        read_back = State.from_json(middle.to_json(), middle.sequence, middle.last_hash)
        assert fold(entries[place:], read_back) == whole


def test_occurred_on_is_kept_in_whole_seconds_of_utc() -> None:
    journal = Journal(CUSTOMER, State())
    local = datetime.fromisoformat("2026-03-01T00:30:00.987654+02:00")
    journal.append(Kind.ADJUST, Movements(), cause="c", key="k", occurred_on=local, explanation={})
    assert journal.entries[0].occurred_on == datetime(2026, 2, 28, 22, 30, tzinfo=UTC)
