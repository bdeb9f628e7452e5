"""What the ledger already says about one document."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

from connector.loyalty.ledger import Entry, Kind


@dataclass(slots=True)
class Posted:
    """The sum of a document's entries: net points, spend, where its points went, and the arithmetic last used.

    `spendable_on` is the day its points are spendable, None when not known. `place` orders the invoices of a customer: by date,
    then by document.
    """

    document: str
    occurred_on: datetime
    entries: int = 0
    points: int = 0
    spend: Decimal = Decimal(0)
    credited: dict[date, int] = field(default_factory=dict)
    spendable_on: date | None = None
    base: Fraction = Fraction(0)
    multiplier: Decimal = Decimal(1)
    rule_version: str = ""

    @property
    def place(self) -> tuple[datetime, str]:
        return self.occurred_on, self.document

    @property
    def holds(self) -> bool:
        """Whether anything of the document is in the ledger."""
        return bool(self.points or self.spend or self.base)

    def add(self, entry: Entry) -> None:
        movements = entry.moved
        self.entries += 1
        self.points += entry.points
        self.spend += sum(movements.spend.values(), Decimal(0))
        for day, points in movements.lots.items():
            self.credited[day] = self.credited.get(day, 0) + points
        self.rule_version = entry.rule_version or self.rule_version
        explained = entry.explained
        spendable_on = explained.get("spendable_on")
        self.spendable_on = date.fromisoformat(spendable_on) if spendable_on else None
        self.base = Fraction(explained["base"]) if "base" in explained else self.base
        self.multiplier = Decimal(explained["multiplier"]) if "multiplier" in explained else self.multiplier


def posted(entries: Iterable[Entry]) -> dict[str, Posted]:
    """Documents by their cause. Entries must come in ledger order."""
    documents: dict[str, Posted] = {}
    for entry in entries:
        note(documents, entry)
    return documents


def note(documents: dict[str, Posted], entry: Entry) -> None:
    """Add one more entry to the documents of a customer.

    A history that begins in the middle may hold the maturing of a document without its earning: that document is left out.
    """
    if entry.cause in documents or entry.kind in (Kind.EARN, Kind.TAKEBACK):
        documents.setdefault(entry.cause, Posted(entry.cause, entry.occurred_on)).add(entry)
