"""A customer's balance told from the entries alone: what moved, by which arithmetic, in and out of which lot."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any

from connector.loyalty.ledger import Entry, Kind, Movements, State

_TOTALS = {
    Kind.EARN: "earned",
    Kind.TAKEBACK: "taken back",
    Kind.REDEEM: "redeemed",
    Kind.VOID: "given back by voids",
    Kind.EXPIRE: "expired",
    Kind.ADJUST: "adjusted",
}


def explain(entries: Iterable[Entry]) -> Iterator[str]:
    """One paragraph for each entry, in ledger order, then the sums. LedgerError when an entry does not follow the last."""
    state, totals = State(), Counter[Kind]()
    for entry in entries:
        state = state.after(entry)
        totals[entry.kind] += entry.points
        yield f"{entry.sequence}. {entry.occurred_on:%Y-%m-%d}: {_happened(entry)}{_moved(entry.moved)}"
        yield f"   Now {_holding(state)}."
    if not state.sequence:
        yield "The customer has no entries."
        return
    parts = [f"{totals[kind]:+} {words}" for kind, words in _TOTALS.items() if totals[kind]]
    yield f"Together: {', '.join(parts) or 'no points'} = {state.total}."
    yield f"Balance {state.balance} = {_lots(state)}" + (f" - {state.owed} owed." if state.owed else ".")
    if state.pending:
        yield f"Pending {state.pending_points}, not in the balance, of {len(state.pending)} documents."


def _happened(entry: Entry) -> str:
    told = entry.explained
    match entry.kind:
        case Kind.EARN | Kind.TAKEBACK:
            return _invoice(entry, told)
        case Kind.MATURE:
            day = told.get("spendable_on")
            if entry.moved.pending:
                return f"The points of {entry.cause} became spendable on {day}."
            return f"The points of {entry.cause} will be spendable on {day or 'a day not known yet'}."
        case Kind.REDEEM:
            return f"Redeemed {-entry.points} points, worth {_plain(told.get('value', '0'))}, with code {told.get('code')}."
        case Kind.VOID:
            return f"The redemption {told.get('code')} was voided; {entry.points} points came back."
        case Kind.EXPIRE:
            return f"{-entry.points} points expired: their last day had passed."
        case Kind.ADJUST:
            return f"Adjusted by {entry.points:+} points ({entry.cause}): {told.get('reason', 'no reason given')}."
        case Kind.TIER:
            was = told.get("from") or "none"
            return f"The tier went from {was} to {told.get('to')}: spend {_plain(told.get('spend', '0'))} on {told.get('on')}."


def _invoice(entry: Entry, told: Mapping[str, Any]) -> str:
    points = f"{entry.points} points earned" if entry.points >= 0 else f"{-entry.points} points taken back"
    if "because" in told:
        return (
            f"{points}: {entry.cause} counts {told.get('base', '0')} x {_plain(told['multiplier'])} (tier) since "
            f"{told['because']} changed what came before it."
        )
    if "invoice" not in told:
        return f"{points} for {entry.cause}."
    sentence = f"{points}: invoice {told['invoice']} is {told.get('status')}."
    if "rate" not in told:
        return f"{sentence} It earns nothing any more."
    lines = [f"{_line(number, category, net)} -> {n}" for number, category, net, n in told.get("lines", ())]
    lines += [f"{_line(number, category, net)} is excluded" for number, category, net in told.get("excluded", ())]
    return (
        f"{sentence} Rule version {entry.rule_version}, {_plain(told['rate'])} a unit: {'; '.join(lines)}. "
        f"{told.get('base', '0')} x {_plain(told['multiplier'])} (tier), rounded down, is what it should have."
    )


def _line(number: str, category: str, net: str) -> str:
    return " ".join(part for part in ("line", number, category and f"({category})", _plain(net)) if part)


def _plain(number: str) -> str:
    """`12.5500` as a person writes it."""
    return number.rstrip("0").rstrip(".") if "." in number else number


def _moved(moved: Movements) -> str:
    parts = [f"{points:+} {_until(day)}" for day, points in sorted(moved.lots.items())]
    parts += [f"{points:+} pending of {document}" for document, points in moved.pending.items()]
    if moved.owed:
        parts.append(f"{moved.owed:+} owed")
    return f" Moves {', '.join(parts)}." if parts else ""


def _until(day: date) -> str:
    return "that never expire" if day.year == date.max.year else f"usable until {day}"


def _lots(state: State) -> str:
    lots = [f"{points} {_until(day)}" for day, points in sorted(state.lots.items())]
    return " + ".join(lots) or "0"


def _holding(state: State) -> str:
    pending = f" and {state.pending_points} pending" if state.pending else ""
    return f"{state.balance} points{pending}" + (f", tier {state.tier}" if state.tier else "")
