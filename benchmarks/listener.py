"""What Airflow's callbacks cost a task that secures nothing: its start and its end, both durable.

Each task is a forked child, as Airflow's are, with an emitter and a segment of its own.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from benchmarks.measuring import median_fdatasync_ms, quantile, say


class RuntimeTaskInstance(SimpleNamespace):
    """Airflow's own is known by its name."""


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Seconds that the listener takes of each task."""
    from airflow_secure_ml.adapters.log_signer import init_log
    from airflow_secure_ml.adapters.sequencer import stop_sequencer
    from airflow_secure_ml.deployment import Deployment, use_deployment
    from airflow_secure_ml.settings import parse_settings

    init_log(folder / "signer", "example.org")
    texts = {
        "key_system": f"local://{folder}/keyring.json",
        "audit_dir": str(folder / "audit"),
        "audit_signer_dir": str(folder / "signer"),
    }
    use_deployment(Deployment(parse_settings(texts)))
    from airflow_secure_ml.plugin import listener  # noqa: F401 - a task's process has it already

    d_ms = median_fdatasync_ms(folder)
    count = 20 if quick else 400
    say(f"listener: {count} tasks")
    try:
        taken = [_task(number) for number in range(count)]
    finally:
        stop_sequencer(folder / "audit", timeout_s=60)
    return {"taken_s": taken, "d_ms": d_ms}


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as a line of the table."""
    taken = found["taken_s"]
    p50, p99 = 1000 * statistics.median(taken), 1000 * quantile(taken, 0.99)
    return [
        (
            "listener, over a task that secures nothing",
            f"p50 +{p50:.1f} ms, p99 +{p99:.1f} ms",
            f"two durable events, imports included; d = {found['d_ms']:.2f} ms",
            "reported",
        )
    ]


def _task(number: int) -> float:
    """One task's start and end in a child; what the listener took of it."""
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, repr(_heard(number)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        taken = float(pipe.read())
    os.wait()
    return taken


def _heard(number: int) -> float:
    from airflow_secure_ml.plugin import listener

    ti = RuntimeTaskInstance(
        dag_id="etl",
        run_id=f"scheduled__{number}",
        task_id="load",
        map_index=-1,
        try_number=1,
        id="019ab2c4-7d10-7b3e-9a55-0c6d1f2e3a4b",
        task=object(),
        state="success",
    )
    start = perf_counter()
    listener.on_task_instance_running(previous_state=None, task_instance=ti)
    listener.on_task_instance_success(previous_state=None, task_instance=ti)
    listener.before_stopping(component=None)
    return perf_counter() - start
