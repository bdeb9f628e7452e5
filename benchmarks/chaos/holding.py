"""What one customer has, as the model keeps it, and how points come and go."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal


@dataclass(slots=True)
class Holding:
    """What a customer has. `spend` and `earned` are by month; `documents` are points by invoice."""

    lots: dict[date, int] = field(default_factory=dict)
    owed: int = 0
    pending: dict[str, int] = field(default_factory=dict)
    documents: dict[str, int] = field(default_factory=dict)
    credited: dict[str, dict[date, int]] = field(default_factory=dict)
    spend: dict[str, Decimal] = field(default_factory=dict)
    earned: dict[str, int] = field(default_factory=dict)
    tier: str = ""
    last: str = ""  # document of the last entry, and what was credited to it before each entry in a row
    before: list[dict[date, int]] = field(default_factory=list)

    @property
    def balance(self) -> int:
        return sum(self.lots.values()) - self.owed

    def available(self, on: date) -> int:
        return max(0, sum(points for day, points in self.lots.items() if day >= on) - self.owed)

    def hold(self, document: str, points: int) -> None:
        if points:
            self.pending[document] = self.pending.get(document, 0) + points

    def credit(self, points: Mapping[date, int]) -> None:
        """A debt is paid first, from what would expire first."""
        for day in sorted(points):
            paid = min(self.owed, points[day])
            self.owed -= paid
            if points[day] > paid:
                self.lots[day] = self.lots.get(day, 0) + points[day] - paid

    def draw(self, points: int, on: date) -> dict[date, int]:
        drawn = {}
        for day in sorted(day for day in self.lots if day >= on):
            part = min(points, self.lots[day])
            if part:
                drawn[day] = part
                points -= part
        for day, part in drawn.items():
            self.lots[day] -= part
            if not self.lots[day]:
                del self.lots[day]
        return drawn

    def take(self, points: int, document: str, credited: Mapping[date, int]) -> None:
        """Pending points of the document, its own lots, other lots: latest expiry first; what is missing is owed."""
        part = min(points, self.pending.get(document, 0))
        if part:
            self.pending[document] -= part
            points -= part
            if not self.pending[document]:
                del self.pending[document]
        for own in (True, False):
            for day in sorted(self.lots, reverse=True):
                limit = max(0, credited.get(day, 0)) if own else self.lots[day]
                part = min(points, limit, self.lots[day])
                points -= part
                self.lots[day] -= part
        self.lots = {day: held for day, held in self.lots.items() if held}
        self.owed += points


def short(points: Mapping[str, int]) -> str:
    return "{" + ", ".join(f"{document[8:16]}: {n}" for document, n in sorted(points.items())) + "}"


def dated(lots: Mapping[date, int]) -> str:
    return "{" + ", ".join(f"{day}: {points}" for day, points in sorted(lots.items())) + "}"


def rows(holding: Holding) -> Iterator[str]:
    yield f"lots {dated(holding.lots)}, owed {holding.owed}, pending {short(holding.pending)}, tier {holding.tier}"
