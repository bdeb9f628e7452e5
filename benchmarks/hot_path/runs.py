"""Measurements: a backlog worked off, and changes that come one at a time."""

import time
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.hot_path import laws
from benchmarks.hot_path.lab import Counted, Lab
from benchmarks.hot_path.stream import Names, Recording, record

_SEED = 9
_WARM_UP = 5  # changes that do not count
_SETTLES = 1.0  # seconds for what a start does by itself
WITHIN = 300.0

# Published for one application user on one web server, in 300 s.
_REQUESTS, _SECONDS = 6000 / 300, 1200 / 300


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. `delay` is that of the network in seconds, `rough` switches on lost answers and failing writes.

    The naive ones work off the beginning of the recording only, `naive_changes`: they would take minutes for all of it.
    """

    delay: float
    sessions: int
    customers: int
    history: int
    changes: int
    naive_changes: int
    rough: bool = False

    def recording(self, name: str) -> Recording:
        changes = self.naive_changes if name.startswith("naive") else self.changes
        return record(_SEED, customers=self.customers, history=self.history, changes=changes)


@dataclass(frozen=True, slots=True)
class Result:
    """Latencies are in seconds, from the event's arrival on the queue to its durable entry."""

    name: str
    changes: int
    seconds: float
    latencies: list[float]
    cpu: float
    memory: int
    counted: Counted
    broken: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return self.changes / self.seconds

    @property
    def possible(self) -> float:
        """Changes a second within the published limits of one application user on one web server."""
        by_requests = _REQUESTS * self.changes / max(1, self.counted.requests)
        return min(by_requests, _SECONDS * self.changes / max(1e-9, self.counted.seconds))

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def backlog(lab: Lab, name: str, row: Row, **settings: str) -> Result:
    """Everything is put on the queue at once; how fast is it worked off?"""
    recording, names = row.recording(name), Names(f"{name}/{row}/{time.time()}")
    lab.plant(recording, names)
    changes = names.changes(recording)
    settings.setdefault("AzureWebJobs.DataverseEvent.Disabled", "true")
    with lab.running(name, row.sessions, **settings) as subject:
        time.sleep(_SETTLES)
        _conditions(lab, row)
        lab.reset_counters()
        cpu, began = subject.cpu(), time.time()
        lab.send(changes)
        finished = subject.until_done(changes, WITHIN)
        cpu, counted, memory = subject.cpu() - cpu, lab.counted(), subject.memory()
        times = [subject.times[change.id] for change in changes if change.id in subject.times]
        lab.faults({"delay": 0, "answer_lost": 0, "sql_deadlock": 0, "unavailable": 0})
    ended = max(times, default=began) if finished else time.time()
    broken = Counter[str]() if name.startswith("floor") else laws.broken(lab.client, recording, names)
    if not finished:
        broken["not done"] = len(changes) - len(times)
    return Result(name, len(times), ended - began, [at - began for at in times], cpu, memory, counted, broken)


def paced(lab: Lab, name: str, row: Row, rate: float, **settings: str) -> Result:
    """One change at a time, `rate` a second: how long does a lonely one take?"""
    recording, names = row.recording(name), Names(f"{name}/{row}/{time.time()}")
    lab.plant(recording, names)
    changes = names.changes(recording)
    settings.setdefault("AzureWebJobs.DataverseEvent.Disabled", "true")
    with lab.running(name, row.sessions, **settings) as subject:
        time.sleep(_SETTLES)
        _conditions(lab, row)
        first, changes = changes[:_WARM_UP], changes[_WARM_UP:]
        lab.send(first)
        subject.until_done(first, WITHIN)
        lab.reset_counters()
        cpu, began = subject.cpu(), time.time()
        sent = {}
        for number, change in enumerate(changes):
            time.sleep(max(0.0, began + number / rate - time.time()))
            sent[change.id] = time.time()
            lab.send([change])
        subject.until_done(changes, WITHIN)
        cpu, counted, memory = subject.cpu() - cpu, lab.counted(), subject.memory()
        latencies = [subject.times[key] - at for key, at in sent.items() if key in subject.times]
        lab.delay(0)
    return Result(name, len(latencies), time.time() - began, latencies, cpu, memory, counted)


def _conditions(lab: Lab, row: Row) -> None:
    lab.delay(row.delay)
    if row.rough:
        lab.faults({"seed": 7, "answer_lost": 0.02, "sql_deadlock": 0.01, "unavailable": 0.01})
