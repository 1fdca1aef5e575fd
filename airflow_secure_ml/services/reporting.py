"""The security report of a period: figures, each with the Events page's filter that makes it.

Pure over an AuditStore: the same log and period give the same report. A figure is what its own
filter counts, so that whoever follows it finds neither more nor less.

Source: PAGES, Alerts, Reports, Export.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_secure_ml.core.audit.checkpoint import Checkpoint
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.core.ports import AuditStore
from airflow_secure_ml.errors import ConfigurationError

FORMAT = "asml-security-report/1"
DAY_MS = 86_400_000
MAX_BARS = 62
MAX_NAMED = 8
NEWEST = 12
_SAMPLE = 1000
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,249}", re.ASCII)
_WHY = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_RESULTS = {"allowed": "ok", "refused": "refused", "failed": "failed", "unknown": "unknown"}


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
    headline: tuple[Figure, ...]
    bars: tuple[Bar, ...]
    bars_exact: bool
    reasons: tuple[Figure, ...]
    dags: tuple[Figure, ...]
    sections: tuple[Section, ...]
    refusals: tuple[Refusal, ...]
    coverage: Coverage | None


# A task that is refused says so once more when it ends: counted here, each refusal would be two.
_REFUSED = "status:refused -act:task.secure"
# (label, words of the filter, tone); a filter without an activity asks for everything.
_HEADLINE = (
    ("events", "", ""),
    ("allowed", "status:allowed", ""),
    ("refused", _REFUSED, "bad"),
    ("failed", "status:failed -act:task.secure", "bad"),
    ("outcome unknown", "status:unknown", "look"),
)
_SECTIONS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Data",
        (
            ("objects opened", "act:object.open status:allowed", ""),
            ("openings refused", "act:object.open status:refused", "bad"),
            ("signatures and digests verified", "act:object.verify status:allowed", ""),
            ("signatures and digests refused", "act:object.verify status:refused", "bad"),
            ("objects sealed", "act:object.seal status:allowed", ""),
            ("objects published", "act:object.publish status:allowed", ""),
            ("data sets shredded", "act:dataset.shred status:allowed", ""),
        ),
    ),
    (
        "Secured tasks",
        (
            ("ended well", "act:task.secure status:allowed", ""),
            ("refused", "act:task.secure status:refused", "bad"),
            ("failed", "act:task.secure status:failed", "bad"),
        ),
    ),
    (
        "Validation",
        (
            ("data sets that passed", "act:object.validate status:allowed", ""),
            ("failed their expectations", "act:object.validate status:refused", "bad"),
            ("could not be checked", "act:object.validate status:failed", "look"),
            ("rows sealed aside", "act:object.quarantine status:allowed", ""),
        ),
    ),
    (
        "Keys",
        (
            ("created or trusted", "act:key.create status:allowed", ""),
            ("rotated", "act:key.rotate status:allowed", ""),
            ("disabled", "act:key.disable status:allowed", ""),
            ("destroyed", "act:key.destroy status:allowed", "look"),
            ("refused or failed", "act:key. status:refused status:failed", "bad"),
        ),
    ),
    (
        "Credentials and secrets",
        (
            ("leases granted", "act:lease.grant status:allowed", ""),
            ("leases ended", "act:lease.revoke status:allowed", ""),
            ("leases that could not be ended", "act:lease.revoke status:failed", "bad"),
            ("secrets looked up", "act:secret.read status:allowed", ""),
            ("look-ups refused", "act:secret.read status:refused", "bad"),
        ),
    ),
    (
        "People in Airflow",
        (
            ("acts", "act:user.act status:allowed", ""),
            ("denied", "act:user.act status:refused", "bad"),
        ),
    ),
    (
        "The audit system itself",
        (
            ("looked at who did it", "act:trail.view", ""),
            ("exported from it", "act:trail.export status:allowed", "look"),
            ("checked, whole", "act:trail.verify status:allowed", ""),
            ("checked, and not whole", "act:trail.verify status:failed", "bad"),
            ("pruned", "act:trail.prune status:allowed", "look"),
            ("erased hidden values", "act:trail.erase status:allowed", "look"),
            ("changed its signing key", "act:trail.key act:trail.adopt", "look"),
        ),
    ),
    (
        "Alerts and reviews",
        (
            ("alerts raised", "act:alert.raise", "look"),
            ("alerts acknowledged", "act:alert.acknowledge", ""),
            ("alerts closed", "act:alert.close", ""),
            ("reviews given out", "act:review.assign", ""),
            ("reviews signed off", "act:review.sign", ""),
        ),
    ),
    (
        "Recording",
        (
            ("times events were lost", "act:emitter.loss", "bad"),
            ("events refused by the sequencer", "act:trail.refused", "bad"),
            ("checks of coverage", "act:coverage.check", ""),
        ),
    ),
)


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
        count_to: No figure is counted further; a page has less time than a task.

    Raises:
        AuditLogError: The log is damaged.
        ServiceUnavailableError: It cannot be read now, or not as fast as the reader was told.
    """
    counting = _Counting(store=store, from_ms=from_ms, until_ms=until_ms, count_to=count_to)
    bars, bars_exact = counting.bars()
    refused = counting.newest(_REFUSED, limit=_SAMPLE)
    return Report(
        origin=store.origin(),
        from_ms=from_ms,
        until_ms=until_ms,
        size=store.size(),
        checkpoint=checkpoint,
        problem=problem,
        headline=tuple(counting.figures(_HEADLINE)),
        bars=bars,
        bars_exact=bars_exact,
        reasons=counting.reasons(refused),
        dags=counting.dags(),
        sections=tuple(
            Section(title=title, figures=tuple(counting.figures(rows))) for title, rows in _SECTIONS
        ),
        refusals=tuple(_refusal(leaf.event) for leaf in refused[:NEWEST]),
        coverage=counting.coverage(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counting:
    """Counts one period of a log."""

    store: AuditStore
    from_ms: int
    until_ms: int
    count_to: int

    def figures(self, rows: Sequence[tuple[str, str, str]]) -> Iterator[Figure]:
        for label, words, tone in rows:
            yield self.figure(label, words, tone=tone)

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
        refused = self.store.histogram(self.query(_REFUSED), **within)
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
            self.figure(why, f"{_REFUSED} {why}", tone="bad")
            for why in named[:MAX_NAMED]
            if _WHY.fullmatch(why)
        )
        return tuple(sorted(figures, key=lambda figure: (-figure.count, figure.label)))

    def dags(self) -> tuple[Figure, ...]:
        found = self.store.values(self.query(_REFUSED), "dag", limit=MAX_NAMED)
        return tuple(
            self.figure(dag, f"dag:{dag} {_REFUSED}", tone="bad")
            if _PLAIN.fullmatch(dag)
            # Of no DAG that Airflow takes: it could be no word of a filter.
            else Figure(label=dag, count=n, is_exact=found.is_exact, filter="", tone="bad")
            for dag, n in found.values
        )

    def coverage(self) -> Coverage | None:
        found = self.newest("act:coverage.check", limit=1)
        if not found:
            return None
        more = _fields(found[0].event, "more")
        kinds = ("cut", "silent", "unsecured", "unknown")
        return Coverage(
            event=_name(found[0].event),
            recorded=_number(more.get("recorded")),
            others=tuple((kind, _number(more.get(kind))) for kind in kinds),
        )


def query_of(words: str, *, from_ms: int, until_ms: int) -> EventQuery:
    """The query that a filter of this module stands for.

    Args:
        words: `act:…`, `-act:…`, `status:…`, `dag:…` and words to search for; without `act:`, everything.
        from_ms: From this time on, ms since 1970 UTC.
        until_ms: Before this time.
    """
    query = EventQuery(from_ms=from_ms, until_ms=until_ms)
    texts: list[str] = []
    for word in words.split():
        name, _, value = word.partition(":")
        if name == "act":
            query = replace(query, acts=(*query.acts, value))
        elif name == "status":
            query = replace(query, results=(*query.results, _RESULTS[value]))
        elif name == "-act":
            query = replace(query, excluded=(*query.excluded, ("act", value)))
        elif name == "dag":
            query = replace(query, dag=value)
        else:
            texts.append(word)
    return replace(query, text=" ".join(texts) or None)


def filter_of(words: str, *, from_ms: int, until_ms: int) -> str:
    """The same as the Events page's box has it."""
    everything = "" if re.search(r"(^| )act:", words) else "show:everything"
    parts = (words, everything, f"after:{stamp(from_ms)}", f"before:{stamp(until_ms)}")
    return " ".join(part for part in parts if part)


def stamp(ms: int) -> str:
    """A moment, UTC, as short as a filter takes it."""
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    if ms % DAY_MS == 0:
        return f"{moment:%Y-%m-%d}"
    return f"{moment:%Y-%m-%dT%H:%M}" if ms % 60_000 == 0 else _exact(moment, ms % 1000)


def whole_period_before(kind: str, moment_ms: int) -> tuple[int, int]:
    """The last whole day, week (from Monday) or month that was over at a moment, UTC.

    Args:
        kind: `day`, `week` or `month`.
        moment_ms: The moment, ms since 1970 UTC.

    Returns:
        Its first ms, and the first one after it.

    Raises:
        ConfigurationError: Another word.
    """
    today = datetime.fromtimestamp(moment_ms // 1000, UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    if kind == "day":
        end, begin = today, today - timedelta(days=1)
    elif kind == "week":
        end = today - timedelta(days=today.weekday())
        begin = end - timedelta(days=7)
    elif kind == "month":
        end = today.replace(day=1)
        begin = (end - timedelta(days=1)).replace(day=1)
    else:
        raise ConfigurationError(f"period: expected day, week or month, found {str(kind)[:40]!r}")
    return int(begin.timestamp()) * 1000, int(end.timestamp()) * 1000


def _exact(moment: datetime, ms: int) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}" + (f".{ms:03d}" if ms else "")


def _refusal(event: Mapping[str, Any]) -> Refusal:
    run, thing, key = (_fields(event, name) for name in ("run", "object", "key"))
    time = event.get("time")
    about = thing.get("name", thing.get("uri", key.get("name", "")))
    return Refusal(
        event=_name(event),
        time_ms=time if isinstance(time, int) else 0,
        where=".".join(_text(run[name]) for name in ("dag", "task") if name in run),
        act=_text(event.get("act", "")),
        about=_text(about),
        why=_text(event.get("why", "")),
    )


def _name(event: Mapping[str, Any]) -> str:
    return f"{event.get('emitter')}:{event.get('seq')}"


def _text(value: object) -> str:
    return "hidden" if isinstance(value, Mapping) else str(value)


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _fields(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = event.get(name)
    return value if isinstance(value, Mapping) else {}
