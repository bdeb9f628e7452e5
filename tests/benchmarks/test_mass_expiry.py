"""The benchmark of a mass run, in small: it runs, and its laws notice what is wrong."""

import json
import sqlite3
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks.mass_expiry import laws
from benchmarks.mass_expiry.__main__ import main
from benchmarks.mass_expiry.clerks import Served
from benchmarks.mass_expiry.report import modelled_hours, percentile
from connector.loyalty.ledger import Kind
from connector.rows.choices import KIND
from local.servicebus.sqlite_store import SqliteStore

pytestmark = pytest.mark.timeout(300)  # processes start several times


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the population is, and the figures of a run on a copy of it."""
    folder = tmp_path_factory.mktemp("mass")
    arguments = "--customers 800 --page 25 --kills 1 --clerks 3 --each 3 --idle 0.5 --lease 1 --floor 0 --notices"
    status = main([*arguments.split(), "--keep", str(folder), "--json", str(folder / "figures.json")])
    assert status == 0
    return folder


def test_a_run_with_a_killed_worker_and_clerks_keeps_every_law(kept: Path) -> None:
    found = json.loads((kept / "figures.json").read_text())
    totals = found["totals"]
    assert found["broken laws"] == []
    assert found["kills"] == 1
    assert totals["done"] + totals["second_round"] == found["due"] > 600
    assert totals["failed"] == 0
    assert totals["notices"] >= totals["done"]
    assert found["answers"]["completed"] > 0
    assert found["latency"]["during"]["redemptions"] > 0
    assert found["modelled hours"]["16"] < found["modelled hours"]["1"]


def test_the_laws_notice(kept: Path, tmp_path: Path) -> None:
    (home,) = kept.glob("population-*")
    manifest = json.loads((home / "population.json").read_text())
    due, as_of, now = manifest["due"], date.fromisoformat(manifest["plan"]["as_of"]), datetime.now(UTC)
    file = tmp_path / "dataverse.db"
    with sqlite3.connect(home / "dataverse" / "dataverse.db") as source, sqlite3.connect(file) as target:
        source.backup(target)
    before = laws.books(file, now)
    with sqlite3.connect(file) as db:
        db.execute("UPDATE loy_membership SET loy_balance = loy_balance + 1 WHERE rowid = 1")
    receipt = Served(0.0, 0.1, "completed", "anywhere", "account:x", 5)
    told = list(laws.broken(file, before, laws.books(file, now), due, as_of, [receipt]))
    table = told[-1].split()[3]
    assert table in ("accounts", "contacts")
    assert told == [
        "1 codes were given out, and 0 redemptions of 0 points are in the ledger",
        "1 codes have no entry",
        f"{due} were due; 0 expiries were written for 0 customers",
        f"{before.balance} points before, 0 taken, {before.balance + 1} left",
        f"{due} memberships are due still",
        "1 memberships differ from the sum of their entries",
        f"1 memberships are {table} with another balance",
    ]


def test_a_notice_that_was_not_sent_or_not_counted_is_noticed(kept: Path, tmp_path: Path) -> None:
    (home,) = kept.glob("population-*")
    file, queues, run_id = tmp_path / "dataverse.db", tmp_path / "servicebus.sqlite", str(uuid4())
    with sqlite3.connect(home / "dataverse" / "dataverse.db") as source, sqlite3.connect(file) as target:
        source.backup(target)
    SqliteStore(queues).close()
    with sqlite3.connect(file) as db:
        db.execute(
            "INSERT INTO loy_bulkrun (loy_bulkrunid, loy_notices, loy_noticesconfirmed) VALUES (?, 1, 2)", (run_id,)
        )
        changed = (run_id, KIND[Kind.EXPIRE])
        db.execute("UPDATE loy_entry SET loy_bulkrunid = ?, loy_kind = ? WHERE rowid <= 3", changed)
        ids = [row[0] for row in db.execute("SELECT loy_entryid FROM loy_entry WHERE rowid <= 3")]
    with sqlite3.connect(queues) as bus:
        row = "INSERT INTO message VALUES (?, 0, 0, 0, ?, NULL, NULL, NULL, NULL, 0, x'')"
        bus.executemany(row, list(enumerate(ids[1:])))
    assert list(laws.unannounced(file, queues)) == [
        "3 entries were announced, and 2 notices counted as confirmed",
        "1 entries were announced, and no queue has their notice",
    ]


def test_modelled_hours_follow_the_scarcer_limit() -> None:
    assert modelled_hours(requests=72_000, execution=0, users=1) == pytest.approx(1.0)
    assert modelled_hours(requests=0, execution=14_400 * 16, users=16) == pytest.approx(1.0)


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([], 0.99) == 0.0
