"""The durable store: one SQLite file. What was committed survives the death of the process."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local.servicebus.amqp.message import Content, parse
from local.servicebus.model.message import Message, MessageState
from local.servicebus.model.store import Saved, StoreError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, next_sequence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY,  -- queue << 40 | sequence: a queue's messages lie together, in order
    state INTEGER NOT NULL, delivery_count INTEGER NOT NULL, enqueued_at INTEGER NOT NULL,
    message_id TEXT, session_id TEXT, expires_at INTEGER, scheduled_for INTEGER,
    dead_letter_source TEXT, enqueued_sequence INTEGER NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS session (
    queue INTEGER NOT NULL, session_id TEXT NOT NULL, state BLOB NOT NULL, set_at INTEGER NOT NULL,
    PRIMARY KEY (queue, session_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS remembered (
    queue INTEGER NOT NULL, message_id TEXT NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (queue, message_id)) WITHOUT ROWID;
"""
_SEQUENCE_BITS = 40
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SqliteStore:
    """Changes are collected and written by commit() in one transaction, the last change of a row only."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # one broker has one home
        # A dead process loses nothing in this mode; a dead machine may. A stand-in need not outlive its machine.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_SCHEMA)
        self._ids: dict[str, int] = {name: key for key, name in self._db.execute("SELECT id, name FROM queue")}
        self._messages: dict[int, Message | None] = {}
        self._sequences: dict[int, int] = {}
        self._sessions: dict[tuple[int, str], tuple[bytes, int] | None] = {}
        self._remembered: dict[tuple[int, str], int | None] = {}

    def close(self) -> None:
        self.commit()
        self._db.close()

    def load(self, queue: str) -> Saved:
        key = self._id(queue)
        first, last = key << _SEQUENCE_BITS, (key + 1) << _SEQUENCE_BITS
        sequence = self._db.execute("SELECT next_sequence FROM queue WHERE id = ?", (key,)).fetchone()
        rows = self._db.execute("SELECT * FROM message WHERE id >= ? AND id < ? ORDER BY id", (first, last))
        sessions = self._db.execute("SELECT session_id, state, set_at FROM session WHERE queue = ?", (key,))
        remembered = self._db.execute("SELECT message_id, until FROM remembered WHERE queue = ? ORDER BY until", (key,))
        return Saved(
            sequence[0] if sequence else 1,
            [_message(*row) for row in rows],
            {session_id: (state, _time(set_at)) for session_id, state, set_at in sessions},
            {message_id: _time(until) for message_id, until in remembered},
        )

    def put(self, queue: str, message: Message) -> None:
        self._messages[self._id(queue) << _SEQUENCE_BITS | message.sequence] = message

    def remove(self, queue: str, sequence: int) -> None:
        self._messages[self._id(queue) << _SEQUENCE_BITS | sequence] = None

    def set_next_sequence(self, queue: str, sequence: int) -> None:
        self._sequences[self._id(queue)] = sequence

    def set_session_state(self, queue: str, session_id: str, state: bytes | None, at: datetime) -> None:
        self._sessions[self._id(queue), session_id] = None if state is None else (state, _micros(at))

    def remember(self, queue: str, message_id: str, until: datetime) -> None:
        self._remembered[self._id(queue), message_id] = _micros(until)

    def forget(self, queue: str, message_id: str) -> None:
        self._remembered[self._id(queue), message_id] = None

    def commit(self) -> None:
        if not (self._messages or self._sequences or self._sessions or self._remembered):
            return
        try:
            self._write()
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreError(str(error)) from error
        self._messages.clear()
        self._sequences.clear()
        self._sessions.clear()
        self._remembered.clear()

    def _write(self) -> None:
        run, many = self._db.execute, self._db.executemany
        run("BEGIN")
        if self._messages:
            many(
                "INSERT OR REPLACE INTO message VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                [_row(key, message) for key, message in self._messages.items() if message is not None],
            )
            many(
                "DELETE FROM message WHERE id = ?",
                [(key,) for key, message in self._messages.items() if message is None],
            )
        if self._sequences:
            many("UPDATE queue SET next_sequence = ? WHERE id = ?", [(n, key) for key, n in self._sequences.items()])
        for (key, session_id), state in self._sessions.items():
            if state is None:
                run("DELETE FROM session WHERE queue = ? AND session_id = ?", (key, session_id))
            else:
                run("INSERT OR REPLACE INTO session VALUES (?,?,?,?)", (key, session_id, *state))
        for (key, message_id), until in self._remembered.items():
            if until is None:
                run("DELETE FROM remembered WHERE queue = ? AND message_id = ?", (key, message_id))
            else:
                run("INSERT OR REPLACE INTO remembered VALUES (?,?,?)", (key, message_id, until))
        run("COMMIT")

    def _id(self, queue: str) -> int:
        key = self._ids.get(queue)
        if key is None:
            cursor = self._db.execute("INSERT INTO queue (name, next_sequence) VALUES (?, 1)", (queue,))
            assert cursor.lastrowid is not None
            key = self._ids[queue] = cursor.lastrowid
        return key


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _time(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND


def _row(key: int, message: Message) -> tuple[object, ...]:
    content = message.content
    assert isinstance(content, Content)
    return (
        key,
        int(message.state),
        message.delivery_count,
        _micros(message.enqueued_at),
        message.message_id,
        message.session_id,
        None if message.expires_at is None else _micros(message.expires_at),
        None if message.scheduled_for is None else _micros(message.scheduled_for),
        message.dead_letter_source,
        message.enqueued_sequence,
        content.encode(),
    )


def _message(
    key: int,
    state: int,
    delivery_count: int,
    enqueued_at: int,
    message_id: str | None,
    session_id: str | None,
    expires_at: int | None,
    scheduled_for: int | None,
    dead_letter_source: str | None,
    enqueued_sequence: int,
    content: bytes,
) -> Message:
    return Message(
        sequence=key & ((1 << _SEQUENCE_BITS) - 1),
        content=parse(content),
        enqueued_at=_time(enqueued_at),
        state=MessageState(state),
        delivery_count=delivery_count,
        message_id=message_id,
        session_id=session_id,
        expires_at=None if expires_at is None else _time(expires_at),
        scheduled_for=None if scheduled_for is None else _time(scheduled_for),
        dead_letter_source=dead_letter_source,
        enqueued_sequence=enqueued_sequence,
    )
