"""What the proof under faults has found, or a look at what it leaves out, each in its simplest form."""

import json
from collections.abc import Iterator

import pytest

from connector.counter import Counter, RedemptionRequest, Refused, VoidRequest
from connector.dataverse import Create, Update
from connector.identity import Customer
from connector.rows import ledger
from connector.rows.choices import AdjustmentStatus
from connector.rows.programs import Programs
from connector.sweep import Sweep
from tests.office import Office


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    office.work(office.events())
    yield office
    office.close()


def adjust(office: Office, customer: Customer, points: int) -> None:
    row = {"loy_points": points, "loy_reason": "gift", "loy_name": "A"}
    bound = {"loy_CustomerId_account@odata.bind": f"/accounts({customer.id})"}
    office.client.commit([Create("loy_adjustments", row | bound)])


def balance(office: Office, customer: Customer) -> int:
    return ledger.membership_of(customer, office.client.get(ledger.membership_path(customer))).state.balance


def merge(office: Office, giver: Customer, heir: Customer) -> None:
    party = {"@odata.type": "Microsoft.Dynamics.CRM.account"}
    body = {"Target": party | {"accountid": heir.id}, "Subordinate": party | {"accountid": giver.id}}
    office.client.request("POST", "Merge", body | {"PerformParentingChecks": False})


def parked(office: Office) -> list[str]:
    path = "loy_integrationlogs?$select=loy_message&$filter=loy_reasonclass eq 'no_customer'"
    return [row["loy_message"] for row in office.client.get(path)]


def test_an_adjustment_whose_event_was_too_long(office: Office) -> None:
    customer = office.account()
    adjust(office, customer, 30)
    (event,) = office.events()
    context = json.loads(event)
    for part in ("InputParameters", "PreEntityImages", "PostEntityImages", "ParentContext"):
        context.pop(part, None)
    office.listener.hear(json.dumps(context).encode(), trimmed=True)
    office.work([])
    assert balance(office, customer) == 30
    assert parked(office) == []


def test_an_adjustment_whose_event_was_lost_is_found_by_the_sweep(office: Office) -> None:
    customer = office.account()
    adjust(office, customer, 40)
    assert office.events()
    Sweep(office.client, Programs(office.client, "CJ"), office.processor, office.sent.extend, office.now).run()
    office.work([])
    assert balance(office, customer) == 40
    assert parked(office) == []


def test_a_till_that_asks_again_after_a_merger_gets_its_answer(office: Office) -> None:
    giver, heir, stranger = (office.account() for _ in range(3))
    adjust(office, giver, 500)
    office.work(office.events())
    till = Counter(office.client, Programs(office.client, "CJ"))
    request = RedemptionRequest(customer=str(giver), points=200)
    asked = till.redeem(request, "till-1-0001", 0)
    office.work(office.events())
    merge(office, giver, heir)
    office.work(office.events())
    again = till.redeem(request, "till-1-0001", 0)
    assert (again["id"], again["status"]) == (asked["id"], "completed")
    with pytest.raises(Refused):
        till.redeem(RedemptionRequest(customer=str(stranger), points=200), "till-1-0001", 0)


def test_a_till_voids_what_was_redeemed_before_a_merger(office: Office) -> None:
    giver, heir, last = (office.account() for _ in range(3))
    adjust(office, giver, 500)
    office.work(office.events())
    till = Counter(office.client, Programs(office.client, "CJ"))
    redemptions = [till.redeem(RedemptionRequest(customer=str(giver), points=200), f"till-2-000{n}", 0) for n in (1, 2)]
    office.work(office.events())
    first, second = (till.redemption(redemption["id"])["code"] for redemption in redemptions)
    back = VoidRequest(reason="brought back")
    asked = [till.void(first, back, "till-2-0003", 0)]
    office.work(office.events())
    merge(office, giver, heir)
    office.work(office.events())
    asked.append(till.void(second, back, "till-2-0004", 0))
    office.work(office.events())
    assert balance(office, heir) == 500
    merge(office, heir, last)  # whoever asks again asks somebody else's heir by then
    office.work(office.events())
    again = [till.void(first, back, "till-2-0003", 0), till.void(second, back, "till-2-0004", 0)]
    assert [answer["id"] for answer in again] == [answer["id"] for answer in asked]
    assert [(answer["status"], answer["points"]) for answer in again] == [("completed", 200)] * 2
    assert balance(office, last) == 500
    with pytest.raises(Refused):
        till.void(first, back, "till-2-0004", 0)


def test_an_approval_whose_event_was_lost_is_found_by_the_sweep(office: Office) -> None:
    customer = office.account()
    adjust(office, customer, 50)
    assert office.events()
    path = f"loy_adjustments?$select=loy_status&$filter=_loy_customerid_value eq {customer.id}"
    (row,) = office.client.get(path)
    approved = {"loy_status": AdjustmentStatus.APPROVED.value}
    office.client.commit([Update(f"loy_adjustments({row['loy_adjustmentid']})", approved)])
    assert office.events()
    Sweep(office.client, Programs(office.client, "CJ"), office.processor, office.sent.extend, office.now).run()
    office.work([])
    assert balance(office, customer) == 50
