"""One customer's ledger, kept as the store keeps it: unique keys, one entry after another, the same reads for a decision."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

from connector.loyalty.decisions import Decision
from connector.loyalty.earning import Invoice, Line, Status
from connector.loyalty.invoices import NeedLater, decide_invoice
from connector.loyalty.ledger import Entry, Kind, Movements, State, fold
from connector.loyalty.program import EarnRule, Program, Tier
from connector.loyalty.redemptions import (
    Adjustment,
    Redemption,
    Void,
    decide_adjustment,
    decide_redemption,
    decide_void,
)
from connector.loyalty.reviews import Expiry, decide_review

CUSTOMER = "account:5f0c1b52-0000-4000-8000-000000000001"
OTHER = "contact:5f0c1b52-0000-4000-8000-000000000002"
SINCE = date(2020, 2, 29)
NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)

BASIC = Tier("BASIC", "Basic", 0)
SILVER = Tier("SILVER", "Silver", 1, Decimal("1.25"), minimum_spend=Decimal(1000))
GOLD = Tier("GOLD", "Gold", 2, Decimal("1.5"), minimum_spend=Decimal(3000))
RULE = EarnRule(1, date(2000, 1, 1), Decimal(1), frozenset({"gift card"}))
PROGRAM = Program("MAIN", rules=(RULE,), tiers=(BASIC,))
TIERED = Program("MAIN", rules=(RULE,), tiers=(BASIC, SILVER, GOLD))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def an_invoice(
    number: int | str = 1,
    net: int | str | Decimal = 100,
    on: str = "2026-01-10",
    status: Status = Status.PAID,
    *,
    paid_on: date | None = None,
    lines: Iterable[tuple[str, str]] = (),
    customer: str = CUSTOMER,
) -> Invoice:
    """An invoice, paid on its own day unless told otherwise; `lines` are pairs of category and net amount."""
    moment = at(on)
    return Invoice(
        id=f"{number}",
        number=f"INV-{number}",
        customer=customer,
        status=status,
        invoiced_on=moment,
        net=Decimal(net),
        lines=tuple(Line(str(n), category, Decimal(amount)) for n, (category, amount) in enumerate(lines, 1)),
        paid_on=(paid_on or moment.date()) if status is Status.PAID else None,
    )


class DuplicateKey(Exception):
    """What the alternate key on `loy_idempotencykey` answers."""


@dataclass
class Book:
    program: Program
    customer: str = CUSTOMER
    since: date | None = SINCE
    entries: list[Entry] = field(default_factory=list)
    state: State = field(default_factory=State)

    def look_at(self, invoice: Invoice | None, now: datetime = NOW, document: str = "") -> Decision:
        """Decide about an invoice until nothing is left to do, and commit; answers with the last decision that did something."""
        document = invoice.document if invoice else document
        decision = self.decide(invoice, document, now)
        self.commit(decision)
        while decision.unfinished:
            decision = self.decide(invoice, document, now)
            self.commit(decision)
        return decision

    def decide(self, invoice: Invoice | None, document: str, now: datetime) -> Decision:
        own = [entry for entry in self.entries if entry.key.startswith(f"{document}:")]
        answer = decide_invoice(self.program, self.customer, self.state, invoice, document, own, now, since=self.since)
        if isinstance(answer, NeedLater):
            kinds = (Kind.EARN, Kind.MATURE, Kind.TAKEBACK)
            later = [e for e in self.entries if e.kind in kinds and e.occurred_on >= answer.since]
            answer = decide_invoice(
                self.program, self.customer, self.state, invoice, document, own, now, since=self.since, later=later
            )
        assert isinstance(answer, Decision)
        return answer

    def redeem(self, name: str, points: int | None, now: datetime = NOW) -> Decision:
        return self.commit(decide_redemption(self.program, self.customer, self.state, Redemption(name, points), now))

    def void(self, name: str, code: str, now: datetime = NOW) -> Decision:
        entry = next((e for e in self.entries if e.kind is Kind.REDEEM and e.explained["code"] == code), None)
        voided = entry is not None and any(e.key == f"{entry.key}:void" for e in self.entries)
        return self.commit(
            decide_void(self.program, self.customer, self.state, Void(name, code, "", entry, voided), now)
        )

    def adjust(self, name: str, points: int, now: datetime = NOW, lifetime_months: int | None = None) -> Decision:
        wish = Adjustment(name, points, "goodwill", lifetime_months)
        return self.commit(decide_adjustment(self.program, self.customer, self.state, wish, now, self.since))

    def review(self, now: datetime = NOW) -> Decision:
        return self.commit(decide_review(self.program, self.customer, self.state, now, Expiry(now.date())))

    def commit(self, decision: Decision) -> Decision:
        taken = {entry.key for entry in self.entries}
        for entry in decision.entries:
            if entry.key in taken:
                raise DuplicateKey(entry.key)
            assert len(entry.key) <= 120
            assert len(entry.cause) <= 60
            taken.add(entry.key)
        assert fold(decision.entries, self.state) == decision.state
        self.entries += decision.entries
        self.state = decision.state
        self.check_state()
        return decision

    def points_of(self, document: str) -> int:
        return sum(entry.points for entry in self.entries if entry.cause == document)

    def check_state(self) -> None:
        state = self.state
        assert all(points > 0 for points in state.lots.values())
        assert all(pending.points > 0 for pending in state.pending.values())
        assert not (state.owed and state.lots), "points are owed while there are lots"
        assert State.from_json(state.to_json(), state.sequence, state.last_hash) == state

    def check_history(self) -> None:
        """The laws of a ledger, from its first entry, with sums of our own beside the fold."""
        assert fold(self.entries) == self.state
        assert [entry.sequence for entry in self.entries] == list(range(1, len(self.entries) + 1))
        assert self.state.balance + self.state.pending_points == sum(entry.points for entry in self.entries)
        assert len({entry.key for entry in self.entries}) == len(self.entries)
        lots: dict[date, int] = {}
        spend = Decimal(0)
        running: dict[str, int] = {}
        for entry in self.entries:
            moved = entry.moved
            assert Movements.from_json(moved.to_json()) == moved
            assert moved.to_json() == entry.movements
            for day, points in moved.lots.items():
                lots[day] = lots.get(day, 0) + points
            spend += sum(moved.spend.values())
            running[entry.cause] = running.get(entry.cause, 0) + entry.points
            if entry.cause.startswith("invoice:"):
                assert running[entry.cause] >= 0, f"more was taken back than {entry.cause} had earned"
            if entry.kind in (Kind.MATURE, Kind.TIER):
                assert entry.points == 0
        assert {day: points for day, points in lots.items() if points} == dict(self.state.lots)
        assert spend == self.state.total_spend
