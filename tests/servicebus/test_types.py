"""AMQP's encoding of values, and of messages."""

import contextlib
import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.servicebus.amqp import types as t
from local.servicebus.amqp.message import BATCH_FORMAT, Content, parse, split_batch
from local.servicebus.amqp.performatives import from_value


def sized(kind: type, bits: int, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return st.integers(low, high).map(kind)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    sized(t.UByte, 8, False),
    sized(t.UShort, 16, False),
    sized(t.UInt, 32, False),
    sized(t.ULong, 64, False),
    sized(t.Byte, 8, True),
    sized(t.Short, 16, True),
    sized(t.Int, 32, True),
    sized(int, 64, True),
    sized(t.Timestamp, 64, True),
    st.floats(allow_nan=False),
    st.uuids(),
    st.binary(max_size=300),
    st.text(max_size=300),
    st.text("abc:-", max_size=300).map(t.Symbol),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(st.text(max_size=8), inner, max_size=8),
        st.builds(t.Described, st.integers(0, 1 << 63).map(t.ULong), inner),
    ),
    max_leaves=20,
)


@given(values)
def test_values_survive_with_their_types(value: object) -> None:
    data = t.encode(value)
    back, end = t.decode(data)
    assert (back, end) == (value, len(data))
    assert t.encode(back) == data
    assert t.skip(data, 0) == len(data)


@given(st.sampled_from([int, t.Timestamp, t.UInt]), st.lists(st.integers(0, 1 << 31), max_size=40))
def test_arrays_survive(kind: type, numbers: list[int]) -> None:
    array = t.Array([kind(number) for number in numbers], kind)
    back, _ = t.decode(t.encode(array))
    assert list(back) == numbers
    assert not back or type(back[0]) is kind


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_decode_error(data: bytes) -> None:
    for read in (t.decode, t.skip, t.raw_map):
        with contextlib.suppress(t.DecodeError):
            read(data, 0)
    for take in (parse, split_batch):
        with contextlib.suppress(t.DecodeError):
            take(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00" * 5_000, id="descriptors without end"),
        pytest.param(b"\xf0" + struct.pack(">II", 5, 0xFFFFFFFF) + b"\x40", id="four billion nulls in an array"),
        pytest.param(b"\xd0" + struct.pack(">II", 4, 0xFFFFFFFF), id="four billion items in a list"),
        pytest.param(b"\xc1\x02\x01\x40", id="a key without a value"),
        pytest.param(b"\xa1\x02\xff\xfe", id="not UTF-8"),
        pytest.param(b"\xb0\xff\xff\xff\xff", id="binary longer than its frame"),
        pytest.param(b"\xd1" + struct.pack(">II", 7, 2) + b"\xc0\x01\x00", id="a map that ends early"),
        pytest.param(b"\x73\xff\xff\xff\xff", id="not a character"),
    ],
)
def test_hostile_values_are_refused(data: bytes) -> None:
    with pytest.raises(t.DecodeError):
        t.decode(data)


@pytest.mark.parametrize(
    "value",
    [
        t.Described(t.ULong(0x77), []),
        t.Described(t.ULong(0x14), []),
        t.Described(t.ULong(0x14), [t.UInt(0), "not a number"]),
        t.Described(t.ULong(0x18), [None] * 9),
        t.Described(t.Symbol("amqp:open:list"), ["x"]),
        t.Described(t.ULong(0x10), {"container-id": "x"}),
        [t.UInt(1)],
    ],
)
def test_wrong_performatives_are_refused(value: object) -> None:
    with pytest.raises(t.DecodeError):
        from_value(value)


def test_a_message_passes_unchanged_in_whatever_order_its_sections_come() -> None:
    properties = b"\x00\x53\x73" + t.encode([UUID(int=5), None, "to"])
    user = {t.Symbol("mine"): t.encode(t.UShort(3))}
    application = {"price": t.encode(t.Opaque(0x74, b"1234")), "n": t.encode(t.UByte(7))}
    body = b"\x00\x53\x75\xa0\x01a" + b"\x00\x53\x75\xa0\x01b"
    content = Content(True, 4, 60_000, {t.Symbol("d"): t.encode(None)}, user, properties, application, body)
    assert parse(content.encode(delivery_count=2)) == content
    shuffled = body + b"\x00\x53\x74" + t.encode_raw_map(application) + properties
    assert parse(shuffled) == Content(properties=properties, application_properties=application, body=body)


def test_a_batch_is_split() -> None:
    parts = [Content(body=b"\x00\x53\x77\x54" + bytes((n,))).encode() for n in range(3)]
    envelope = b"".join(b"\x00\x53\x75" + t.encode(part) for part in parts)
    assert split_batch(envelope) == parts
    assert BATCH_FORMAT == 2147563264
