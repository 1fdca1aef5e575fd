"""What the listener records of tasks that end in every way, under a real scheduler."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.airflow

RUN = "outcomes-1"
STATES = {
    "good": "success",
    "skipping": "skipped",
    "failing": "failed",
    "second_try": "success",
    "secured_good": "success",
    "secured_skipping": "skipped",
    "secured_failing": "failed",
    "refused": "failed",
    "deferring": "success",
    "some_time_later": "success",
    "arrives_late": "success",
    "waited": "success",
    "to_be_altered": "success",
    "attacker": "success",
    "altered": "failed",
}
# Each entry: activity, try, state, result, why.
GOOD = [
    ("task.start", 1, "running", "ok", None),
    ("task.end", 1, "success", "ok", None),
]
SKIPPED = [
    ("task.start", 1, "running", "ok", None),
    ("task.end", 1, "skipped", "ok", None),
]
FAILED = [
    ("task.start", 1, "running", "ok", None),
    ("task.end", 1, "failed", "failed", "task_raised"),
]
TOLD = {
    "good": GOOD,
    "skipping": SKIPPED,
    "failing": FAILED,
    "second_try": [
        ("task.start", 1, "running", "ok", None),
        ("task.end", 1, "up_for_retry", "failed", "task_raised"),
        ("task.start", 2, "running", "ok", None),
        ("task.end", 2, "success", "ok", None),
    ],
    "secured_good": GOOD,
    "secured_skipping": SKIPPED,
    "secured_failing": FAILED,
    "refused": [
        ("task.start", 1, "running", "ok", None),
        ("task.end", 1, "failed", "failed", "not_sealed"),
    ],
    "altered": [
        ("task.start", 1, "running", "ok", None),
        ("task.end", 1, "failed", "failed", "digest_differs"),
    ],
    # A deferred task starts again when it goes on.
    "deferring": [GOOD[0], *GOOD],
    "waited": [GOOD[0], *GOOD],
}


@pytest.fixture(scope="module")
def finished(airflow):
    from own_airflow import RUN_S, until

    airflow.start("outcomes", RUN)
    airflow.wait("outcomes", RUN)
    until(
        lambda: airflow.events(dag="outcomes", run=RUN, acts=("run.end",)), RUN_S, lambda: "run.end"
    )
    return airflow


def test_the_run_ended_as_meant(finished):
    found = {task: state for (task, _), state in finished.states("outcomes", RUN).items()}

    assert found == STATES


@pytest.mark.parametrize("task", sorted(TOLD))
def test_the_listener_tells_each_try(finished, task):
    events = finished.events(dag="outcomes", run=RUN, task=task, acts=("task.start", "task.end"))

    assert [
        (e["act"], e["run"]["try"], e["more"]["state"], e["result"], e.get("why")) for e in events
    ] == TOLD[task]
    assert {e["more"]["by"] for e in events} == {"listener"}


def test_a_refusal_stands_in_the_trail_and_is_not_tried_again(finished):
    events = finished.events(dag="outcomes", run=RUN, task="refused", results=("refused",))

    assert [(e["act"], e["why"]) for e in events] == [
        ("object.verify", "not_sealed"),
        ("task.secure", "not_sealed"),
    ]


def test_the_sensor_waits_in_the_triggerer_and_verifies_in_the_task(finished):
    events = finished.events(dag="outcomes", run=RUN, task="waited", acts=("object.",))
    reference = finished.xcom("outcomes", RUN, "waited")

    assert [(e["act"], e["result"]) for e in events] == [("object.verify", "ok")]
    assert reference["digest"] == finished.xcom("outcomes", RUN, "arrives_late", "late")["digest"]


def test_the_run_itself_is_told_by_the_scheduler(finished):
    events = finished.events(dag="outcomes", run=RUN, acts=("run.start", "run.end"))

    assert [(e["act"], e["more"]["state"], e["more"]["type"]) for e in events] == [
        ("run.start", "running", "manual"),
        ("run.end", "failed", "manual"),
    ]
    assert events[1]["run"] == {"dag": "outcomes", "run": RUN}
    (opened,) = finished.events(emitter=events[0]["emitter"], acts=("emitter.open",))
    assert opened["more"]["program"] == "scheduler"


def test_every_try_is_an_emitter_that_ended_whole(finished):
    opened = {e["emitter"] for e in finished.events(dag="outcomes", run=RUN, acts=("task.start",))}

    assert set(finished.ended_emitters(opened).values()) == {"whole"}
