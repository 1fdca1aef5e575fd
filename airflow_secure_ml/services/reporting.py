"""The security report of a period: figures, each with the Events page's filter that makes it.

Pure over an AuditStore: the same log and period give the same report. A figure is what its own
filter counts, so that whoever follows it finds neither more nor less.

Source: PAGES, Alerts, Reports, Export.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.core.audit.checkpoint import Checkpoint
from airflow_secure_ml.core.audit.event_fields import name_of, part
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.services.report_figures import (
    DAY_MS,
    HEADLINE,
    REFUSED,
    SECTIONS,
    count_of,
    filter_of,
    query_of,
    stamp,
)

FORMAT = "asml-security-report/1"
MAX_BARS = 62
MAX_NAMED = 8
NEWEST = 12
_SAMPLE = 1000
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,249}", re.ASCII)
_WHY = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number, and the filter that makes it.

    Attributes:
        label: What was counted; of an event's own values, as the event holds them.
        count: How many events.
        is_exact: Whether these are all; else there are more.
        filter: The Events page's filter; empty: no filter says exactly this.
        tone: `bad` or `look` where a number above 0 wants a look; else empty.
    """

    label: str
    count: int
    is_exact: bool
    filter: str
    tone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of the report."""

    title: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One stretch of time.

    Attributes:
        label: When, as a reader says it.
        count: Events.
        refused: Those that were refused.
        filter: The filter that makes it.
    """

    label: str
    count: int
    refused: int
    filter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One event that was refused, as it says so itself."""

    event: str
    time_ms: int
    where: str
    act: str
    about: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the newest check of the period found; counts of task tries."""

    event: str
    recorded: int
    others: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a report shows.

    Attributes:
        origin: The log's name.
        from_ms: Where the period begins, ms since 1970 UTC.
        until_ms: The first moment after it.
        size: The log's size when this was counted.
        checkpoint: The newest checkpoint, if its signature holds.
        problem: Why it does not; empty: it does, or there is none yet.
        is_exact: Whether all events of the period were counted; else the newest `count_to`.
        count_to: How many events figures look at.
        headline: The period in a few numbers.
        bars: The period, piece by piece.
        bars_exact: Whether they were all counted; else they are an estimate.
        reasons: Why events were refused.
        dags: Whose events were refused.
        sections: The rest.
        refusals: The newest of them.
        coverage: Whether every task was recorded; None: nobody checked in this period.
    """

    origin: str
    from_ms: int
    until_ms: int
    size: int
    checkpoint: Checkpoint | None
    problem: str
    is_exact: bool
    count_to: int
    headline: tuple[Figure, ...]
    bars: tuple[Bar, ...]
    bars_exact: bool
    reasons: tuple[Figure, ...]
    dags: tuple[Figure, ...]
    sections: tuple[Section, ...]
    refusals: tuple[Refusal, ...]
    coverage: Coverage | None


def build_report(
    store: AuditStore,
    *,
    from_ms: int,
    until_ms: int,
    checkpoint: Checkpoint | None,
    problem: str = "",
    count_to: int,
) -> Report:
    """Count a period.

    Args:
        store: The log.
        from_ms: Where the period begins, ms since 1970 UTC.
        until_ms: The first moment after it.
        checkpoint: The newest checkpoint, its signature checked; None: none holds.
        problem: Why none does.
        count_to: How many events are looked at, the newest of the period; a page has less time
            than a task. Of more, figures are lower bounds and say so.

    Raises:
        AuditLogError: The log is damaged.
        ServiceUnavailableError: It cannot be read now, or not as fast as the reader was told.
    """
    every = query_of("", from_ms=from_ms, until_ms=until_ms)
    counting = _Counting(
        store=store,
        from_ms=from_ms,
        until_ms=until_ms,
        count_to=count_to,
        kinds=store.kind_counts(every, at_most=count_to + 1),
    )
    bars, bars_exact = counting.bars()
    refused = counting.newest(REFUSED, limit=_SAMPLE)
    return Report(
        origin=store.origin(),
        from_ms=from_ms,
        until_ms=until_ms,
        size=store.size(),
        checkpoint=checkpoint,
        problem=problem,
        is_exact=counting.is_exact,
        count_to=count_to,
        headline=tuple(counting.figures(HEADLINE)),
        bars=bars,
        bars_exact=bars_exact,
        reasons=counting.reasons(refused),
        dags=counting.dags(),
        sections=tuple(
            Section(title=title, figures=tuple(counting.figures(rows))) for title, rows in SECTIONS
        ),
        refusals=tuple(_refusal(leaf.event) for leaf in refused[:NEWEST]),
        coverage=counting.coverage(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counting:
    """Counts one period of a log.

    Attributes:
        store: The log.
        from_ms: Where the period begins, ms since 1970 UTC.
        until_ms: The first moment after it.
        count_to: How many events were looked at.
        kinds: How many of them are of each (activity, result).
    """

    store: AuditStore
    from_ms: int
    until_ms: int
    count_to: int
    kinds: Mapping[tuple[str, str], int]

    @property
    def is_exact(self) -> bool:
        return sum(self.kinds.values()) <= self.count_to

    def figures(self, rows: Sequence[tuple[str, str, str]]) -> Iterator[Figure]:
        for label, words, tone in rows:
            count = count_of(words, self.kinds)
            yield Figure(
                label=label,
                count=count,
                is_exact=self.is_exact,
                filter=self.filter(words),
                tone=tone if count else "",
            )

    def figure(self, label: str, words: str, *, tone: str = "") -> Figure:
        count = self.store.count(self.query(words), at_most=self.count_to + 1)
        return Figure(
            label=label,
            count=min(count, self.count_to),
            is_exact=count <= self.count_to,
            filter=self.filter(words),
            tone=tone if count else "",
        )

    def newest(self, words: str, *, limit: int) -> Sequence[Leaf]:
        return self.store.page(self.query(words), limit=limit)

    def query(self, words: str) -> EventQuery:
        """What the Events page asks the store for these words; a test holds both equal."""
        return query_of(words, from_ms=self.from_ms, until_ms=self.until_ms)

    def filter(self, words: str) -> str:
        return filter_of(words, from_ms=self.from_ms, until_ms=self.until_ms)

    def bars(self) -> tuple[tuple[Bar, ...], bool]:
        length = self.until_ms - self.from_ms
        buckets = 24 if length <= DAY_MS else min(-(-length // DAY_MS), MAX_BARS)
        within = {"from_ms": self.from_ms, "until_ms": self.until_ms, "buckets": buckets}
        events = self.store.histogram(EventQuery(), **within)
        refused = self.store.histogram(self.query(REFUSED), **within)
        made = []
        for number, ((count, _), (no, _)) in enumerate(zip(events.bars, refused.bars, strict=True)):
            begin = events.from_ms + number * events.bucket_ms
            end = min(begin + events.bucket_ms, self.until_ms)
            words = filter_of("", from_ms=begin, until_ms=end)
            label = stamp(begin) if events.bucket_ms <= DAY_MS else f"from {stamp(begin)}"
            made.append(Bar(label=label, count=max(count, no), refused=no, filter=words))
        return tuple(made), events.is_exact and refused.is_exact

    def reasons(self, refused: Sequence[Leaf]) -> tuple[Figure, ...]:
        """The reasons of the newest refusals, each counted in the whole period."""
        whys = Counter(str(leaf.event.get("why")) for leaf in refused)
        named = [why for why, _ in sorted(whys.items(), key=lambda w: (-w[1], w[0]))]
        figures = (
            self.figure(why, f"{REFUSED} {why}", tone="bad")
            for why in named[:MAX_NAMED]
            if _WHY.fullmatch(why)
        )
        return tuple(sorted(figures, key=lambda figure: (-figure.count, figure.label)))

    def dags(self) -> tuple[Figure, ...]:
        found = self.store.values(self.query(REFUSED), "dag", limit=MAX_NAMED)
        return tuple(
            Figure(
                label=dag,
                count=n,
                is_exact=found.is_exact,
                # What no DAG of Airflow's is called could be no word of a filter.
                filter=self.filter(f"dag:{dag} {REFUSED}") if _PLAIN.fullmatch(dag) else "",
                tone="bad",
            )
            for dag, n in found.values
        )

    def coverage(self) -> Coverage | None:
        found = self.newest("act:coverage.check", limit=1)
        if not found:
            return None
        more = part(found[0].event, "more")
        kinds = ("cut", "silent", "unsecured", "unknown")
        return Coverage(
            event=name_of(found[0].event),
            recorded=_number(more.get("recorded")),
            others=tuple((kind, _number(more.get(kind))) for kind in kinds),
        )


def _refusal(event: Mapping[str, Any]) -> Refusal:
    run, thing, key = (part(event, name) for name in ("run", "object", "key"))
    time = event.get("time")
    about = thing.get("name", thing.get("uri", key.get("name", "")))
    return Refusal(
        event=name_of(event),
        time_ms=time if isinstance(time, int) else 0,
        where=".".join(_text(run[name]) for name in ("dag", "task") if name in run),
        act=_text(event.get("act", "")),
        about=_text(about),
        why=_text(event.get("why", "")),
    )


def _text(value: object) -> str:
    return "hidden" if isinstance(value, Mapping) else str(value)


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
