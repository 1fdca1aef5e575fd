"""Read an audit log beside its writer: pages, single leaves, proofs' hashes, one whole view.

Each call opens the file read-only for itself, so any thread may call, and a log that was put in
the file's place is seen at once. Nothing is believed to be well-formed: who wrote the file may
be the attacker.

Source: AUDIT_TRAIL, Sequencer and Tree.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from airflow_secure_ml.adapters.sqlite_audit import schema
from airflow_secure_ml.adapters.sqlite_audit.counting import count_bars, newest_values
from airflow_secure_ml.adapters.sqlite_audit.queries import where
from airflow_secure_ml.core.audit.counting import MAX_NAMES, bars_of, checked_field, values_of
from airflow_secure_ml.core.audit.people import hashes_by, names_by
from airflow_secure_ml.core.audit.ports import EmitterRow, WholeLog
from airflow_secure_ml.core.audit.query import EventQuery, Histogram, Leaf, ValueField, Values
from airflow_secure_ml.core.audit.stored import (
    Condition,
    aside_faults,
    aside_row,
    edge_in,
    event_named,
    keyset,
    kinds_in,
    leaf_in,
    log_in,
    page_limit,
)
from airflow_secure_ml.core.audit.subject import AsideRow, Subjects, aside_in
from airflow_secure_ml.core.audit.tree import Edge
from airflow_secure_ml.core.redaction import Aside
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, ServiceUnavailableError

BUSY_S = 10.0
# Bytes, not text: a tampered leaf need not be UTF-8. Nor does a column hold what its table says to
# somebody who changed that: of a number, `bytes` would make as many zeros.
_LEAF = "idx, CAST(data AS BLOB), CAST(hash AS BLOB)"
_ASIDE = "h, subject, CAST(salt AS BLOB), value"
# So many leaves are not sorted: it would take longer than to look for them in order of time.
_MANY = 5000
# SQLite's steps between two looks at the clock.
_STEPS = 1000
_STATISTICS = frozenset({"sqlite_stat1", "sqlite_stat3", "sqlite_stat4"})


@contextmanager
def open_log(path: Path, *, query_s: float | None = None) -> Iterator[sqlite3.Connection]:
    """Open a log's file as SQLite, for reading alone.

    Args:
        path: The file.
        query_s: How long what is asked may take, seconds; None: as long as it takes.

    Raises:
        ConfigurationError: There is no such file.
        AuditLogError: It is not a database, or a damaged one.
        ServiceUnavailableError: It cannot be read now.
    """
    if not path.is_file():
        raise ConfigurationError(
            f"audit log {path}: no such file; the sequencer makes it when the first event comes"
        )
    address = f"{path.resolve().as_uri()}?mode=ro"
    with schema.translated(f"audit log {path}", "read"):
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)
        if query_s is not None:
            due_s = time.monotonic() + query_s
            connection.set_progress_handler(lambda: time.monotonic() >= due_s, _STEPS)
        try:
            yield connection
        except sqlite3.OperationalError as error:
            if query_s is None or error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            raise ServiceUnavailableError(
                service="audit log",
                action="read",
                reason=f"it took longer than {query_s:.0f} s; ask for less, such as a DAG or a day",
                why="audit_unavailable",
            ) from error
        finally:
            connection.close()


class SqliteAuditReader:
    """An AuditStore over one file.

    Args:
        path: The log's file, `<audit_dir>/trail.db`.
        query_s: How long one call may take, seconds; None: as long as it takes. `whole` is not
            limited.
        subjects: Whose keys open what lies behind hidden values; None: it lies in the open.
    """

    def __init__(
        self, path: Path, *, query_s: float | None = None, subjects: Subjects | None = None
    ) -> None:
        self._path, self._query_s, self._subjects = path, query_s, subjects

    def origin(self) -> str:
        """The log's name, as checkpoints carry it."""
        return str(self._one("SELECT origin FROM log")[0])

    def size(self) -> int:
        """Number of leaves."""
        return int(self._one("SELECT size FROM log")[0])

    def page(
        self,
        query: EventQuery,
        *,
        older_than: tuple[int, int] | None = None,
        newer_than: tuple[int, int] | None = None,
        limit: int = 50,
    ) -> Sequence[Leaf]:
        """Leaves that match, newest first by (time, index); keyset bounds are exclusive.

        With `newer_than` alone, the leaves nearest above the bound are taken.
        """
        order, bounds = keyset(older_than, newer_than)
        with self._opened() as connection:
            condition, values = self._where(connection, query)
            for sign, bound in bounds:
                condition = f"{condition} AND (time, idx) {sign} (?, ?)"
                values = [*values, *bound]
            # Every word of it comes from `where` and `keyset`; values are parameters.
            sql = (
                f"SELECT {_LEAF} FROM leaf WHERE {condition} "  # noqa: S608 - no text from outside
                f"ORDER BY time {order}, idx {order} LIMIT ?"
            )
            rows = connection.execute(sql, [*values, page_limit(limit)]).fetchall()
        found = [leaf_in(*row) for row in rows]
        return found if order == "DESC" else found[::-1]

    def count(self, query: EventQuery, *, at_most: int) -> int:
        """How many leaves match, counting no further than `at_most`."""
        with self._opened() as connection:
            condition, values = self._where(connection, query)
            sql = f"SELECT count(*) FROM (SELECT 1 FROM leaf WHERE {condition} LIMIT ?)"  # noqa: S608 - as above
            return int(connection.execute(sql, [*values, at_most]).fetchone()[0])

    def kinds(self, query: EventQuery, *, limit: int) -> Sequence[tuple[str, str]]:
        """(activity, result) of the newest leaves that match; `intent` where there is no result."""
        with self._opened() as connection:
            condition, values = self._where(connection, query)
            sql = (
                f"SELECT act, result FROM leaf WHERE {condition} "  # noqa: S608 - as above
                "ORDER BY time DESC, idx DESC LIMIT ?"
            )
            return kinds_in(connection.execute(sql, [*values, page_limit(limit)]).fetchall())

    def histogram(
        self, query: EventQuery, *, from_ms: int, until_ms: int, buckets: int
    ) -> Histogram:
        """How many leaves that match fall into each part of a time, and how many were refused.

        Raises:
            FormatError: A time that is none, or another number of bars.
        """
        bars = bars_of(from_ms, until_ms, buckets)
        with open_log(self._path) as connection:
            return count_bars(connection, self._where(connection, query), bars)

    def values(self, query: EventQuery, field: ValueField, *, limit: int) -> Values:
        """The most frequent values of a field among the leaves that match.

        Raises:
            FormatError: Values of this field are not counted.
        """
        name = checked_field(field)
        with open_log(self._path) as connection:
            counted, exact = newest_values(connection, self._where(connection, query), name)
            if name == "by":
                counted.pop(None, None)
                frequent = Counter(dict(counted.most_common(MAX_NAMES)))
                exact = exact and len(frequent) == len(counted)
                counted = names_by(frequent, _AsideRows(connection), self._subjects)
        return values_of(counted, name, limit=limit, exact=exact)

    def span(self, query: EventQuery) -> tuple[int, int] | None:
        """Time of the first and of the last leaf that matches; None: none does."""
        with self._opened() as connection:
            condition, values = self._where(connection, query)
            sql = f"SELECT time FROM leaf WHERE {condition} ORDER BY time {{}} LIMIT 1"  # noqa: S608 - as above
            ends = [
                connection.execute(sql.format(order), values).fetchone()
                for order in ("ASC", "DESC")
            ]
        return None if None in ends else (int(ends[0][0]), int(ends[1][0]))

    def leaf(self, index: int) -> Leaf | None:
        """One leaf by its index from 0."""
        found = self._leaves(f"SELECT {_LEAF} FROM leaf WHERE idx = ?", [index])  # noqa: S608 - a constant
        return found[0] if found else None

    def find(self, event: str) -> Leaf | None:
        """One leaf by its event's name, `<emitter>:<seq>`."""
        named = event_named(event)
        if named is None:
            return None
        sql = f"SELECT {_LEAF} FROM leaf WHERE emitter = ? AND seq = ?"  # noqa: S608 - a constant
        found = self._leaves(sql, named)
        return found[0] if found else None

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Stored leaf hashes of indices start … stop-1."""
        with self._opened() as connection:
            return schema.read_hashes(connection, start, stop)

    def tile(self, level: int, n: int) -> bytes | None:
        """A full tile's 8192 bytes; None: it is not full."""
        with self._opened() as connection:
            return schema.read_tile(connection, level, n)

    def checkpoint(self, *, at_most: int | None = None) -> str | None:
        """The newest signed note whose size is at most `at_most`; None: none yet."""
        sql = "SELECT note FROM checkpoint WHERE size <= ? ORDER BY size DESC LIMIT 1"
        with self._opened() as connection:
            row = connection.execute(sql, [2**53 if at_most is None else at_most]).fetchone()
        return None if row is None else str(row[0])

    def reveal(self, hidden: str) -> str | None:
        """The value behind a hidden value's hash; None: erased.

        Raises:
            AuditLogError: What lies there does not give that hash: it was exchanged.
        """
        found = self.aside(hidden)
        return None if found is None else found.value

    def aside(self, hidden: str) -> Aside | None:
        """The same with its salt, by which others check it; None: erased."""
        sql = f"SELECT {_ASIDE} FROM aside WHERE h = ?"  # noqa: S608 - a constant
        with self._opened() as connection:
            row = connection.execute(sql, [hidden]).fetchone()
        if row is None or row[3] is None:
            return None
        return aside_in(aside_row(row), self._subjects)

    @contextmanager
    def whole(self) -> Iterator[WholeLog]:
        """One consistent view of everything stored, for as long as the block lasts."""
        with open_log(self._path) as connection:
            connection.execute("BEGIN")
            yield _Snapshot(connection, self._subjects)

    def _where(self, connection: sqlite3.Connection, query: EventQuery) -> Condition:
        rows = _AsideRows(connection)

        def is_rare(condition: Condition) -> bool:
            text, values = condition
            sql = f"SELECT count(*) FROM (SELECT 1 FROM leaf WHERE {text} LIMIT ?)"  # noqa: S608 - as above
            return bool(connection.execute(sql, [*values, _MANY]).fetchone()[0] < _MANY)

        return where(query, lambda by: hashes_by(by, rows, self._subjects), is_rare)

    def _opened(self) -> AbstractContextManager[sqlite3.Connection]:
        return open_log(self._path, query_s=self._query_s)

    def _one(self, sql: str, values: Sequence[str | int] = ()) -> Any:
        with self._opened() as connection:
            row = connection.execute(sql, values).fetchone()
        if row is None:
            raise AuditLogError(f"audit log {self._path}: its table log is empty")
        return row

    def _leaves(self, sql: str, values: Sequence[str | int]) -> list[Leaf]:
        with self._opened() as connection:
            rows = connection.execute(sql, values).fetchall()
        return [leaf_in(*row) for row in rows]


class _AsideRows:
    """Table aside, for finding people."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def one(self, h: str) -> AsideRow | None:
        found = self._rows("h = ?", h)
        return found[0] if found else None

    def many(self, hashes: Sequence[str]) -> Sequence[AsideRow]:
        return self._rows("h IN (SELECT value FROM json_each(?))", json.dumps(hashes))

    def of_subject(self, subject: str) -> Sequence[AsideRow]:
        return self._rows("subject = ?", subject)

    def in_the_open(self, value: str) -> Sequence[AsideRow]:
        return self._rows("subject IS NULL AND value = ?", value)

    def any_subject(self) -> str | None:
        row = self._connection.execute("SELECT max(subject) FROM aside").fetchone()
        return None if row[0] is None else str(row[0])

    def _rows(self, condition: str, value: str) -> list[AsideRow]:
        sql = (
            f"SELECT {_ASIDE} FROM aside WHERE value IS NOT NULL AND {condition} "  # noqa: S608 - constants
            "ORDER BY subject"
        )
        return [aside_row(row) for row in self._connection.execute(sql, [value])]


class _Snapshot:
    """A WholeLog over one read transaction."""

    def __init__(self, connection: sqlite3.Connection, subjects: Subjects | None) -> None:
        self._connection, self._subjects = connection, subjects

    def origin(self) -> str:
        return str(self._log()[0])

    def edge(self) -> Edge:
        _, size, edge = self._log()
        return edge_in(size, edge)

    def leaves(self) -> Iterator[tuple[int, bytes, bytes]]:
        rows = self._rows(f"SELECT {_LEAF} FROM leaf ORDER BY idx")  # noqa: S608 - a constant
        for index, data, found in rows:
            if data is None or found is None:
                raise AuditLogError(f"audit log: leaf {index} is empty", index=index)
            yield index, data, found

    def tile(self, level: int, n: int) -> bytes | None:
        with schema.translated("audit log", "read"):
            return schema.read_tile(self._connection, level, n)

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        with schema.translated("audit log", "read"):
            return schema.read_hashes(self._connection, start, stop)

    def tiles(self) -> Collection[tuple[int, int]]:
        return set(self._rows("SELECT level, n FROM tile"))

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        for size, note in self._rows("SELECT size, note FROM checkpoint ORDER BY size"):
            if not isinstance(size, int) or not isinstance(note, str):
                raise AuditLogError(f"audit log: the checkpoint over {size} leaves holds no note")
            yield size, note

    def emitters(self, states: Collection[str]) -> Sequence[EmitterRow]:
        with schema.translated("audit log", "read"):
            return schema.read_emitters(self._connection, states)

    def event(self, emitter: str, seq: int) -> tuple[int, bytes] | None:
        sql = "SELECT idx, CAST(data AS BLOB) FROM leaf WHERE emitter = ? AND seq = ?"
        with schema.translated("audit log", "read"):
            row = self._connection.execute(sql, (emitter, seq)).fetchone()
        return None if row is None or row[1] is None else (int(row[0]), bytes(row[1]))

    def faults(self) -> Sequence[str]:
        found = [str(row[0]) for row in self._rows("PRAGMA integrity_check(10)") if row[0] != "ok"]
        with schema.translated("audit log", "read"):
            expected, stored = self._expected(), schema.objects(self._connection)
        for kind, name in sorted(expected.keys() | stored.keys()):
            # ANALYZE adds these; they hold no events. A trigger of that name would act.
            if kind == "table" and name in _STATISTICS:
                continue
            if expected.get((kind, name), "") != stored.get((kind, name), ""):
                found.append(f"{kind} {name} is not as this release makes it")
        sql = f"SELECT {_ASIDE} FROM aside WHERE value IS NOT NULL ORDER BY subject, h"  # noqa: S608 - a constant
        return [*found, *aside_faults(self._rows(sql), self._subjects)]

    def _expected(self) -> Mapping[tuple[str, str], str | None]:
        """What a log of the format that it says it has consists of; nothing: there is none such."""
        row = self._connection.execute("SELECT format FROM log").fetchone()
        is_known = row is not None and row[0] in schema.STEPS
        return schema.expected_objects(row[0]) if is_known else {}

    def _log(self) -> tuple[str, int, bytes]:
        return log_in(self._rows("SELECT origin, size, edge FROM log"))

    def _rows(self, sql: str) -> Iterator[Any]:
        # Not `yield from`: it would close the cursor, perhaps after the connection.
        with schema.translated("audit log", "read"):
            for row in self._connection.execute(sql):  # noqa: UP028 - as above
                yield row
