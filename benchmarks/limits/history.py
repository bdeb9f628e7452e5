"""What a change costs a customer with ten entries, and one with a hundred thousand."""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter

from connector.bus import Change, Subject
from connector.counter import Counter
from connector.dataverse import Create, DataverseClient, Upsert
from connector.identity import Customer
from connector.loyalty.decisions import Outcome
from connector.loyalty.ledger import Journal, Kind, Movements, State, month_of
from connector.loyalty.program import Program
from connector.processing import Processor
from connector.rows import ledger
from connector.rows.copies import copies
from connector.rows.customers import CustomerRow
from connector.rows.ledger import Membership
from connector.rows.programs import Programs
from connector.store import Store
from tests.office import Office

LENGTHS = (10, 1_000, 100_000)
_REPEATED, _LATE = 30, 3
_YEARS = 4


class _Apart(BaseAdapter):
    """Tells the processor time of Dataverse's stand-in, which runs in this process, apart from ours."""

    def __init__(self, inner: BaseAdapter) -> None:
        super().__init__()
        self._inner = inner
        self.seconds = 0.0

    def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
        began = time.process_time()
        try:
            return self._inner.send(request, *arguments, **options)
        finally:
            self.seconds += time.process_time() - began

    def close(self) -> None:
        self._inner.close()


class Bench:
    """An environment in this process, and customers with histories of some length."""

    def __init__(self, home: Path) -> None:
        self.office = Office(home)
        self._theirs: _Apart

        def between(adapter: BaseAdapter) -> BaseAdapter:
            self._theirs = _Apart(adapter)
            return self._theirs

        self.client: DataverseClient = self.office.client_of(str(uuid4()), between)
        programs = Programs(self.client, "CJ")
        self.program = programs.current()
        self.processor = Processor(Store(self.client, self.office.now), programs, lambda changes: None, self.office.now)
        self.counter = Counter(self.client, programs)

    def customer(self, length: int) -> Customer:
        """Purchases over some years: a ledger in good order, written in bulk."""
        customer = Customer("account", str(uuid4()))
        self.client.commit([Create("accounts", {"accountid": customer.id, "name": f"{length} entries"})])
        now = self.office.now().astimezone(UTC).replace(microsecond=0)
        journal = Journal(str(customer), State())
        for moments in itertools.batched(_moments(now, length), 1000, strict=False):
            journal.entries.clear()
            for moment in moments:
                _purchase(self.program, journal, moment, now)
            if journal.state.sequence <= 1000:
                self._membership(customer, journal.state, now)
            rows = [_plain(ledger.entry_row(self.program, entry)) for entry in journal.entries]
            self.client.create_multiple("loy_entries", "loy_entry", rows)
        self._membership(customer, journal.state, now)
        self.office.events()
        return customer

    def _membership(self, customer: Customer, state: State, now: datetime) -> None:
        facts = CustomerRow(customer, "n", None, None)
        row, _ = copies(self.program, Membership(customer, State()), state, facts, now)
        self.client.commit([Upsert(f"loy_memberships({customer.membership_id})", row)])

    def measure(self, work: Callable[[], Any], repeated: int) -> dict[str, float]:
        """The middle of some repetitions: requests, operations, bytes both ways, milliseconds of our processor time."""
        found = []
        for _ in range(repeated):
            before, theirs, began = self.client.counters.snapshot(), self._theirs.seconds, time.process_time()
            work()
            ours = time.process_time() - began - (self._theirs.seconds - theirs)
            after = self.client.counters.snapshot()
            spent = {name: after[name] - before[name] for name in ("requests", "operations")}
            spent["bytes"] = sum(after[name] - before[name] for name in ("bytes_sent", "bytes_received"))
            found.append(spent | {"ours_ms": 1000 * ours, "theirs_ms": 1000 * (self._theirs.seconds - theirs)})
        return {name: statistics.median(one[name] for one in found) for name in found[0]}

    def kinds(self, customer: Customer) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Each kind of change, made and applied once a call; making its row is not counted."""

        def applied(change: Change) -> None:
            decision = self.processor.process(change)
            assert decision.outcome is Outcome.APPLIED, decision.message

        invoices = iter([self._invoice(customer) for _ in range(_REPEATED)])
        yield "newest invoice", lambda: applied(_change(Subject.INVOICE, next(invoices), customer))
        redemptions = iter([self._wish(customer) for _ in range(_REPEATED)])
        yield "redemption", lambda: applied(_change(Subject.REDEMPTION, next(redemptions), customer))
        adjustments = iter([self._adjustment(customer) for _ in range(_REPEATED)])
        yield "adjustment", lambda: applied(_change(Subject.ADJUSTMENT, next(adjustments), customer))
        late = iter([self._invoice(customer, years_ago=_YEARS / 2) for _ in range(_LATE)])
        yield "invoice of two years ago", lambda: applied(_change(Subject.INVOICE, next(late), customer))
        yield "look at the balance (API)", lambda: self.counter.customer(str(customer))

    def _invoice(self, customer: Customer, years_ago: float = 0) -> str:
        invoice, created = str(uuid4()), {}
        if years_ago:
            created = {"overriddencreatedon": (self.office.now() - timedelta(days=365 * years_ago)).date()}
        line = {"isproductoverridden": True, "ispriceoverridden": True, "productdescription": "thing", "quantity": 1}
        row = {"invoiceid": invoice, "name": "I", "invoice_details": [line | {"priceperunit": Decimal(5)}]}
        self.office.client.commit([Create("invoices", row | _bind("customerid", customer) | created)])
        return invoice

    def _wish(self, customer: Customer) -> str:
        wish = str(uuid4())
        row = {"loy_redemptionid": wish, "loy_requestid": wish, "loy_name": "R", "loy_points": 100}
        self.office.client.commit([Create("loy_redemptions", row | _bind("loy_CustomerId", customer))])
        return wish

    def _adjustment(self, customer: Customer) -> str:
        given = str(uuid4())
        row = {"loy_adjustmentid": given, "loy_name": "A", "loy_points": 5, "loy_reason": "r"}
        self.office.client.commit([Create("loy_adjustments", row | _bind("loy_CustomerId", customer))])
        return given


def run(say: Callable[[str], None]) -> dict[str, dict[int, dict[str, float]]]:
    """Costs by kind of change and length of history."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="limits-") as home:
        bench = Bench(Path(home))
        for length in LENGTHS:
            began = time.monotonic()
            customer = bench.customer(length)
            say(f"a customer with {length:,} entries was made in {time.monotonic() - began:.0f} s")
            for kind, work in bench.kinds(customer):
                found.setdefault(kind, {})[length] = bench.measure(work, _LATE if "ago" in kind else _REPEATED)
        bench.client.close()
        bench.office.close()
    return found


def hot_customer(say: Callable[[str], None], changes: int = 300) -> float:
    """Changes a second of one customer, one after another, without network and queue."""
    with tempfile.TemporaryDirectory(prefix="limits-") as home:
        bench = Bench(Path(home))
        customer = bench.customer(1000)
        wishes = [_change(Subject.REDEMPTION, bench._wish(customer), customer) for _ in range(changes)]
        began = time.monotonic()
        for wish in wishes:
            bench.processor.process(wish)
        rate = changes / (time.monotonic() - began)
        bench.client.close()
        bench.office.close()
    say(f"one customer: {rate:.0f} changes a second")
    return rate


def _moments(now: datetime, length: int) -> Iterator[datetime]:
    step = timedelta(days=365 * _YEARS) / (length + 1)
    return (now - timedelta(days=365 * _YEARS) + number * step for number in range(1, length + 1))


def _purchase(program: Program, journal: Journal, moment: datetime, now: datetime) -> None:
    """A thousand points for a hundred units of money, spendable at once, on one of twelve days of expiry to come."""
    document, month, first = f"invoice:{uuid4()}", month_of(moment), journal.state.sequence == 0
    journal.append(
        Kind.EARN,
        Movements(
            lots={program.expiry(now.date()) + timedelta(days=30 * (journal.state.sequence % 12)): 1000},
            spend={month: Decimal(100)},
            earned={month: 1000},
            latest=(moment.replace(microsecond=0), document),
            tier=program.tiers[0].code if first else None,
            since=moment.date() if first else None,
        ),
        cause=document,
        key=f"{document}:earn:1",
        occurred_on=moment,
        explanation={"made": "for a measurement"},
        rule_version="1",
    )


def _change(subject: Subject, row: str, customer: Customer) -> Change:
    return Change.about(subject, row, str(customer), cause="limits")


def _bind(prefix: str, customer: Customer) -> dict[str, Any]:
    return {f"{prefix}_{customer.table}@odata.bind": f"/{customer.entity_set}({customer.id})"}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}
