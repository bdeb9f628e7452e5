"""The model: one Dataverse environment over one file. Holds metadata, rows, caches and rules; knows no HTTP."""

import contextlib
import datetime
import json
import random
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from local.dataverse import model, records
from local.dataverse.definitions import standard_schema
from local.dataverse.events import Events
from local.dataverse.faults import Faults
from local.dataverse.limits import Meter
from local.dataverse.model import Column, Key, OptionSet, Relationship, Schema, Table
from local.dataverse.outbox import Outbox
from local.dataverse.queries import Queries
from local.dataverse.records import Unit, Writable
from local.dataverse.security import SECURITY_TABLES, Caller, load_caller
from local.dataverse.storage import Storage, quoted
from local.dataverse.values import timestamp

Clock = Callable[[], datetime.datetime]


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Environment:
    """`path`: the file (made if missing). `clock`: aware UTC now. Thread-safe; close it when done."""

    def __init__(self, path: Path, *, clock: Clock = utc_now, cache_mb: int = 64) -> None:
        self.clock = clock
        self.storage = Storage(path, cache_mb)
        self.schema = Schema()
        self.queries = Queries(self.schema)
        self.faults = Faults()
        self.meter = Meter()
        self.events = Events(self)
        self.outbox = Outbox(self)
        self.organization_id = ""
        self.base_currency: str | None = None
        self._version = 0
        self._reserved = 0
        self._rates: dict[str, int] = {}
        self._callers: dict[str, Caller] = {}
        self._applications: dict[str, str | None] = {}
        self._writable: dict[str, Writable] = {}
        self._statements: dict[tuple[str, str, tuple[str, ...]], str] = {}
        self._exists: dict[str, str] = {}
        self._needs_old: dict[str, frozenset[str] | None] = {}
        self._random = random.SystemRandom()
        self._jobs: list[tuple[str, Callable[[], None]]] = []
        self._jobs_lock = threading.Condition()
        self._open()

    # --- start ---

    def _open(self) -> None:
        reader = self.storage.reader
        found = reader.execute('SELECT 1 FROM "#metadata" LIMIT 1').fetchone()
        if found:
            self._load_schema()
            with self.storage.writing():
                self.storage.index_all(self.schema.tables.values())
        else:
            from local.dataverse.provisioning import provision

            with self.storage.writing():
                provision(self, standard_schema())
        # versions are reserved in blocks: after a kill the next block is used, so that none is given twice
        reserved = reader.execute("SELECT value FROM \"#settings\" WHERE name = 'version'").fetchone()
        self._version = int(reserved[0]) if reserved else 1_000_000
        row = reader.execute("SELECT organizationid, basecurrencyid FROM organization").fetchone()
        self.organization_id, self.base_currency = row
        self.events.load(reader)
        for table in self.schema.tables.values():
            for key in table.keys.values():
                if key.status in ("Pending", "InProgress"):
                    self.build_key_later(table, key)

    def close(self) -> None:
        self.outbox.stop()
        self.storage.close()

    # --- metadata ---

    def _load_schema(self) -> None:
        schema = self.schema
        schema.tables, schema.relationships, schema.option_sets = {}, {}, {}
        for kind, name, text in self.storage.writer.execute('SELECT kind, name, json FROM "#metadata"'):
            data = json.loads(text)
            if kind == "table":
                schema.tables[name] = model.load_table(data)
            elif kind == "relationship":
                schema.relationships[name] = model.load_relationship(data)
            else:
                schema.option_sets[name] = model.load_option_set(data)
        self.schema_changed()

    def save(self, part: Table | Relationship | OptionSet) -> None:
        """Writes a changed definition; inside a transaction."""
        kind = {Table: "table", Relationship: "relationship", OptionSet: "optionset"}[type(part)]
        name = part.schema_name if isinstance(part, Relationship) else part.name
        self.storage.writer.execute(
            'INSERT OR REPLACE INTO "#metadata" VALUES (?, ?, ?)', (kind, name, json.dumps(model.dump(part)))
        )

    def forget(self, part: Table | Relationship | OptionSet) -> None:
        kind = {Table: "table", Relationship: "relationship", OptionSet: "optionset"}[type(part)]
        name = part.schema_name if isinstance(part, Relationship) else part.name
        self.storage.writer.execute('DELETE FROM "#metadata" WHERE kind = ? AND name = ?', (kind, name))

    def schema_changed(self) -> None:
        """After any change of metadata: everything compiled from it is stale."""
        self.schema.changed()
        self._writable, self._statements, self._exists, self._needs_old = {}, {}, {}, {}
        self.queries.forget()

    @contextlib.contextmanager
    def changing_metadata(self, caller: Caller) -> Iterator[Unit]:
        """A transaction that may change definitions; a failure restores them."""
        try:
            with self.unit(caller) as unit:
                yield unit
                self.schema_changed()
        except BaseException:
            with self.storage.writing():
                self._load_schema()
            raise

    # --- transactions ---

    @contextlib.contextmanager
    def unit(
        self, caller: Caller, *, request_id: str | None = None, base: str = "", bypass_steps: bool = False,
        shared: dict[str, str] | None = None,
    ) -> Iterator[Unit]:  # fmt: skip
        """One transaction of one caller: all or nothing."""
        with self.storage.writing() as connection:
            self.faults.before_write()
            now = self.clock()
            unit = Unit(
                self, connection, caller, now, timestamp(now), request_id or str(uuid.uuid4()), base, bypass_steps,
                shared=shared or {},
            )  # fmt: skip
            try:
                yield unit
            except BaseException:
                self._reserved = 0  # the reservation may be rolled back: write it again next time
                raise
        if unit.touched:
            self._refresh(unit.touched)

    def _refresh(self, touched: set[str]) -> None:
        if "#outbox" in touched:
            self.outbox.wake()
            touched = touched - {"#outbox"}
        if touched & SECURITY_TABLES:
            self.rights_changed()
        if touched & {"transactioncurrency", "organization"}:
            self._rates = {}
            row = self.storage.reader.execute("SELECT basecurrencyid FROM organization").fetchone()
            self.base_currency = row[0] if row else None
        if touched & records.WATCHED - {"transactioncurrency", "organization"}:
            self.events.load(self.storage.reader)
            self._needs_old = {}

    def next_version(self) -> int:
        """The next row version; only inside a transaction."""
        self._version += 1
        if self._version > self._reserved:
            self._reserved = self._version + 10_000
            self.storage.writer.execute("INSERT OR REPLACE INTO \"#settings\" VALUES ('version', ?)", (self._reserved,))
        return self._version

    def committed_version(self) -> int:
        """A version that every row committed so far is at or below, and every later write is above."""
        with self.storage.writing():
            return self._version

    # --- callers ---

    def caller(self, user: str) -> Caller:
        found = self._callers.get(user)
        if found is None:
            found = self._callers[user] = load_caller(self.storage.reader, user)
        return found

    def user_of(self, application: str | None, object_id: str | None) -> str | None:
        """The system user of an application or of an Entra object id."""
        name = f"{application}/{object_id}"
        if name not in self._applications:
            row = None
            reader = self.storage.reader
            if object_id:
                row = reader.execute(
                    "SELECT systemuserid FROM systemuser WHERE azureactivedirectoryobjectid = ?", (object_id,)
                ).fetchone()
            if row is None and application:
                row = reader.execute(
                    "SELECT systemuserid FROM systemuser WHERE applicationid = ?", (application,)
                ).fetchone()
            self._applications[name] = row[0] if row else None
        return self._applications[name]

    def rights_changed(self) -> None:
        self._callers, self._applications = {}, {}
        self.queries.forget()

    @property
    def system(self) -> Caller:
        """The platform's own user."""
        row = self.storage.reader.execute("SELECT value FROM \"#settings\" WHERE name = 'system user'").fetchone()
        return self.caller(row[0])

    # --- what writing needs, compiled once ---

    def writable(self, table: Table) -> Writable:
        found = self._writable.get(table.name)
        if found is None:
            found = self._writable[table.name] = records.writable(self.schema, table)
        return found

    def exists_sql(self, table: Table) -> str:
        found = self._exists.get(table.name)
        if found is None:
            found = f"SELECT 1 FROM {quoted(table.name)} WHERE {quoted(table.primary_id)} = ?"
            self._exists[table.name] = found
        return found

    def insert_sql(self, table: Table, names: tuple[str, ...]) -> str:
        key = ("insert", table.name, names)
        found = self._statements.get(key)
        if found is None:
            columns, marks = ", ".join(map(quoted, names)), ", ".join("?" * len(names))
            found = self._statements[key] = f"INSERT INTO {quoted(table.name)} ({columns}) VALUES ({marks})"
        return found

    def update_sql(self, table: Table, names: tuple[str, ...]) -> str:
        key = ("update", table.name, names)
        found = self._statements.get(key)
        if found is None:
            if len(self._statements) > 4000:
                self._statements = {}
            columns = ", ".join(f"{quoted(name)} = ?" for name in names)
            found = f"UPDATE {quoted(table.name)} SET {columns} WHERE {quoted(table.primary_id)} = ?"
            self._statements[key] = found
        return found

    def needs_old(self, table: Table, values: dict[str, Any]) -> bool:
        """Whether writing these columns needs the row as it was (rules, money, steps)."""
        if table.name not in self._needs_old:
            watched = {"statecode", "statuscode", "ownerid", "transactioncurrencyid", "exchangerate"}
            watched |= {column.name for column in self.writable(table).money}
            if table.name in ("contact", "lead", "systemuser"):
                watched |= {"firstname", "middlename", "lastname"}
            whole = table.name in (
                "invoice",
                "invoicedetail",
                "serviceendpoint",
                "sdkmessageprocessingstep",
                "task",
                "email",
            )
            whole = whole or any(self.events.listens(table.name, message) for message in ("Update", "UpdateMultiple"))
            self._needs_old[table.name] = None if whole else frozenset(watched)
        watched_columns = self._needs_old[table.name]
        return watched_columns is None or not watched_columns.isdisjoint(values)

    def exchange_rate(self, connection: sqlite3.Connection, currency: str) -> int:
        rate = self._rates.get(currency)
        if rate is None:
            row = connection.execute(
                "SELECT exchangerate FROM transactioncurrency WHERE transactioncurrencyid = ?", (currency,)
            ).fetchone()
            if row is None:
                from local.dataverse.errors import no_row

                raise no_row("transactioncurrency", currency)
            rate = self._rates[currency] = row[0] or 10**10
        return rate

    def auto_number(self, connection: sqlite3.Connection, table: Table, column: Column) -> str:
        """The next value of an auto-numbered column: {SEQNUM:n}, {RANDSTRING:n}, {DATETIMEUTC:format}."""
        import re

        name = f"number {table.name}.{column.name}"
        row = connection.execute('SELECT value FROM "#settings" WHERE name = ?', (name,)).fetchone()
        number = int(row[0]) + 1 if row else 1000
        connection.execute('INSERT OR REPLACE INTO "#settings" VALUES (?, ?)', (name, number))

        def fill(found: re.Match[str]) -> str:
            kind, argument = found[1], found[2]
            if kind == "SEQNUM":
                return f"{number:0{int(argument)}d}"
            if kind == "RANDSTRING":
                return "".join(self._random.choices("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", k=int(argument)))
            return self.clock().strftime("%Y%m%d%H%M%S")

        return re.sub(r"\{(SEQNUM|RANDSTRING|DATETIMEUTC):([^}]*)\}", fill, column.auto_number)

    # --- system jobs ---

    def add_job(self, kind: str, run: Callable[[], None]) -> None:
        with self._jobs_lock:
            self._jobs.append((kind, run))
            self._jobs_lock.notify()

    def run_jobs(self) -> int:
        """Runs the system jobs that wait (key indexes, bulk deletes, imports); answers how many."""
        done = 0
        while True:
            with self._jobs_lock:
                if not self._jobs:
                    return done
                _, run = self._jobs.pop(0)
            run()
            done += 1

    def job_loop(self, stopping: threading.Event) -> None:
        """Runs system jobs as they come, until told to stop."""
        while not stopping.is_set():
            with self._jobs_lock:
                if not self._jobs:
                    self._jobs_lock.wait(0.5)
            self.run_jobs()

    def build_key_later(self, table: Table, key: Key) -> None:
        self.add_job("key", lambda: self._build_key(table.name, key.name))

    def _build_key(self, table_name: str, key_name: str) -> None:
        with self.storage.writing():
            table = self.schema.tables.get(table_name)
            key = table.keys.get(key_name) if table else None
            if table is None or key is None:
                return
            key.status = "Active" if self.storage.build_key(table, key) else "Failed"
            self.save(table)
            self.schema_changed()
