"""Laws that must hold for everybody after a run, read from the local Dataverse's file, and the product's own audit.

The first are counted by SQL alone, so that they do not rest on the code under test.
"""

import atexit
import multiprocessing
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from benchmarks.mass_expiry.clerks import Served
from benchmarks.mass_expiry.population import PROGRAM, client_of
from connector.audit import Audit, Part, Report
from connector.dataverse import DataverseClient
from connector.loyalty.ledger import Kind
from connector.rows.choices import KIND
from connector.rows.programs import read_program
from local.dataverse.environment import Environment

_SUMS = """
SELECT count(*) FROM loy_membership m
LEFT JOIN (SELECT loy_membershipid id, count(*) n, max(loy_sequence) last, sum(loy_points) points FROM loy_entry GROUP BY 1) e
ON e.id = m.loy_membershipid
WHERE m.loy_sequence IS NOT e.n OR e.n IS NOT e.last OR m.loy_balance + m.loy_pending IS NOT e.points
"""
_COPIES = """
SELECT count(*) FROM loy_membership m JOIN {table} c ON c.{table}id = m.loy_customerid
WHERE m."loy_customerid:type" = '{table}'
AND (c.loy_pointsbalance IS NOT m.loy_balance OR c.loy_pointspending IS NOT m.loy_pending)
"""
# Entries of runs that announce, of kinds that the programme announces.
_ANNOUNCED = """
FROM loy_entry e JOIN loy_bulkrun r ON r.loy_bulkrunid = e.loy_bulkrunid WHERE r.loy_notices AND e.loy_kind IN ({kinds})
"""
_SENT = "SELECT message_id FROM bus.message WHERE message_id IS NOT NULL"

_PARTS = 32  # of the audit: more than processes, so that none is idle for long, and the way done can be told


@dataclass(frozen=True, slots=True)
class Books:
    """Sums over everybody. `expired` points by `expiries` of `expired_customers`; the bare floor's are told apart."""

    balance: int
    entries: int
    redemptions: int
    redeemed: int
    expiries: int
    expired_customers: int
    expired: int
    floor: int


def books(file: Path, now: datetime) -> Books:
    """The floor's entries are those of days to come."""
    with _reading(file) as db:
        (balance,) = db.execute("SELECT sum(loy_balance + loy_pending) FROM loy_membership").fetchone()
        (entries,) = db.execute("SELECT count(*) FROM loy_entry").fetchone()
        of_kind = "FROM loy_entry WHERE loy_kind = ?"
        redemptions, redeemed = db.execute(
            f"SELECT count(*), -total(loy_points) {of_kind}", (KIND[Kind.REDEEM],)
        ).fetchone()
        until = (KIND[Kind.EXPIRE], now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        expiries, customers, expired = db.execute(
            f"SELECT count(*), count(DISTINCT loy_membershipid), -total(loy_points) {of_kind} AND loy_occurredon <= ?",
            until,
        ).fetchone()
        (floor,) = db.execute(f"SELECT -total(loy_points) {of_kind} AND loy_occurredon > ?", until).fetchone()
    return Books(balance, entries, redemptions, int(redeemed), expiries, customers, int(expired), int(floor))


def broken(file: Path, before: Books, after: Books, due: int, as_of: date, served: Sequence[Served]) -> Iterator[str]:
    """Sentences about laws that do not hold."""
    receipts = [one for one in served if one.outcome == "completed"]
    lost = sum(1 for one in served if one.outcome == "no answer")
    new, spent = after.redemptions - before.redemptions, after.redeemed - before.redeemed
    if not lost and (new, spent) != (len(receipts), sum(one.points for one in receipts)):
        yield f"{len(receipts)} codes were given out, and {new} redemptions of {spent} points are in the ledger"
    if new < len(receipts):
        yield f"{len(receipts) - new} codes have no entry"
    if (after.expiries, after.expired_customers) != (due, due):
        yield f"{due} were due; {after.expiries} expiries were written for {after.expired_customers} customers"
    gone = spent + after.expired + after.floor
    if before.balance - gone != after.balance:
        yield f"{before.balance} points before, {gone} taken, {after.balance} left"
    with _reading(file) as db:
        counts = {
            "are due still": db.execute(
                "SELECT count(*) FROM loy_membership WHERE loy_nextexpiryon < ?", (as_of.isoformat(),)
            ),
            "differ from the sum of their entries": db.execute(_SUMS),
            "are accounts with another balance": db.execute(_COPIES.format(table="account")),
            "are contacts with another balance": db.execute(_COPIES.format(table="contact")),
        }
        for what, rows in counts.items():
            (count,) = rows.fetchone()
            if count:
                yield f"{count} memberships {what}"


def unannounced(file: Path, queues: Path) -> Iterator[str]:
    """Sentences about notices of runs that were counted wrongly or never sent. `queues` is the file of the local Service Bus, at
    rest, where nobody takes notices from their queue."""
    with _reading(file) as db:
        db.execute("ATTACH ? AS bus", (f"file:{queues}?mode=ro",))
        (names,) = db.execute("SELECT loy_noticekinds FROM loy_program WHERE loy_code = ?", (PROGRAM,)).fetchone()
        kinds = ", ".join(str(KIND[Kind(name.strip())]) for name in names.split(","))
        announced = _ANNOUNCED.format(kinds=kinds)
        (entries,) = db.execute(f"SELECT count(*) {announced}").fetchone()
        (confirmed,) = db.execute("SELECT total(loy_noticesconfirmed) FROM loy_bulkrun WHERE loy_notices").fetchone()
        (unsent,) = db.execute(f"SELECT count(*) {announced} AND e.loy_entryid NOT IN ({_SENT})").fetchone()
    if confirmed != entries:
        yield f"{entries} entries were announced, and {confirmed:.0f} notices counted as confirmed"
    if unsent:
        yield f"{unsent} entries were announced, and no queue has their notice"


def audited(file: Path, say: Callable[[str], None], processes: int = 2) -> Report:
    """The product's audit over everybody, in processes that share them. Says every minute how far it is."""
    report, told = Report(), time.monotonic()
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawning, initializer=_open, initargs=(file,)) as pool:
        parts = [pool.submit(_audited, Part(number, _PARTS)) for number in range(1, _PARTS + 1)]
        for part in as_completed(parts):
            report.add(part.result())
            if time.monotonic() > told + 60:
                told = time.monotonic()
                say(f"  audit: {report.counts['customers']:,} customers, {report.broken} broken laws")
    return report


_clients: list[DataverseClient] = []  # of this process


def _open(file: Path) -> None:
    env = Environment(file)
    atexit.register(env.close)
    _clients[:] = [client_of(env)]


def _audited(part: Part) -> Report:
    return Audit(_clients[0], read_program(_clients[0], PROGRAM), datetime.now(UTC), part=part).run()


def _reading(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)
    connection.execute("PRAGMA mmap_size=17179869184")
    return connection
