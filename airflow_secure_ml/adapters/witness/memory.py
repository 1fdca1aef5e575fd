"""What a witness cosigned last, in a SQLite file: on disk before the witness signs.

An older copy of this file put back would let the witness cosign a second history: it is the one
thing on its host that must not be restored from a backup.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from airflow_secure_ml.core.audit.checkpoint import Checkpoint
from airflow_secure_ml.core.audit.tree import EMPTY_ROOT
from airflow_secure_ml.errors import FormatError, ServiceUnavailableError

MEMORY_FILE = "witness.db"
FORMAT = 1
_BUSY_S = 10.0
_SCHEMA = "CREATE TABLE IF NOT EXISTS tree(origin TEXT PRIMARY KEY, size INT, root BLOB) STRICT"


class SqliteMemory:
    """A witness's memory. What `services.cosigning.WitnessMemory` asks for.

    Args:
        directory: The witness's directory.

    Raises:
        FormatError: The file is of another format.
        ServiceUnavailableError: It cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / MEMORY_FILE
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(self._path, flags, 0o600))
        with self._open() as database:
            found = database.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, FORMAT):
                raise FormatError(f"{self._path}: format {found}, this release reads {FORMAT}")
            database.execute(_SCHEMA)
            database.execute(f"PRAGMA user_version = {FORMAT}")

    def last(self, origin: str) -> tuple[int, bytes]:
        """Size and root; 0 and the empty tree's root if it never cosigned this log."""
        with self._open() as database:
            row = database.execute("SELECT size, root FROM tree WHERE origin = ?", (origin,))
            found = row.fetchone()
        return (0, EMPTY_ROOT) if found is None else (int(found[0]), bytes(found[1]))

    def advance(self, old: Checkpoint, new: Checkpoint) -> bool:
        """Put `new` in the place of `old`, durably; False: something else is there."""
        with self._open() as database, database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT OR IGNORE INTO tree VALUES(?, 0, ?)", (new.origin, EMPTY_ROOT))
            changed = database.execute(
                "UPDATE tree SET size = ?, root = ? WHERE origin = ? AND size = ? AND root = ?",
                (new.size, new.root, new.origin, old.size, old.root),
            )
            return changed.rowcount == 1

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=_BUSY_S)) as database:
                database.isolation_level = None
                # EXTRA: with a rollback journal, FULL does not sync the directory.
                database.execute("PRAGMA synchronous = EXTRA")
                yield database
        except sqlite3.Error as error:
            raise ServiceUnavailableError(
                service="witness", action=f"use {self._path}", reason=str(error)
            ) from error
