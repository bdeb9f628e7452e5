"""What time alone changes: pending points whose day has come, lots whose last day has passed, the tier."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Self

from connector.loyalty import lots
from connector.loyalty.decisions import Decision, applied, nothing, settle_tier
from connector.loyalty.invoices import matured
from connector.loyalty.ledger import Entry, Journal, Kind, Movements, State
from connector.loyalty.lots import Spared
from connector.loyalty.program import Program
from connector.loyalty.sentences import say, together

# Documents maturing in one decision; a change set takes 1,000 writes.
MATURING = 200


@dataclass(frozen=True, slots=True)
class Expiry:
    """Lots whose last day lies before a day end; what is `spared` of them lives on to later days."""

    before: date
    spared: Spared = field(default_factory=dict)

    @classmethod
    def sparing(cls, before: date, days: int, entries: Iterable[Entry]) -> Self:
        """Points of these entries live on until they are so many days old."""
        found: dict[date, dict[date, int]] = defaultdict(lambda: defaultdict(int))
        for entry in entries:
            until = entry.occurred_on.date() + timedelta(days=days)
            for day, points in entry.moved.lots.items():
                if points > 0 and day < before <= until:
                    found[day][until] += points
        return cls(before, {day: dict(sorted(kept.items(), reverse=True)) for day, kept in found.items()})


def decide_review(program: Program, customer: str, state: State, now: datetime, expiry: Expiry | None) -> Decision:
    """Bring a membership up to date. Idempotent: a second review on the same day finds nothing.

    Without an `expiry` no points go.
    """
    if not state.sequence:
        return nothing(state, say("review.no_ledger"))
    today = now.date()
    journal = Journal(customer, state)
    waiting = {d: p.spendable_on for d, p in state.pending.items() if p.spendable_on and p.spendable_on <= today}
    due = sorted(waiting.items())[:MATURING]
    for document, day in due:
        journal.append(
            Kind.MATURE,
            matured(program, journal.state, document, day),
            cause=document,
            key=f"{document}:{customer}:matured:{journal.state.sequence + 1}",
            occurred_on=now,
            explanation={"spendable_on": day.isoformat()},
        )
    gone = lots.expired(journal.state, expiry.before, expiry.spared) if expiry else Movements()
    if expiry and gone.lots:
        explanation: dict[str, Any] = {
            "expired": {day.isoformat(): -points for day, points in gone.lots.items() if points < 0}
        }
        if kept := {day.isoformat(): points for day, points in gone.lots.items() if points > 0}:
            explanation["kept"] = kept
        journal.append(
            Kind.EXPIRE,
            gone,
            cause=f"expiry:{expiry.before.isoformat()}",
            key=f"expiry:{customer}:{journal.state.sequence + 1}",
            occurred_on=now,
            explanation=explanation,
        )
    expired = -gone.points
    done = [say("review.matured", count=len(due))] if due else []
    if expired:
        done.append(say("review.expired", points=expired))
    sentence = together(say("review", done=done or [say("review.tier")]), settle_tier(program, journal, now))
    if not journal.entries:
        return nothing(state, say("review.nothing_due"))
    return applied(journal, sentence, unfinished=len(waiting) > len(due))
