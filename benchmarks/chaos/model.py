"""What every customer should have, worked out anew: from the programme's terms, by arithmetic of its own.

Nothing of the product is used. Invoices alone say how many points there are; in which lots they lie depends on what came
first, so the model is told the order of the ledger's entries: which row, how many points, when. What they move it finds itself.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from benchmarks.chaos.facts import Book, Invoice, Ladder, Rule, Terms, Wish
from benchmarks.chaos.holding import Holding, dated, short
from benchmarks.chaos.terms import base, days_of, expiry, net, tier_of


@dataclass(frozen=True, slots=True)
class Step:
    """An entry as the model is told of it: its place, kind, cause and points, and what it says about time and rule.

    `on` is the day it was decided, `moved` the lots it says it moved: only used to choose where the terms leave a choice.
    """

    customer: str
    sequence: int
    kind: str
    cause: str
    key: str
    points: int
    on: date
    spendable_on: date | None
    rule: int | None
    moved: Mapping[date, int]


@dataclass(frozen=True, slots=True)
class Edition:
    """Rules and tiers that were published together; `begins` is the day on which they came into force."""

    begins: date
    rules: frozenset[int]
    ladder: Ladder


class Model:
    """Replays a history. `differences` are sentences by customer; `holdings` what the model says each has.

    `asked` are the wishes by the id of their row: a till does not know it. `editions` are in the order of their publication:
    when an edit is published is the connector's affair. `seen` is what a customer could spend on one of the days on which
    they were `asked_on`, before the ledger's first entry and after each; `left` what they could spend after a redemption or
    its void, by its kind and the id of the redemption's row.
    """

    def __init__(
        self,
        book: Book,
        steps: list[Step],
        asked: Mapping[str, Wish],
        editions: list[Edition],
        today: date,
        asked_on: Mapping[str, Collection[date]] | None = None,
    ) -> None:
        self._editions = editions
        self._book = book
        self._asked = asked
        self._terms: Terms = book.terms
        self._today = today
        self._steps: dict[str, list[Step]] = defaultdict(list)
        self._rules: dict[tuple[str, str], int] = {}
        for step in sorted(steps, key=lambda step: (step.customer, step.sequence)):
            self._steps[step.customer].append(step)
            if step.rule is not None:
                self._rules[step.customer, step.cause] = step.rule
        self.differences: list[tuple[str, str]] = []
        self.holdings: dict[str, Holding] = {}
        self._asked_on = asked_on or {}
        self.seen: dict[tuple[str, date], list[int]] = defaultdict(lambda: [0])
        self.left: dict[tuple[str, str], int] = {}
        self._sales: dict[str | None, list[Invoice]] = defaultdict(list)
        for invoice in book.invoices.values():
            if invoice.now.status != "deleted":
                self._sales[invoice.now.customer].append(invoice)
        self._astray: set[str] = set()
        self._handed: dict[str, tuple[dict[date, int], int, list[dict[date, int]]]] = {}
        self._drawn: dict[str, dict[date, int]] = {}

    def run(self) -> None:
        self._replay()
        for customer in self._book.customers:
            self._invoices(customer)

    # --- invoices: how many points there are ---

    def _invoices(self, customer: str) -> None:
        holding = self.holdings.setdefault(customer, Holding())
        since = self._book.customers[customer].since
        spend: dict[str, Decimal] = defaultdict(Decimal)
        earned: dict[str, int] = defaultdict(int)
        expected: dict[str, int] = {}
        pending: dict[str, int] = {}
        for invoice in sorted(self._sales[customer], key=lambda i: (i.dated, i.id)):
            document, version = f"invoice:{invoice.id}", invoice.now
            day = invoice.dated.date()
            edition = self.edition(day)
            rule = self._rule(customer, document, day, edition)
            money = net(version)
            if version.status == "cancelled" or money < 0 or rule is None:
                continue
            multiplier = tier_of(edition.ladder, spend, earned, since, day).multiplier
            points = int(base(version, rule) * Fraction(multiplier))
            month = f"{invoice.dated:%Y-%m}"
            spend[month] += money
            earned[month] += points
            expected[document] = points
            if points and self._is_pending(invoice, document in holding.pending):
                pending[document] = points
        have = {document: points for document, points in holding.documents.items() if points}
        for document in sorted(have.keys() | {document for document, points in expected.items() if points}):
            if have.get(document, 0) != expected.get(document, 0):
                self._differs(
                    customer, f"{document} should have {expected.get(document, 0)} points, has {have.get(document, 0)}"
                )
        if holding.pending != pending:
            self._differs(customer, f"pending should be {short(pending)}, is {short(holding.pending)}")
        holding.spend = {month: money for month, money in spend.items() if money}
        holding.earned = {month: points for month, points in earned.items() if points}
        holding.tier = tier_of(self.edition(self._today).ladder, spend, earned, since, self._today).code
        if any(day < self._today for day in holding.lots):
            self._differs(customer, f"points past their last day are still there: {dated(holding.lots)}")

    def edition(self, day: date) -> Edition:
        """The one in force; nothing is published before the first customer needs it."""
        none = Edition(date.min, frozenset(), self._terms.ladders[-1])
        return next((edition for edition in reversed(self._editions) if edition.begins <= day), none)

    def _rule(self, customer: str, document: str, day: date, edition: Edition) -> Rule | None:
        """The version in force on the invoice's date; the sale must have used the same."""
        candidates = [rule for rule in self._terms.rules if rule.version in edition.rules and rule.valid_from <= day]
        rule = max(candidates, key=lambda rule: (rule.valid_from, rule.version), default=None)
        used = self._rules.get((customer, document))
        if used is not None and (rule is None or used != rule.version):
            self._differs(customer, f"{document} used version {used} of the rule, in force was {rule and rule.version}")
        return rule

    def _is_pending(self, invoice: Invoice, said: bool) -> bool:
        """At the end: whether its day has yet to come. Paid more than once, it may have either day: then what is said counts."""
        if self._terms.spendable != "issue" and invoice.now.status != "paid":
            return True
        due = {day <= self._today for day in days_of(self._terms, invoice)}
        return said if len(due) == 2 else due == {False}

    # --- lots: where the points are ---

    def _replay(self) -> None:
        """Ledger by ledger, in their order; what needs another ledger's entry waits for it."""
        places = dict.fromkeys(self._steps, 0)
        moving = True
        while moving:
            moving = False
            for customer, steps in self._steps.items():
                while places[customer] < len(steps) and self._apply(steps[places[customer]]):
                    places[customer] += 1
                    moving = True
        for customer, steps in self._steps.items():
            if places[customer] < len(steps):
                step = steps[places[customer]]
                self._differs(customer, f"entry {step.sequence} ({step.key}) refers to an entry that there is not")

    def _apply(self, step: Step) -> bool:
        holding = self.holdings.setdefault(step.customer, Holding())
        before = (dict(holding.lots), holding.owed, dict(holding.pending))
        table, _, row = step.cause.partition(":")
        match step.kind:
            case "earn" | "takeback":
                self._invoice_step(holding, step, row)
            case "mature":
                self._mature(holding, step, row)
            case "redeem":
                self._redeem(holding, step, row)
            case "void":
                if row not in self._drawn:
                    return False
                self._void(holding, step, self._drawn[row])
            case "expire":
                # A run of a day that has passed cancels what was over by then.
                as_of = min(date.fromisoformat(row), step.on)
                holding.lots = {day: points for day, points in holding.lots.items() if day >= as_of}
            case "adjust" if table == "merge" and step.key.endswith(":out"):
                self._handed[step.key[:-4]] = (holding.lots, holding.owed, [{}, *holding.before])
                holding.lots, holding.owed = {}, 0
            case "adjust" if table == "merge":
                if step.key[:-3] not in self._handed:
                    return False
                self._inherit(holding, step, *self._handed[step.key[:-3]])
            case "adjust":
                self._adjust(holding, step, row)
        lots = {day: holding.lots.get(day, 0) - before[0].get(day, 0) for day in holding.lots.keys() | before[0].keys()}
        held = sum(holding.pending.values()) - sum(before[2].values())
        moved = sum(lots.values()) - (holding.owed - before[1]) + held
        if table == "invoice":
            credited = holding.credited.setdefault(step.cause, {})
            holding.before = [*(holding.before if holding.last == step.cause else []), dict(credited)]
            holding.last = step.cause
            for day, points in lots.items():
                credited[day] = credited.get(day, 0) + points
        elif step.kind != "tier":
            holding.last, holding.before = "", []
        if moved != step.points:
            sentence = (
                f"entry {step.sequence} ({step.kind} {step.cause}) should move {moved} points, says {step.points}"
            )
            self._differs(step.customer, sentence)
        lots = {day: points for day, points in lots.items() if points}
        if lots != step.moved and step.customer not in self._astray:
            self._astray.add(step.customer)  # what follows from it would only repeat it
            should = f"should move {dated(lots)}, says {dated(step.moved)}"
            self._differs(step.customer, f"entry {step.sequence} ({step.kind} {step.cause}) {should}")
        for day in self._asked_on.get(step.customer, ()):
            self.seen[step.customer, day].append(holding.available(day))
        if step.kind in ("redeem", "void"):
            self.left[step.kind, row] = holding.available(step.on)
        return True

    def _invoice_step(self, holding: Holding, step: Step, row: str) -> None:
        invoice = self._book.invoices.get(row)
        if invoice is None:
            self._differs(step.customer, f"entry {step.sequence} is for an invoice that there never was")
            return
        if step.spendable_on and step.spendable_on not in days_of(self._terms, invoice):
            self._differs(
                step.customer, f"{step.cause} is said to be spendable on {step.spendable_on}, it was never paid then"
            )
        holding.documents[step.cause] = holding.documents.get(step.cause, 0) + step.points
        if step.points < 0:
            holding.take(-step.points, step.cause, holding.credited.get(step.cause, {}))
        elif step.spendable_on is None or step.spendable_on > step.on:
            holding.hold(step.cause, step.points)
        else:
            holding.credit({expiry(self._terms, step.spendable_on): step.points})

    def _mature(self, holding: Holding, step: Step, row: str) -> None:
        invoice = self._book.invoices.get(row)
        if invoice and step.spendable_on and step.spendable_on not in days_of(self._terms, invoice):
            self._differs(
                step.customer, f"{step.cause} is said to be spendable on {step.spendable_on}, it was never paid then"
            )
        held = holding.pending.get(step.cause, 0)
        spendable = holding.documents.get(step.cause, 0) - held
        if step.spendable_on is None or step.spendable_on > step.on:
            if spendable > 0:  # it is not paid any more: what could be spent is pending again
                others = {document: points for document, points in holding.pending.items() if document != step.cause}
                own, holding.pending = holding.pending.get(step.cause, 0), others
                holding.take(spendable, step.cause, holding.credited.get(step.cause, {}))
                holding.hold(step.cause, own + spendable)
        elif held:
            del holding.pending[step.cause]
            holding.credit({expiry(self._terms, step.spendable_on): held})

    def _redeem(self, holding: Holding, step: Step, row: str) -> None:
        wish = self._asked.get(row)
        if wish is None or wish.voids or wish.points != -step.points:
            self._differs(step.customer, f"redemption {row} of {-step.points} points was not asked for")
        if holding.available(step.on) < -step.points:
            self._differs(
                step.customer,
                f"redemption {row} of {-step.points} was granted, only {holding.available(step.on)} were there",
            )
        self._drawn[row] = holding.draw(-step.points, step.on)

    def _void(self, holding: Holding, step: Step, drawn: Mapping[date, int]) -> None:
        back: dict[date, int] = defaultdict(int)
        for day, points in drawn.items():
            back[day if day >= step.on else step.on + timedelta(days=self._terms.courtesy)] += points
        holding.credit(back)

    def _adjust(self, holding: Holding, step: Step, row: str) -> None:
        wanted = self._book.adjustments.get(row)
        if wanted is None or wanted.points != step.points:
            self._differs(step.customer, f"adjustment {row} of {step.points} was not asked for")
            return
        if step.points > 0:
            holding.credit({expiry(self._terms, step.on, wanted.months): step.points})
        else:
            if holding.available(step.on) < -step.points:
                self._differs(
                    step.customer, f"adjustment {row} takes {-step.points}, {holding.available(step.on)} were there"
                )
            holding.draw(-step.points, step.on)

    def _inherit(
        self, holding: Holding, step: Step, lots: dict[date, int], owed: int, preferred: list[dict[date, int]]
    ) -> None:
        holding.credit(lots)
        if not owed:
            return
        # The debt was made for one document: the heir's points of it go first, if it was known which.
        for credited in preferred:
            trial = Holding(lots=dict(holding.lots), owed=holding.owed)
            trial.take(owed, "", credited)
            days = trial.lots.keys() | holding.lots.keys()
            moved = {day: trial.lots.get(day, 0) - holding.lots.get(day, 0) for day in days}
            if {day: points for day, points in moved.items() if points} == step.moved:
                break
        holding.lots, holding.owed = trial.lots, trial.owed

    def _differs(self, customer: str, sentence: str) -> None:
        self.differences.append((customer, sentence))
