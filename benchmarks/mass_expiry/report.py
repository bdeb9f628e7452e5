"""What a run came to, in lines of text and as JSON."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.mass_expiry.clerks import Served
from benchmarks.mass_expiry.laws import Books
from benchmarks.mass_expiry.population import Population
from benchmarks.mass_expiry.run import EXECUTION, WINDOW, Result

REQUESTS = 6000.0
USERS = (1, 4, 16)
_NIGHT = 5_000_000


def modelled_hours(requests: float, execution: float, users: int) -> float:
    """Hours under the published limits when as many application users share the work, each on a web server of its own."""
    return max(requests / (REQUESTS / WINDOW), execution / (EXECUTION / WINDOW)) / users / 3600


def percentile(values: Sequence[float], part: float) -> float:
    """Of the values in order, the one below which lies that part of them; 0.0 when there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def figures(population: Population, result: Result, broken: Sequence[str]) -> dict[str, Any]:
    """Everything that was measured, by name."""
    done = result.totals.done
    floor = statistics.mean(result.floors) if result.floors else 0.0
    processor = {name: result.cores.get(name, 0.0) * result.seconds / done for name in ("dataverse", "workers")}
    return {
        "customers": population.plan.customers,
        "due": population.due,
        "seconds": result.seconds,
        "customers/s": result.rate,
        "floor customers/s": result.floors,
        "share of floor": result.rate / floor if floor else None,
        "processor seconds a customer": processor,
        "floor's processor seconds a customer": result.floor_processor,
        "requests": result.requests,
        "requests a thousand customers": result.requests / done * 1000,
        "modelled seconds a customer": result.execution / done,
        "modelled hours": {users: modelled_hours(result.requests, result.execution, users) for users in USERS},
        "modelled hours for five million": {
            users: modelled_hours(result.requests / done * _NIGHT, result.execution / done * _NIGHT, users)
            for users in USERS
        },
        "refused": result.refused,
        "share of limits": result.limits if result.servers else None,
        "peak memory of a worker": result.memory,
        "cores": result.cores,
        "latency": {
            name: _latency([one.waited for one in served])
            for name, served in result.served.items()
            if name in ("idle", "during")
        },
        "answers": dict(Counter(one.outcome for one in result.served.get("all", ()))),
        "kills": result.kills,
        "totals": asdict(result.totals),
        "broken laws": list(broken),
    }


def _latency(waits: Sequence[float]) -> dict[str, float]:
    return {
        "redemptions": len(waits),
        "p50": percentile(waits, 0.5),
        "p99": percentile(waits, 0.99),
        "longest": max(waits, default=0.0),
    }


def lines(population: Population, result: Result, before: Books, after: Books) -> Iterator[str]:
    found = figures(population, result, ())
    totals, hours = result.totals, found["modelled hours"]
    yield (
        f"{population.plan.customers:,} customers with {before.entries:,} entries, {population.due:,} with points to expire "
        f"(seed {population.plan.seed})"
    )
    yield f"  wall time               {result.seconds:,.1f} s, {result.rate:,.0f} customers/s"
    if result.floors:
        yield f"  bare floor              {_listed(result.floors, ',.0f')} customers/s; share {found['share of floor']:.2f}"
    used = found["processor seconds a customer"]
    yield (
        f"  processor time          {used['dataverse'] * 1000:.3f} ms a customer in the local Dataverse, "
        f"{used['workers'] * 1000:.3f} ms in workers; bare floor {_listed((u * 1000 for u in result.floor_processor), '.3f')} ms"
    )
    per_thousand = found["requests a thousand customers"]
    yield f"  requests                {result.requests:,}, {per_thousand:.1f} for a thousand customers"
    yield f"  modelled execution      {found['modelled seconds a customer'] * 1000:.1f} s for a thousand customers"
    yield f"  modelled hours          {_hours(hours)}; for five million {_hours(found['modelled hours for five million'])}"
    if result.servers:
        yield (
            f"  limits                  {found['share of limits']:.0%} of what is granted was used, "
            f"{result.refused} of {result.requests} requests refused, calls held back for {totals.throttled:,.0f} s in all"
        )
    yield f"  worker                  {result.memory / 2**20:,.0f} MiB at most, killed {result.kills} times"
    yield f"  cores                   {', '.join(f'{name} {used:.2f}' for name, used in result.cores.items() if used > 0.01)}"
    for name, wait in found["latency"].items():
        yield (
            f"  redemptions {name:<12}p50 {wait['p50'] * 1000:,.0f} ms, p99 {wait['p99'] * 1000:,.0f} ms, longest "
            f"{wait['longest'] * 1000:,.0f} ms, of {wait['redemptions']:,}"
        )
    yield f"  answers                 {_counted(result.served.get('all', ()))}"
    yield (
        f"  conflicts               {totals.conflicts} customers changed in the middle, {totals.rewritten} copies rewritten, "
        f"{totals.second_round} decided again through the queue, {totals.failed} failed"
    )
    yield f"  cancelled               {after.expired:,} points of {after.expired_customers:,} customers"
    if totals.notices:
        yield f"  notices                 {totals.notices:,} confirmed by their queue"


def _listed(values: Iterable[float], how: str) -> str:
    return ", ".join(format(value, how) for value in values)


def _hours(hours: dict[int, float]) -> str:
    return ", ".join(f"{value:.2f} with {users}" for users, value in hours.items())


def _counted(served: Iterable[Served]) -> str:
    counts = Counter(one.outcome for one in served)
    return ", ".join(f"{count:,} {outcome}" for outcome, count in counts.most_common()) or "none"
