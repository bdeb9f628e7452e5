"""Two handlers at once, rows set back by hand, ratings and reopened invoices: what must never go wrong."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from connector.bus import Change, Subject
from connector.dataverse import Create, Update
from connector.identity import Customer
from connector.loyalty.decisions import Outcome
from connector.loyalty.ledger import State
from connector.rows import ledger
from connector.rows.choices import AdjustmentStatus, RedemptionStatus
from connector.rows.customers import CustomerRow
from connector.rows.programs import Programs
from connector.store import Commit, Store
from tests.office import Office

ACTIVE = {"statecode": 0, "statuscode": 1}
PAID = {"statecode": 2, "statuscode": 100001}
CANCELLED = {"statecode": 3, "statuscode": 100003}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.close()


def invoice(office: Office, customer: Customer, amount: str, **line: Any) -> str:
    invoice_id = str(uuid4())
    lines = [
        {
            "isproductoverridden": True,
            "ispriceoverridden": True,
            "productdescription": "thing",
            "quantity": 1,
            "priceperunit": Decimal(amount),
            **line,
        }
    ]
    bind = {"customerid_account@odata.bind": f"/accounts({customer.id})"}
    office.client.commit([Create("invoices", {"invoiceid": invoice_id, "name": "I", "invoice_details": lines, **bind})])
    return invoice_id


def change(office: Office, invoice_id: str, **columns: Any) -> None:
    office.client.commit([Update(f"invoices({invoice_id})", columns)])
    office.work(office.events())


def state_of(office: Office, customer: Customer) -> State:
    return ledger.membership_of(customer, office.client.get(ledger.membership_path(customer))).state


def rating_of(office: Office, customer: Customer) -> int | None:
    rating: int | None = office.client.get(f"accounts({customer.id})?$select=accountratingcode")["accountratingcode"]
    return rating


def wish(office: Office, table: str, customer: Customer, **columns: Any) -> str:
    row_id = str(uuid4())
    row = {
        f"{table}id": row_id,
        "loy_name": "wish",
        "loy_CustomerId_account@odata.bind": f"/accounts({customer.id})",
        **({"loy_requestid": row_id} if table == "loy_redemption" else {}),
        **columns,
    }
    office.client.commit([Create(f"{table}s", row)])
    office.events()
    return row_id


class Overtaken(Store):
    """A store whose first commit comes late: something else happens between its reading and its writing."""

    def __init__(self, office: Office, meanwhile: Any) -> None:
        super().__init__(office.client, office.now)
        self._meanwhile = meanwhile

    def commit(self, work: Commit) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile:
            meanwhile()
        super().commit(work)


def processed(office: Office, store: Store, change: Change) -> Outcome:
    programs = Programs(office.client, "CJ")
    return type(office.processor)(store, programs, office.sent.extend, office.now).process(change).outcome


def overtaken(office: Office, change: Change, meanwhile: Any) -> Outcome:
    return processed(office, Overtaken(office, meanwhile), change)


@pytest.mark.parametrize("rejected_first", [False, True])
def test_a_redemption_is_answered_once_however_two_handlers_overlap(office: Office, rejected_first: bool) -> None:
    customer = office.account()
    redemption = wish(office, "loy_redemption", customer, loy_points=100)
    hint = Change.about(Subject.REDEMPTION, redemption, str(customer), cause="test")

    def points_arrive() -> None:
        change(office, invoice(office, customer, "10"), **PAID)

    def other_handler() -> None:
        if not rejected_first:
            points_arrive()
        office.processor.process(hint)

    if rejected_first:  # we decide with points, but the other one has rejected before we write
        other_handler()
        points_arrive()
        assert office.processor.process(hint).outcome is Outcome.NOTHING
    else:  # we decide without points; the other one completes before we write
        assert overtaken(office, hint, other_handler) is Outcome.NOTHING
    row = office.client.get(f"loy_redemptions({redemption})?$select=loy_status,loy_transactioncode,loy_reason")
    spent = 100 - state_of(office, customer).balance
    if rejected_first:
        assert (row["loy_status"], row["loy_transactioncode"], spent) == (RedemptionStatus.REJECTED, None, 0)
    else:
        assert (row["loy_status"], row["loy_reason"], spent) == (RedemptionStatus.COMPLETED, None, 100)


def test_a_redemption_set_back_by_hand_gets_its_old_answer(office: Office) -> None:
    customer = office.account()
    change(office, invoice(office, customer, "30"), **PAID)
    redemption = wish(office, "loy_redemption", customer, loy_points=100)
    hint = Change.about(Subject.REDEMPTION, redemption, str(customer), cause="test")
    office.processor.process(hint)
    path = f"loy_redemptions({redemption})?$select=loy_status,loy_transactioncode,loy_points,loy_value"
    before = office.client.get(path)
    office.client.commit(
        [Update(f"loy_redemptions({redemption})", {"loy_status": 482100000, "loy_transactioncode": None})]
    )
    office.processor.process(hint)
    after = office.client.get(path)
    del before["@odata.etag"], after["@odata.etag"]
    assert after == before
    assert state_of(office, customer).balance == 200


def test_a_void_repeated_after_its_redemption_row_was_deleted_is_refused(office: Office) -> None:
    customer = office.account()
    change(office, invoice(office, customer, "30"), **PAID)
    redemption = wish(office, "loy_redemption", customer, loy_points=100)
    office.processor.process(Change.about(Subject.REDEMPTION, redemption, str(customer), cause="test"))
    code = office.client.get(f"loy_redemptions({redemption})?$select=loy_transactioncode")["loy_transactioncode"]
    outcomes = []
    for _ in range(2):
        void = wish(office, "loy_redemption", customer, loy_type=482100001, loy_voidscode=code, loy_points=0)
        outcomes.append(
            office.processor.process(Change.about(Subject.REDEMPTION, void, str(customer), cause="t")).outcome
        )
        office.client.request("DELETE", f"loy_redemptions({redemption})", deadline=1) if len(outcomes) == 1 else None
    assert outcomes == [Outcome.APPLIED, Outcome.REJECTED]
    assert state_of(office, customer).balance == 300


def test_an_adjustment_set_back_by_hand_is_not_applied_again(office: Office) -> None:
    customer = office.account()
    adjustment = wish(office, "loy_adjustment", customer, loy_points=70, loy_reason="Sorry")
    hint = Change.about(Subject.ADJUSTMENT, adjustment, str(customer), cause="test")
    office.processor.process(hint)
    office.client.commit([Update(f"loy_adjustments({adjustment})", {"loy_status": 482100000})])
    office.processor.process(hint)
    row = office.client.get(f"loy_adjustments({adjustment})?$select=loy_status")
    assert (row["loy_status"], state_of(office, customer).balance) == (AdjustmentStatus.COMPLETED, 70)


def test_a_rating_falls_with_the_tier_and_rises_again(office: Office) -> None:
    customer = office.account()
    first = invoice(office, customer, "600")
    change(office, first, **PAID)
    assert rating_of(office, customer) == 482100000
    change(office, first, **CANCELLED)
    assert rating_of(office, customer) == 1
    change(office, invoice(office, customer, "1600"), **PAID)
    assert rating_of(office, customer) == 482100001
    assert not office.client.get(ledger.membership_path(customer))["loy_ratingoverride"]


class Watched(Store):
    """A store that was given no ETag of the customer, and in whose back something happens each time it has looked."""

    def __init__(self, office: Office, meanwhile: Callable[[], None]) -> None:
        super().__init__(office.client, office.now)
        self._meanwhile = meanwhile

    def customer(self, customer: Customer) -> CustomerRow | None:
        found = super().customer(customer)
        self._meanwhile()
        return found

    def commit(self, work: Commit) -> None:
        assert work.customer
        super().commit(replace(work, customer=replace(work.customer, etag="")))


@pytest.mark.parametrize("store", [Overtaken, Watched])
def test_a_rating_set_by_hand_while_ours_is_on_its_way_stays(
    office: Office, store: Callable[[Office, Callable[[], None]], Store]
) -> None:
    customer, by_hand, set_already = office.account(), 482100002, False

    def somebody_rates() -> None:
        nonlocal set_already
        if not set_already:
            office.client.commit([Update(f"accounts({customer.id})", {"accountratingcode": by_hand})])
        set_already = True

    bought = invoice(office, customer, "600")
    office.events()
    earned = Change.about(Subject.INVOICE, bought, str(customer), cause="test")
    assert processed(office, store(office, somebody_rates), earned) is Outcome.APPLIED
    assert set_already
    assert state_of(office, customer).tier == "SILVER"
    assert rating_of(office, customer) == by_hand
    membership = office.client.get(ledger.membership_path(customer))
    assert (membership["loy_ratingoverride"], membership["loy_writtenrating"]) == (True, None)


class Torn(Store):
    """A store in whose back something happens once, when it has read the membership and not yet what comes after."""

    def __init__(self, office: Office, meanwhile: Callable[[], None]) -> None:
        super().__init__(office.client, office.now)
        self._meanwhile: Callable[[], None] | None = meanwhile

    def read(self, *paths: str) -> list[Any]:
        found = []
        for path in paths:
            found += super().read(path)
            meanwhile = self._meanwhile
            if meanwhile and path.startswith("loy_memberships"):
                self._meanwhile = None
                meanwhile()
        return found


def test_a_rating_that_a_mass_run_writes_meanwhile_does_not_pass_for_one_set_by_hand(office: Office) -> None:
    customer, other = office.account(), 482100002
    change(office, invoice(office, customer, "600"), **PAID)
    assert rating_of(office, customer) == 482100000

    def a_run_rates() -> None:
        office.client.commit(
            [
                Update(f"loy_memberships({customer.membership_id})", {"loy_writtenrating": other}),
                Update(f"accounts({customer.id})", {"accountratingcode": other}),
            ]
        )

    bought = invoice(office, customer, "1600")
    office.events()
    processed(office, Torn(office, a_run_rates), Change.about(Subject.INVOICE, bought, str(customer), cause="test"))
    membership = office.client.get(ledger.membership_path(customer))
    assert (membership["loy_ratingoverride"], membership["loy_writtenrating"]) == (False, 482100001)
    assert rating_of(office, customer) == 482100001


def test_points_of_a_reopened_invoice_are_pending_again(office: Office) -> None:
    customer = office.account()
    paid = invoice(office, customer, "50")
    change(office, paid, **PAID)
    assert (state_of(office, customer).balance, state_of(office, customer).pending_points) == (500, 0)
    change(office, paid, **ACTIVE)
    assert (state_of(office, customer).balance, state_of(office, customer).pending_points) == (0, 500)
    change(office, paid, **PAID)
    assert (state_of(office, customer).balance, state_of(office, customer).pending_points) == (500, 0)


def test_an_invoice_amended_below_zero_gives_back_what_it_earned(office: Office) -> None:
    customer = office.account()
    line = str(uuid4())
    invoice(office, customer, "50", invoicedetailid=line)
    office.work(office.events())
    assert state_of(office, customer).total == 500
    office.client.commit([Update(f"invoicedetails({line})", {"priceperunit": Decimal(-50)})])
    office.work(office.events())
    assert state_of(office, customer).total == 0
    assert state_of(office, customer).total_spend == 0


def test_a_line_that_moves_to_an_excluded_category_earns_no_more(office: Office) -> None:
    customer, line = office.account(), str(uuid4())
    invoice(office, customer, "50", invoicedetailid=line, loy_productcategory="MILK")
    office.work(office.events())
    assert state_of(office, customer).total == 500
    office.client.commit([Update(f"invoicedetails({line})", {"loy_productcategory": "FUEL"})])
    office.work(office.events())
    assert state_of(office, customer).total == 0
    assert state_of(office, customer).total_spend == 50
