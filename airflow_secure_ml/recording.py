"""The one audit sink of this process, whoever in it records: task, listener, page, command line.

A process is one emitter; two sinks in it would be two, and one of them without an end.

Source: AUDIT_TRAIL, Producers.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.hooks.connection_warnings import ConnectionWarning, on_warning
from airflow_secure_ml.hooks.metrics import CountedSink

if TYPE_CHECKING:
    from airflow_secure_ml.core.ports import AuditSink

_lock = threading.Lock()
_sinks: dict[int, AuditSink] = {}


def _free_lock() -> None:
    """In a forked child: another thread of the parent may have held it, and is not here."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_free_lock)


def sink_of_this_process(run: RunRef | None = None, *, program: str) -> AuditSink:
    """The sink of this process, opened on first use.

    Args:
        run: What a new emitter was opened for; events name their own run.
        program: What the process is, such as `task` or `cli`.

    Raises:
        ConfigurationError: The settings cannot be read.
    """
    with _lock:
        sink = _sinks.get(os.getpid())
        if sink is None:
            sink = _open(run, program)
            _sinks[os.getpid()] = sink
        return sink


def use_sink(sink: AuditSink | None) -> None:
    """Put another sink in the place of this process's own (tests); None: back to the spool."""
    with _lock:
        _sinks.pop(os.getpid(), None)
        if sink is not None:
            _sinks[os.getpid()] = sink


def close_sink() -> None:
    """End this process's emitter, if it has one; the next event opens another."""
    with _lock:
        sink = _sinks.pop(os.getpid(), None)
    if sink is not None:
        sink.close()


def _open(run: RunRef | None, program: str) -> AuditSink:
    from airflow_secure_ml.deployment import deployment

    sink = CountedSink(deployment().open_sink(run, program))
    on_warning(lambda warning: _alert(sink, warning))
    # Airflow clears inherited exit handlers in a task's process and runs those made there.
    atexit.register(close_sink)
    return sink


def _alert(sink: AuditSink, warning: ConnectionWarning) -> None:
    more = {"about": warning.about, "subject": warning.subject, "because": warning.because}
    sink.record(Fact(act="alert.raise", phase="seen", result="ok", more=more))
    sink.settle()


def run_of(ti: Any) -> RunRef:
    """The task try that an Airflow task instance is."""
    return RunRef(
        dag=ti.dag_id,
        run=ti.run_id,
        task=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        try_number=ti.try_number,
        ti=str(ti.id),
    )
