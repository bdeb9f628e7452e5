"""One run from start to end: idle clerks, the bare floor, the job under fire, and what it cost."""

import json
import queue
import random
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from benchmarks.mass_expiry import floor
from benchmarks.mass_expiry.clerks import Orders, Served
from benchmarks.mass_expiry.population import MASS_USERS, PROGRAM, Plan
from benchmarks.mass_expiry.processes import Local, Peak, spawned
from connector.app import App
from connector.mass import Order, Totals, read, start
from connector.rows.choices import BulkKind, BulkStatus
from connector.settings import read_settings
from local.dataverse.limits import SECONDS
from local.demo.watch import Watch
from local.entra.directory import Directory

WINDOW, EXECUTION = 300.0, 1200.0  # published: seconds, and seconds of execution granted in them
_CALLS = 20  # bulk calls of a thousand updates that a scaled window grants
# Timers that would do a part of the work, or other work, beside what is measured.
_TIMERS = ("StartReviews", "SendNotices", "SweepChanges", "RunMassJobs")
_QUIET = {f"AzureWebJobs__{name}__Disabled": "true" for name in _TIMERS}


@dataclass(frozen=True, slots=True)
class Settings:
    """`each` redemptions a second of each clerk; `idle` seconds without a run; `floor` customers; `lease` in seconds."""

    workers: int
    lanes: int
    page: int
    clerks: int
    each: float
    kills: int
    idle: float
    floor: int
    limits: bool
    notices: bool
    lease: float
    seed: int


@dataclass(slots=True)
class Result:
    """Seconds, customers a second, bytes; `floor_processor` seconds of processor time of a customer; `limits` is the
    share of the granted execution time that was used."""

    seconds: float = 0.0
    totals: Totals = field(default_factory=Totals)
    floors: list[float] = field(default_factory=list)
    floor_processor: list[float] = field(default_factory=list)
    requests: int = 0
    refused: int = 0
    execution: float = 0.0
    limits: float = 0.0
    servers: int = 0
    kills: int = 0
    memory: int = 0
    cores: dict[str, float] = field(default_factory=dict)
    served: dict[str, list[Served]] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.totals.done / self.seconds


class Run:
    """A run on a stack's home, which it changes for good."""

    def __init__(self, home: Path, plan: Plan, settings: Settings, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._settings = settings
        self._say = say
        self._home = home
        self._file = home / "dataverse" / "dataverse.db"
        self._users = [Directory(home).named(name) for name in MASS_USERS[: settings.workers]]
        self._window = WINDOW
        self.result = Result()

    def execute(self) -> Result:
        """Starts the stack, measures, waits until nothing is on its way, and ends it."""
        settings, result = self._settings, self.result
        with Local(self._home, "--program", PROGRAM, more=_QUIET) as local:
            self._local = local
            app = App(read_settings(local.endpoints["settings"]))
            try:
                with self._clerks() as clerks:
                    clerks.warm()
                    self._say(f"clerks alone for {settings.idle:.0f} s ...")
                    begun = time.monotonic()
                    time.sleep(settings.idle)
                    result.served["idle"] = clerks.since(begun)
                    first, second = self._prepared(app)
                    self._floor(first)
                    if settings.limits:
                        self._limit(result.floors[0])
                    begun = time.monotonic()
                    self._job(app)
                    result.served["during"] = clerks.since(begun)
                    if settings.limits:
                        self._admin("limits", {"enforced": False})
                    self._floor(second)
                result.served["all"] = clerks.since(0)
                Watch(local.endpoints).settle("", 600)
                result.totals = read(app.client, self._run).totals
            finally:
                app.close()
        return result

    # --- the floor ---

    def _prepared(self, app: App) -> tuple[list[floor.Batch], list[floor.Batch]]:
        """For customers whom neither clerks nor the run will visit."""
        batches = floor.prepared(app.client, app.programs.current(), datetime.now(UTC), self._settings.floor)
        half = len(batches) // 2
        return batches[:half], batches[half:]

    def _floor(self, batches: list[floor.Batch]) -> None:
        if batches:
            settings = [self._as(user) for user in range(self._settings.workers)]
            pid, peak = self._local.pids()["dataverse"], Peak()
            peak.look(pid)
            before = peak.time[pid]
            found = floor.measured(settings, batches, self._settings.lanes)
            peak.look(pid)
            customers = sum(len(batch.members) for batch in batches)
            self._say(f"bare floor: {found.rate:,.0f} customers/s")
            self.result.floors.append(found.rate)
            self.result.floor_processor.append(found.writer + (peak.time[pid] - before) / customers)

    # --- the job ---

    def _job(self, app: App) -> None:
        settings, result = self._settings, self.result
        order = Order(BulkKind.EXPIRY, self._plan.as_of, name="Benchmark", notices=settings.notices)
        users = self._user_ids()
        parts = self._local.pids()
        peak = Peak()
        peak.look(*parts.values())
        before, counted = dict(peak.time), self._counted(users)
        chance = random.Random(f"{settings.seed}/kills")
        begun = time.monotonic()
        self._run = start(app.client, order, app.now)
        users_settings = [self._as(number) for number in range(settings.workers)]
        crew = _Crew(self._run, users_settings, settings, self._window)
        told = begun
        first: tuple[float, dict[str, float]] | None = None
        for totals in crew.heard():
            first = first or (time.monotonic(), self._counted(users))
            peak.look(*parts.values(), *crew.pids)
            finished = totals.visited / max(1, totals.selected)
            if result.kills < settings.kills and finished > (result.kills + 1) / (settings.kills + 1):
                self._say(f"at {finished:.0%}: worker {crew.kill(chance.randrange(settings.workers))} is killed")
                result.kills += 1
            if time.monotonic() - told > 10:
                told = time.monotonic()
                self._say(_line(totals, told - begun))
        result.seconds = time.monotonic() - begun
        progress = read(app.client, self._run)
        result.totals = progress.totals
        names = {pid: name for name, pid in parts.items()} | dict.fromkeys(crew.pids, "workers")
        if progress.status is not BulkStatus.DONE:
            raise RuntimeError(f"the run ended as {progress.status.name.lower()}")
        after = self._counted(users)
        result.requests, result.refused = (int(after[key] - counted[key]) for key in ("requests", "refused"))
        result.execution = after["seconds"] - counted["seconds"]
        if first and result.servers:
            # Who begins with an untouched window may spend one more than the time grants.
            granted = EXECUTION / WINDOW * result.servers * len(users)
            allowed = granted * (begun + result.seconds - first[0] + self._window)
            result.limits = (after["seconds"] - first[1]["seconds"]) / allowed
        result.memory = max(peak.memory.get(pid, 0) for pid in crew.pids)
        for pid, used in peak.time.items():
            share = (used - before.get(pid, 0.0)) / result.seconds
            result.cores[names[pid]] = result.cores.get(names[pid], 0.0) + share

    # --- limits and counters of the local Dataverse ---

    def _limit(self, floor_rate: float) -> None:
        """Limits at about a quarter of what this machine does, so that they and not the machine decide.

        They are scaled as far as bulk calls still fit into the window: a run of a minute then sees several windows.
        """
        seconds = SECONDS["create-multiple"] + 2 * SECONDS["update-multiple"]
        granted = EXECUTION / WINDOW * self._settings.workers
        servers = max(1, int(floor_rate * seconds / 4 / granted))
        scale = max(1.0, EXECUTION * servers / (_CALLS * 1000 * SECONDS["update-multiple"]))
        self.result.servers, self._window = servers, WINDOW / scale
        self._admin("limits", {"enforced": True, "scale": scale, "servers": servers})
        self._say(f"limits on: {servers} web servers, window of {self._window:.0f} s")

    def _admin(self, what: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        url = f"{self._local.endpoints['dataverse_admin_url']}/{what}"
        verify = self._local.endpoints["ca_file"]
        answer = requests.post(url, json=body, verify=verify) if body else requests.get(url, verify=verify)
        answer.raise_for_status()
        return dict(answer.json())

    def _user_ids(self) -> list[str]:
        with sqlite3.connect(f"file:{self._file}?mode=ro", uri=True) as db:
            find = "SELECT systemuserid FROM systemuser WHERE applicationid = ?"
            return [db.execute(find, (user.client_id,)).fetchone()[0] for user in self._users]

    def _counted(self, users: list[str]) -> dict[str, float]:
        found = self._admin("counters")["users"]
        return {
            key: sum(found.get(user, {}).get(key, 0) for user in users) for key in ("requests", "refused", "seconds")
        }

    def _as(self, number: int) -> dict[str, str]:
        """The connector's settings with another application user."""
        user = self._users[number]
        return dict(self._local.endpoints["settings"]) | {
            "DATAVERSE_CLIENT_ID": user.client_id,
            "DATAVERSE_CLIENT_SECRET": user.secret,
        }

    # --- clerks ---

    @contextmanager
    def _clerks(self) -> Iterator["_Clerks"]:
        with sqlite3.connect(f"file:{self._file}?mode=ro", uri=True) as db:
            rows = db.execute(
                "SELECT loy_customerkey FROM loy_membership WHERE loy_nextexpiryon < ? LIMIT 20000",
                (self._plan.as_of.isoformat(),),
            ).fetchall()
        orders = Orders(
            url=self._local.endpoints["functions_url"],
            function_key=self._local.endpoints["function_key"],
            customers=random.Random(self._settings.seed).sample([row[0] for row in rows], min(2000, len(rows))),
            file=str(self._file),
            as_of=self._plan.as_of.isoformat(),
            clerks=self._settings.clerks,
            each=self._settings.each,
            seed=self._settings.seed,
        )
        clerks = _Clerks(orders)
        try:
            yield clerks
        finally:
            clerks.finish()


class _Clerks:
    """The process of the clerks, and whom they have served."""

    def __init__(self, orders: Orders) -> None:
        pipe = subprocess.PIPE
        self._process = spawned(["benchmarks.mass_expiry.clerks"], {}, stdin=pipe, stdout=pipe)
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asdict(orders)) + "\n")
        self._process.stdin.flush()
        self._served: list[Served] = []
        self._count = orders.clerks
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._served.append(Served(**json.loads(line)))

    def since(self, moment: float) -> list[Served]:
        return [one for one in list(self._served) if one.at >= moment]

    def warm(self) -> None:
        """Wait until each clerk has been served: whoever is first finds everything cold."""
        until = time.monotonic() + 120
        while len(self._served) < self._count:
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("nobody is served")
            time.sleep(0.05)

    def finish(self) -> None:
        """Those being served are served to the end."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(180)
        self._reader.join(10)


class _Crew:
    """The worker processes; whoever is killed is replaced at once. `pids` are those of all that ever were."""

    def __init__(self, run: str, users: list[dict[str, str]], how: Settings, window: float) -> None:
        options = {"lanes": how.lanes, "page": how.page, "lease": how.lease, "window": window}
        self._words = ["benchmarks.mass_expiry.worker", run]
        self._words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._users = users
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # None: a worker's output has ended
        self.pids: list[int] = []
        self._workers = [self._spawn(user) for user in users]

    def heard(self) -> Iterator[Totals]:
        """The state of the run after each page, until every worker has ended. RuntimeError when one failed."""
        ended = 0
        while ended < len(self.pids):
            line = self._lines.get()
            if line:
                yield Totals(**json.loads(line))
                continue
            ended += 1
            if any(worker.poll() for worker in self._workers):
                raise RuntimeError("a worker failed")

    def kill(self, number: int) -> int:
        """Kill a worker and start another in its place; the pid of the dead one."""
        dead = self._workers[number]
        dead.kill()
        dead.wait()
        self._workers[number] = self._spawn(self._users[number])
        return dead.pid

    def _spawn(self, user: dict[str, str]) -> subprocess.Popen[str]:
        worker = spawned(self._words, user, stdout=subprocess.PIPE)
        self.pids.append(worker.pid)
        threading.Thread(target=self._read, args=(worker,), daemon=True).start()
        return worker

    def _read(self, worker: subprocess.Popen[str]) -> None:
        assert worker.stdout
        for line in worker.stdout:
            if line.endswith("}\n"):  # a killed worker's last one may be cut off
                self._lines.put(line)
        worker.wait()
        self._lines.put(None)


def _line(totals: Totals, seconds: float) -> str:
    rate = totals.visited / seconds
    left = (totals.selected - totals.visited) / rate if rate else 0.0
    return (
        f"{totals.visited:,} of {totals.selected:,}, {rate:,.0f}/s, {left:,.0f} s left, {totals.conflicts} conflicts, "
        f"{totals.second_round} in the second round, {totals.failed} failed"
    )
