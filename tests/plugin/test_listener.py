"""The listener beside Airflow: its hooks fit Airflow's, and what goes wrong stays in a log line."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
from airflow.listeners.listener import get_listener_manager
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_secure_ml.errors import ManifestMismatchError
from airflow_secure_ml.plugin import listener
from airflow_secure_ml.plugin.airflow_plugin import SecureMLPlugin
from airflow_secure_ml.recording import use_sink
from airflow_secure_ml.settings import reset_settings
from airflow_secure_ml.testing.ports import MemoryAudit

TI = "019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b"


class RuntimeTaskInstance(SimpleNamespace):
    """Airflow's own is known by its name."""


def try_of(state=None, **more):
    return RuntimeTaskInstance(
        dag_id="d",
        run_id="r",
        task_id="t",
        map_index=-1,
        try_number=2,
        id=TI,
        task=object(),
        state=state,
        **more,
    )


@pytest.fixture
def audit():
    sink = MemoryAudit()
    use_sink(sink)
    yield sink
    use_sink(None)


def test_airflow_takes_the_hooks_as_they_are():
    manager = get_listener_manager().pm
    hooks = {name for name in vars(listener) if name.startswith(("on_", "before_"))}
    specs = {name: getattr(manager.hook, name).spec for name in hooks}

    assert hooks == {
        "before_stopping",
        "on_dag_run_failed",
        "on_dag_run_running",
        "on_dag_run_success",
        "on_starting",
        "on_task_instance_failed",
        "on_task_instance_running",
        "on_task_instance_skipped",
        "on_task_instance_success",
    }
    for name, spec in specs.items():
        taken = set(inspect.signature(getattr(listener, name)).parameters)
        assert taken <= set(spec.argnames), name


@pytest.mark.parametrize(
    ("hook", "error", "said"),
    [
        ("on_task_instance_failed", ValueError("secret"), "task_raised"),
        ("on_task_instance_failed", "a text", "task_raised"),
        ("on_task_instance_failed", None, "task_raised"),
        ("on_task_instance_failed", AirflowTaskTimeout("secret"), "timed_out"),
        (
            "on_task_instance_failed",
            ManifestMismatchError("x", why="digest_differs"),
            "digest_differs",
        ),
    ],
)
def test_a_failure_says_why_and_never_its_text(audit, hook, error, said):
    getattr(listener, hook)(previous_state=None, task_instance=try_of(), error=error)

    (fact,) = audit.facts
    assert (fact.act, fact.result, fact.why) == ("task.end", "failed", said)
    assert fact.more == {"by": "listener", "operator": "object", "state": "failed"}
    assert (fact.run.ti, fact.run.try_number) == (TI, 2)
    assert audit.settled == 1


def test_a_state_set_by_hand_names_the_row_of_the_database(audit):
    row = SimpleNamespace(**vars(try_of(state="failed")), operator="BashOperator")

    listener.on_task_instance_failed(previous_state="running", task_instance=row, error=None)

    assert audit.facts[0].more["operator"] == "BashOperator"


def test_a_sink_that_fails_is_one_line_in_the_log(audit, caplog):
    audit.broken = True

    with caplog.at_level(logging.WARNING):
        listener.on_task_instance_running(previous_state=None, task_instance=try_of())

    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("the audit trail has no record of task.start: ")
    assert caplog.records[0].exc_info is None


@pytest.mark.parametrize("broken", [None, object(), SimpleNamespace(dag_id=1)])
def test_what_airflow_hands_over_may_be_anything(audit, caplog, broken):
    for hook in ("on_task_instance_running", "on_task_instance_success"):
        getattr(listener, hook)(previous_state=None, task_instance=broken)
    listener.on_task_instance_failed(previous_state=None, task_instance=broken, error=None)
    for hook in ("on_dag_run_running", "on_dag_run_success", "on_dag_run_failed"):
        getattr(listener, hook)(dag_run=broken, msg="")

    assert audit.facts == []
    assert len(caplog.records) == 6


def test_dag_runs_are_told(audit):
    run = SimpleNamespace(dag_id="d", run_id="r", run_type="scheduled")

    listener.on_dag_run_running(dag_run=run, msg="x")
    listener.on_dag_run_failed(dag_run=run, msg="x")

    assert [(f.act, f.result, f.why, f.more["state"]) for f in audit.facts] == [
        ("run.start", "ok", None, "running"),
        ("run.end", "failed", "task_raised", "failed"),
    ]


def test_stopping_ends_the_emitter(audit):
    listener.before_stopping(component=None)
    listener.before_stopping(component=None)

    assert audit.closed


@pytest.mark.parametrize(("switch", "registered"), [("true", 1), ("false", 0)])
def test_it_can_be_switched_off(monkeypatch, tmp_path, switch, registered):
    monkeypatch.setenv("AIRFLOW__SECURE_ML__LISTENER", switch)
    reset_settings()
    try:
        assert len(SecureMLPlugin().listeners) == registered
    finally:
        reset_settings()


# A DAG of somebody else's, which Airflow refuses beside any listener.
ENDING = """
from airflow.sdk import DAG
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
with DAG('ending', schedule=None):
    DateTimeSensorAsync(task_id='wait', target_time='x', end_from_trigger=True)
"""


def test_switched_off_it_stands_in_nobodys_way(tmp_path):
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "ending.py").write_text(ENDING)
    script = (
        "import sys\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        "print(len(DagBag(sys.argv[1]).import_errors))\n"
    )
    found = {}
    for switch in ("true", "false"):
        environment = {
            "PATH": "/usr/bin:/bin",
            "AIRFLOW_HOME": str(tmp_path / "home"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__SECURE_ML__LISTENER": switch,
        }
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "dags")],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found[switch] = done.stdout.split()[-1]

    assert found == {"true": "1", "false": "0"}


class Job:
    """Airflow's own is known by its name."""


class TaskRunnerMarker:
    """What Airflow hands over where a task's process begins."""


@pytest.fixture
def started(monkeypatch):
    calls = []
    monkeypatch.setattr(listener, "start_reconciler", calls.append)
    reset_settings()
    yield calls
    reset_settings()


@pytest.mark.parametrize(
    ("component", "command", "every_s", "expected"),
    [
        (Job(), "scheduler", "300", [300]),
        (Job(), "scheduler", "0", []),
        (Job(), "triggerer", "300", []),
        (Job(), "dag-processor", "300", []),
        (TaskRunnerMarker(), "scheduler", "300", []),
    ],
    ids=["scheduler", "switched off", "triggerer", "dag-processor", "task of a scheduler"],
)
def test_a_reconciler_runs_beside_a_scheduler_alone(
    started, monkeypatch, component, command, every_s, expected
):
    monkeypatch.setattr(sys, "argv", ["airflow", command])
    monkeypatch.setenv("AIRFLOW__SECURE_ML__RECONCILE_EVERY_S", every_s)

    listener.on_starting(component)

    assert started == expected


def test_a_reconciler_that_cannot_be_started_breaks_nothing(monkeypatch, caplog):
    def fail(every_s):
        raise OSError("no more processes")

    monkeypatch.setattr(sys, "argv", ["airflow", "scheduler"])
    monkeypatch.setattr(listener, "start_reconciler", fail)

    with caplog.at_level(logging.WARNING):
        listener.on_starting(Job())

    assert [record.getMessage() for record in caplog.records] == [
        "the audit trail has no record of whether all of Airflow's tries are in it: OSError"
    ]
