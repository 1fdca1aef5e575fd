"""Which task try this process is, of which team, and what else it is if it is none.

Asked by what Airflow calls without saying for whom: back ends for secrets and XCom. Code of a task
can make it say anything: it tells honest code apart, it keeps nobody out.
"""

from __future__ import annotations

import sys
from typing import Any

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.recording import run_of

_BOUND = ("ti_id", "dag_id", "task_id", "run_id", "try_number")
_PROGRAMS = frozenset({"api-server", "dag-processor", "scheduler", "standalone", "triggerer"})


def current_run() -> RunRef | None:
    """The task try of this process; None: it is none, or Airflow does not say."""
    return body_run() or _bound_run()


def body_run() -> RunRef | None:
    """The task try whose context is set in this process, as it is for its body; None: no try's."""
    ti = _current_ti()
    return None if ti is None else run_of(ti)


def current_team() -> str | None:
    """The team whose task this process is; None: no task, no team, or Airflow does not say."""
    server = getattr(_current_ti(), "_ti_context_from_server", None)
    return getattr(getattr(server, "dag_run", None), "team_name", None)


def this_program(run: RunRef | None) -> str:
    """What a new emitter of this process calls itself.

    Args:
        run: `current_run()`; None: it is known to be no task's.
    """
    if run is not None:
        return "task"
    # Airflow names no component in its hooks: on_starting comes before it knows itself.
    named = sys.argv[1] if len(sys.argv) > 1 else ""
    return named if named in _PROGRAMS else "airflow"


def _current_ti() -> Any:
    # Only where Airflow has loaded it already: this is asked while Airflow reads its configuration.
    if "airflow.sdk.execution_time.context" not in sys.modules:
        return None
    from airflow.sdk import get_current_context

    try:
        return get_current_context()["ti"]
    except (RuntimeError, KeyError):
        return None


def _bound_run() -> RunRef | None:
    """The try that Airflow has bound to this process's log: before and after the body, too."""
    if "airflow.sdk.execution_time.task_runner" not in sys.modules:
        return None
    from structlog.contextvars import get_contextvars

    bound = get_contextvars()
    if any(bound.get(name) is None for name in _BOUND):
        return None
    map_index = bound.get("map_index")
    return RunRef(
        dag=str(bound["dag_id"]),
        run=str(bound["run_id"]),
        task=str(bound["task_id"]),
        map_index=-1 if map_index is None else int(map_index),
        try_number=int(bound["try_number"]),
        ti=str(bound["ti_id"]),
    )
