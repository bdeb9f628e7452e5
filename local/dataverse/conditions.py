"""Single conditions as SQL: shared by `$filter`, FetchXML and saved views.

A condition is compiled once into SQL with numbered parameters; each parameter is a function of the inputs of a run (the
literals, the caller, the time), so that the compiled form can be kept.
"""

import datetime
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from local.dataverse.errors import Fault, bad_query
from local.dataverse.model import TEXTS, Column
from local.dataverse.odata import Literals
from local.dataverse.values import Sql, literal, timestamp

HIGHEST = "\U0010ffff"


@dataclass(slots=True, frozen=True)
class Inputs:
    """What a run of a compiled query may depend on."""

    literals: Literals
    now: datetime.datetime
    user: str = ""
    business_unit: str = ""
    teams: tuple[str, ...] = ()


Bind = Callable[[Inputs], Sql]


@dataclass(slots=True)
class Parameters:
    """Numbered parameters of one statement."""

    binds: list[Bind] = field(default_factory=list)

    def add(self, bind: Bind) -> str:
        self.binds.append(bind)
        return f"?{len(self.binds)}"

    def constant(self, value: Sql) -> str:
        return self.add(lambda _: value)

    def values(self, inputs: Inputs) -> list[Sql]:
        return [bind(inputs) for bind in self.binds]


def bind_literal(column: Column, index: int) -> Bind:
    return lambda inputs: literal(column, *inputs.literals[index])


def compare(sql: str, operator: str, other: str, *, nullable_literal: bool = False) -> str:
    """Dataverse's comparisons: `ne` also finds rows without a value."""
    if operator == "eq":
        return f"{sql} IS {other}" if nullable_literal else f"{sql} = {other}"
    if operator == "ne":
        return f"{sql} IS NOT {other}"
    return f"{sql} {({'gt': '>', 'ge': '>=', 'lt': '<', 'le': '<='})[operator]} {other}"


def text_condition(sql: str, operator: str, index: int, wild: bool, parameters: Parameters) -> str:
    """contains, startswith or endswith with Dataverse's wildcards % _ [] [^]."""

    def text(inputs: Inputs) -> str:
        return inputs.literals[index][1]

    if wild:
        before = "" if operator == "startswith" else "%"
        after = "" if operator == "endswith" else "%"
        return f"dv_like({parameters.add(lambda inputs: f'{before}{text(inputs)}{after}')}, {sql})"
    if operator == "startswith":  # a range, so that an index serves
        return f"({sql} >= {parameters.add(text)} AND {sql} < {parameters.add(lambda i: text(i) + HIGHEST)})"
    if operator == "endswith":
        return f"{sql} LIKE '%' || {parameters.add(text)}"
    return f"{sql} LIKE '%' || {parameters.add(text)} || '%'"


@lru_cache(maxsize=512)
def _like_pattern(pattern: str) -> re.Pattern[str]:
    parts = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "%":
            parts.append(".*")
        elif char == "_":
            parts.append(".")
        elif char == "[" and "]" in pattern[position + 2 :]:
            end = pattern.index("]", position + 2)
            inner = pattern[position + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"[{inner}]")
            position = end
        else:
            parts.append(re.escape(char))
        position += 1
    try:
        return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)
    except re.error:
        return re.compile(re.escape(pattern))


def _like(pattern: str, value: str | None) -> int:
    return int(value is not None and _like_pattern(re.sub("%+", "%", pattern)).fullmatch(value) is not None)


def register_functions(connection: sqlite3.Connection) -> None:
    connection.create_function("dv_like", 2, _like, deterministic=True)


# --- dates ---

Range = tuple[datetime.datetime | None, datetime.datetime | None]
_DAY = datetime.timedelta(days=1)
_SECOND = datetime.timedelta(seconds=1)


def _add_months(moment: datetime.datetime, months: int) -> datetime.datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    if not 1753 <= year <= 9999:
        raise bad_query("The date is outside the supported range.")
    first = moment.replace(year=year, month=month + 1, day=1)
    last = (first.replace(day=28) + datetime.timedelta(days=4)).replace(day=1) - _DAY
    return first.replace(day=min(moment.day, last.day))


def _start(moment: datetime.datetime, unit: str) -> datetime.datetime:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":
        return day - datetime.timedelta(days=(day.weekday() + 1) % 7)  # weeks begin on Sunday
    if unit == "month":
        return day.replace(day=1)
    if unit == "fiscal-period":  # quarters of a fiscal year that begins in January
        return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
    if unit in ("year", "fiscal-year"):
        return day.replace(month=1, day=1)
    return day


def _shift(moment: datetime.datetime, unit: str, count: int) -> datetime.datetime:
    if abs(count) > 1_000_000:
        raise bad_query("The value of a date condition is out of range.")
    months = {"month": 1, "fiscal-period": 3, "year": 12, "fiscal-year": 12}.get(unit)
    if months:
        return _add_months(moment, months * count)
    try:
        return moment + datetime.timedelta(**{f"{unit}s": count})
    except OverflowError as error:
        raise bad_query("The value of a date condition is out of range.") from error


def _named_range(name: str, now: datetime.datetime) -> Range | None:
    today = _start(now, "day")
    if name in ("today", "yesterday", "tomorrow"):
        first = today + {"today": 0, "yesterday": -1, "tomorrow": 1}[name] * _DAY
        return first, first + _DAY
    if name == "last-seven-days":
        return today - 7 * _DAY, now + _SECOND  # what was written within this very second counts
    if name == "next-seven-days":
        return now, today + 8 * _DAY
    found = re.fullmatch(r"(this|last|next)-(week|month|year|fiscal-year|fiscal-period)", name)
    if found is None:
        return None
    unit = found[2]
    first = _shift(_start(now, unit), unit, {"this": 0, "last": -1, "next": 1}[found[1]])
    return first, _shift(first, unit, 1)


_UNITS = {
    "minutes": "minute", "hours": "hour", "days": "day", "weeks": "week", "months": "month", "years": "year",
    "fiscal-years": "fiscal-year", "fiscal-periods": "fiscal-period",
}  # fmt: skip


def _counted_range(name: str, count: int, now: datetime.datetime) -> Range | None:
    found = re.fullmatch(r"(last|next|olderthan)-x-([a-z-]+)", name)
    if found is None or found[2] not in _UNITS:
        return None
    if count < 1:
        raise bad_query(f"The value of the condition '{name}' must be a positive whole number.")
    unit = _UNITS[found[2]]
    today = now if unit in ("hour", "minute") else _start(now, "day")
    if found[1] == "olderthan":
        return None, _shift(today, unit, -count)
    if found[1] == "last":
        return _shift(today, unit, -count), now + _SECOND
    ahead = _shift(today, unit, count)
    return now, ahead if unit in ("hour", "minute") else ahead + _DAY


def _whole(inputs: Inputs, index: int) -> int:
    try:
        return int(inputs.literals[index][1])
    except ValueError:
        raise bad_query(f"'{inputs.literals[index][1][:40]}' is not a whole number.") from None


def _fiscal(name: str, numbers: list[int], now: datetime.datetime) -> Range:
    def at(year: int, month: int) -> datetime.datetime:
        if not 1753 <= year <= 9998 or not 1 <= month <= 10:
            raise bad_query(f"The value of the condition '{name}' is out of range.")
        return datetime.datetime(year, month, 1, tzinfo=datetime.UTC)

    if name == "in-fiscal-year":
        return at(numbers[0], 1), at(numbers[0] + 1, 1)
    period, year = numbers[0], numbers[1]
    first = at(year, period * 3 - 2)
    after = _add_months(first, 3)
    if name == "in-or-before-fiscal-period-and-year":
        return None, after
    return (first, None) if name == "in-or-after-fiscal-period-and-year" else (first, after)


def date_condition(sql: str, column: Column, name: str, indexes: list[int], parameters: Parameters) -> str | None:
    """A relative or day-based date condition (FetchXML's name for it), or None if `name` is none of them."""
    day_only = column.behavior == "DateOnly"

    def text(moment: datetime.datetime) -> str:
        return moment.strftime("%Y-%m-%d") if day_only else timestamp(moment)

    def bounds(inputs: Inputs) -> Range:
        if name in ("on", "on-or-after", "on-or-before"):
            value = literal(column, *inputs.literals[indexes[0]])
            day = datetime.datetime.fromisoformat(str(value)[:10]).replace(tzinfo=datetime.UTC)
            after = day + _DAY if day.year < 9999 else day
            return (None if name == "on-or-before" else day), (None if name == "on-or-after" else after)
        if "fiscal" in name and name.startswith("in-"):
            return _fiscal(name, [_whole(inputs, index) for index in indexes], inputs.now)
        found = _named_range(name, inputs.now)
        return found or _counted_range(name, _whole(inputs, indexes[0]), inputs.now) or (None, None)

    wanted = _arity(name)
    if wanted is None:
        return None
    if column.type != "DateTime":
        raise bad_query(f"The condition '{name}' needs a date column; '{column.name}' is of type {column.type}.")
    if len(indexes) != wanted:
        raise bad_query(f"The condition '{name}' takes {wanted} value(s).")

    def low(inputs: Inputs) -> str:
        moment = bounds(inputs)[0]
        return "" if moment is None else text(moment)

    def high(inputs: Inputs) -> str:
        moment = bounds(inputs)[1]
        if moment is None:
            return HIGHEST
        # a bound within a day counts that day for columns that hold whole days
        return text(moment + _DAY if day_only and moment.time() != datetime.time() else moment)

    return f"({sql} >= {parameters.add(low)} AND {sql} < {parameters.add(high)})"


def is_range(name: str) -> bool:
    """Whether a condition of that name is one of `date_condition`'s, which hold between two dates."""
    return _arity(name) is not None


def _arity(name: str) -> int | None:
    if name in ("on", "on-or-after", "on-or-before", "in-fiscal-year"):
        return 1
    if name in (
        "in-fiscal-period-and-year",
        "in-or-before-fiscal-period-and-year",
        "in-or-after-fiscal-period-and-year",
    ):
        return 2
    probe = datetime.datetime(2020, 6, 15, 12, tzinfo=datetime.UTC)
    if _named_range(name, probe):
        return 0
    return 1 if _counted_range(name, 1, probe) else None


def condition(sql: str, column: Column, name: str, indexes: list[int], parameters: Parameters) -> str:
    """Any condition by its FetchXML name. `indexes` are those of its literals."""

    def value(position: int) -> str:
        return parameters.add(bind_literal(column, indexes[position]))

    def need(count: int) -> None:
        if len(indexes) != count:
            raise bad_query(f"The condition '{name}' takes {count} value(s).")

    dated = date_condition(sql, column, name, indexes, parameters)
    if dated:
        return dated
    if name in ("eq", "ne", "neq", "gt", "ge", "lt", "le"):
        need(1)
        return compare(sql, "ne" if name == "neq" else name, value(0))
    if name in ("null", "not-null"):
        return f"{sql} IS {'NOT ' if name == 'not-null' else ''}NULL"
    if name in ("in", "not-in"):
        if len(indexes) > 2000:
            raise Fault(400, "0x8004430e", "Number of values in a condition exceeded the maximum limit.")
        if not indexes:
            return "0" if name == "in" else "1"
        listed = ", ".join(value(i) for i in range(len(indexes)))
        return f"{sql} IN ({listed})" if name == "in" else f"({sql} IS NULL OR {sql} NOT IN ({listed}))"
    if name in ("between", "not-between"):
        need(2)
        between = f"{sql} BETWEEN {value(0)} AND {value(1)}"
        return between if name == "between" else f"NOT ({between})"
    if name in ("like", "not-like", "begins-with", "not-begin-with", "ends-with", "not-end-with"):
        need(1)
        if column.type not in TEXTS:
            raise bad_query(f"The condition '{name}' needs a text column; '{column.name}' is of type {column.type}.")
        before = "%" if "end" in name else ""
        after = "%" if "begin" in name else ""
        pattern = parameters.add(lambda inputs: f"{before}{inputs.literals[indexes[0]][1]}{after}")
        negated = name.startswith("not")
        return f"({sql} IS NULL OR NOT dv_like({pattern}, {sql}))" if negated else f"dv_like({pattern}, {sql})"
    if name in ("contain-values", "not-contain-values"):
        parts = " OR ".join(
            f"',' || {sql} || ',' LIKE '%,' || {parameters.add(lambda i, n=index: i.literals[n][1])} || ',%'"  # type: ignore[misc]
            for index in indexes
        )
        return f"({parts})" if name == "contain-values" else f"({sql} IS NULL OR NOT ({parts}))"
    if name in ("eq-userid", "eq-useroruserhierarchy"):  # no hierarchy of managers gives access here
        return f"{sql} = {parameters.add(lambda inputs: inputs.user)}"
    if name in ("eq-userteams", "eq-useroruserteams", "eq-useroruserhierarchyandteams"):
        user = parameters.add(lambda inputs: inputs.user)
        teams = f"{sql} IN (SELECT teamid FROM teammembership WHERE systemuserid = {user})"
        return teams if name == "eq-userteams" else f"({sql} = {user} OR {teams})"
    if name == "ne-userid":
        return f"{sql} IS NOT {parameters.add(lambda inputs: inputs.user)}"
    if name == "eq-businessid":
        return f"{sql} = {parameters.add(lambda inputs: inputs.business_unit)}"
    if name == "ne-businessid":
        return f"{sql} IS NOT {parameters.add(lambda inputs: inputs.business_unit)}"
    if name == "eq-userlanguage":
        return f"{sql} = 1033"
    raise bad_query(f"The condition operator '{name[:60]}' is not supported.")


_PASCAL = re.compile(r"(?<!^)(?=[A-Z])")
_ODATA_NAMES = {
    "Last7Days": "last-seven-days", "Next7Days": "next-seven-days", "In": "in", "NotIn": "not-in",
    "ContainValues": "contain-values", "DoesNotContainValues": "not-contain-values", "EqualUserId": "eq-userid",
    "NotEqualUserId": "ne-userid", "EqualBusinessId": "eq-businessid", "NotEqualBusinessId": "ne-businessid",
    "EqualUserLanguage": "eq-userlanguage", "EqualUserTeams": "eq-userteams", "EqualUserOrUserTeams": "eq-useroruserteams",
    "EqualUserOrUserHierarchy": "eq-useroruserhierarchy",
    "EqualUserOrUserHierarchyAndTeams": "eq-useroruserhierarchyandteams",
    "Above": "above", "AboveOrEqual": "eq-or-above", "Under": "under", "UnderOrEqual": "eq-or-under",
    "NotUnder": "not-under", "Between": "between", "NotBetween": "not-between", "BeginsWith": "begins-with",
    "EndsWith": "ends-with", "DoesNotBeginWith": "not-begin-with", "DoesNotEndWith": "not-end-with",
    "Like": "like", "NotLike": "not-like",
}  # fmt: skip


HIERARCHY = frozenset({"above", "eq-or-above", "under", "eq-or-under", "not-under"})
"""Conditions on the place of a row in its table's hierarchy: see `Scope.hierarchy`."""


def fetch_name(odata_name: str) -> str:
    """FetchXML's name of a Microsoft.Dynamics.CRM query function."""
    if odata_name in _ODATA_NAMES:
        return _ODATA_NAMES[odata_name]
    dashed = _PASCAL.sub("-", odata_name).lower()
    return dashed.replace("older-than", "olderthan")
