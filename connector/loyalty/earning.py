"""From an invoice to points, exactly. Money is `Decimal` in the base currency that Dataverse wrote on the invoice."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

from connector.loyalty.program import EarnRule


class Status(Enum):
    ISSUED = "issued"
    PAID = "paid"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `net` is after discount and without tax."""

    number: str
    category: str
    net: Decimal


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice as it is now. `net` is its total without tax and freight; `paid_on` is set when it is paid."""

    id: str
    number: str
    customer: str
    status: Status
    invoiced_on: datetime
    net: Decimal
    lines: tuple[Line, ...]
    paid_on: date | None = None

    @property
    def document(self) -> str:
        return f"invoice:{self.id}"


@dataclass(frozen=True, slots=True)
class Base:
    """Points before the tier's multiplier, exact, and what they came from."""

    points: Fraction
    rule: EarnRule
    shares: tuple[tuple[Line, Fraction], ...]
    excluded: tuple[Line, ...]

    def times(self, multiplier: Decimal) -> int:
        """Whole points of the document, rounded down."""
        return whole(self.points, multiplier)

    def explain(self, multiplier: Decimal) -> dict[str, Any]:
        """The arithmetic line by line. Each line is rounded down; the largest takes the rest, so lines add up to the document."""
        exact = [share * Fraction(self.rule.points_per_unit) * Fraction(multiplier) for _, share in self.shares]
        lines = [int(points) for points in exact]
        if lines:
            lines[max(range(len(lines)), key=lambda i: exact[i])] += self.times(multiplier) - sum(lines)
        return {
            "base": written(self.points),
            "multiplier": str(multiplier),
            "rate": str(self.rule.points_per_unit),
            "lines": [
                [line.number, line.category, str(line.net), n] for (line, _), n in zip(self.shares, lines, strict=True)
            ],
            "excluded": [[line.number, line.category, str(line.net)] for line in self.excluded],
        }


def base_points(invoice: Invoice, rule: EarnRule) -> Base:
    """Points before the multiplier. A discount on the whole invoice falls on all lines in proportion.

    An invoice without lines earns on its own net total.
    """
    lines: Sequence[Line] = invoice.lines or (Line("1", "", invoice.net),)
    total = sum((line.net for line in lines), Decimal(0))
    scale = Fraction(invoice.net) / Fraction(total) if total else Fraction(0)
    earning = [line for line in lines if line.category.casefold() not in rule.excluded_categories]
    excluded = tuple(line for line in lines if line.category.casefold() in rule.excluded_categories)
    shares = tuple((line, Fraction(line.net) * scale) for line in earning)
    points = max(Fraction(0), sum((share for _, share in shares), Fraction(0))) * Fraction(rule.points_per_unit)
    return Base(points, rule, shares, excluded)


def whole(base: Fraction, multiplier: Decimal) -> int:
    return int(base * Fraction(multiplier))


def written(points: Fraction) -> str:
    """Exact text that `Fraction` reads back: decimal digits where they end (`12.5`), else a quotient (`4/3`)."""
    digits = f"{points:.12f}".rstrip("0").rstrip(".")
    return digits if Fraction(digits) == points else str(points)
