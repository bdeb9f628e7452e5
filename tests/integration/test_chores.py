"""Timers: notices are sent once, what waits is picked up, reviews that are due are started."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests
from azure.servicebus import ServiceBusClient

from connector.bus import Change, Subject
from connector.chores import Chores
from connector.dataverse import Create, Update
from connector.mass import MassJobs, Order
from connector.rows import ledger
from connector.rows.choices import BulkKind, NoticeStatus
from connector.rows.programs import Programs
from tests.integration.conftest import PAID, Chain
from tests.integration.test_parking import customer_with_invoice
from tests.office import Office
from tests.stack import wait_until


def run_timer(chain: Chain, name: str) -> None:
    """As an administrator does it: the host's own admin endpoint."""
    url = f"{chain.endpoints['functions_admin_url']}/functions/{name}"
    headers = {"x-functions-key": chain.endpoints["master_key"]}
    assert requests.post(url, json={"input": ""}, headers=headers, timeout=30).status_code == 202


def test_a_redemption_is_noticed_once(chain: Chain) -> None:
    customer = chain.with_points(300)
    made = chain.post("redemptions", {"customer": str(customer), "points": 120}, f"notice-{uuid4()}").json()
    cause = f"redemption:{made['id']}"
    found: list[dict[str, Any]] = []
    connection = chain.endpoints["servicebus_connection_string"]
    with (
        ServiceBusClient.from_connection_string(connection) as bus,
        bus.get_queue_receiver("loyalty-notices", max_wait_time=1) as receiver,
    ):

        def notices() -> list[dict[str, Any]]:
            run_timer(chain, "SendNotices")
            for message in receiver.receive_messages(100, max_wait_time=1):
                body = json.loads(str(message))
                assert message.message_id == body["entry"]
                receiver.complete_message(message)
                if body["cause"] == cause:
                    found.append(body)
            return found

        wait_until(notices, about="the notice")
        notices()
    assert [(n["kind"], n["points"], n["customer"], n["balance"]) for n in found] == [
        ("redeem", -120, str(customer), 180)
    ]
    path = f"loy_entries?$select=loy_noticestatus&$filter=loy_idempotencykey eq '{cause}'"
    assert [row["loy_noticestatus"] for row in chain.app.client.get(path)] == [NoticeStatus.SENT.value]


def test_a_redemption_whose_event_was_lost_is_picked_up(tmp_path: Path) -> None:
    moment = [datetime.now(UTC)]
    office = Office(tmp_path, clock=lambda: moment[0])
    try:
        customer, invoice = customer_with_invoice(office, "10")
        office.client.commit([Update(f"invoices({invoice})", PAID)])
        office.work(office.events())
        wish = str(uuid4())
        bind = {"loy_CustomerId_account@odata.bind": f"/accounts({customer.id})"}
        row = {"loy_redemptionid": wish, "loy_requestid": wish, "loy_name": "R", "loy_points": 100, **bind}
        office.client.commit([Create("loy_redemptions", row)])
        assert office.events()  # taken out of the outbox: lost

        chores = Chores(office.client, office.sent.extend, office.now)
        assert chores.pick_up_waiting() == 0  # its event may still come
        moment[0] += timedelta(minutes=5)
        assert chores.pick_up_waiting() == 1
        assert [(change.subject, change.row, change.customer, change.correlation_id) for change in office.sent] == [
            (Subject.REDEMPTION, wish, str(customer), wish)
        ]
        office.work([])
        assert office.client.get(f"loy_redemptions({wish})?$select=loy_transactioncode")["loy_transactioncode"]
        assert chores.pick_up_waiting() == 0
    finally:
        office.close()


def test_a_resume_whose_event_was_lost_is_picked_up(tmp_path: Path) -> None:
    moment = [datetime.now(UTC)]
    office = Office(tmp_path, clock=lambda: moment[0])
    try:
        nobody = str(uuid4())
        office.work([])
        office.sent.append(Change.about(Subject.REVIEW, nobody, None, cause="test"))
        office.work([])
        path = f"loy_integrationlogs?$select=loy_resume&$filter=loy_recordid eq '{nobody}'"
        (log,) = office.client.get(path)
        office.client.commit([Update(f"loy_integrationlogs({log['loy_integrationlogid']})", {"loy_resume": True})])
        assert office.events()  # lost
        chores = Chores(office.client, office.sent.extend, office.now)
        assert chores.pick_up_waiting() == 0
        moment[0] += timedelta(minutes=5)
        assert chores.pick_up_waiting() == 1
        assert [(change.row, change.resumed, change.check) for change in office.sent] == [(nobody, True, False)]
        office.work([])
        assert [row["loy_resume"] for row in office.client.get(path)] == [False]
        assert chores.pick_up_waiting() == 0
    finally:
        office.close()


def test_points_expire_in_the_review_that_is_due(tmp_path: Path) -> None:
    moment = [datetime.now(UTC)]
    office = Office(tmp_path, clock=lambda: moment[0])
    try:
        customer, invoice = customer_with_invoice(office, "10")
        office.client.commit([Update(f"invoices({invoice})", PAID)])
        office.work(office.events())
        jobs = MassJobs([office.client], Programs(office.client, "CJ"), office.sent.extend, [].extend, office.now)
        assert jobs.work(jobs.start_nightly()).totals.selected == 0
        moment[0] += timedelta(days=400)  # points live for twelve months, to the end of the month
        assert jobs.work(jobs.start_nightly()).totals.done == 1
        assert jobs.work(jobs.start_nightly()).totals.done == 1  # the same run
        member = office.client.get(ledger.membership_path(customer))
        assert ledger.membership_of(customer, member).state.balance == 0
        account = office.client.get(f"accounts({customer.id})?$select=loy_pointsbalance,loy_expiringpoints")
        assert (account["loy_pointsbalance"], account["loy_expiringpoints"]) == (0, 0)
        assert jobs.work(jobs.start(Order(BulkKind.REVIEW, moment[0].date()))).totals.selected == 0
        again = Change.about(Subject.REVIEW, customer.membership_id, str(customer), cause="again")
        assert office.processor.process(again).message == "Review: nothing was due."
    finally:
        office.close()
