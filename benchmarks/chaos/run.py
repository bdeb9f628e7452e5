"""One seed: the company works while faults rage, then they stop, everything comes to rest by itself, and the laws are applied."""

import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.chaos.doors import PROGRAM
from benchmarks.chaos.faults import Faults, swarm
from benchmarks.chaos.laws import Laws, Verdict, audited
from benchmarks.chaos.office import Office
from benchmarks.chaos.planted import plant
from benchmarks.chaos.process import Process
from benchmarks.chaos.report import Outcome, trace
from benchmarks.chaos.scenario import Company
from benchmarks.chaos.world import Event, World
from connector.counter import RedemptionRequest
from connector.dataverse import Transient

_START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
_NIGHT = timedelta(minutes=59)
_EVERY = 10.0  # seconds between two lines of progress
_WEATHERS = 1001  # from the seed of one day's faults to the next one's; every twentieth has none
_LARGE = 60  # invoices of a customer who leaves at the end of a day of a long run
_LEAPS = (1, 1, 1, 1, 1, 2, 2, 3, 9, 35)  # days from one day of a long run to the next
_REMEMBERED = timedelta(days=7)  # by change tracking: later a sweep looks at every row
_QUARTER = timedelta(minutes=16)  # until the sweep is called again
_MORNING = timedelta(hours=6)  # the sweep is called for the last time at 05:45
_NOT_ANNOUNCED, _WAITING = 482_100_000, 482_100_001


@dataclass(frozen=True, slots=True)
class Size:
    """`minutes` of work on each of `days`, by `clerks`, for `customers`, with so many `processes` of the function app.

    With `changes`, days go on until so many were delivered: each has a weather of its own, customers who have become large
    leave and others come. `crowd`: messages on the queues at which clerks pause.
    """

    days: int = 2
    minutes: float = 2.0
    clerks: int = 3
    customers: int = 10
    processes: int = 2
    pace: float = 4.0  # seconds between two things that a clerk does, on average
    sessions: int = 4  # at once in each process
    changes: int = 0
    crowd: int = 300


class Tills:
    """A till asks any process that runs, and asks again with the same key until it is answered."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def redeem(self, key: str, customer: str, points: int, told: Callable[[str], None]) -> None:
        self._office.world.spawn(lambda: self._ask(key, RedemptionRequest(customer=customer, points=points), told))

    def _ask(self, key: str, request: RedemptionRequest, told: Callable[[str], None]) -> None:
        world = self._office.world
        while True:
            if self._office.processes:
                answered, answers = Event(world), list[dict[str, Any]]()
                process = world.random.choice(self._office.processes)
                process.spawn(partial(self._answer, process, key, request, answers, answered))
                answered.wait(30)
                if answers:
                    if answers[0].get("status", "requested") != "requested":
                        told(answers[0]["code"] or "")
                    return
            world.sleep(world.random.uniform(0.5, 3))

    @staticmethod
    def _answer(
        process: Process, key: str, request: RedemptionRequest, answers: list[dict[str, Any]], answered: Event
    ) -> None:
        try:
            answers.append(process.app.counter.redeem(request, key, wait=2))
        except Transient:
            pass  # it asks again
        except Exception as error:
            process.office.note_failure(error)
            answers.append({})
        answered.set()


def run(seed: int, size: Size, faults: Faults | None = None) -> tuple[Outcome, Company, Verdict]:
    """The same seed and size give the same history. `faults` other than the seed's own may be given."""
    began = time.monotonic()
    faults = swarm(seed) if faults is None else faults
    outcome = Outcome(seed, faults.on)
    world = World(_START, f"{seed} world")
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as home:
        office = Office(world, faults, Path(home), size.processes, size.sessions)
        try:
            people, chance = (office.people, office.manager), random.Random(f"{seed} company")
            company = Company(f"seed {seed}", PROGRAM, people, world.now, chance)
            company.found(size.customers)
            office.start()
            if size.changes:
                _follow(office, outcome)
            chance = random.Random(f"{seed} days")
            try:
                for day in count():
                    if size.changes:
                        _open(office, company, size, outcome, day)
                    _day(office, company, size, chance, outcome)
                    if office.counts["deliveries"] >= size.changes if size.changes else day == size.days - 1:
                        break
                    _night(office, size, chance)
                outcome.settled = _settle(office, company, nights=2 if size.changes else 1)
            except Exception as error:
                outcome.broken.append(("", f"the run could not go on: {type(error).__name__}: {error}"))
            verdict = Laws(office.people, PROGRAM, company.book, world.now()).judge()
            outcome.broken += [*_at_rest(office), *_untold(office), *verdict.broken]
            outcome.broken += audited(office.people, PROGRAM, world.now())
            counts = office.counts
            outcome.events, outcome.changes = counts["events"], counts["deliveries"]
            outcome.entries = verdict.entries
            outcome.kills = counts["functions killed"] + counts["broker_killed_every"]
            outcome.counts = dict(counts)
        finally:
            office.close()
    outcome.wall = time.monotonic() - began
    return outcome, company, verdict


def told(seed: int, size: Size, bug: str = "") -> tuple[Outcome, list[str]]:
    """A run, and the trace of it if it broke a law. `bug` is planted in the product meanwhile."""
    logging.disable(logging.CRITICAL)  # failures are what this is about
    try:
        with plant(bug) if bug else nullcontext():
            outcome, company, verdict = run(seed, size)
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise
    return outcome, [] if outcome.holds else list(trace(outcome, company.book, verdict))


def _follow(office: Office, outcome: Outcome) -> None:
    """A line of progress every ten seconds of the clock on the wall; rates are by the time of the processor."""
    began = told = time.monotonic()
    work = worked = time.process_time()
    before = 0

    def tell() -> None:
        nonlocal told, worked, before
        office.world.after(5, tell)
        if (now := time.monotonic()) - told < _EVERY:
            return
        done, used = office.counts["deliveries"], time.process_time()
        kills = office.counts["functions killed"] + office.counts["broker_killed_every"]
        print(
            f"{now - began:6.0f} s, {office.world.now():%Y-%m-%d %H:%M}: {outcome.acts:,} acts, {done:,} changes,"
            f" {office.entries:,} entries, {kills:,} kills, {office.crowd} waiting;"
            f" {(done - before) / (used - worked):,.0f}/s, {done / (used - work):,.0f}/s so far, {len(office.faults.on)} faults",
            file=sys.stderr,
            flush=True,
        )
        told, worked, before = now, used, done

    tell()


def _open(office: Office, company: Company, size: Size, outcome: Outcome, day: int) -> None:
    """Another day of a long run: other systems have heard their notices, and no customer becomes a town."""
    if day:
        office.weather(swarm(outcome.seed + _WEATHERS * day))
        outcome.faults = sorted({*outcome.faults, *office.faults.on})
        office.bus.take_notices()
        company.turn_over(size.customers, _LARGE)


def _day(office: Office, company: Company, size: Size, chance: random.Random, outcome: Outcome) -> None:
    world, tills = office.world, Tills(office)
    closing = world.now() + timedelta(minutes=size.minutes)

    def clerk() -> None:
        world.sleep(chance.uniform(0, size.pace))
        while world.now() < closing:
            if size.changes and office.crowd > size.crowd:
                world.sleep(size.pace)
                continue
            company.act(tills)
            outcome.acts += 1
            world.sleep(chance.expovariate(1 / size.pace))

    for _ in range(size.clerks):
        world.spawn(clerk)
    world.run(closing)


def _night(office: Office, size: Size, chance: random.Random) -> None:
    """A while of nothing, then perhaps a night of timers, then some days or weeks later."""
    world = office.world
    world.run(world.now() + timedelta(minutes=chance.uniform(0, 12)))
    if size.changes or chance.random() < 0.4:
        _timers(office)
    morning = _midnight(world) + timedelta(days=chance.choice(_LEAPS if size.changes else (1, 2, 9, 35)), hours=8)
    while size.changes and morning - world.now() > _REMEMBERED:
        world.leap(world.now() + _REMEMBERED - timedelta(days=2))
        _timers(office)
    world.leap(morning)


def _timers(office: Office) -> None:
    """The next night's, until what they began is done, or the morning comes."""
    world = office.world
    midnight = _midnight(world) + timedelta(days=1)
    world.leap(midnight + _NIGHT)
    world.run(midnight + timedelta(hours=1, minutes=34))
    _while(world, lambda: bool(office.unfinished(midnight)))


def _midnight(world: World) -> datetime:
    return world.now().replace(hour=0, minute=0, second=0)


def _while(world: World, going: Callable[[], bool]) -> None:
    """Let the night go on as long as something does; it ends with the morning."""
    morning = _midnight(world) + _MORNING
    while going() and world.now() < morning:
        world.run(world.now() + timedelta(minutes=5))


def _settle(office: Office, company: Company, nights: int) -> float:
    """Faults stop. The evening's timers, a look at what is parked, then the nights'.

    Answers with the seconds of them that were needed. What a long sweep finds after the night's review may be past its last
    day: that is cancelled in the next night.
    """
    world = office.world
    office.calm()
    stopped = world.now()
    world.run(world.now() + timedelta(minutes=45))
    company.tidy()
    world.run(world.now() + timedelta(minutes=5))
    for _ in range(nights):
        _timers(office)
        _come_to_rest(office)
    last = office.last_change()
    skipped = sum((to - since for since, to in world.leaps if stopped <= since < last), timedelta())
    return max(0.0, (last - stopped - skipped).total_seconds())


def _come_to_rest(office: Office) -> None:
    world = office.world
    midnight = _midnight(world)
    world.run(world.now() + _QUARTER)  # a sweep that took nights finds what changed in them the next time
    _while(world, lambda: bool(office.unfinished(midnight)) or any(office.waiting.values()))


def _at_rest(office: Office) -> list[tuple[str, str]]:
    left = [("", f"{count} messages are left on {name}") for name, count in office.waiting.items() if count]
    left += [("", f"it is not finished: {name}") for name in office.unfinished(_midnight(office.world))]
    return left + [("", f"a function failed {count} times: {bug}") for bug, count in office.bugs.items()]


def _untold(office: Office) -> Iterator[tuple[str, str]]:
    """Each entry that is to be announced has been."""
    office.bus.take_notices()
    path = f"loy_entries?$select=loy_idempotencykey,loy_noticestatus&$filter=loy_noticestatus ne {_NOT_ANNOUNCED}"
    for page in office.people.pages(path, max_page_size=2000):
        for row in page:
            if row["loy_noticestatus"] == _WAITING or row["loy_entryid"] not in office.bus.heard:
                yield "", f"nobody was told of the entry {row['loy_idempotencykey']}"
