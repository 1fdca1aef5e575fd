"""The demo's check: it says yes to what should come out, and no to every single other thing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dags_examples.demo.summary import (
    Expected,
    Refusal,
    TaskFact,
    TrailFact,
    TrailState,
    summarize,
)

EXPECTED = Expected(
    started=("train", "refusals"),
    runs={"train": 1, "refusals": 1},
    refusals={("refusals", "tampered"): Refusal(why="digest_differs", because="a bit was flipped")},
    not_secured=frozenset({("refusals", "attack")}),
    counts={"validated": 1, "sealed": 1, "signed": 1, "opened": 0},
)
MADE = TaskFact(ti="1", dag="train", run="r1", task="make", state="success", try_number=1)
ATTACK = TaskFact(ti="2", dag="refusals", run="r2", task="attack", state="success", try_number=1)
TAMPERED = TaskFact(ti="3", dag="refusals", run="r2", task="tampered", state="failed", try_number=1)
TASKS = [MADE, ATTACK, TAMPERED]


def outcome(ti, act, result="ok", why=""):
    return TrailFact(ti=ti, act=act, phase="outcome", result=result, why=why)


EVENTS = [
    TrailFact(ti="1", act="task.secure", phase="intent"),
    outcome("1", "object.validate"),
    outcome("1", "object.seal"),
    outcome("1", "object.sign"),
    outcome("1", "task.secure"),
    TrailFact(ti="3", act="task.secure", phase="intent"),
    outcome("3", "object.verify", "refused", "digest_differs"),
    outcome("3", "task.secure", "refused", "digest_differs"),
]
TRAIL = TrailState(is_whole=True, problem="", leaves=9, signed=9, checkpoints=2, root="ab" * 32)


def test_what_should_come_out_is_no_problem():
    summary = summarize(TASKS, EVENTS, TRAIL, EXPECTED)

    assert summary.problems == []


def test_the_lines_count_what_the_trail_says():
    summary = summarize(TASKS, EVENTS, TRAIL, EXPECTED)

    assert [" ".join(line.split()[:2]) for line in summary.lines] == [
        "validated 1",
        "sealed 1",
        "signed 1",
        "opened 0",
        "refused 1",
        "tampered digest_differs",
        "trail 9",
    ]


def without(act):
    return [event for event in EVENTS if event.act != act]


OTHERWISE = {
    "the-attack-succeeds": (
        [MADE, ATTACK, replace(TAMPERED, state="success")],
        [*EVENTS[:-2], outcome("3", "task.secure")],
        TRAIL,
        ["refusals.tampered: success in Airflow, expected failed: it was not refused",
         "refusals.tampered: the trail says ok, expected refused (digest_differs)"],
    ),
    "red-for-another-reason": (
        TASKS,
        [*EVENTS[:-1], outcome("3", "task.secure", "refused", "key_missing")],
        TRAIL,
        ["refusals.tampered: the trail says refused (key_missing), "
         "expected refused (digest_differs)"],
    ),
    "its-body-ran-and-raised": (
        TASKS,
        [*EVENTS[:-1], outcome("3", "task.secure", "failed", "task_raised")],
        TRAIL,
        ["refusals.tampered: the trail says failed (task_raised), "
         "expected refused (digest_differs)"],
    ),
    "refused-twice": (
        [MADE, ATTACK, replace(TAMPERED, try_number=2)],
        EVENTS,
        TRAIL,
        ["refusals.tampered: try 2, expected no retry"],
    ),
    "not-in-the-trail": (
        TASKS,
        EVENTS[:-1],
        TRAIL,
        ["refusals.tampered: the trail says nothing, expected refused (digest_differs)"],
    ),
    "no-such-task": (
        [MADE, ATTACK],
        EVENTS,
        TRAIL,
        ["refusals.tampered: Airflow has no such task, expected a refusal"],
    ),
    "another-task-is-red": (
        [MADE, replace(ATTACK, state="failed"), TAMPERED],
        EVENTS,
        TRAIL,
        ["refusals.attack: failed, expected success"],
    ),
    "a-green-task-that-the-trail-does-not-know": (
        TASKS,
        without("task.secure") + EVENTS[-1:],
        TRAIL,
        ["train.make: the trail says nothing, expected ok"],
    ),
    "a-run-is-missing": (
        [ATTACK, TAMPERED],
        EVENTS,
        TRAIL,
        ["train: 0 runs, expected 1"],
    ),
    "nothing-was-sealed": (
        TASKS,
        without("object.seal"),
        TRAIL,
        ["sealed: 0 by the trail, expected 1"],
    ),
    "an-intent-is-no-outcome": (
        TASKS,
        [*without("object.sign"), TrailFact(ti="1", act="object.sign", phase="intent")],
        TRAIL,
        ["signed: 0 by the trail, expected 1"],
    ),
    "the-trail-was-changed": (
        TASKS,
        EVENTS,
        replace(TRAIL, is_whole=False, problem="leaf 4 was changed"),
        ["the trail does not verify: leaf 4 was changed"],
    ),
    "the-trail-is-not-signed-to-its-end": (
        TASKS,
        EVENTS,
        replace(TRAIL, signed=8),
        ["the trail has 9 events, its newest checkpoint covers 8"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("tasks", "events", "trail", "problems"), OTHERWISE.values(), ids=OTHERWISE.keys()
)
def test_anything_else_is_a_problem(tasks, events, trail, problems):
    summary = summarize(tasks, events, trail, EXPECTED)

    assert summary.problems == problems
