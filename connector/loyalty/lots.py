"""Which lots a change touches. Every function answers with movements; none changes a state."""

from collections.abc import Mapping
from datetime import date, timedelta

from connector.loyalty.ledger import Movements, State

# A lot whose day has passed -> a later day -> how many of its points may live until then.
type Spared = Mapping[date, Mapping[date, int]]


def credit(state: State, points: Mapping[date, int]) -> Movements:
    """Spendable points in. Debt is repaid first, with the points that would expire first."""
    lots: dict[date, int] = {}
    owed = state.owed
    for day in sorted(points):
        repaid = min(owed, points[day])
        owed -= repaid
        if points[day] > repaid:
            lots[day] = points[day] - repaid
    return Movements(lots=lots, owed=owed - state.owed)


def consume(state: State, points: int, today: date) -> Movements | None:
    """Spend points, earliest expiry first; None when fewer are available."""
    if points > state.available(today):
        return None
    lots, missing = _drawn(state.usable(today), points)
    assert not missing
    return Movements(lots=lots)


def take_back(state: State, points: int, document: str, credited: Mapping[date, int]) -> Movements:
    """Points of a document out: its pending points, then its own lots, then other lots (latest expiry first), then debt.

    `credited` maps expiry days to what the document has put there.
    """
    held = state.pending[document].points if document in state.pending else 0
    from_pending = min(points, held)
    rest = points - from_pending
    latest_first = sorted(state.lots, reverse=True)
    own = {day: min(state.lots[day], credited[day]) for day in latest_first if credited.get(day, 0) > 0}
    from_own, rest = _drawn(own, rest)
    others = {day: state.lots[day] + from_own.get(day, 0) for day in latest_first}
    from_others, rest = _drawn(others, rest)
    lots = {day: from_own.get(day, 0) + from_others.get(day, 0) for day in {**from_own, **from_others}}
    return Movements(lots=lots, pending={document: -from_pending} if from_pending else {}, owed=rest)


def restore(state: State, consumed: Mapping[date, int], today: date, courtesy_days: int) -> Movements:
    """What a redemption consumed goes back to its lots; lots past their day get a courtesy period."""
    points: dict[date, int] = {}
    for day, drawn in consumed.items():
        restored_to = day if day >= today else today + timedelta(days=courtesy_days)
        points[restored_to] = points.get(restored_to, 0) - drawn
    return credit(state, points)


def expired(state: State, today: date, spared: Spared) -> Movements:
    """Every lot whose last day has passed goes out; what is spared of it comes in again on a later day."""
    moved: dict[date, int] = {}
    for day, points in state.lots.items():
        if day < today:
            moved[day] = -points
            for later, kept in spared.get(day, {}).items():
                part = min(points, kept)
                points -= part
                if part:
                    moved[later] = moved.get(later, 0) + part
    return Movements(lots=moved)


def _drawn(lots: Mapping[date, int], points: int) -> tuple[dict[date, int], int]:
    """Differences that draw points from lots in their given order, and what could not be drawn."""
    drawn: dict[date, int] = {}
    for day, held in lots.items():
        if not points:
            break
        part = min(points, held)
        if part:
            drawn[day] = -part
            points -= part
    return drawn, points
