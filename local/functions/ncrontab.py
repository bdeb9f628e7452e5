"""NCRONTAB schedules: `{second} {minute} {hour} {day} {month} {day of week}`, in UTC.

As in NCrontab, and unlike Unix cron, a moment must satisfy the day *and* the day of the week. Sunday is 0.
"""

import calendar
import datetime
from dataclasses import dataclass

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_FIELDS: list[tuple[str, int, int, dict[str, int]]] = [
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
]


@dataclass(frozen=True)
class Schedule:
    """When a timer fires. `parse` raises ValueError naming the field that is wrong."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        parts = text.split()
        if len(parts) != len(_FIELDS):
            raise ValueError(f"schedule {text!r} has {len(parts)} fields, not six (second first)")
        return cls(*(_parse(part, *field) for part, field in zip(parts, _FIELDS, strict=True)))

    def after(self, moment: datetime.datetime) -> datetime.datetime:
        """The first occurrence later than `moment` (aware, UTC); ValueError if none comes within eight years."""
        second = moment.replace(microsecond=0) + datetime.timedelta(seconds=1)
        day, first = second.date(), second.time()
        for _ in range(8 * 366):
            if day.day in self.days and day.month in self.months and day.isoweekday() % 7 in self.weekdays:
                for hour in sorted(h for h in self.hours if h >= first.hour):
                    for minute in sorted(self.minutes):
                        if (hour, minute) < (first.hour, first.minute):
                            continue
                        for at in sorted(self.seconds):
                            if (hour, minute, at) >= (first.hour, first.minute, first.second):
                                return datetime.datetime.combine(
                                    day, datetime.time(hour, minute, at), tzinfo=datetime.UTC
                                )
            day, first = day + datetime.timedelta(days=1), datetime.time()
        raise ValueError("the schedule never comes due")


def _parse(text: str, name: str, low: int, high: int, words: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for item in text.lower().split(","):
        span, slash, step_text = item.partition("/")
        first_text, dash, last_text = span.partition("-")
        try:
            step = int(step_text) if slash else 1
            if span == "*":
                first, last = low, high
            else:
                first = _number(first_text, words)
                last = _number(last_text, words) if dash else high if slash else first
        except ValueError:
            raise ValueError(f"{name}: {item!r} is no number, range or step") from None
        if not (low <= first <= high and low <= last <= high and first <= last and step >= 1):
            raise ValueError(f"{name}: {item!r} is outside {low} to {high}")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, words: dict[str, int]) -> int:
    return words[text[:3]] if text[:3] in words else int(text)
