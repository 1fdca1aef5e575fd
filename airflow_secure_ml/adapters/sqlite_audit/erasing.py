"""Remove rows of table aside from a log's file, and overwrite where they lay.

The one thing besides the sequencer that changes the file; nothing that a leaf's hash covers.

Source: AUDIT_TRAIL, Event (hidden values).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from airflow_secure_ml.adapters.sqlite_audit import schema

BUSY_S = 10.0


class SqliteEraser:
    """An AsideEraser over one file.

    Args:
        path: The log's file; nothing is erased where there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def erase_asides(self, subject: str | None, value: str) -> int:
        """Remove a subject's rows, and those that hold the value in the open; how many.

        Raises:
            ServiceUnavailableError: The file cannot be written now.
            AuditLogError: It is no log.
        """
        if not self._path.exists():
            return 0
        with schema.translated(f"audit log {self._path}", "erase"):
            connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
            with closing(connection):
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute("PRAGMA synchronous = FULL")
                found = connection.execute(
                    "DELETE FROM aside WHERE subject = ? OR (subject IS NULL AND value = ?)",
                    (subject, value),
                )
                # The journal beside the file holds pages as they were.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                return found.rowcount
