"""An invoice to look at."""

from datetime import datetime

from connector.cases.case import Case, Request
from connector.identity import Customer
from connector.loyalty.decisions import Decision, nothing, parked
from connector.loyalty.invoices import NeedLater, decide_invoice
from connector.loyalty.ledger import Entry, State
from connector.rows import ledger
from connector.rows.invoices import invoice_of, invoice_path, owner_of
from connector.rows.values import Unusable
from connector.store import Store, document_entries_path, entries_of


def invoice_case(store: Store, request: Request, customer: Customer, now: datetime) -> Case:
    """Membership first: a batch is read in order, and entries that are older than the membership could be posted twice."""
    change, program = request.change, request.program
    document = f"invoice:{change.row}"
    member, row, entries = store.read(
        ledger.membership_path(customer), invoice_path(change.row), document_entries_path(document)
    )
    membership = ledger.membership_of(customer, member)
    if request.behind:
        membership = store.caught_up(membership)
    owner = owner_of(row) if row else None
    invoice, facts = invoice_of(program, row) if row and owner == customer else (None, None)
    posted = entries_of(customer, entries)
    since = facts.since if facts else None

    def decide(later: list[Entry] | None = None) -> Decision | NeedLater:
        return decide_invoice(
            program,
            str(customer),
            membership.state,
            invoice,
            document,
            posted,
            now,
            since=since,
            later=later,
            recheck=change.resumed,
        )

    decision = decide()
    if isinstance(decision, NeedLater):
        decision = decide(store.invoice_entries_since(customer, decision.since))
        assert not isinstance(decision, NeedLater)
    if facts is None and decision.entries:
        facts = store.customer(customer)
    moved = owner is not None and owner != customer
    return Case(decision, membership, facts, forward=(str(owner),) if moved else ())


def ownerless_invoice_case(store: Store, request: Request) -> Case:
    """The event did not tell whose invoice it is: pass it on to its owner, and to whoever has points from it."""
    change = request.change
    row, entries = store.read(invoice_path(change.row), document_entries_path(f"invoice:{change.row}"))
    holders = store.customer_keys({entry["_loy_membershipid_value"] for entry in entries})
    owner = owner_of(row) if row else None
    forward = tuple(sorted(holders | ({str(owner)} if owner else set())))
    if row is None:
        return Case(nothing(State(), "The invoice was deleted."), forward=forward)
    if owner is None:
        try:
            invoice_of(request.program, row)
        except Unusable as error:
            return Case(unusable(error), forward=forward)
    return Case(nothing(State(), "Passed on to the invoice's customer."), forward=forward)


def unusable(error: Unusable) -> Decision:
    return parked(State(), str(error), reason=error.reason, field=error.field, next_step=error.next_step)
