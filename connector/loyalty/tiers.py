"""Which tier a customer holds, from spend and tenure alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from connector.loyalty.ledger import State, month_of
from connector.loyalty.program import Program, Tier, Window, add_months, months_between


@dataclass(frozen=True, slots=True)
class NextTier:
    """What is missing for the next tier: money within its window, points, and the day its tenure is reached (if later)."""

    tier: Tier
    spend: Decimal
    points: int
    tenure_on: date | None


def held(
    program: Program, spend: Mapping[str, Decimal], earned: Mapping[str, int], since: date | None, on: date
) -> Tier:
    """The highest tier whose every condition holds on a day, or that is kept for a while after; the first one when there is none.

    What was held in past months follows from the same sums and the conditions in force on the day: nothing else is remembered.
    """
    tiers, day = program.tiers_on(on), on
    places = [0]
    for months in range(_memory(tiers) + 1):
        met = (place for place, tier in enumerate(tiers) if place and _qualifies(tier, spend, earned, since, day))
        places += [_kept(tiers, place, months) for place in met]
        day = day.replace(day=1) - timedelta(days=1)
    return tiers[max(places)]


def held_by(program: Program, state: State, on: date) -> Tier:
    return held(program, state.spend, state.earned, state.since, on)


def reachable_multipliers(program: Program, total_spend: Decimal, total_earned: int) -> set[Decimal]:
    """Multipliers that some part of a history could have had. A single one means that its order cannot matter."""
    if any(tier.soft_landing for tiers in program.tier_sets for tier in tiers):  # it may lead to any
        return {tier.multiplier for tiers in program.tier_sets for tier in tiers}
    return {tiers[0].multiplier for tiers in program.tier_sets} | {
        tier.multiplier
        for tiers in program.tier_sets
        for tier in tiers
        if tier.minimum_spend <= total_spend and tier.minimum_points <= total_earned
    }


def next_tier(program: Program, state: State, on: date) -> NextTier | None:
    """The tier above the one held, and the distance to it; None at the top."""
    rank = held_by(program, state, on).rank
    above = next((tier for tier in program.tiers_on(on) if tier.rank > rank), None)
    if above is None:
        return None
    tenure_on = add_months(state.since or on, above.minimum_tenure_months)
    return NextTier(
        tier=above,
        spend=max(Decimal(0), above.minimum_spend - _within(above, state.spend, on, Decimal(0))),
        points=max(0, above.minimum_points - _within(above, state.earned, on, 0)),
        tenure_on=tenure_on if tenure_on > on else None,
    )


def next_review(program: Program, state: State, today: date) -> date | None:
    """The first day on which time alone changes tier, spendable points or lots; today when something is due already."""
    if state.sequence and held_by(program, state, today).code != state.tier:
        return today
    due = [pending.spendable_on for pending in state.pending.values() if pending.spendable_on]
    due += [day + timedelta(days=1) for day in state.lots if day < date.max]
    due = [max(day, today) for day in due]
    # Other conditions come into force.
    due += [begins for begins, _ in program.tier_history if begins > today]
    for tier in program.tiers_on(today)[1:]:
        if state.since and (tenure_on := add_months(state.since, tier.minimum_tenure_months)) > today:
            due.append(tenure_on)
        if tier.window is not Window.LIFETIME and state.spend:
            due.append(add_months(today.replace(day=1), 1))
    return min(due, default=None)


def _memory(tiers: Sequence[Tier]) -> int:
    """Months after which nothing is kept any more."""
    if any(tier.soft_landing for tier in tiers):
        return sum(tier.grace_months + 1 for tier in tiers[1:])
    return max(tier.grace_months for tier in tiers)


def _kept(tiers: Sequence[Tier], place: int, months: int) -> int:
    """The place of the tier that is left of one whose conditions held last so many months ago."""
    while place and months > tiers[place].grace_months:
        months -= tiers[place].grace_months + 1
        place = place - 1 if tiers[place].soft_landing else 0
    return place


def _qualifies(
    tier: Tier, spend: Mapping[str, Decimal], earned: Mapping[str, int], since: date | None, on: date
) -> bool:
    return (
        (
            not tier.minimum_tenure_months
            or (since is not None and months_between(since, on) >= tier.minimum_tenure_months)
        )
        and _within(tier, spend, on, Decimal(0)) >= tier.minimum_spend
        and _within(tier, earned, on, 0) >= tier.minimum_points
    )


def _within[N: (int, Decimal)](tier: Tier, months: Mapping[str, N], on: date, zero: N) -> N:
    match tier.window:
        case Window.LIFETIME:
            return sum(months.values(), zero)
        case Window.ROLLING_MONTHS:
            first = month_of(add_months(on.replace(day=1), 1 - tier.window_months))
        case Window.CALENDAR_YEAR:
            first = month_of(on.replace(month=1, day=1))
    last = month_of(on)
    return sum((amount for month, amount in months.items() if first <= month <= last), zero)
