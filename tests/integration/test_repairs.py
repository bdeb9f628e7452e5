"""The repairs on the whole stack: by their timers, and by the command as an administrator runs it."""

import os
import subprocess
import sys

import requests
from azure.servicebus import ServiceBusClient

from connector.bus import Change, ChangeSender, Subject
from connector.dead_letters import DeadLetters
from tests.integration.conftest import Chain
from tests.integration.test_chores import run_timer
from tests.stack import ROOT, clean_environment, wait_until


def command(chain: Chain, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(**chain.endpoints["settings"], PATH=os.environ["PATH"])
    words = [sys.executable, "-m", "connector", *arguments]
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def lose_events(chain: Chain, rate: float) -> None:
    url = chain.endpoints["dataverse_counters_url"].replace("/counters", "/faults")
    answer = requests.post(url, json={"event_lost": rate}, verify=chain.endpoints["ca_file"], timeout=30)
    answer.raise_for_status()


def test_a_lost_event_is_found_by_the_timer_of_the_sweep(chain: Chain) -> None:
    customer = chain.account()
    lose_events(chain, 1.0)
    try:
        invoice = chain.invoice(customer, "12.00")
        chain.settle()
    finally:
        lose_events(chain, 0.0)
    assert chain.member(customer).state.sequence == 0
    shown = command(chain, "replay", "--invoice", invoice, "--dry-run")
    assert (shown.returncode, shown.stdout.splitlines()[-1]) == (0, "1 differences"), shown.stderr
    run_timer(chain, "SweepChanges")
    wait_until(lambda: chain.member(customer).state.pending_points == 120, about="points of the lost event")
    chain.settle()
    (row,) = chain.log_of(invoice)
    assert row["loy_points"] == 120


def test_dead_letters_are_sent_again_by_their_timer_and_the_figures_are_measured(chain: Chain) -> None:
    customer = chain.account()
    lose_events(chain, 1.0)
    try:
        invoice = chain.invoice(customer, "7.00")
        chain.settle()
    finally:
        lose_events(chain, 0.0)
    change = Change.about(Subject.INVOICE, invoice, str(customer), cause="dead")
    connection = chain.endpoints["servicebus_connection_string"]
    with ServiceBusClient.from_connection_string(connection) as bus:
        # The session is ours before the app can have it.
        with bus.get_queue_receiver("loyalty-changes", session_id=str(customer)) as receiver:
            ChangeSender(bus, "loyalty-changes").send([change])
            (message,) = receiver.receive_messages(1, max_wait_time=10)
            receiver.dead_letter_message(message, "MaxDeliveryCountExceeded", "gone")
        letters = DeadLetters(bus, chain.app.client, chain.app.listener, chain.app.settings, chain.app.now)
        assert [letter.session for letter in letters.waiting()] == [str(customer)]
        figures = command(chain, "status")
        assert "loyalty.dead_letters                          1  loyalty-changes" in figures.stdout, figures
        run_timer(chain, "ResubmitDeadLetters")
        wait_until(lambda: chain.member(customer).state.pending_points == 70, about="points of the dead letter")
        assert not list(letters.waiting())
    run_timer(chain, "Measure")
    wait_until(lambda: "loyalty.oldest_event.seconds" in chain.stack.log("functions"), about="the figures in the log")
    assert f"record=invoice:{invoice}] applied after" in chain.stack.log("functions")
