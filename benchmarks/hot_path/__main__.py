"""The path of a change, beside what one would otherwise write: `python -m benchmarks.hot_path [--quick]`.

docs/hot-path.md says how to read the tables.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.hot_path import quick
from benchmarks.hot_path.clerks import WAYS, Counter
from benchmarks.hot_path.lab import IMPLEMENTATIONS, Lab, lab
from benchmarks.hot_path.runs import Result, Row, backlog, paced

_ROWS = (  # those that say most come first: an interrupted run is still worth something
    Row(0.06, 64, 100, 10, 1000, 200),
    Row(0.06, 64, 10_000, 10, 1000, 200),
    Row(0.06, 64, 1, 10, 30, 15),
    Row(0.06, 64, 1, 10_000, 30, 15),
    Row(0.06, 8, 100, 10, 150, 60),
    Row(0.06, 1, 100, 10, 15, 10),
    Row(0.0, 64, 100, 10, 1000, 200),
    Row(0.0, 8, 100, 10, 150, 60),
    Row(0.0, 1, 100, 10, 15, 10),
    Row(0.0, 8, 100, 10, 100, 100, rough=True),
)
_LONELY = (Row(0.06, 8, 10_000, 10, 105, 45), Row(0.0, 8, 10_000, 10, 105, 45))
_LONELY_RATE = 5.0  # changes a second
_CLERKS = ((1, 40), (20, 8), (100, 4))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only counts, compared with the committed baseline")
    parser.add_argument("--accept", action="store_true", help="with --quick: the counts are the new baseline")
    parser.add_argument("--only", default="", help="implementations, separated by commas (default: all installed)")
    parser.add_argument("--part", choices=("backlog", "lonely", "clerks"), help="one of the tables")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write each measurement there, one JSON object a line"
    )
    options = parser.parse_args()
    names = options.only.split(",") if options.only else _installed()
    if unknown := set(names) - set(IMPLEMENTATIONS):
        parser.error(f"--only: {', '.join(sorted(unknown))} is not among {', '.join(IMPLEMENTATIONS)}")
    with lab() as found:
        if options.quick:
            return _quick(found, options.accept)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        notes = Notes(options.json)
        if options.part in (None, "backlog"):
            _backlogs(found, names, notes)
        if options.part in (None, "lonely"):
            _lonely(found, names, notes)
        if options.part in (None, "clerks"):
            _clerks(found, notes)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    return 0


class Notes:
    """A file with one measurement a line, in full; without a file, nothing."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        if file:
            file.write_text("")

    def add(self, table: str, **measured: Any) -> None:
        if self._file:
            found = {"table": table, "at": round(time.time()), "load": os.getloadavg()[0]} | measured
            line = json.dumps(
                found, default=lambda value: {field.name: getattr(value, field.name) for field in fields(value)}
            )
            with self._file.open("a") as lines:
                lines.write(line + "\n")


def _installed() -> list[str]:
    names = list(IMPLEMENTATIONS)
    if importlib.util.find_spec("PowerPlatform") is None:
        print("hot_path: without naive_sdk: pip install -r requirements-bench.txt", file=sys.stderr)
        names.remove("naive_sdk")
    return names


def _quick(found: Lab, accepted: bool) -> int:
    counts = quick.measure(found)
    before = quick.baseline()
    print(f"{'for each change':<26}{'now':>10}{'baseline':>10}")
    for name in sorted(counts):
        print(f"{name:<26}{counts[name]:>10g}{before.get(name, float('nan')):>10g}")
    if accepted:
        quick.accept(counts)
        return 0
    worse = quick.compare(counts, before)
    for sentence in worse:
        print(f"worse: {sentence}", file=sys.stderr)
    return 1 if worse else 0


def _backlogs(found: Lab, names: Sequence[str], notes: Notes) -> None:
    print(
        "\nA backlog worked off. p50, p95, p99: from the event's arrival on the queue to its durable entry, in seconds."
    )
    print("possible: changes/s within the published limits of one application user on one web server, and of ten.\n")
    head = "delay sessions customers history | implementation | changes/s | floor = 1 | floor_host = 1 | requests"
    head += " | operations | modelled s | p50 | p95 | p99 | CPU s/1,000 | MB | possible | ten | broken laws"
    _line(*head.split(" | "))
    _line(*["---"] * 16)
    for row in _ROWS:
        floor = host = 0.0
        for name in names:
            if row.rough and name.startswith("floor"):
                continue  # without logic it never gets over an answer that was lost
            result = backlog(found, name, row)
            floor = result.rate if name == "floor" else floor
            host = result.rate if name == "floor_host" else host
            _show(row, result, floor, host)
            notes.add("backlog", row=row, rate=result.rate, possible=result.possible, result=result)


def _show(row: Row, result: Result, floor: float, host: float) -> None:
    counted, changes = result.counted, max(1, result.changes)
    broken = ", ".join(f"{law} {count}" for law, count in sorted(result.broken.items())) or "none"
    _line(
        f"{row.delay * 1000:.0f} ms, {row.sessions}, {row.customers:,}, {row.history:,}{', rough' if row.rough else ''}",
        result.name,
        f"{result.rate:.1f}",
        *(f"{result.rate / other:.2f}" if other else "" for other in (floor, host)),
        f"{counted.requests / changes:.2f}",
        f"{counted.operations / changes:.2f}",
        f"{counted.seconds / changes:.3f}",
        *(f"{result.percentile(share):.2f}" for share in (0.5, 0.95, 0.99)),
        f"{result.cpu / changes * 1000:.1f}",
        f"{result.memory / 1024:.0f}",
        f"{result.possible:.1f}",
        f"{result.possible * 10:.0f}",
        "no logic" if result.name.startswith("floor") else broken,
    )


def _lonely(found: Lab, names: Sequence[str], notes: Notes) -> None:
    print(f"\nLow load: {_LONELY_RATE:.0f} changes a second, each of another customer, 8 sessions. Milliseconds.\n")
    _line("delay", "implementation", "count", "requests", "p50", "p95", "p99")
    _line(*["---"] * 7)
    for row in _LONELY:
        for name in names:
            result = paced(found, name, row, _LONELY_RATE)
            notes.add("lonely", row=row, result=result)
            _line(
                f"{row.delay * 1000:.0f} ms",
                name,
                str(result.changes),
                f"{result.counted.requests / max(1, result.changes):.2f}",
                *(f"{result.percentile(share) * 1000:.0f}" for share in (0.5, 0.95, 0.99)),
            )


def _clerks(found: Lab, notes: Notes) -> None:
    print("\nRedemptions, from the request to the code. Milliseconds.\n")
    _line("delay", "clerks", "way", "count", "p50", "p99")
    _line(*["---"] * 6)
    with found.running("ours", 64) as subject:
        counter = Counter(found, subject.ready()["functions_url"], found.key("host"))
        for delay in (0.0, 0.06):
            found.delay(delay)
            for clerks, each in _CLERKS:
                for way in WAYS:
                    waits = counter.measure(way, clerks, each)
                    notes.add("clerks", delay=delay, result=waits)
                    took = (f"{waits.percentile(share) * 1000:.0f}" for share in (0.5, 0.99))
                    _line(f"{delay * 1000:.0f} ms", str(clerks), way, str(len(waits.seconds)), *took)
        found.delay(0)


def _line(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
