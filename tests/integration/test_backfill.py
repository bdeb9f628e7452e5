"""Ledgers for invoices that were there before the programme: both sides agree, and all can be taken back until it is live."""

import io
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from connector.audit import Audit
from connector.bus import Change, Subject
from connector.dataverse import Update
from connector.loyalty.decisions import Outcome
from connector.mass import BadOrder, MassJobs, Order, Progress
from connector.mass.backfill import (
    PAGE,
    Historian,
    Openings,
    earned,
    enrol,
    invoice_totals,
    invoiced,
    ledger_totals,
    read_balances,
    rehearse,
)
from connector.mass.undo import undo
from connector.rows.choices import BulkKind, BulkStatus
from connector.rows.customers import DEFAULT_RATING
from connector.rows.programs import Programs
from local.demo.journey import Basket, Line
from local.demo.shop import Shop, customer_of, invoice_id
from tests.office import Office

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)
HOUSEHOLDS = range(1, 9)


def price(chance: random.Random) -> Decimal:
    return Decimal(chance.randrange(99, 9999)) / 100


def baskets(seed: int = 4) -> list[Basket]:
    chance = random.Random(seed)
    found = []
    for household in HOUSEHOLDS:
        for _ in range(chance.randrange(3, 9)):
            lines = tuple(
                Line(
                    str(n),
                    chance.choice(["BREAD", "FUEL"]),
                    chance.randrange(1, 9),
                    Decimal(chance.randrange(99, 9999)) / 100,
                    Decimal(0),
                )
                for n in range(chance.randrange(1, 4))
            )
            bought_on = NOW - timedelta(minutes=chance.randrange(60 * 24, 60 * 24 * 800))
            found.append(Basket(len(found) + 1, household, bought_on, lines))
    return found


class Shelf:
    """An office with a shop's invoices of two years and no ledger."""

    def __init__(self, home: Path) -> None:
        self.office = Office(home, clock=lambda: NOW)
        self.client = self.office.client
        self.programs = Programs(self.client, "CJ")
        self.program = self.programs.current()
        self.jobs = MassJobs([self.client], self.programs, self.office.sent.extend, [].extend, self.office.now)
        self.order = Order(BulkKind.BACKFILL, NOW.date())
        self.baskets = baskets()
        shop = Shop(self.client)
        first = {basket.household: basket for basket in reversed(self.baskets)}
        shop.open_accounts(HOUSEHOLDS, first)
        shop.issue(self.baskets)
        shop.pay(self.baskets[::2])
        shop.cancel(self.baskets[5])
        shop.blunder(HOUSEHOLDS[0])
        self.office.events()

    def fill(self) -> tuple[str, Progress]:
        for some in invoiced(self.client):
            enrol(self.client, self.program, some, NOW)
        run_id = self.jobs.start(self.order)
        return run_id, self.jobs.work(run_id, page=PAGE, decider=Historian(self.program, self.order, run_id))

    def count(self, entity_set: str) -> int:
        return len(self.client.get(f"{entity_set}?$select=createdon"))

    def ratings(self) -> dict[str, int]:
        rows = self.client.get("accounts?$select=accountratingcode")
        return {row["accountid"]: row["accountratingcode"] for row in rows}

    def holds(self) -> None:
        report = Audit(self.client, self.program, NOW).run()
        assert report.holds, report.violations[:10]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    made = Shelf(tmp_path_factory.mktemp("shelf"))
    yield made
    made.office.close()


def test_history_becomes_the_ledger_that_the_interactive_path_would_have_made(shelf: Shelf) -> None:
    customers = [customer for some in invoiced(shelf.client) for customer in some]
    rehearsed = rehearse(shelf.client, shelf.program, customers, Historian(shelf.program, shelf.order, ""))
    assert (shelf.count("loy_entries"), shelf.count("loy_memberships")) == (0, 0)
    run_id, progress = shelf.fill()
    assert (progress.status, progress.totals.done, progress.totals.failed) == (BulkStatus.DONE, len(HOUSEHOLDS), 0)
    invoices, written = invoice_totals(shelf.client, shelf.program), ledger_totals(shelf.client, run_id)
    assert written == earned(rehearsed)
    for name in ("points", "money"):
        assert invoices["invoices", name, ""] == written["ledger", name, ""] > 0
    shelf.holds()
    for basket in shelf.baskets:
        change = Change.about(Subject.INVOICE, invoice_id(basket.number), None, cause="look")
        assert {preview.decision.outcome for preview in shelf.office.processor.preview(change)} == {Outcome.NOTHING}
    parked = shelf.client.get(f"loy_integrationlogs?$select=loy_reasonclass&$filter=loy_correlationid eq '{run_id}'")
    assert [row["loy_reasonclass"] for row in parked] == ["negative_total"]
    assert shelf.fill()[1].totals.entries == 0  # a second backfill finds nothing to do

    live = f"loy_programs({shelf.program.id})"
    shelf.client.commit([Update(live, {"loy_liveon": date(2026, 11, 1)})])
    with pytest.raises(BadOrder, match="live since 2026-11-01"):
        undo(shelf.client, shelf.program, run_id, NOW)
    shelf.client.commit([Update(live, {"loy_liveon": None})])
    ours = {account: code for account, code in shelf.ratings().items() if code != DEFAULT_RATING}
    account, code = ours.popitem()
    assert ours
    by_hand = next(other for other in (482100000, 482100001) if other != code)
    shelf.client.commit([Update(f"accounts({account})", {"accountratingcode": by_hand})])
    undone = undo(shelf.client, shelf.program, run_id, NOW)
    assert (undone.customers, undone.entries, undone.kept) == (len(HOUSEHOLDS), progress.totals.entries, 0)
    assert shelf.ratings() == dict.fromkeys(shelf.ratings(), DEFAULT_RATING) | {account: by_hand}
    shelf.client.commit([Update(f"accounts({account})", {"accountratingcode": DEFAULT_RATING})])
    assert (shelf.count("loy_entries"), shelf.count("loy_memberships")) == (0, 0)
    customer = customer_of(1)
    shown = shelf.client.get(f"{customer.entity_set}({customer.id})?$select=loy_pointsbalance,loy_tiername")
    assert (shown["loy_pointsbalance"], shown["loy_tiername"]) == (None, None)
    assert shelf.fill()[1].totals.entries == progress.totals.entries


def test_what_others_have_built_on_is_not_taken_back(shelf: Shelf) -> None:
    run_id = shelf.client.get("loy_entries?$select=_loy_bulkrunid_value&$top=1")[0]["_loy_bulkrunid_value"]
    Shop(shelf.client).cancel(shelf.baskets[0])
    shelf.office.work(shelf.office.events())
    undone = undo(shelf.client, shelf.program, run_id, NOW, page=1)  # whose entries come first does not matter
    assert (undone.customers, undone.kept) == (len(HOUSEHOLDS) - 1, 1)
    shelf.fill()


def test_opening_balances_are_lots(shelf: Shelf) -> None:
    shop = Shop(shelf.client)
    shop.open_accounts([101, 102], dict.fromkeys((101, 102), shelf.baskets[0]))
    one, two = customer_of(101), customer_of(102)
    text = f"customer,points,expires\n{one},100,2027-01-31\n{one},50,2027-01-31\n{one},7,\n{two},20,2027-06-30\n"
    balances = read_balances(io.StringIO(text))
    order = Order(BulkKind.BACKFILL, NOW.date(), "Balances")
    assert enrol(shelf.client, shelf.program, [one, two], NOW) == 2
    assert enrol(shelf.client, shelf.program, [one, two], NOW) == 0
    run_id = shelf.jobs.start(order)
    progress = shelf.jobs.work(run_id, decider=Openings(shelf.program, order, balances))
    assert progress.totals.entries == 2
    assert ledger_totals(shelf.client, run_id)["ledger", "points", ""] == 177
    shown = shelf.client.get(f"{one.entity_set}({one.id})?$select=loy_pointsbalance,loy_expiringpoints,loy_expiringon")
    assert (shown["loy_pointsbalance"], shown["loy_expiringpoints"], shown["loy_expiringon"]) == (
        157,
        150,
        "2027-01-31",
    )
    shelf.holds()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("customer,points\n", "line 1: there is no column expires"),
        ("customer,points,expires\nnobody,1,\n", "line 2, customer: not a customer"),
        ("customer,points,expires\naccount:8ed72d0d-568c-4c2b-b40a-7798d6f18134,1.5,\n", "line 2, points: invalid"),
        ("customer,points,expires\naccount:8ed72d0d-568c-4c2b-b40a-7798d6f18134,0,\n", "line 2, points: 0 is not above zero"),
        ("customer,points,expires\naccount:8ed72d0d-568c-4c2b-b40a-7798d6f18134,1,31.12.2026\n", "line 2, expires: Invalid"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(text: str, fault: str) -> None:
    with pytest.raises(BadOrder, match=fault):
        read_balances(io.StringIO(text))
