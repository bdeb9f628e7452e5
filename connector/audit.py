"""Proves the ledger's laws, customer by customer, from the rows alone.

For every customer: entries follow one another without a gap and in an unbroken hash chain; each moves what it says; no lot and
no pending points fall below zero; the membership and the columns on account or contact are the fold of the entries; take-backs of
a document never exceed what it earned; every invoice has the points that its rule and the tier before it say; every completed
redemption has exactly one entry, every other none. Memory is bounded: customers are read some at a time.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import batched
from typing import Any

from connector.dataverse import DataverseClient, Get
from connector.dataverse.odata import any_of
from connector.identity import Customer
from connector.loyalty.earning import Invoice, Status, base_points
from connector.loyalty.history import posted
from connector.loyalty.ledger import Entry, Kind, LedgerError, State, month_of
from connector.loyalty.program import Program
from connector.loyalty.tiers import held
from connector.rows import ledger, wishes
from connector.rows.choices import RedemptionStatus, RedemptionType
from connector.rows.invoices import INVOICE_SELECT, invoice_of
from connector.rows.values import Row, Unusable

_CUSTOMERS_AT_ONCE = 40
_MEMBERSHIP = f"{ledger.MEMBERSHIP},loy_balance,loy_pending,loy_owed"
_MIRROR = "loy_pointsbalance,loy_pointspending,loy_tiername"


@dataclass(slots=True)
class Report:
    """Counts of what was looked at, and every broken law in a sentence."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.violations


class Audit:
    def __init__(self, client: DataverseClient, program: Program, now: datetime) -> None:
        self._client = client
        self._program = program
        self._now = now
        self.report = Report()

    def run(self, progress: Callable[[Report], None] = lambda report: None) -> Report:
        """Look at every customer and every invoice."""
        memberships = f"loy_memberships?$select={_MEMBERSHIP}"
        for page in self._client.pages(memberships, max_page_size=_CUSTOMERS_AT_ONCE * 10):
            for some in batched(page, _CUSTOMERS_AT_ONCE, strict=False):
                self._customers(some)
                progress(self.report)
        self._strangers()
        progress(self.report)
        return self.report

    def _customers(self, memberships: Sequence[Row]) -> None:
        members = {row["loy_membershipid"]: Customer.parse(row["loy_customerkey"]) for row in memberships}
        ids = [customer.id for customer in members.values()]
        accounts = [c.id for c in members.values() if c.table == "account"] or [_NOBODY]
        contacts = [c.id for c in members.values() if c.table == "contact"] or [_NOBODY]
        of_members = any_of("_loy_membershipid_value", list(members))
        entries, invoices, redemptions, account_rows, contact_rows = self._client.read(
            Get(f"loy_entries?$select={ledger.ENTRY}&$filter={of_members}&$orderby=loy_sequence"),
            Get(f"invoices?{INVOICE_SELECT}&$filter={any_of('_customerid_value', ids)}"),
            Get(f"loy_redemptions?$select={wishes.REDEMPTION}&$filter={any_of('_loy_customerid_value', ids)}"),
            Get(f"accounts?$select={_MIRROR}&$filter={any_of('accountid', accounts)}"),
            Get(f"contacts?$select={_MIRROR}&$filter={any_of('contactid', contacts)}"),
        )
        entries_by = _grouped(entries, "_loy_membershipid_value")
        invoices_by = _grouped(invoices, "_customerid_value")
        redemptions_by = _grouped(redemptions, "_loy_customerid_value")
        mirrors = {row["accountid"]: row for row in account_rows} | {row["contactid"]: row for row in contact_rows}
        for row in memberships:
            customer = members[row["loy_membershipid"]]
            history = [ledger.entry_of(customer, entry) for entry in entries_by[row["loy_membershipid"]]]
            self.report.counts["customers"] += 1
            self.report.counts["entries"] += len(history)
            state = self._fold(customer, history)
            if state is None:
                continue
            self._membership(customer, row, state)
            self._mirror(customer, mirrors.get(customer.id), state)
            self._invoices(customer, invoices_by[customer.id], history, state)
            self._redemptions(customer, redemptions_by[customer.id], history)

    def _fold(self, customer: Customer, history: Iterable[Entry]) -> State | None:
        state = State()
        documents: Counter[str] = Counter()
        for entry in history:
            try:
                state = state.after(entry)
            except LedgerError as error:
                self._broken(customer, str(error))
                return None
            if entry.kind in (Kind.EARN, Kind.TAKEBACK):
                documents[entry.cause] += entry.points
                if documents[entry.cause] < 0:
                    self._broken(customer, f"{entry.cause} was taken back by more than it earned")
        if state.owed and state.lots:
            self._broken(customer, f"{state.owed} points are owed while lots are open")
        return state

    def _membership(self, customer: Customer, row: Row, state: State) -> None:
        cached = ledger.membership_of(customer, row).state
        if cached.sequence < state.sequence:
            self._broken(customer, f"the membership knows {cached.sequence} of {state.sequence} entries")
        elif cached != state:
            self._broken(customer, "the membership is not the fold of its entries")
        figures = (row["loy_balance"], row["loy_pending"], row["loy_owed"])
        if figures != (state.balance, state.pending_points, state.owed):
            self._broken(customer, f"the membership shows {figures[0]} points, the ledger has {state.balance}")

    def _mirror(self, customer: Customer, row: Row | None, state: State) -> None:
        if row is None:
            self.report.counts["customers deleted"] += 1
            return
        shown = (row["loy_pointsbalance"], row["loy_pointspending"], row["loy_tiername"])
        truth = (state.balance, state.pending_points, self._program.tier(state.tier).name)
        if shown != truth:
            self._broken(customer, f"the {customer.table} shows {shown}, the ledger has {truth}")

    def _invoices(self, customer: Customer, rows: Iterable[Row], history: Iterable[Entry], state: State) -> None:
        documents = posted(history)
        spend: dict[str, Decimal] = defaultdict(Decimal)
        earned: dict[str, int] = defaultdict(int)
        for invoice in sorted(self._readable(rows), key=lambda i: (i.invoiced_on.replace(microsecond=0), i.document)):
            self.report.counts["invoices"] += 1
            have = documents.pop(invoice.document, None)
            expected_spend, expected = self._expected(
                invoice, have.rule_version if have else None, spend, earned, state
            )
            month = month_of(invoice.invoiced_on)
            spend[month] += expected_spend
            earned[month] += expected
            points, counted = (have.points, have.spend) if have else (0, Decimal(0))
            if (points, counted) != (expected, expected_spend):
                self._broken(
                    customer,
                    f"invoice {invoice.number} has {points} points and {counted} of spend,"
                    f" its rule says {expected} and {expected_spend}",
                )
        for document, have in documents.items():
            if document.startswith("invoice:") and have.points and document not in self._parked_documents:
                self._broken(customer, f"{document} has {have.points} points and is no invoice of this customer")

    def _expected(
        self,
        invoice: Invoice,
        version: str | None,
        spend: dict[str, Decimal],
        earned: dict[str, int],
        state: State,
    ) -> tuple[Decimal, int]:
        day = invoice.invoiced_on.date()
        rule = self._program.rule_version(int(version)) if version else self._program.rule_on(day)
        if invoice.status is Status.CANCELLED or rule is None:
            return Decimal(0), 0
        multiplier = held(self._program, spend, earned, state.since, day).multiplier
        return invoice.net, base_points(invoice, rule).times(multiplier)

    def _readable(self, rows: Iterable[Row]) -> Iterator[Invoice]:
        self._parked_documents: set[str] = set()
        for row in rows:
            try:
                invoice, _ = invoice_of(self._program, row)
            except Unusable:
                self.report.counts["invoices that cannot earn"] += 1
                self._parked_documents.add(f"invoice:{row['invoiceid']}")
                continue
            if invoice.net < 0:
                self.report.counts["invoices that cannot earn"] += 1
                self._parked_documents.add(invoice.document)
                continue
            yield invoice

    def _redemptions(self, customer: Customer, rows: Iterable[Row], history: Iterable[Entry]) -> None:
        redeemed = Counter(entry.cause for entry in history if entry.kind is Kind.REDEEM)
        voided = Counter(entry.cause for entry in history if entry.kind is Kind.VOID)
        for row in rows:
            if row["loy_type"] == RedemptionType.VOID:
                continue
            self.report.counts["redemptions"] += 1
            cause = f"redemption:{row['loy_redemptionid']}"
            status = RedemptionStatus(row["loy_status"])
            spent = status in (RedemptionStatus.COMPLETED, RedemptionStatus.VOIDED)
            if redeemed.pop(cause, 0) != spent or voided.pop(cause, 0) != (status is RedemptionStatus.VOIDED):
                self._broken(customer, f"{cause} is {status.name.lower()} and its entries do not fit")
        for cause in redeemed:
            self._broken(customer, f"{cause} has an entry and no row")

    def _strangers(self) -> None:
        """Invoices of customers that have no membership: none of them may have earned anything by its rule."""
        for page in self._client.pages(f"invoices?{INVOICE_SELECT}", max_page_size=200):
            by_member: dict[str, list[Invoice]] = defaultdict(list)
            for invoice in self._readable(page):
                by_member[Customer.parse(invoice.customer).membership_id].append(invoice)
            if not by_member:
                continue
            wanted = any_of("loy_membershipid", list(by_member))
            (known,) = self._client.read(Get(f"loy_memberships?$select=loy_membershipid&$filter={wanted}"))
            for member in by_member.keys() - {row["loy_membershipid"] for row in known}:
                for invoice in by_member[member]:
                    self.report.counts["invoices"] += 1
                    expected_spend, expected = self._expected(invoice, None, {}, {}, State())
                    if expected or expected_spend:
                        customer = Customer.parse(invoice.customer)
                        self._broken(customer, f"invoice {invoice.number} has no points, its rule says {expected}")

    def _broken(self, customer: Customer, law: str) -> None:
        self.report.violations.append(f"{customer}: {law}")


_NOBODY = "00000000-0000-0000-0000-000000000000"


def _grouped(rows: Iterable[dict[str, Any]], column: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row[column]].append(row)
    return groups
