"""The operations of the Web API as values, and the spelling of OData literals.

Paths are relative to the service root (``invoices(<id>)?$select=name``). Whatever comes from outside goes through
``text``, ``guid`` or ``moment``; blanks and non-ASCII characters elsewhere in a path are escaped when it is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

type Row = dict[str, Any]

MAX_URL = 32_768  # characters of a GET's URL
MAX_BATCHED_URL = 65_536  # the same inside $batch

_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SAFE = "/:?=&@$,;()'!*+~%-._"
_string = json.encoder.encode_basestring_ascii


class Part(NamedTuple):
    """An operation as HTTP: what a batch holds and a plain request sends. ``headers`` are names and values."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None


class Response(NamedTuple):
    """An answer, of a request or of a part of a batch. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body; None if there is none. Fractions are ``Decimal``."""
        return decode(self.body) if self.body else None


@dataclass(frozen=True, slots=True)
class Get:
    """Read a row (``invoices(<id>)?$select=...``) or rows (``loy_entries?$filter=...``).

    ``annotations`` is a list for ``odata.include-annotations``, for example
    ``Microsoft.Dynamics.CRM.lookuplogicalname`` to learn whether a customer is an account or a contact.
    """

    path: str
    annotations: str = ""

    def part(self) -> Part:
        headers = [("Accept", "application/json")]
        if self.annotations:
            headers.append(_header("Prefer", f'odata.include-annotations="{self.annotations}"'))
        path = escaped(self.path)
        if len(path) > MAX_BATCHED_URL:
            raise ValueError(f"path: {len(path)} characters, Dataverse reads at most {MAX_BATCHED_URL}")
        return Part("GET", path, tuple(headers))


@dataclass(frozen=True, slots=True)
class Create:
    """Create a row. ``path`` is the entity set; a ``row`` that carries its id makes repeating safe."""

    path: str
    row: Mapping[str, Any]

    def part(self) -> Part:
        return Part("POST", escaped(self.path), (), _body(self.row))


@dataclass(frozen=True, slots=True)
class Update:
    """Change columns of an existing row; ``NotFound`` if there is none.

    ``if_match`` is ``*`` or an ETag (``W/"123"``): with an ETag, a row that changed meanwhile is a
    ``ConcurrencyMismatch``.
    """

    path: str
    row: Mapping[str, Any]
    if_match: str = "*"

    def part(self) -> Part:
        return Part("PATCH", escaped(self.path), (_header("If-Match", self.if_match),), _body(self.row))


@dataclass(frozen=True, slots=True)
class Upsert:
    """Create or change the row that ``path`` names by id or alternate key.

    With ``only_if_new`` an existing row is a ``Conflict``: in a change set it undoes the other writes too.
    """

    path: str
    row: Mapping[str, Any]
    only_if_new: bool = False

    def part(self) -> Part:
        headers = (("If-None-Match", "*"),) if self.only_if_new else ()
        return Part("PATCH", escaped(self.path), headers, _body(self.row))


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a row; ``NotFound`` if there is none."""

    path: str
    if_match: str = "*"

    def part(self) -> Part:
        return Part("DELETE", escaped(self.path), (_header("If-Match", self.if_match),))


type Write = Create | Update | Upsert | Delete


def _header(name: str, value: str) -> tuple[str, str]:
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{name}: {value[:60]!r} cannot be a header")
    return name, value


def _body(columns: Mapping[str, Any]) -> str:
    for name, value in columns.items():
        if name.endswith("@odata.bind") and isinstance(value, str) and value.startswith("$"):
            # Change sets travel together, and such numbers count through all of them.
            raise ValueError(f"{name}: {value!r} refers to another operation; give the new row an id and bind that")
    return encode(columns)


def escaped(path: str) -> str:
    """``path`` as a request line needs it. Percent signs are left alone: the literals below bring theirs."""
    if path.isascii() and " " not in path and path.isprintable() and not any(c in path for c in '"<>\\^`{|}#'):
        return path
    return quote(path, safe=_SAFE)


def text(value: str) -> str:
    """A string literal, escaped for a URL: ``O'Hara & Co`` becomes ``'O%27%27Hara%20%26%20Co'``."""
    return "'" + quote(value.replace("'", "''"), safe="") + "'"


def guid(value: str | UUID) -> str:
    """A row id in the form Dataverse writes it. ValueError unless it is one: ids from outside end up in URLs."""
    found = str(value).strip("{}")
    if not _GUID.fullmatch(found):
        raise ValueError(f"not a row id: {str(value)[:60]!r}")
    return found.lower()


def moment(value: datetime) -> str:
    """A date-time literal in UTC. ValueError for a naive one."""
    if value.tzinfo is None:
        raise ValueError("a date-time needs a time zone")
    spelled = value.astimezone(UTC).isoformat(timespec="microseconds" if value.microsecond else "seconds")
    return spelled.replace("+00:00", "Z")


def row(entity_set: str, row_id: str | UUID) -> str:
    """The path of a row: ``row("invoices", id)`` is ``invoices(<id>)``."""
    return f"{entity_set}({guid(row_id)})"


def bind(entity_set: str, row_id: str | UUID) -> str:
    """The value for ``<navigation property>@odata.bind``."""
    return f"/{row(entity_set, row_id)}"


def query(
    entity_set: str, *, select: Iterable[str] = (), where: str = "", order_by: str = "", top: int | None = None
) -> str:
    """The path of a query; ``where`` is an OData condition whose literals were spelled by this module."""
    options = []
    if columns := ",".join(select):
        options.append(f"$select={columns}")
    if where:
        options.append(f"$filter={where}")
    if order_by:
        options.append(f"$orderby={order_by}")
    if top is not None:
        options.append(f"$top={top}")
    return f"{entity_set}?{'&'.join(options)}" if options else entity_set


def printable(text: str, keep: str = "") -> str:
    """Without what text columns may not hold: control characters other than those to `keep`, halves of surrogate pairs."""
    return "".join(char if char.isprintable() or char in keep else "\N{REPLACEMENT CHARACTER}" for char in text)


IDS = 200  # in one condition of `any_of`: Dataverse takes 500 conditions in a query


def any_of(column: str, literals: Sequence[str]) -> str:
    """A condition that ``column`` equals one of the ``literals``, of which there must be one."""
    if not literals:
        raise ValueError(f"{column}: no values to compare with")
    return "(" + " or ".join(f"{column} eq {literal}" for literal in literals) + ")"


def utc(value: str) -> datetime:
    """A DateTime column (``2026-03-01T09:30:00Z``) as an aware UTC time. ValueError unless it carries its zone."""
    parsed = datetime.fromisoformat(value)
    if parsed.tzinfo is None:
        raise ValueError(f"a date-time without time zone: {value[:40]!r}")
    return parsed.astimezone(UTC)


def id_of(entity_url: str | None) -> str | None:
    """The row id in an ``OData-EntityId``; None if it names the row by key, or there is none."""
    found = _GUID.search(entity_url.rpartition("(")[2]) if entity_url else None
    return found.group().lower() if found else None


def decode(body: bytes | str) -> Any:
    """JSON with exact numbers: fractions become ``Decimal``. ValueError for anything else, NaN and Infinity included."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_no_number)
    except InvalidOperation:
        raise ValueError("a number's exponent is beyond all bounds") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def encode(value: Any) -> str:
    """JSON with exact numbers: ``Decimal`` in, the same digits out, which the standard encoder cannot do.

    Accepts None, bool, int, Decimal, str, aware datetime, date, UUID, and mappings and sequences of these.
    TypeError or ValueError names the column otherwise; a float is refused because it has already lost its value.
    """
    spell = _SPELLINGS.get(type(value)) or next(
        (spell for kind, spell in _LIKE.items() if isinstance(value, kind)), None
    )
    if spell is None or isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"cannot send a {type(value).__name__}")
    return spell(value)


def _object(columns: Mapping[str, Any]) -> str:
    spelled, name = [], ""
    try:
        for name, value in columns.items():
            spell = _SPELLINGS.get(type(value))
            spelled.append(_name(name) + (encode(value) if spell is None else spell(value)))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    return "{" + ",".join(spelled) + "}"


@lru_cache(maxsize=4096)
def _name(name: str) -> str:
    return f"{_string(name)}:"


def _number(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value} is not a number that JSON knows")
    return format(value, "f")


def _array(values: Sequence[Any]) -> str:
    return "[" + ",".join([encode(value) for value in values]) + "]"


# By type, because bulk calls spell millions of values; what is only like one of them is found more slowly.
_SPELLINGS: dict[type, Callable[[Any], str]] = {
    str: _string,
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: int.__repr__,
    dict: _object,
    Decimal: _number,
    datetime: lambda value: f'"{moment(value)}"',
    date: lambda value: f'"{value.isoformat()}"',
    UUID: lambda value: f'"{value}"',
    list: _array,
}
_LIKE: dict[type, Callable[[Any], str]] = _SPELLINGS | {Mapping: _object, Sequence: _array}
