"""The audit log's tables, and what tells a changed schema from this release's.

Every column that pages filter by, and every index, is computed from the event's bytes: there is no
second copy of a fact that could be edited. A format differs from the one before by its indices.

Source: AUDIT_TRAIL, Sequencer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType

from airflow_secure_ml.core.audit.ports import EmitterRow
from airflow_secure_ml.core.audit.stored import EMITTER_COLUMNS, emitter_in
from airflow_secure_ml.core.audit.tiles import TILE_WIDTH, hashes_in
from airflow_secure_ml.errors import AuditLogError, ServiceUnavailableError

FORMAT = 2

_FIRST = """
CREATE TABLE log(origin TEXT, format INT, size INT, edge BLOB) STRICT;
CREATE TABLE leaf(idx INTEGER PRIMARY KEY, data TEXT NOT NULL, hash BLOB NOT NULL,
  emitter TEXT AS (data->>'$.emitter'), seq INT AS (data->>'$.seq'),
  time INT AS (data->>'$.time'), act TEXT AS (data->>'$.act'),
  result TEXT AS (data->>'$.result'), dag TEXT AS (data->>'$.run.dag'),
  run TEXT AS (data->>'$.run.run'), task TEXT AS (data->>'$.run.task'),
  ti TEXT AS (data->>'$.run.ti'), uri TEXT AS (data->>'$.object.uri'),
  "key" TEXT AS (data->>'$.key.name'), lease TEXT AS (data->>'$.lease.id')) STRICT;
CREATE UNIQUE INDEX leaf_event ON leaf(emitter, seq);
CREATE INDEX leaf_time ON leaf(time, result);
CREATE INDEX leaf_dag ON leaf(dag, time, result);
CREATE INDEX leaf_run ON leaf(dag, run, time);
CREATE INDEX leaf_ti ON leaf(ti);
CREATE INDEX leaf_act ON leaf(act, time);
CREATE INDEX leaf_uri ON leaf(uri, time);
CREATE INDEX leaf_key ON leaf("key", time);
CREATE INDEX leaf_lease ON leaf(lease);
CREATE INDEX leaf_hash ON leaf(hash);
CREATE TABLE tile(level INT, n INT, hashes BLOB, PRIMARY KEY(level,n)) STRICT;
CREATE TABLE emitter(id TEXT PRIMARY KEY, next_seq INT, last BLOB, part INT, at INT, state TEXT,
  first_ms INT, last_ms INT) STRICT;
CREATE TABLE checkpoint(size INTEGER PRIMARY KEY, note TEXT NOT NULL, signed_ms INT) STRICT;
CREATE TABLE aside(h TEXT PRIMARY KEY, subject TEXT, salt BLOB, value TEXT) STRICT;
CREATE TABLE tally(hour INT, result TEXT, n INT, PRIMARY KEY(hour,result)) STRICT;
"""
_SECOND = """
DROP INDEX leaf_time;
CREATE INDEX leaf_time ON leaf(time, result, act, dag);
DROP INDEX leaf_dag;
CREATE INDEX leaf_dag ON leaf(dag, time, result, act);
CREATE INDEX leaf_refused ON leaf(time, act, dag) WHERE result = 'refused';
CREATE INDEX leaf_digest ON leaf(data->>'$.object.digest', time)
  WHERE data->>'$.object.digest' IS NOT NULL;
CREATE INDEX leaf_version ON leaf("key", data->>'$.key.version', time)
  WHERE "key" IS NOT NULL;
CREATE INDEX leaf_of ON leaf(data->>'$.of') WHERE data->>'$.of' IS NOT NULL;
CREATE INDEX leaf_by ON leaf(data->>'$.by.h', time) WHERE data->>'$.by.h' IS NOT NULL;
CREATE INDEX leaf_host ON leaf(data->>'$.more.host', emitter) WHERE act = 'emitter.open';
CREATE INDEX aside_subject ON aside(subject);
"""
# What makes each format out of the one before, the first one out of nothing.
STEPS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        number: tuple(filter(None, (statement.strip() for statement in text.split(";"))))
        for number, text in ((1, _FIRST), (2, _SECOND))
    }
)


# The file may be whole, and cannot be used now. Extended codes have more bits above these eight.
_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
    }
)


@contextmanager
def translated(what: str, action: str) -> Iterator[None]:
    """Turn SQLite's exceptions into ours.

    Raises:
        ServiceUnavailableError: The file cannot be used now (locked, full disk, read-only).
        AuditLogError: Anything else: what SQLite cannot make sense of is not what was written.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code & 0xFF in _UNAVAILABLE:
            raise ServiceUnavailableError(
                service="audit log", action=action, reason=str(error), why="audit_unavailable"
            ) from error
        raise AuditLogError(f"{what}: {action}: SQLite says: {error}") from error


def objects(connection: sqlite3.Connection) -> Mapping[tuple[str, str], str | None]:
    """Every table, index, view and trigger of a database: (type, name) → its SQL."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema")
    return {(kind, name): sql for kind, name, sql in rows}


def format_of(found: Mapping[tuple[str, str], str | None]) -> int | None:
    """The format whose tables and indices these are; None: they are of none."""
    return next((number for number in STEPS if expected_objects(number) == found), None)


@cache
def expected_objects(number: int) -> Mapping[tuple[str, str], str | None]:
    """What `objects` gives for a log of a format that nobody changed."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        make(connection, number)
        return objects(connection)
    finally:
        connection.close()


def make(connection: sqlite3.Connection, number: int, *, found: int = 0) -> None:
    """Make the tables and indices of a format.

    Args:
        connection: A database; its transaction is the caller's.
        number: The format.
        found: The format that it has; 0: it is empty.
    """
    for step in range(found + 1, number + 1):
        for statement in STEPS[step]:
            connection.execute(statement)


def read_emitters(
    connection: sqlite3.Connection, states: Collection[str]
) -> tuple[EmitterRow, ...]:
    """The rows of emitters in one of these states."""
    marks = ", ".join("?" * len(states))
    sql = f"SELECT {EMITTER_COLUMNS} FROM emitter WHERE state IN ({marks}) ORDER BY id"  # noqa: S608 - constants
    return tuple(emitter_in(row) for row in connection.execute(sql, [*states]))


def read_emitter(connection: sqlite3.Connection, emitter: str) -> EmitterRow | None:
    """An emitter's row."""
    sql = f"SELECT {EMITTER_COLUMNS} FROM emitter WHERE id = ?"  # noqa: S608 - a constant
    row = connection.execute(sql, (emitter,)).fetchone()
    return None if row is None else emitter_in(row)


def read_hashes(connection: sqlite3.Connection, start: int, stop: int) -> tuple[bytes, ...]:
    """Stored leaf hashes of indices start … stop-1; those of pruned leaves from full tiles."""
    rows = connection.execute(
        "SELECT CAST(hash AS BLOB) FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx", (start, stop)
    )
    found = tuple(bytes(row[0] or b"") for row in rows)
    missing = stop - start - len(found)
    if missing <= 0:
        return found
    return (*hashes_in(lambda n: read_tile(connection, 0, n), start, start + missing), *found)


def read_tile(connection: sqlite3.Connection, level: int, n: int) -> bytes | None:
    """A full tile's bytes; None: not stored."""
    row = connection.execute(
        "SELECT CAST(hashes AS BLOB) FROM tile WHERE level = ? AND n = ?", (level, n)
    ).fetchone()
    return None if row is None or row[0] is None else bytes(row[0])


def require_tiles(connection: sqlite3.Connection, first: int, below: int) -> None:
    """Refuse unless full tiles hold the hashes of the leaves first … below-1."""
    low, high = first // TILE_WIDTH, below // TILE_WIDTH
    row = connection.execute(
        "SELECT count(*) FROM tile WHERE level = 0 AND n >= ? AND n < ?", (low, high)
    ).fetchone()
    if row is None or row[0] != high - low:
        raise AuditLogError(
            f"audit log: tiles of the leaves {first} to {below - 1} are missing; nothing is pruned",
            index=first,
        )
