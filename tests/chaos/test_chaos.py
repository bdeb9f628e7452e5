"""The proof under faults, in short: it holds, it is the same twice, and it can fail."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from benchmarks.chaos import __main__ as command
from benchmarks.chaos.faults import Faults
from benchmarks.chaos.planted import plant
from benchmarks.chaos.report import Outcome, trace
from benchmarks.chaos.run import Size, run

SIZE = Size(days=1, minutes=1.0, customers=6, pace=2.0)
SEED = 7
MANY_LOTS = Size(days=1, minutes=1.5, customers=4, pace=1.0)
TWO_DAYS = Size(days=2, minutes=3.0, customers=6, pace=2.0)
LONGER = Size(days=1, minutes=3.0, customers=6, pace=2.0)
TRIES = 6  # not every company gives every bug an occasion
# Where to begin to look for it.
SHOWN = {
    "answer without entry": (SEED, SIZE),
    "earn again": (SEED, SIZE),
    "forget corrections": (SEED, SIZE),
    "forget the sweep": (SEED, SIZE),
    "ignore voids": (SEED, SIZE),
    "keep the estate": (11, SIZE),
    "know better": (SEED, SIZE),
    "lose updates": (8, SIZE),
    "plead poverty": (SEED, SIZE),
    "promise": (SEED, SIZE),
    "resume nothing": (8, LONGER),
    "rewrite the past": (SEED, TWO_DAYS),
    "spend what is owed": (SEED, SIZE),
    "take earliest first": (21, MANY_LOTS),
    "take nothing": (SEED, SIZE),
    "tell another balance": (SEED, SIZE),
    "tell cents": (SEED, SIZE),
    "tell nobody": (SEED, SIZE),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Hundreds of failures are what this is about."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def storm() -> Faults:
    """A bit of everything that may happen to events and requests."""
    return Faults(
        event_lost=0.1,
        event_duplicated=0.2,
        event_reordered=0.3,
        event_trimmed=0.2,
        unavailable=0.05,
        answer_lost=0.05,
        sql_deadlock=0.05,
        lock_lost_every=5.0,
        settlement_lost=0.05,
        crash=0.01,
    )


def everything() -> Faults:
    """Every kind at once, often enough for a minute's work."""
    return replace(
        storm(),
        event_delayed=0.1,
        throttled=0.05,
        limits_scaled=60.0,
        timed_out=0.06,
        connection_lost=0.05,
        outage_every=60.0,
        send_lost=0.05,
        broker_killed_every=40.0,
        functions_killed_every=25.0,
        clock_skew=90.0,
        bulk_killed=0.2,
    )


def told(seed: int, faults: Faults, size: Size = SIZE) -> Outcome:
    print(f"seed {seed}")
    outcome, company, verdict = run(seed, size, faults)
    for line in trace(outcome, company.book, verdict) if outcome.broken else ():
        print(line)
    return outcome


@pytest.mark.parametrize("faults", [storm, everything])
def test_the_laws_hold_and_a_seed_is_one_history(faults: Callable[[], Faults]) -> None:
    first, again = told(SEED, faults()), told(SEED, faults())
    assert first.broken == []
    assert first.acts > 30
    assert first.entries > 20
    struck = {"event_lost", "event_duplicated", "event_trimmed", "lock_lost_every"}
    if faults is everything:
        struck |= {"event_delayed", "timed_out", "outage_every", "send_lost", "broker_killed_every", "functions killed"}
    assert all(first.counts[fault] for fault in struck)
    first.wall = again.wall
    assert first == again


@pytest.mark.parametrize("faults", [storm, everything])
def test_the_laws_hold_over_two_days(faults: Callable[[], Faults]) -> None:
    assert told(SEED + 1, faults(), Size(days=2, minutes=1.0, customers=6)).broken == []


@pytest.mark.parametrize(
    ("options", "seeds"),
    [((), [1]), (("--seed", "0"), [0]), (("--seed", "7"), [7]), (("--seeds", "0..2"), [0, 1, 2])],
)
def test_the_seeds_that_are_asked_for(
    options: tuple[str, ...], seeds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(command, "_in_process", lambda seeds, _: asked.extend(seeds) or [])
    assert command.main([*options]) == 0
    assert asked == seeds


@pytest.mark.parametrize("bug", SHOWN)
def test_a_bug_is_caught(bug: str) -> None:
    first, size = SHOWN[bug]
    for seed in range(first, first + TRIES):
        with plant(bug):
            outcome, company, verdict = run(seed, size, storm())
        if outcome.broken:
            print("\n".join(trace(outcome, company.book, verdict)))
            break
    assert outcome.broken
