"""Load and commit: a customer's ledger out of Dataverse and back, each in one request shared with other customers."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from connector.bus.change import Change
from connector.dataverse import Create, DataverseClient, Get, NotFound, Update, Upsert
from connector.dataverse.odata import guid, moment, text
from connector.identity import Customer
from connector.loyalty.decisions import Decision
from connector.loyalty.ledger import Entry, Kind, State, fold
from connector.loyalty.program import Program
from connector.rows import customers, ledger
from connector.rows.choices import KIND
from connector.rows.copies import copies, customer_write, is_rated, membership_write
from connector.rows.customers import CustomerRow
from connector.rows.ledger import Membership
from connector.rows.log import log_path, log_write
from connector.rows.preview import preview_columns

type Write = Create | Update | Upsert

_OF_INVOICES = " or ".join(f"loy_kind eq {KIND[kind]}" for kind in (Kind.EARN, Kind.MATURE, Kind.TAKEBACK))


@dataclass(frozen=True, slots=True)
class Posting:
    """Entries of one ledger and the state after them. `guarded`: only if the customer's row is as it was read."""

    membership: Membership
    customer: CustomerRow | None
    state: State
    entries: tuple[Entry, ...]
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything one change writes. `answers` tell the rows that asked, for example a redemption; `also` is a second ledger."""

    change: Change
    program: Program | None
    membership: Membership | None
    customer: CustomerRow | None
    decision: Decision
    answers: tuple[Update, ...] = ()
    also: Posting | None = None
    attempt: int = 1
    duration: float = 0.0


class Store:
    def __init__(self, client: DataverseClient, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._clock = clock

    def read(self, *paths: str) -> list[Any]:
        """Rows (None where there is none), in one request that other threads share."""
        return self._client.read(*(Get(path) for path in paths))

    def caught_up(self, membership: Membership) -> Membership:
        """The membership with entries folded in that its row does not know yet: a mass job appends them first."""
        customer, state = membership.customer, membership.state
        path = _entries(customer, f"loy_sequence gt {state.sequence}")
        (rows,) = self.read(path)
        state = fold((ledger.entry_of(customer, row) for row in rows), state)
        return replace(membership, state=state)

    def customer(self, customer: Customer) -> CustomerRow | None:
        """The account or contact itself; None when it does not exist any more."""
        (row,) = self.read(customers.customer_path(customer))
        return customers.living(customer, row)

    def heir(self, customer: Customer) -> CustomerRow | None:
        """Who a merged customer is now: the last of those it was merged into. None when it was not merged, or they are gone."""
        current, seen = customer, set[Customer]()
        while current not in seen:
            seen.add(current)
            (row,) = self.read(customers.customer_path(current))
            if row is None:
                return None
            if not row["merged"] or not row["_masterid_value"]:
                return customers.customer_row(current, row, "masterid") if current != customer else None
            current = Customer(current.table, row["_masterid_value"])
        return None

    def merged_into(self, key: str, customer: Customer) -> bool:
        """Whether the customer of a key was merged into another, perhaps by way of more."""
        heir = self.heir(Customer.parse(key))
        return heir is not None and heir.customer == customer

    def customer_keys(self, membership_ids: Iterable[str]) -> set[str]:
        """Whose memberships these are."""
        rows = self.read(*(f"loy_memberships({guid(found)})?$select=loy_customerkey" for found in membership_ids))
        return {row["loy_customerkey"] for row in rows if row}

    def invoice_entries_since(self, customer: Customer, since: datetime) -> list[Entry]:
        """Entries for the customer's invoices of a moment and later, in ledger order."""
        return self.entries_since(customer, since, f" and ({_OF_INVOICES})")

    def entries_since(self, customer: Customer, since: datetime, condition: str = "") -> list[Entry]:
        """Entries of a moment and later, in ledger order."""
        (rows,) = self.read(_entries(customer, f"loy_occurredon ge {moment(since)}{condition}"))
        return [ledger.entry_of(customer, row) for row in rows]

    def commit(self, work: Commit) -> None:
        """Entries, membership, mirrored columns, answers and log row in one change set: all or nothing.

        Conflict when somebody else appended an entry meanwhile; NotFound when the customer was deleted meanwhile.
        """
        now = self._clock()
        decision, membership = work.decision, work.membership
        writes: list[Write] = []
        own = Posting(membership, work.customer, decision.state, decision.entries) if membership else None
        for posting in (own, work.also):
            if posting and posting.entries and work.program:
                writes += self._ledger_writes(work.program, posting, now)
        writes += work.answers
        writes.append(log_write(work.change, decision, attempt=work.attempt, duration=work.duration, now=now))
        self._client.commit(writes)

    def write_preview(self, change_id: str, ledgers: list[dict[str, Any]]) -> None:
        """On the log row of a change, what it would do. A row that was deleted meanwhile needs no answer."""
        with suppress(NotFound):
            self._client.commit([Update(log_path(change_id), preview_columns(ledgers, self._clock()))])

    def _ledger_writes(self, program: Program, posting: Posting, now: datetime) -> list[Write]:
        membership, customer = posting.membership, posting.customer
        row, columns = copies(program, membership, posting.state, customer, now)
        if customer and is_rated(row, columns) and not customer.etag:
            # Read in a way that does not tell whether somebody sets a rating meanwhile.
            customer = self.customer(customer.customer) or customer
            row, columns = copies(program, membership, posting.state, customer, now)
        rated = is_rated(row, columns)
        # Entries refer to the membership, so it comes first. Their sequence guards all of it but the rating.
        return [
            membership_write(membership, row, as_read=rated),
            *(Create("loy_entries", ledger.entry_row(program, entry)) for entry in posting.entries),
            *([customer_write(customer, columns, as_read=rated or posting.guarded)] if customer else []),
        ]


def document_entries_path(document: str) -> str:
    """Entries of one document, of whichever customers; the range is served by the key on `loy_idempotencykey`."""
    condition = f"startswith(loy_idempotencykey,{text(document + ':')})"
    return f"loy_entries?$select={ledger.ENTRY}&$filter={condition}&$orderby=loy_sequence"


def entry_by_key_path(key: str) -> str:
    """The entry with an idempotency key, if there is one."""
    return f"loy_entries?$select={ledger.ENTRY}&$filter=loy_idempotencykey eq {text(key)}"


def entry_path(entry_id: str) -> str:
    return f"loy_entries({guid(entry_id)})?$select={ledger.ENTRY}"


def entries_of(customer: Customer, rows: Iterable[dict[str, Any]]) -> list[Entry]:
    """The entries among some rows that belong to a customer."""
    return [ledger.entry_of(customer, row) for row in rows if row["_loy_membershipid_value"] == customer.membership_id]


def _entries(customer: Customer, condition: str) -> str:
    of_customer = f"_loy_membershipid_value eq {customer.membership_id}"
    return f"loy_entries?$select={ledger.ENTRY}&$filter={of_customer} and {condition}&$orderby=loy_sequence"
