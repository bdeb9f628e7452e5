"""Versions of a programme's terms: what an administrator edits in place counts forward only, and the past keeps its terms.

A version holds all earn rules, tiers and settings of accrual as they were when it was published. It begins on a day, never
before the day after it was published; the first begins before all days. A row that was edited together with a later *valid
from* is in force as edited from that day on, and as it was until then. A row that was deleted is in force until the version
without it begins.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from connector.loyalty.program import Accrual, EarnRule, Rounding, SpendableOn, Tier, Window

# Longer than any process keeps a programme: all of them know a version before its first day.
_NOTICE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Terms:
    """Earn rules in order of version, tiers in order of rank."""

    rules: tuple[EarnRule, ...]
    tiers: tuple[Tier, ...]
    accrual: Accrual = field(default_factory=Accrual)

    def to_json(self) -> str:
        rules = [
            {
                "version": rule.version,
                "valid_from": rule.valid_from.isoformat(),
                "points_per_unit": str(rule.points_per_unit),
                "excluded_categories": sorted(rule.excluded_categories),
            }
            for rule in self.rules
        ]
        tiers = list(map(_tier_json, self.tiers))
        raw = {"rules": rules, "tiers": tiers, "accrual": _accrual_json(self.accrual)}
        return json.dumps(raw, separators=(",", ":"))

    @classmethod
    @lru_cache(maxsize=512)  # what was published never changes, and all of it is read every minute
    def from_json(cls, text: str) -> "Terms":
        raw = json.loads(text)
        rules = (
            EarnRule(
                version=rule["version"],
                valid_from=date.fromisoformat(rule["valid_from"]),
                points_per_unit=Decimal(rule["points_per_unit"]),
                excluded_categories=frozenset(rule["excluded_categories"]),
            )
            for rule in raw["rules"]
        )
        # The first versions were published without settings: those of a new programme.
        accrual = _accrual_of(raw["accrual"]) if "accrual" in raw else Accrual()
        return cls(tuple(rules), tuple(map(_tier_of, raw["tiers"])), accrual)


@dataclass(frozen=True, slots=True)
class Published:
    """One version of a programme; `begins` is its first day."""

    version: int
    begins: date
    terms: Terms


def first_day(published_at: datetime) -> date:
    """The day on which terms published at a moment (UTC) come into force."""
    return (published_at + _NOTICE).date() + timedelta(days=1)


def rules_in_force(versions: Sequence[Published]) -> tuple[EarnRule, ...]:
    """Earn rules by the day on which each comes into force; edited ones are named apart by their revision."""
    found: list[EarnRule] = []
    for begins, ends, chains in _reigns(_named(versions), lambda terms: terms.rules, lambda rule: rule.version):
        known = sorted((rule for chain in chains for rule in chain), key=lambda rule: (rule.valid_from, rule.version))
        for index, rule in enumerate(known):
            until = known[index + 1].valid_from if index + 1 < len(known) else date.max
            starts = max(rule.valid_from, begins)
            if starts < min(until, ends) and (not found or found[-1].name != rule.name):
                found.append(replace(rule, valid_from=starts))
    return tuple(found)


def tiers_in_force(versions: Sequence[Published]) -> tuple[tuple[date, tuple[Tier, ...]], ...]:
    """Tiers in order of rank, by the day on which they come into force together."""
    found: list[tuple[date, tuple[Tier, ...]]] = []
    for begins, ends, chains in _reigns(versions, lambda terms: terms.tiers, lambda tier: tier.code):
        days = {begins} | {tier.valid_from for chain in chains for tier in chain if begins < tier.valid_from < ends}
        for day in sorted(days):
            in_force = [[tier for tier in chain if tier.valid_from <= day] for chain in chains]
            tiers = tuple(sorted((c[-1] for c in in_force if c), key=lambda tier: (tier.rank, tier.code)))
            if tiers and (not found or found[-1][1] != tiers):
                found.append((day, tiers))
    return tuple(found)


def accrual_in_force(versions: Sequence[Published]) -> tuple[tuple[date, Accrual], ...]:
    """Settings of accrual, by the day on which they come into force."""
    found: list[tuple[date, Accrual]] = []
    for published in _ruling(versions):
        if not found or found[-1][1] != published.terms.accrual:
            found.append((published.begins, published.terms.accrual))
    return tuple(found)


def differences(before: Terms, after: Terms) -> Iterator[str]:
    """What an edit changed, for the list of versions."""
    for what, old, new in (
        ("earn rule", {r.version: r for r in before.rules}, {r.version: r for r in after.rules}),
        ("tier", {t.code: t for t in before.tiers}, {t.code: t for t in after.tiers}),
    ):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in new:
                yield f"{what} {key} was deleted"
            elif key not in old:
                yield f"{what} {key} is new"
            else:
                yield from (f"{what} {key}: {text}" for text in _changed(old[key], new[key]))
    yield from (f"programme: {text}" for text in _changed(before.accrual, after.accrual))


def _ruling(versions: Iterable[Published]) -> list[Published]:
    """The versions that came into force: one that was followed before its first day never does."""
    ruling: list[Published] = []
    for published in versions:
        ruling = [other for other in ruling if other.begins < published.begins] + [published]
    return ruling


def _reigns[R: (EarnRule, Tier)](
    versions: Sequence[Published], rows_of: Callable[[Terms], Iterable[R]], key: Callable[[R], Hashable]
) -> Iterator[tuple[date, date, list[list[R]]]]:
    """Each version that came into force: its first day, the first day of the next, and per row its revisions by valid from."""
    ruling = _ruling(versions)
    chains: dict[Hashable, list[R]] = {}
    for index, published in enumerate(ruling):
        chains = {
            key(row): _revised(chains.get(key(row), []), row, published.begins) for row in rows_of(published.terms)
        }
        ends = ruling[index + 1].begins if index + 1 < len(ruling) else date.max
        yield published.begins, ends, list(chains.values())


def _revised[R: (EarnRule, Tier)](chain: list[R], row: R, begins: date) -> list[R]:
    if chain and chain[-1] == row:
        return chain
    return [older for older in chain if begins < row.valid_from > older.valid_from] + [row]


def _named(versions: Iterable[Published]) -> list[Published]:
    """The versions with their earn rules named apart."""
    found, last = [], dict[int, EarnRule]()
    for published in versions:
        for rule in published.terms.rules:
            before = last.get(rule.version)
            if before is None or replace(before, revision=0) != rule:
                last[rule.version] = replace(rule, revision=published.version) if before else rule
        rules = tuple(last[rule.version] for rule in published.terms.rules)
        found.append(replace(published, terms=replace(published.terms, rules=rules)))
    return found


def _changed(old: EarnRule | Tier | Accrual, new: EarnRule | Tier | Accrual) -> Iterator[str]:
    for each in fields(old):
        was, now = getattr(old, each.name), getattr(new, each.name)
        if was != now and each.name != "revision":
            yield f"{each.name.replace('_', ' ')} {_shown(was)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    if isinstance(value, Window | SpendableOn | Rounding):
        return str(value.value).replace("_", " ")
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return "none" if value is None or value == date.min else str(value)


def _accrual_json(accrual: Accrual) -> dict[str, Any]:
    return {
        "spendable_on": accrual.spendable_on.value,
        "spendable_days": accrual.spendable_days,
        "lifetime_months": accrual.lifetime_months,
        "rounding": accrual.rounding.value,
        "currencies": sorted(accrual.currencies),
    }


def _accrual_of(raw: dict[str, Any]) -> Accrual:
    return Accrual(
        **raw
        | {
            "spendable_on": SpendableOn(raw["spendable_on"]),
            "rounding": Rounding(raw["rounding"]),
            "currencies": frozenset(raw["currencies"]),
        }
    )


def _tier_json(tier: Tier) -> dict[str, Any]:
    return {
        "id": tier.id,
        "code": tier.code,
        "name": tier.name,
        "rank": tier.rank,
        "multiplier": str(tier.multiplier),
        "minimum_tenure_months": tier.minimum_tenure_months,
        "minimum_spend": str(tier.minimum_spend),
        "minimum_points": tier.minimum_points,
        "window": tier.window.value,
        "window_months": tier.window_months,
        "grace_months": tier.grace_months,
        "soft_landing": tier.soft_landing,
        "rating_code": tier.rating_code,
        "valid_from": None if tier.valid_from == date.min else tier.valid_from.isoformat(),
    }


def _tier_of(raw: dict[str, Any]) -> Tier:
    return Tier(
        **raw
        | {
            "multiplier": Decimal(raw["multiplier"]),
            "minimum_spend": Decimal(raw["minimum_spend"]),
            "window": Window(raw["window"]),
            "valid_from": date.fromisoformat(raw["valid_from"]) if raw["valid_from"] else date.min,
        }
    )
