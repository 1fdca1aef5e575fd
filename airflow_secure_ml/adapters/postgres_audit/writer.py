"""Write an audit log: one session, one transaction a batch, durable when it returns.

A lock in the database keeps a second sequencer out, wherever it runs; should it be lost with its
session, the size that a batch begins at is compared under a row's lock.

Source: AUDIT_TRAIL, Sequencer; PostgreSQL, "Advisory Locks" and "Write Ahead Log".
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow_secure_ml.adapters.postgres_audit import schema
from airflow_secure_ml.adapters.postgres_audit.connecting import Login, connect
from airflow_secure_ml.adapters.postgres_audit.failures import SERVICE, UNAVAILABLE, translated
from airflow_secure_ml.adapters.postgres_audit.pruned_asides import unused_asides
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
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, ServiceUnavailableError

if TYPE_CHECKING:
    from psycopg import Connection

log = logging.getLogger(__name__)
# "asmltrai", as a number: one sequencer a database.
SEQUENCER_LOCK = int.from_bytes(b"asmltrai", "big")
_CHUNK = 1000


class PostgresAuditWriter:
    """A LogWriter over one database; a context manager.

    A session that is lost is replaced at the call after the one that says so, so whoever writes
    knows that another one may have written in between.

    Args:
        login: How it is reached.
        origin: The log's name.
        subjects: Whose keys seal what lies behind hidden values; None: it lies in the open.

    Raises:
        ServiceUnavailableError: Another sequencer has this log, or the server does not answer.
        ConfigurationError: It does not keep what it confirms (fsync, synchronous_commit).
        AuditLogError: The tables are of another log, of a later format, or changed.
    """

    def __init__(self, login: Login, origin: str, *, subjects: Subjects | None = None) -> None:
        self._login, self._origin, self._subjects = login, origin, subjects
        self._open: Connection[Any] | None = None
        self._session()

    def origin(self) -> str:
        """The log's name."""
        with self._working("read") as connection:
            return str(_one(connection, "SELECT origin FROM asml_trail.log")[0])

    def edge(self) -> Edge:
        """The stored edge."""
        with self._working("read") as connection:
            size, edge = _one(connection, "SELECT size, edge FROM asml_trail.log")
        return edge_in(size, edge, prefix=f"audit log {self._login.address}: ")

    def emitters(self, states: Collection[str]) -> Sequence[EmitterRow]:
        """The rows of emitters in one of these states."""
        with self._working("read") as connection:
            return schema.read_emitters(connection, states)

    def emitter(self, emitter: str) -> EmitterRow | None:
        """An emitter's row; None: nothing of it is in the log."""
        with self._working("read") as connection:
            return schema.read_emitter(connection, emitter)

    def event_hash(self, emitter: str, seq: int) -> bytes | None:
        """Leaf hash of an event by its name; None: not in the log."""
        sql = "SELECT hash FROM asml_trail.leaf WHERE emitter = %s AND seq = %s"
        with self._working("read") as connection:
            row = connection.execute(sql, [emitter, seq]).fetchone()
        return None if row is None else bytes(row[0])

    def event_count(self, emitter: str) -> int:
        """How many of an emitter's events are in the log."""
        sql = "SELECT count(*) FROM asml_trail.leaf WHERE emitter = %s"
        with self._working("read") as connection:
            return int(_one(connection, sql, [emitter])[0])

    def found(self, emitter: str) -> bytes | None:
        """The leaf before an emitter's first; None: there is none."""
        # OFFSET: min would else be looked for through the whole log.
        sql = (
            "SELECT textsend(data) FROM asml_trail.leaf WHERE idx = (SELECT min(idx) FROM "
            "(SELECT idx FROM asml_trail.leaf WHERE emitter = %s OFFSET 0) AS own) - 1"
        )
        with self._working("read") as connection:
            row = connection.execute(sql, [emitter]).fetchone()
        return None if row is None else bytes(row[0])

    def has_refused(self, leaf_hash: str) -> bool:
        """Whether a trail.refused names the bytes of this hex leaf hash already."""
        sql = (
            "SELECT EXISTS (SELECT 1 FROM asml_trail.leaf WHERE act = 'trail.refused' "
            "AND data::jsonb #>> '{more,hash}' = %s)"
        )
        with self._working("read") as connection:
            return bool(_one(connection, sql, [leaf_hash])[0])

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Stored leaf hashes of indices start … stop-1."""
        with self._working("read") as connection:
            return schema.read_hashes(connection, start, stop)

    def leaf_data(self, start: int, stop: int) -> Iterator[bytes]:
        """Bytes of the leaves start … stop-1, as stored."""
        sql = "SELECT textsend(data) FROM asml_trail.leaf WHERE idx >= %s AND idx < %s ORDER BY idx"
        for low in range(start, stop, _CHUNK):
            with self._working("read") as connection:
                rows = connection.execute(sql, [low, min(low + _CHUNK, stop)]).fetchall()
            yield from (bytes(row[0]) for row in rows)

    def tile(self, level: int, n: int) -> bytes | None:
        """A full tile's 8192 bytes; None: it is not full."""
        with self._working("read") as connection:
            return schema.read_tile(connection, level, n)

    def append(self, batch: Batch) -> None:
        """Add a batch whole, durably, or not at all.

        Raises:
            AuditLogError: The log's size is not `batch.old_size`, or an event stands twice.
            ServiceUnavailableError: No answer came; whether the batch stands is not known.
        """
        with self._working("append") as connection, connection.transaction():
            size = _one(connection, "SELECT size FROM asml_trail.log FOR UPDATE")[0]
            if size != batch.old_size:
                raise AuditLogError(
                    f"audit log {self._login.address}: {size} leaves, the batch begins at "
                    f"{batch.old_size}; two sequencers write one log"
                )
            _insert(connection, batch, self._subjects)

    def publish(self, note: str, *, size: int, signed_ms: int) -> None:
        """Keep a signed checkpoint."""
        sql = (
            "INSERT INTO asml_trail.checkpoint(size, note, signed_ms) VALUES (%s, %s, %s) "
            "ON CONFLICT (size) DO UPDATE SET note = excluded.note, signed_ms = excluded.signed_ms"
        )
        with self._working("publish") as connection:
            connection.execute(sql, [size, note, signed_ms])

    def first_leaf(self) -> int:
        """Index of the first leaf whose bytes are there; 0 unless the log was pruned."""
        with self._working("read") as connection:
            return int(_one(connection, "SELECT min(idx) FROM asml_trail.leaf")[0] or 0)

    def prune(self, below: int) -> None:
        """Remove the bytes of the leaves below a multiple of 256; hashes stay in full tiles.

        Raises:
            AuditLogError: A tile is not there; nothing is removed.
            ConfigurationError: This login may not remove leaves; the tables' owner may.
        """
        rights = "SELECT bool_and(has_table_privilege(t, 'DELETE')) FROM unnest(%s::text[]) AS t"
        first = self.first_leaf()
        with self._working("prune") as connection:
            if not _one(connection, rights, [["asml_trail.leaf", "asml_trail.aside"]])[0]:
                raise ConfigurationError(
                    f"audit log {self._login.address}: this login may not remove leaves; prune as "
                    "the owner of its tables"
                )
            schema.require_tiles(connection, first, below)
            if below <= first:
                return
            # Whole tiles a transaction: what a killed process leaves is a shorter pruning.
            with unused_asides(connection, below) as unused:
                for stop in prune_steps(first, below):
                    with connection.transaction():
                        connection.execute("DELETE FROM asml_trail.leaf WHERE idx < %s", [stop])
                        unused.remove(stop)

    def close(self) -> None:
        """Let go of the log and its lock; may be called twice."""
        found, self._open = self._open, None
        if found is not None:
            found.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _working(self, action: str) -> Iterator[Connection[Any]]:
        connection = self._session()
        try:
            with translated(action):
                yield connection
        finally:
            if connection.broken or connection.closed:
                self.close()

    def _session(self) -> Connection[Any]:
        if self._open is None:
            connection = connect(self._login, writes=True)
            try:
                with translated("open"):
                    _take_lock(connection)
                    _check_durable(connection)
                    self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._open = connection
        return self._open

    def _prepare(self, connection: Connection[Any]) -> None:
        number = schema.stored_format(connection)
        differing = schema.differing(connection, number)
        if differing:
            raise AuditLogError(f"audit log {self._login.address}: {'; '.join(differing)}")
        # Only where nothing stands at all: a log that lost this row is not a new one.
        connection.execute(
            "INSERT INTO asml_trail.log(origin, format, size, edge) SELECT %s, %s, 0, '' "
            "WHERE NOT EXISTS (SELECT 1 FROM asml_trail.log) "
            "AND NOT EXISTS (SELECT 1 FROM asml_trail.leaf) "
            "AND NOT EXISTS (SELECT 1 FROM asml_trail.checkpoint)",
            [self._origin, number],
        )
        row = connection.execute("SELECT origin FROM asml_trail.log").fetchone()
        found = "" if row is None else row[0]
        if found != self._origin:
            raise AuditLogError(
                f"audit log {self._login.address}: log {found!r}, the signer is for "
                f"{self._origin!r}; give each log a database of its own"
            )
        if number != schema.FORMATS[-1]:
            log.warning(
                "audit log %s: format %d, pages would be faster with %d; run `airflow db migrate` "
                "or `secure-ml audit migrate`", self._login.address, number, schema.FORMATS[-1],
            )  # fmt: skip


def _insert(connection: Connection[Any], batch: Batch, subjects: Subjects | None) -> None:
    cursor = connection.cursor()
    sql = "COPY asml_trail.leaf(idx, data, hash) FROM STDIN (FORMAT BINARY)"
    with cursor.copy(sql) as copy:
        copy.set_types(["int8", "text", "bytea"])
        for row in leaf_rows(batch):
            copy.write_row(row)
    # One round trip for all that follows.
    with connection.pipeline():
        cursor.executemany(
            "INSERT INTO asml_trail.tile(level, n, hashes) VALUES (%s, %s, %s)",
            tile_rows(batch),
        )
        cursor.executemany(
            f"INSERT INTO asml_trail.emitter({EMITTER_COLUMNS}) "  # noqa: S608 - a constant
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET "
            "next_seq = excluded.next_seq, last = excluded.last, part = excluded.part, "
            "at = excluded.at, state = excluded.state, first_ms = excluded.first_ms, "
            "last_ms = excluded.last_ms",
            emitter_rows(batch),
        )
        cursor.executemany(
            "INSERT INTO asml_trail.aside(h, subject, salt, value) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (h) DO NOTHING",
            aside_rows(batch, subjects, os.urandom),
        )
        connection.execute(
            "UPDATE asml_trail.log SET size = %s, edge = %s",
            [batch.edge.size, batch.edge.to_bytes()],
        )


def _take_lock(connection: Connection[Any]) -> None:
    if not _one(connection, "SELECT pg_try_advisory_lock(%s)", [SEQUENCER_LOCK])[0]:
        raise ServiceUnavailableError(
            service=SERVICE,
            action="open",
            reason="another sequencer works on this log",
            why=UNAVAILABLE,
        )


def _check_durable(connection: Connection[Any]) -> None:
    """See to it that what is confirmed is on the disk: segments are unlinked on that word."""
    setting = "SELECT current_setting(%s)"
    # Any login may set this one; a stronger one, with a standby, stays.
    if _one(connection, setting, ["synchronous_commit"])[0] == "off":
        connection.execute("SET synchronous_commit = on")
    for name in ("synchronous_commit", "fsync"):
        if _one(connection, setting, [name])[0] == "off":
            raise ConfigurationError(
                f"audit_store: the server has {name} = off and would confirm events that are not "
                "on its disk; set it to on"
            )


def _one(connection: Connection[Any], sql: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(sql, values).fetchone()
    if row is None:
        raise AuditLogError("audit log: its table log is empty")
    return row
