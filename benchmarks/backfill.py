"""The programme switched on for a year of invoices that exist already: `python -m benchmarks.backfill [--weeks N]`.

Loads the Complete Journey year into a local Dataverse as the company had it before there was a programme: customers and paid
invoices with their dates, no memberships. Then calls the product's commands: rehearsal, backfill with the totals of both sides,
audit, undo. Exit status 1 when the sides differ, a law is broken, or anything is left after the undo.
"""

import argparse
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.mass_expiry.people import plain
from benchmarks.mass_expiry.processes import Local, Peak, spawned
from connector.dataverse import Create, Update
from local.dataverse import records
from local.dataverse.environment import Environment
from local.dataverse.security import Caller
from local.demo.journey import Basket, Slice, read_slice
from local.demo.shop import Shop

_PROGRAM = "CJ"
_WRITTEN = ("loy_entry", "loy_membership")


@dataclass(frozen=True, slots=True)
class Step:
    """A command: what it printed, seconds, peak memory in bytes."""

    name: str
    status: int
    seconds: float
    memory: int
    output: str


class Directly:
    """Takes a shop's writes straight into the storage, by the code that any write goes through, without events."""

    def __init__(self, env: Environment, caller: Caller) -> None:
        self._env = env
        self._caller = caller

    def commit(self, writes: Sequence[Create | Update]) -> None:
        schema = self._env.schema
        with self._env.unit(self._caller, bypass_steps=True) as unit:
            for write in writes:
                table = schema.sets[write.path.partition("(")[0]]
                if isinstance(write, Create):
                    records.create(unit, table, _nested(write.row))
                else:
                    records.update(unit, table, write.path.partition("(")[2].rstrip(")"), plain(write.row))


def _nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as its JSON would be read, with the rows inside it."""
    return {
        name: [_nested(item) for item in value] if isinstance(value, list) else value
        for name, value in plain(row).items()
    }


def load(file: Path, sample: Slice) -> None:
    """Each day's invoices are issued and paid on that day."""
    day = [sample.baskets[0].bought_on]
    env = Environment(file, clock=lambda: day[0], cache_mb=512)
    user = env.storage.reader.execute("SELECT systemuserid FROM systemuser WHERE applicationid IS NOT NULL LIMIT 1")
    shop = Shop(Directly(env, env.caller(user.fetchone()[0])))  # type: ignore[arg-type]
    first: dict[int, Basket] = {}
    for basket in sample.baskets:
        first.setdefault(basket.household, basket)
    shop.open_accounts(sample.households, first)
    for date, some in groupby(sample.baskets, key=lambda basket: basket.bought_on.date()):
        day[0] = datetime(date.year, date.month, date.day, 23, tzinfo=UTC)
        baskets = list(some)
        shop.issue(baskets)
        shop.pay(baskets)
    env.close()


def run(home: Path, lanes: int, say: Callable[[str], None]) -> Iterator[Step]:
    """The commands of somebody who switches the programme on, and thinks better of it."""
    with Local(home, "--program", _PROGRAM, "--no-functions") as local:
        settings = local.endpoints["settings"]

        def command(name: str, *words: str) -> Step:
            say(f"{name} ...")
            return _command(name, words, settings)

        yield command("rehearsal", "backfill", "history", "--rehearse")
        done = command("backfill", "backfill", "history", "--lanes", str(lanes))
        yield done
        found = re.search(r"run ([0-9a-f-]{36})", done.output)
        if not found:
            return
        yield command("audit", "audit")
        yield command("undo", "backfill", "undo", found[1])


def _command(name: str, words: Sequence[str], settings: Mapping[str, str]) -> Step:
    begun, peak = time.monotonic(), Peak()
    process = spawned(["connector", *words], settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    watch = threading.Thread(target=_watch, args=(process, peak))
    watch.start()
    output, _ = process.communicate()
    took = time.monotonic() - begun
    watch.join()
    return Step(name, process.returncode, took, max(peak.memory.values(), default=0), output)


def _watch(process: subprocess.Popen[str], peak: Peak) -> None:
    while process.poll() is None:
        peak.look(process.pid)
        time.sleep(0.2)


def left(file: Path) -> dict[str, int]:
    """Rows of ours by table, and customers who still show points."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        counts = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _WRITTEN}
        for table in ("account", "contact"):
            shown = f"SELECT count(*) FROM {table} WHERE loy_pointsbalance IS NOT NULL OR loy_tiername IS NOT NULL"
            counts[f"{table}s that show points"] = db.execute(shown).fetchone()[0]
    return counts


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backfill", description=__doc__)
    parser.add_argument("--households", type=int, default=0, help="0: all")
    parser.add_argument("--weeks", type=int, default=0, help="0: the whole year")
    parser.add_argument("--lanes", type=int, default=4)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="backfill-") as name:
        home = Path(name) / "stack"
        sample = read_slice(options.households, options.weeks)
        with Local(home, "--no-functions", "--program", _PROGRAM):
            pass
        begun = time.monotonic()
        load(home / "dataverse" / "dataverse.db", sample)
        lines = sum(len(basket.lines) for basket in sample.baskets)
        print(f"{len(sample.households):,} households, {len(sample.baskets):,} invoices, {lines:,} lines", flush=True)
        _say(f"loaded in {time.monotonic() - begun:,.0f} s")
        steps = []
        for step in run(home, options.lanes, _say):
            steps.append(step)
            rate = len(sample.baskets) / step.seconds
            memory = step.memory / 2**20
            print(
                f"{step.name}: {step.seconds:,.1f} s, {rate:,.0f} invoices/s, {memory:,.0f} MiB, status {step.status}"
            )
            print("".join(f"    {line}\n" for line in step.output.splitlines()[-8:]), end="", flush=True)
        rows = left(home / "dataverse" / "dataverse.db")
        print(f"left after the undo: {', '.join(f'{count} {what}' for what, count in rows.items())}")
    if options.json:
        options.json.write_text(json.dumps({"steps": [asdict(step) for step in steps], "left": rows}, indent=1))
    return 1 if len(steps) < 4 or any(step.status for step in steps) or any(rows.values()) else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
