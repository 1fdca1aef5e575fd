"""Table aside of a log's file, as people are found in it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from airflow_secure_ml.core.audit.stored import aside_row
from airflow_secure_ml.core.audit.subject import AsideRow

ASIDE = "h, subject, CAST(salt AS BLOB), value"


class SqliteAsides:
    """An AsideRows over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def one(self, h: str) -> AsideRow | None:
        """The row of a hidden value."""
        found = self._rows("h = ?", h)
        return found[0] if found else None

    def many(self, hashes: Sequence[str]) -> Sequence[AsideRow]:
        """The rows of hidden values, by subject."""
        return self._rows("h IN (SELECT value FROM json_each(?))", json.dumps(hashes))

    def of_subject(self, subject: str) -> Sequence[AsideRow]:
        """The rows that one subject's key opens."""
        return self._rows("subject = ?", subject)

    def in_the_open(self, value: str) -> Sequence[AsideRow]:
        """The rows that hold a value in the open."""
        return self._rows("subject IS NULL AND value = ?", value)

    def any_subject(self) -> str | None:
        """The subject of some sealed row; None: there is none."""
        row = self._connection.execute("SELECT max(subject) FROM aside").fetchone()
        return None if row[0] is None else str(row[0])

    def _rows(self, condition: str, value: str) -> list[AsideRow]:
        sql = (
            f"SELECT {ASIDE} FROM aside WHERE value IS NOT NULL AND {condition} "  # noqa: S608 - constants
            "ORDER BY subject"
        )
        return [aside_row(row) for row in self._connection.execute(sql, [value])]
