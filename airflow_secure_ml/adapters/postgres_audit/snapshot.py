"""Everything that a log stores, in one transaction that sees no later change.

Nothing is believed to be well-formed: who owns the tables may be the attacker, and may have
changed what types their columns have.

Source: AUDIT_TRAIL, Sequencer and Must be caught.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.adapters.postgres_audit import schema
from airflow_secure_ml.adapters.postgres_audit.failures import translated
from airflow_secure_ml.core.audit.ports import EmitterRow
from airflow_secure_ml.core.audit.stored import aside_faults, edge_in, log_in
from airflow_secure_ml.core.audit.subject import Subjects
from airflow_secure_ml.core.audit.tree import Edge
from airflow_secure_ml.errors import AuditLogError

if TYPE_CHECKING:
    from psycopg import Connection

# textsend: the bytes as they are stored, where a conversion would fail at what is not UTF-8.
# A column that somebody made a bytea is read as what it holds: its leaves are told apart still.
LEAF = (
    "idx::bigint, CASE pg_typeof(data)::text WHEN 'bytea' THEN data::text::bytea "
    "ELSE textsend(data::text) END, hash::bytea"
)
ASIDE = "h, subject, salt, value"
_LEAVES = f"SELECT {LEAF} FROM asml_trail.leaf ORDER BY idx"  # noqa: S608 - a constant
BEGIN = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
_ROWS = 1000


class Snapshot:
    """A WholeLog over one transaction that its caller began.

    Args:
        connection: A session in that transaction.
    """

    def __init__(self, connection: Connection[Any], subjects: Subjects | None = None) -> None:
        self._connection, self._subjects = connection, subjects
        self._cursors = itertools.count()

    def origin(self) -> str:
        """The log's name."""
        return str(self._log()[0])

    def edge(self) -> Edge:
        """The stored edge, with the stored size."""
        _, size, edge = self._log()
        return edge_in(size, edge)

    def leaves(self) -> Iterator[tuple[int, bytes, bytes]]:
        """(index, data, stored hash) by index; holes are not filled."""
        for index, data, found in self._rows(_LEAVES):
            if not isinstance(index, int) or not _are_bytes(data, found):
                at = index if isinstance(index, int) else None
                raise AuditLogError(f"audit log: leaf {index} is empty", index=at)
            yield index, data, found

    def tile(self, level: int, n: int) -> bytes | None:
        """A full tile's 8192 bytes; None: it is not full."""
        with translated("read"):
            return schema.read_tile(self._connection, level, n)

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Stored leaf hashes of indices start … stop-1."""
        with translated("read"):
            return schema.read_hashes(self._connection, start, stop)

    def tiles(self) -> Collection[tuple[int, int]]:
        """(level, n) of every stored tile."""
        return set(self._rows("SELECT level, n FROM asml_trail.tile"))

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        """(stored size, note) by size."""
        rows = self._rows("SELECT size, note FROM asml_trail.checkpoint ORDER BY size")
        for size, note in rows:
            if not isinstance(size, int) or not isinstance(note, str):
                raise AuditLogError(f"audit log: the checkpoint over {size} leaves is empty")
            yield size, note

    def emitters(self, states: Collection[str]) -> Sequence[EmitterRow]:
        """The rows of emitters in one of these states."""
        with translated("read"):
            return schema.read_emitters(self._connection, states)

    def event(self, emitter: str, seq: int) -> tuple[int, bytes] | None:
        """(index, data) of an event by its name; None: not in the log."""
        sql = f"SELECT {LEAF} FROM asml_trail.leaf WHERE emitter = %s AND seq = %s"  # noqa: S608 - a constant
        with translated("read"):
            row = self._connection.execute(sql, [emitter, seq]).fetchone()
        if row is None or not isinstance(row[0], int) or not _are_bytes(row[1]):
            return None
        return row[0], bytes(row[1])

    def faults(self) -> Sequence[str]:
        """What the store finds wrong with its own structure; nothing: sound."""
        with translated("read"):
            number = schema.stored_format(self._connection)
            found = schema.differing(self._connection, number)
        # The check of columns is for columns that are there.
        if found:
            return found
        for (index,) in self._rows(schema.FIRST_DIFFERING_COLUMN):
            if index is not None:
                found.append(f"the columns of leaf {index} are not those of its event")
        sql = f"SELECT {ASIDE} FROM asml_trail.aside WHERE value IS NOT NULL ORDER BY subject, h"  # noqa: S608 - a constant
        return [*found, *aside_faults(self._rows(sql), self._subjects)]

    def _log(self) -> tuple[str, int, bytes]:
        return log_in(self._rows("SELECT origin, size, edge FROM asml_trail.log"))

    def _rows(self, sql: str) -> Iterator[Any]:
        # A cursor on the server: a million leaves are not held here.
        with translated("read"):
            cursor = self._connection.cursor(name=f"rows_{next(self._cursors)}")
            cursor.itersize = _ROWS
            cursor.execute(sql)
            for row in cursor:  # noqa: UP028 - `yield from` would close it after the session
                yield row


def _are_bytes(*values: object) -> bool:
    return all(isinstance(value, bytes) for value in values)
