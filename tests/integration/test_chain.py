"""Invoices through the whole chain: what earns, what is taken back, what is parked and resumed."""

import os
import random
import signal
import time
from uuid import uuid4

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from connector.audit import Audit
from connector.dataverse import Delete, Update
from connector.loyalty.decisions import Outcome
from connector.rows.choices import OUTCOME
from connector.rows.programs import read_program
from local.demo import HOLDS, run
from local.demo.journey import read_slice
from tests.integration.conftest import CANCELLED, PAID, Chain
from tests.stack import wait_until


def test_a_slice_of_real_purchases_ends_with_every_law_holding(chain: Chain) -> None:
    summary = run(chain.endpoints, read_slice(12, 6), time.monotonic())
    assert summary["audit"] == HOLDS
    assert summary["dead"] == 0
    assert summary["invoices"] > 100
    assert summary["points"]["earned"] > 10_000
    assert summary["points"]["taken back"] > 0
    assert summary["redemptions"].get("completed", 0) > 0
    assert "still waiting" not in summary["redemptions"]
    assert summary["requests_per_change"] < 2


def test_pending_until_paid_then_spendable_then_taken_back(chain: Chain) -> None:
    customer = chain.account(accountratingcode=1)
    invoice = chain.invoice(customer, "10.00", "5.55")
    state = wait_until(lambda: s if (s := chain.member(customer).state).sequence else None, about="the first entry")
    assert (state.balance, state.pending_points) == (0, 155)
    chain.change(invoice, **PAID)
    wait_until(lambda: chain.balance(customer) == 155, about="spendable points")
    account = chain.app.client.get(
        f"accounts({customer.id})?$select=loy_pointsbalance,loy_pointspending,loy_tiername,loy_loyaltyasof"
    )
    assert (account["loy_pointsbalance"], account["loy_pointspending"], account["loy_tiername"]) == (155, 0, "Base")
    chain.change(invoice, **CANCELLED)
    wait_until(lambda: chain.balance(customer) == 0, about="points taken back")
    assert chain.member(customer).state.total_spend == 0


def test_spend_lifts_tier_and_rating_but_a_rating_set_by_hand_stays(chain: Chain) -> None:
    customer, by_hand = chain.account(), chain.account(accountratingcode=482100002)
    for one in (customer, by_hand):
        chain.change(chain.invoice(one, "600.00"), **PAID)
    wait_until(lambda: chain.member(customer).state.tier == "SILVER", about="silver")
    wait_until(lambda: chain.member(by_hand).state.tier == "SILVER", about="silver")
    chain.settle()
    ratings = [
        chain.app.client.get(f"accounts({one.id})?$select=accountratingcode")["accountratingcode"]
        for one in (customer, by_hand)
    ]
    assert ratings == [482100000, 482100002]
    assert chain.member(by_hand).rating_override


def test_what_cannot_be_decided_is_parked_with_its_field_and_resumed_when_repaired(chain: Chain) -> None:
    customer = chain.account()
    nobodys = chain.invoice(None, "20.00")
    negative = chain.invoice(customer, "-20.00")
    zero = chain.invoice(customer, "0.00")
    chain.settle()
    rows = {record: chain.log_of(record) for record in (nobodys, negative, zero)}
    assert [(row["loy_reasonclass"], row["loy_field"]) for row in rows[nobodys]] == [("no_customer", "customerid")]
    assert [(row["loy_reasonclass"], row["loy_field"]) for row in rows[negative]] == [("negative_total", "totalamount")]
    assert [row["loy_reasonclass"] for row in rows[zero]] == [None]
    assert "zero" in rows[zero][0]["loy_message"]
    chain.change(nobodys, **{f"customerid_{customer.table}@odata.bind": f"/accounts({customer.id})"})
    parked = rows[nobodys][0]
    chain.app.client.commit([Update(f"loy_integrationlogs({parked['loy_integrationlogid']})", {"loy_resume": True})])
    wait_until(lambda: chain.member(customer).state.pending_points == 200, about="points of the repaired invoice")
    chain.settle()
    outcomes = {row["loy_outcome"] for row in chain.log_of(nobodys)}
    assert 482100003 not in outcomes


def test_an_invoice_that_moves_takes_its_points_along(chain: Chain) -> None:
    old, new = chain.account(), chain.account()
    invoice = chain.invoice(old, "30.00")
    wait_until(lambda: chain.member(old).state.pending_points == 300, about="points of the first owner")
    chain.change(invoice, **{"customerid_account@odata.bind": f"/accounts({new.id})"})
    wait_until(lambda: chain.member(new).state.pending_points == 300, about="points of the second owner")
    wait_until(lambda: chain.member(old).state.total == 0, about="nothing left with the first owner")


def test_deleted_invoices_deleted_and_merged_customers(chain: Chain) -> None:
    customer, merged, master = chain.account(), chain.account(), chain.account()
    early = chain.invoice(merged, "50.00")
    wait_until(lambda: chain.member(merged).state.pending_points == 500, about="points before the merger")
    invoice = chain.invoice(customer, "40.00")
    wait_until(lambda: chain.member(customer).state.pending_points == 400, about="points")
    chain.app.client.commit([Delete(f"invoices({invoice})")])
    wait_until(lambda: chain.member(customer).state.total == 0, about="points taken back")

    party = "Microsoft.Dynamics.CRM.account"
    chain.app.client.request(
        "POST",
        "Merge",
        {
            "Target": {"@odata.type": party, "accountid": master.id},
            "Subordinate": {"@odata.type": party, "accountid": merged.id},
            "PerformParentingChecks": False,
        },
    )
    wait_until(lambda: chain.member(master).state.pending_points == 500, about="points after the merger")
    assert OUTCOME[Outcome.APPLIED] in {row["loy_outcome"] for row in chain.log_of(early)}
    late = chain.invoice(merged, "10.00")
    chain.settle()
    assert chain.member(merged).state.total == 0
    (row,) = chain.log_of(late)
    assert (row["loy_reasonclass"], row["loy_field"]) == ("customer_merged", "customerid")
    assert master.id in row["loy_message"]


def test_what_is_no_event_and_no_change_is_logged_and_does_not_come_back(chain: Chain) -> None:
    nonsense = f"nonsense {uuid4()}"
    connection = chain.endpoints["servicebus_connection_string"]
    with ServiceBusClient.from_connection_string(connection) as bus:
        with bus.get_queue_sender("dataverse-events") as sender:
            sender.send_messages(ServiceBusMessage(nonsense))
        with bus.get_queue_sender("loyalty-changes") as sender:
            sender.send_messages(ServiceBusMessage(nonsense, session_id="nobody"))
    chain.settle()
    path = f"loy_integrationlogs?$filter=loy_reasonclass eq 'unreadable' and contains(loy_change,'{nonsense}')"
    rows = chain.app.client.get(path)
    assert sorted(row["loy_name"].split(" could")[0] for row in rows) == [
        "A message on dataverse-events",
        "A message on loyalty-changes",
    ]
    assert chain.watch.progress().dead == 0


@pytest.mark.timeout(300)
def test_killed_processes_lose_nothing_and_do_nothing_twice(chain: Chain) -> None:
    """SIGKILL for each process of the stack while purchases flow; the seed is printed when it fails."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    customers = [chain.account() for _ in range(6)]
    victims = ["functions", "dataverse", "servicebus", "entra", "functions"]
    chance.shuffle(victims)
    expected = dict.fromkeys(customers, 0)
    for victim in victims:
        for customer in customers:
            amount = chance.randrange(1, 20)
            chain.change(chain.invoice(customer, str(amount)), **PAID)
            expected[customer] += 10 * amount
        before = chain.stack.pids[victim]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda victim=victim, before=before: chain.stack.pids[victim] != before, about=f"{victim} again")
    wait_until(
        lambda: {customer: chain.balance(customer) for customer in customers} == expected,
        timeout=180,  # what a killed host had locked comes back when its lock ends, after a minute
        about=f"balances {expected}",
    )
    chain.settle()
    report = Audit(chain.app.client, read_program(chain.app.client, "CJ"), chain.app.now()).run()
    assert not [v for v in report.violations if any(str(c) in v for c in customers)]
