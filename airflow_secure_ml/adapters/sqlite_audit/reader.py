"""Read an audit log beside its writer: pages, single leaves, proofs' hashes, one whole view.

Each call opens the file read-only for itself, so any thread may call, and a log that was put in
the file's place is seen at once. Nothing is believed to be well-formed: who wrote the file may
be the attacker.

Source: AUDIT_TRAIL, Sequencer and Tree.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from airflow_secure_ml.adapters.sqlite_audit import schema
from airflow_secure_ml.adapters.sqlite_audit.aside import ASIDE, SqliteAsides
from airflow_secure_ml.adapters.sqlite_audit.counting import count_bars, newest_values
from airflow_secure_ml.adapters.sqlite_audit.opening import open_log
from airflow_secure_ml.adapters.sqlite_audit.queries import where
from airflow_secure_ml.adapters.sqlite_audit.snapshot import LEAF, Snapshot
from airflow_secure_ml.core.audit.counting import bars_of, checked_field, values_of
from airflow_secure_ml.core.audit.people import hashes_by, names_by
from airflow_secure_ml.core.audit.ports import WholeLog
from airflow_secure_ml.core.audit.query import EventQuery, Histogram, Leaf, ValueField, Values
from airflow_secure_ml.core.audit.stored import (
    Condition,
    aside_row,
    event_named,
    keyset,
    kind_counts_in,
    kinds_in,
    leaf_in,
    page_limit,
)
from airflow_secure_ml.core.audit.subject import Subjects, aside_in
from airflow_secure_ml.core.redaction import Aside
from airflow_secure_ml.errors import AuditLogError

# So many leaves are not sorted: it would take longer than to look for them in order of time.
_MANY = 5000


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
        size = self._one("SELECT size FROM log")[0]
        if not isinstance(size, int):
            raise AuditLogError(f"audit log {self._path}: table log holds no size")
        return size

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
                f"SELECT {LEAF} FROM leaf WHERE {condition} "  # noqa: S608 - no text from outside
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

    def kind_counts(self, query: EventQuery, *, at_most: int) -> Mapping[tuple[str, str], int]:
        """How many of the newest leaves that match are of each (activity, result)."""
        with self._opened() as connection:
            condition, values = self._where(connection, query)
            sql = (
                f"SELECT act, result, count(*) FROM (SELECT act, result FROM leaf WHERE {condition}"  # noqa: S608 - as above
                " ORDER BY time DESC LIMIT ?) GROUP BY act, result"
            )
            return kind_counts_in(connection.execute(sql, [*values, at_most]).fetchall())

    def histogram(
        self, query: EventQuery, *, from_ms: int, until_ms: int, buckets: int
    ) -> Histogram:
        """How many leaves that match fall into each part of a time, and how many were refused.

        Raises:
            FormatError: A time that is none, or another number of bars.
        """
        bars = bars_of(from_ms, until_ms, buckets)
        with self._opened() as connection:
            return count_bars(connection, self._where(connection, query), bars, self._due_s())

    def values(self, query: EventQuery, field: ValueField, *, limit: int) -> Values:
        """The most frequent values of a field among the leaves that match.

        Raises:
            FormatError: Values of this field are not counted.
        """
        name = checked_field(field)
        with self._opened() as connection:
            condition = self._where(connection, query)
            counted, exact = newest_values(connection, condition, name, self._due_s())
            if name == "by":
                counted, is_all = names_by(counted, SqliteAsides(connection), self._subjects)
                exact = exact and is_all
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
        if None in ends:
            return None
        first, last = ends[0][0], ends[1][0]
        if not isinstance(first, int) or not isinstance(last, int):
            raise AuditLogError(f"audit log {self._path}: a leaf's time is no number")
        return first, last

    def leaf(self, index: int) -> Leaf | None:
        """One leaf by its index from 0."""
        found = self._leaves(f"SELECT {LEAF} FROM leaf WHERE idx = ?", [index])  # noqa: S608 - a constant
        return found[0] if found else None

    def find(self, event: str) -> Leaf | None:
        """One leaf by its event's name, `<emitter>:<seq>`."""
        named = event_named(event)
        if named is None:
            return None
        sql = f"SELECT {LEAF} FROM leaf WHERE emitter = ? AND seq = ?"  # noqa: S608 - a constant
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
        sql = f"SELECT {ASIDE} FROM aside WHERE h = ?"  # noqa: S608 - a constant
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
            yield Snapshot(connection, self._subjects)

    def _where(self, connection: sqlite3.Connection, query: EventQuery) -> Condition:
        rows = SqliteAsides(connection)

        def is_rare(condition: Condition) -> bool:
            text, values = condition
            sql = f"SELECT count(*) FROM (SELECT 1 FROM leaf WHERE {text} LIMIT ?)"  # noqa: S608 - as above
            return bool(connection.execute(sql, [*values, _MANY]).fetchone()[0] < _MANY)

        return where(query, lambda by: hashes_by(by, rows, self._subjects), is_rare)

    def _due_s(self) -> float | None:
        return None if self._query_s is None else time.monotonic() + self._query_s

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
