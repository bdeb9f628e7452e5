"""Where clerks keep their invoices: one is found by its status or its customer in the same time, however many there are."""

import random
from collections import defaultdict

from benchmarks.chaos.facts import Invoice


class Shelves:
    """Deleted invoices lie on none."""

    def __init__(self) -> None:
        self._by_status: dict[str, list[Invoice]] = defaultdict(list)
        self._by_customer: dict[str, dict[str, Invoice]] = defaultdict(dict)
        self._lies: dict[str, tuple[str, int, str]] = {}  # status, place among those, customer

    def put(self, invoice: Invoice) -> None:
        """Where its newest version belongs."""
        self.take_off(invoice)
        if invoice.now.status != "deleted":
            status, customer = invoice.now.status, invoice.now.customer or ""
            self._lies[invoice.id] = status, len(self._by_status[status]), customer
            self._by_status[status].append(invoice)
            self._by_customer[customer][invoice.id] = invoice

    def take_off(self, invoice: Invoice) -> None:
        if invoice.id not in self._lies:
            return
        status, place, customer = self._lies.pop(invoice.id)
        del self._by_customer[customer][invoice.id]
        last = self._by_status[status].pop()
        if last is not invoice:  # it fills the gap
            self._by_status[status][place] = last
            self._lies[last.id] = status, place, self._lies[last.id][2]

    def any(self, chance: random.Random, *statuses: str) -> Invoice | None:
        shelves = [self._by_status[status] for status in statuses]
        if not (count := sum(map(len, shelves))):
            return None
        place = chance.randrange(count)
        for shelf in shelves:
            if place < len(shelf):
                return shelf[place]
            place -= len(shelf)
        raise AssertionError("a place is on one of the shelves")

    def of(self, customer: str) -> list[Invoice]:
        return list(self._by_customer[customer].values())
