"""The audit finds what was tampered with, and mends copies but never the ledger."""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest

from connector import histories
from connector.audit import Audit
from connector.bus import Change, Subject
from connector.dataverse import Create, Delete, Update
from connector.identity import Customer
from connector.rows import ledger
from connector.rows.choices import AdjustmentStatus, RedemptionStatus
from connector.rows.programs import Programs
from tests.console import Console
from tests.integration.test_parking import customer_with_invoice
from tests.office import Office

PAID = {"statecode": 2, "statuscode": 100001}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.close()


@pytest.fixture
def console(office: Office) -> Iterator[Console]:
    """Before each test every law holds."""
    console = Console(office)
    status, report = console.json("audit")
    assert (status, report["violations"]) == (0, [])
    yield console


def customer_with_points(office: Office, amount: str = "50") -> Customer:
    """Spendable points, in two entries: earned, then matured."""
    customer, invoice = customer_with_invoice(office, amount)
    office.work(office.events())
    office.client.commit([Update(f"invoices({invoice})", PAID)])
    office.work(office.events())
    return customer


def wish(office: Office, customer: Customer, **columns: Any) -> str:
    """A redemption of 200 points, or whatever `columns` say; its id."""
    wish_id = str(uuid4())
    row = {"loy_redemptionid": wish_id, "loy_requestid": wish_id, "loy_name": "R", "loy_points": 200, **columns}
    row["loy_CustomerId_account@odata.bind"] = f"/accounts({customer.id})"
    office.client.commit([Create("loy_redemptions", row)])
    return wish_id


def entries(office: Office, customer: Customer) -> list[dict[str, Any]]:
    path = f"loy_entries?$select={ledger.ENTRY}&$filter=_loy_membershipid_value eq {customer.membership_id}"
    return list(office.client.get(f"{path}&$orderby=loy_sequence"))


def test_copies_behind_their_ledger_are_mended_and_the_ledger_is_not_touched(office: Office, console: Console) -> None:
    customer = customer_with_points(office)
    member, account = f"loy_memberships({customer.membership_id})", f"accounts({customer.id})"
    before = office.client.get(f"{member}?$select={ledger.MEMBERSHIP},loy_balance")
    office.client.commit([Update(member, {"loy_sequence": 1, "loy_state": "{}", "loy_lasthash": None})])
    office.client.commit([Update(account, {"loy_pointsbalance": 7_777})])
    written = entries(office, customer)

    status, report = console.json("audit")
    assert status == 1
    assert [violation.partition(": ")[2] for violation in report["violations"]] == [
        "the membership knows 1 of 2 entries",
        "the account shows loy_pointsbalance 7777, the ledger says 500",
    ]
    status, report = console.json("audit", "--repair")
    assert (status, report["counts"]["repaired"]) == (0, 1)
    after = office.client.get(f"{member}?$select={ledger.MEMBERSHIP},loy_balance")
    assert {**after, "@odata.etag": ""} == {**before, "@odata.etag": ""}
    assert office.client.get(f"{account}?$select=loy_pointsbalance")["loy_pointsbalance"] == 500
    assert entries(office, customer) == written


@pytest.mark.parametrize(
    ("table", "column", "wrong"),
    [
        ("membership", "loy_spend", 7),
        ("membership", "loy_membersince", "1999-01-01"),
        ("membership", "loy_nextexpiryon", "2099-01-01"),
        ("membership", "loy_nextreviewon", None),
        ("membership", "loy_balance", 7),
        ("membership", "loy_partition", None),
        ("membership", "loy_TierId@odata.bind", "SILVER"),
        ("account", "loy_pointspending", 7),
        ("account", "loy_tiername", "Platinum"),
        ("account", "loy_suggestedrating", 7),
        ("account", "loy_expiringpoints", 7),
        ("account", "loy_expiringon", "2099-01-01"),
        ("account", "loy_nexttiername", "Tin"),
        ("account", "loy_nexttierdistance", 7),
        ("account", "loy_membersince", "1999-01-01"),
        ("account", "loy_loyaltyasof", None),
    ],
)
def test_every_copied_column_is_compared_and_mended(
    office: Office, console: Console, table: str, column: str, wrong: Any
) -> None:
    customer = customer_with_points(office)
    path = f"loy_memberships({customer.membership_id})" if table == "membership" else f"accounts({customer.id})"
    if "@" in column:
        (tier, *_) = [t for t in Programs(office.client, "CJ").current().tiers if t.code != "BASE"]
        wrong = f"/loy_tiers({tier.id})"
    office.client.commit([Update(path, {column: wrong})])
    status, report = console.json("audit")
    assert (status, len(report["violations"])) == (1, 1), report["violations"]
    assert report["violations"][0].startswith(f"{customer}: the {table} ")
    status, report = console.json("audit", "--repair")
    assert (status, report["counts"]["repaired"]) == (0, 1)
    assert console.json("audit")[0] == 0


def test_a_rating_set_by_hand_while_it_is_mended_stays(office: Office, console: Console) -> None:
    customer = customer_with_points(office, "600")
    account, by_hand = f"accounts({customer.id})", 482100002
    office.client.commit([Update(account, {"accountratingcode": None})])

    def somebody_rates_first(writes: Any) -> Any:
        office.client.commit([Update(account, {"accountratingcode": by_hand})])
        return office.client.commit(writes)

    client = mock.Mock(wraps=office.client)
    client.commit.side_effect = somebody_rates_first
    report = Audit(client, Programs(office.client, "CJ").current(), office.now(), repair=True).run()
    assert (report.counts["repaired"], report.violations) == (
        0,
        [f"{customer}: the account has the rating None, its tier says 482100000"],
    )
    assert office.client.get(f"{account}?$select=accountratingcode")["accountratingcode"] == by_hand
    assert console.json("audit", "--repair")[0] == 0
    assert office.client.get(f"{account}?$select=accountratingcode")["accountratingcode"] == by_hand


def test_points_are_counted_anew_and_not_by_the_product_s_own_arithmetic(
    office: Office, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the product's arithmetic is written into the ledger in good order, and found by the audit all the same."""
    monkeypatch.setattr(
        "connector.loyalty.invoices.whole", lambda base, multiplier: int(base * Fraction(multiplier)) + 1
    )
    monkeypatch.setattr(
        "connector.loyalty.earning.whole", lambda base, multiplier: int(base * Fraction(multiplier)) + 1
    )
    customer, invoice = customer_with_invoice(office, "50")
    office.work(office.events())
    monkeypatch.undo()
    try:
        _, report = console.json("audit")
        (violation,) = report["violations"]
        assert "has 501 points and 50" in violation
        assert "its rule says 500 and 50" in violation
    finally:
        office.sent.append(Change.about(Subject.INVOICE, invoice, str(customer), cause="again"))
        office.work([])


def test_an_altered_entry_is_found_and_never_repaired(office: Office, console: Console) -> None:
    customer = customer_with_points(office)
    entry = entries(office, customer)[0]
    path = f"loy_entries({entry['loy_entryid']})"
    office.client.commit([Update(path, {"loy_movements": entry["loy_movements"].replace("500", "900")})])
    try:
        for arguments in ((), ("--repair",)):
            status, report = console.json("audit", *arguments)
            assert status == 1
            assert report["violations"] == [f"{customer}: entry 1 was altered: its hash does not fit"]
    finally:
        office.client.commit([Update(path, {"loy_movements": entry["loy_movements"]})])


@pytest.mark.parametrize(
    ("before", "columns", "sentence"),
    [
        ("redeemed", {"loy_status": RedemptionStatus.REJECTED.value}, "is rejected and its entries do not fit"),
        ("redeemed", {"loy_status": RedemptionStatus.VOIDED.value}, "is voided and its entries do not fit"),
        ("too many", {"loy_status": RedemptionStatus.COMPLETED.value}, "is completed and its entries do not fit"),
    ],
)
def test_an_answer_that_its_entries_do_not_bear_out(
    office: Office, console: Console, before: str, columns: dict[str, int], sentence: str
) -> None:
    customer = customer_with_points(office)
    wish_id = wish(office, customer, loy_points=200 if before == "redeemed" else 99_999)
    office.work(office.events())
    path = f"loy_redemptions({wish_id})"
    status = office.client.get(f"{path}?$select=loy_status")
    office.client.commit([Update(path, columns)])
    try:
        _, report = console.json("audit")
        assert report["violations"] == [f"redemption:{wish_id} {sentence}"]
    finally:
        office.client.commit([Update(path, {"loy_status": status["loy_status"]})])


def test_completed_redemptions_of_customers_without_membership_and_rows_that_are_gone(
    office: Office, console: Console
) -> None:
    stranger = Customer("account", str(uuid4()))
    office.client.commit([Create("accounts", {"accountid": stranger.id, "name": "Nobody"})])
    forged = wish(office, stranger, loy_status=RedemptionStatus.COMPLETED.value)
    bind = {"loy_CustomerId_account@odata.bind": f"/accounts({stranger.id})"}
    given = str(uuid4())
    status = {"loy_status": AdjustmentStatus.COMPLETED.value}
    row = {"loy_adjustmentid": given, "loy_name": "A", "loy_points": 5, "loy_reason": "r", **bind, **status}
    office.client.commit([Create("loy_adjustments", row)])
    office.events()  # lost: the connector never hears of them
    customer = customer_with_points(office)
    gone = wish(office, customer)
    office.events()
    redeemed = wish(office, customer)
    office.work(office.events())
    void = wish(office, customer, loy_type=482100001, loy_voidscode=code(office, redeemed), loy_points=0)
    office.work(office.events())
    office.client.commit([Delete(f"loy_redemptions({gone})")])
    office.client.commit([Delete(f"loy_redemptions({redeemed})")])
    try:
        _, report = console.json("audit")
        assert sorted(report["violations"]) == sorted(
            [
                f"adjustment:{given} is completed and its entries do not fit",
                f"redemption:{forged} is completed and its entries do not fit",
                f"{customer}: redemption:{redeemed} has an entry and no row",
            ]
        )
    finally:
        # The void stays as its row and entry; the redemption's own row comes back as it was.
        office.client.commit([Delete(f"loy_adjustments({given})"), Delete(f"loy_redemptions({forged})")])
        back = {"loy_redemptionid": redeemed, "loy_requestid": redeemed, "loy_name": "R", "loy_points": 200}
        back["loy_CustomerId_account@odata.bind"] = f"/accounts({customer.id})"
        office.client.commit([Create("loy_redemptions", {**back, "loy_status": RedemptionStatus.VOIDED.value})])
        office.events()
    assert office.client.get(f"loy_redemptions({void})?$select=loy_status")["loy_status"] == RedemptionStatus.COMPLETED


def test_an_entry_whose_cause_was_tampered_with_is_named(office: Office, console: Console) -> None:
    customer = customer_with_points(office)
    redeemed = wish(office, customer)
    office.work(office.events())
    path = f"loy_entries?$select=loy_cause&$filter=loy_cause eq 'redemption:{redeemed}'"
    (entry,) = office.client.get(path)
    forged = "redemption:1 eq 1 or 1"
    office.client.commit([Update(f"loy_entries({entry['loy_entryid']})", {"loy_cause": forged})])
    try:
        _, report = console.json("audit")
        assert f"{customer}: {forged} has an entry and no row" in report["violations"]
    finally:
        office.client.commit([Update(f"loy_entries({entry['loy_entryid']})", {"loy_cause": entry["loy_cause"]})])


def test_a_history_is_read_page_by_page(office: Office, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.histories._ENTRIES", 2)
    monkeypatch.setattr("connector.histories.CUSTOMERS_AT_ONCE", 2)
    for _ in range(3):
        customer_with_points(office)
    status, report = console.json("audit")
    assert (status, report["violations"]) == (0, [])
    # Long histories are looked at alone.
    monkeypatch.setattr("connector.histories.ENTRIES_AT_ONCE", 3)
    assert {len(some) for some in histories.members(office.client, "loy_sequence")} == {1}
    again, report_again = console.json("audit")
    assert (again, report_again["counts"]) == (status, report["counts"])


def code(office: Office, wish_id: str) -> str:
    return str(office.client.get(f"loy_redemptions({wish_id})?$select=loy_transactioncode")["loy_transactioncode"])


def test_parts_are_together_the_whole_and_each_customer_is_in_one(office: Office, console: Console) -> None:
    customers = [customer_with_points(office) for _ in range(8)]
    lost, far = customers[0], customers[1]
    stranger, invoice = customer_with_invoice(office, "50")
    office.events()  # lost
    forged = wish(office, customers[2], loy_status=RedemptionStatus.COMPLETED.value)
    office.events()  # lost
    partitions = {
        f"loy_memberships({lost.membership_id})": None,
        f"loy_memberships({far.membership_id})": 255 - far.partition,
    }
    office.client.commit([Update(path, {"loy_partition": value}) for path, value in partitions.items()])
    for customer in customers[2:]:
        office.client.commit([Update(f"accounts({customer.id})", {"loy_pointsbalance": 7_777})])
    try:
        _, whole = console.json("audit")
        found = sorted(whole["violations"])
        assert [sentence for sentence in found if str(stranger) in sentence or forged in sentence] != []
        assert len(found) == 10
        for count in (2, 3, 256):
            reports = [console.json("audit", "--part", f"{number}/{count}")[1] for number in range(1, count + 1)]
            assert sorted(v for report in reports for v in report["violations"]) == found
            sums: Counter[str] = Counter()
            for report in reports:
                sums.update(report["counts"])
            assert sums == whole["counts"]
    finally:
        office.client.commit([Delete(f"loy_redemptions({forged})"), Delete(f"invoices({invoice})")])
        office.events()
        for number in (1, 2):
            console.run("audit", "--repair", "--part", f"{number}/2")


@pytest.mark.parametrize("part", ["0/4", "5/4", "1/257", "1/0", "-1/4", "1", "a/b", "1/4/2", ""])
def test_what_is_no_part_is_refused(office: Office, part: str) -> None:
    console = Console(office)
    assert console.run("audit", f"--part={part}") == 2
    assert "--part: not a part" in console.errors
