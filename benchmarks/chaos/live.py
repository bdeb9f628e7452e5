"""One seed on the real local stack: the same company, model and laws, real time, SDKs and sockets, and SIGKILL.

The company has branches, each with customers and invoices of its own and a clerk who is as fast as the stack allows. What a
branch does follows from the seed; what meets what does not: processes run at once.
"""

import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import requests

from benchmarks.chaos.faults import REAL, swarm
from benchmarks.chaos.laws import Laws, audited
from benchmarks.chaos.report import Outcome, trace
from benchmarks.chaos.scenario import Company
from benchmarks.chaos.site import PROGRAM, Site, now
from benchmarks.chaos.steadfast import Steadfast

_EVERY = 10.0  # seconds between two lines of progress
_WEATHER = 600.0  # seconds, after which other faults are on
_QUIET = 3  # looks in a row that find nothing under way
_WAITED = 125.0  # seconds after which a waiting row is picked up
_NIGHT = ("PickUpWaiting", "ResubmitDeadLetters", "SweepChanges", "StartReviews", "RunMassJobs")
_CALLS = 1000  # of tills, under way or waiting to be made


@dataclass(frozen=True, slots=True)
class Live:
    """Work ends after `minutes`, or earlier with so many `changes` (0: never). `crowd`: messages on the queues at which clerks
    pause. `settle` bounds the seconds to come to rest."""

    minutes: float = 2.0
    changes: int = 0
    customers: int = 40
    branches: int = 4
    hosts: int = 2
    crowd: int = 300
    settle: float = 3600.0


class Tills:
    """A till asks any host by HTTP, and again with the same key until it has an answer."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._pool = ThreadPoolExecutor(8)
        self._room = threading.Semaphore(_CALLS)
        self._closed = False
        self._asking: set[Future[None]] = set()
        self.strange: Counter[str] = Counter()

    def redeem(self, key: str, customer: str, points: int, told: Callable[[str], None]) -> None:
        self._room.acquire()
        asked = self._pool.submit(self._ask, key, {"customer": customer, "points": points}, told)
        self._asking.add(asked)
        asked.add_done_callback(self._asking.discard)

    def __enter__(self) -> "Tills":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._pool.shutdown(cancel_futures=True)

    @property
    def asking(self) -> int:
        return len(self._asking)

    def _ask(self, key: str, body: dict[str, object], told: Callable[[str], None]) -> None:
        headers = {"x-functions-key": self._site.key, "Idempotency-Key": key, "Prefer": "wait=2"}
        while not self._closed:
            url = f"{random.choice(self._site.hosts).url}/api/redemptions"
            with suppress(requests.RequestException):
                answer = requests.post(url, json=body, headers=headers, timeout=40)
                if answer.status_code in (201, 202, 409):
                    found = answer.json()
                    decided = found if answer.status_code == 201 else found.get("redemption")
                    if decided:
                        told(decided["code"] or "")
                    break
                if answer.status_code < 500:
                    self.strange[f"a till was answered {answer.status_code}: {answer.text[:200]}"] += 1
                    break
            time.sleep(0.5)
        self._room.release()


def live(seed: int, size: Live, bug: str = "") -> tuple[Outcome, list[str]]:
    """The outcome, and the trace of what broke a law. `bug` is planted in the hosts."""
    began, faults, lines = time.monotonic(), swarm(seed, REAL), list[str]()
    outcome = Outcome(seed, faults.on)
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    _tell(f"the stack's home is {home}; it stays if a law is broken")
    with Site(home, faults, size.hosts, random.Random(f"{seed} site"), bug) as site, Tills(site) as tills:
        branches = _founded(seed, size, site)
        site.start()
        outcome.acts = _work(site, size, branches, tills, seed)
        outcome.faults = sorted(site.kinds)
        while tills.asking:
            site.tick()
            time.sleep(0.2)
        site.calm()
        try:
            outcome.settled = _settle(site, size, branches[0])
        except TimeoutError as error:
            outcome.broken.append(("", str(error)))
        left = [f"{count} messages are left on {name}" for name, count in site.waiting.items() if count]
        failed = [f"{count} times: {what}" for what, count in (site.bugs + tills.strange).items()]
        outcome.broken += [("", sentence) for sentence in (*left, *failed)]
        _tell("the laws")
        outcome.broken += audited(site.people, PROGRAM, now())
        lines = _judge(site, branches, outcome)
        outcome.events, outcome.changes, outcome.kills = site.events, site.changes, site.kills
        outcome.counts = dict(site.counts)
    if outcome.holds:
        shutil.rmtree(home)
    outcome.wall = time.monotonic() - began
    return outcome, lines


def _founded(seed: int, size: Live, site: Site) -> list[Company]:
    people = Steadfast(site.people), Steadfast(site.manager)
    head = Company(f"seed {seed}", PROGRAM, people, now, random.Random(f"{seed} company"))
    each = max(4, size.customers // size.branches)
    head.found(each)
    branches = [head]
    for number in range(1, size.branches):
        chance = random.Random(f"{seed} branch {number}")
        branches.append(Company(f"seed {seed} branch {number}", PROGRAM, people, now, chance, head))
        branches[-1].welcome(each)
    return branches


def _work(site: Site, size: Live, branches: list[Company], tills: Tills, seed: int) -> int:
    """Everybody works while faults rage, others every ten minutes; the number of things done."""
    acts: Counter[int] = Counter()
    failures: list[BaseException] = []
    began = time.monotonic()
    room, over = threading.Event(), threading.Event()

    def clerk(number: int) -> None:
        try:
            while not over.is_set() and not failures:
                if room.wait(1) and not _midnight():
                    branches[number].act(tills)
                    acts[number] += 1
        except BaseException as error:
            failures.append(error)

    clerks = [threading.Thread(target=clerk, args=(number,), daemon=True) for number in range(size.branches)]
    room.set()
    for thread in clerks:
        thread.start()
    told = 0.0
    while any(thread.is_alive() for thread in clerks):
        site.tick()
        waiting = site.waiting
        crowd = sum(count for name, count in waiting.items() if not name.endswith("dead"))
        (room.clear if crowd > size.crowd else room.set)()
        elapsed = time.monotonic() - began
        site.weather(swarm(seed + 1001 * int(elapsed // _WEATHER), REAL))
        if elapsed > size.minutes * 60 or 0 < size.changes <= site.changes:
            over.set()
        if time.monotonic() - told >= _EVERY:
            told = time.monotonic()
            _tell(_progress(site, waiting, acts.total()))
        time.sleep(0.2)
    if failures:
        raise failures[0]
    return acts.total()


def _midnight() -> bool:
    """People do not work in the minute before or after: on which day a thing was done is part of what they know."""
    moment = now()
    return len({(moment + timedelta(minutes=minutes)).date() for minutes in (-1, 0, 1)}) > 1


def _settle(site: Site, size: Live, head: Company) -> float:
    """By its timers alone, brought forward: a row that waits is old enough, a night's work is done. Seconds it took."""
    began = time.monotonic()
    until = began + size.settle
    _rest(site, until)
    while time.monotonic() < began + _WAITED:
        site.tick()
        time.sleep(0.5)
    head.tidy()
    head.expire()  # this day's review may be over already, when the day's work was not
    _round(site, until)
    _round(site, until)  # what the first sends may need another
    while site.unfinished or any(count for name, count in site.waiting.items() if name.endswith("dead")):
        _round(site, until)
    return time.monotonic() - began


def _round(site: Site, until: float) -> None:
    for timer in _NIGHT:
        while not site.run_timer(timer) and time.monotonic() < until:
            site.tick()
            time.sleep(0.5)
        _rest(site, until)


def _rest(site: Site, until: float) -> None:
    """Until nothing is under way; dead letters lie where they are."""
    quiet, told = 0, time.monotonic()
    while quiet < _QUIET:
        time.sleep(0.5)
        site.tick()
        waiting = site.waiting
        moving = site.running + sum(count for name, count in waiting.items() if not name.endswith("dead"))
        quiet = 0 if moving else quiet + 1
        if time.monotonic() - told >= _EVERY:
            told = time.monotonic()
            _tell(_progress(site, waiting, None))
        if time.monotonic() > until:
            raise TimeoutError(f"did not come to rest: {moving} under way")


def _judge(site: Site, branches: list[Company], outcome: Outcome) -> list[str]:
    """Branch by branch, so that memory holds the ledger of one."""
    lines: list[str] = []
    for branch in branches:
        verdict = Laws(site.people, PROGRAM, branch.book, now()).judge()
        outcome.entries += verdict.entries
        outcome.broken += verdict.broken
        if verdict.broken and len(lines) < 1000:
            lines += trace(Outcome(outcome.seed, outcome.faults, broken=verdict.broken), branch.book, verdict)
    others = [sentence for customer, sentence in outcome.broken if not customer]
    return [*others, *lines] if outcome.broken else []


def _progress(site: Site, waiting: dict[str, int], acts: int | None) -> str:
    dead = sum(count for name, count in waiting.items() if name.endswith("dead"))
    way = sum(count for name, count in waiting.items() if not name.endswith("dead"))
    done = "settling" if acts is None else f"{acts:,} acts"
    done += f", {site.changes:,} changes, {site.entries:,} entries"
    return f"{done}, {way:,} waiting, {dead:,} dead letters, {site.kills} kills"


def _tell(text: str) -> None:
    print(f"{now():%H:%M:%S} {text}", file=sys.stderr, flush=True)
