"""Dead letters go back in order when Dataverse answers, and end in the log when that does not help."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage, ServiceBusReceivedMessage
from azure.servicebus.exceptions import MessageSizeExceededError

from connector import dead_letters
from connector.bus import Change, ChangeSender, Subject
from connector.dataverse import Delete, Transient, Update
from connector.dead_letters import DeadLetters
from connector.identity import Customer
from connector.loyalty.decisions import Outcome
from connector.rows.choices import DEAD_LETTERED, OUTCOME
from connector.rows.log import log_path
from connector.watch import Watch
from connector.watch import dead_letters as watched
from local.servicebus.broker import Broker
from tests.console import Console, settings
from tests.integration.test_audit import customer_with_points
from tests.integration.test_parking import customer_with_invoice, log_of
from tests.office import Office
from tests.servicebus.broker import client, queues, together

EVENTS, CHANGES = "dataverse-events", "loyalty-changes"
PATIENCE = 20  # seconds for what is there to arrive; opening a link counts
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.close()


@pytest.fixture
def bus() -> Iterator[ServiceBusClient]:
    config = queues(**{EVENTS: {}, CHANGES: {"RequiresSession": True}})
    with Broker(config) as broker, client(broker) as connected:
        yield connected


@pytest.fixture
def round_of(bus: ServiceBusClient, office: Office) -> Callable[[], dead_letters.Round]:
    """One round, a second later than the last."""
    now = datetime.now(UTC)

    def clock() -> datetime:
        nonlocal now
        now += timedelta(seconds=1)
        return now

    return DeadLetters(bus, office.client, office.listener, settings(), clock).resubmit


def change(customer: Customer, number: int) -> Change:
    return Change.about(Subject.INVOICE, str(uuid4()), str(customer), cause=f"{number}", correlation_id=str(uuid4()))


def fail(bus: ServiceBusClient, queue: str, count: int, reason: str = "MaxDeliveryCountExceeded") -> list[Any]:
    """Dead-letter what is on the queue, as the service does after the last delivery; answers with the bodies."""
    bodies = []
    while len(bodies) < count:
        session = {"session_id": NEXT_AVAILABLE_SESSION} if queue == CHANGES else {}
        with bus.get_queue_receiver(queue, **session) as receiver:
            for message in receiver.receive_messages(count, max_wait_time=PATIENCE):
                bodies.append(str(message))
                receiver.dead_letter_message(message, reason, "it failed with SharedAccessKey=hush")
    return bodies


def test_they_are_sent_again_in_the_order_of_each_customer(
    bus: ServiceBusClient, office: Office, round_of: Callable[[], dead_letters.Round]
) -> None:
    customers = [Customer("account", str(uuid4())) for _ in range(2)]
    sent = [change(customers[number % 2], number) for number in range(6)]
    ChangeSender(bus, CHANGES).send(sent)
    fail(bus, CHANGES, 6)
    done = round_of()
    assert (done.sent, done.parked) == (6, 0)
    for customer in customers:
        with bus.get_queue_receiver(CHANGES, session_id=str(customer)) as receiver:
            expected = [one for one in sent if one.customer == str(customer)]
            back: list[Change] = []
            while len(back) < len(expected):
                back += [
                    Change.parse(str(message)) for message in receiver.receive_messages(10, max_wait_time=PATIENCE)
                ]
        assert back == expected
    (row,) = office.client.get(
        "loy_integrationlogs?$filter=loy_operation eq 'dead letters'&$orderby=createdon desc&$top=1"
    )
    assert row["loy_name"] == f"Dead letters: 6 sent again (6 from {CHANGES})."


def test_a_dead_event_and_dead_changes_of_a_customer_go_in_the_order_in_which_they_came(
    bus: ServiceBusClient, office: Office, round_of: Callable[[], dead_letters.Round]
) -> None:
    customer, invoice = customer_with_invoice(office, "10")
    (event,) = (event for event in office.events() if invoice.encode() in event)
    before, after = change(customer, 1), change(customer, 2)
    ChangeSender(bus, CHANGES).send([before])
    with bus.get_queue_sender(EVENTS) as sender:
        sender.send_messages(ServiceBusMessage(event))
    ChangeSender(bus, CHANGES).send([after])
    # The younger change was buried first.
    with bus.get_queue_receiver(CHANGES, session_id=str(customer)) as receiver:
        messages = list[ServiceBusReceivedMessage]()
        while len(messages) < 2:
            messages += receiver.receive_messages(2 - len(messages), max_wait_time=PATIENCE)
        for message in reversed(messages):
            receiver.dead_letter_message(message, "MaxDeliveryCountExceeded", "it failed")
    fail(bus, EVENTS, 1)
    done = round_of()
    assert (done.sent, done.by_queue) == (3, {EVENTS: 1, CHANGES: 2})
    with bus.get_queue_receiver(CHANGES, session_id=str(customer)) as receiver:
        back = list[ServiceBusReceivedMessage]()
        while len(back) < 3:
            back += receiver.receive_messages(3 - len(back), max_wait_time=PATIENCE)
    assert [Change.parse(str(message)).row for message in back] == [before.row, invoice, after.row]
    properties: list[Any] = [message.application_properties for message in back]
    assert {found[b"LoyaltyRound"] for found in properties} == {1}
    assert not list(watched(bus, EVENTS)) + list(watched(bus, CHANGES))


def test_their_order_stays_through_rounds(
    bus: ServiceBusClient, office: Office, round_of: Callable[[], dead_letters.Round]
) -> None:
    customer, invoice = customer_with_invoice(office, "10")
    (event,) = (event for event in office.events() if invoice.encode() in event)
    with bus.get_queue_sender(EVENTS) as sender:
        sender.send_messages(ServiceBusMessage(event))
    younger = change(customer, 1)
    ChangeSender(bus, CHANGES).send([younger])
    # The older fails a first time, is sent again behind the younger, and both fail.
    fail(bus, EVENTS, 1)
    assert round_of().sent == 1
    fail(bus, CHANGES, 2)
    assert round_of().sent == 2
    with bus.get_queue_receiver(CHANGES, session_id=str(customer)) as receiver:
        back = list[Any]()
        while len(back) < 2:
            back += receiver.receive_messages(2 - len(back), max_wait_time=PATIENCE)
    assert [Change.parse(str(message)).row for message in back] == [invoice, younger.row]
    assert [message.application_properties[b"LoyaltyRound"] for message in back] == [2, 1]


@pytest.mark.parametrize("nonsense", ["yesterday", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", 7])
def test_a_time_that_somebody_made_up_is_not_believed(nonsense: object) -> None:
    came = datetime(2026, 1, 2, tzinfo=UTC)
    message: Any = SimpleNamespace(
        application_properties={"LoyaltyCameOn": nonsense, "LoyaltyRound": 1}, enqueued_time_utc=came
    )
    assert dead_letters._came_on(message) == came


def test_a_round_that_breaks_off_is_taken_up_by_the_next(
    bus: ServiceBusClient,
    office: Office,
    round_of: Callable[[], dead_letters.Round],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    customer = Customer("account", str(uuid4()))
    sent = [change(customer, number) for number in range(3)]
    ChangeSender(bus, CHANGES).send(sent)
    fail(bus, CHANGES, 3)
    commit, calls = office.client.commit, []

    def breaks_off(writes: Any, **options: Any) -> Any:
        calls.append(writes)
        if len(calls) == 2:
            raise Transient("no answer", status=503)
        return commit(writes, **options)

    monkeypatch.setattr(office.client, "commit", breaks_off)
    with pytest.raises(Transient):
        round_of()
    assert [Change.parse(str(message)) for message in watched(bus, CHANGES)] == sent[1:]
    assert round_of().sent == 2
    with bus.get_queue_receiver(CHANGES, session_id=str(customer)) as receiver:
        back: list[Change] = []
        while len(back) < 3:
            back += [Change.parse(str(m)) for m in receiver.receive_messages(3 - len(back), max_wait_time=PATIENCE)]
    assert back == sent


def test_what_cannot_even_be_looked_at_ends_in_the_log_and_holds_nobody_up(
    bus: ServiceBusClient,
    office: Office,
    round_of: Callable[[], dead_letters.Round],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dead_letters, "ROUNDS", 0)
    monkeypatch.setattr(office.listener, "read", lambda *_, **__: {}["a fault of ours"])
    with bus.get_queue_sender(EVENTS) as sender:
        sender.send_messages(ServiceBusMessage(b"a fault"))
    behind = change(Customer("account", NOBODY), 1)
    ChangeSender(bus, CHANGES).send([behind])
    fail(bus, EVENTS, 1)
    fail(bus, CHANGES, 1)
    assert round_of().parked == 2
    (row,) = office.client.get(
        "loy_integrationlogs?$filter=loy_reasonclass eq 'unreadable' and loy_change eq 'a fault'"
    )
    assert "KeyError" in row["loy_message"]
    rows = [f"loy_integrationlogs({row['loy_integrationlogid']})", log_path(behind.id)]
    office.client.commit([Delete(path) for path in rows])


def test_what_cannot_be_looked_at_this_time_is_tried_again_and_not_parked(
    bus: ServiceBusClient,
    office: Office,
    round_of: Callable[[], dead_letters.Round],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(office.listener, "read", lambda *_, **__: {}["a fault of ours"])
    with bus.get_queue_sender(EVENTS) as sender:
        sender.send_messages(ServiceBusMessage(b"a fault that is mended soon"))
    fail(bus, EVENTS, 1)
    done = round_of()
    assert (done.sent, done.parked) == (1, 0)
    assert office.client.get("loy_integrationlogs?$filter=loy_change eq 'a fault that is mended soon'") == []


def test_a_message_that_cannot_be_sent_stays_and_holds_nobody_up(
    bus: ServiceBusClient,
    office: Office,
    round_of: Callable[[], dead_letters.Round],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One is as large as a message may be, another says nonsense about how often it was sent."""
    with bus.get_queue_sender(EVENTS) as sender:
        sender.send_messages(ServiceBusMessage(b"large"))
        sender.send_messages(ServiceBusMessage(b"strange", application_properties={"LoyaltyRound": "many"}))
    behind = change(Customer("account", str(uuid4())), 1)
    ChangeSender(bus, CHANGES).send([behind])
    fail(bus, EVENTS, 2)
    fail(bus, CHANGES, 1)
    copy = dead_letters._copy

    def no_room(message: ServiceBusReceivedMessage, more: Any) -> ServiceBusMessage:
        if str(message) == "large":
            raise MessageSizeExceededError
        return copy(message, more)

    monkeypatch.setattr(dead_letters, "_copy", no_room)
    letters = DeadLetters(bus, office.client, office.listener, settings(), lambda: datetime.now(UTC))
    assert {letter.round for letter in letters.waiting()} == {0}
    assert round_of().by_queue == {EVENTS: 1, CHANGES: 1}
    assert [str(message) for message in watched(bus, EVENTS)] == ["large"]
    assert not list(watched(bus, CHANGES))


def test_what_fails_again_and_again_is_parked_and_can_be_resumed(
    bus: ServiceBusClient,
    office: Office,
    round_of: Callable[[], dead_letters.Round],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dead_letters, "ROUNDS", 1)
    customer, invoice = customer_with_invoice(office, "10")
    (event,) = (event for event in office.events() if invoice.encode() in event)
    hint = Change.about(Subject.INVOICE, invoice, str(customer), cause="test")
    ChangeSender(bus, CHANGES).send([hint])
    with bus.get_queue_sender(EVENTS) as sender:
        sender.send_messages(ServiceBusMessage(event, application_properties={"MessageMaxSizeExceeded": "false"}))
        sender.send_messages(ServiceBusMessage(b"nonsense"))
    together(lambda: fail(bus, CHANGES, 1), lambda: fail(bus, EVENTS, 2))
    assert (round_of().sent, round_of().sent) == (3, 0)  # they are on their queues, not dead
    waiting = log_of(office, invoice)
    assert {(row["loy_outcome"], row["loy_reasonclass"]) for row in waiting} == {(DEAD_LETTERED, "dead_letter")}
    assert all(row["loy_change"] and row["loy_said"] for row in waiting)
    # The change that the event led to is behind the other by now.
    together(lambda: fail(bus, CHANGES, 2), lambda: fail(bus, EVENTS, 1))
    assert (done := round_of()).parked == 3, done
    assert "3 failed" in str(done)

    rows = log_of(office, invoice)
    assert {(row["loy_outcome"], row["loy_reasonclass"]) for row in rows} == {(OUTCOME[Outcome.PARKED], "failed_again")}
    assert "MaxDeliveryCountExceeded" in rows[0]["loy_message"]
    assert "hush" not in str(rows)
    unreadable = office.client.get("loy_integrationlogs?$filter=loy_reasonclass eq 'unreadable'")
    assert [row["loy_change"] for row in unreadable] == ["nonsense"]

    console = Console(office)
    console.run("resume", "--reason", "failed_again")
    assert len(console.sent) == 2  # the change itself, and the one that the event led to
    console.apply()
    outcomes = [row["loy_outcome"] for row in log_of(office, invoice)]
    assert OUTCOME[Outcome.APPLIED] in outcomes
    assert OUTCOME[Outcome.PARKED] not in outcomes


def test_nothing_is_tried_while_dataverse_is_away_and_the_command_shows_what_waits(
    bus: ServiceBusClient, office: Office
) -> None:
    ChangeSender(bus, CHANGES).send([change(Customer("account", NOBODY), 1)])
    fail(bus, CHANGES, 1)

    def away(*_: Any, **__: Any) -> None:
        raise Transient("no answer", status=503)

    letters = DeadLetters(bus, SimpleNamespace(request=away), office.listener, settings(), lambda: datetime.now(UTC))  # type: ignore[arg-type]
    console = Console(office, dead_letters=letters)
    assert console.run("dead-letters", "--resubmit") == 2
    assert "they wait" in console.output
    assert console.run("dead-letters") == 1
    line, count = console.output.splitlines()
    assert (line.split()[0], line.split()[3]) == (CHANGES, f"account:{NOBODY}:")
    assert "hush" not in line
    assert count == "1 dead letters"
    console = Console(
        office, dead_letters=DeadLetters(bus, office.client, office.listener, settings(), lambda: datetime.now(UTC))
    )
    assert console.run("dead-letters", "--resubmit") == 0
    assert console.output == f"Dead letters: 1 sent again (1 from {CHANGES}).\n"


def test_the_figures_of_the_watch(bus: ServiceBusClient, office: Office) -> None:
    customer_with_invoice(office, "-10")
    office.work(office.events())
    ChangeSender(bus, CHANGES).send([change(Customer("account", NOBODY), 1)])
    fail(bus, CHANGES, 1)
    with bus.get_queue_sender(EVENTS) as sender:
        sender.send_messages(ServiceBusMessage(b"{}"))
    later = datetime.now(UTC) + timedelta(minutes=5)
    watch = Watch(office.client, bus, settings(), lambda: later)
    member = f"loy_memberships({customer_with_points(office).membership_id})"
    due = (later - timedelta(days=2)).date()
    assert watch.measure().mirror_overdue == 0
    office.client.commit([Update(member, {"loy_nextreviewon": later.date()})])
    assert watch.measure().mirror_overdue == 0  # due today: the night's review is still to come or under way
    office.client.commit([Update(member, {"loy_nextreviewon": due})])
    figures = watch.measure()
    midnight = datetime.combine(due, datetime.min.time(), UTC)
    assert figures.mirror_overdue == (later - midnight).total_seconds()
    assert figures.parked["negative_total"] == 1
    assert figures.dead_letters == {EVENTS: 0, CHANGES: 1}
    assert 290 < figures.oldest_event < 310
    assert figures.oldest_wish == 0
    assert figures.sweep_age
    assert figures.sweep_age >= 290  # no sweep yet: since the programme was made
    names = {name for name, _, _ in figures.flat()}
    assert {"loyalty.parked", "loyalty.dead_letters", "loyalty.oldest_event.seconds"} <= names
    console = Console(office, watch=SimpleNamespace(measure=lambda: figures))
    assert console.run("status") == 1
    marked = {line.split()[1] for line in console.output.splitlines() if line.startswith("!")}
    assert marked == {"loyalty.dead_letters", "loyalty.mirror.overdue.seconds", "loyalty.parked"}
    calm = replace(figures, parked=Counter(), dead_letters={EVENTS: 0, CHANGES: 0}, mirror_overdue=0.0)
    console = Console(office, watch=SimpleNamespace(measure=lambda: calm))
    assert console.run("status") == 0
    assert "!" not in console.output
