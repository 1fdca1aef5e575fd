"""Everything that a log's file stores, in one transaction that sees no later change.

Nothing is believed to be well-formed: who wrote the file may be the attacker.

Source: AUDIT_TRAIL, Sequencer and Must be caught.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from airflow_secure_ml.adapters.sqlite_audit import schema
from airflow_secure_ml.adapters.sqlite_audit.aside import ASIDE
from airflow_secure_ml.core.audit.ports import EmitterRow
from airflow_secure_ml.core.audit.stored import aside_faults, edge_in, log_in
from airflow_secure_ml.core.audit.subject import Subjects
from airflow_secure_ml.core.audit.tree import Edge
from airflow_secure_ml.errors import AuditLogError

# Bytes, not text: a tampered leaf need not be UTF-8. Nor does a column hold what its table says to
# somebody who changed that: of a number, `bytes` would make as many zeros.
LEAF = "idx, CAST(data AS BLOB), CAST(hash AS BLOB)"
_STATISTICS = frozenset({"sqlite_stat1", "sqlite_stat3", "sqlite_stat4"})


class Snapshot:
    """A WholeLog over one read transaction that its caller began.

    Args:
        connection: In that transaction.
        subjects: Whose keys open what lies behind hidden values; None: it lies in the open.
    """

    def __init__(self, connection: sqlite3.Connection, subjects: Subjects | None) -> None:
        self._connection, self._subjects = connection, subjects

    def origin(self) -> str:
        """The log's name."""
        return str(self._log()[0])

    def edge(self) -> Edge:
        """The stored edge, with the stored size."""
        _, size, edge = self._log()
        return edge_in(size, edge)

    def leaves(self) -> Iterator[tuple[int, bytes, bytes]]:
        """(index, data, stored hash) by index; holes are not filled."""
        rows = self._rows(f"SELECT {LEAF} FROM leaf ORDER BY idx")  # noqa: S608 - a constant
        for index, data, found in rows:
            if data is None or found is None:
                raise AuditLogError(f"audit log: leaf {index} is empty", index=index)
            yield index, data, found

    def tile(self, level: int, n: int) -> bytes | None:
        """A full tile's 8192 bytes; None: it is not full."""
        with schema.translated("audit log", "read"):
            return schema.read_tile(self._connection, level, n)

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Stored leaf hashes of indices start … stop-1."""
        with schema.translated("audit log", "read"):
            return schema.read_hashes(self._connection, start, stop)

    def tiles(self) -> Collection[tuple[int, int]]:
        """(level, n) of every stored tile."""
        return set(self._rows("SELECT level, n FROM tile"))

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        """(stored size, note) by size."""
        for size, note in self._rows("SELECT size, note FROM checkpoint ORDER BY size"):
            if not isinstance(size, int) or not isinstance(note, str):
                raise AuditLogError(f"audit log: the checkpoint over {size} leaves holds no note")
            yield size, note

    def emitters(self, states: Collection[str]) -> Sequence[EmitterRow]:
        """The rows of emitters in one of these states."""
        with schema.translated("audit log", "read"):
            return schema.read_emitters(self._connection, states)

    def event(self, emitter: str, seq: int) -> tuple[int, bytes] | None:
        """(index, data) of an event by its name; None: not in the log."""
        sql = "SELECT idx, CAST(data AS BLOB) FROM leaf WHERE emitter = ? AND seq = ?"
        with schema.translated("audit log", "read"):
            row = self._connection.execute(sql, (emitter, seq)).fetchone()
        return None if row is None or row[1] is None else (int(row[0]), bytes(row[1]))

    def faults(self) -> Sequence[str]:
        """What the store finds wrong with its own structure; nothing: sound."""
        found = [str(row[0]) for row in self._rows("PRAGMA integrity_check(10)") if row[0] != "ok"]
        with schema.translated("audit log", "read"):
            expected, stored = self._expected(), schema.objects(self._connection)
        for kind, name in sorted(expected.keys() | stored.keys()):
            # ANALYZE adds these; they hold no events. A trigger of that name would act.
            if kind == "table" and name in _STATISTICS:
                continue
            if expected.get((kind, name), "") != stored.get((kind, name), ""):
                found.append(f"{kind} {name} is not as this release makes it")
        sql = f"SELECT {ASIDE} FROM aside WHERE value IS NOT NULL ORDER BY subject, h"  # noqa: S608 - a constant
        return [*found, *aside_faults(self._rows(sql), self._subjects)]

    def _expected(self) -> Mapping[tuple[str, str], str | None]:
        """What a log of the format that it says it has consists of; nothing: there is none such."""
        row = self._connection.execute("SELECT format FROM log").fetchone()
        number = row[0] if row is not None and isinstance(row[0], int) else 0
        return schema.expected_objects(number) if number in schema.STEPS else {}

    def _log(self) -> tuple[str, int, bytes]:
        return log_in(self._rows("SELECT origin, size, edge FROM log"))

    def _rows(self, sql: str) -> Iterator[Any]:
        # Not `yield from`: it would close the cursor, perhaps after the connection.
        with schema.translated("audit log", "read"):
            for row in self._connection.execute(sql):  # noqa: UP028 - as above
                yield row
