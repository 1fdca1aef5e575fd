"""Write an audit log: one process, one transaction a batch, durable when it returns.

That there is one writer only is the sequencer's lock's business; a second one is refused here
because the size it started from is no longer the log's.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from airflow_secure_ml.adapters.sqlite_audit import pruned_asides, schema
from airflow_secure_ml.core.audit.ports import Batch, EmitterRow
from airflow_secure_ml.core.audit.stored import (
    EMITTER_COLUMNS,
    aside_rows,
    edge_in,
    emitter_rows,
    leaf_rows,
    tile_rows,
)
from airflow_secure_ml.core.audit.subject import Subjects
from airflow_secure_ml.core.audit.tiles import prune_steps
from airflow_secure_ml.core.audit.tree import Edge
from airflow_secure_ml.durable_files import sync_directory
from airflow_secure_ml.errors import AuditLogError, ConfigurationError

log = logging.getLogger(__name__)
HOUR_MS = 3_600_000
BUSY_S = 10.0


class SqliteAuditWriter:
    """A LogWriter over one file; a context manager.

    Args:
        path: The log's file; made with mode 0600 if it is not there.
        origin: The log's name.
        subjects: Whose keys seal what lies behind hidden values; None: it lies in the open.

    Raises:
        AuditLogError: The file is of another log, of a later format, or damaged.
    """

    def __init__(self, path: Path, origin: str, *, subjects: Subjects | None = None) -> None:
        self._path, self._subjects = path, subjects
        if not os.path.lexists(path):
            with self._translated("create"):
                _create(path, origin)
        self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            with self._translated("open"):
                self._prepare(origin)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, origin: str) -> None:
        execute = self._connection.execute
        mode = execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise ConfigurationError(
                f"audit log {self._path}: SQLite offers journal mode {mode}, readers beside the "
                "writer need wal; put audit_dir on a local file system"
            )
        # NORMAL does not sync the commit: a batch could be lost after its segments are unlinked.
        execute("PRAGMA synchronous = FULL")
        made = schema.format_of(schema.objects(self._connection))
        if made is None:
            raise AuditLogError(f"audit log {self._path}: its tables are not this release's")
        found, number = execute("SELECT origin, format FROM log").fetchone() or ("", 0)
        if (found, number) != (origin, made):
            raise AuditLogError(
                f"audit log {self._path}: log {found!r} of format {number}, the signer is for "
                f"{origin!r} of format {made}; give each log a signer directory of its own"
            )
        if made != schema.FORMAT:
            self._upgrade(made)

    def _upgrade(self, made: int) -> None:
        log.info("audit log %s: from format %d to %d", self._path, made, schema.FORMAT)
        # One transaction: a killed process leaves the format that there was.
        with self._transaction():
            schema.make(self._connection, schema.FORMAT, found=made)
            self._connection.execute("UPDATE log SET format = ?", (schema.FORMAT,))
        log.info("audit log %s: it has format %d", self._path, schema.FORMAT)

    def origin(self) -> str:
        """The log's name."""
        with self._translated("read"):
            return str(self._connection.execute("SELECT origin FROM log").fetchone()[0])

    def edge(self) -> Edge:
        """The stored edge."""
        with self._translated("read"):
            size, edge = self._connection.execute("SELECT size, edge FROM log").fetchone()
        return edge_in(size, edge, prefix=f"audit log {self._path}: ")

    def emitters(self, states: Collection[str]) -> Sequence[EmitterRow]:
        """The rows of emitters in one of these states."""
        with self._translated("read"):
            return schema.read_emitters(self._connection, states)

    def emitter(self, emitter: str) -> EmitterRow | None:
        """An emitter's row; None: nothing of it is in the log."""
        with self._translated("read"):
            return schema.read_emitter(self._connection, emitter)

    def event_hash(self, emitter: str, seq: int) -> bytes | None:
        """Leaf hash of an event by its name; None: not in the log."""
        sql = "SELECT hash FROM leaf WHERE emitter = ? AND seq = ?"
        with self._translated("read"):
            row = self._connection.execute(sql, (emitter, seq)).fetchone()
        return None if row is None else bytes(row[0])

    def event_count(self, emitter: str) -> int:
        """How many of an emitter's events are in the log."""
        sql = "SELECT count(*) FROM leaf WHERE emitter = ?"
        with self._translated("read"):
            return int(self._connection.execute(sql, (emitter,)).fetchone()[0])

    def found(self, emitter: str) -> bytes | None:
        """The leaf before an emitter's first; None: there is none."""
        # The sign keeps SQLite from looking for the least index through the whole log.
        sql = (
            "SELECT CAST(data AS BLOB) FROM leaf "
            "WHERE idx = (SELECT min(+idx) FROM leaf WHERE emitter = ?) - 1"
        )
        with self._translated("read"):
            row = self._connection.execute(sql, (emitter,)).fetchone()
        return None if row is None else bytes(row[0])

    def has_refused(self, leaf_hash: str) -> bool:
        """Whether a trail.refused names the bytes of this hex leaf hash already."""
        sql = "SELECT 1 FROM leaf WHERE act = 'trail.refused' AND data->>'$.more.hash' = ?"
        with self._translated("read"):
            return self._connection.execute(sql, (leaf_hash,)).fetchone() is not None

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Stored leaf hashes of indices start … stop-1."""
        with self._translated("read"):
            return schema.read_hashes(self._connection, start, stop)

    def leaf_data(self, start: int, stop: int) -> Iterator[bytes]:
        """Bytes of the leaves start … stop-1, as stored."""
        sql = "SELECT CAST(data AS BLOB) FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx"
        with self._translated("read"):
            for row in self._connection.execute(sql, (start, stop)):
                yield bytes(row[0])

    def tile(self, level: int, n: int) -> bytes | None:
        """A full tile's 8192 bytes; None: it is not full."""
        with self._translated("read"):
            return schema.read_tile(self._connection, level, n)

    def append(self, batch: Batch) -> None:
        """Add a batch whole, durably, or not at all.

        Raises:
            AuditLogError: The log's size is not `batch.old_size`, or an event stands twice.
            ServiceUnavailableError: The file cannot be written now (full disk, read-only).
        """
        with self._translated("append"), self._transaction():
            size = self._connection.execute("SELECT size FROM log").fetchone()[0]
            if size != batch.old_size:
                raise AuditLogError(
                    f"audit log {self._path}: {size} leaves, the batch begins at {batch.old_size}; "
                    "two sequencers write one log"
                )
            self._insert(batch)

    def publish(self, note: str, *, size: int, signed_ms: int) -> None:
        """Keep a signed checkpoint."""
        with self._translated("publish"):
            self._connection.execute(
                "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?)", (size, note, signed_ms)
            )

    def first_leaf(self) -> int:
        """Index of the first leaf whose bytes are there; 0 unless the log was pruned."""
        with self._translated("read"):
            return int(self._connection.execute("SELECT min(idx) FROM leaf").fetchone()[0] or 0)

    def prune(self, below: int) -> None:
        """Remove the bytes of the leaves below a multiple of 256; hashes stay in full tiles.

        Raises:
            AuditLogError: A tile is not there; nothing is removed.
        """
        first = self.first_leaf()
        with self._translated("prune"):
            schema.require_tiles(self._connection, first, below)
            if first < below:
                pruned_asides.find_last_uses(self._connection, below)
            self._connection.execute("PRAGMA secure_delete = ON")
            # Whole tiles a transaction: what a killed process leaves is a shorter pruning.
            for stop in prune_steps(first, below):
                with self._transaction():
                    self._connection.execute("DELETE FROM leaf WHERE idx < ?", (stop,))
                    pruned_asides.remove_unused(self._connection, stop)
            # The journal beside the file holds pages as they were; while somebody reads those, it
            # does until it is written over.
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.execute(f"PRAGMA busy_timeout = {round(BUSY_S * 1000)}")

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _insert(self, batch: Batch) -> None:
        many = self._connection.executemany
        many("INSERT INTO leaf(idx, data, hash) VALUES (?, ?, ?)", leaf_rows(batch))
        many("INSERT INTO tile VALUES (?, ?, ?)", tile_rows(batch))
        many(
            f"INSERT OR REPLACE INTO emitter({EMITTER_COLUMNS}) "  # noqa: S608 - a constant
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            emitter_rows(batch),
        )
        many(
            "INSERT OR IGNORE INTO aside(h, subject, salt, value) VALUES (?, ?, ?, ?)",
            aside_rows(batch, self._subjects, os.urandom),
        )
        tally = Counter(
            (leaf.event["time"] // HOUR_MS, leaf.event.get("result", "intent"))
            for leaf in batch.leaves
        )
        many(
            "INSERT INTO tally VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
            [(hour, result, n) for (hour, result), n in tally.items()],
        )
        self._connection.execute(
            "UPDATE log SET size = ?, edge = ?", (batch.edge.size, batch.edge.to_bytes())
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        with schema.translated(f"audit log {self._path}", action):
            yield


def _create(path: Path, origin: str) -> None:
    """Make an empty log aside, then give it its name: no reader ever sees half of one."""
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    # SQLite would use the umask; its -wal and -shm files take this file's mode.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    os.close(os.open(aside, flags, 0o600))
    connection = sqlite3.connect(aside, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        schema.make(connection, schema.FORMAT)
        connection.execute("INSERT INTO log VALUES (?, ?, 0, x'')", (origin, schema.FORMAT))
        connection.execute("COMMIT")
    finally:
        connection.close()
    aside.rename(path)
    sync_directory(path.parent)
