"""Made-up customers with a past: what the programme would have written had it served them since it began.

Every ledger is made by the product's own decisions, so that the audit finds nothing to say about it. A customer follows from
the seed and a number alone.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from connector.identity import Customer
from connector.loyalty.decisions import Decision, Outcome
from connector.loyalty.earning import Invoice, Line, Status
from connector.loyalty.invoices import decide_invoice
from connector.loyalty.ledger import Entry, Journal, Kind, Movements, State
from connector.loyalty.program import Program, add_months, end_of_period
from connector.loyalty.redemptions import Redemption, decide_redemption
from connector.rows import ledger, wishes
from connector.rows.choices import NoticeStatus, RedemptionStatus, RedemptionType
from connector.rows.copies import copies
from connector.rows.customers import DEFAULT_RATING, CustomerRow

OPENED = timedelta(days=100)
"""So long ago the programme began, with opening balances; what has expired since then is due."""

_DEAREST = 500_000_000  # cents

type Rows = list[tuple[str, dict[str, Any]]]


@dataclass(slots=True)
class Person:
    """`rows` by table in an order in which they can be created; `paid` are ids of invoices."""

    customer: Customer
    due: bool = False
    state: State = field(default_factory=State)
    entries: list[Entry] = field(default_factory=list)
    rows: Rows = field(default_factory=list)
    paid: list[str] = field(default_factory=list)


class People:
    """`share_due`: the part of customers who got a lot that expires before `as_of`."""

    def __init__(self, program: Program, as_of: date, seed: int, share_due: float) -> None:
        self._program = program
        self._as_of = as_of
        self._seed = seed
        self._share_due = share_due
        self._opened = datetime.combine(as_of - OPENED, time(6), UTC)
        self._ends = [end_of_period(add_months(as_of, month), program.rounding) for month in range(-3, 25)]
        self._past = [day for day in self._ends if self._opened.date() <= day < as_of]
        self._future = [day for day in self._ends if day >= as_of]

    def person(self, number: int) -> Person:
        """The customer of a number, always the same."""
        chance = random.Random(f"{self._seed}/{number}")
        table = "contact" if chance.random() < 0.3 else "account"
        person = Person(Customer(table, str(UUID(int=chance.getrandbits(128), version=4))))
        since = add_months(self._as_of, -3 - int(chance.expovariate(1 / 40)) % 240)
        self._open(person, chance, since, late=chance.random() < self._share_due)
        for _ in range(_few(chance, 0.25)):
            self._buy(person, chance, since)
        if chance.random() < 0.1:
            self._redeem(person, chance)
        self._finish(person, number, since)
        return person

    def _open(self, person: Person, chance: random.Random, since: date, *, late: bool) -> None:
        """The opening balance: lots of the years before, most of a few points, few of very many."""
        days = chance.sample(self._future, min(1 + int(chance.expovariate(1 / 3)), len(self._future)))
        if late:
            days += chance.sample(self._past, min(1 + _few(chance, 0.3), len(self._past)))
        lots = {day: 1 + int(math.exp(chance.gauss(5, 1.5))) for day in sorted(days)}
        journal = Journal(str(person.customer), person.state)
        journal.append(
            Kind.ADJUST,
            Movements(lots=lots, tier=self._program.tiers[0].code, since=since),
            cause="opening",
            key=f"opening:{person.customer}",
            occurred_on=self._opened,
            explanation={"opening": {day.isoformat(): points for day, points in lots.items()}},
        )
        person.entries += journal.entries
        person.state = journal.state

    def _buy(self, person: Person, chance: random.Random, since: date) -> None:
        """An invoice, paid on its day; a few are worth a tier."""
        now = self._later(person, chance)
        customer, program = person.customer, self._program
        price = Decimal(min(int(math.exp(chance.gauss(6, 3)) * 100), _DEAREST) + 100).scaleb(-2)
        invoice_id = str(UUID(int=chance.getrandbits(128), version=4))
        number = f"INV-{invoice_id[:8]}"
        invoice = Invoice(
            id=invoice_id,
            number=number,
            customer=str(customer),
            status=Status.PAID,
            invoiced_on=now,
            net=price,
            lines=(Line("1", "", price),),
            paid_on=now.date(),
        )
        decision = decide_invoice(program, str(customer), person.state, invoice, invoice.document, (), now, since=since)
        assert isinstance(decision, Decision)
        assert decision.outcome is Outcome.APPLIED
        self._apply(person, decision)
        line = {
            "isproductoverridden": True,
            "ispriceoverridden": True,
            "productdescription": "Sundries",
            "quantity": 1,
            "priceperunit": price,
            "lineitemnumber": 1,
        }
        row = {
            "invoiceid": invoice_id,
            "name": number,
            "overriddencreatedon": _instant(now),
            f"customerid_{customer.table}@odata.bind": f"/{customer.entity_set}({customer.id})",
            "invoice_details": [line],
        }
        person.rows.append(("invoice", row))
        person.paid.append(invoice_id)

    def _redeem(self, person: Person, chance: random.Random) -> None:
        now = self._later(person, chance)
        available = person.state.available(now.date())
        if available < 2:
            return
        redemption_id = str(UUID(int=chance.getrandbits(128), version=4))
        wish = Redemption(redemption_id, 1 + chance.randrange(available // 2))
        decision = decide_redemption(self._program, str(person.customer), person.state, wish, now)
        customer = person.customer
        row = {
            "loy_redemptionid": redemption_id,
            "loy_requestid": redemption_id,
            "loy_type": RedemptionType.REDEEM.value,
            "loy_status": RedemptionStatus.REQUESTED.value,
            "loy_points": wish.points,
            f"loy_CustomerId_{customer.table}@odata.bind": f"/{customer.entity_set}({customer.id})",
        }
        person.rows.append(("loy_redemption", row | plain(wishes.redemption_answer(decision, now))))
        if decision.outcome is Outcome.APPLIED:
            self._apply(person, decision)

    def _apply(self, person: Person, decision: Decision) -> None:
        person.entries += decision.entries
        person.state = decision.state

    def _later(self, person: Person, chance: random.Random) -> datetime:
        """Some moment after the newest entry and before today."""
        newest = person.entries[-1].occurred_on
        left = datetime.combine(self._as_of, time(), UTC) - newest
        return (newest + left * chance.uniform(0.05, 0.5)).replace(microsecond=0)

    def _finish(self, person: Person, number: int, since: date) -> None:
        """The customer's own row first, then what happened, the membership, and its entries."""
        customer, program = person.customer, self._program
        person.due = min(person.state.lots) < self._as_of  # some have spent what would be due
        last, name = person.entries[-1].occurred_on, f"Customer {number}"
        facts = CustomerRow(customer, name, since, DEFAULT_RATING if customer.table == "account" else None)
        member, row = copies(program, ledger.Membership(customer, State()), person.state, facts, last)
        member["loy_membershipid"], row[f"{customer.table}id"] = customer.membership_id, customer.id
        row |= {"name": name} if customer.table == "account" else {"firstname": "Customer", "lastname": str(number)}
        row["overriddencreatedon"] = _instant(datetime.combine(since, time(), UTC))
        entries: Rows = [("loy_entry", plain(_told(ledger.entry_row(program, entry)))) for entry in person.entries]
        person.rows = [(customer.table, plain(row)), *person.rows, ("loy_membership", plain(member)), *entries]


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as its JSON would be read: days and moments are text."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return _instant(value)
    return value.isoformat() if isinstance(value, date) else value


def _told(entry: dict[str, Any]) -> dict[str, Any]:
    """The notices of the past were sent."""
    if entry["loy_noticestatus"] == NoticeStatus.WAITING:
        entry["loy_noticestatus"] = NoticeStatus.SENT.value
    return entry


def _instant(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _few(chance: random.Random, share: float) -> int:
    """Mostly none; with each more it gets rarer."""
    count = 0
    while count < 8 and chance.random() < share:
        count += 1
    return count
