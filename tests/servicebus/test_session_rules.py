"""The rules of a queue with sessions, on the model alone."""

from datetime import timedelta

import pytest

from local.servicebus.model.errors import AcceptTimeout, NotAllowed, SessionCannotBeLocked, SessionLockLost
from local.servicebus.model.message import Outcome
from local.servicebus.model.sessions import SessionQueue
from local.servicebus.model.settings import QueueSettings
from tests.servicebus.model import Reader, World, draft, text, token

LOCK = timedelta(seconds=30)


def session_world(**settings: object) -> tuple[World, SessionQueue]:
    world = World({"q": QueueSettings(lock_duration=LOCK, requires_session=True, **settings)})  # type: ignore[arg-type]
    queue = world.queue("q")
    assert isinstance(queue, SessionQueue)
    return world, queue


def fill(queue: SessionQueue, *sessions: str) -> None:
    queue.send([draft(f"{session}{n}", session_id=session) for n, session in enumerate(sessions)])


def accept(queue: SessionQueue, session_id: str | None = None, credit: int = 0, wait: float = 60) -> Reader:
    reader = Reader()
    queue.accept(reader, session_id, timedelta(seconds=wait))
    return reader.ask(queue, credit)


def test_a_message_needs_a_session() -> None:
    _, queue = session_world()
    with pytest.raises(NotAllowed):
        queue.send([draft("a", session_id="s"), draft("b")])
    assert len(queue) == 0


def test_a_holder_gets_its_session_in_order_and_nothing_else() -> None:
    _, queue = session_world()
    fill(queue, "a", "b", "a", "b")
    reader = accept(queue, credit=9)
    assert (reader.session_id, reader.texts) == ("a", ["a0", "a2"])
    assert accept(queue, credit=9).texts == ["b1", "b3"]


def test_a_new_message_goes_to_the_holder() -> None:
    _, queue = session_world()
    reader = accept(queue, "s", credit=2)
    fill(queue, "s")
    assert reader.texts == ["s0"]


def test_a_held_session_cannot_be_locked_again() -> None:
    _, queue = session_world()
    accept(queue, "s")
    assert isinstance(accept(queue, "s").refusal, SessionCannotBeLocked)


def test_an_empty_session_is_granted_by_name_but_is_not_next() -> None:
    world, queue = session_world()
    holder = accept(queue, "s")
    assert holder.session_id == "s"
    queue.set_state(queue.session("s", [holder]), b"x")
    queue.release(holder)
    waiting = accept(queue, wait=5)
    world.pass_time(seconds=4.9)
    assert waiting.refusal is None
    world.pass_time(seconds=0.1)
    assert isinstance(waiting.refusal, AcceptTimeout)


def test_those_who_wait_are_served_in_turn() -> None:
    _, queue = session_world()
    first, second = accept(queue), accept(queue)
    fill(queue, "a", "a", "b")
    assert (first.session_id, second.session_id) == ("a", "b")


def test_one_who_stopped_waiting_gets_no_session() -> None:
    world, queue = session_world()
    gone = accept(queue)
    queue.release(gone)
    fill(queue, "a")
    assert gone.session_id is None
    world.pass_time(minutes=2)
    assert gone.refusal is None
    assert accept(queue).session_id == "a"


def test_releasing_gives_messages_back_uncounted() -> None:
    _, queue = session_world()
    fill(queue, "a", "a")
    holder = accept(queue, credit=1)
    queue.release(holder)
    again = accept(queue, credit=9)
    assert again.texts == ["a0", "a1"]
    assert again.got[0].delivery_count == 0
    with pytest.raises(SessionLockLost):
        queue.session("a", [holder])


def test_an_expired_lock_gives_messages_back_counted_and_tells_the_holder() -> None:
    world, queue = session_world()
    fill(queue, "a")
    holder = accept(queue, credit=1)
    lost = token(holder.got[0])
    world.pass_time(seconds=31.1)
    assert isinstance(holder.loss, SessionLockLost)
    with pytest.raises(SessionLockLost):
        queue.settle(lost, Outcome.COMPLETE)
    assert accept(queue, credit=1).got[0].delivery_count == 1


def test_a_renewed_session_lasts_from_the_renewal() -> None:
    world, queue = session_world()
    holder = accept(queue, "a")
    world.pass_time(seconds=20)
    assert queue.renew_session(queue.session("a", [holder])) == world.now + LOCK
    world.pass_time(seconds=29)
    assert holder.loss is None
    world.pass_time(seconds=3)
    assert holder.loss is not None


def test_only_the_holder_may_use_the_session() -> None:
    _, queue = session_world()
    accept(queue, "a")
    with pytest.raises(SessionLockLost):
        queue.session("a", [Reader()])


def test_an_abandoned_message_comes_again_before_later_ones() -> None:
    _, queue = session_world()
    fill(queue, "a", "a")
    holder = accept(queue, credit=1)
    queue.settle(token(holder.got[0]), Outcome.ABANDON)
    assert holder.ask(queue, 1).texts == ["a0", "a0"]


def test_max_delivery_count_frees_the_session_for_its_next_message() -> None:
    _, queue = session_world(max_delivery_count=2)
    fill(queue, "a", "a")
    holder = accept(queue, credit=1)
    queue.settle(token(holder.got[0]), Outcome.ABANDON)
    holder.ask(queue, 1)
    queue.settle(token(holder.got[1]), Outcome.ABANDON)
    assert holder.ask(queue, 1).texts[-1] == "a1"
    assert queue.dead_letters is not None
    assert [(text(m), m.session_id) for m in queue.dead_letters.peek(1, 9)] == [("a0", "a")]


def test_state_outlives_locks_and_messages() -> None:
    world, queue = session_world()
    holder = accept(queue, "a")
    queue.set_state(queue.session("a", [holder]), b"\x00\x01")
    world.pass_time(minutes=5)
    again = accept(queue, "a")
    session = queue.session("a", [again])
    assert session.state == b"\x00\x01"
    queue.set_state(session, None)
    queue.release(again)
    assert queue.list_sessions(None, 0, 10) == []


def test_sessions_are_listed_by_content_or_by_the_time_of_their_state() -> None:
    world, queue = session_world()
    fill(queue, "a", "b", "c")
    before = world.now
    world.pass_time(seconds=1)
    holder = accept(queue, "b")
    queue.set_state(queue.session("b", [holder]), b"x")
    assert queue.list_sessions(None, 0, 2) + queue.list_sessions(None, 2, 2) == ["a", "b", "c"]
    assert queue.list_sessions(before, 0, 10) == ["b"]
    assert queue.list_sessions(world.now, 0, 10) == []


def test_deferred_messages_belong_to_their_session() -> None:
    _, queue = session_world()
    fill(queue, "a", "b")
    holder = accept(queue, "a", credit=1)
    queue.settle(token(holder.got[0]), Outcome.DEFER)
    fetched = queue.receive_deferred([1], peek_locks=True, session_id="a")[0]
    queue.settle(token(fetched), Outcome.COMPLETE)
    assert len(queue) == 1


def test_an_expired_message_does_not_make_its_session_next() -> None:
    world, queue = session_world()
    queue.send([draft("x", session_id="a", ttl=timedelta(seconds=5)), draft("y", session_id="b")])
    world.pass_time(seconds=5)
    assert accept(queue).session_id == "b"
    assert queue.statistics()["sessions"] == 1


def test_a_session_that_is_done_leaves_no_trace() -> None:
    _, queue = session_world()
    for n in range(100):
        fill(queue, f"s{n}")
        holder = accept(queue, credit=1)
        queue.settle(token(holder.got[0]), Outcome.COMPLETE)
        queue.release(holder)
    counts = queue.statistics()
    assert (counts["sessions"], counts["sessions_ready"], counts["sessions_locked"]) == (0, 0, 0)
