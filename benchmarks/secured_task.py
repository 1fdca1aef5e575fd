"""What `secure()` adds to a task: the same body, bare and secured, without Airflow's own work.

Real keyring, spool, sequencer, guardian and scratch. Each task opens its deployment and its
emitter anew, as a task's process does. `fresh` are tasks in a fork of a process that has parsed
the DAG and run nothing, as Airflow runs them; `warm` follow each other in one process.
"""

from __future__ import annotations

import functools
import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measuring import median_fdatasync_ms
from benchmarks.task_bench import TaskBench, in_turns, summary

DATA_BYTES = 1 << 20
CASES = ("bare", "stream", "read", "read_write")


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Milliseconds by case: p50 and p95, fresh and warm; the stages of the largest case."""
    (folder / "data").mkdir()
    bench = TaskBench(folder, lambda: _make_dag(folder / "data"))
    count = 10 if quick else 100
    try:
        # In a fork: this process must not have run anything yet.
        bench.once_forked("write", "input")
        d_ms = median_fdatasync_ms(folder)
        fresh = in_turns(bench.once_forked, CASES, count, "secured task in a fresh process")
        warm = in_turns(bench.once, CASES, count, "secured task, one process")
        with _stopwatch() as stages:
            for number in range(count):
                bench.once("read_write", f"stages-{number}")
    finally:
        bench.stop()
    return {
        "d_ms": round(d_ms, 3),
        "count": count,
        "data_bytes": DATA_BYTES,
        "fresh": {name: summary(taken) for name, taken in fresh.items()},
        "warm": {name: summary(taken) for name, taken in warm.items()},
        "stages_ms": {
            name: round(1000 * statistics.median(_per_task(taken, count)), 2)
            for name, taken in stages.items()
        },
    }


def _per_task(taken: list[float], count: int) -> list[float]:
    """Sums by task: a stage may be entered several times in each."""
    each = len(taken) // count
    return [sum(taken[at : at + each]) for at in range(0, len(taken), each)]


def _make_dag(data: Path) -> tuple[Any, dict[str, Any]]:
    from airflow.sdk import DAG, task

    from airflow_secure_ml import Reads, secure

    source, plain = str(data / "table"), data / "plain"
    plain.write_bytes(os.urandom(DATA_BYTES))

    def copied(table: Path, copy: Path) -> None:
        copy.write_bytes(table.read_bytes())

    def read(table: Any) -> None:
        table.read_bytes()

    def read_stream(table: Any) -> None:
        table.read()

    def write(table: Path) -> None:
        table.write_bytes(plain.read_bytes())

    def bare() -> None:
        copied(plain, data / "bare")

    with DAG("bench", schedule=None) as dag:
        made = {
            "write": secure(task(write), writes={"table": source})(),
            "bare": task(bare)(),
            "stream": secure(task(read_stream), reads={"table": Reads(source, stream=True)})(),
            "read": secure(task(read), reads={"table": source})(),
            "read_write": secure(
                task(copied),
                reads={"table": source},
                writes={"copy": str(data / "copy-{{ run_id }}")},
            )(),
        }
    return dag, {name: one.operator for name, one in made.items()}


@contextmanager
def _stopwatch() -> Iterator[dict[str, list[float]]]:
    """Time the stages of every task inside, from their own functions."""
    from airflow_secure_ml import deployment
    from airflow_secure_ml.adapters.guardian_process import Guardian
    from airflow_secure_ml.adapters.spool import Spool
    from airflow_secure_ml.services import (
        found_inputs,
        secured_inputs,
        secured_outputs,
        secured_publishing,
        secured_run,
    )

    stages: dict[str, list[float]] = {}
    watched: list[tuple[str, Any, str]] = [
        ("guardian: start", Guardian, "start"),
        ("guardian: wait until it watches", Guardian, "ready"),
        ("guardian: shred", Guardian, "finish"),
        ("guardian: end", Guardian, "leave"),
        ("trail: settle", Spool, "settle"),
        ("trail: close", Spool, "close"),
        ("input: find and verify the statement", found_inputs, "statements_about"),
        ("input: open", secured_inputs, "open_object"),
        ("output: check first", secured_run, "check_output"),
        ("output: seal", secured_outputs, "seal_object"),
        ("output: sign, statement durable", secured_publishing, "sign_artifact"),
        ("scratch: make", deployment.Deployment, "_make_scratch"),
    ]
    originals = [(owner, name, vars(owner)[name]) for _, owner, name in watched]
    for stage, owner, name in watched:
        stages[stage] = []
        setattr(owner, name, _watched(vars(owner)[name], stages[stage]))
    try:
        yield stages
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _watched(original: Any, taken: list[float]) -> Any:
    function = original.__func__ if isinstance(original, classmethod) else original

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        start = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            taken.append(perf_counter() - start)

    return classmethod(call) if isinstance(original, classmethod) else call
