"""What the reconciler asks of the trail, in pages of bounded length.

Source: AUDIT_TRAIL, "Was everything recorded?".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.errors import AuditLogError
from airflow_secure_ml.services.airflow_acts import Seen, seen_row
from airflow_secure_ml.services.coverage import BAD_ENDS

if TYPE_CHECKING:
    from airflow_secure_ml.core.audit.ports import AuditReader

PAGE = 1000
# The newest checks that are looked at.
_CHECKS = 50
_FIRST = (-(2**53), -1)

Event = Mapping[str, Any]


class TrailSide:
    """A log, as the reconciler reads it.

    Args:
        reader: The log.
    """

    def __init__(self, reader: AuditReader) -> None:
        self._reader = reader
        self._declared: dict[str, _Declarations] = {}

    def events(self, query: EventQuery) -> Iterator[Event]:
        """Every event that matches, oldest first by time."""
        after = _FIRST
        while True:
            page = self._reader.page(query, newer_than=after, limit=PAGE)
            for leaf in reversed(page):
                yield leaf.event
            if len(page) < PAGE:
                return
            after = (_time(page[0].event), page[0].index)

    def begin_ms(self) -> int | None:
        """When the log began, ms since 1970 UTC; None: it has not."""
        leaf = self._reader.leaf(0)
        return None if leaf is None else _time(leaf.event)

    def checked_until_ms(self, begin_ms: int, now_ms: int) -> int:
        """Up to when everything since a time was checked; a later period alone says nothing of it.

        Args:
            begin_ms: When the log began.
            now_ms: What ends after this, a clock said that was ahead; it is passed over.
        """
        page = self._reader.page(EventQuery(acts=("coverage.check",)), limit=_CHECKS)
        found = [_checked(leaf.event) for leaf in reversed(page)]
        known = [period for period in found if period is not None and period[1] <= now_ms]
        # Of more than are looked at, the oldest went on from those before it.
        until = known[0][0] if known and len(page) == _CHECKS else begin_ms
        for start, end in known:
            if start <= until:
                until = max(until, end)
        return until

    def of_try(self, ti: str) -> Iterator[Event]:
        """Every event of a try."""
        return self.events(EventQuery(ti=ti))

    def named_in(self, from_ms: int, until_ms: int) -> Mapping[str, Event]:
        """The tries that events of a period name, each with its first `run`."""
        found: dict[str, Event] = {}
        for event in self.events(EventQuery(from_ms=from_ms, until_ms=until_ms)):
            run = event.get("run")
            # An alert is about a DAG run, and not said by a try.
            if isinstance(run, Mapping) and isinstance(run.get("ti"), str):
                found.setdefault(run["ti"], run)
        return found

    def ends(self, from_ms: int) -> Mapping[str, tuple[int, str]]:
        """How the sequencer found emitters ended since a time: (when, how), the newest."""
        query = EventQuery(acts=("trail.emitter",), from_ms=from_ms)
        found: dict[str, tuple[int, str]] = {}
        for event in self.events(query):
            more = event.get("more", {})
            if more.get("state") in ("whole", *BAD_ENDS):
                found[str(more.get("emitter"))] = (_time(event), str(more["state"]))
        return found

    def emitter(self, emitter: str) -> Event:
        """An emitter's first event; nothing in it if the log has none."""
        leaf = self._reader.find(f"{emitter}:0")
        return {} if leaf is None else leaf.event

    def alerts(self) -> Iterator[Event]:
        """Every alert that was raised or closed, oldest first."""
        return self.events(EventQuery(acts=("alert.raise", "alert.close")))

    def seen_rows(self, from_ms: int) -> set[Seen]:
        """The rows of Airflow's that user.act events since a time were read from."""
        # Both words hold it; the text narrows what has to be read.
        query = EventQuery(acts=("user.act",), from_ms=from_ms, text="_id")
        rows = (seen_row(event.get("more", {})) for event in self.events(query))
        return {row for row in rows if row is not None}

    def is_declared(self, dag: str, task: str, at_ms: int | None) -> bool:
        """Whether a DAG's file said, at a time, that a task is secured."""
        if dag not in self._declared:
            found = list(self.events(EventQuery(acts=("dag.declare",), dag=dag)))
            self._declared[dag] = _Declarations([self._shown(event) for event in found])
        return at_ms is not None and task in self._declared[dag].at(at_ms)

    def _shown(self, event: Event) -> Event:
        """An event whose names of tasks can be read, as far as they were not erased."""
        more = event.get("more", {})
        names = [self._text(name) for name in more.get("secured", ())]
        return {**event, "more": {**more, "secured": [name for name in names if name]}}

    def _text(self, found: object) -> str | None:
        if isinstance(found, str):
            return found
        h = found.get("h") if isinstance(found, Mapping) else None
        return self._reader.reveal(h) if isinstance(h, str) else None


class _Declarations:
    """What a DAG's file declared over time; one version may be several events."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._times = [_time(event) for event in events]
        self._names: list[frozenset[str]] = []
        version, names = None, frozenset[str]()
        for event in events:
            more = event["more"]
            is_more = more.get("version") == version
            names = (names if is_more else frozenset()) | frozenset(more["secured"])
            version = more.get("version")
            self._names.append(names)

    def at(self, at_ms: int) -> frozenset[str]:
        place = bisect_right(self._times, at_ms)
        return self._names[place - 1] if place else frozenset()


def _checked(event: Event) -> tuple[int, int] | None:
    more = event.get("more", {})
    start, end = more.get("from_ms"), more.get("until_ms")
    return (start, end) if isinstance(start, int) and isinstance(end, int) else None


def _time(event: Event) -> int:
    found = event.get("time")
    if not isinstance(found, int):
        raise AuditLogError("audit log: an event's time is no number; run `audit verify`")
    return found
