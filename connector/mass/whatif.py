"""A programme as it might be: to see who would rise and who would fall before anybody edits a tier."""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from connector.loyalty.program import Program, Tier

_COLUMNS = {
    "multiplier": Decimal,
    "minimum_tenure_months": int,
    "minimum_spend": Decimal,
    "minimum_points": int,
    "window_months": int,
    "grace_months": int,
}


def changed(program: Program, wishes: Iterable[str]) -> Program:
    """The programme with tiers as wished, `GOLD.minimum_spend=5000`, in force on every day.

    ValueError names the wish that is wrong."""
    wanted = list(wishes)
    if not wanted:
        return program
    tiers = {tier.code: tier for tier in program.tiers}
    for wish in wanted:
        place, equals, value = wish.partition("=")
        code, dot, column = place.strip().partition(".")
        if not (equals and dot):
            raise ValueError(f"{wish}: TIER.COLUMN=VALUE is expected")
        if code not in tiers:
            raise ValueError(f"{wish}: there is no tier {code}; there are {', '.join(tiers)}")
        tiers[code] = _with(tiers[code], column, value.strip(), wish)
    return replace(program, tiers=tuple(tiers[tier.code] for tier in program.tiers), tier_history=())


def _with(tier: Tier, column: str, value: str, wish: str) -> Tier:
    if column not in _COLUMNS:
        raise ValueError(f"{wish}: {column} is not one of {', '.join(_COLUMNS)}")
    try:
        number = _COLUMNS[column](value)
    except (ValueError, InvalidOperation):
        raise ValueError(f"{wish}: {value!r} is not a number") from None
    if number < 0 or (isinstance(number, Decimal) and not number.is_finite()):
        raise ValueError(f"{wish}: {value!r} is below zero or no number")
    fields: dict[str, Decimal | int] = {column: number}
    return replace(tier, **fields)  # type: ignore[arg-type]
