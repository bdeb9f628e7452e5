"""Whatever a client sends: an AMQP error or the end of that connection; others are untouched."""

import random
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from local.servicebus.amqp import performatives as p
from local.servicebus.amqp import types as t
from local.servicebus.amqp.message import BATCH_FORMAT, parse_request
from local.servicebus.broker import Broker
from tests.servicebus.broker import queues
from tests.servicebus.wire import AMQP_HEADER, SASL_HEADER, Wire, frame, performative

SEED = 20_260_102
FILTER = t.Symbol("com.microsoft:session-filter")


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker(queues(plain={}, sessions={"RequiresSession": True})) as running:
        yield running


@pytest.fixture
def bystander(broker: Broker) -> Iterator[Wire]:
    """A well-behaved client that must not notice anything."""
    with Wire(broker.port).open() as wire:
        wire.authorize(broker.port)
        wire.attach(2, receiver=False, address="plain")
        yield wire
        wire.transfer(2, b"\x00\x53\x75\xa0\x01x", number=1)
        assert wire.hear_until(p.DISPOSITION)[4].descriptor == p.ACCEPTED


@pytest.fixture
def wire(broker: Broker) -> Iterator[Wire]:
    with Wire(broker.port).open() as opened:
        yield opened.authorize(broker.port)


def condition(error: t.Described) -> str:
    assert len(error.value) == 3  # clients index all three fields
    return str(error.value[0])


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"AMQP\x02\x01\x00\x00",
        b"AMQP\x00\x00\x09\x01",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"\x00" * 100,
        SASL_HEADER + b"\xff" * 100,
        SASL_HEADER + frame(performative(p.SASL_INIT, t.Symbol("PLAIN"), b"\0a\0b"), kind=1),
        SASL_HEADER + frame(performative(p.OPEN, "x"), kind=1),
        SASL_HEADER + struct.pack(">IBBH", 1 << 30, 2, 1, 0),
    ],
)
def test_what_is_not_a_handshake_is_hung_up_on(broker: Broker, bystander: Wire, data: bytes) -> None:
    with Wire(broker.port) as stranger:
        stranger.send(data)
        assert stranger.ended()


def test_half_a_frame_does_no_harm(broker: Broker, bystander: Wire) -> None:
    whole = SASL_HEADER + frame(performative(p.SASL_INIT, t.Symbol("ANONYMOUS")), kind=1) + AMQP_HEADER
    for length in range(len(whole)):
        with Wire(broker.port) as wire:
            wire.send(whole[:length])


UINT = t.UInt


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (struct.pack(">IBBH", 70_000, 2, 0, 0), "amqp:connection:framing-error"),
        (struct.pack(">IBBH", 4, 2, 0, 0), "amqp:connection:framing-error"),
        (struct.pack(">IBBH", 16, 9, 0, 0) + b"\0" * 8, "amqp:connection:framing-error"),
        (frame(performative(p.BEGIN, None, UINT(0), UINT(1), UINT(1)), kind=7), "amqp:connection:framing-error"),
        (frame(b"\xff\xff"), "amqp:decode-error"),
        (frame(b"\x00\x53\x99\x45"), "amqp:decode-error"),
        (frame(b"\x00\x80" + b"\xff" * 8 + b"\x45"), "amqp:decode-error"),
        (frame(performative(p.ATTACH, "name", "handle", True)), "amqp:decode-error"),
        (frame(performative(p.TRANSFER)), "amqp:decode-error"),
        (frame(performative(p.OPEN, "again")), "amqp:illegal-state"),
        (frame(performative(p.BEGIN, None, UINT(0), UINT(1), UINT(1))), "amqp:not-allowed"),
        (frame(performative(p.FLOW, UINT(0), UINT(1), UINT(0), UINT(1)), channel=9), "amqp:not-allowed"),
    ],
)
def test_a_broken_frame_closes_its_connection(wire: Wire, bystander: Wire, data: bytes, expected: str) -> None:
    wire.send(data)
    assert condition(wire.hear_until(p.CLOSE)[0]) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((p.TRANSFER, UINT(99), UINT(0), b"t"), "amqp:session:unattached-handle"),
        ((p.FLOW, UINT(0), UINT(1), UINT(0), UINT(1), UINT(99)), "amqp:session:unattached-handle"),
        ((p.DETACH, UINT(99)), "amqp:session:unattached-handle"),
        ((p.TRANSFER, UINT(1), UINT(0), b"t"), "amqp:session:errant-link"),
        ((p.TRANSFER, UINT(0)), "amqp:invalid-field"),
        ((p.DISPOSITION, True, UINT(5), UINT(4)), "amqp:invalid-field"),
        ((p.ATTACH, "again", UINT(0), True), "amqp:session:handle-in-use"),
        ((p.ATTACH, "high", UINT(1 << 31), True), "amqp:connection:framing-error"),
    ],
)
def test_a_broken_rule_ends_its_session(wire: Wire, bystander: Wire, fields: Any, expected: str) -> None:
    wire.say(*fields)
    assert condition(wire.hear_until(p.END)[0]) == expected
    wire.say(p.FLOW, UINT(0), UINT(1), UINT(0), UINT(1))  # a late frame of the ended session
    wire.say(p.BEGIN, None, UINT(0), UINT(1), UINT(1))
    wire.hear_until(p.BEGIN)


def test_a_disposition_of_four_billion_deliveries_is_cheap(wire: Wire) -> None:
    wire.say(p.DISPOSITION, True, UINT(0), UINT(0x7FFFFFFF), True, t.Described(t.ULong(p.ACCEPTED), []))
    wire.attach(2, receiver=False, address="plain")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"address": "nowhere"}, "amqp:not-found"),
        ({"address": ""}, "amqp:not-found"),
        ({"address": 5}, "amqp:invalid-field"),
        ({"address": "sessions"}, "amqp:not-allowed"),
        ({"address": "plain", "filters": {FILTER: "s"}}, "amqp:not-allowed"),
        ({"address": "sessions", "filters": {FILTER: t.Int(5)}}, "amqp:invalid-field"),
        ({"address": "sessions", "filters": {FILTER: [None]}}, "amqp:invalid-field"),
        ({"address": "sessions", "filters": "filter"}, "amqp:invalid-field"),
        ({"address": "sessions", "filters": {5: "s"}}, "amqp:invalid-field"),
    ],
)
def test_a_wrong_link_is_refused(wire: Wire, options: Any, expected: str) -> None:
    answer = wire.attach(2, receiver=True, **options)
    assert answer[5:7] in ([None, None], [])  # null source and target: a refusal
    assert condition(wire.hear_until(p.DETACH)[2]) == expected


def test_transactions_are_refused(wire: Wire) -> None:
    coordinator = t.Described(t.ULong(p.COORDINATOR), [])
    wire.say(
        p.ATTACH, "tx", UINT(2), False, None, None, t.Described(t.ULong(p.SOURCE), []), coordinator, None, None, UINT(0)
    )
    assert condition(wire.hear_until(p.DETACH)[2]) == "amqp:not-implemented"


def test_a_link_needs_a_token(broker: Broker) -> None:
    with Wire(broker.port).open() as wire:
        wire.attach(2, receiver=False, address="plain")
        assert condition(wire.hear_until(p.DETACH)[2]) == "amqp:unauthorized-access"


@pytest.mark.parametrize(
    "payload",
    [
        b"\x01",
        b"\x00\x53\x99\x40",
        b"\x00\x53\x75\xb0\xff\xff\xff\xff",
        performative(0x73, None, None, None, None, None, None, None, None, None, None, t.Int(5)),
        b"\x00\x53\x74" + t.encode({5: "x"}),
        b"\x00\x53\x74" + t.encode({"x": [1]}),
        b"\x00\x53\x74\xc1\x07\x02\xa1\x01x\xa1\x01\xff",
        b"\x00\x53\x72\xc1\x07\x02\xa3\x01x\xa1\x01\xff",
        b"\x00\x53\x70" + t.encode([False, t.ULong(300)]),
        b"\x00\x53\x70" + t.encode([False, None, t.ULong(1 << 40)]),
        b"\x00\x53\x70" + t.encode([False, None, -1]),
        b"\x00\x53\x73" + t.encode([{"a": 1}]),
        b"\x00\x53\x75" + t.encode("text"),
        b"\x00\x53\x77\xa1\x01\xff",
        b"\x00\x53\x72" + t.encode({t.Symbol("x-opt-scheduled-enqueue-time"): "soon"}),
        b"\x00\x53\x72" + t.encode({t.Symbol("x-opt-scheduled-enqueue-time"): t.Timestamp(1 << 62)}),
    ],
)
def test_a_broken_message_is_rejected_and_the_link_goes_on(wire: Wire, payload: bytes) -> None:
    wire.attach(2, receiver=False, address="plain")
    wire.transfer(2, payload, number=1)
    state = wire.hear_until(p.DISPOSITION)[4]
    assert state.descriptor == p.REJECTED
    assert condition(state.value[0]) in ("amqp:decode-error", "amqp:invalid-field")
    wire.transfer(2, b"\x00\x53\x75\xa0\x01x", number=2)
    assert wire.hear_until(p.DISPOSITION)[4].descriptor == p.ACCEPTED


def test_one_bad_message_rejects_its_batch(broker: Broker, wire: Wire) -> None:
    wire.attach(2, receiver=False, address="plain")
    before = broker.statistics()["queues"]["plain"]["sent"]
    batch = b"".join(b"\x00\x53\x75" + t.encode(message) for message in (b"\x00\x53\x75\xa0\x01x", b"bad"))
    wire.say(p.TRANSFER, UINT(2), UINT(1), b"tag", UINT(BATCH_FORMAT), False, False, payload=batch)
    assert wire.hear_until(p.DISPOSITION)[4].descriptor == p.REJECTED
    assert broker.statistics()["queues"]["plain"]["sent"] == before


def test_a_message_without_end_is_not_kept(broker: Broker, wire: Wire) -> None:
    wire.attach(2, receiver=False, address="plain")
    for _ in range(20):
        wire.transfer(2, b"x" * 60_000, number=1, more=True)
    wire.transfer(2, b"", number=1)
    state = wire.hear_until(p.DISPOSITION)[4]
    assert condition(state.value[0]) == "amqp:link:message-size-exceeded"


def mutations(rng: random.Random) -> Iterator[Callable[[bytes], bytes]]:
    while True:
        kind = rng.randrange(4)
        if kind == 0:
            yield lambda data: bytes(byte ^ (1 << rng.randrange(8)) if rng.random() < 0.02 else byte for byte in data)
        elif kind == 1:
            yield lambda data: data[: rng.randrange(len(data) + 1)] + rng.randbytes(rng.randrange(20))
        elif kind == 2:
            yield lambda data: data[: (at := rng.randrange(len(data) + 1))] + data[at + rng.randrange(9) :]
        else:
            yield lambda data: struct.pack(">IBBH", 8 + len(data) % 500, 2, 0, 0) + rng.randbytes(len(data) % 500)


def test_mutated_conversations_never_hurt_others(
    broker: Broker, bystander: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    source, target = (t.Described(t.ULong(code), ["plain"]) for code in (p.SOURCE, p.TARGET))
    conversation = [
        frame(performative(p.ATTACH, "a", UINT(5), False, None, None, source, target, None, None, UINT(0))),
        frame(performative(p.ATTACH, "b", UINT(6), True, None, None, source, target)),
        frame(performative(p.FLOW, UINT(0), UINT(100), UINT(0), UINT(100), UINT(6), UINT(0), UINT(10))),
        frame(performative(p.TRANSFER, UINT(5), UINT(0), b"tag", UINT(0), False) + b"\x00\x53\x75\xa0\x01x"),
        frame(performative(p.DISPOSITION, True, UINT(0), UINT(3), False, t.Described(t.ULong(p.ACCEPTED), []))),
        frame(performative(p.DETACH, UINT(6), True)),
        frame(performative(p.END)),
        frame(performative(p.CLOSE)),
    ]
    mutate = mutations(rng)
    for _ in range(300):
        with Wire(broker.port).open() as wire:
            wire.authorize(broker.port)
            wire.send(b"".join(next(mutate)(part) if rng.random() < 0.4 else part for part in conversation))
            wire.socket.shutdown(1)
            assert wire.ended()
    assert "could not be handled" not in caplog.text  # no frame may surprise the broker


OPERATIONS = {
    "renew-lock": ["lock-tokens"],
    "schedule-message": ["messages"],
    "cancel-scheduled-message": ["sequence-numbers"],
    "peek-message": ["from-sequence-number", "message-count", "session-id"],
    "receive-by-sequence-number": ["sequence-numbers", "receiver-settle-mode", "session-id"],
    "update-disposition": ["disposition-status", "lock-tokens", "session-id", "properties-to-modify"],
    "renew-session-lock": ["session-id"],
    "get-session-state": ["session-id"],
    "set-session-state": ["session-id", "session-state"],
    "get-message-sessions": ["last-updated-time", "skip", "top"],
    "make-coffee": [],
}


@pytest.mark.parametrize("queue", ["plain", "sessions"])
def test_wrong_management_requests_are_answered(broker: Broker, wire: Wire, queue: str) -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    oddities: list[Any] = [
        None, True, -1, 0, 1, 1 << 62, -(1 << 62), 1.5, "s", b"raw", UUID(int=0), [], [1], ["x"], [None], {}, {"message": b"x"},
        [{"message": b"x"}], t.Array([1, 2], int), t.Array([UUID(int=1)], UUID), t.Described(t.ULong(5), "x"), t.Timestamp(-1),
        "completed", "suspended", {"a": [1]},
    ]  # fmt: skip
    wire.attach(2, receiver=False, address=f"{queue}/$management")
    wire.attach(3, receiver=True, address=f"{queue}/$management")
    wire.flow(3, 2_000)
    for number in range(1, 400):
        operation = rng.choice(list(OPERATIONS))
        body = (
            rng.choice(oddities)
            if rng.random() < 0.1
            else {name: rng.choice(oddities) for name in OPERATIONS[operation]}
        )
        properties = {"operation": f"com.microsoft:{operation}"}
        request = performative(0x73, UUID(int=number)) + b"\x00\x53\x74" + t.encode(properties) + b"\x00\x53\x77"
        wire.transfer(2, request + t.encode(body), number=number)
        answer = next(payload for code, _, payload in iter(wire.hear, None) if code == p.TRANSFER)
        answered = parse_request(answer)
        assert answered.properties["statusCode"] in (200, 204, 400, 404, 410, 501), (operation, body, answered)


@pytest.mark.parametrize(
    "state",
    [
        t.Described(t.ULong(p.MODIFIED), [True, False, {t.Symbol("a"): [1]}]),
        t.Described(t.ULong(p.MODIFIED), [True, False, {5: 1}]),
        t.Described(t.ULong(p.MODIFIED), [True, False, "x"]),
        t.Described(t.ULong(p.REJECTED), [t.Described(t.ULong(0x1D), [t.Symbol("x"), "y", {t.Symbol("a"): {}}])]),
        t.Described(t.ULong(p.TRANSACTIONAL_STATE), [b"tx"]),
        t.Described(t.ULong(99), []),
        t.Described("what", "ever"),
    ],
)
def test_a_wrong_settlement_is_refused_and_the_message_stays_locked(broker: Broker, state: t.Described) -> None:
    with Broker(queues(q={})) as own, Wire(own.port).open() as wire:
        wire.authorize(own.port)
        wire.attach(2, receiver=False, address="q")
        wire.transfer(2, b"\x00\x53\x75\xa0\x01x", number=1)
        wire.attach(3, receiver=True, address="q")
        wire.flow(3, 1)
        delivery = wire.hear_until(p.TRANSFER)[1]
        wire.say(p.DISPOSITION, True, delivery, None, False, state)
        answer = wire.hear_until(p.DISPOSITION)[4]
        assert answer.descriptor == p.REJECTED
        assert condition(answer.value[0]) in ("amqp:invalid-field", "amqp:not-implemented")
        assert own.statistics()["queues"]["q"]["locked"] == 1


def test_ten_thousand_connections_come_and_go(broker: Broker, bystander: Wire) -> None:
    def knock(count: int) -> None:
        for number in range(count):
            with Wire(broker.port) as wire:
                wire.send(SASL_HEADER if number % 2 else b"")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(knock, [1_250] * 8))
    # The last of them may be closing still; the bystander and whoever asks stay.
    with Wire(broker.port).open():
        assert broker.statistics()["connections"]["accepted"] >= 10_000
