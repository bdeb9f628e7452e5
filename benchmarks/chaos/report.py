"""Tells of a run: one line for the table, and for a run that broke a law what a person needs to see why."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.chaos.facts import Book
from benchmarks.chaos.holding import rows
from benchmarks.chaos.laws import Verdict

HEADER = "seed  faults on                              acts events changes entries kills  settled   wall  verdict"


@dataclass(slots=True)
class Outcome:
    """`settled` is virtual (or real) seconds from the end of the faults until nothing changed any more."""

    seed: int
    faults: list[str]
    acts: int = 0
    events: int = 0
    changes: int = 0
    entries: int = 0
    kills: int = 0
    settled: float = 0.0
    wall: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    broken: list[tuple[str, str]] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.broken

    def line(self) -> str:
        verdict = "holds" if self.holds else f"{len(self.broken)} BROKEN"
        return (
            f"{self.seed:4}  {len(self.faults):2} kinds {'':32} {self.acts:5} {self.events:6} {self.changes:7}"
            f" {self.entries:7} {self.kills:5} {self.settled:7.0f} s {self.wall:5.1f} s  {verdict}"
        )


def trace(outcome: Outcome, book: Book, verdict: Verdict, customers: int = 3) -> Iterator[str]:
    """Per customer: what happened in the company, what the connector said, the ledger, and where the model differs."""
    yield f"seed {outcome.seed} broke {len(outcome.broken)} laws. Faults on: {', '.join(outcome.faults) or 'none'}"
    for customer, sentence in outcome.broken[:40]:
        yield f"  {customer or '(nobody)'}: {sentence}"
    shown = list(dict.fromkeys(customer for customer, _ in outcome.broken if customer in book.customers))[:customers]
    for customer in shown:
        yield from (
            "",
            f"--- {customer}, since {book.customers[customer].since}, merged into {book.customers[customer].merged_into}",
        )
        yield "what happened"
        for at, who, what in book.diary:
            if who in (customer, ""):
                yield f"  {at:%m-%d %H:%M:%S} {what}"
        yield "what the connector said"
        for row in verdict.messages.get(customer, []):
            yield f"  {str(row['createdon'])[5:19]} {row['loy_recordid'][:8]} {row['loy_message'][:150]}"
        yield "the ledger"
        for row in verdict.steps.get(customer, []):
            yield (
                f"  {row['loy_sequence']:3} {str(row['createdon'])[5:19]} {row['loy_idempotencykey'][:60]:60}"
                f" {row['loy_points']:+6} {row['loy_movements'][:120]}"
            )
        yield "the membership"
        yield f"  {verdict.members.get(customer, {}).get('loy_state')}"
        yield "the model"
        if customer in verdict.holdings:
            yield from (f"  {line}" for line in rows(verdict.holdings[customer]))
