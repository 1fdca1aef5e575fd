"""What Airflow finds through the entry point `airflow.policy`: DAGs say which tasks are secured.

The serialized DAG does not tell, so the DAG processor records it, once for each change. Every
process that parses a DAG loads this: it imports nothing until there is something to record.

Source: AUDIT_TRAIL, Producers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from airflow.policies import hookimpl

log = logging.getLogger(__name__)

# On classes that `secure()` made, and on this package's own operators.
_MARKS = ("_secure_ml_declaration", "_secure_ml_recorded")
# An event holds 32768 bytes; larger declarations are several events of one version. A name has
# 250 characters at most, of up to four bytes.
_TASKS_AN_EVENT = 100
_NAMES_BYTES = 24_000
_MAX_FILE_BYTES = 256


@hookimpl
def dag_policy(dag: Any) -> None:
    """Record `dag.declare` if this is the DAG processor and the declaration changed."""
    if not is_dag_processor():
        return
    try:
        _declare(dag)
    except Exception as error:  # noqa: BLE001 - a DAG must parse whatever the trail does
        log.warning(
            "the audit trail has no record of which tasks of DAG %s are secured: %s",
            dag.dag_id,
            type(error).__name__,
        )


def is_dag_processor() -> bool:
    """Whether this process parses DAG files for the DAG processor; tasks parse them too."""
    processor = sys.modules.get("airflow.dag_processing.processor")
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    comms = getattr(runner, "SUPERVISOR_COMMS", None)
    if processor is None or comms is None:
        return False
    # The one thing that tells: which messages this process takes from its supervisor.
    return getattr(comms.body_decoder, "_type", None) is processor.ToDagProcessor


def _declare(dag: Any) -> None:
    from airflow_secure_ml.settings import load_settings

    secured = sorted(task.task_id for task in dag.tasks if is_secured(task))
    folder = load_settings(with_airflow=True).audit_dir / "declared"
    name = folder / hashlib.sha256(dag.dag_id.encode()).hexdigest()
    known = _read(name)
    if known is None and not secured:
        return
    file = getattr(dag, "relative_fileloc", None) or os.path.basename(dag.fileloc)
    # A file's name may be anything but text.
    file = os.fsencode(file).decode("utf-8", "replace")
    declaration = json.dumps([dag.dag_id, file, secured]).encode()
    version = "sha256:" + hashlib.sha256(declaration).hexdigest()
    if known == version:
        return
    _record(dag, {"tasks": len(dag.tasks), "version": version, "file": file}, secured)
    _write(name, version)


def is_secured(task: Any) -> bool:
    """Whether a task, mapped or not, records what it does."""
    cls = getattr(task, "operator_class", None) or type(task)
    return any(hasattr(cls, mark) for mark in _MARKS)


def _record(dag: Any, facts: dict[str, Any], secured: list[str]) -> None:
    from airflow_secure_ml.core.audit.event import Fact, RunRef
    from airflow_secure_ml.recording import sink_of_this_process

    sink = sink_of_this_process(program="dag-processor")
    about = RunRef(dag=dag.dag_id, run="")
    for names in _portions(secured):
        more = {**facts, "secured": names}
        sink.record(Fact(act="dag.declare", phase="seen", result="ok", run=about, more=more))
    sink.settle()


def _portions(names: list[str]) -> list[list[str]]:
    """Names by what an event holds of them; one empty portion if there is none."""
    portions: list[list[str]] = [[]]
    used = 0
    for name in names:
        size = len(name.encode("utf-8")) + len('"",')
        if used + size > _NAMES_BYTES or len(portions[-1]) == _TASKS_AN_EVENT:
            portions.append([])
            used = 0
        portions[-1].append(name)
        used += size
    return portions


def _read(name: Path) -> str | None:
    try:
        with name.open("rb") as file:
            return file.read(_MAX_FILE_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        return None


def _write(name: Path, version: str) -> None:
    # Lost in a crash it is recorded again, which does no harm; half of it would be no version.
    name.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = name.with_name(f"{name.name}.{os.getpid()}")
    aside.write_text(version, encoding="ascii")
    aside.replace(name)
