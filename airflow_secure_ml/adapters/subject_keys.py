"""The keys of those whom hidden values name, in a SQLite file of its own.

It lies apart from the log, so that a copy of the log names nobody. Names are found by an HMAC; a
destroyed key's row is overwritten. A file system that keeps old blocks, or a copy of this very
file, keeps what was erased.

Source: AUDIT_TRAIL, Event (hidden values).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from airflow_secure_ml.core.audit.subject import KEY_BYTES, Subject
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, ServiceUnavailableError

FILE = "subjects.db"
BUSY_S = 10.0
ID_BYTES = 16
_LABEL = b"asml/v1/subject\0"
_SCHEMA = """
CREATE TABLE names(secret BLOB NOT NULL) STRICT;
CREATE TABLE subject(tag BLOB PRIMARY KEY, id TEXT NOT NULL UNIQUE, key BLOB NOT NULL) STRICT;
"""


class SubjectKeys:
    """The subjects of one log; safe from many threads and processes.

    Args:
        path: The file; made 0600, in a directory 0700, when a first subject is added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def subjects(self, values: Collection[str]) -> Mapping[str, Subject]:
        """The subject of each value, made durable first where there was none.

        Raises:
            ConfigurationError: Others than its owner may read the file.
            ServiceUnavailableError: It cannot be read or written now.
            AuditLogError: It is not what this module wrote.
        """
        if not values:
            return {}
        with self._open(make=True) as file:
            file.execute("BEGIN IMMEDIATE")
            if _is_empty(file):
                _make_tables(file)
            secret = self._secret(file)
            found = {}
            for value in values:
                tag = _tag(secret, value)
                subject = _row(file, "tag = ?", tag)
                if subject is None:
                    key = secrets.token_bytes(KEY_BYTES)
                    subject = Subject(id=secrets.token_hex(ID_BYTES), key=key)
                    file.execute("INSERT INTO subject VALUES (?, ?, ?)", (tag, subject.id, key))
                found[value] = subject
            file.execute("COMMIT")
            return found

    def named(self, value: str) -> Subject | None:
        """The subject that a value names; None: none, or erased. Errors as in `subjects`."""
        if not self._path.exists():
            return None
        with self._open() as file:
            if _is_empty(file):
                return None
            return _row(file, "tag = ?", _tag(self._secret(file), value))

    def subject(self, subject_id: str) -> Subject | None:
        """A subject by its id; None: erased.

        Raises:
            ConfigurationError: The file is not here; others as in `subjects`.
        """
        if not self._path.exists():
            raise ConfigurationError(
                f"subject keys {self._path}: no such file; what this log's hidden values hide can "
                "only be told where its sequencer runs, or with [secure_ml] audit_subjects_dir at "
                "its directory"
            )
        with self._open() as file:
            return None if _is_empty(file) else _row(file, "id = ?", subject_id)

    def destroy(self, subject_id: str) -> bool:
        """Destroy a subject's key, and by what it was found; False: there was none."""
        if not self._path.exists():
            return False
        with self._open() as file:
            if _is_empty(file):
                return False
            return file.execute("DELETE FROM subject WHERE id = ?", (subject_id,)).rowcount > 0

    @contextmanager
    def _open(self, *, make: bool = False) -> Iterator[sqlite3.Connection]:
        if make and not self._path.exists():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite would use the umask; its journal takes this file's mode.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            os.close(os.open(self._path, flags, 0o600))
        _check_private(self._path)
        try:
            connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
            try:
                # What is deleted is overwritten, in the file and in its journal.
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute("PRAGMA journal_mode = DELETE")
                connection.execute("PRAGMA synchronous = EXTRA")
                yield connection
            finally:
                connection.close()
        except sqlite3.OperationalError as error:
            raise ServiceUnavailableError(
                service="subject keys",
                action="read",
                reason=f"{self._path}: {error}",
                why="audit_unavailable",
            ) from error
        except sqlite3.DatabaseError as error:
            raise AuditLogError(f"subject keys {self._path}: SQLite says: {error}") from error

    def _secret(self, file: sqlite3.Connection) -> bytes:
        """What names are found by."""
        rows = file.execute("SELECT secret FROM names").fetchall()
        if len(rows) != 1 or len(rows[0][0]) != KEY_BYTES:
            raise AuditLogError(f"subject keys {self._path}: not as this release makes it")
        return bytes(rows[0][0])


def _is_empty(file: sqlite3.Connection) -> bool:
    """Whether it has no tables: whoever made the file was killed before it made them."""
    return not file.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]


def _make_tables(file: sqlite3.Connection) -> None:
    """Make the tables and the secret, in the transaction that is open."""
    for statement in _SCHEMA.split(";"):
        file.execute(statement)
    file.execute("INSERT INTO names VALUES (?)", (secrets.token_bytes(KEY_BYTES),))


def _tag(secret: bytes, value: str) -> bytes:
    return hmac.digest(secret, _LABEL + value.encode("utf-8"), hashlib.sha256)


def _row(file: sqlite3.Connection, condition: str, value: bytes | str) -> Subject | None:
    sql = f"SELECT id, key FROM subject WHERE {condition}"  # noqa: S608 - a constant of this module
    row = file.execute(sql, (value,)).fetchone()
    return None if row is None else Subject(id=row[0], key=bytes(row[1]))


def _check_private(path: Path) -> None:
    found = os.stat(path, follow_symlinks=False)
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode) or mode & 0o077 or found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"subject keys {path}: mode {mode:04o}, owner {found.st_uid}; expected a plain file "
            f"for uid {os.geteuid()} alone: chmod go= and chown it"
        )
