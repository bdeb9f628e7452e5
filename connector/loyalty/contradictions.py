"""Earn rules and tiers that are right one by one and wrong together."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from connector.loyalty.program import EarnRule, Tier, Window
from connector.loyalty.versions import Terms


@dataclass(frozen=True, slots=True)
class Contradiction:
    """`kind` names it for programs, `says` for people; it concerns each of `rows`.

    `severe`: which row counts would be chance, so the terms are not published until somebody has repaired them.
    """

    kind: str
    says: str
    rows: tuple[EarnRule | Tier, ...]
    severe: bool = False


def contradictions(terms: Terms) -> Iterator[Contradiction]:
    yield from _of_tiers(sorted(terms.tiers, key=lambda tier: (tier.rank, tier.code)))
    yield from _of_rules(sorted(terms.rules, key=lambda rule: (rule.valid_from, rule.version)))


def _of_tiers(tiers: list[Tier]) -> Iterator[Contradiction]:
    first = tiers[0]
    if first.minimum_tenure_months or first.minimum_spend or first.minimum_points:
        says = f"tier {first.code} is the lowest, so everybody holds it, yet it has conditions"
        yield Contradiction("lowest_has_conditions", says, (first,))
    for lower, higher in pairwise(tiers):
        if lower.rank == higher.rank:
            says = f"tiers {lower.code} and {higher.code} have the same rank {lower.rank}"
            yield Contradiction("same_rank", says, (lower, higher), severe=True)
        elif _same_months(lower, higher) and _asks_no_more(higher, lower):
            says = f"nobody will ever hold tier {lower.code}: tier {higher.code} above it asks for no more"
            yield Contradiction("never_held", says, (lower, higher))
    ratings = [tier.rating_code for tier in tiers]
    for rating in sorted({code for code in ratings if code is not None and ratings.count(code) > 1}):
        writing = tuple(tier for tier in tiers if tier.rating_code == rating)
        says = f"tiers {' and '.join(tier.code for tier in writing)} write the same account rating {rating}"
        yield Contradiction("same_rating", says, writing)


def _of_rules(rules: list[EarnRule]) -> Iterator[Contradiction]:
    for earlier, later in pairwise(rules):
        if earlier.valid_from == later.valid_from:
            says = f"earn rules {earlier.version} and {later.version} both begin on {later.valid_from}"
            yield Contradiction("same_day", says, (earlier, later), severe=True)
        if later.version < earlier.version:
            says = f"earn rule {later.version} begins after version {earlier.version}: versions run against time"
            yield Contradiction("against_time", says, (earlier, later))


def _same_months(one: Tier, other: Tier) -> bool:
    if one.window is not other.window:
        return False
    return one.window is not Window.ROLLING_MONTHS or one.window_months == other.window_months


def _asks_no_more(higher: Tier, lower: Tier) -> bool:
    return (
        higher.minimum_tenure_months <= lower.minimum_tenure_months
        and higher.minimum_spend <= lower.minimum_spend
        and higher.minimum_points <= lower.minimum_points
    )
