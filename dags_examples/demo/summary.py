"""Hold what happened against what was expected, and say it in a few lines: pure.

Facts come from two sides that know nothing of each other: Airflow's states and the audit trail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_ACTS = {
    "validated": "object.validate",
    "sealed": "object.seal",
    "signed": "object.sign",
    "opened": "object.open",
}
_SAID = {
    "validated": "data set met its expectations, or was parted from the rows that did not",
    "sealed": "files, each with a key of its own",
    "signed": "statements: whose bytes these are, and where they belong",
    "opened": "files, each verified first",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFact:
    """How a task ended, by Airflow's account: `ti` is its id, `state` Airflow's word."""

    ti: str
    dag: str
    run: str
    task: str
    state: str
    try_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailFact:
    """One event of a task.

    Attributes:
        ti: The task instance.
        act: What was done.
        phase: Intent, outcome or seen.
        result: Empty in an intent.
        why: The reason's code of a refusal or failure.
        path: Of a lease.
        lease: The lease's id as events name it; empty where the engine leases nothing.
    """

    ti: str
    act: str
    phase: str
    result: str = ""
    why: str = ""
    path: str = ""
    lease: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailState:
    """What deriving the whole log anew gave.

    Attributes:
        is_whole: Every leaf, chain and checkpoint holds.
        problem: What does not.
        leaves: How many there are.
        signed: How many a checkpoint covers.
        checkpoints: How many there are.
        root: Of the whole log, hex.
    """

    is_whole: bool
    problem: str
    leaves: int
    signed: int
    checkpoints: int
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A task that must not run.

    Attributes:
        why: The reason's code in the trail.
        because: The same for people.
    """

    why: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What should happen.

    Attributes:
        started: DAGs that are started by hand.
        last: DAGs that may run only when every other run has ended.
        runs: How many runs each DAG has in the end.
        refusals: Tasks that must not run, by DAG and task; every other one must be green.
        not_secured: Tasks that the trail says nothing of but their start and end.
        counts: Acts that succeeded, over all runs: a word of `summary` and how many.
    """

    started: Sequence[str]
    last: Sequence[str] = ()
    runs: Mapping[str, int]
    refusals: Mapping[tuple[str, str], Refusal]
    not_secured: frozenset[tuple[str, str]]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The lines to print, and what did not come out as expected."""

    lines: Sequence[str]
    problems: Sequence[str]


def summarize(
    tasks: Sequence[TaskFact],
    events: Sequence[TrailFact],
    trail: TrailState,
    expected: Expected,
) -> Summary:
    """Compare and count.

    Args:
        tasks: Every task instance of the runs.
        events: Every event of the trail that names one of them.
        trail: The state of the whole trail.
        expected: What should have happened.
    """
    outcomes = {
        task.ti: [
            e for e in events if (e.ti, e.act, e.phase) == (task.ti, "task.secure", "outcome")
        ]
        for task in tasks
    }
    problems = [
        *_runs(tasks, expected),
        *(p for task in tasks for p in _task(task, outcomes[task.ti], expected)),
        *_missing_refusals(tasks, expected),
        *_counts(events, expected),
        *_trail(trail),
    ]
    lines = [
        *_count_lines(events, expected),
        *_refusal_lines(tasks, outcomes, expected),
        *_trail_lines(trail),
    ]
    return Summary(lines=lines, problems=problems)


def _runs(tasks: Sequence[TaskFact], expected: Expected) -> Iterable[str]:
    found = Counter(dag for dag, _ in {(task.dag, task.run) for task in tasks})
    for dag, runs in expected.runs.items():
        if found[dag] != runs:
            yield f"{dag}: {found[dag]} runs, expected {runs}"


def _task(task: TaskFact, outcomes: Sequence[TrailFact], expected: Expected) -> Iterable[str]:
    name = f"{task.dag}.{task.task}"
    refusal = expected.refusals.get((task.dag, task.task))
    if refusal is None:
        if task.state != "success":
            yield f"{name}: {task.state}, expected success"
        if (task.dag, task.task) in expected.not_secured:
            return
        if [(e.result, e.why) for e in outcomes] != [("ok", "")]:
            yield f"{name}: the trail says {_said(outcomes)}, expected ok"
        return
    if task.state != "failed":
        yield f"{name}: {task.state} in Airflow, expected failed: it was not refused"
    if task.try_number != 1:
        yield f"{name}: try {task.try_number}, expected no retry"
    if [(e.result, e.why) for e in outcomes] != [("refused", refusal.why)]:
        yield f"{name}: the trail says {_said(outcomes)}, expected refused ({refusal.why})"


def _said(outcomes: Sequence[TrailFact]) -> str:
    said = [f"{e.result} ({e.why})" if e.why else e.result for e in outcomes]
    return ", ".join(said) or "nothing"


def _missing_refusals(tasks: Sequence[TaskFact], expected: Expected) -> Iterable[str]:
    there = {(task.dag, task.task) for task in tasks}
    for dag, task in sorted(set(expected.refusals) - there):
        yield f"{dag}.{task}: Airflow has no such task, expected a refusal"


def _counts(events: Sequence[TrailFact], expected: Expected) -> Iterable[str]:
    for word, count in expected.counts.items():
        found = _done(events, word)
        if found != count:
            yield f"{word}: {found} by the trail, expected {count}"


def _trail(trail: TrailState) -> Iterable[str]:
    if not trail.is_whole:
        yield f"the trail does not verify: {trail.problem}"
    elif trail.signed != trail.leaves:
        yield f"the trail has {trail.leaves} events, its newest checkpoint covers {trail.signed}"


def _done(events: Sequence[TrailFact], word: str) -> int:
    wanted = (_ACTS[word], "outcome", "ok")
    return sum((e.act, e.phase, e.result) == wanted for e in events)


def _count_lines(events: Sequence[TrailFact], expected: Expected) -> Iterable[str]:
    for word in expected.counts:
        yield f"{word:<10}{_done(events, word):>4}  {_SAID[word]}"


def _refusal_lines(
    tasks: Sequence[TaskFact],
    outcomes: Mapping[str, Sequence[TrailFact]],
    expected: Expected,
) -> Iterable[str]:
    refused = [task for task in tasks if any(e.result == "refused" for e in outcomes[task.ti])]
    if not refused and not expected.refusals:
        return
    yield f"{'refused':<10}{len(refused):>4}  tasks before their first line ran:"
    for task in sorted(refused, key=lambda task: (task.dag, task.task)):
        why = next(e.why for e in outcomes[task.ti] if e.result == "refused")
        refusal = expected.refusals.get((task.dag, task.task))
        because = refusal.because if refusal else "nobody expected this"
        yield f"{'':<12}{task.task:<26} {why:<19} {because}"


def _trail_lines(trail: TrailState) -> Iterable[str]:
    said = "whole" if trail.is_whole else f"NOT WHOLE: {trail.problem}"
    yield (
        f"{'trail':<10}{trail.leaves:>4}  events, {said}: all derived anew, "
        f"{trail.checkpoints} signed checkpoints, root {trail.root[:16]}…"
    )
