"""Airflow's own callbacks as another vantage point of the trail: tasks and DAG runs, all of them.

A task's callbacks run in the task's process, so this is no independent witness. Nothing here may
break or slow Airflow: no database, no exception out, one line in the log for what went wrong.

The signatures are Airflow's: a wrong one would disable every plugin's listeners.
Source: AUDIT_TRAIL, Producers.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

from airflow_secure_ml.core.audit.catalogue import WHYS
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.current_task import this_program
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.reconciling.starting import start_reconciler, stop_reconciler
from airflow_secure_ml.recording import close_sink, run_of, sink_of_this_process
from airflow_secure_ml.settings import load_settings

log = logging.getLogger(__name__)

_BY = "listener"


@hookimpl
def on_starting(component: Any) -> None:
    """Start the reconciler beside a scheduler, as a process of its own."""
    try:
        # A task's process is forked from the scheduler's and has its command line, too.
        if type(component).__name__ != "Job" or this_program(None) != "scheduler":
            return
        every_s = load_settings(with_airflow=True).reconcile_every_s
        if every_s:
            start_reconciler(every_s)
    except Exception as error:  # noqa: BLE001 - a listener never breaks Airflow
        _warn("whether all of Airflow's tries are in it", error)


@hookimpl
def before_stopping(component: Any) -> None:
    """End this process's emitter; in a task's process nothing is recorded after this."""
    try:
        stop_reconciler()
        close_sink()
    except Exception as error:  # noqa: BLE001 - a listener never breaks Airflow
        _warn("the end of this process", error)


@hookimpl
def on_task_instance_running(previous_state: Any, task_instance: Any) -> None:
    """A task began, or went on after it was deferred."""
    _record_task("task.start", task_instance, "running")


@hookimpl
def on_task_instance_success(previous_state: Any, task_instance: Any) -> None:
    """A task ended well."""
    _record_task("task.end", task_instance, "success")


@hookimpl
def on_task_instance_skipped(previous_state: Any, task_instance: Any) -> None:
    """A task skipped itself."""
    _record_task("task.end", task_instance, "skipped")


@hookimpl
def on_task_instance_failed(previous_state: Any, task_instance: Any, error: Any) -> None:
    """A try failed, whether or not there is another."""
    _record_task("task.end", task_instance, "failed", _why(error))


@hookimpl
def on_dag_run_running(dag_run: Any, msg: str) -> None:
    """A DAG run began."""
    _record_run("run.start", dag_run, "running")


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:
    """A DAG run ended well."""
    _record_run("run.end", dag_run, "success")


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:
    """A DAG run failed."""
    _record_run("run.end", dag_run, "failed", "task_raised")


def _record_task(act: str, ti: Any, state: str, why: str | None = None) -> None:
    try:
        # Users may set a state by hand: then this is the API server, and the row of its database.
        in_task = type(ti).__name__ == "RuntimeTaskInstance"
        operator = type(ti.task).__name__ if in_task else ti.operator
        # Known more exactly than by the callback: up_for_retry is a failed try too.
        known = getattr(ti, "state", None) if act == "task.end" else None
        found = getattr(known, "value", known) or state
        more = {"by": _BY, "operator": _text(operator), "state": _text(found)}
        _record(act, run_of(ti), more, why, program="task" if in_task else this_program(None))
    except Exception as error:  # noqa: BLE001 - a listener never breaks Airflow
        _warn(act, error)


def _record_run(act: str, dag_run: Any, state: str, why: str | None = None) -> None:
    try:
        run, kind = RunRef(dag=dag_run.dag_id, run=dag_run.run_id), dag_run.run_type
        more = {"by": _BY, "state": state, "type": kind and _text(getattr(kind, "value", kind))}
        _record(act, run, more, why, program=this_program(None))
    except Exception as error:  # noqa: BLE001 - a listener never breaks Airflow
        _warn(act, error)


def _record(act: str, run: RunRef, more: dict[str, Any], why: str | None, *, program: str) -> None:
    result = "ok" if why is None else "failed"
    # An emitter that is opened for a try names it; a scheduler's belongs to no run.
    sink = sink_of_this_process(run if program == "task" else None, program=program)
    sink.record(Fact(act=act, phase="seen", result=result, why=why, run=run, more=more))
    sink.settle()


def _why(error: Any) -> str:
    if isinstance(error, SecureMLError):
        # A task may raise our errors with a reason of its own; its end is recorded all the same.
        return error.why if error.why in tuple(WHYS) else "task_raised"
    names = {cls.__name__ for cls in type(error).__mro__}
    return "timed_out" if names & {"AirflowTaskTimeout", "AirflowSensorTimeout"} else "task_raised"


def _text(value: Any) -> str:
    """A name that a task's author may have made up, as an event can hold it."""
    return str(value).encode("utf-8", "replace").decode().replace("\0", "?")


def _warn(what: str, error: Exception) -> None:
    # Not its text: what raised it is unknown, and this goes to logs that many may read.
    found = str(error) if isinstance(error, SecureMLError) else type(error).__name__
    log.warning("the audit trail has no record of %s: %s", what, found)
