"""The SQLite file: one writer, a reader for each thread, tables made from metadata.

Write-ahead logging lets readers run beside the writer; a commit is in the operating system's hands when it returns, so
killing the process loses nothing.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from local.dataverse.conditions import register_functions
from local.dataverse.model import BINARIES, CHOICES, LOOKUPS, Column, Key, Table

_MAPPED = 16 * 1024**3
_READER_CACHE_MB = 8  # for each thread

_OWN_TABLES = """
CREATE TABLE IF NOT EXISTS "#metadata" (kind TEXT, name TEXT, json TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS "#settings" (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS "#deleted" (version INTEGER PRIMARY KEY, tbl TEXT, id TEXT, at TEXT);
CREATE INDEX IF NOT EXISTS "#deleted by table" ON "#deleted" (tbl, version);
CREATE TABLE IF NOT EXISTS "#outbox" (
    id INTEGER PRIMARY KEY, job TEXT, step TEXT, endpoint TEXT, created REAL, due REAL, attempts INTEGER DEFAULT 0,
    message TEXT, tbl TEXT, row TEXT, body TEXT, error TEXT);
CREATE INDEX IF NOT EXISTS "#outbox by due" ON "#outbox" (due);
CREATE TABLE IF NOT EXISTS "#file" (
    id TEXT PRIMARY KEY, tbl TEXT, row TEXT, col TEXT, name TEXT, content BLOB, committed INTEGER DEFAULT 1);
CREATE TABLE IF NOT EXISTS "#loclabel" (
    tbl TEXT, row TEXT, col TEXT, lcid INTEGER, text TEXT, PRIMARY KEY (tbl, row, col, lcid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS "#layer" (
    solution TEXT, kind TEXT, part TEXT, content TEXT, PRIMARY KEY (solution, kind, part)) WITHOUT ROWID;
"""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def type_column(name: str) -> str:
    """Where a polymorphic lookup keeps the table it points at."""
    return f"{name}:type"


def index_name(table: Table, column: Column) -> str:
    return f"{table.name}.{column.name}"


def _sql_type(column: Column) -> str:
    if column.type in ("Integer", "BigInt", "Decimal", "Money", "Boolean") or column.type in CHOICES:
        return "INTEGER"
    if column.type == "Double":
        return "REAL"
    if column.type in LOOKUPS or column.type in ("Uniqueidentifier", "DateTime") or column.type in BINARIES:
        return "TEXT"
    return "TEXT COLLATE NOCASE"  # Dataverse compares text without regard to case


class Storage:
    """Connections to one file. Only `writing()` may change anything."""

    def __init__(self, path: Path, cache_mb: int = 64) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self.writer = self._open(cache_mb)
        self.writer.executescript(_OWN_TABLES)
        # What is told about a large file that was there before: an index may hold millions of rows under one value.
        self.writer.execute("PRAGMA analysis_limit=1000")
        self.writer.execute("ANALYZE")

    def _open(self, cache_mb: int) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, cached_statements=1024, timeout=60
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA cache_size={-cache_mb * 1024}")
        connection.execute(f"PRAGMA mmap_size={_MAPPED}")  # what the cache misses is read without a copy
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("PRAGMA wal_autocheckpoint=16000")
        register_functions(connection)
        return connection

    @property
    def reader(self) -> sqlite3.Connection:
        """This thread's connection for reads outside a transaction."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open(_READER_CACHE_MB)
            connection.execute("PRAGMA query_only=ON")
            self._readers.append(connection)
        return connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, rolled back by an exception. One at a time."""
        with self._lock:
            connection = self.writer
            if connection.in_transaction:  # a transaction inside one is part of it
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self.writer.close()
        for connection in self._readers:
            connection.close()

    # --- tables from metadata; all inside a transaction ---

    def create_table(self, table: Table) -> None:
        parts = []
        for column in table.columns.values():
            parts += self._declare(column, table)
        self.writer.execute(f"CREATE TABLE {quoted(table.name)} ({', '.join(parts)})")
        for column in table.columns.values():
            self.index(table, column)
        if table.change_tracking:
            self.track_changes(table)

    def drop_table(self, table: Table) -> None:
        self.writer.execute(f"DROP TABLE {quoted(table.name)}")
        self.writer.execute('DELETE FROM "#deleted" WHERE tbl = ?', (table.name,))

    def add_column(self, table: Table, column: Column) -> None:
        for declaration in self._declare(column, table):
            self.writer.execute(f"ALTER TABLE {quoted(table.name)} ADD COLUMN {declaration}")
        self.index(table, column)

    def drop_column(self, table: Table, column: Column) -> None:
        self.writer.execute(f"DROP INDEX IF EXISTS {quoted(index_name(table, column))}")
        for declaration in self._declare(column, table):
            name = declaration.split('" ', 1)[0] + '"'
            self.writer.execute(f"ALTER TABLE {quoted(table.name)} DROP COLUMN {name}")

    @staticmethod
    def _declare(column: Column, table: Table) -> list[str]:
        if not column.stored:
            return []
        primary = " PRIMARY KEY NOT NULL" if column.name == table.primary_id else ""
        declared = [f"{quoted(column.name)} {_sql_type(column)}{primary}"]
        if column.type in LOOKUPS and column.polymorphic:
            declared.append(f"{quoted(type_column(column.name))} TEXT")
        return declared

    def index(self, table: Table, column: Column) -> None:
        """Which columns have an index beside those of alternate keys: lookups, and dates that were added to a table.

        Lookups are searched from the other side; those every table has (owner, creator, ...) are not worth it. Nobody can
        ask Dataverse for an index except by an alternate key, but its database makes those it misses by itself when a query
        is repeated (automatic tuning of Azure SQL). Timers and views ask again and again what is due, so added dates stand
        for that here. As in SQL Server, such an index holds the primary id too: rows of one date come in the order of ids.
        """
        common = column.name.endswith(("by", "behalfby")) or column.name in (
            "ownerid", "owninguser", "owningteam", "owningbusinessunit", "transactioncurrencyid",
        )  # fmt: skip
        if column.type in LOOKUPS and not common:
            parts = [column.name]
        elif column.indexed_date:
            parts = [column.name, table.primary_id]
        else:
            return
        columns = ", ".join(map(quoted, parts))
        self.writer.execute(
            f"CREATE INDEX IF NOT EXISTS {quoted(index_name(table, column))} ON {quoted(table.name)} ({columns})"
        )

    def index_all(self, tables: Iterable[Table]) -> None:
        """Makes what an older version of this file lacks."""
        for table in tables:
            for column in table.columns.values():
                self.index(table, column)

    def track_changes(self, table: Table) -> None:
        name = quoted(f"{table.name}.versionnumber")
        self.writer.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {quoted(table.name)} (versionnumber)")

    def build_key(self, table: Table, key: Key) -> bool:
        """Makes the unique index; False if rows contradict it."""
        columns = ", ".join(quoted(name) for name in key.columns)
        try:
            self.writer.execute(
                f"CREATE UNIQUE INDEX {quoted(f'{table.name}#{key.name}')} ON {quoted(table.name)} ({columns})"
            )
        except sqlite3.IntegrityError:
            return False
        return True

    def drop_key(self, table: Table, key: Key) -> None:
        self.writer.execute(f"DROP INDEX IF EXISTS {quoted(f'{table.name}#{key.name}')}")
