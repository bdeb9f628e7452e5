"""The ledger of one customer: entries, what they move, and the state that folding them gives.

The state is nothing but the fold of the entries' movements. A decision gets its new state from the same fold, so a membership
and its ledger cannot disagree.

Points that expire on one day are one lot: the customer cannot tell them apart, and the state stays as small as the number of
expiry days, however long the history is.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any

MONEY = Decimal("0.0001")
# One encoder for millions of entries: making one costs as much as encoding a movement.
_json = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
_sorted_json = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode


class Kind(Enum):
    EARN = "earn"
    MATURE = "mature"
    TAKEBACK = "takeback"
    REDEEM = "redeem"
    VOID = "void"
    EXPIRE = "expire"
    ADJUST = "adjust"
    TIER = "tier"


class LedgerError(ValueError):
    """A history that breaks a law of the ledger; the text says which."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Points of one document that are not spendable yet; `spendable_on` is None until the day is known."""

    points: int
    spendable_on: date | None = None


@dataclass(frozen=True, slots=True)
class Movements:
    """What one entry adds to the state. Everything is a difference, except `spendable_on`, `latest`, `tier`, `since`.

    A document whose `spendable_on` is None has a day no longer.
    """

    lots: Mapping[date, int] = field(default_factory=dict)
    pending: Mapping[str, int] = field(default_factory=dict)
    spendable_on: Mapping[str, date | None] = field(default_factory=dict)
    owed: int = 0
    spend: Mapping[str, Decimal] = field(default_factory=dict)
    earned: Mapping[str, int] = field(default_factory=dict)
    latest: tuple[datetime, str] | None = None
    tier: str | None = None
    since: date | None = None

    @property
    def points(self) -> int:
        return sum(self.lots.values()) + sum(self.pending.values()) - self.owed

    def to_json(self) -> str:
        """Compact JSON with sorted keys; parts that move nothing are left out."""
        return _dumps(
            {
                "pending": dict(self.pending),
                "spendable_on": {document: day and day.isoformat() for document, day in self.spendable_on.items()},
                **_common(self),
            }
        )

    @staticmethod
    def from_json(text: str) -> "Movements":
        return _movements_of(text)


@dataclass(frozen=True, slots=True)
class Entry:
    """One immutable row. `occurred_on` is business time (an invoice's own date), in whole seconds UTC."""

    customer: str
    sequence: int
    kind: Kind
    points: int
    cause: str
    key: str
    occurred_on: datetime
    movements: str
    explanation: str
    rule_version: str
    previous_hash: str
    hash: str
    code: str | None = None

    def digest(self) -> str:
        """SHA-256 over the previous hash and every field that means something; what `hash` must be."""
        parts = [
            self.previous_hash,
            self.customer,
            self.sequence,
            self.kind.value,
            self.points,
            self.cause,
            self.key,
            _instant(self.occurred_on),
            self.movements,
            self.explanation,
            self.rule_version,
        ]
        return hashlib.sha256(_json(parts).encode()).hexdigest()

    @property
    def moved(self) -> Movements:
        return Movements.from_json(self.movements)

    @property
    def explained(self) -> dict[str, Any]:
        """Numbers with a fraction are strings in it: a ledger holds no floats."""
        return dict(json.loads(self.explanation))


@dataclass(frozen=True, slots=True)
class State:
    """A membership: the fold of its entries.

    `lots` maps the last usable day to points; `pending` a document to its points; `spend` and `earned` a month (`2026-03`) to
    money and points from invoices of that month; `latest` is the place of the newest invoice in the customer's history.
    """

    sequence: int = 0
    last_hash: str = ""
    lots: Mapping[date, int] = field(default_factory=dict)
    pending: Mapping[str, Pending] = field(default_factory=dict)
    owed: int = 0
    spend: Mapping[str, Decimal] = field(default_factory=dict)
    earned: Mapping[str, int] = field(default_factory=dict)
    latest: tuple[datetime, str] | None = None
    tier: str = ""
    since: date | None = None

    @property
    def balance(self) -> int:
        """Spendable points; below zero when points are owed. Lots past their day count until an entry expires them."""
        return sum(self.lots.values()) - self.owed

    @property
    def pending_points(self) -> int:
        return sum(p.points for p in self.pending.values())

    @property
    def total(self) -> int:
        return self.balance + self.pending_points

    @property
    def total_spend(self) -> Decimal:
        return sum(self.spend.values(), Decimal(0))

    def usable(self, today: date) -> dict[date, int]:
        """Lots that can be spent today, earliest expiry first."""
        return {day: self.lots[day] for day in sorted(self.lots) if day >= today}

    def available(self, today: date) -> int:
        return max(0, sum(self.usable(today).values()) - self.owed)

    def moved(self, movements: Movements) -> "State":
        """The state after some movements; LedgerError when a lot or a document's pending points would fall below zero."""
        return self._moved(movements, self.sequence, self.last_hash)

    def _moved(self, movements: Movements, sequence: int, last_hash: str) -> "State":
        lots = _added(self.lots, movements.lots, "lot")
        points = _added({d: p.points for d, p in self.pending.items()}, movements.pending, "pending points of")
        days = {d: p.spendable_on for d, p in self.pending.items()} | dict(movements.spendable_on)
        owed = self.owed + movements.owed
        if owed < 0:
            raise LedgerError("more points repaid than owed")
        return State(
            sequence=sequence,
            last_hash=last_hash,
            lots=lots,
            pending={d: Pending(p, days.get(d)) for d, p in points.items()},
            owed=owed,
            spend=_summed(self.spend, movements.spend),
            earned=_summed(self.earned, movements.earned),
            latest=max(filter(None, (self.latest, movements.latest)), default=None),
            tier=self.tier if movements.tier is None else movements.tier,
            since=self.since or movements.since,
        )

    def after(self, entry: Entry) -> "State":
        """The state with one more entry; LedgerError when the entry does not follow."""
        if entry.sequence != self.sequence + 1:
            raise LedgerError(f"entry {entry.sequence} follows entry {self.sequence}")
        if entry.previous_hash != self.last_hash:
            raise LedgerError(f"entry {entry.sequence} does not continue the hash chain")
        if entry.hash != entry.digest():
            raise LedgerError(f"entry {entry.sequence} was altered: its hash does not fit")
        movements = entry.moved
        if movements.points != entry.points:
            raise LedgerError(f"entry {entry.sequence} says {entry.points} points and moves {movements.points}")
        return self._moved(movements, entry.sequence, entry.hash)

    def to_json(self) -> str:
        return _dumps(
            {
                "pending": {
                    d: [p.points, p.spendable_on and p.spendable_on.isoformat()] for d, p in self.pending.items()
                },
                **_common(self),
            }
        )

    @classmethod
    def from_json(cls, text: str, sequence: int, last_hash: str) -> "State":
        raw = json.loads(text)
        return cls(
            sequence=sequence,
            last_hash=last_hash,
            pending={
                d: Pending(points, date.fromisoformat(day) if day else None)
                for d, (points, day) in raw.get("pending", {}).items()
            },
            tier=raw.get("tier", ""),
            **_common_of(raw),
        )


def fold(entries: Iterable[Entry], state: State | None = None) -> State:
    """The state after some entries, which must follow one another without a gap."""
    state = state or State()
    for entry in entries:
        state = state.after(entry)
    return state


class Journal:
    """Appends entries to a state; the only place where an entry is made."""

    def __init__(self, customer: str, state: State) -> None:
        self.customer = customer
        self.state = state
        self.entries: list[Entry] = []

    def append(
        self,
        kind: Kind,
        movements: Movements,
        *,
        cause: str,
        key: str,
        occurred_on: datetime,
        explanation: Mapping[str, Any],
        rule_version: str = "",
        code: str | None = None,
    ) -> None:
        entry = Entry(
            customer=self.customer,
            sequence=self.state.sequence + 1,
            kind=kind,
            points=movements.points,
            cause=cause,
            key=key,
            occurred_on=occurred_on.astimezone(UTC).replace(microsecond=0),
            movements=movements.to_json(),
            explanation=_dumps(explanation),
            rule_version=rule_version,
            previous_hash=self.state.last_hash,
            hash="",
            code=code,
        )
        entry = replace(entry, hash=entry.digest())
        self.state = self.state._moved(entry.moved, entry.sequence, entry.hash)  # what was written, read back
        self.entries.append(entry)


@lru_cache(maxsize=4096)  # an entry that is made is read several times before it is written
def _movements_of(text: str) -> Movements:
    raw = json.loads(text)
    return Movements(
        pending=raw.get("pending", {}),
        spendable_on={d: day and date.fromisoformat(day) for d, day in raw.get("spendable_on", {}).items()},
        tier=raw.get("tier"),
        **_common_of(raw),
    )


def _common(part: "Movements | State") -> dict[str, Any]:
    """What movements and states write alike."""
    return {
        "lots": {day.isoformat(): points for day, points in part.lots.items()},
        "owed": part.owed,
        "spend": {month: _money(amount) for month, amount in part.spend.items()},
        "earned": dict(part.earned),
        "latest": part.latest and [_instant(part.latest[0]), part.latest[1]],
        "tier": part.tier,
        "since": part.since and part.since.isoformat(),
    }


def _common_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_common`, but for the tier: movements may lack one."""
    latest, since = raw.get("latest"), raw.get("since")
    return {
        "lots": {date.fromisoformat(day): points for day, points in raw.get("lots", {}).items()},
        "owed": raw.get("owed", 0),
        "spend": {month: Decimal(amount) for month, amount in raw.get("spend", {}).items()},
        "earned": raw.get("earned", {}),
        "latest": (datetime.fromisoformat(latest[0]), latest[1]) if latest else None,
        "since": date.fromisoformat(since) if since else None,
    }


def month_of(day: date) -> str:
    return f"{day.year:04}-{day.month:02}"


def _dumps(value: Mapping[str, Any]) -> str:
    kept = {name: part for name, part in value.items() if part not in (None, 0, "", {}, [])}
    return _sorted_json(kept)


@lru_cache(maxsize=1024)  # the entries of a run have one moment
def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")


def _money(amount: Decimal) -> str:
    return str(amount.quantize(MONEY))


def _added[K](have: Mapping[K, int], moves: Mapping[K, int], what: str) -> dict[K, int]:
    result = _summed(have, moves)
    for key, points in result.items():
        if points < 0:
            raise LedgerError(f"{what} {key} would fall to {points}")
    return result


def _summed[K, N: (int, Decimal)](have: Mapping[K, N], moves: Mapping[K, N]) -> dict[K, N]:
    result = dict(have)
    for key, amount in moves.items():
        result[key] = result[key] + amount if key in result else amount
        if not result[key]:
            del result[key]
    return result
