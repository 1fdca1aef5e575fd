"""The relay's book: `relay.db`, a SQLite file beside the log and never in it.

Nothing in it is believed by whoever verifies: cosignatures and stamps prove themselves, and an
anchor is read from its store. Lost, it is made again; witnesses tell what they know.

Format 1: `PRAGMA user_version`; a file of another one is refused.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from airflow_secure_ml.core.audit.relaying import Anchored, Cosigned, Stamped, Trouble
from airflow_secure_ml.errors import FormatError, ServiceUnavailableError

BOOK_FILE = "relay.db"
FORMAT = 1
_BUSY_S = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS cosigned(size INTEGER, witness TEXT, line TEXT NOT NULL,
  time_s INT NOT NULL, PRIMARY KEY(witness, size)) STRICT;
CREATE INDEX IF NOT EXISTS cosigned_size ON cosigned(size);
CREATE TABLE IF NOT EXISTS anchored(size INTEGER, uri TEXT, version TEXT NOT NULL,
  until_ms INT NOT NULL, time_ms INT NOT NULL, PRIMARY KEY(uri, version)) STRICT;
CREATE TABLE IF NOT EXISTS stamped(size INTEGER PRIMARY KEY, note TEXT NOT NULL,
  response BLOB NOT NULL, time_ms INT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS cursor(job TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS trouble(job TEXT PRIMARY KEY, because TEXT NOT NULL,
  since_ms INT NOT NULL, told TEXT NOT NULL) STRICT;
"""
_COSIGNED = "SELECT size, witness, line, time_s FROM cosigned"


class SqliteBook:
    """The book as a file. A `core.audit.relaying.RelayBook`.

    Each call has a connection of its own: calls are seldom, threads and processes many.

    Args:
        path: The file; made, mode 0600, by the first call that keeps something. While there is
            none, every question finds nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def cosigned(self, size: int) -> Sequence[Cosigned]:
        """Every cosignature over the checkpoint of that size, by witness."""
        rows = self._read(f"{_COSIGNED} WHERE size = ? ORDER BY witness", size)
        return [Cosigned(size=a, witness=b, line=c, time_s=d) for a, b, c, d in rows]

    def last_cosigned(self, witness: str) -> Cosigned | None:
        """A witness's newest, by size."""
        rows = self._read(f"{_COSIGNED} WHERE witness = ? ORDER BY size DESC LIMIT 1", witness)
        found = [Cosigned(size=a, witness=b, line=c, time_s=d) for a, b, c, d in rows]
        return found[0] if found else None

    def keep_cosigned(self, found: Cosigned) -> None:
        """Keep one, durably."""
        values = (found.size, found.witness, found.line, found.time_s)
        self._write("INSERT OR REPLACE INTO cosigned VALUES(?, ?, ?, ?)", *values)

    def anchors(self, limit: int) -> Sequence[Anchored]:
        """The newest anchors, newest first."""
        rows = self._read(
            "SELECT size, uri, version, until_ms, time_ms FROM anchored "
            "ORDER BY time_ms DESC, size DESC LIMIT ?",
            limit,
        )
        return [Anchored(size=a, uri=b, version=c, until_ms=d, time_ms=e) for a, b, c, d, e in rows]

    def keep_anchored(self, found: Anchored) -> None:
        """Keep one, durably."""
        values = (found.size, found.uri, found.version, found.until_ms, found.time_ms)
        self._write("INSERT OR REPLACE INTO anchored VALUES(?, ?, ?, ?, ?)", *values)

    def stamps(self, limit: int) -> Sequence[Stamped]:
        """The newest stamps, newest first."""
        rows = self._read(
            "SELECT size, note, response, time_ms FROM stamped ORDER BY size DESC LIMIT ?", limit
        )
        return [Stamped(size=a, note=b, response=c, time_ms=d) for a, b, c, d in rows]

    def keep_stamped(self, found: Stamped) -> None:
        """Keep one, durably."""
        values = (found.size, found.note, found.response, found.time_ms)
        self._write("INSERT OR REPLACE INTO stamped VALUES(?, ?, ?, ?)", *values)

    def cursor(self, job: str) -> str | None:
        """What a job remembers of itself; None: nothing yet."""
        rows = self._read("SELECT value FROM cursor WHERE job = ?", job)
        return rows[0][0] if rows else None

    def move(self, job: str, cursor: str) -> None:
        """Remember it, durably."""
        self._write("INSERT OR REPLACE INTO cursor VALUES(?, ?)", job, cursor)

    def troubles(self) -> Sequence[Trouble]:
        """What keeps jobs from their work now."""
        rows = self._read("SELECT job, because, since_ms, told FROM trouble ORDER BY job")
        return [Trouble(job=a, because=b, since_ms=c, told=d) for a, b, c, d in rows]

    def set_trouble(self, trouble: Trouble) -> None:
        """Remember a job's trouble in the place of an older one."""
        values = (trouble.job, trouble.because, trouble.since_ms, trouble.told)
        self._write("INSERT OR REPLACE INTO trouble VALUES(?, ?, ?, ?)", *values)

    def end_trouble(self, job: str) -> None:
        """Forget a job's trouble, if it has one."""
        self._write("DELETE FROM trouble WHERE job = ?", job)

    def _read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        if not self._path.exists():
            return []
        with self._open(f"file:{_quoted(self._path)}?mode=ro") as database:
            # Just made, or by a process that was killed before it wrote anything: no tables yet.
            if database.execute("PRAGMA user_version").fetchone()[0] == 0:
                return []
            return database.execute(statement, values).fetchall()

    def _write(self, statement: str, *values: object) -> None:
        # SQLite would make it with whatever mode the process's umask gives.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        with self._open(f"file:{_quoted(self._path)}?mode=rw") as database:
            database.executescript(_SCHEMA)
            database.execute(f"PRAGMA user_version = {FORMAT}")
            with database:
                database.execute(statement, values)

    @contextmanager
    def _open(self, uri: str) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S)) as database:
                # EXTRA: with a rollback journal, FULL does not sync the directory.
                database.execute("PRAGMA synchronous = EXTRA")
                found = database.execute("PRAGMA user_version").fetchone()[0]
                if found not in (0, FORMAT):
                    raise FormatError(f"{self._path}: format {found}, this release reads {FORMAT}")
                yield database
        except sqlite3.Error as error:
            raise ServiceUnavailableError(
                service="relay book", action=f"use {self._path}", reason=str(error)
            ) from error


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
