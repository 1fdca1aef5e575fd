"""Who asks: a task try from Airflow's context or from what it bound to the log, else nobody."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.current_task import current_run, current_team, this_program

TI = SimpleNamespace(
    dag_id="churn", run_id="r1", task_id="train", map_index=None, try_number=2, id="uuid"
)
RUN = RunRef(dag="churn", run="r1", task="train", map_index=-1, try_number=2, ti="uuid")


@pytest.fixture
def in_task():
    from airflow.sdk.execution_time.context import set_current_context

    return lambda ti=TI: set_current_context({"ti": ti})


def test_outside_a_task_nobody_asks():
    assert current_run() is None
    assert current_team() is None


def test_a_body_asks_as_its_try(in_task):
    with in_task():
        assert current_run() == RUN

    assert current_run() is None


def test_a_thread_of_the_body_asks_as_its_try(in_task):
    found = []
    with in_task():
        thread = threading.Thread(target=lambda: found.append(current_run()))
        thread.start()
        thread.join()

    assert found == [RUN]


def test_what_airflow_does_before_and_after_the_body_is_the_trys_too():
    from airflow.sdk.execution_time import task_runner  # noqa: F401 - as in a task's process
    from structlog.contextvars import bound_contextvars

    bound = {"ti_id": "uuid", "dag_id": "churn", "task_id": "train", "run_id": "r1"}
    with bound_contextvars(**bound, try_number=2, map_index=-1):
        assert current_run() == RUN
    with bound_contextvars(**bound):
        assert current_run() is None


def test_the_team_is_what_the_server_said(in_task):
    server = SimpleNamespace(dag_run=SimpleNamespace(team_name="risk"))
    with in_task(SimpleNamespace(**vars(TI), _ti_context_from_server=server)):
        assert current_team() == "risk"
    with in_task():
        assert current_team() is None


@pytest.mark.parametrize(
    ("argv", "run", "program"),
    [
        (["airflow", "scheduler"], None, "scheduler"),
        (["airflow", "variables", "list"], None, "airflow"),
        (["x"], None, "airflow"),
        (["airflow", "scheduler"], RUN, "task"),
    ],
)
def test_a_process_is_named_by_its_command_unless_it_runs_a_task(argv, run, program, monkeypatch):
    monkeypatch.setattr("sys.argv", argv)

    assert this_program(run) == program
