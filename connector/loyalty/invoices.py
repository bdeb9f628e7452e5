"""An invoice: what it should have earned, minus what the ledger says it has earned.

The same small computation serves new, amended, paid, cancelled, reactivated, moved and deleted invoices, and duplicates and
re-orderings of their events. The multiplier of an invoice is that of the tier held before it in the customer's history, by
invoice date: when an older invoice comes late or changes, later ones are looked at again. What a customer has therefore
depends on the invoices alone, never on the order in which we heard of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from connector.loyalty import lots
from connector.loyalty.decisions import Decision, applied, nothing, parked, settle_tier
from connector.loyalty.earning import Base, Invoice, Status, base_points, whole, written
from connector.loyalty.history import Posted, posted
from connector.loyalty.ledger import MONEY, Entry, Journal, Kind, Movements, State, month_of
from connector.loyalty.program import Accrual, EarnRule, Program, SpendableOn
from connector.loyalty.sentences import Sentence, say, together
from connector.loyalty.tiers import held, reachable_multipliers

# Corrections of later invoices in one decision; a change set takes 1,000 writes.
CORRECTIONS = 200


@dataclass(frozen=True, slots=True)
class NeedLater:
    """The decision needs the customer's entries for invoices from this moment on."""

    since: datetime


@dataclass(frozen=True, slots=True)
class _Target:
    """What an invoice should have: spend, points before the multiplier, and the day they are spendable (None: not known)."""

    spend: Decimal
    base: Base | None
    spendable_on: date | None

    @property
    def points(self) -> Fraction:
        return self.base.points if self.base else Fraction(0)


def decide_invoice(
    program: Program,
    customer: str,
    state: State,
    invoice: Invoice | None,
    document: str,
    entries: Iterable[Entry],
    now: datetime,
    *,
    since: date | None = None,
    later: Iterable[Entry] | None = None,
    recheck: bool = False,
    spendable_on: date | None = None,
) -> Decision | NeedLater:
    """Bring the ledger of `customer` in line with an invoice as it is now.

    `invoice` is None when it was deleted or belongs to another customer now; `entries` are the customer's entries for this
    document; `since` is the start of the customer's tenure; `later` are the customer's invoice entries from the moment that a
    previous answer asked for; `recheck` looks at later invoices even if this one is settled; `spendable_on` is the day that is
    known from the ledger of the customer it came from. An invoice keeps the date and the rule version it was first posted with,
    and while it is paid the day of its payment.
    """
    have = posted(entries).get(document)
    if invoice is None and have is None:
        return nothing(state, say("invoice.never_earned", document=document))
    standing = None if invoice is None or invoice.status is Status.CANCELLED else invoice
    if standing is not None and standing.net < 0 and (have is None or not (have.points or have.spend)):
        return parked(
            state,
            say("invoice.negative", invoice=standing.number, net=standing.net),
            reason="negative_total",
            field="totalamount",
            next_step=say("next.invoice_total"),
        )
    if standing is not None and standing.net < 0:
        standing = None  # what it earned before is taken back; the next look parks it
    rule = _rule(program, standing, have) if standing else None
    if isinstance(rule, Sentence):
        return parked(
            state,
            rule,
            reason="no_rule",
            field="loy_validfrom",
            next_step=say("next.rule"),
        )
    accrual = program.accrual_on((have.occurred_on if have else invoice.invoiced_on if invoice else now).date())
    target = _target(accrual, standing, rule, (have and have.spendable_on) or spendable_on)
    have = have or Posted(document, (invoice.invoiced_on if invoice else now).astimezone(UTC).replace(microsecond=0))
    place = have.place
    settled = target.spend == have.spend and target.points == have.base
    out_of_order = state.latest is not None and place < state.latest
    spend_delta = target.spend - have.spend
    multipliers = reachable_multipliers(
        program,
        state.total_spend + max(Decimal(0), spend_delta),
        sum(state.earned.values())
        + whole(target.points, max(tier.multiplier for tiers in program.tier_sets for tier in tiers)),
    )
    order_matters = out_of_order and len(multipliers) > 1 and (recheck or not settled)
    if later is None and order_matters:
        return NeedLater(place[0])

    after = sorted((p for p in posted(later or ()).values() if p.place > place), key=lambda p: p.place)
    before = _Before(program, state, have, after, since)
    multiplier = have.multiplier if settled else before.multiplier(place)
    before.add(place, target.spend, whole(target.points, multiplier))
    corrections = _corrections(after, before)
    unfinished = len(corrections) > CORRECTIONS
    journal = Journal(customer, state)
    # Its own entries come with the last of the corrections: until then it is not settled, and whoever looks corrects the rest.
    if not unfinished:
        _post(program, journal, have, target, multiplier, now, since, invoice)
    _correct(program, journal, corrections[:CORRECTIONS], document, now)
    if not journal.entries:
        return nothing(state, _nothing_sentence(invoice, document, have))
    sentence = _sentence(invoice, document, journal, state)
    if not unfinished:
        sentence = together(sentence, settle_tier(program, journal, now))
    return applied(journal, sentence, unfinished=unfinished)


class _Before:
    """Spend and points before a place in the customer's history, moved forward invoice by invoice."""

    def __init__(
        self, program: Program, state: State, have: Posted, after: Iterable[Posted], since: date | None
    ) -> None:
        self._program = program
        self._since = state.since or since
        self._spend = dict(state.spend)
        self._earned = dict(state.earned)
        for document in (have, *after):
            self.add(document.place, -document.spend, -document.points)

    def multiplier(self, place: tuple[datetime, str]) -> Decimal:
        return held(self._program, self._spend, self._earned, self._since, place[0].date()).multiplier

    def add(self, place: tuple[datetime, str], spend: Decimal, points: int) -> None:
        month = month_of(place[0])
        self._spend[month] = self._spend.get(month, Decimal(0)) + spend
        self._earned[month] = self._earned.get(month, 0) + points


def _rule(program: Program, invoice: Invoice, have: Posted | None) -> EarnRule | Sentence:
    """The version that the sale used, else the one in force on the invoice date; a sentence when there is none."""
    if have is not None and have.rule_version:
        return program.rule_named(have.rule_version) or say(
            "rule.version_gone", program=program.code, version=have.rule_version
        )
    day = invoice.invoiced_on.date()
    return program.rule_on(day) or say("rule.none", program=program.code, day=day, invoice=invoice.number)


def _target(accrual: Accrual, invoice: Invoice | None, rule: EarnRule | None, known: date | None) -> _Target:
    """`known` is the day found before: a paid invoice that changes, for it has another customer now, is not paid anew."""
    if invoice is None or rule is None:
        return _Target(Decimal(0).quantize(MONEY), None, None)
    paid_on = invoice.paid_on if invoice.status is Status.PAID else None
    match accrual.spendable_on:
        case SpendableOn.ISSUE:
            day: date | None = invoice.invoiced_on.date()
        case SpendableOn.PAYMENT:
            day = paid_on
        case SpendableOn.DAYS_AFTER_PAYMENT:
            day = paid_on and paid_on + timedelta(days=accrual.spendable_days)
    return _Target(invoice.net.quantize(MONEY), base_points(invoice, rule), day and (known or day))


def _post(
    program: Program,
    journal: Journal,
    have: Posted,
    target: _Target,
    multiplier: Decimal,
    now: datetime,
    since: date | None,
    invoice: Invoice | None,
) -> None:
    """The entries that bring one document from what it has to what it should have."""
    rule_version = target.base.rule.name if target.base else have.rule_version
    poster = _Poster(program, journal, have, rule_version, since)
    points = whole(target.points, multiplier)
    spend = target.spend - have.spend
    differs = points != have.points or spend or target.points != have.base
    # A document that has no points yet may get some when its tier is corrected: the day they are spendable must be known then.
    day_known = points or not target.points or target.spendable_on == have.spendable_on
    if differs or not day_known:
        explanation: dict[str, Any] = (
            target.base.explain(multiplier) if target.base else _arithmetic(Fraction(0), multiplier)
        )
        explanation["invoice"] = invoice.number if invoice else have.document
        explanation["status"] = invoice.status.value if invoice else "gone"
        poster.difference(points - have.points, spend, target.spendable_on, explanation, now)
    # Afterwards, so that points taken back come out of what was pending.
    if target.base:
        poster.mature(points, target.spendable_on, now)


def _corrections(after: Iterable[Posted], before: _Before) -> list[tuple[Posted, Decimal]]:
    """Later invoices whose points are others now, because the tier before them is another, with their multiplier."""
    due = []
    for other in after:
        multiplier = before.multiplier(other.place)
        points = whole(other.base, multiplier)
        if points != other.points:
            due.append((other, multiplier))
        before.add(other.place, other.spend, points)
    return due


def _correct(
    program: Program, journal: Journal, corrections: Iterable[tuple[Posted, Decimal]], document: str, now: datetime
) -> None:
    for other, multiplier in corrections:
        points = whole(other.base, multiplier) - other.points
        explanation = _arithmetic(other.base, multiplier) | {"because": document}
        poster = _Poster(program, journal, other, other.rule_version, None)
        poster.difference(points, Decimal(0), other.spendable_on, explanation, now)


def _arithmetic(base: Fraction, multiplier: Decimal) -> dict[str, Any]:
    return {"base": written(base), "multiplier": str(multiplier)}


class _Poster:
    """Appends entries for one document."""

    def __init__(self, program: Program, journal: Journal, have: Posted, rule_version: str, since: date | None) -> None:
        self._program = program
        self._journal = journal
        self._have = have
        self._rule_version = rule_version
        self._since = since

    def mature(self, points: int, spendable_on: date | None, now: datetime) -> None:
        """Pending points become spendable when their day has come; another day, or none any more, is written down.

        Points of an invoice that was paid and is not paid any more become pending again.
        """
        document = self._have.document
        pending = self._journal.state.pending.get(document)
        if (spendable_on is None or spendable_on > now.date()) and points > (pending.points if pending else 0):
            movements = reopened(self._journal.state, document, points, self._have.credited, spendable_on)
        elif pending is None:
            return
        elif spendable_on and spendable_on <= now.date():
            movements = matured(self._program, self._journal.state, document, spendable_on)
        elif spendable_on != pending.spendable_on:
            movements = Movements(spendable_on={document: spendable_on})
        else:
            return
        self._append(Kind.MATURE, movements, {}, spendable_on)

    def difference(
        self, points: int, spend: Decimal, spendable_on: date | None, explanation: Mapping[str, Any], now: datetime
    ) -> None:
        """Post more or fewer points, and spend, of the document."""
        document, state = self._have.document, self._journal.state
        month = month_of(self._have.occurred_on)
        if points < 0:
            moved = lots.take_back(state, -points, document, self._have.credited)
        elif spendable_on is None or spendable_on > now.date():
            days = {document: spendable_on} if spendable_on and points else {}
            moved = Movements(pending={document: points} if points else {}, spendable_on=days)
        else:
            moved = lots.credit(state, {self._program.expiry(spendable_on): points} if points else {})
        first = state.sequence == 0
        movements = Movements(
            lots=moved.lots,
            pending=moved.pending,
            spendable_on=moved.spendable_on,
            owed=moved.owed,
            spend={month: spend} if spend else {},
            earned={month: points} if points else {},
            latest=self._have.place if state.latest is None or self._have.place > state.latest else None,
            tier=self._program.tiers[0].code if first else None,
            since=self._since if first else None,
        )
        # Compared in this order: points decide, spend only when there are none.
        self._append(Kind.EARN if (points, spend) >= (0, 0) else Kind.TAKEBACK, movements, explanation, spendable_on)

    def _append(
        self, kind: Kind, movements: Movements, explanation: Mapping[str, Any], spendable_on: date | None
    ) -> None:
        self._have.entries += 1
        self._journal.append(
            kind,
            movements,
            cause=self._have.document,
            key=f"{self._have.document}:{self._journal.customer}:{self._have.entries}",
            occurred_on=self._have.occurred_on,
            explanation={**explanation, "spendable_on": spendable_on and spendable_on.isoformat()},
            rule_version=self._rule_version,
        )


def matured(program: Program, state: State, document: str, spendable_on: date) -> Movements:
    """Pending points of a document into a lot that lives from the day they became spendable."""
    points = state.pending[document].points
    credit = lots.credit(state, {program.expiry(spendable_on): points})
    return Movements(lots=credit.lots, owed=credit.owed, pending={document: -points})


def reopened(state: State, document: str, points: int, credited: Mapping[date, int], day: date | None) -> Movements:
    """Spendable points of a document back to pending; what was spent of them meanwhile is owed until they are spendable."""
    others = {other: pending for other, pending in state.pending.items() if other != document}
    spendable = points - (state.pending[document].points if document in state.pending else 0)
    out = lots.take_back(replace(state, pending=others), spendable, document, credited)
    return Movements(lots=out.lots, owed=out.owed, pending={document: spendable}, spendable_on={document: day})


def _about(invoice: Invoice | None, document: str, *done: Sentence) -> Sentence:
    return (
        say("invoice", invoice=invoice.number, done=done)
        if invoice
        else say("invoice.gone", document=document, done=done)
    )


def _nothing_sentence(invoice: Invoice | None, document: str, have: Posted) -> Sentence:
    if have.entries:
        return _about(invoice, document, say("invoice.settled", points=have.points))
    return _about(invoice, document, say("invoice.zero" if invoice and not invoice.net else "invoice.earns_nothing"))


def _sentence(invoice: Invoice | None, document: str, journal: Journal, state: State) -> Sentence:
    own = [entry for entry in journal.entries if entry.cause == document]
    others = len(journal.entries) - len(own)
    points = sum(entry.points for entry in own)
    parts = []
    if points > 0:
        parts.append(say("invoice.earned", points=points))
    elif points < 0:
        parts.append(say("invoice.taken_back", points=-points))
    elif any(entry.kind is Kind.EARN for entry in own):
        parts.append(say("invoice.spend_counted"))
    elif any(entry.kind is Kind.TAKEBACK for entry in own):
        parts.append(say("invoice.spend_taken_off"))
    if any(entry.kind is Kind.MATURE and entry.moved.pending for entry in own):
        parts.append(say("invoice.matured"))
    if journal.state.owed > state.owed:
        parts.append(say("invoice.owed", points=journal.state.owed - state.owed))
    if others:
        parts.append(say("invoice.corrected", count=others))
    return _about(invoice, document, *(parts or [say("invoice.noted")]))
