"""Values of columns: JSON -> stored value, stored value -> JSON text, query literal -> stored value.

Numbers with decimal places are stored as exact integers scaled by the column's precision (Money: four places), so that no
binary float ever holds money. Times are stored as `YYYY-MM-DDTHH:MM:SSZ`, dates as `YYYY-MM-DD`: both sort as text.
"""

import datetime
import json
import math
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import Any

from local.dataverse.errors import Fault, bad_option, bad_payload, bad_query, out_of_range, too_long
from local.dataverse.model import BINARIES, CHOICES, LOOKUPS, TEXTS, Column, Option, Schema, Table

Sql = str | int | float | bytes | None
Parser = Callable[[Any], Sql]
Renderer = Callable[[Any], str]

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ZULU = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\dZ")
_INT64 = 2**63 - 1
_EDM = {
    "Integer": "Int32", "BigInt": "Int64", "Decimal": "Decimal", "Money": "Decimal", "Double": "Double",
    "Boolean": "Boolean", "Picklist": "Int32", "State": "Int32", "Status": "Int32", "Uniqueidentifier": "Guid",
    "Lookup": "Guid", "Customer": "Guid", "Owner": "Guid", "File": "Guid", "Image": "Binary",
}  # fmt: skip


def edm_type(column: Column) -> str:
    if column.type == "DateTime":
        return "Date" if column.behavior == "DateOnly" else "DateTimeOffset"
    return _EDM.get(column.type, "String")


def guid(text: Any) -> str | None:
    """The canonical form of a GUID, or None if it is none."""
    if not isinstance(text, str):
        return None
    lowered = text.lower()
    if not _GUID.fullmatch(lowered):
        lowered = lowered.strip("{}")
        if not _GUID.fullmatch(lowered):
            return None
    return lowered


def timestamp(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> str | None:
    """A stored time from any ISO form (no offset means UTC), or None."""
    if _ZULU.fullmatch(text):
        try:
            datetime.datetime.fromisoformat(text)
        except ValueError:
            return None
        return text
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    try:
        return f"{moment.astimezone(datetime.UTC).replace(tzinfo=None, microsecond=0).isoformat()}Z"
    except OverflowError:
        return None


def parse_date(text: str) -> str | None:
    try:
        return datetime.date.fromisoformat(text[:10]).isoformat() if len(text) >= 10 else None
    except ValueError:
        return None


def scaled(value: Decimal | int, places: int) -> int:
    if isinstance(value, int):
        return int(value * 10**places)
    return int(value.scaleb(places).to_integral_value(ROUND_HALF_UP))


def unscaled(value: int, places: int) -> Decimal:
    return Decimal(value).scaleb(-places)


def render_scaled(places: int) -> Renderer:
    if not places:
        return str
    unit = 10**places

    def render(value: int) -> str:
        if value < 0:
            whole, rest = divmod(-value, unit)
            return f"-{whole}.{rest:0{places}d}"
        whole, rest = divmod(value, unit)
        return f"{whole}.{rest:0{places}d}"

    return render


def _wrong_type(table: Table, column: Column, value: Any) -> Fault:
    kind = type(value).__name__
    return bad_payload(
        table.set_name,
        f"Cannot convert the value of property '{column.property_name}' ({kind}) to the expected type "
        f"'Edm.{edm_type(column)}'.",
    )


def parser(schema: Schema, table: Table, column: Column) -> Parser:
    """How a JSON value of this column becomes the stored value; refuses what Dataverse refuses."""
    kind = column.type
    if kind in TEXTS:
        limit = column.length or (4000 if kind == "String" else 1_048_576)

        def text(value: Any) -> Sql:
            if value is None:
                return None
            if not isinstance(value, str):
                raise _wrong_type(table, column, value)
            if len(value) > limit:
                raise too_long(column.name, table.name, limit)
            return value

        return text
    if kind in ("Integer", "BigInt"):
        low = int(column.minimum if column.minimum is not None else (-(2**31) if kind == "Integer" else -_INT64 - 1))
        high = int(column.maximum if column.maximum is not None else (2**31 - 1 if kind == "Integer" else _INT64))

        def integer(value: Any) -> Sql:
            if value is None:
                return None
            if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
                value = int(value) if abs(value.adjusted()) < 30 else _INT64 * 2
            if not isinstance(value, int) or isinstance(value, bool):
                raise _wrong_type(table, column, value)
            if not low <= value <= high:
                raise out_of_range(column.name, low, high)
            return value

        return integer
    if kind in ("Decimal", "Money"):
        places, scale = column.precision, column.scale
        widest = _INT64 // 10**scale
        low_d = max(Decimal(str(column.minimum)) if column.minimum is not None else Decimal(-widest), Decimal(-widest))
        high_d = min(Decimal(str(column.maximum)) if column.maximum is not None else Decimal(widest), Decimal(widest))

        def number(value: Any) -> Sql:
            if value is None:
                return None
            if isinstance(value, bool) or not isinstance(value, int | Decimal):
                raise _wrong_type(table, column, value)
            if not low_d <= value <= high_d:
                raise out_of_range(column.name, low_d, high_d)
            return scaled(value, places) * int(10 ** (scale - places))

        return number
    if kind == "Double":
        low_f = column.minimum if column.minimum is not None else -math.inf
        high_f = column.maximum if column.maximum is not None else math.inf

        def double(value: Any) -> Sql:
            if value is None:
                return None
            if isinstance(value, bool) or not isinstance(value, int | Decimal):
                raise _wrong_type(table, column, value)
            try:
                real = float(value)
            except OverflowError:
                real = math.inf
            if not low_f <= real <= high_f or math.isinf(real):
                raise out_of_range(column.name, low_f, high_f)
            return round(real, column.precision) if column.precision else real

        return double
    if kind == "Boolean":

        def boolean(value: Any) -> Sql:
            if value is None:
                return None
            if not isinstance(value, bool):
                raise _wrong_type(table, column, value)
            return int(value)

        return boolean
    if kind in CHOICES:

        def choice(value: Any) -> Sql:
            if value is None:
                return None
            if isinstance(value, bool) or not isinstance(value, int):
                raise _wrong_type(table, column, value)
            if all(option.value != value for option in schema.options_of(column)):
                raise bad_option(column.name, value, table.name)
            return value

        return choice
    if kind == "MultiSelectPicklist":

        def choices(value: Any) -> Sql:
            if value is None or value == "":
                return None
            if not isinstance(value, str):
                raise _wrong_type(table, column, value)
            known = {option.value for option in schema.options_of(column)}
            try:
                picked = sorted({int(part) for part in value.split(",")})
            except ValueError as error:
                raise _wrong_type(table, column, value) from error
            for number in picked:
                if number not in known:
                    raise bad_option(column.name, number, table.name)
            return ",".join(map(str, picked))

        return choices
    if kind == "DateTime":
        day_only = column.behavior == "DateOnly"

        def moment(value: Any) -> Sql:
            if value is None:
                return None
            if not isinstance(value, str):
                raise _wrong_type(table, column, value)
            parsed = parse_date(value) if day_only else parse_time(value)
            if parsed is None or (day_only and len(value) > 10 and parse_time(value) is None):
                raise bad_payload(table.set_name, f"Cannot convert the literal '{value[:60]}' to the expected type "
                                                  f"'Edm.{edm_type(column)}' of property '{column.name}'.")  # fmt: skip
            if parsed < "1753-01-01":
                raise Fault(400, "0x80040239", f"DateTime is less than minumum value supported by CrmDateTime. "
                                               f"Actual value: {value[:60]}, Minimum value supported: 01/01/1753 "
                                               f"(attribute '{column.name}')")  # fmt: skip
            return parsed

        return moment
    if kind == "Uniqueidentifier" or kind in LOOKUPS:

        def identifier(value: Any) -> Sql:
            if value is None:
                return None
            found = guid(value)
            if found is None:
                raise _wrong_type(table, column, value)
            return found

        return identifier

    def refuse(value: Any) -> Sql:
        raise bad_payload(table.set_name, f"The property '{column.name}' cannot be set in this request.")

    return refuse


_true_false: Renderer = ("false", "true").__getitem__


def renderer(column: Column) -> Renderer:
    """How a stored value (never None) becomes JSON text."""
    kind = column.type
    if kind in ("Decimal", "Money"):
        return render_scaled(column.scale)
    if kind == "Boolean":
        return _true_false
    if kind in ("Integer", "BigInt") or kind in CHOICES:
        return str
    if kind == "Double":
        return repr
    if kind == "DateTime" or kind == "Uniqueidentifier" or kind in LOOKUPS:
        return '"{}"'.format
    if kind == "Image":
        return lambda value: json.dumps(value)
    return encode_basestring


def literal(column: Column, kind: str, text: str) -> Sql:
    """A literal of a query, as the stored value of this column. `kind`: s(tring) n(umber) d(ate) g(uid) b(oolean) null."""
    if kind == "null":
        return None
    of = column.type
    try:
        if of in TEXTS or of == "MultiSelectPicklist":
            return text
        if of in ("Integer", "BigInt") or of in CHOICES:
            number = Decimal(text)
            if kind in "ns" and abs(number) <= _INT64:
                return int(number) if number == number.to_integral_value() else float(number)
        elif of in ("Decimal", "Money"):
            number = Decimal(text) * 10**column.scale
            if kind in "ns" and abs(number) <= _INT64:
                return int(number) if number == number.to_integral_value() else float(number)
        elif of == "Double":
            return float(text)
        elif of == "Boolean":
            if kind == "b":
                return int(text == "true")
            if text in ("0", "1"):
                return int(text)
            if text.lower() in ("true", "false"):
                return int(text.lower() == "true")
        elif of == "DateTime":
            parsed = parse_date(text) if column.behavior == "DateOnly" else parse_time(text)
            if parsed is not None:
                return parsed
        elif of == "Uniqueidentifier" or of in LOOKUPS or of in BINARIES:
            found = guid(text)
            if found is not None:
                return found
    except (InvalidOperation, ValueError, ArithmeticError):
        pass
    raise bad_query(
        f"A binary operator with incompatible types was detected. The value '{text[:60]}' cannot be compared with "
        f"'{column.property_name}' of type 'Edm.{edm_type(column)}'."
    )


def option_label(options: list[Option], value: Any) -> str:
    for option in options:
        if option.value == value:
            return option.label
    return str(value)


def formatted(schema: Schema, column: Column, value: Any, symbol: str = "$") -> str | None:
    """The display text of a stored value, or None for types that have none of their own (US English, UTC)."""
    kind = column.type
    if value is None:
        return None
    if kind in CHOICES:
        return option_label(schema.options_of(column), value)
    if kind == "MultiSelectPicklist":
        options = schema.options_of(column)
        return "; ".join(option_label(options, int(part)) for part in value.split(","))
    if kind == "Boolean":
        options = schema.options_of(column)
        return option_label(options, value) if options else ("Yes" if value else "No")
    if kind == "Money":
        number = unscaled(value, 4)
        places = column.precision
        return f"-{symbol}{-number:,.{places}f}" if number < 0 else f"{symbol}{number:,.{places}f}"
    if kind == "Decimal":
        return f"{unscaled(value, column.scale):,.{column.precision}f}"
    if kind in ("Integer", "BigInt"):
        return f"{value:,}"
    if kind == "Double":
        return f"{value:,.{column.precision or 2}f}"
    if kind == "DateTime":
        day = datetime.datetime.fromisoformat(value)
        date = f"{day.month}/{day.day}/{day.year}"
        if column.behavior == "DateOnly" or column.format == "DateOnly":
            return date
        return f"{date} {day.hour % 12 or 12}:{day.minute:02d} {'AM' if day.hour < 12 else 'PM'}"
    return None
