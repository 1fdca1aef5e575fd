"""Tell somebody of each new alert, in order, from where the last one was taken.

At least once: the cursor moves past an alert only after it was taken. More evidence of an open
alert is told nobody again, and what was raised before this began neither.

Source: README, Buffered and fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from airflow_secure_ml.core.alerts.evaluating import ABOUT
from airflow_secure_ml.core.alerts.levels import LEVELS, level_of
from airflow_secure_ml.core.audit.event_fields import name_of, part, text
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.relaying import RelayBook
from airflow_secure_ml.core.audit.siem import Cursor, parse_cursor
from airflow_secure_ml.errors import AuditLogError
from airflow_secure_ml.services.log_cursor import broken_cursor
from airflow_secure_ml.services.relaying import Rest

PACE_S = 1.0
MAX_LEAVES = 500
JOB = "alert notifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAlert:
    """An alert as somebody is told of it; texts may hold what a task wrote.

    Attributes:
        name: The event that raised it.
        level: How grave it is.
        rule: The rule's name; empty: a check of the trail's own raised it.
        title: What happened, in a few words.
        subject: About what.
        dag: The DAG; empty: none.
        count: How many events it rests on.
        time_ms: When, ms since 1970 UTC.
    """

    name: str
    level: str
    rule: str
    title: str
    subject: str
    dag: str
    count: int
    time_ms: int


class Notifier(Protocol):
    """Tells people, over whatever way."""

    def tell(self, alert: NewAlert) -> None:
        """Tell of one.

        Raises:
            ConfigurationError: There is no such notifier, or it is none.
            ServiceUnavailableError: It did not take it; tried again later.
        """


class NotifyJob:
    """Keeps a notifier up with the alerts. A `services.relaying.Job`.

    Args:
        notifier: Who is told.
        level: From this level on.
        reader: The log.
        book: Where the cursor is kept.
    """

    name, about = JOB, "notifier"

    def __init__(
        self, *, notifier: Callable[[], Notifier], level: str, reader: AuditReader, book: RelayBook
    ) -> None:
        self._make, self._least = notifier, LEVELS.index(level)
        self._reader, self._book = reader, book
        self._made: Notifier | None = None

    def step(self) -> Rest:
        """Tell of the new alerts among the next leaves.

        Raises:
            AuditLogError: The log is not the one that was read before, or a leaf is not there.
            FormatError: The book's cursor cannot be read.
            ConfigurationError: As `Notifier.tell`.
            ServiceUnavailableError: As `Notifier.tell`.
        """
        size = self._reader.size()
        cursor = self._cursor(size)
        stop = min(size, cursor.next + MAX_LEAVES)
        for index in range(cursor.next, stop):
            leaf = self._reader.leaf(index)
            if leaf is None:
                raise AuditLogError(f"{JOB}: leaf {index} of {size} is not there", index=index)
            alert = self._alert(leaf)
            cursor = replace(cursor, next=index + 1, last=leaf.hash)
            if alert is not None:
                self._tell(alert)
                self._book.move(JOB, cursor.encode())
        if self._book.cursor(JOB) != cursor.encode():
            self._book.move(JOB, cursor.encode())
        return Rest(seconds=0.0 if stop < size else PACE_S, is_done=stop >= size)

    def _tell(self, alert: NewAlert) -> None:
        if self._made is None:
            self._made = self._make()
        self._made.tell(alert)

    def _cursor(self, size: int) -> Cursor:
        kept = self._book.cursor(JOB)
        if kept is None:
            last = self._reader.leaf_hashes(size - 1, size)[0] if size else None
            return Cursor(origin=self._reader.origin(), next=size, last=last)
        cursor = parse_cursor(kept)
        problem = broken_cursor(self._reader, cursor, size)
        if problem:
            raise AuditLogError(
                f"{JOB}: {problem}; the log was rolled back, replaced or pruned. Look into the "
                "store; to begin anew, remove this job's row of table cursor in relay.db"
            )
        return cursor

    def _alert(self, leaf: Leaf) -> NewAlert | None:
        """The new alert that a leaf raises; None: none, or not grave enough."""
        event = leaf.event
        more = part(event, "more")
        if event.get("act") != "alert.raise" or more.get("part", 0) != 0:
            return None
        about = text(more.get("about"))
        level = level_of(more.get("level"), about)
        if LEVELS.index(level) < self._least:
            return None
        count, time_ms = more.get("count"), event.get("time")
        return NewAlert(
            name=name_of(event),
            level=level,
            rule=about.removeprefix(ABOUT) if about.startswith(ABOUT) else "",
            title=text(more.get("because")) or about,
            subject=text(more.get("subject")),
            dag=text(part(event, "run").get("dag")),
            count=count if isinstance(count, int) else 0,
            time_ms=time_ms if isinstance(time_ms, int) else 0,
        )
