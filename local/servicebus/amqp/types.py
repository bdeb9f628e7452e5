"""AMQP 1.0 primitive types to and from bytes.

Python's own types stand for one AMQP type each: None, bool, int (long), float (double), str (string), bytes (binary),
UUID, list, dict (map). Other widths are subclasses, so that a decoded value encodes back to the type it came from.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID


class DecodeError(ValueError):
    """The bytes are not a valid AMQP value."""


class UByte(int): ...


class UShort(int): ...


class UInt(int): ...


class ULong(int): ...


class Byte(int): ...


class Short(int): ...


class Int(int): ...


class Timestamp(int):
    """Milliseconds since the Unix epoch."""


class Symbol(str):
    __slots__ = ()


class Char(str):
    __slots__ = ()


class Float32(float): ...


@dataclass(frozen=True, slots=True)
class Opaque:
    """A fixed-width value nobody here looks into (the decimals): its format code and bytes."""

    code: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Described:
    descriptor: Any
    value: Any


class Array(list[Any]):
    """Values of one type, the type being that of the first; `of` names it for an empty array."""

    def __init__(self, items: Any = (), of: type = str) -> None:
        super().__init__(items)
        self.of = of


type Reader = Callable[[bytes, int], tuple[Any, int]]

_MAX_EMPTY_ELEMENTS = 65_536  # an array of zero-width elements costs no bytes: without a bound it would cost memory


def _fixed(layout: str, build: Callable[[Any], Any] | None = None) -> Reader:
    unpack, size = struct.Struct(layout).unpack_from, struct.calcsize(layout)
    if build is None:
        return lambda data, at: (unpack(data, at)[0], at + size)
    return lambda data, at: (build(unpack(data, at)[0]), at + size)


def _constant(value: Any) -> Reader:
    return lambda data, at: (value, at)


def _opaque(code: int, size: int) -> Reader:
    return lambda data, at: (Opaque(code, _take(data, at, size)), at + size)


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise DecodeError("a value ends after its frame")
    return data[at : at + size]


def _variable(width: int, build: Callable[[bytes], Any]) -> Reader:
    unpack = struct.Struct(">B" if width == 1 else ">I").unpack_from

    def read(data: bytes, at: int) -> tuple[Any, int]:
        size = unpack(data, at)[0]
        start = at + width
        return build(_take(data, start, size)), start + size

    return read


def _compound(width: int, build: Callable[[list[Any]], Any]) -> Reader:
    unpack = struct.Struct(">BB" if width == 1 else ">II").unpack_from

    def read(data: bytes, at: int) -> tuple[Any, int]:
        size, count = unpack(data, at)
        end = at + width + size
        if end > len(data) or count > size:
            raise DecodeError("a list or map is longer than its frame")
        at += 2 * width
        items = []
        for _ in range(count):
            item, at = _READERS[data[at]](data, at + 1)
            items.append(item)
        if at != end:
            raise DecodeError("a list or map has another size than it says")
        return build(items), end

    return read


def _as_map(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise DecodeError("a map has a key without a value")
    return dict(zip(items[::2], items[1::2], strict=True))


def _array(width: int) -> Reader:
    unpack = struct.Struct(">BB" if width == 1 else ">II").unpack_from

    def read(data: bytes, at: int) -> tuple[Any, int]:
        size, count = unpack(data, at)
        end = at + width + size
        if end > len(data):
            raise DecodeError("an array is longer than its frame")
        at += 2 * width
        descriptor, described = None, data[at] == 0
        if described:
            descriptor, at = decode(data, at + 1)
        reader = _READERS[data[at]]
        at += 1
        if at == end and count > _MAX_EMPTY_ELEMENTS:
            raise DecodeError("an array has too many elements")
        items = []
        for _ in range(count):
            item, at = reader(data, at)
            if at > end:
                raise DecodeError("an array is longer than it says")
            items.append(Described(descriptor, item) if described else item)
        return Array(items, type(items[0]) if items else str), end

    return read


def _described(data: bytes, at: int) -> tuple[Any, int]:
    descriptor, at = _READERS[data[at]](data, at + 1)
    value, at = _READERS[data[at]](data, at + 1)
    return Described(descriptor, value), at


def _unknown(data: bytes, at: int) -> tuple[Any, int]:
    raise DecodeError(f"unknown format code 0x{data[at - 1]:02x}")


def _utf8(data: bytes) -> str:
    return data.decode()


def _symbol(data: bytes) -> Symbol:
    return Symbol(data.decode("ascii"))


_READERS: list[Reader] = [_unknown] * 256
for _code, _reader in {
    0x00: _described,
    0x40: _constant(None),
    0x41: _constant(True),
    0x42: _constant(False),
    0x56: _fixed(">B", bool),
    0x43: _constant(UInt(0)),
    0x44: _constant(ULong(0)),
    0x45: lambda data, at: ([], at),
    0x50: _fixed(">B", UByte),
    0x51: _fixed(">b", Byte),
    0x52: _fixed(">B", UInt),
    0x53: _fixed(">B", ULong),
    0x54: _fixed(">b", Int),
    0x55: _fixed(">b"),
    0x60: _fixed(">H", UShort),
    0x61: _fixed(">h", Short),
    0x70: _fixed(">I", UInt),
    0x71: _fixed(">i", Int),
    0x72: _fixed(">f", Float32),
    0x73: _fixed(">I", lambda number: Char(chr(number))),
    0x74: _opaque(0x74, 4),
    0x80: _fixed(">Q", ULong),
    0x81: _fixed(">q"),
    0x82: _fixed(">d"),
    0x83: _fixed(">q", Timestamp),
    0x84: _opaque(0x84, 8),
    0x94: _opaque(0x94, 16),
    0x98: lambda data, at: (UUID(bytes=_take(data, at, 16)), at + 16),
    0xA0: _variable(1, bytes),
    0xA1: _variable(1, _utf8),
    0xA3: _variable(1, _symbol),
    0xB0: _variable(4, bytes),
    0xB1: _variable(4, _utf8),
    0xB3: _variable(4, _symbol),
    0xC0: _compound(1, list),
    0xC1: _compound(1, _as_map),
    0xD0: _compound(4, list),
    0xD1: _compound(4, _as_map),
    0xE0: _array(1),
    0xF0: _array(4),
}.items():
    _READERS[_code] = _reader


def decode(data: bytes, at: int = 0) -> tuple[Any, int]:
    """The value that starts at `at`, and where the next begins. Raises DecodeError."""
    try:
        return _READERS[data[at]](data, at + 1)
    except DecodeError:
        raise
    except (IndexError, struct.error, UnicodeError, RecursionError, TypeError, ValueError, OverflowError) as error:
        raise DecodeError(f"not an AMQP value: {error}") from error


_FIXED_WIDTHS = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}


def skip(data: bytes, at: int) -> int:
    """Where the value that starts at `at` ends, without looking into it. Raises DecodeError."""
    try:
        code = data[at]
        at += 1
        if code == 0:
            return skip(data, skip(data, at))
        kind = code >> 4
        if kind in _FIXED_WIDTHS:
            at += _FIXED_WIDTHS[kind]
        elif kind in (0xA, 0xC, 0xE):
            at += 1 + data[at]
        elif kind in (0xB, 0xD, 0xF):
            at += 4 + int.from_bytes(_take(data, at, 4))
        else:
            raise DecodeError(f"unknown format code 0x{code:02x}")
    except (IndexError, RecursionError) as error:
        raise DecodeError("a value ends after its frame") from error
    if at > len(data):
        raise DecodeError("a value ends after its frame")
    return at


def raw_map(data: bytes, at: int) -> dict[Any, bytes]:
    """A map whose values stay encoded, so that they can be passed on unchanged. Raises DecodeError."""
    code = data[at] if at < len(data) else 0
    if code == 0xC1:
        head, layout = 3, ">BB"
    elif code == 0xD1:
        head, layout = 9, ">II"
    else:
        raise DecodeError("a map is expected")
    if at + head > len(data):
        raise DecodeError("a map ends after its frame")
    count = struct.unpack_from(layout, data, at + 1)[1]
    end = skip(data, at)
    at += head
    result: dict[Any, bytes] = {}
    for _ in range(count // 2):
        key, start = decode(data, at)
        at = skip(data, start)
        if at > end:
            raise DecodeError("a map is longer than it says")
        try:
            result[key] = data[start:at]
        except TypeError as error:
            raise DecodeError("a map key of a compound type") from error
    if at != end or count % 2:
        raise DecodeError("a map has another size than it says")
    return result


def _encode_bool(value: bool) -> bytes:
    return b"\x41" if value else b"\x42"


def _encode_uint(value: int) -> bytes:
    if value == 0:
        return b"\x43"
    return bytes((0x52, value)) if value < 256 else struct.pack(">BI", 0x70, value)


def _encode_ulong(value: int) -> bytes:
    if value == 0:
        return b"\x44"
    return bytes((0x53, value)) if value < 256 else struct.pack(">BQ", 0x80, value)


def _sized(short: int, long: int, data: bytes) -> bytes:
    if len(data) < 256:
        return bytes((short, len(data))) + data
    return struct.pack(">BI", long, len(data)) + data


def _encode_compound(short: int, long: int, parts: list[bytes]) -> bytes:
    body = b"".join(parts)
    if len(body) < 255 and len(parts) < 256:
        return bytes((short, len(body) + 1, len(parts))) + body
    return struct.pack(">BII", long, len(body) + 4, len(parts)) + body


def encode_list(parts: list[bytes]) -> bytes:
    """A list of values that are encoded already."""
    return _encode_compound(0xC0, 0xD0, parts) if parts else b"\x45"


def encode_raw_map(items: dict[Any, bytes]) -> bytes:
    """The inverse of raw_map."""
    parts: list[bytes] = []
    for key, value in items.items():
        parts += (encode(key), value)
    return _encode_compound(0xC1, 0xD1, parts)


def _encode_dict(value: dict[Any, Any]) -> bytes:
    return encode_raw_map({key: encode(item) for key, item in value.items()})


_ARRAY_ELEMENTS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    int: (0x81, struct.Struct(">q").pack),
    Timestamp: (0x83, struct.Struct(">q").pack),
    UInt: (0x70, struct.Struct(">I").pack),
    ULong: (0x80, struct.Struct(">Q").pack),
    Int: (0x71, struct.Struct(">i").pack),
    UUID: (0x98, lambda value: value.bytes),
    str: (0xB1, lambda value: struct.pack(">I", len(value.encode())) + value.encode()),
    Symbol: (0xB3, lambda value: struct.pack(">I", len(value)) + value.encode("ascii")),
}


def _encode_array(value: Array) -> bytes:
    code, element = _ARRAY_ELEMENTS[value.of]
    body = bytes((code,)) + b"".join(element(item) for item in value)
    return struct.pack(">BII", 0xF0, len(body) + 4, len(value)) + body


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"\x40",
    bool: _encode_bool,
    UByte: lambda value: bytes((0x50, value)),
    UShort: lambda value: struct.pack(">BH", 0x60, value),
    UInt: _encode_uint,
    ULong: _encode_ulong,
    Byte: lambda value: struct.pack(">Bb", 0x51, value),
    Short: lambda value: struct.pack(">Bh", 0x61, value),
    Int: lambda value: struct.pack(">Bi", 0x71, value),
    int: lambda value: struct.pack(">Bq", 0x81, value),
    Float32: lambda value: struct.pack(">Bf", 0x72, value),
    float: lambda value: struct.pack(">Bd", 0x82, value),
    Char: lambda value: struct.pack(">BI", 0x73, ord(value)),
    Timestamp: lambda value: struct.pack(">Bq", 0x83, value),
    UUID: lambda value: b"\x98" + value.bytes,
    bytes: lambda value: _sized(0xA0, 0xB0, value),
    str: lambda value: _sized(0xA1, 0xB1, value.encode()),
    Symbol: lambda value: _sized(0xA3, 0xB3, value.encode("ascii")),
    list: lambda value: encode_list([encode(item) for item in value]),
    dict: _encode_dict,
    Array: _encode_array,
    Opaque: lambda value: bytes((value.code,)) + value.data,
    Described: lambda value: b"\x00" + encode(value.descriptor) + encode(value.value),
}


def encode(value: Any) -> bytes:
    """The AMQP encoding of a value of one of this module's types. Raises TypeError for others."""
    writer = _WRITERS.get(type(value))
    if writer is None:
        raise TypeError(f"no AMQP type for {type(value).__name__}")
    return writer(value)


def is_simple(value: Any) -> bool:
    """Whether a decoded value is of a type that AMQP allows in properties: no list, map, array or described type."""
    return not isinstance(value, list | dict | Described)


def described_list(code: int, fields: list[Any]) -> bytes:
    """A composite type: its descriptor code and fields; trailing nulls are left out, as AMQP asks."""
    end = len(fields)
    while end and fields[end - 1] is None:
        end -= 1
    return bytes((0x00, 0x53, code)) + encode_list([encode(field) for field in fields[:end]])
