"""What a run means in points: by what, tier and month of expiry."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date

from connector.loyalty.ledger import Entry, Kind, State, month_of
from connector.loyalty.program import Program, add_months
from connector.mass.deciding import Member
from connector.mass.order import Figures, Order

NEVER = "never"


def figures_of(
    program: Program, order: Order, member: Member, entries: Sequence[Entry], figures: Figures, *, counted: bool = False
) -> None:
    """Add a customer: `before` and `after` are points outstanding by tier and month of expiry, `cancelled` points by tier and
    the month they would have lived to; `customers` counts who loses some. Before is what was there without the `entries`,
    whatever the row knew of them. Of a customer who was `counted` as he is now, only the difference is added.

    A change of tier, `BASE>GOLD`, counts under `moved` customers, under `balance` the points they hold, and under `a year` the
    points that the new multiplier would have added to those earned in the last twelve months.
    """
    cancelled = 0
    after = member.state
    tier, lots = _without(after, entries)
    for entry in entries:
        if entry.kind is Kind.EXPIRE:
            cancelled -= entry.points
            for month, points in by_month(entry.moved.lots).items():
                figures["cancelled", tier, month] -= points
        elif entry.kind is Kind.TIER:
            moved = f"{entry.explained['from'] or '-'}>{entry.explained['to']}"
            figures["moved", moved, ""] += 1
            figures["balance", moved, ""] += after.balance
            figures["a year", moved, ""] += _a_year(program, order, after, entry)
    if cancelled:
        figures["customers", tier, ""] += 1
    _outstanding("before", tier, lots, figures)
    if counted:
        _outstanding("before", after.tier, after.lots, figures, -1)
    else:
        _outstanding("after", after.tier, after.lots, figures)


def by_month(lots: Mapping[date, int]) -> dict[str, int]:
    """Points by the month in which they expire; `never` for those that do not."""
    found: dict[str, int] = defaultdict(int)
    for day, points in lots.items():
        found[NEVER if day.year == date.max.year else f"{day.year:04}-{day.month:02}"] += points
    return found


def _without(state: State, entries: Sequence[Entry]) -> tuple[str, dict[date, int]]:
    """Tier and lots before the last entries of a ledger."""
    tier, lots = state.tier, Counter(state.lots)
    for entry in reversed(entries):
        lots.subtract(entry.moved.lots)
        tier = entry.explained["from"] if entry.kind is Kind.TIER else tier
    return tier, {day: points for day, points in lots.items() if points}


def _outstanding(what: str, tier: str, lots: Mapping[date, int], figures: Figures, sign: int = 1) -> None:
    for month, points in by_month(lots).items():
        figures[what, tier, month] += sign * points


def _a_year(program: Program, order: Order, state: State, entry: Entry) -> int:
    explained = entry.explained
    old = program.tier(explained["from"], order.as_of).multiplier
    new = program.tier(explained["to"], order.as_of).multiplier
    first = month_of(add_months(order.as_of.replace(day=1), -11))
    earned = sum(points for month, points in state.earned.items() if month >= first)
    return int(earned * (new / old - 1)) if old else 0
