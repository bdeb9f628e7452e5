"""Switches the programme on for years of existing invoices, or takes over balances from another system.

Customers get an empty membership first (`enrol`). A run of kind BACKFILL then visits the memberships without entries, like any
mass run: in parts, resumable, each entry once. What it decides is what the interactive path would have decided had it heard
of every invoice in its order. A customer whose ledger has begun meanwhile is left to the sweep.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import batched
from typing import TextIO

from connector.bus import Change, Subject
from connector.cases.invoice import unusable
from connector.dataverse import Conflict, DataverseClient, Get
from connector.dataverse.odata import IDS, any_of
from connector.identity import Customer
from connector.loyalty.decisions import Decision, applied
from connector.loyalty.earning import Invoice, Status, base_points
from connector.loyalty.invoices import NeedLater, decide_invoice
from connector.loyalty.ledger import Entry, Journal, Kind, Movements, State, month_of
from connector.loyalty.program import Program
from connector.loyalty.reviews import Expiry, decide_review
from connector.loyalty.sentences import say
from connector.loyalty.tiers import held
from connector.mass.deciding import Member, Problem, settle, untouched
from connector.mass.order import BadOrder, Figures, Order
from connector.rows import customers, ledger
from connector.rows.choices import KIND
from connector.rows.customers import CustomerRow
from connector.rows.invoices import INVOICE_SELECT, invoice_of
from connector.rows.ledger import Membership
from connector.rows.values import Row, Unusable

PAGE = 100  # customers; each brings all its invoices
MONEY = 10_000  # figures are whole numbers: money is counted in its ten-thousandth
_INVOICES = 500
_LOOKUP = "Microsoft.Dynamics.CRM.lookuplogicalname"
type History = list[tuple[Invoice, CustomerRow]]
type Balances = Mapping[Customer, Mapping[date, int]]


@dataclass(slots=True)
class Historian:
    """Recomputes ledgers from invoices."""

    program: Program
    order: Order
    run_id: str

    def page(self, client: DataverseClient, rows: Sequence[Row]) -> tuple[list[Member], list[Problem]]:
        members = {member.customer: member for member in map(untouched, rows)}
        histories, unreadable = _histories(client, self.program, members)
        for customer, invoice_id, error in unreadable:
            members[customer].problems.append((_change(invoice_id, customer, self.run_id), unusable(error)))
        for customer, history in histories.items():
            self._decide(members[customer], history)
        return list(members.values()), []

    def again(self, member: Member, beyond: Iterable[Entry]) -> None:
        """Somebody has begun this ledger: it is theirs."""
        settle(member, beyond)

    def _decide(self, member: Member, history: History) -> None:
        state, entries, at, key = member.base, list[Entry](), self.order.at, str(member.customer)
        for invoice, facts in history:
            decision = decide_invoice(self.program, key, state, invoice, invoice.document, (), at, since=facts.since)
            if isinstance(decision, NeedLater):
                raise AssertionError("an invoice in its order asked for a later one")
            if decision.reason:
                if decision.reason != "no_rule":
                    member.problems.append((_change(invoice.id, member.customer, self.run_id), decision))
                continue
            state, entries = decision.state, [*entries, *decision.entries]
        unfinished = True
        while unfinished:  # what matured and expired long ago
            due = decide_review(self.program, key, state, at, Expiry(at.date()))
            state, unfinished = due.state, due.unfinished
            entries += due.entries
        member.decision = Decision(due.outcome, due.message, state, tuple(entries))


@dataclass(slots=True)
class Openings:
    """Opening balances: lots by their last day."""

    program: Program
    order: Order
    balances: Balances

    def page(self, client: DataverseClient, rows: Sequence[Row]) -> tuple[list[Member], list[Problem]]:
        members = [untouched(row) for row in rows]
        since = {facts.customer: facts.since for facts in _facts(client, [member.customer for member in members])}
        for member in members:
            lots = self.balances.get(member.customer)
            if not lots:
                continue
            journal = Journal(str(member.customer), member.base)
            journal.append(
                Kind.ADJUST,
                Movements(
                    lots=lots, tier=self.program.tiers_on(self.order.as_of)[0].code, since=since.get(member.customer)
                ),
                cause="opening",
                key=f"opening:{member.customer}",
                occurred_on=self.order.at,
                explanation={"opening": {day.isoformat(): points for day, points in lots.items()}},
            )
            member.decision = applied(journal, say("said", text="Opening balance."))
        return members, []

    def again(self, member: Member, beyond: Iterable[Entry]) -> None:
        settle(member, beyond)


def read_balances(file: TextIO) -> dict[Customer, dict[date, int]]:
    """Rows `customer,points,expires` (account:<id> or contact:<id>, a whole number above zero, the last usable day or nothing).

    BadOrder names the line and the column.
    """
    found: dict[Customer, dict[date, int]] = defaultdict(lambda: defaultdict(int))
    reader = csv.DictReader(file)
    missing = {"customer", "points", "expires"} - set(reader.fieldnames or ())
    if missing:
        raise BadOrder(f"line 1: there is no column {', '.join(sorted(missing))}")
    for number, row in enumerate(reader, 2):
        column = "customer"
        try:
            customer = Customer.parse(row["customer"] or "")
            column = "points"
            points = int(row["points"] or "")
            if points < 1:
                raise ValueError(f"{points} is not above zero")
            column = "expires"
            expires = date.fromisoformat(row["expires"].strip()) if (row["expires"] or "").strip() else date.max
        except ValueError as error:
            raise BadOrder(f"line {number}, {column}: {error}") from None
        found[customer][expires] += points
    return {customer: dict(lots) for customer, lots in found.items()}


def invoiced(client: DataverseClient) -> Iterator[list[Customer]]:
    """Whoever has invoices, some at a time, each once."""
    seen: set[Customer] = set()
    for page in client.pages("invoices?$select=_customerid_value", annotations=_LOOKUP):
        fresh = {_owner(row) for row in page if row.get("_customerid_value")} - seen
        seen |= fresh
        yield sorted(fresh, key=str)


def enrol(client: DataverseClient, program: Program, some: Sequence[Customer], now: datetime) -> int:
    """Give customers without a membership an empty one; how many got one. Those merged or gone get none."""
    made = 0
    for wanted in batched(some, IDS, strict=False):
        facts = {found.customer: found for found in _facts(client, wanted)}
        rows = {
            customer.membership_id: ledger.membership_row(
                program, Membership(customer, State()), State(), facts[customer].name, now
            )
            | {"loy_membershipid": customer.membership_id}
            for customer in wanted
            if customer in facts
        }
        while rows:
            known = client.get(
                f"loy_memberships?$select=loy_membershipid&$filter={any_of('loy_membershipid', list(rows))}"
            )
            for row in known:
                del rows[row["loy_membershipid"]]
            if not rows:
                break
            try:
                client.create_multiple("loy_memberships", "loy_membership", list(rows.values()))
            except Conflict:
                continue  # somebody made one of them meanwhile
            made += len(rows)
            break
    return made


def rehearse(
    client: DataverseClient, program: Program, some: Sequence[Customer], decider: Historian | Openings
) -> list[Member]:
    """What a backfill would decide for customers, without writing anything. Whoever has entries already is left out."""
    members: list[Member] = []
    for wanted in batched(some, PAGE, strict=False):
        ids = [customer.membership_id for customer in wanted]
        begun = client.get(
            f"loy_memberships?$select=loy_membershipid&$filter=loy_sequence gt 0 and {any_of('loy_membershipid', ids)}"
        )
        others = {row["loy_membershipid"] for row in begun}
        rows = [
            _unwritten(facts.customer) for facts in _facts(client, wanted) if facts.customer.membership_id not in others
        ]
        members += decider.page(client, rows)[0]
    return members


def invoice_totals(client: DataverseClient, program: Program) -> Figures:
    """What all invoices are worth by rule and tier alone: the audit's arithmetic, without a ledger."""
    found: Figures = Counter()
    for some in invoiced(client):
        for wanted in batched(some, PAGE, strict=False):
            histories, unreadable = _histories(client, program, wanted)
            found["invoices", "left out", ""] += len(unreadable)
            for history in histories.values():
                found.update(_worth(program, [invoice for invoice, _ in history], history[0][1].since))
    return found


def ledger_totals(client: DataverseClient, run_id: str) -> Figures:
    """What a run has written, read back: entries, points earned or opened, money counted."""
    found: Figures = Counter()
    path = f"loy_entries?$select=loy_kind,loy_points,loy_spend&$filter=_loy_bulkrunid_value eq {run_id}"
    kinds = {KIND[Kind.EARN], KIND[Kind.ADJUST]}
    for page in client.pages(path):
        for row in page:
            found["ledger", "entries", ""] += 1
            found["ledger", "points", ""] += row["loy_points"] if row["loy_kind"] in kinds else 0
            found["ledger", "money", ""] += int(Decimal(row["loy_spend"] or 0) * MONEY)
    return found


def earned(members: Iterable[Member]) -> Figures:
    """What decisions hold: the ledger's side of a rehearsal."""
    found: Figures = Counter()
    for member in members:
        for entry in member.decision.entries:
            found["ledger", "entries", ""] += 1
            found["ledger", "points", ""] += entry.points if entry.kind in (Kind.EARN, Kind.ADJUST) else 0
            found["ledger", "money", ""] += int(sum(entry.moved.spend.values(), Decimal(0)) * MONEY)
    return found


def _worth(program: Program, invoices: Sequence[Invoice], since: date | None) -> Figures:
    found: Figures = Counter()
    spend: dict[str, Decimal] = defaultdict(Decimal)
    points: dict[str, int] = defaultdict(int)
    for invoice in invoices:
        day = invoice.invoiced_on.date()
        rule = program.rule_on(day)
        if invoice.status is Status.CANCELLED or invoice.net < 0 or rule is None:
            found["invoices", "left out", ""] += 1
            continue
        multiplier = held(program, spend, points, since, day).multiplier
        worth = base_points(invoice, rule).times(multiplier)
        spend[month_of(day)] += invoice.net
        points[month_of(day)] += worth
        found["invoices", "count", ""] += 1
        found["invoices", "points", ""] += worth
        found["invoices", "money", ""] += int(invoice.net * MONEY)
    return found


def _histories(
    client: DataverseClient, program: Program, wanted: Iterable[Customer]
) -> tuple[dict[Customer, History], list[tuple[Customer, str, Unusable]]]:
    """Invoices of customers in their order, and those that cannot be read."""
    histories: dict[Customer, History] = defaultdict(list)
    unreadable: list[tuple[Customer, str, Unusable]] = []
    for row in _invoices(client, wanted):
        try:
            histories[_owner(row)].append(invoice_of(program, row))
        except Unusable as error:
            unreadable.append((_owner(row), row["invoiceid"], error))
    for history in histories.values():
        history.sort(key=lambda pair: (pair[0].invoiced_on.replace(microsecond=0), pair[0].document))
    return histories, unreadable


def _invoices(client: DataverseClient, wanted: Iterable[Customer]) -> Iterator[Row]:
    for some in batched((customer.id for customer in wanted), IDS, strict=False):
        path = f"invoices?{INVOICE_SELECT}&$filter={any_of('_customerid_value', some)}"
        for page in client.pages(path, max_page_size=_INVOICES, annotations=_LOOKUP):
            yield from page


def _owner(row: Row) -> Customer:
    return Customer(row[f"_customerid_value@{_LOOKUP}"], row["_customerid_value"])


def _change(invoice_id: str, customer: Customer, run_id: str) -> Change:
    return Change.about(Subject.INVOICE, invoice_id, str(customer), cause=f"run {run_id}", correlation_id=run_id)


def _facts(client: DataverseClient, wanted: Iterable[Customer]) -> list[CustomerRow]:
    """Customers that exist and were not merged."""
    gets, tables = [], []
    by_table: dict[str, list[Customer]] = defaultdict(list)
    for customer in wanted:
        by_table[customer.table].append(customer)
    for table, found in by_table.items():
        for some in batched(found, IDS, strict=False):
            ids = any_of(f"{table}id", [customer.id for customer in some])
            gets.append(Get(f"{table}s?$select={customers.select(some[0])}&$filter={ids}"))
            tables.append(table)
    return [
        customers.customer_row(Customer(table, row[f"{table}id"]), row, "customerid")
        for table, rows in zip(tables, client.read(*gets), strict=True)
        for row in rows
        if not row["merged"]
    ]


def _unwritten(customer: Customer) -> Row:
    """The membership that `enrol` would make."""
    return {
        "loy_membershipid": customer.membership_id,
        "loy_customerkey": str(customer),
        "_loy_customerid_value": customer.id,
        "loy_state": "{}",
        "loy_sequence": 0,
        "loy_lasthash": None,
        "loy_ratingoverride": False,
        "loy_writtenrating": None,
        "loy_helduntil": None,
    }
