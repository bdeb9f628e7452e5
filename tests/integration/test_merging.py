"""Customers who are merged: their points go along once, whatever is heard first and however often."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from connector.audit import Audit
from connector.bus import Change, Mandate, Subject
from connector.dataverse import Create, Update
from connector.identity import Customer
from connector.loyalty.ledger import Entry, Kind, State, fold
from connector.rows import ledger
from connector.rows.choices import RedemptionStatus, RedemptionType
from connector.rows.programs import read_program
from tests.office import Office

PAID = {"statecode": 2, "statuscode": 100001}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.close()


@dataclass
class Story:
    """Customers of one test, and what happens to them."""

    office: Office
    table: str = "account"
    customers: list[Customer] = field(default_factory=list)

    def customer(self) -> Customer:
        customer = Customer(self.table, str(uuid4()))
        name = {"name": "Adatum"} if self.table == "account" else {"lastname": "Adatum"}
        self.office.client.commit([Create(customer.entity_set, {f"{self.table}id": customer.id, **name})])
        self.customers.append(customer)
        return customer

    def invoice(self, customer: Customer, amount: str, *, paid: bool = True) -> str:
        invoice = str(uuid4())
        line = {
            "isproductoverridden": True,
            "productdescription": "thing",
            "quantity": 1,
            "priceperunit": Decimal(amount),
            "ispriceoverridden": True,
        }
        row = {"invoiceid": invoice, "name": "I", "invoice_details": [line], **_bound("customerid", customer)}
        self.office.client.commit([Create("invoices", row)])
        if paid:
            self.pay(invoice)
        return invoice

    def pay(self, invoice: str) -> None:
        self.office.client.commit([Update(f"invoices({invoice})", PAID)])

    def wish(self, customer: Customer, **columns: Any) -> str:
        wish = str(uuid4())
        row = {"loy_redemptionid": wish, "loy_requestid": wish, "loy_name": "R", **columns}
        self.office.client.commit([Create("loy_redemptions", row | _bound("loy_CustomerId", customer))])
        return wish

    def redeem(self, customer: Customer, points: int) -> str:
        return self.wish(customer, loy_points=points)

    def void(self, customer: Customer, redemption: str) -> str:
        code = self.redemption(redemption)["loy_transactioncode"]
        return self.wish(customer, loy_type=RedemptionType.VOID.value, loy_voidscode=code)

    def adjust(self, customer: Customer, points: int, **columns: Any) -> str:
        row = {
            "loy_adjustmentid": (given := str(uuid4())),
            "loy_name": "A",
            "loy_points": points,
            "loy_reason": "gift",
            **columns,
        }
        self.office.client.commit([Create("loy_adjustments", row | _bound("loy_CustomerId", customer))])
        return given

    def merge(self, subordinate: Customer, target: Customer) -> None:
        party = {"@odata.type": f"Microsoft.Dynamics.CRM.{self.table}"}
        key = f"{self.table}id"
        body = {"Target": party | {key: target.id}, "Subordinate": party | {key: subordinate.id}}
        self.office.client.request("POST", "Merge", body | {"PerformParentingChecks": False})

    def hear(self) -> None:
        self.office.work(self.office.events())

    def redemption(self, wish: str) -> dict[str, Any]:
        return dict(self.office.client.get(f"loy_redemptions({wish})?$select=loy_status,loy_transactioncode"))

    def state(self, customer: Customer) -> State:
        return ledger.membership_of(customer, self.office.client.get(ledger.membership_path(customer))).state

    def entries(self, customer: Customer) -> list[Entry]:
        theirs = f"_loy_membershipid_value eq {customer.membership_id}"
        path = f"loy_entries?$select={ledger.ENTRY}&$filter={theirs}&$orderby=loy_sequence"
        return [ledger.entry_of(customer, row) for row in self.office.client.get(path)]

    def proved(self) -> None:
        """The audit holds, and nobody redeemed what was not earned or given."""
        report = Audit(self.office.client, read_program(self.office.client, "CJ"), self.office.now()).run()
        assert report.violations == []
        sums: Counter[Kind] = Counter()
        for customer in self.customers:
            entries = self.entries(customer)
            assert fold(entries) == self.state(customer)
            for entry in entries:
                sums[entry.kind] += entry.points
        moved = [e for c in self.customers for e in self.entries(c) if e.cause.startswith("merge:")]
        assert sum(entry.points for entry in moved) == 0
        assert -(sums[Kind.REDEEM] + sums[Kind.VOID]) <= sums[Kind.EARN] + sums[Kind.TAKEBACK] + sums[Kind.ADJUST]

    def gone_over(self, *givers: Customer) -> None:
        for giver in givers:
            state = self.state(giver)
            assert not any((state.lots, state.pending, state.owed, state.total_spend))


def _bound(lookup: str, customer: Customer) -> dict[str, str]:
    return {f"{lookup}_{customer.table}@odata.bind": f"/{customer.entity_set}({customer.id})"}


@pytest.mark.parametrize("table", ["account", "contact"])
def test_points_that_were_redeemed_are_not_earned_again(office: Office, table: str) -> None:
    story = Story(office, table)
    giver, heir = story.customer(), story.customer()
    story.invoice(giver, "10")
    story.hear()
    redemption = story.redeem(giver, 100)
    story.hear()
    story.merge(giver, heir)
    story.hear()
    assert story.state(heir).total == 0
    refused = story.redeem(heir, 100)
    story.hear()
    assert story.redemption(refused)["loy_status"] == RedemptionStatus.REJECTED.value
    story.gone_over(giver)
    story.proved()

    void = story.void(heir, redemption)
    story.hear()
    assert story.redemption(void)["loy_status"] == RedemptionStatus.COMPLETED.value
    assert story.redemption(redemption)["loy_status"] == RedemptionStatus.VOIDED.value
    assert story.state(heir).balance == 100
    story.proved()


def test_the_invoice_is_heard_first_by_the_heir_and_waits(office: Office) -> None:
    """Between the two events nobody can spend the points twice."""
    story = Story(office)
    giver, heir = story.customer(), story.customer()
    invoice = story.invoice(giver, "10")
    story.hear()
    story.redeem(giver, 100)
    story.hear()
    story.merge(giver, heir)
    office.events()
    change = Change.about(Subject.INVOICE, invoice, str(heir), cause="heard by the heir")
    decision = office.processor.process(change)
    assert not decision.entries
    assert story.state(heir).total == 0
    assert [forwarded.customer for forwarded in office.sent] == [str(giver)]
    office.work([])
    assert story.state(heir).total == 0
    assert story.state(heir).total_spend == 10
    story.gone_over(giver)
    story.proved()


def test_lots_keep_their_expiry_and_an_adjustment_goes_along(office: Office) -> None:
    story = Story(office)
    giver, heir = story.customer(), story.customer()
    story.adjust(giver, 70)
    story.invoice(giver, "10")
    story.hear()
    before = story.state(giver).lots
    story.merge(giver, heir)
    story.hear()
    assert story.state(heir).lots == before
    told = [entry for entry in story.entries(heir) if entry.cause == f"merge:{giver.id}"]
    assert told
    assert all(str(giver) in e.explained["reason"] and str(heir) in e.explained["reason"] for e in told)
    assert {entry.key.rpartition(":")[0] for entry in told} <= {
        entry.key.rpartition(":")[0] for entry in story.entries(giver)
    }
    story.gone_over(giver)
    story.proved()


@pytest.mark.parametrize("merger_first", [True, False])
def test_which_lots_the_heir_has_does_not_depend_on_what_is_heard_first(office: Office, merger_first: bool) -> None:
    """The heir has lots that expire later, of which a debt would be taken first."""
    story = Story(office)
    giver, heir = story.customer(), story.customer()
    invoice = story.invoice(giver, "20")
    story.adjust(heir, 100, loy_lifetimemonths=30)
    story.hear()
    story.redeem(giver, 100)
    story.hear()
    before = {**story.state(giver).lots, **story.state(heir).lots}
    assert sorted(before.values()) == [100, 100]
    story.merge(giver, heir)
    office.events()
    changes = [
        Change.about(Subject.CUSTOMER, giver.id, str(giver), cause="merger"),
        Change.about(Subject.INVOICE, invoice, str(giver), cause="invoice"),
    ]
    office.sent += changes if merger_first else reversed(changes)
    office.work([])
    assert story.state(heir).lots == before
    story.gone_over(giver)
    story.proved()


def test_who_is_merged_away_meanwhile_is_not_given_anything(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(office)
    first, second, last = (story.customer() for _ in range(3))
    story.adjust(first, 100)
    story.hear()
    story.merge(first, second)
    events = office.events()
    commit = office.client.commit

    def after_another_merger(writes: Any, **more: Any) -> Any:
        monkeypatch.setattr(office.client, "commit", commit)
        story.merge(second, last)
        office.work(office.events())
        return commit(writes, **more)

    monkeypatch.setattr(office.client, "commit", after_another_merger)
    office.work(events)
    assert story.state(last).balance == 100
    story.gone_over(first, second)
    story.proved()


def test_a_review_finds_a_merger_that_nobody_heard_of(tmp_path: Path) -> None:
    moment = [datetime.now(UTC)]
    office = Office(tmp_path, clock=lambda: moment[0])
    try:
        story = Story(office)
        giver, heir = story.customer(), story.customer()
        story.adjust(giver, 30, loy_lifetimemonths=1)
        story.adjust(giver, 100, loy_lifetimemonths=30)
        story.hear()
        story.merge(giver, heir)
        assert office.events()  # lost
        moment[0] += timedelta(days=100)
        mandate = Mandate(as_of=moment[0].date())
        due = Change.about(Subject.REVIEW, giver.membership_id, str(giver), cause="due", mandate=mandate)
        office.sent.append(due)
        office.work([])
        assert story.state(heir).balance == 100
        story.gone_over(giver)
        story.proved()
    finally:
        office.close()


def test_a_debt_goes_along(office: Office) -> None:
    story = Story(office)
    giver, heir = story.customer(), story.customer()
    invoice = story.invoice(giver, "10")
    story.hear()
    story.redeem(giver, 100)
    story.hear()
    office.client.commit([Update(f"invoices({invoice})", {"statecode": 3, "statuscode": 100003})])
    story.hear()
    assert story.state(giver).owed == 100
    story.invoice(heir, "14")
    story.merge(giver, heir)
    story.hear()
    assert story.state(heir).balance == 40
    story.gone_over(giver)
    story.proved()


def test_a_pending_invoice_is_paid_after_the_merger(office: Office) -> None:
    story = Story(office)
    giver, heir = story.customer(), story.customer()
    invoice = story.invoice(giver, "10", paid=False)
    story.hear()
    assert story.state(giver).pending_points == 100
    story.merge(giver, heir)
    story.hear()
    assert (story.state(heir).balance, story.state(heir).pending_points) == (0, 100)
    story.pay(invoice)
    story.hear()
    assert (story.state(heir).balance, story.state(heir).pending_points) == (100, 0)
    story.gone_over(giver)
    story.proved()


def chain(story: Story) -> tuple[list[Callable[[], Any]], list[Customer]]:
    """Three customers with all that can be had; then the first into the second, the second into the third."""
    first, second, last = (story.customer() for _ in range(3))
    spent = story.invoice(first, "30")
    pending = story.invoice(first, "5", paid=False)
    story.invoice(second, "20")
    story.invoice(last, "40")
    story.adjust(first, 33)
    story.adjust(second, 50)
    story.hear()
    redeemed = story.redeem(first, 120)
    also = story.redeem(second, 150)
    voided = story.redeem(first, 110)
    story.hear()
    steps: list[Callable[[], Any]] = [
        lambda: story.void(first, voided),
        lambda: story.adjust(first, 7),
        lambda: story.invoice(first, "3"),
        lambda: story.merge(first, second),
        lambda: story.pay(pending),
        lambda: story.invoice(second, "2"),
        lambda: story.merge(second, last),
        lambda: story.adjust(last, 11),
    ]
    assert spent
    assert {story.redemption(wish)["loy_status"] for wish in (redeemed, also)} == {RedemptionStatus.COMPLETED.value}
    return steps, [first, second, last]


# 30 + 5 + 20 + 40 + 3 + 2 at ten points each, 33 + 50 + 7 + 11 given, 120 + 150 redeemed, 110 redeemed and voided
CHAIN_TOTAL = 1000 + 101 - 270


@pytest.mark.parametrize("seed", range(6))
def test_chains_of_mergers_heard_in_any_order_up_to_three_times(office: Office, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    story = Story(office)
    steps, (first, second, last) = chain(story)
    waiting: list[bytes] = []
    for step in steps:
        step()
        waiting += [event for event in office.events() for _ in range(chance.randint(1, 3))]
        chance.shuffle(waiting)
        heard = chance.randint(0, len(waiting) // 2)
        office.work(waiting[:heard])
        del waiting[:heard]
        total = sum(story.state(customer).total for customer in story.customers)
        assert total <= CHAIN_TOTAL
    office.work(waiting)
    story.gone_over(first, second)
    state = story.state(last)
    assert (state.total, state.owed, state.pending) == (CHAIN_TOTAL, 0, {})
    assert state.total_spend == 100
    redeemed = [e for c in story.customers for e in story.entries(c) if e.kind is Kind.REDEEM]
    assert sum(entry.points for entry in redeemed) == -380
    row = office.client.get(f"accounts({last.id})?$select=loy_pointsbalance")
    assert row["loy_pointsbalance"] == CHAIN_TOTAL
    story.proved()


@pytest.mark.parametrize("seed", range(5))
def test_random_mergers_across_tiers_with_redemptions_in_between(office: Office, seed: int) -> None:
    """Invoices large enough that tiers and multipliers change with whoever owns them."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    story = Story(office)
    alive = [story.customer() for _ in range(4)]
    redemptions: list[str] = []
    unpaid: list[str] = []
    waiting: list[bytes] = []
    while len(alive) > 1:
        for _ in range(7):
            who = chance.choice(alive)
            match chance.choice(("invoice", "pending", "pay", "redeem", "redeem", "adjust", "void")):
                case "invoice":
                    story.invoice(who, chance.choice(("20", "90", "300", "700")))
                case "pending":
                    unpaid.append(story.invoice(who, chance.choice(("50", "600")), paid=False))
                case "pay" if unpaid:
                    story.pay(unpaid.pop())
                case "redeem":
                    redemptions.append(story.redeem(who, chance.choice((100, 500, 1500))))
                case "adjust":
                    story.adjust(who, chance.choice((40, 200)))
                case "void" if redemptions:
                    wish = chance.choice(redemptions)
                    if story.redemption(wish)["loy_status"] == RedemptionStatus.COMPLETED.value:
                        story.void(who, wish)
            waiting += [event for event in office.events() for _ in range(chance.randint(1, 3))]
        giver, heir = chance.sample(alive, 2)
        story.merge(giver, heir)
        alive.remove(giver)
        waiting += office.events()
        chance.shuffle(waiting)
        heard = chance.randint(0, len(waiting))
        office.work(waiting[:heard])
        del waiting[:heard]
    office.work(waiting)
    (last,) = alive
    story.gone_over(*(customer for customer in story.customers if customer != last))
    assert story.state(last).owed == 0
    story.proved()
