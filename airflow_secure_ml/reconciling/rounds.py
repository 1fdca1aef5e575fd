"""One round of the reconciler: read both sides, have services decide, record what they decided.

Source: AUDIT_TRAIL, "Was everything recorded?".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.services.airflow_acts import (
    LogRow,
    RunRow,
    Seen,
    act_of_row,
    act_of_run,
    new_acts,
)
from airflow_secure_ml.services.coverage import (
    BAD_ENDS,
    CUT,
    AirflowTry,
    Coverage,
    Judged,
    cover,
    fold,
    is_waiting,
    judge,
    judge_unknown,
)
from airflow_secure_ml.services.coverage_alerts import (
    COVERAGE,
    Raised,
    alerts_due,
    emitter_alerts,
    still_raised,
)

if TYPE_CHECKING:
    from airflow_secure_ml.core.ports import AuditSink
    from airflow_secure_ml.reconciling.trail import TrailSide

# A row may be committed long after the time in it; whoever commits later than this is not seen.
OVERLAP_MS = 600_000
# From a task's end to its last event in the log: the sequencer's pace and grace, and a margin.
SETTLE_MS = 15_000
# Clocks of workers and of the log's host.
_SKEW_MS = 3_600_000
_DAY_MS = 86_400_000
_FACTS_A_POINT = 500


class Tables(Protocol):
    """What a round asks of Airflow's database."""

    @property
    def source(self) -> str:
        """Which Airflow, for people."""

    def tries(self, from_ms: int, until_ms: int) -> Iterator[Sequence[AirflowTry]]:
        """Pages of the tries that started or ended in a period."""

    def tries_of(self, tis: Collection[str]) -> Mapping[str, AirflowTry]:
        """The tries of these ids."""

    def log_rows(self, from_ms: int, until_ms: int) -> Iterator[Sequence[LogRow]]:
        """Pages of what people did."""

    def made_runs(self, from_ms: int, until_ms: int) -> Iterator[Sequence[RunRow]]:
        """Pages of DAG runs that people had made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedEmitter:
    """An emitter that ended otherwise than whole.

    Attributes:
        emitter: 32 hex digits.
        end: `cut`, `gap` or `torn`.
        program: What it called itself; empty: the log does not have its first event.
        host: Where it ran.
        ti: The try it was opened for; empty: none.
    """

    emitter: str
    end: str
    program: str = ""
    host: str = ""
    ti: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a period's check came to.

    Attributes:
        coverage: Counts and differences.
        emitters: Emitters that ended badly in the period.
        raised: Alerts raised.
        closed: Alerts closed.
        acts: Acts of people that the trail did not have.
    """

    coverage: Coverage
    emitters: tuple[EndedEmitter, ...]
    raised: int
    closed: int
    acts: int

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing that a person should look at."""
        return not self.coverage.differences and not self.emitters


def periods(from_ms: int, until_ms: int) -> Iterator[tuple[int, int]]:
    """A long period as days, so that a check's memory is bounded."""
    while until_ms - from_ms > _DAY_MS:
        yield from_ms, from_ms + _DAY_MS
        from_ms += _DAY_MS
    yield from_ms, until_ms


def next_period(
    trail: TrailSide, until_ms: int, *, clock_ms: int | None = None
) -> tuple[int, int] | None:
    """The period that no check has covered yet, and a little before it; None: no log yet.

    Args:
        trail: The log's side.
        until_ms: Where it ends, ms since 1970 UTC.
        clock_ms: Now; None: `until_ms`.
    """
    begin = trail.begin_ms()
    if begin is None:
        return None
    checked = trail.checked_until_ms(begin, until_ms if clock_ms is None else clock_ms)
    start = max(begin, min(checked, until_ms) - OVERLAP_MS)
    return min(start, until_ms), until_ms


class Reconciler:
    """Checks periods and records what it finds.

    Args:
        tables: Airflow's side.
        trail: The log's side, into which everything recorded earlier was taken.
        sink: Where the findings go; it is open no longer than a check needs it.
        now_ms: The wall clock, ms since 1970 UTC.
        watch: Told how many tries have been looked at.
    """

    def __init__(
        self,
        tables: Tables,
        trail: TrailSide,
        sink: Callable[[], AuditSink],
        *,
        now_ms: Callable[[], int],
        watch: Callable[[int], None] = lambda done: None,
        by: str | None = None,
    ) -> None:
        self._tables, self._trail, self._sink = tables, trail, sink
        self._now_ms, self._watch, self._by = now_ms, watch, by
        self._done = 0
        self._known: set[Seen] | None = None

    def check(self, from_ms: int, until_ms: int) -> Checked:
        """Check one period and record it.

        Raises:
            ServiceUnavailableError: A database cannot be read, or nothing can be recorded.
        """
        raised = still_raised(self._trail.alerts())
        rows = self._rows(from_ms, until_ms)
        earlier = self._earlier(raised, rows, until_ms)
        # A try's first process may have ended long before the period in which the try did.
        starts = [each.start_ms for each in (*rows.values(), *earlier) if each.start_ms is not None]
        ends = self._trail.ends(min([from_ms, *starts]) - _SKEW_MS)
        states = {emitter: end for emitter, (_, end) in ends.items()}
        own: set[str] = set()
        judged = [self._judge(each, states, own) for each in rows.values()]
        judged += self._unknown(from_ms, until_ms, rows)
        again = [self._judge(each, states, own) for each in earlier]
        coverage = cover(from_ms, until_ms, judged)
        bad = {e: end for e, (at, end) in ends.items() if from_ms <= at < until_ms}
        bad = {emitter: end for emitter, end in bad.items() if end in BAD_ENDS}
        alerts = [*alerts_due([*judged, *again], raised)]
        alone = {emitter: end for emitter, end in bad.items() if emitter not in own}
        alerts += emitter_alerts(alone, raised)
        self._record([self._fact(coverage, bad), *alerts])
        return Checked(
            coverage=coverage,
            emitters=tuple(self._ended(emitter, end) for emitter, end in sorted(bad.items())),
            raised=sum(alert.act == "alert.raise" for alert in alerts),
            closed=sum(alert.act == "alert.close" for alert in alerts),
            acts=self._take_acts(from_ms, until_ms),
        )

    def _rows(self, from_ms: int, until_ms: int) -> dict[str, AirflowTry]:
        found: dict[str, AirflowTry] = {}
        for page in self._tables.tries(from_ms, until_ms):
            for each in page:
                # A try that moves to the history meanwhile is in both tables.
                if not is_waiting(each):
                    found[each.ti] = each
        return found

    def _judge(self, attempt: AirflowTry, ends: Mapping[str, str], own: set[str]) -> Judged:
        trail = fold(self._trail.of_try(attempt.ti), ends)
        declared = self._trail.is_declared(attempt.dag, attempt.task, attempt.start_ms)
        found = judge(
            attempt, trail, is_declared=declared, now_ms=self._now_ms(), settle_ms=SETTLE_MS
        )
        if found.verdict == CUT:
            own.update(trail.ends)
        self._done += 1
        self._watch(self._done)
        return found

    def _unknown(
        self, from_ms: int, until_ms: int, rows: Mapping[str, AirflowTry]
    ) -> Iterator[Judged]:
        named = self._trail.named_in(from_ms, until_ms)
        left = named.keys() - rows.keys()
        # What another period's times belong to is known, too.
        for ti in sorted(left - self._tables.tries_of(left).keys()):
            yield judge_unknown(_said(ti, named[ti]))

    def _earlier(
        self, raised: Raised, rows: Mapping[str, AirflowTry], until_ms: int
    ) -> Sequence[AirflowTry]:
        """Tries of other periods that are alerted about, as Airflow has them now."""
        kinds = [tis for about, tis in raised.items() if about.startswith(COVERAGE)]
        tis = {ti for found in kinds for ti in found} - rows.keys()
        found = self._tables.tries_of(tis).values() if tis else ()
        # Of a day: what comes later than that is found by a check of its own period.
        return [each for each in found if (each.end_ms or until_ms) > until_ms - _DAY_MS]

    def _fact(self, coverage: Coverage, bad: Mapping[str, str]) -> Fact:
        ended = list(bad.values())
        more: dict[str, Any] = {
            "from_ms": coverage.from_ms,
            "until_ms": coverage.until_ms,
            **coverage.counts,
            "ti_digest": coverage.ti_digest,
            "source": self._tables.source,
            **{f"emitters_{end}": ended.count(end) for end in BAD_ENDS},
        }
        return Fact(act="coverage.check", phase="seen", result="ok", by=self._by, more=more)

    def _ended(self, emitter: str, end: str) -> EndedEmitter:
        first = self._trail.emitter(emitter)
        more, run = first.get("more", {}), first.get("run", {})
        program, host, ti = more.get("program"), more.get("host"), run.get("ti")
        return EndedEmitter(
            emitter=emitter,
            end=end,
            program=program if isinstance(program, str) else "",
            host=host if isinstance(host, str) else "",
            ti=ti if isinstance(ti, str) else "",
        )

    def _take_acts(self, from_ms: int, until_ms: int) -> int:
        if self._known is None:
            self._known = self._trail.seen_rows(from_ms - _SKEW_MS)
        count = 0
        for rows in self._tables.log_rows(from_ms, until_ms):
            count += self._record([*new_acts(map(act_of_row, rows), self._known)])
        for runs in self._tables.made_runs(from_ms, until_ms):
            count += self._record([*new_acts(map(act_of_run, runs), self._known)])
        return count

    def _record(self, facts: Sequence[Fact]) -> int:
        """Record facts, durable when this returns; how many."""
        for start in range(0, len(facts), _FACTS_A_POINT):
            sink = self._sink()
            for fact in facts[start : start + _FACTS_A_POINT]:
                sink.record(fact)
            sink.settle()
        return len(facts)


def _said(ti: str, run: Mapping[str, Any]) -> AirflowTry:
    """A try as the trail alone names it; what is hidden there stays so."""

    def text(name: str) -> str:
        found = run.get(name)
        return found if isinstance(found, str) else ""

    def number(name: str) -> int:
        found = run.get(name)
        return found if isinstance(found, int) else -1

    return AirflowTry(
        ti=ti,
        dag=text("dag"),
        run=text("run"),
        task=text("task") or "?",
        map_index=number("map"),
        number=number("try"),
    )
