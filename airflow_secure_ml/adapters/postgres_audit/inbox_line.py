"""A sender's end of the inbox: an emitter's frames as rows that its login can only add.

What was sent without an answer is sent again over a new session, and the sequencer drops what it
has. An advisory lock tells the sequencer that the emitter lives, for as long as its session lasts.

Source: AUDIT_TRAIL, When it is durable; PostgreSQL, "Advisory Locks" and "Write Ahead Log".
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from airflow_secure_ml.adapters.postgres_audit.connecting import Login, connect
from airflow_secure_ml.adapters.postgres_audit.failures import translated
from airflow_secure_ml.core.audit.frame import EVENT, cut_frames
from airflow_secure_ml.core.audit.lines import Patience, not_durable
from airflow_secure_ml.errors import (
    ConfigurationError,
    SecureMLError,
    ServiceUnavailableError,
)

if TYPE_CHECKING:
    from psycopg import Connection

# A server that is started anew is there again within some seconds.
PATIENCE_S: Final = 10.0
_RETRY_S: Final = 0.1
# Longer than a slow disk takes, shorter than anybody waits for a page.
_ANSWER_MS: Final = 30_000
# The table's own limit is 1 MiB.
MAX_ROW_BYTES: Final = 1 << 20
# Beside the emitter's own number: "asml".
LOCK_CLASS: Final = int.from_bytes(b"asml", "big")
_INSERT = "INSERT INTO asml_trail.inbox(emitter, seq, frames) VALUES (%s, %s, %s)"

# Sessions of a parent process, or on a descriptor that is another file's by now: ending them
# would end what is not ours, and so would forgetting them.
_LEFT: list[Any] = []


def lock_number(emitter: str) -> int:
    """The lock that stands for an emitter, a signed 32-bit number; two may share one."""
    return int.from_bytes(bytes.fromhex(emitter)[-4:], "big", signed=True)


class InboxLines:
    """Gives each emitter its line to the inbox.

    Args:
        login: How the database is reached.
        patience_s: How long to wait for a server that does not answer.
    """

    def __init__(self, login: Login, *, patience_s: float = PATIENCE_S) -> None:
        self._login, self._patience_s = login, patience_s

    def open(self, emitter: str) -> InboxLine:
        """A line for a new emitter; it connects with its first frames."""
        return InboxLine(self._login, emitter, patience_s=self._patience_s)

    def unavailable(self, found: str) -> ServiceUnavailableError:
        """What to raise where it does not take what it should."""
        advice = "see [secure_ml] audit_inbox and audit_inbox_passfile"
        return not_durable("audit inbox", self._login.address, found, advice)


class InboxLine:
    """One emitter's line to the inbox. Not safe from many threads: the sink's lock is.

    Args:
        login: How the database is reached.
        emitter: 32 hex digits.
        patience_s: How long to wait for a server that does not answer.
    """

    def __init__(self, login: Login, emitter: str, *, patience_s: float = PATIENCE_S) -> None:
        self._login, self._emitter = login, emitter
        self._patience = Patience(patience_s, time.monotonic)
        self._session: Connection[Any] | None = None
        self._identity: tuple[int, int] | None = None
        self._pid = 0
        # Set before anything is sent, cleared when it is answered: an exception may strike
        # between, and what the session is then in the middle of nobody knows.
        self._is_pending = False

    def write(self, frames: bytes, *, wait: bool) -> None:
        """Add frames; the same bytes again if it failed. Durable with and without `wait`.

        Args:
            frames: Everything since the last call that returned with `wait`.
            wait: Whether to be patient with a server that does not answer.

        Raises:
            OSError: They are not taken, or nobody is there to take them.
        """
        rows = [(self._emitter, seq, data) for seq, data in rows_of(frames)]
        with self._patience.turn(wait=wait) as until:
            while not self._is_sent(rows, until):
                time.sleep(_RETRY_S)

    def close(self) -> None:
        """End the session; in a forked child the parent's stays as it is."""
        self._drop()

    def _is_sent(self, rows: list[tuple[str, int, bytes]], until: float) -> bool:
        try:
            self._send(rows)
        except SecureMLError as error:
            self._drop()
            is_over = time.monotonic() >= until
            if is_over or not isinstance(error, ServiceUnavailableError):
                raise OSError(errno.EIO, str(error)) from error
            return False
        return True

    def _send(self, rows: list[tuple[str, int, bytes]]) -> None:
        if self._is_pending or not self._is_ours():
            self._drop()
        self._is_pending = True
        session = self._connected()
        with translated("add"), session.transaction():
            session.cursor().executemany(_INSERT, rows)
        self._is_pending = False

    def _connected(self) -> Connection[Any]:
        if self._session is None:
            session = connect(self._login, writes=True)
            self._session, self._pid = session, os.getpid()
            found = os.fstat(session.fileno())
            self._identity = (found.st_dev, found.st_ino)
            with translated("add"):
                session.execute(f"SET statement_timeout = {_ANSWER_MS}")
                _check_durable(session)
                # Shared, and not waited for: nobody can keep an emitter from being heard by it.
                key = (LOCK_CLASS, lock_number(self._emitter))
                session.execute("SELECT pg_try_advisory_lock_shared(%s::int, %s::int)", key)
        return self._session

    def _is_ours(self) -> bool:
        return self._session is None or _is_same(self._session, self._identity)

    def _drop(self) -> None:
        session, self._session = self._session, None
        self._is_pending = False
        if session is None or session.closed:
            return
        is_held = _is_same(session, self._identity)
        if self._pid == os.getpid() and is_held:
            session.close()
            return
        _LEFT.append(session)
        if is_held:
            # Only this child's copy: what the parent says over it is the parent's.
            os.close(session.fileno())


def _is_same(session: Connection[Any], identity: tuple[int, int] | None) -> bool:
    """Tell whether the descriptor is still this session's: code in this process may close any."""
    if session.closed:
        return False
    try:
        found = os.fstat(session.fileno())
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == identity


def rows_of(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut frames into rows: (number of the first event in it, bytes).

    Args:
        frames: Whole frames, each at most 32 KiB, as an emitter wrote them.
    """
    for found, data in cut_frames(frames, MAX_ROW_BYTES):
        first = next((frame for frame in found if frame.kind == EVENT), None)
        yield 0 if first is None else int(json.loads(first.payload)["seq"]), data


def _check_durable(session: Connection[Any]) -> None:
    """See to it that what is confirmed is on the disk: the task goes on upon that word."""
    sql = "SELECT current_setting('fsync'), current_setting('synchronous_commit')"
    fsync, commit = session.execute(sql).fetchone() or ("off", "off")
    if fsync == "off":
        raise ConfigurationError(
            "audit_inbox: the server has fsync = off and would confirm events that are not on "
            "its disk; set it to on"
        )
    if commit == "off":
        # Any login may set this one; a stronger one, with a standby, stays.
        session.execute("SET synchronous_commit = on")
