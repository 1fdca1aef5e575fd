"""Read an audit log beside its writer: pages, single leaves, proofs' hashes, one whole view.

A question is one statement in a session that can change nothing. Nothing is believed to be
well-formed: who owns the tables may be the attacker.

Source: AUDIT_TRAIL, Sequencer and Tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from airflow_secure_ml.adapters.postgres_audit import schema
from airflow_secure_ml.adapters.postgres_audit.connecting import IdleSessions, Login, connect
from airflow_secure_ml.adapters.postgres_audit.counting import count_bars, newest_values
from airflow_secure_ml.adapters.postgres_audit.failures import (
    SERVICE,
    UNAVAILABLE,
    psycopg,
    translated,
)
from airflow_secure_ml.adapters.postgres_audit.queries import where
from airflow_secure_ml.adapters.postgres_audit.snapshot import ASIDE, BEGIN, LEAF, Snapshot
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
from airflow_secure_ml.core.audit.subject import AsideRow, Subjects, aside_in
from airflow_secure_ml.core.redaction import Aside
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, ServiceUnavailableError

_TABLE = "asml_trail.leaf"
# So many leaves are not looked up one by one: some of them are found soon in order of time.
_MANY = 5000
_IS_EMPTY = (
    "SELECT NOT EXISTS (SELECT 1 FROM asml_trail.leaf) "
    "AND NOT EXISTS (SELECT 1 FROM asml_trail.checkpoint)"
)


class PostgresAuditReader:
    """An AuditReader over one database; nothing is opened before the first question.

    Args:
        login: How it is reached.
        query_s: How long one call may take, seconds; None: as long as it takes. `whole` is not
            limited.
        subjects: Whose keys open what lies behind hidden values; None: it lies in the open.
    """

    def __init__(
        self, login: Login, *, query_s: float | None = None, subjects: Subjects | None = None
    ) -> None:
        self._login, self._query_s, self._subjects = login, query_s, subjects
        self._sessions = IdleSessions(login, query_s)

    def origin(self) -> str:
        """The log's name, as checkpoints carry it."""
        return str(self._log()[0])

    def size(self) -> int:
        """Number of leaves."""
        return int(self._log()[1])

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
        condition, values = self._where(query)
        order, bounds = keyset(older_than, newer_than)
        for sign, bound in bounds:
            condition = f"{condition} AND (time, idx) {sign} (%s, %s)"
            values = [*values, *bound]
        # Every word of it comes from `where` and `keyset`; values are parameters.
        sql = (
            f"SELECT {LEAF} FROM {_TABLE} WHERE {condition} "  # noqa: S608 - no text from outside
            f"ORDER BY time {order}, idx {order} LIMIT %s"
        )
        found = self._leaves(sql, [*values, page_limit(limit)])
        return found if order == "DESC" else found[::-1]

    def count(self, query: EventQuery, *, at_most: int) -> int:
        """How many leaves match, counting no further than `at_most`."""
        condition, values = self._where(query)
        sql = (
            f"SELECT count(*) FROM (SELECT 1 FROM {_TABLE} "  # noqa: S608 - as above
            f"WHERE {condition} LIMIT %s) AS found"
        )
        return int(self._all(sql, [*values, at_most])[0][0])

    def kinds(self, query: EventQuery, *, limit: int) -> Sequence[tuple[str, str]]:
        """(activity, result) of the newest leaves that match; `intent` where there is no result."""
        condition, values = self._where(query)
        sql = (
            f"SELECT act, result FROM {_TABLE} WHERE {condition} "  # noqa: S608 - as above
            "ORDER BY time DESC, idx DESC LIMIT %s"
        )
        return kinds_in(self._all(sql, [*values, page_limit(limit)]))

    def kind_counts(self, query: EventQuery, *, at_most: int) -> Mapping[tuple[str, str], int]:
        """How many of the newest leaves that match are of each (activity, result)."""
        condition, values = self._where(query)
        sql = (
            f"SELECT act, result, count(*) FROM (SELECT act, result FROM {_TABLE} "  # noqa: S608 - as above
            f"WHERE {condition} ORDER BY time DESC LIMIT %s) AS newest GROUP BY act, result"
        )
        return kind_counts_in(self._all(sql, [*values, at_most]))

    def histogram(
        self, query: EventQuery, *, from_ms: int, until_ms: int, buckets: int
    ) -> Histogram:
        """How many leaves that match fall into each part of a time, and how many were refused.

        Raises:
            FormatError: A time that is none, or another number of bars.
        """
        bars = bars_of(from_ms, until_ms, buckets)
        condition = self._where(query)
        with self._asked() as connection:
            return count_bars(connection, condition, bars)

    def values(self, query: EventQuery, field: ValueField, *, limit: int) -> Values:
        """The most frequent values of a field among the leaves that match.

        Raises:
            FormatError: Values of this field are not counted.
        """
        name = checked_field(field)
        condition = self._where(query)
        with self._asked() as connection:
            counted, exact = newest_values(connection, condition, name)
        if name == "by":
            counted, is_all = names_by(counted, self._aside_rows, self._subjects)
            exact = exact and is_all
        return values_of(counted, name, limit=limit, exact=exact)

    def span(self, query: EventQuery) -> tuple[int, int] | None:
        """Time of the first and of the last leaf that matches; None: none does."""
        condition, values = self._where(query)
        ends = [
            self._all(
                f"SELECT time FROM {_TABLE} WHERE {condition} ORDER BY time {order} LIMIT 1",  # noqa: S608 - as above
                values,
            )
            for order in ("ASC", "DESC")
        ]
        return (int(ends[0][0][0]), int(ends[1][0][0])) if all(ends) else None

    def leaf(self, index: int) -> Leaf | None:
        """One leaf by its index from 0."""
        found = self._leaves(f"SELECT {LEAF} FROM {_TABLE} WHERE idx = %s", [index])  # noqa: S608 - a constant
        return found[0] if found else None

    def find(self, event: str) -> Leaf | None:
        """One leaf by its event's name, `<emitter>:<seq>`."""
        named = event_named(event)
        if named is None:
            return None
        emitter, seq = named
        condition, values = self._where(EventQuery(emitter=emitter))
        sql = f"SELECT {LEAF} FROM {_TABLE} WHERE {condition} AND seq = %s"  # noqa: S608 - as above
        found = self._leaves(sql, [*values, seq])
        return found[0] if found else None

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Stored leaf hashes of indices start … stop-1."""
        with self._asked() as connection:
            return schema.read_hashes(connection, start, stop)

    def tile(self, level: int, n: int) -> bytes | None:
        """A full tile's 8192 bytes; None: it is not full."""
        with self._asked() as connection:
            return schema.read_tile(connection, level, n)

    def checkpoint(self, *, at_most: int | None = None) -> str | None:
        """The newest signed note whose size is at most `at_most`; None: none yet."""
        sql = "SELECT note FROM asml_trail.checkpoint WHERE size <= %s ORDER BY size DESC LIMIT 1"
        rows = self._all(sql, [2**53 if at_most is None else at_most])
        return str(rows[0][0]) if rows else None

    def reveal(self, hidden: str) -> str | None:
        """The value behind a hidden value's hash; None: erased.

        Raises:
            AuditLogError: What lies there does not give that hash: it was exchanged.
        """
        found = self.aside(hidden)
        return None if found is None else found.value

    def aside(self, hidden: str) -> Aside | None:
        """The same with its salt, by which others check it; None: erased."""
        # 64 hex digits; a text that PostgreSQL cannot be asked for is none.
        if not hidden.isalnum() or not hidden.isascii():
            return None
        rows = self._all(f"SELECT {ASIDE} FROM asml_trail.aside WHERE h = %s", [hidden])  # noqa: S608 - a constant
        if not rows or rows[0][3] is None:
            return None
        return aside_in(aside_row(rows[0]), self._subjects)

    @contextmanager
    def whole(self) -> Iterator[WholeLog]:
        """One consistent view of everything stored, for as long as the block lasts."""
        connection = connect(self._login, writes=False)
        try:
            with translated("read"):
                connection.execute(BEGIN)
            yield Snapshot(connection, self._subjects)
        finally:
            connection.close()

    @property
    def _aside_rows(self) -> _AsideRows:
        return _AsideRows(self._all)

    def _where(self, query: EventQuery) -> Condition:
        return where(
            query, lambda by: hashes_by(by, self._aside_rows, self._subjects), self._indices_of
        )

    def _indices_of(self, condition: Condition) -> Sequence[int] | None:
        text, values = condition
        sql = f"SELECT idx FROM {_TABLE} WHERE {text} LIMIT %s"  # noqa: S608 - no text from outside
        with self._asked() as connection, connection.transaction():
            connection.execute("SET LOCAL enable_seqscan = off")
            rows = connection.execute(sql, [*values, _MANY]).fetchall()
        return None if len(rows) == _MANY else [index for (index,) in rows]

    def _log(self) -> tuple[Any, ...]:
        rows = self._all("SELECT origin, size FROM asml_trail.log", [])
        if rows:
            return rows[0]
        if self._all(_IS_EMPTY, [])[0][0]:
            raise ConfigurationError(
                f"audit log {self._login.address}: its tables are empty; the sequencer fills them "
                "when the first event comes"
            )
        raise AuditLogError(f"audit log {self._login.address}: its table log is empty")

    @contextmanager
    def _asked(self) -> Iterator[Any]:
        with self._sessions.lent() as connection, translated("read"):
            try:
                yield connection
            except psycopg().errors.QueryCanceled as error:
                if self._query_s is None:
                    raise
                raise ServiceUnavailableError(
                    service=SERVICE,
                    action="read",
                    reason=f"it took longer than {self._query_s:.0f} s; ask for less, such as a "
                    "DAG or a day",
                    why=UNAVAILABLE,
                ) from error

    def _all(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._asked() as connection:
            rows: list[tuple[Any, ...]] = connection.execute(sql, values).fetchall()
        return rows

    def _leaves(self, sql: str, values: Sequence[Any]) -> list[Leaf]:
        return [leaf_in(*row) for row in self._all(sql, values)]


class _AsideRows:
    """Table aside, for finding people."""

    def __init__(self, ask: Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]) -> None:
        self._ask = ask

    def one(self, h: str) -> AsideRow | None:
        found = self._rows("h = %s", h)
        return found[0] if found else None

    def many(self, hashes: Sequence[str]) -> Sequence[AsideRow]:
        return self._rows("h = ANY(%s)", list(hashes))

    def of_subject(self, subject: str) -> Sequence[AsideRow]:
        return self._rows("subject = %s", subject)

    def in_the_open(self, value: str) -> Sequence[AsideRow]:
        return self._rows("subject IS NULL AND value = %s", value)

    def any_subject(self) -> str | None:
        found = self._ask("SELECT max(subject) FROM asml_trail.aside", [])
        return None if found[0][0] is None else str(found[0][0])

    def _rows(self, condition: str, value: object) -> list[AsideRow]:
        sql = (
            f"SELECT {ASIDE} FROM asml_trail.aside WHERE value IS NOT NULL AND {condition} "  # noqa: S608 - constants
            "ORDER BY subject"
        )
        return [aside_row(row) for row in self._ask(sql, [value])]
