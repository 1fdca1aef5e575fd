"""Which emitter is whose and how far it is, kept for ever in `collector.db`.

Written before a sender is told that its events are durable. After a power loss no sender of before
is left, so only who opened an emitter has to survive that.

Source: AUDIT_TRAIL, Producers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from airflow_secure_ml.core.audit.receiving import Place, Sender
from airflow_secure_ml.errors import FormatError

FORMAT = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS place(
  emitter TEXT PRIMARY KEY, pid INT NOT NULL, uid INT NOT NULL, start INT NOT NULL,
  boot TEXT NOT NULL, next_seq INT NOT NULL, last BLOB, is_closed INT NOT NULL
) STRICT, WITHOUT ROWID
"""


class Places:
    """A table of emitters; for one thread.

    Args:
        path: The file; made with mode 0600 if it is not there.

    Raises:
        FormatError: A later release wrote it.
        sqlite3.Error: It is damaged or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        run = self._database.execute
        run("PRAGMA journal_mode = WAL")
        self._is_full: bool | None = None
        found = run("PRAGMA user_version").fetchone()[0]
        if found not in {0, FORMAT}:
            raise FormatError(f"{path}: format {found}, this release reads {FORMAT}")
        run(_TABLE)
        run(f"PRAGMA user_version = {FORMAT}")

    def find(self, emitter: str) -> Place | None:
        """Where an emitter is; None: nobody has opened it."""
        row = self._database.execute(
            "SELECT pid, uid, start, boot, next_seq, last, is_closed FROM place WHERE emitter = ?",
            (emitter,),
        ).fetchone()
        if row is None:
            return None
        pid, uid, start, boot, next_seq, last, is_closed = row
        return Place(
            sender=Sender(pid=pid, uid=uid, start=start, boot=boot),
            next_seq=next_seq,
            last=last,
            is_closed=bool(is_closed),
        )

    def save(self, places: Mapping[str, Place], *, has_new: bool) -> None:
        """Keep where emitters are; it survives this process's end at any moment.

        Args:
            places: By emitter.
            has_new: One of them was not here before: then it survives a power loss, too.
        """
        run = self._database.execute
        if has_new is not self._is_full:
            run(f"PRAGMA synchronous = {'FULL' if has_new else 'NORMAL'}")
            self._is_full = has_new
        rows = [
            (
                emitter,
                place.sender.pid,
                place.sender.uid,
                place.sender.start,
                place.sender.boot,
                place.next_seq,
                place.last,
                int(place.is_closed),
            )
            for emitter, place in places.items()
        ]
        run("BEGIN IMMEDIATE")
        try:
            self._database.executemany(
                "INSERT INTO place VALUES (?,?,?,?,?,?,?,?) ON CONFLICT(emitter) DO UPDATE SET "
                "next_seq = excluded.next_seq, last = excluded.last, "
                "is_closed = excluded.is_closed",
                rows,
            )
            run("COMMIT")
        except BaseException:
            run("ROLLBACK")
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()
