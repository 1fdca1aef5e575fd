"""The inbox as the sequencer reads it: each row a segment whose stamp is the server's word.

A row stands alone, so rubbish in one hides nothing of another. Who sent an emitter's first event
is its only sender: where the log has it already, the log is asked.

Source: AUDIT_TRAIL, Spool and Sequencer.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.adapters.postgres_audit.connecting import Login, connect
from airflow_secure_ml.adapters.postgres_audit.failures import translated
from airflow_secure_ml.adapters.postgres_audit.inbox_line import LOCK_CLASS, lock_number
from airflow_secure_ml.core.audit.frame import STAMP, SegmentHeader, encode_frame, encode_header
from airflow_secure_ml.core.audit.ports import Segment
from airflow_secure_ml.core.audit.stamp import Stamp

if TYPE_CHECKING:
    from psycopg import Connection

log = logging.getLogger(__name__)

MAX_NEW_ROWS = 2000
MAX_FETCHED_BYTES = 4 << 20
# Numbers are given before a transaction ends, so a lower one may show later than a higher.
LATE_S = 10.0
# A session that was lost is made again within so long, if its process lives.
LINGER_S = 10.0

_NEW = (
    "SELECT n, emitter, sender::text, octet_length(frames) FROM asml_trail.inbox "
    "WHERE n > %s ORDER BY n LIMIT %s"
)
_ALL = "SELECT n FROM asml_trail.inbox WHERE n <= %s"
_SOME = (
    "SELECT n, emitter, sender::text, octet_length(frames) FROM asml_trail.inbox "
    "WHERE n = ANY(%s) ORDER BY n"
)
_HELD = (
    "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s "
    "AND objsubid = 2 AND database = (SELECT oid FROM pg_database "
    "WHERE datname = current_database())"
)
# OFFSET: min would else be looked for through the whole log.
_FOUND = (
    "SELECT e.id, l.data FROM unnest(%s::text[]) AS e(id) CROSS JOIN LATERAL "
    "(SELECT min(idx) AS idx FROM (SELECT idx FROM asml_trail.leaf WHERE emitter = e.id OFFSET 0) "
    "AS o) AS f LEFT JOIN asml_trail.leaf l ON l.idx = f.idx - 1 AND l.act = 'trail.emitter' "
    "WHERE f.idx IS NOT NULL"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row as a segment: `head`, then what lies in the table."""

    n: int
    emitter: str
    stamp: Stamp
    part: int
    size_bytes: int

    @property
    def head(self) -> bytes:
        return _head(self.emitter, self.part, self.stamp)


@dataclass(slots=True, kw_only=True)
class _Emitter:
    """An emitter with rows: who its sender is, when its lock was last seen held, its rows."""

    owner: Stamp
    held_s: float | None = None
    parts: int = 0
    rows: dict[int, _Row] = field(default_factory=dict)


class InboxSegments:
    """A SegmentSource over the inbox, without a place for what is refused.

    Args:
        login: The sequencer's.
        now_s: A clock that never goes back, seconds.
    """

    def __init__(self, login: Login, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._login, self._now_s = login, now_s
        self._session: Connection[Any] | None = None
        self._emitters: dict[str, _Emitter] = {}
        self._rows: dict[int, _Row] = {}
        self._newest, self._looked_s = 0, now_s() - LATE_S
        self._order: list[int] = []
        self._fetched: dict[int, bytes] = {}

    def scan(self) -> Sequence[Segment]:
        """Every row, by emitter and the order they were found in.

        Raises:
            ServiceUnavailableError: The database does not answer.
        """
        with self._working("read the inbox") as session:
            # The locks first: what is added before one is let go of is then among the rows.
            held = {number for (number,) in session.execute(_HELD, [LOCK_CLASS])}
            self._find(session)
        now_s = self._now_s()
        found: list[Segment] = []
        for name, emitter in sorted(self._emitters.items()):
            # As pg_locks shows it, without a sign.
            if lock_number(name) & 0xFFFFFFFF in held:
                emitter.held_s = now_s
            is_held = emitter.held_s is not None and now_s - emitter.held_s < LINGER_S
            found += _segments(name, emitter, is_held=is_held)
        self._order = [int(segment.token) for segment in found if segment.token.isdigit()]
        return found

    def read(self, token: str, at: int, length: int) -> bytes:
        """Up to `length` bytes of a row's segment from `at`; errors as in `scan`."""
        if not token.isdigit():
            return _owner_bytes(token, self._emitters[token.partition(":")[2]])[at : at + length]
        row = self._rows[int(token)]
        if row.n not in self._fetched:
            self._fetch(row.n)
        return (row.head + self._fetched.get(row.n, b""))[at : at + length]

    def remove(self, tokens: Collection[str]) -> None:
        """Delete rows that are whole in the log; errors as in `scan`."""
        numbers = [int(token) for token in tokens if token.isdigit()]
        if numbers:
            with self._working("empty the inbox") as session:
                session.execute("DELETE FROM asml_trail.inbox WHERE n = ANY(%s)", [numbers])
        for number in numbers:
            self._forget(number)

    def close(self) -> None:
        """Let go of the database; may be called twice."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _find(self, session: Connection[Any]) -> None:
        """Take up new rows, and now and then those whose transaction ended late."""
        if self._now_s() - self._looked_s >= LATE_S:
            self._looked_s = self._now_s()
            there = {n for (n,) in session.execute(_ALL, [self._newest])}
            for number in self._rows.keys() - there:
                self._forget(number)
            late = sorted(there - self._rows.keys())[:MAX_NEW_ROWS]
            self._take_up(session, session.execute(_SOME, [late]).fetchall())
        rows = session.execute(_NEW, [self._newest, MAX_NEW_ROWS]).fetchall()
        self._take_up(session, rows)
        if rows:
            self._newest = rows[-1][0]

    def _take_up(self, session: Connection[Any], rows: Sequence[tuple[int, str, str, int]]) -> None:
        strange = sorted({row[1] for row in rows} - self._emitters.keys())
        owners = {} if not strange else _owners(session, strange)
        for n, name, sender, length in rows:
            stamp = Stamp(via="inbox", login=sender)
            emitter = self._emitters.get(name)
            if emitter is None:
                emitter = self._emitters[name] = _Emitter(owner=owners.get(name, stamp))
            emitter.parts += 1
            size_bytes = len(_head(name, emitter.parts, stamp)) + length
            emitter.rows[n] = self._rows[n] = _Row(
                n=n, emitter=name, stamp=stamp, part=emitter.parts, size_bytes=size_bytes
            )

    def _forget(self, number: int) -> None:
        row = self._rows.pop(number, None)
        self._fetched.pop(number, None)
        if row is None:
            return
        emitter = self._emitters[row.emitter]
        del emitter.rows[number]
        if not emitter.rows:
            del self._emitters[row.emitter]

    def _fetch(self, number: int) -> None:
        """Fetch a row's frames, and those of the rows that will be asked for next."""
        at = self._order.index(number)
        numbers, left = [number], MAX_FETCHED_BYTES
        for following in self._order[at + 1 :]:
            row = self._rows.get(following)
            left -= 0 if row is None else row.size_bytes
            if left < 0:
                break
            numbers.append(following)
        sql = "SELECT n, frames FROM asml_trail.inbox WHERE n = ANY(%s)"
        with self._working("read the inbox") as session:
            rows = session.execute(sql, [numbers], binary=True).fetchall()
        self._fetched = {n: bytes(frames) for n, frames in rows}
        if number not in self._fetched:
            log.warning("audit inbox: row %d was deleted before it was in the log", number)

    @contextmanager
    def _working(self, action: str) -> Iterator[Connection[Any]]:
        if self._session is None:
            self._session = connect(self._login, writes=True)
        session = self._session
        try:
            with translated(action):
                yield session
        finally:
            if session.broken or session.closed:
                self.close()


def _head(emitter: str, part: int, stamp: Stamp) -> bytes:
    header = encode_header(SegmentHeader(emitter=emitter, part=part))
    return header + encode_frame(STAMP, stamp.encode())


def _segments(name: str, emitter: _Emitter, *, is_held: bool) -> Iterator[Segment]:
    rows = list(emitter.rows.values())
    if rows[0].stamp != emitter.owner:
        # Before anything of another sender's: a segment that says who the emitter belongs to.
        token = f"owner:{name}"
        size_bytes = len(_owner_bytes(token, emitter))
        yield _segment(token, name, 0, size_bytes, is_held=False)
    newest = rows[-1].n
    for row in rows:
        # A row is never added to: only the newest stands for what may still come.
        yield _segment(
            str(row.n), name, row.part, row.size_bytes, is_held=is_held and row.n == newest
        )


def _segment(token: str, emitter: str, part: int, size_bytes: int, *, is_held: bool) -> Segment:
    return Segment(
        token=token,
        emitter=emitter,
        part=part,
        owner_uid=None,
        is_held=is_held,
        size_bytes=size_bytes,
        is_stamped=True,
    )


def _owner_bytes(token: str, emitter: _Emitter) -> bytes:
    return _head(token.partition(":")[2], 0, emitter.owner)


def _owners(session: Connection[Any], emitters: Sequence[str]) -> dict[str, Stamp]:
    """Who sent each emitter that is in the log, as the log says."""
    rows = session.execute(_FOUND, [list(emitters)]).fetchall()
    return {name: _owner(name, data) for name, data in rows}


def _owner(name: str, data: str | None) -> Stamp:
    """The sender that a trail.emitter names; one that nobody can be, where it does not fit."""
    more = {} if data is None else json.loads(data).get("more", {})
    nobody = Stamp(via="socket", pid=0, uid=0)
    if more.get("emitter") != name or more.get("state") != "found":
        return nobody
    if more.get("via") == "inbox":
        return Stamp(via="inbox", login=more["login"])
    return nobody
