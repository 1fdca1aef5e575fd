"""`secure()` around every kind of task it is for, under a real scheduler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dags_examples.demo.airflow_api import NoAnswerError

pytestmark = pytest.mark.airflow

RUN = "kinds-1"
ENDED = {"success", "failed", "skipped", "upstream_failed"}
# The table holds seven bytes.
STATES = {
    ("make", -1): "success",
    ("plain", -1): "success",
    ("asynchronous", -1): "success",
    ("python", -1): "success",
    ("bash", -1): "success",
    ("bash_decorated", -1): "success",
    ("branch", -1): "success",
    ("taken", -1): "success",
    ("not_taken", -1): "skipped",
    ("short_circuit", -1): "success",
    ("cut_off", -1): "skipped",
    ("mapped", 0): "success",
    ("mapped", 1): "success",
    ("before_expand", 0): "success",
    ("before_expand", 1): "success",
    ("after_expand", 0): "success",
    ("group.member", 0): "success",
    ("group.member", 1): "success",
    ("deferring", -1): "success",
    ("sensor", -1): "success",
    ("rescheduled", -1): "success",
    ("trigger_dag", -1): "success",
    ("human", -1): "success",
    ("prepare", -1): "success",
    ("tidy", -1): "success",
    ("virtualenv", -1): "success",
    ("external_python", -1): "success",
    ("streamed", -1): "success",
    ("reduced", -1): "success",
    ("split", -1): "success",
    ("joined", -1): "success",
    ("opening", -1): "success",
}
RETURNED = {
    ("make", -1): "made",
    ("plain", -1): 7,
    ("asynchronous", -1): 7,
    ("python", -1): 7,
    ("bash", -1): 7,
    ("bash_decorated", -1): 7,
    ("mapped", 0): 14,
    ("mapped", 1): 14,
    ("before_expand", 0): 7,
    ("before_expand", 1): "age",
    ("after_expand", 0): 7,
    ("group.member", 0): 17,
    ("group.member", 1): 27,
    ("deferring", -1): [7, 7],
    ("rescheduled", -1): 7,
    ("tidy", -1): "ready",
    ("virtualenv", -1): 7,
    ("external_python", -1): 7,
    ("streamed", -1): 41,
    # Two mapped outputs of twice the table.
    ("reduced", -1): 28,
    ("joined", -1): "41+age",
    ("opening", -1): 7,
}
# Each publishes one object under its name.
WRITES = {
    ("make", -1): "table",
    ("short_circuit", -1): "note",
    ("mapped", 0): "out",
    ("mapped", 1): "out",
    ("group.member", 0): "out",
    ("group.member", 1): "out",
    ("deferring", -1): "out",
    ("prepare", -1): "room",
    ("split", -1): "folder",
}
# These enter the worker twice: the first time they pause.
PAUSED = {("deferring", -1), ("sensor", -1), ("rescheduled", -1), ("human", -1)}
UNSECURED = {("taken", -1), ("not_taken", -1), ("cut_off", -1), ("opening", -1)}
SECURED = sorted(STATES.keys() - UNSECURED)


@pytest.fixture(scope="module")
def finished(airflow):
    """The run of every kind, ended, and its events."""
    from own_airflow import RUN_S, until

    airflow.start("kinds", RUN)

    def waits_for_a_person_alone():
        states = airflow.states("kinds", RUN)
        assert states.get(("human", -1)) not in {"failed", "upstream_failed"}
        left = {task for task, state in states.items() if state not in ENDED}
        return left == {("human", -1)} and states["human", -1] in {"deferred", "awaiting_input"}

    # Whoever answers soon after it paused can meet a "state mismatch": all others end first.
    until(waits_for_a_person_alone, RUN_S, lambda: str(airflow.states("kinds", RUN)))
    path = f"/dags/kinds/dagRuns/{RUN}/taskInstances/human/-1/hitlDetails"
    airflow.api("PATCH", path, {"chosen_options": ["Approve"], "params_input": {}})
    airflow.wait("kinds", RUN)
    ended = f"the run's end of {RUN}"
    until(lambda: airflow.events(dag="kinds", run=RUN, acts=("run.end",)), RUN_S, lambda: ended)
    return airflow


def test_every_kind_ends_as_it_would_unsecured(finished):
    assert finished.states("kinds", RUN) == STATES


@pytest.mark.parametrize(("task", "index"), sorted(RETURNED))
def test_what_the_body_returns_passes_through(finished, task, index):
    assert finished.xcom("kinds", RUN, task, at=index) == RETURNED[task, index]


@pytest.mark.parametrize(("task", "index"), sorted(WRITES))
def test_what_the_body_writes_is_sealed_and_announced(finished, task, index):
    reference = finished.xcom("kinds", RUN, task, WRITES[task, index], at=index)

    path = Path(reference["uri"].removeprefix("file://"))
    assert reference["signed_by"] == ["pipeline"]
    for each in [path] if path.is_file() else [p for p in path.iterdir() if p.is_file()]:
        assert each.read_bytes()[:8] == b"\x89ASML\r\n\x1a"


@pytest.mark.parametrize(("task", "index"), SECURED)
def test_the_trail_tells_what_each_did(finished, task, index):
    told = [
        (event["act"], event.get("result"), event.get("more", {}).get("step"))
        for event in finished.events(dag="kinds", run=RUN, task=task)
        if event["run"]["map"] == index and event["act"] != "emitter.open"
    ]
    ends = [step for act, result, step in told if act == "task.secure" and result == "ok"]
    paused = ["paused"] if (task, index) in PAUSED else []

    assert ends == [*paused, "done"]
    assert told[0][0] == "task.start"
    assert ("task.end", "ok", None) in told
    assert {result for _, result, _ in told} <= {None, "ok"}
    reads = 0 if task in {"make", "prepare"} else len(ends) * (2 if task == "reduced" else 1)
    assert [act for act, result, _ in told if result].count("object.open") == reads
    published = 1 if (task, index) in WRITES else 0
    assert ("object.publish", "ok", None) in told or not published


@pytest.mark.parametrize(("task", "index"), SECURED)
def test_airflow_keeps_markers_and_no_path(finished, task, index):
    instance = next(
        each
        for each in finished.instances("kinds", RUN)
        if (each["task_id"], each["map_index"]) == (task, index)
    )
    rendered = json.dumps(instance["rendered_fields"], ensure_ascii=False)

    assert "/dev/shm" not in rendered
    if task in {"bash", "after_expand", "before_expand", "bash_decorated"}:
        assert "\u27e6secure.table\u27e7" in rendered


def test_the_body_of_a_cut_off_task_never_ran(finished):
    with pytest.raises(NoAnswerError):
        finished.xcom("kinds", RUN, "cut_off")


def test_every_emitter_ended_whole(finished):
    opened = {e["emitter"] for e in finished.events(dag="kinds", run=RUN, acts=("task.start",))}

    assert set(finished.ended_emitters(opened).values()) == {"whole"}


def test_the_dag_said_which_tasks_are_secured(finished):
    (declared,) = finished.events(dag="kinds", acts=("dag.declare",))

    assert declared["more"]["secured"] == sorted({task for task, _ in SECURED})
    assert declared["more"]["tasks"] == len({task for task, _ in STATES})
    assert finished.events(dag="kinds_child", acts=("dag.declare",)) == []
