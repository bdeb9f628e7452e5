"""Whatever happens in whatever order: no message is lost or doubled, sessions have one holder, the store agrees."""

from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from local.servicebus.amqp.message import Content
from local.servicebus.gateway import envelope
from local.servicebus.model.errors import ServiceBusError
from local.servicebus.model.message import Message, MessageState, Outcome
from local.servicebus.model.sessions import SessionQueue
from local.servicebus.model.settings import QueueSettings
from local.servicebus.sqlite_store import SqliteStore
from tests.servicebus.model import Reader, World, token

SETTINGS = {"lock_duration": timedelta(seconds=30), "max_delivery_count": 3, "dead_letter_on_expiration": True}
QUEUES = {"p": QueueSettings(**SETTINGS), "s": QueueSettings(requires_session=True, **SETTINGS)}  # type: ignore[arg-type]
ENDS = [Outcome.COMPLETE, Outcome.ABANDON, Outcome.DEFER, Outcome.DEAD_LETTER, Outcome.RELEASE]

queues = st.sampled_from(["p", "s"])
names = st.sampled_from(["a", "b", "c"])
picks = st.integers(0, 1_000)


def body(message: Message) -> int:
    assert isinstance(message.content, Content)
    return int(message.content.body[5:])


class Broker(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = SqliteStore(Path(":memory:"))
        self.world = World(QUEUES, store=self.store)
        self.plain = [Reader(), Reader()]
        self.accepting: list[Reader] = []
        self.sent = 0
        self.completed: set[int] = set()

    def teardown(self) -> None:
        self.store.close()

    @property
    def sessions(self) -> SessionQueue:
        queue = self.world.queue("s")
        assert isinstance(queue, SessionQueue)
        return queue

    @rule(queue=queues, session=names, ttl=st.sampled_from([None, 20]), wait=st.sampled_from([None, 15]))
    def send(self, queue: str, session: str, ttl: int | None, wait: int | None) -> None:
        text = str(self.sent).encode()
        properties = b"\x00\x53\x73" + bytes((0xC0, 14, 11)) + b"\x40" * 10 + b"\xa1\x01" + session.encode()
        draft = envelope.draft(properties + b"\x00\x53\x75\xa0" + bytes((len(text),)) + text)
        life = None if ttl is None else timedelta(seconds=ttl)
        at = None if wait is None else self.world.now + timedelta(seconds=wait)
        changed = type(draft)(draft.content, draft.message_id, draft.session_id, life, at)
        self.world.queue(queue).send([changed])
        self.sent += 1

    @rule(pick=picks, credit=st.integers(0, 3))
    def ask_plain(self, pick: int, credit: int) -> None:
        self.plain[pick % 2].ask(self.world.queue("p"), credit)

    @rule(session=st.one_of(st.none(), names), credit=st.integers(0, 3))
    def accept(self, session: str | None, credit: int) -> None:
        reader = Reader(credit)
        self.sessions.accept(reader, session, timedelta(seconds=10))
        self.sessions.offer(reader)
        self.accepting.append(reader)

    @precondition(lambda self: self.accepting)
    @rule(pick=picks, credit=st.integers(1, 3))
    def ask_session(self, pick: int, credit: int) -> None:
        self.accepting[pick % len(self.accepting)].ask(self.sessions, credit)

    @precondition(lambda self: self.accepting)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        self.sessions.release(self.accepting.pop(pick % len(self.accepting)))

    @rule(queue=queues, pick=picks, outcome=st.sampled_from(ENDS))
    def settle(self, queue: str, pick: int, outcome: Outcome) -> None:
        locked = [message for message in self.world.queue(queue).peek(1, 250) if message.lock]
        if locked:
            message = locked[pick % len(locked)]
            if outcome is Outcome.COMPLETE:
                self.completed.add(body(message))
            self.world.queue(queue).settle(token(message), outcome)

    @rule(queue=queues, pick=picks)
    def fetch_deferred(self, queue: str, pick: int) -> None:
        deferred = [m for m in self.world.queue(queue).peek(1, 250) if m.state is MessageState.DEFERRED and not m.lock]
        if deferred:
            message = deferred[pick % len(deferred)]
            held = {session.id for reader in self.accepting if (session := self.sessions.held_by(reader))}
            if queue == "s" and message.session_id not in held:
                return  # a session's deferred messages are its holder's
            self.world.queue(queue).receive_deferred([message.sequence], peek_locks=True, session_id=message.session_id)

    @rule(queue=queues, pick=picks)
    def cancel(self, queue: str, pick: int) -> None:
        waiting = [m for m in self.world.queue(queue).peek(1, 250) if m.state is MessageState.SCHEDULED]
        if waiting:
            self.completed.add(body(waiting[pick % len(waiting)]))
            self.world.queue(queue).cancel([waiting[pick % len(waiting)].sequence])

    @rule(queue=queues, pick=picks)
    def renew(self, queue: str, pick: int) -> None:
        try:
            if queue == "s":
                held = [s for reader in self.accepting if (s := self.sessions.held_by(reader))]
                if held:
                    self.sessions.renew_session(held[pick % len(held)])
            else:
                locked = [message for message in self.world.queue("p").peek(1, 250) if message.lock]
                if locked:
                    self.world.queue("p").renew(token(locked[pick % len(locked)]))
        except ServiceBusError as error:
            raise AssertionError("a lock that stands can be renewed") from error

    @rule(seconds=st.sampled_from([1, 12, 31]))
    def pass_time(self, seconds: int) -> None:
        self.world.pass_time(seconds=seconds)

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        alive = [body(m) for name in self.world.namespace.queues for m in self.world.queue(name).peek(1, 250)]
        assert sorted([*alive, *self.completed]) == list(range(self.sent))

    @invariant()
    def the_figures_add_up(self) -> None:
        for name in ("p", "s"):
            counts = self.world.queue(name).statistics()
            places = [counts[key] for key in ("active", "locked", "scheduled", "deferred")]
            assert min(places) >= 0
            assert sum(places) == len(self.world.queue(name))

    @invariant()
    def a_session_waits_exactly_if_it_is_free_and_has_a_message(self) -> None:
        held = {session.id for reader in self.accepting if (session := self.sessions.held_by(reader))}
        free = {
            m.session_id for m in self.sessions.peek(1, 250) if m.state is MessageState.ACTIVE and not m.lock
        } - held
        counts = self.sessions.statistics()
        assert counts["sessions_ready"] == len(free)
        assert counts["sessions_locked"] == len(held)
        assert not (free and counts["accepts_waiting"])

    @invariant()
    def each_reader_got_its_own_session_in_order(self) -> None:
        for reader in self.accepting:
            assert {message.session_id for message in reader.got} <= {reader.session_id}
            firsts = [m.sequence for m in reader.got if m.delivery_count == 0 and m.lock]
            assert firsts == sorted(firsts)

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        self.store.commit()
        for name in self.world.namespace.queues:
            saved = self.store.load(name)
            kept = [(m.sequence, m.state, m.delivery_count, body(m)) for m in saved.messages]
            assert kept == [
                (m.sequence, m.state, m.delivery_count, body(m)) for m in self.world.queue(name).peek(1, 250)
            ]
            assert saved.next_sequence > max((m.sequence for m in saved.messages), default=0)


TestBroker = Broker.TestCase
TestBroker.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
