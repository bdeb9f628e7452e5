"""An invoice to look at."""

from collections import defaultdict
from datetime import datetime

from connector.cases.case import Case, Request
from connector.cases.succession import Estate
from connector.identity import Customer
from connector.loyalty.decisions import Decision, Outcome, nothing, parked
from connector.loyalty.history import Posted, posted
from connector.loyalty.invoices import NeedLater, decide_invoice
from connector.loyalty.ledger import Entry, State
from connector.loyalty.sentences import say
from connector.rows import ledger
from connector.rows.customers import CustomerRow
from connector.rows.invoices import invoice_of, invoice_path, owner_of
from connector.rows.ledger import Membership
from connector.rows.values import Row, Unusable
from connector.store import Store, document_entries_path, entries_of


def invoice_case(
    store: Store, request: Request, customer: Customer, now: datetime, giver: Posted | None = None
) -> Case:
    """Membership first: a batch is read in order, and entries that are older than the membership could be posted twice.

    An invoice that came with a merged customer earns when that customer gives its points back, so that nobody can spend them
    twice in between. `giver` is what that customer had of it, when both happen at once.
    """
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
    own = entries_of(customer, entries)
    moved = owner is not None and owner != customer
    if giver is None and owner == customer and (givers := _givers(store, customer, document, entries)):
        sentence = say("invoice.waits", document=document, customers=", ".join(givers))
        return Case(nothing(membership.state, sentence), membership, forward=givers)
    if own and owner != customer and (heir := store.heir(customer)):
        return _inherited(store, request, membership, heir, owner, own, now)
    since = facts.since if facts else None

    def decide(later: list[Entry] | None = None) -> Decision | NeedLater:
        return decide_invoice(
            program,
            str(customer),
            membership.state,
            invoice,
            document,
            own,
            now,
            since=since,
            later=later,
            recheck=change.resumed,
            spendable_on=giver.spendable_on if giver else None,
        )

    decision = decide()
    if isinstance(decision, NeedLater):
        decision = decide(store.invoice_entries_since(customer, decision.since))
        assert not isinstance(decision, NeedLater)
    if facts is None and decision.entries:
        facts = store.customer(customer)
    return Case(decision, membership, facts, forward=(str(owner),) if moved else ())


def _givers(store: Store, customer: Customer, document: str, entries: list[Row]) -> tuple[str, ...]:
    """Customers merged into this one whose ledger still has points or spend of a document."""
    others: dict[str, list[Entry]] = defaultdict(list)
    for row in entries:
        if row["_loy_membershipid_value"] != customer.membership_id:
            others[row["_loy_membershipid_value"]].append(ledger.entry_of(customer, row))
    holding = {member for member, theirs in others.items() if (of := posted(theirs).get(document)) and of.holds}
    return tuple(key for key in sorted(store.customer_keys(holding)) if store.merged_into(key, customer))


def _inherited(
    store: Store,
    request: Request,
    membership: Membership,
    heir: CustomerRow,
    owner: Customer | None,
    entries: list[Entry],
    now: datetime,
) -> Case:
    """An invoice that a merged customer has no more: they give its points back, their heir earns it, all in one commit.

    What they hold goes over first. So what they spent of the invoice is a debt, and it meets the heir's points of the same
    invoice: what the heir has in the end does not depend on what was heard first.
    """
    document = f"invoice:{request.change.row}"
    have = posted(entries)[document]
    estate = Estate.of(store, request, membership, heir)
    if owner == heir.customer and have.holds:
        theirs = invoice_case(store, request, heir.customer, now, have)
        if theirs.decision.outcome is Outcome.PARKED or theirs.decision.unfinished:
            return theirs
        estate.inherit(theirs)
    estate.hand_over(request, now)
    decision = decide_invoice(
        request.program, estate.giver.customer, estate.giver.state, None, document, entries, now, later=()
    )
    assert isinstance(decision, Decision)
    estate.take(decision)
    estate.hand_over(request, now, have.credited)
    forward = (str(owner),) if owner else ()
    return Case(estate.decision(decision), membership, forward=forward, also=estate.posting())


def ownerless_invoice_case(store: Store, request: Request) -> Case:
    """The event did not tell whose invoice it is: pass it on to its owner, and to whoever has points from it."""
    change = request.change
    row, entries = store.read(invoice_path(change.row), document_entries_path(f"invoice:{change.row}"))
    holders = store.customer_keys({entry["_loy_membershipid_value"] for entry in entries})
    owner = owner_of(row) if row else None
    forward = tuple(sorted(holders | ({str(owner)} if owner else set())))
    if row is None:
        return Case(nothing(State(), say("invoice.deleted")), forward=forward)
    if owner is None:
        try:
            invoice_of(request.program, row)
        except Unusable as error:
            return Case(unusable(error), forward=forward)
    return Case(nothing(State(), say("invoice.passed_on")), forward=forward)


def unusable(error: Unusable) -> Decision:
    return parked(State(), error.sentence, reason=error.reason, field=error.field, next_step=error.next_step)
