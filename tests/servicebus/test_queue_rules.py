"""A plain queue's rules, on the model alone."""

from datetime import timedelta

import pytest

from local.servicebus.model.errors import ArgumentError, MessageLockLost, MessageNotFound, NotAllowed, NotFound
from local.servicebus.model.message import MessageState, Outcome
from local.servicebus.model.settings import QueueSettings
from local.servicebus.model.world import Failure
from tests.servicebus.model import START, Note, Reader, World, draft, text, token

LOCK = timedelta(seconds=30)


def world(**settings: object) -> World:
    return World({"q": QueueSettings(lock_duration=LOCK, **settings)})  # type: ignore[arg-type]


def test_messages_go_out_in_order_and_only_as_far_as_credit_goes() -> None:
    queue = world().queue("q")
    queue.send([draft(str(n)) for n in range(5)])
    assert Reader().ask(queue, 3).texts == ["0", "1", "2"]
    assert queue.statistics()["active"] == 2
    assert queue.statistics()["locked"] == 3


def test_a_waiting_consumer_gets_a_message_when_it_comes() -> None:
    queue = world().queue("q")
    reader = Reader().ask(queue, 2)
    queue.send([draft("a")])
    assert reader.texts == ["a"]


def test_consumers_take_turns() -> None:
    queue = world().queue("q")
    first, second = Reader().ask(queue, 5), Reader().ask(queue, 5)
    queue.send([draft(str(n)) for n in range(4)])
    assert (first.texts, second.texts) == (["0", "2"], ["1", "3"])


def test_a_consumer_that_left_gets_nothing_but_its_locks_stand() -> None:
    queue = world().queue("q")
    reader = Reader().ask(queue, 2)
    queue.send([draft("a")])
    queue.withdraw(reader)
    queue.send([draft("b")])
    assert reader.texts == ["a"]
    queue.settle(token(reader.got[0]), Outcome.COMPLETE)
    assert queue.statistics()["active"] == 1


def test_an_abandoned_message_returns_to_its_place_with_its_count() -> None:
    queue = world().queue("q")
    queue.send([draft("a"), draft("b")])
    first = Reader().ask(queue, 1).got[0]
    queue.settle(token(first), Outcome.ABANDON, {"why": "busy"})
    again = Reader().ask(queue, 2)
    assert again.texts == ["a", "b"]
    assert again.got[0].delivery_count == 1
    assert again.got[0].content.application_values() == {"why": "busy"}


def test_a_released_message_keeps_its_count() -> None:
    queue = world().queue("q")
    queue.send([draft("a")])
    queue.settle(token(Reader().ask(queue, 1).got[0]), Outcome.RELEASE)
    assert Reader().ask(queue, 1).got[0].delivery_count == 0


def test_a_lock_expires_at_its_time_not_before() -> None:
    w = world()
    queue = w.queue("q")
    queue.send([draft("a")])
    lost = token(Reader().ask(queue, 1).got[0])
    w.pass_time(seconds=29.999)
    assert queue.statistics()["locked"] == 1
    w.pass_time(seconds=0.001)
    assert Reader().ask(queue, 1).got[0].delivery_count == 1
    with pytest.raises(MessageLockLost):
        queue.settle(lost, Outcome.COMPLETE)
    with pytest.raises(MessageLockLost):
        queue.renew(lost)


def test_a_renewed_lock_lasts_from_the_renewal() -> None:
    w = world()
    queue = w.queue("q")
    queue.send([draft("a")])
    message = Reader().ask(queue, 1).got[0]
    w.pass_time(seconds=20)
    assert queue.renew(token(message)) == START + timedelta(seconds=50)
    w.pass_time(seconds=29)
    assert message.lock is not None
    w.pass_time(seconds=1)
    assert message.lock is None


@pytest.mark.parametrize("outcome", [Outcome.ABANDON, Outcome.DEFER, Outcome.EXPIRE])
def test_too_many_failed_deliveries_end_in_the_dead_letter_queue(outcome: Outcome) -> None:
    queue = world(max_delivery_count=2).queue("q")
    queue.send([draft("a", message_id="m1", session_id="s")])
    for _ in range(2):
        message = Reader().ask(queue, 1)
        if not message.got:
            message.got = queue.receive_deferred([1], peek_locks=True)
        queue.settle(token(message.got[0]), outcome)
    buried = Reader().ask(queue.dead_letters, 1).got[0]  # type: ignore[arg-type]
    assert buried.content.application_values()["DeadLetterReason"] == "MaxDeliveryCountExceeded"
    assert (buried.dead_letter_source, buried.message_id, buried.session_id) == ("q", "m1", "s")
    assert len(queue) == 0


def test_dead_lettering_names_reason_description_and_further_properties() -> None:
    w = world()
    queue, dead = w.queue("q"), w.queue("Q/$deadletterqueue")
    queue.send([draft("a")])
    message = Reader().ask(queue, 1).got[0]
    queue.settle(token(message), Outcome.DEAD_LETTER, {"seen": 1}, Failure("bad", "no customer"))
    buried = Reader().ask(dead, 1).got[0]
    assert buried.content.application_values() == {
        "seen": 1,
        "DeadLetterReason": "bad",
        "DeadLetterErrorDescription": "no customer",
    }
    with pytest.raises(NotAllowed):
        dead.settle(token(buried), Outcome.DEAD_LETTER)
    for _ in range(30):  # no limit of deliveries here
        buried = buried if buried.lock else Reader().ask(dead, 1).got[0]
        dead.settle(token(buried), Outcome.ABANDON)
    assert len(dead) == 1


def test_a_deferred_message_is_fetched_by_number_only() -> None:
    queue = world().queue("q")
    queue.send([draft("a"), draft("b")])
    message = Reader().ask(queue, 1).got[0]
    queue.settle(token(message), Outcome.DEFER)
    assert Reader().ask(queue, 5).texts == ["b"]
    with pytest.raises(MessageNotFound):
        queue.receive_deferred([1, 2], peek_locks=True)  # 2 is not deferred: neither is locked
    fetched = queue.receive_deferred([1], peek_locks=True)[0]
    assert fetched.delivery_count == 1
    with pytest.raises(MessageNotFound):
        queue.receive_deferred([1], peek_locks=True)
    queue.settle(token(fetched), Outcome.ABANDON)
    assert queue.statistics()["deferred"] == 1
    assert text(queue.receive_deferred([1], peek_locks=False)[0]) == "a"
    assert queue.statistics()["deferred"] == 0


def test_receive_and_delete_leaves_nothing() -> None:
    queue = world().queue("q")
    queue.send([draft("a")])
    assert Reader(peek_locks=False).ask(queue, 1).got[0].lock is None
    assert len(queue) == 0


def test_scheduled_messages_wait_and_can_be_cancelled() -> None:
    w = world()
    queue = w.queue("q")
    at = START + timedelta(minutes=1)
    numbers = queue.send([draft("x", scheduled_for=at), draft("y", scheduled_for=at)])
    assert [message.state for message in queue.peek(1, 9)] == [MessageState.SCHEDULED] * 2
    with pytest.raises(MessageNotFound):
        queue.cancel([numbers[0], 99])
    queue.cancel(numbers[:1])
    reader = Reader().ask(queue, 2)
    w.pass_time(seconds=59)
    assert reader.texts == []
    w.pass_time(seconds=1)
    assert reader.texts == ["y"]
    assert reader.got[0].enqueued_at == at
    with pytest.raises(MessageNotFound):
        queue.cancel(numbers[1:])


@pytest.mark.parametrize("buried", [False, True])
def test_time_to_live(buried: bool) -> None:
    w = world(default_ttl=timedelta(minutes=1), dead_letter_on_expiration=buried)
    queue = w.queue("q")
    queue.send([draft("short", ttl=timedelta(seconds=10)), draft("long", ttl=timedelta(hours=1))])
    w.pass_time(seconds=10)
    assert [text(message) for message in queue.peek(1, 9)] == ["long"]
    w.pass_time(seconds=50)
    assert len(queue) == 0
    assert queue.dead_letters is not None
    graves = queue.dead_letters.peek(1, 9)
    assert [text(message) for message in graves] == (["short", "long"] if buried else [])
    assert {message.content.application_values()["DeadLetterReason"] for message in graves} <= {"TTLExpiredException"}


def test_a_locked_message_expires_when_its_lock_ends() -> None:
    w = world()
    queue = w.queue("q")
    queue.send([draft("a", ttl=timedelta(seconds=5))])
    message = Reader().ask(queue, 1).got[0]
    w.pass_time(seconds=10)
    assert len(queue) == 1
    queue.settle(token(message), Outcome.ABANDON)
    assert len(queue) == 0


def test_duplicates_are_dropped_within_the_window_even_after_completion() -> None:
    w = world(duplicate_window=timedelta(minutes=1))
    queue = w.queue("q")
    queue.send([draft("a", message_id="m")])
    queue.settle(token(Reader().ask(queue, 1).got[0]), Outcome.COMPLETE)
    w.pass_time(seconds=59)
    queue.send([draft("b", message_id="m"), draft("c", message_id="n")])
    assert [text(message) for message in queue.peek(1, 9)] == ["c"]
    w.pass_time(seconds=1)
    queue.send([draft("d", message_id="m")])
    assert [text(message) for message in queue.peek(1, 9)] == ["c", "d"]


def test_a_batch_is_taken_whole_or_not_at_all() -> None:
    queue = world().queue("q")
    with pytest.raises(ArgumentError, match="message id has 129 characters"):
        queue.send([draft("a"), draft("b", message_id="x" * 129)])
    assert len(queue) == 0


def test_peek_goes_by_number_and_sees_every_state() -> None:
    queue = world().queue("q")
    queue.send([draft(str(n)) for n in range(300)])
    Reader().ask(queue, 2)
    assert [message.sequence for message in queue.peek(2, 3)] == [2, 3, 4]
    assert len(queue.peek(1, 1000)) == 250


def test_forwarding_moves_messages_and_dead_letters() -> None:
    w = World(
        {
            "in": QueueSettings(forward_to="work"),
            "work": QueueSettings(max_delivery_count=1, forward_dead_letters_to="graves"),
            "graves": QueueSettings(),
        }
    )
    w.queue("in").send([draft("a")])
    work = w.queue("work")
    work.settle(token(Reader().ask(work, 1).got[0]), Outcome.ABANDON)
    found = w.queue("graves").peek(1, 9)
    assert [text(message) for message in found] == ["a"]
    assert found[0].content.application_values()["DeadLetterReason"] == "MaxDeliveryCountExceeded"


def test_what_cannot_be_forwarded_is_kept_with_the_reason() -> None:
    circle = {f"q{n}": QueueSettings(forward_to=f"q{(n + 1) % 3}") for n in range(3)}
    w = World({"to-sessions": QueueSettings(forward_to="s"), "s": QueueSettings(requires_session=True), **circle})
    for name in ("to-sessions", "q0"):
        w.queue(name).send([draft("a")])
    (kept,) = w.queue("to-sessions/$Transfer/$DeadLetterQueue").peek(1, 9)
    assert "SessionId" in kept.content.application_values()["DeadLetterErrorDescription"]
    assert sum(len(w.queue(f"q{n}/$transfer/$deadletterqueue")) for n in range(3)) == 1


def test_unknown_entities_are_named() -> None:
    with pytest.raises(NotFound, match="nowhere"):
        World().queue("nowhere")
    assert isinstance(draft("x").content, Note)
