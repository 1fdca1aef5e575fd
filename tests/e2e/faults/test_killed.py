"""kill -9 of tasks that a real scheduler runs, and of a supervisor."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.airflow

RUN, ORPHAN = "killed-1", "orphaned-1"
STEPS = (
    "intent", "scratch", "opened", "body", "staged", "recorded", "statement", "published",
    "shredded",
)  # fmt: skip
CANARY = b"CANARY-of-the-"


@pytest.fixture(scope="module")
def killed(faults):
    faults.start("killed", RUN)
    return faults.wait("killed", RUN)


def holding(canary, *folders):
    return [
        str(path)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and canary in path.read_bytes()
    ]


def of_step(faults, at, **query):
    return [
        event
        for event in faults.events(dag="killed", run=RUN, task="victim", **query)
        if event["run"]["map"] == at
    ]


@pytest.mark.parametrize("step", STEPS)
def test_a_task_killed_at_a_step_is_finished_by_its_next_try(faults, killed, step):
    at = STEPS.index(step)

    def ends():
        found = of_step(faults, at, acts=("task.secure",))
        return [(e["run"]["try"], e.get("result")) for e in found if e["phase"] == "outcome"]

    faults.until(lambda: (2, "ok") in ends(), 90, ends)

    assert killed["victim", at] == "success"
    assert ends() == [(2, "ok")], "the first try was not killed, or said how it ended"
    assert (faults.data / RUN / step).stat().st_size > 0


def test_each_killed_try_is_cut_in_the_trail(faults, killed):
    opened = {
        event["emitter"]
        for event in faults.events(dag="killed", run=RUN, acts=("task.secure",))
        if event["run"].get("try") == 1 and event["run"]["task"] == "victim"
    }

    assert len(opened) == len(STEPS)
    assert set(faults.ended_emitters(opened).values()) == {"cut"}


def test_the_guardian_says_what_it_shredded_for_the_dead(faults, killed):
    said = [
        event["more"]["because"]
        for event in faults.events(dag="killed", run=RUN, acts=("scratch.shred",))
        if event["phase"] == "seen"
    ]

    assert said.count("task_died") + said.count("line_closed") >= 6


def test_nothing_in_clear_is_left_of_them(faults, killed):
    assert holding(CANARY, faults.data, faults.audit_dir, faults.home, faults.scratch) == []


def test_an_orphan_publishes_nothing(faults, killed):
    faults.start("orphaned", ORPHAN)

    def ended():
        found = faults.events(dag="orphaned", run=ORPHAN, acts=("task.secure",))
        return [(e["result"], e["why"]) for e in found if e["phase"] == "outcome"]

    faults.until(lambda: ended(), 180, faults.logs)

    assert ended() == [("refused", "try_replaced")]
    assert not (faults.data / ORPHAN / "out").exists()
    assert not (faults.data / ORPHAN / "out.sig").exists()
    assert holding(CANARY, faults.data, faults.scratch) == []
