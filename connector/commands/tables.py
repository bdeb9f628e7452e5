"""Points by tier and month of expiry, as a table."""

from collections.abc import Mapping
from decimal import Decimal


def by_month_and_tier(points: Mapping[tuple[str, str], int], value: Decimal) -> str:
    """A line a month, a column a tier, totals at the end; `value` is that of a point."""
    tiers = sorted({tier for tier, _ in points})
    months = sorted({month for _, month in points})
    sums = {tier: sum(n for (t, _), n in points.items() if t == tier) for tier in tiers}
    lines = [_line("", tiers, "total")]
    for month in months:
        row = [points.get((tier, month), 0) for tier in tiers]
        lines.append(_line(month, [f"{n:,}" for n in row], f"{sum(row):,}"))
    lines.append(_line("total", [f"{sums[tier]:,}" for tier in tiers], f"{sum(sums.values()):,}"))
    lines.append(
        _line("in money", [f"{sums[tier] * value:,.2f}" for tier in tiers], f"{sum(sums.values()) * value:,.2f}")
    )
    return "\n".join(lines)


def _line(name: str, cells: list[str], total: str) -> str:
    return f"{name:10}" + "".join(f"{cell:>16}" for cell in [*cells, total])
