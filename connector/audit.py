"""Proves the ledger's laws from the rows alone, and on request brings up to date what is only a copy of the ledger.

For every customer: entries follow one another without a gap and in an unbroken hash chain; each moves what it says; no lot and
no pending points fall below zero; the membership and the columns on account or contact are the fold of the entries; take-backs of
a document never exceed what it earned; every invoice has the points that its rule and the tier before it say. For every
redemption, void and adjustment, whoever's it is: completed means exactly one entry, anything else none; and every such entry has
its row.

Customers are read some at a time and their histories page by page. What is kept of a history is its fold and the sums of its
documents. Several processes can share the customers out among them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import batched
from typing import Self

from connector import histories
from connector.answers import AnswerAudit, without_row
from connector.dataverse import Conflict, DataverseClient, Get, NotFound
from connector.dataverse.odata import any_of, bind
from connector.identity import PARTITIONS, Customer
from connector.loyalty.earning import Invoice
from connector.loyalty.history import Posted, note
from connector.loyalty.ledger import Entry, Kind, LedgerError, State
from connector.loyalty.program import Program
from connector.recount import Recount
from connector.rows import customers, ledger
from connector.rows.copies import as_read, copies
from connector.rows.customers import CustomerRow
from connector.rows.invoices import INVOICE_SELECT, invoice_of
from connector.rows.values import Row, Unusable, day

KEPT = 1000  # violations kept in the report; all are counted and told
_AT_ONCE = 100
_TABLE_OF_OWNER = "Microsoft.Dynamics.CRM.lookuplogicalname"
# Columns of a membership that follow from the fold alone; the others depend on the day on which they were written too.
_TIMELESS = ("loy_spend", "loy_membersince", "loy_nextexpiryon")
_FIGURES = "loy_name,loy_partition,loy_balance,loy_pending,loy_owed,loy_nextreviewon,_loy_tierid_value"
_MEMBERSHIP = f"{ledger.MEMBERSHIP},{_FIGURES},{','.join(_TIMELESS)}"
_AS_OF = "loy_loyaltyasof"
_MIRROR = (
    "loy_pointsbalance,loy_pointspending,loy_tiername,loy_suggestedrating,loy_expiringpoints,loy_expiringon,"
    f"loy_nexttiername,loy_nexttierdistance,loy_membersince,{_AS_OF}"
)
_MIRROR_OF = {"account": f"{_MIRROR},accountratingcode,merged", "contact": f"{_MIRROR},merged"}


@dataclass(slots=True)
class Report:
    """Counts of what was looked at, and the broken laws in sentences: the first thousand, and the number of all."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    broken: int = 0

    @property
    def holds(self) -> bool:
        return not self.broken

    def add(self, other: Self) -> None:
        """What was found in another part."""
        self.counts.update(other.counts)
        self.broken += other.broken
        self.violations += other.violations[: KEPT - len(self.violations)]


@dataclass(frozen=True, slots=True)
class Part:
    """A share of everybody, written `number/count`: parts 1/n to n/n are together everybody, and nobody is in two of them.

    The first has besides it what is no customer's: memberships without a partition, invoices of customers without a
    membership, and what people asked for.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= PARTITIONS:
            raise ValueError(f"not a part (1/4 is the first of four, {PARTITIONS} at most): {self}")

    @classmethod
    def parse(cls, text: str) -> Self:
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal()):
            raise ValueError(f"not a part (1/4 is the first of four): {text[:20]!r}")
        return cls(int(number), int(count))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def first(self) -> bool:
        return self.number == 1

    def conditions(self) -> Iterator[str]:
        """On memberships."""
        if self.count == 1:
            yield ""
            return
        low, high = (PARTITIONS * number // self.count for number in (self.number - 1, self.number))
        yield f"loy_partition ge {low} and loy_partition lt {high}"
        if self.first:
            yield "loy_partition eq null"


@dataclass(slots=True)
class _Look:
    """One customer as found: `state` is the fold, None when the entries do not follow one another."""

    customer: Customer
    row: Row
    state: State | None = field(default_factory=State)
    documents: dict[str, Posted] = field(default_factory=dict)
    mirror: Row | None = None
    counts: Counter[str] = field(default_factory=Counter)
    behind: list[str] = field(default_factory=list)  # copies that differ from the ledger
    faults: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        if self.state is None:
            return
        self.counts["entries"] += 1
        try:
            self.state = self.state.after(entry)
        except LedgerError as error:
            self.faults.append(str(error))
            self.state = None
            return
        note(self.documents, entry)
        if entry.kind is Kind.TAKEBACK and self.documents[entry.cause].points < 0:
            self.faults.append(f"{entry.cause} was taken back by more than it earned")


class Audit:
    """`told` hears of each broken law as it is found. With `repair`, copies that are behind the ledger are written anew.
    `part` is what of everybody is looked at.
    """

    def __init__(
        self,
        client: DataverseClient,
        program: Program,
        now: datetime,
        *,
        repair: bool = False,
        part: Part = Part(),
        told: Callable[[str], None] = lambda violation: None,
    ) -> None:
        self._client = client
        self._program = program
        self._now = now
        self._repair = repair
        self._part = part
        self._told = told
        self.report = Report()

    def run(self, progress: Callable[[Report], None] = lambda report: None) -> Report:
        """Look at every customer of the part and their invoices, and in the first part at everything that was asked for."""
        for condition in self._part.conditions():
            for some in histories.members(self._client, _MEMBERSHIP, condition):
                self._customers(some)
                progress(self.report)
        if not self._part.first:
            return self.report
        self._strangers()
        answers = AnswerAudit(self._client, self._broken)
        for counts in answers.run():
            self.report.counts.update(counts)
            progress(self.report)
        return self.report

    def _customers(self, rows: Sequence[Row]) -> None:
        looks = self._look(rows)
        suspects = [look.row["loy_membershipid"] for look in looks if look.behind or look.faults]
        if suspects:
            # A change may have been committed between two of our reads: what is still wrong now, is wrong.
            wanted = f"loy_memberships?$select={_MEMBERSHIP}&$filter={any_of('loy_membershipid', suspects)}"
            again = {look.customer: look for look in self._look(self._client.get(wanted))}
            looks = [again.get(look.customer, look) for look in looks]
        for look in looks:
            self.report.counts += look.counts
            for fault in look.faults:
                self._broken(f"{look.customer}: {fault}")
            if look.behind and self._repair and look.state is not None and self._mend(look, look.state):
                self.report.counts["repaired"] += 1
                continue
            for fault in look.behind:
                self._broken(f"{look.customer}: {fault}")

    def _look(self, rows: Sequence[Row]) -> list[_Look]:
        looks: dict[str, _Look] = {}
        for row in rows:
            try:
                customer = Customer.parse(row["loy_customerkey"] or "")
            except ValueError as error:
                self._broken(f"membership {row['loy_membershipid']}: {error}")
                continue
            look = looks[row["loy_membershipid"]] = _Look(customer, row)
            look.counts["customers"] += 1
            if customer.membership_id != row["loy_membershipid"]:
                look.faults.append("the membership has the id of another customer")
        for page in histories.entries(self._client, {id: look.customer for id, look in looks.items()}):
            missing = without_row(self._client, page)
            for entry in page:
                look = looks[Customer.parse(entry.customer).membership_id]
                look.add(entry)
                if entry.cause in missing:
                    missing.remove(entry.cause)  # its void has the same cause
                    look.faults.append(f"{entry.cause} has an entry and no row")
        by_customer = {look.customer.id: look for look in looks.values()}
        for row in self._mirrors(looks.values()):
            by_customer[row.get("accountid") or row["contactid"]].mirror = row
        invoices = self._invoices_of(list(by_customer))
        for look in looks.values():
            if look.state is not None:
                look.faults += self._state_faults(look, look.state)
                look.behind += self._copies(look, look.state)
                look.faults += self._invoices(look, look.state, invoices[look.customer.id])
        return list(looks.values())

    def _mirrors(self, looks: Iterable[_Look]) -> Iterator[Row]:
        gets = []
        for table in ("account", "contact"):
            ids = [look.customer.id for look in looks if look.customer.table == table]
            if ids:
                gets.append(Get(f"{table}s?$select={_MIRROR_OF[table]}&$filter={any_of(f'{table}id', ids)}"))
        for rows in self._client.read(*gets):
            yield from rows

    def _invoices_of(self, ids: Sequence[str]) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        if ids:
            path = f"invoices?{INVOICE_SELECT}&$filter={any_of('_customerid_value', ids)}&$orderby=invoiceid"
            for page in self._client.pages(path, max_page_size=1000):
                for row in page:
                    found[row["_customerid_value"]].append(row)
        return found

    def _state_faults(self, look: _Look, state: State) -> Iterator[str]:
        if state.owed and state.lots:
            yield f"{state.owed} points are owed while lots are open"
        if look.mirror and look.mirror["merged"] and (state.balance or state.pending):
            yield f"was merged and still has {state.balance} points and {state.pending_points} pending"

    def _copies(self, look: _Look, state: State) -> Iterator[str]:
        cached = ledger.membership_of(look.customer, look.row).state
        if cached.sequence < state.sequence:
            yield f"the membership knows {cached.sequence} of {state.sequence} entries"
        elif cached != state:
            yield "the membership is not the fold of its entries"
        figures = (look.row["loy_balance"], look.row["loy_pending"], look.row["loy_owed"])
        if figures != (state.balance, state.pending_points, state.owed):
            yield f"the membership shows {figures[0]} points, the ledger has {state.balance}"
        if look.row["loy_partition"] != look.customer.partition:
            yield "the membership has a loy_partition that hides it from mass runs"
        yield from self._columns(look, state)

    def _columns(self, look: _Look, state: State) -> Iterator[str]:
        """Every column that is written from the fold, as it had to be on the day on which it was."""
        mirror = look.mirror
        as_of = day(mirror, _AS_OF) if mirror else None
        membership = ledger.membership_of(look.customer, look.row)
        row = ledger.membership_row(self._program, membership, state, "", self._at(as_of))
        for column in _TIMELESS:
            if _shown(look.row, column, row[column]) != row[column]:
                yield f"the membership shows {column} {look.row[column]}, the ledger says {row[column]}"
        tier = self._program.tier(state.tier)
        if tier.id and look.row["_loy_tierid_value"] != tier.id:
            yield f"the membership does not show the tier {tier.code}"
        if mirror is None:
            look.counts["customers deleted"] += 1
            return
        if mirror["merged"]:
            return  # their points are another's, and what their row shows is history
        if as_of is None:
            yield f"the {look.customer.table} was never told its points"
            return
        due, shown = row["loy_nextreviewon"], day(look.row, "loy_nextreviewon")
        if due and (shown is None or shown > due):
            yield f"the membership is to be reviewed on {shown}, the ledger says {due}"
        truth = customers.mirror(self._program, state, self._at(as_of))
        for column, value in truth.items():
            if column != _AS_OF and _shown(mirror, column, value) != value:
                yield f"the {look.customer.table} shows {column} {mirror[column]}, the ledger says {value}"
        if look.customer.table == "account" and not membership.rating_override:
            current, written = mirror["accountratingcode"], membership.written_rating
            rating, _ = customers.rating(self._program, self._program.tier(state.tier, as_of), written, current, as_of)
            if rating is not None:
                yield f"the account has the rating {current}, its tier says {rating}"

    def _at(self, day: date | None) -> datetime:
        return datetime.combine(day, time.max, UTC) if day else self._now

    def _mend(self, look: _Look, state: State) -> bool:
        """Write the copies anew; false when somebody else has changed the membership meanwhile."""
        membership = ledger.membership_of(look.customer, look.row)
        known = None
        if look.mirror is not None and not look.mirror["merged"]:
            rating, etag = look.mirror.get("accountratingcode"), look.mirror["@odata.etag"]
            known = CustomerRow(look.customer, look.row["loy_name"], None, rating, etag)
        row, columns = copies(self._program, membership, state, known, self._now)
        row["loy_partition"] = look.customer.partition
        tier = self._program.tier(state.tier, self._now.date())
        if tier.id:
            row["loy_TierId@odata.bind"] = bind("loy_tiers", tier.id)
        try:
            self._client.commit(as_read(membership, row, known, columns))
        except (Conflict, NotFound):
            return False
        return True

    def _invoices(self, look: _Look, state: State, rows: Iterable[Row]) -> Iterator[str]:
        documents = dict(look.documents)
        unreadable: set[str] = set()
        recount = Recount(self._program, state.since)
        invoices = self._readable(rows, unreadable)
        for invoice, row in sorted(invoices, key=lambda i: (i[0].invoiced_on.replace(microsecond=0), i[0].document)):
            look.counts["invoices"] += 1
            have = documents.pop(invoice.document, None)
            expected_spend, expected = self._expected(recount, invoice, row, have.rule_version if have else None)
            points, counted = (have.points, have.spend) if have else (0, Decimal(0))
            if (points, counted) != (expected, expected_spend):
                yield (
                    f"invoice {invoice.number} has {points} points and {counted} of spend,"
                    f" its rule says {expected} and {expected_spend}"
                )
        look.counts["invoices that cannot earn"] += len(unreadable)
        for document, have in documents.items():
            if document.startswith("invoice:") and have.points and document not in unreadable:
                yield f"{document} has {have.points} points and is no invoice of this customer"

    def _expected(self, recount: Recount, invoice: Invoice, row: Row, version: str | None) -> tuple[Decimal, int]:
        on = invoice.invoiced_on.date()
        return recount.next(row, on, self._program.rule_named(version) if version else self._program.rule_on(on))

    def _readable(self, rows: Iterable[Row], unreadable: set[str]) -> Iterator[tuple[Invoice, Row]]:
        for row in rows:
            try:
                invoice, _ = invoice_of(self._program, row)
            except Unusable:
                unreadable.add(f"invoice:{row['invoiceid']}")
                continue
            if invoice.net < 0:
                unreadable.add(invoice.document)
                continue
            yield invoice, row

    def _strangers(self) -> None:
        """Invoices of customers that have no membership: none of them may have earned anything by its rule."""
        path = "invoices?$select=_customerid_value&$filter=_customerid_value ne null"
        for page in self._client.pages(path, max_page_size=5000, annotations=_TABLE_OF_OWNER):
            by_member: dict[str, list[str]] = defaultdict(list)
            for row in page:
                customer = Customer(row[f"_customerid_value@{_TABLE_OF_OWNER}"], row["_customerid_value"])
                by_member[customer.membership_id].append(row["invoiceid"])
            ids = [id for member in self._unknown(by_member) for id in by_member[member]]
            for some in batched(ids, _AT_ONCE, strict=False):
                self._invoices_of_strangers(some)

    def _invoices_of_strangers(self, ids: Sequence[str]) -> None:
        by_member: dict[str, list[tuple[Invoice, Row]]] = defaultdict(list)
        path = f"invoices?{INVOICE_SELECT}&$filter={any_of('invoiceid', ids)}"
        for invoice, row in self._readable(self._client.get(path), set()):
            by_member[Customer.parse(invoice.customer).membership_id].append((invoice, row))
        # Asked again: their first points may have come meanwhile.
        for member in self._unknown(by_member):
            for invoice, row in by_member[member]:
                self.report.counts["invoices"] += 1
                expected_spend, expected = self._expected(Recount(self._program, None), invoice, row, None)
                if expected or expected_spend:
                    self._broken(
                        f"{invoice.customer}: invoice {invoice.number} has no points, its rule says {expected}"
                    )

    def _unknown(self, members: Iterable[str]) -> Iterator[str]:
        """Ids for which there is no membership."""
        for some in batched(members, _AT_ONCE, strict=False):
            path = f"loy_memberships?$select=loy_membershipid&$filter={any_of('loy_membershipid', some)}"
            yield from set(some) - {row["loy_membershipid"] for row in self._client.get(path)}

    def _broken(self, violation: str) -> None:
        self.report.broken += 1
        self._told(violation)
        if len(self.report.violations) < KEPT:
            self.report.violations.append(violation)


def _shown(row: Row, column: str, like: object) -> object:
    """A column's value in the type of what it is compared with."""
    return day(row, column) if isinstance(like, date) else row[column]
