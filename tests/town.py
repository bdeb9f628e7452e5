"""Many customers with points that expire, written as the connector writes them, and fast."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from connector.dataverse import DataverseClient
from connector.identity import Customer
from connector.loyalty.ledger import Entry, Journal, Kind, Movements, State
from connector.loyalty.program import Program
from connector.rows import ledger
from connector.rows.copies import copies
from connector.rows.customers import CustomerRow
from connector.rows.ledger import Membership

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)
TODAY = NOW.date()
GONE = TODAY - timedelta(days=10)  # a day in the past on which lots ended
LATER = TODAY + timedelta(days=90)


@dataclass(frozen=True)
class Resident:
    customer: Customer
    state: State
    entries: tuple[Entry, ...]

    @property
    def gone(self) -> int:
        """Points that an expiry run today cancels."""
        return sum(points for day, points in self.state.lots.items() if day < TODAY)


def residents(count: int, seed: int = 1, *, due: float = 0.8) -> list[Resident]:
    """Customers whose points came as opening balances; a share of them has lots that have ended."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        customer = Customer(
            chance.choice(["account", "account", "contact"]), str(UUID(int=chance.getrandbits(128), version=4))
        )
        journal = Journal(str(customer), State())
        is_due = chance.random() < due
        for number in range(chance.choice([1, 1, 2, 4])):
            gone = is_due and number == 0
            day = GONE if gone else LATER + timedelta(days=30 * number)
            journal.append(
                Kind.ADJUST,
                Movements(
                    lots={day: chance.randrange(1, 5000)}, tier=None if number else "BASE", since=date(2020, 1, 1)
                ),
                cause="opening",
                key=f"opening:{customer}:{number + 1}",
                occurred_on=NOW - timedelta(days=100),
                explanation={},
            )
        found.append(Resident(customer, journal.state, tuple(journal.entries)))
    return found


def settle_in(client: DataverseClient, program: Program, people: Sequence[Resident], now: datetime = NOW) -> None:
    """Write customers, memberships and entries."""
    accounts, contacts, memberships, entries = [], [], [], []
    for resident in people:
        customer = resident.customer
        facts = CustomerRow(customer, f"Customer {customer.id[:8]}", None, None)
        row, mirror = copies(program, Membership(customer, State()), resident.state, facts, now)
        memberships.append(row | {"loy_membershipid": customer.membership_id})
        if customer.table == "account":
            accounts.append(mirror | {"accountid": customer.id, "name": facts.name})
        else:
            contacts.append(mirror | {"contactid": customer.id, "lastname": facts.name})
        entries += [ledger.entry_row(program, entry) for entry in resident.entries]
    for table, rows in (
        ("account", accounts),
        ("contact", contacts),
        ("loy_membership", memberships),
        ("loy_entry", entries),
    ):
        entity_set = "loy_entries" if table == "loy_entry" else f"{table}s"
        for start in range(0, len(rows), 1000):
            client.create_multiple(entity_set, table, rows[start : start + 1000])
