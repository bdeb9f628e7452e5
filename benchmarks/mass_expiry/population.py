"""A local stack's home with many customers in it, made once and copied for each run."""

import json
import multiprocessing
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from itertools import batched
from operator import itemgetter
from pathlib import Path
from typing import Any

from benchmarks.mass_expiry.people import People, Person
from benchmarks.mass_expiry.processes import Local
from connector.dataverse import DataverseClient
from connector.loyalty.program import Program
from connector.rows.programs import read_program
from local.dataverse import records
from local.dataverse.adapter import DataverseAdapter
from local.dataverse.app import Application
from local.dataverse.auth import anyone
from local.dataverse.environment import Environment
from local.dataverse.provisioning import ensure_user
from local.dataverse.security import Caller
from local.entra.directory import Directory

PROGRAM = "MAIN"
MASS_USERS = ("Mass jobs 1", "Mass jobs 2", "Mass jobs 3", "Mass jobs 4")
"""Application users of their own: what a run costs is counted for them."""
FORMAT = 3
"""Of the customers; those of another one are made anew."""
_URL = "https://population.local"
_AT_ONCE = 250  # customers that one process makes at a time
_IN_ONE = 4000  # customers written in one transaction
_ORDER = ("account", "contact", "invoice", "loy_redemption", "loy_membership", "loy_entry")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a population is made from. `as_of` is the day of the run: what expired before it is due."""

    customers: int
    share_due: float
    seed: int
    as_of: date

    @property
    def name(self) -> str:
        return f"population-{self.customers}-{self.share_due}-{self.seed}-{self.as_of}-{FORMAT}"


@dataclass(frozen=True, slots=True)
class Population:
    """`home` is a stack's home folder, at rest."""

    plan: Plan
    home: Path
    due: int
    entries: int
    seconds: float


class _Tokens:
    def token(self) -> str:
        return "token"

    def renew(self, rejected: str) -> str:
        return "token"


def population(plan: Plan, folder: Path, say: Callable[[str], None], processes: int = 2) -> Population:
    """The population of a plan from `folder`, made if it is not there."""
    home = folder / plan.name
    manifest = home / "population.json"
    if not manifest.exists():
        shutil.rmtree(home, ignore_errors=True)
        say(f"making {plan.customers:,} customers in {home} ...")
        with Local(home, "--no-functions", "--program", PROGRAM):
            pass  # tables and programme
        begun = time.monotonic()
        due, entries = _fill(home, plan, say, processes)
        figures = {"due": due, "entries": entries, "seconds": time.monotonic() - begun}
        manifest.write_text(json.dumps(figures | {"plan": asdict(plan) | {"as_of": plan.as_of.isoformat()}}))
    found = json.loads(manifest.read_text())
    return Population(plan, home, found["due"], found["entries"], found["seconds"])


def copied(source: Path, target: Path) -> None:
    """A copy of a home, sharing blocks where the file system can."""
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


def client_of(env: Environment) -> DataverseClient:
    """A client that calls an environment of this process as its administrator, without a socket."""
    user = env.storage.reader.execute(
        "SELECT applicationid FROM systemuser WHERE applicationid IS NOT NULL ORDER BY createdon LIMIT 1"
    ).fetchone()
    application = Application(env, anyone(user[0]), url=_URL)
    return DataverseClient(_URL, _Tokens(), adapter=DataverseAdapter(application), requests_per_second=1e6)


def _fill(home: Path, plan: Plan, say: Callable[[str], None], processes: int) -> tuple[int, int]:
    """Customers straight into the storage, by the code that any write goes through, without events. (due, entries)."""
    env = Environment(home / "dataverse" / "dataverse.db", cache_mb=1024)
    try:
        directory = Directory(home)
        for name in MASS_USERS:
            ensure_user(env, f"# {name}", application=directory.named(name).client_id)
        client = client_of(env)
        program = read_program(client, PROGRAM)
        user = env.storage.reader.execute("SELECT systemuserid FROM systemuser WHERE applicationid IS NOT NULL LIMIT 1")
        caller = env.caller(user.fetchone()[0])
        due = entries = done = 0
        begun = time.monotonic()
        with _indexed_at_the_end(env):
            for some in batched(_people(plan, program, processes), _IN_ONE, strict=False):
                _write(env, caller, some)
                due += sum(person.due for person in some)
                entries += sum(len(person.entries) for person in some)
                done += len(some)
                if done % 100_000 == 0:
                    say(f"  {done:,} customers, {done / (time.monotonic() - begun):,.0f}/s")
        env.storage.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return due, entries
    finally:
        env.close()


@contextmanager
def _indexed_at_the_end(env: Environment) -> Iterator[None]:
    """Without indexes a row touches one page of the file instead of eight; sorting them afterwards is minutes for millions."""
    tables = ", ".join(f"'{name}'" for name in _ORDER)
    find = f"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ({tables})"
    with env.storage.writing() as connection:
        indexes = connection.execute(find).fetchall()
        for name, _ in indexes:
            connection.execute(f'DROP INDEX "{name}"')
    yield
    for _, statement in indexes:
        with env.storage.writing() as connection:
            connection.execute(statement)


def _people(plan: Plan, program: Program, processes: int) -> Iterator[Person]:
    """Made ahead by other processes, never more than a few thousand of them."""
    starts = range(0, plan.customers, _AT_ONCE)
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawning, initializer=_prepare, initargs=(plan, program)) as pool:
        waiting: deque[Future[list[Person]]] = deque()
        for start in starts:
            waiting.append(pool.submit(_make, start, min(start + _AT_ONCE, plan.customers)))
            if len(waiting) > 8 * processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


_makers: list[People] = []  # of this process


def _prepare(plan: Plan, program: Program) -> None:
    _makers[:] = [People(program, plan.as_of, plan.seed, plan.share_due)]


def _make(start: int, stop: int) -> list[Person]:
    return [_makers[0].person(number) for number in range(start, stop)]


def _write(env: Environment, caller: Caller, people: Sequence[Person]) -> None:
    """Rows of each table in the order of their ids: neighbours in the file are written together."""
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in _ORDER}
    for person in people:
        for name, row in person.rows:
            tables[name].append(row)
    with env.unit(caller, bypass_steps=True) as unit:
        for name, rows in tables.items():
            table = env.schema.tables[name]
            for row in sorted(rows, key=itemgetter(table.primary_id)):
                records.create(unit, table, row)
        invoices = env.schema.tables["invoice"]
        for person in people:
            for invoice_id in person.paid:
                records.update(unit, invoices, invoice_id, {"statecode": 2, "statuscode": 100001})
