"""Rounds over a real log: what is recorded, once, whatever strikes in between."""

from __future__ import annotations

import os
import time

import pytest

from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.query import EventQuery, Leaf
from airflow_secure_ml.reconciling.rounds import (
    OVERLAP_MS,
    Reconciler,
    next_period,
    periods,
)
from airflow_secure_ml.reconciling.trail import TrailSide
from airflow_secure_ml.services.airflow_acts import LogRow, RunRow
from airflow_secure_ml.services.coverage import AirflowTry
from tests.reconciling.conftest import DIED, in_child

TI = "019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b"
OTHER = "019ab2c4-7d10-7b3e-9a55-000000000001"
FULL = ("task.start", "task.end")
ACTS = 5


def now_ms():
    return time.time_ns() // 1_000_000


class MemoryTables:
    """Airflow's side, as values."""

    source = "tables of a test"

    def __init__(self, *tries, acts=0):
        self.rows = {each.ti: each for each in tries}
        self.acts = acts

    def tries(self, from_ms, until_ms):
        yield [each for each in self.rows.values() if from_ms <= each.start_ms < until_ms]

    def tries_of(self, tis):
        return {ti: self.rows[ti] for ti in tis if ti in self.rows}

    def log_rows(self, from_ms, until_ms):
        for number in range(self.acts):
            extra = '{"method": "POST"}'
            yield [LogRow(id=number, at_ms=from_ms, event="post_pool", owner="ann", extra=extra)]

    def made_runs(self, from_ms, until_ms):
        yield [RunRow(id=1, at_ms=from_ms, dag="d", run="r", by="ann", how="ui")] * (self.acts > 0)


class MortalSink:
    """A real spool that is killed after so many calls."""

    def __init__(self, audit, calls):
        self.spool, self.left = Spool(audit, "reconciler"), calls

    def _count(self):
        self.left -= 1
        if self.left == 0:
            os._exit(DIED)

    def record(self, fact):
        name = self.spool.record(fact)
        self._count()
        return name

    def settle(self):
        self.spool.settle()
        self._count()


def attempt(ti=TI, state="success", **fields):
    given = {"host": "w1", "start_ms": now_ms() - 60_000, "end_ms": now_ms() - 50_000}
    noted = ("running",)
    return AirflowTry(ti=ti, dag="d", run="r", task="t", state=state, noted=noted, **given | fields)


def check(place, tables, *, calls=-1, from_ms=None, trail=TrailSide):
    """A check in a process of its own, which may die; then everything is taken into the log."""
    start = now_ms() - 3_600_000 if from_ms is None else from_ms

    def work():
        sink = MortalSink(place.audit, calls)
        side = trail(place.reader)
        Reconciler(tables, side, lambda: sink, now_ms=now_ms).check(start, now_ms() + 1000)
        sink.spool.close()

    status = in_child(work)
    place.sequence()
    return status


def told(place, act):
    return [event["more"] for event in place.events(acts=(act,))]


def test_a_check_records_what_it_found(place):
    place.tell(TI, *FULL)
    place.sequence()

    check(place, MemoryTables(attempt(), attempt(OTHER)))

    (found,) = told(place, "coverage.check")
    counts = {name: found[name] for name in ("recorded", "cut", "silent", "unsecured", "unknown")}
    assert counts == {"recorded": 1, "cut": 0, "silent": 1, "unsecured": 0, "unknown": 0}
    assert found["source"] == "tables of a test"
    assert [alert["tis"] for alert in told(place, "alert.raise")] == [[OTHER]]
    assert place.events(acts=("alert.raise",))[0]["run"] == {"dag": "d", "run": "r"}


def test_a_process_that_was_killed_makes_its_try_cut(place):
    place.tell(TI, "task.start", is_closed=False)
    place.sequence()

    check(place, MemoryTables(attempt(state="failed")))

    (found,) = told(place, "coverage.check")
    assert (found["cut"], found["emitters_cut"]) == (1, 1)
    # Named by the try's own alert, and not by another one.
    assert [alert["about"] for alert in told(place, "alert.raise")] == ["coverage.cut"]


def test_an_emitter_of_no_try_that_ended_badly_is_named(place):
    def lone():
        spool = Spool(place.audit, "scheduler")
        spool.record(Fact(act="trail.view", phase="seen", result="ok"))
        spool.settle()

    in_child(lone)
    place.sequence()
    (opened,) = [
        event for event in place.events(acts=("emitter.open",))
        if event["more"]["program"] == "scheduler"
    ]  # fmt: skip

    check(place, MemoryTables())
    check(place, MemoryTables())

    assert [(a["about"], a["emitters"]) for a in told(place, "alert.raise")] == [
        ("emitter.cut", [opened["emitter"]])
    ]


def test_what_was_silent_is_closed_when_its_segment_comes(place):
    place.tell(OTHER, *FULL)
    place.sequence()
    tables = MemoryTables(attempt(), attempt(OTHER))
    check(place, tables)

    place.tell(TI, *FULL)
    place.sequence()
    check(place, tables)

    assert [found["silent"] for found in told(place, "coverage.check")] == [1, 0]
    assert [alert["tis"] for alert in told(place, "alert.close")] == [[TI]]


def test_a_try_of_an_earlier_period_is_looked_at_again(place):
    place.tell(OTHER, *FULL)
    place.sequence()
    tables = MemoryTables(attempt())
    check(place, tables)

    place.tell(TI, *FULL)
    place.sequence()
    check(place, tables, from_ms=now_ms() - 1)

    assert told(place, "coverage.check")[1]["recorded"] == 0
    assert [alert["tis"] for alert in told(place, "alert.close")] == [[TI]]


class GapTrail(TrailSide):
    """A trail whose sequencer found a gap in every emitter of this time."""

    at_ms = 0

    def ends(self, from_ms):
        opened = self.events(EventQuery(acts=("emitter.open",)))
        emitters = [event["emitter"] for event in opened if "ti" in event.get("run", {})]
        return {emitter: (self.at_ms, "gap") for emitter in emitters if from_ms <= self.at_ms}


@pytest.mark.parametrize("at", ["period", "later"])
def test_a_gap_of_hours_ago_is_not_forgotten(place, monkeypatch, at):
    hour = 3_600_000
    monkeypatch.setattr(GapTrail, "at_ms", now_ms() - 4 * hour)
    place.tell(TI, *FULL)
    place.sequence()
    long = attempt(start_ms=now_ms() - 5 * hour, end_ms=now_ms() - 50_000)
    tables = MemoryTables(long)

    # The try belongs to the first period alone.
    check(place, tables, from_ms=now_ms() - 6 * hour, trail=GapTrail)
    if at == "later":
        check(place, tables, from_ms=now_ms() - 1, trail=GapTrail)

    assert told(place, "coverage.check")[0]["cut"] == 1
    assert told(place, "alert.close") == []


def test_a_long_trys_earlier_process_counts(place, monkeypatch):
    hour = 3_600_000
    monkeypatch.setattr(GapTrail, "at_ms", now_ms() - 4 * hour)
    place.tell(TI, *FULL)
    place.sequence()
    tables = MemoryTables(attempt(start_ms=now_ms() - 5 * hour))
    tables.tries = lambda from_ms, until_ms: iter([list(tables.rows.values())])

    check(place, tables, from_ms=now_ms() - 1000, trail=GapTrail)

    assert told(place, "coverage.check")[0]["cut"] == 1


def test_an_invented_try_is_unknown(place):
    place.tell(TI, *FULL)
    place.tell("nonsense", *FULL)
    place.sequence()

    check(place, MemoryTables())

    assert told(place, "coverage.check")[0]["unknown"] == 2
    assert [sorted(alert["tis"]) for alert in told(place, "alert.raise")] == [[TI, "nonsense"]]


def test_a_try_of_another_period_is_not_taken_for_an_invented_one(place):
    place.tell(TI, *FULL)
    place.sequence()
    # Its last events came in this period; by Airflow's times it belongs to another.
    began = attempt(start_ms=now_ms() - 9_000_000, end_ms=now_ms() - 8_000_000)

    check(place, MemoryTables(began))

    (found,) = told(place, "coverage.check")
    assert (found["unknown"], found["recorded"]) == (0, 0)
    assert told(place, "alert.raise") == []


@pytest.mark.parametrize("calls", range(1, 3 + 2 * (ACTS + 1) + 1))
def test_a_killed_check_loses_nothing_and_says_nothing_twice(place, calls):
    place.tell(TI, *FULL)
    place.sequence()
    tables = MemoryTables(attempt(), attempt(OTHER), acts=ACTS)
    start = now_ms() - 3_600_000

    first = check(place, tables, calls=calls, from_ms=start)
    second = check(place, tables, from_ms=start)

    assert (first, second) == (DIED, 0)
    acts = told(place, "user.act")
    assert sorted(act["log_id"] for act in acts if "log_id" in act) == list(range(ACTS))
    assert [act["dag_run_id"] for act in acts if "dag_run_id" in act] == [1]
    assert [a["tis"] for a in told(place, "alert.raise") if a["about"] == "coverage.silent"] == [
        [OTHER]
    ]
    assert told(place, "coverage.check")[-1]["recorded"] == 1


def test_a_period_begins_a_little_before_the_newest_check_ended(place):
    place.tell(TI, *FULL)
    place.sequence()
    trail = TrailSide(place.reader)
    begin = trail.begin_ms()

    assert next_period(trail, begin + 5) == (begin, begin + 5)

    check(place, MemoryTables())
    ended = told(place, "coverage.check")[0]["until_ms"]

    now = ended + 10 * OVERLAP_MS
    assert next_period(trail, now) == (max(begin, ended - OVERLAP_MS), now)


HOUR = 3_600_000


class Checks:
    """A log that began at 0 and holds these checks, oldest first."""

    def __init__(self, *checks):
        self.checks = [
            Leaf(index=n, data=b"", hash=b"", event={"time": n, "more": more})
            for n, more in enumerate(checks)
        ]

    def leaf(self, index):
        return Leaf(index=0, data=b"", hash=b"", event={"time": 0})

    def page(self, query, *, limit):
        return self.checks[::-1][:limit]


def done(start, end):
    return {"from_ms": start * HOUR, "until_ms": end * HOUR}


@pytest.mark.parametrize(
    ("checks", "hour"),
    [
        ([], 0),
        ([done(0, 3), done(3, 5)], 5),
        ([done(0, 3), done(8, 9)], 3),
        ([done(8, 9)], 0),
        ([done(0, 3), done(8, 9), done(3, 10)], 10),
        ([done(0, 3), done(2, 99999)], 3),
        ([done(0, 3), {"until_ms": 9 * HOUR}, {"from_ms": "0", "until_ms": "x"}], 3),
        ([done(n, n + 1) for n in range(80)], 80),
        ([done(n, n + 1) for n in range(80)] + [done(85, 90)], 80),
    ],
    ids=[
        *("none", "two", "a later hour alone", "that alone", "filled since", "of a clock ahead"),
        *("without times", "many", "many and a later hour"),
    ],
)
def test_the_next_period_leaves_no_time_unchecked(checks, hour):
    trail = TrailSide(Checks(*checks))

    start = max(0, hour * HOUR - OVERLAP_MS)
    assert next_period(trail, 100 * HOUR) == (start, 100 * HOUR)


def test_a_period_that_ends_in_the_past_begins_before_its_end():
    trail = TrailSide(Checks(done(0, 50)))

    found = next_period(trail, 20 * HOUR, clock_ms=60 * HOUR)

    assert found == (20 * HOUR - OVERLAP_MS, 20 * HOUR)


def test_long_periods_are_checked_by_the_day():
    day = 86_400_000

    assert list(periods(5, 5)) == [(5, 5)]
    assert list(periods(0, day)) == [(0, day)]
    assert list(periods(0, 2 * day + 1)) == [(0, day), (day, 2 * day), (2 * day, 2 * day + 1)]
