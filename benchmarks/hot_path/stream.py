"""The business events that every implementation gets: the same ones, in the same order, about customers of its own."""

import random
from dataclasses import dataclass
from enum import Enum

from connector.bus import Change, Subject
from connector.identity import Customer, derived_id

_HOT_CUSTOMERS, _HOT_SHARE = 5, 0.2
_CANCELLED, _REDEEMED, _REPEATED = 0.1, 0.15, 0.1  # shares of all events; the rest are invoices just paid


class Kind(Enum):
    PAID = "paid"  # an invoice that was just paid
    CANCELLED = "cancelled"  # an invoice of the customer's history that was just cancelled
    REDEEM = "redeem"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the business. `amount` is in whole currency units, for a redemption in points; `past` is the place of a
    cancelled invoice in its customer's history."""

    number: int
    kind: Kind
    customer: int
    amount: int
    past: int = 0


@dataclass(frozen=True, slots=True)
class Recording:
    """`events` are numbers of `rows`; a row that comes twice is an event that Dataverse delivered twice."""

    history: int
    rows: tuple[Row, ...]
    events: tuple[int, ...]

    @property
    def touched(self) -> list[int]:
        return sorted({row.customer for row in self.rows})


def record(seed: int, *, customers: int, history: int, changes: int) -> Recording:
    """`changes` events of `customers` customers, a fifth of them of five hot ones. Each customer has `history` entries before."""
    chance = random.Random(seed)
    rows: list[Row] = []
    events: list[int] = []
    cancelled: dict[int, int] = {}
    while len(events) < changes:
        draw = chance.random()
        if rows and draw < _REPEATED:
            events.append(chance.choice(events[-20:]))
            continue
        hot = customers > _HOT_CUSTOMERS and chance.random() < _HOT_SHARE
        customer = chance.randrange(_HOT_CUSTOMERS if hot else customers)
        number = len(rows)
        place = cancelled.get(customer, 0)
        if draw < _REPEATED + _REDEEMED:
            # One in ten asks for more than anybody has.
            points = 1_000_000_000 if chance.random() < 0.1 else chance.randrange(1, 40)
            row = Row(number, Kind.REDEEM, customer, points)
        elif draw < _REPEATED + _REDEEMED + _CANCELLED and place < history:
            cancelled[customer] = place + 1
            row = Row(number, Kind.CANCELLED, customer, past_amount(customer, place), place)
        else:
            row = Row(number, Kind.PAID, customer, chance.randrange(20, 200))
        rows.append(row)
        events.append(number)
    return Recording(history, tuple(rows), tuple(events))


def past_amount(customer: int, place: int) -> int:
    """Net amount of an invoice of a customer's history."""
    return 20 + (customer * 31 + place * 7) % 100


@dataclass(frozen=True, slots=True)
class Names:
    """Ids of one run's rows: each implementation has customers of its own."""

    run: str

    def customer(self, number: int) -> Customer:
        return Customer("account", derived_id(self.run, "customer", str(number)))

    def past_invoice(self, customer: int, place: int) -> str:
        return derived_id(self.run, "past", str(customer), str(place))

    def row(self, row: Row) -> str:
        if row.kind is Kind.CANCELLED:
            return self.past_invoice(row.customer, row.past)
        return derived_id(self.run, row.kind.value, str(row.number))

    def changes(self, recording: Recording) -> list[Change]:
        """The messages, in order."""
        return [
            Change.about(
                Subject.REDEMPTION if row.kind is Kind.REDEEM else Subject.INVOICE,
                self.row(row),
                str(self.customer(row.customer)),
                cause=f"event {place}",
            )
            for place, row in enumerate(recording.rows[number] for number in recording.events)
        ]
