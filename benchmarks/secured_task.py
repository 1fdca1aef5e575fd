"""What `secure()` adds to a task: the same body, bare and secured, without Airflow's own work.

Real keyring, spool, sequencer, guardian and scratch. Each task opens its deployment and its
emitter anew, as a task's process does. `fresh` are tasks in a fork of a process that has parsed
the DAG and run nothing, as Airflow runs them; `warm` follow each other in one process.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import sys
import traceback
import types
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measuring import median_fdatasync_ms, quantile, say

DATA_BYTES = 1 << 20
CASES = ("bare", "stream", "read", "read_write")


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Milliseconds by case: p50 and p95, fresh and warm; the stages of the largest case."""
    bench = _Bench(folder)
    count = 10 if quick else 100
    try:
        bench.write_input()
        d_ms = median_fdatasync_ms(folder)
        fresh = _in_turns(bench.once_forked, count, "secured task in a fresh process")
        warm = _in_turns(bench.once, count, "secured task, one process")
        with _stopwatch() as stages:
            for number in range(count):
                bench.once("read_write", f"stages-{number}")
    finally:
        bench.stop()
    return {
        "d_ms": round(d_ms, 3),
        "count": count,
        "data_bytes": DATA_BYTES,
        "fresh": {name: _summary(taken) for name, taken in fresh.items()},
        "warm": {name: _summary(taken) for name, taken in warm.items()},
        "stages_ms": {
            name: round(1000 * statistics.median(_per_task(taken, count)), 2)
            for name, taken in stages.items()
        },
    }


def _in_turns(once: Callable[[str, str], float], count: int, what: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(count):
        if number % 25 == 0:
            say(f"{what}: {number} of {count}")
        for name in CASES:
            found[name].append(once(name, f"{what[-7:].strip()}-{number}"))
    return found


def _summary(taken: list[float]) -> dict[str, float]:
    return {
        "p50_ms": round(1000 * quantile(taken, 0.5), 2),
        "p95_ms": round(1000 * quantile(taken, 0.95), 2),
    }


def _per_task(taken: list[float], count: int) -> list[float]:
    """Sums by task: a stage may be entered several times in each."""
    each = len(taken) // count
    return [sum(taken[at : at + each]) for at in range(0, len(taken), each)]


class _Bench:
    """A DAG, its keys and its trail below one folder."""

    def __init__(self, folder: Path) -> None:
        from airflow_secure_ml.adapters.local_keyring import LocalKeyring
        from airflow_secure_ml.adapters.log_signer import init_log

        self._folder = folder
        (folder / "data").mkdir()
        LocalKeyring(folder / "keyring.json").init()
        init_log(folder / "signer", "example.org")
        self._texts = {
            "key_system": f"local://{folder}/keyring.json",
            "audit_dir": str(folder / "audit"),
            "audit_signer_dir": str(folder / "signer"),
        }
        self._dag, self._tasks = _make_dag(folder / "data")
        self._deployment().ensure_sequencer()

    def stop(self) -> None:
        from airflow_secure_ml.adapters.sequencer import stop_sequencer

        stop_sequencer(self._folder / "audit", timeout_s=60)

    def _deployment(self) -> Any:
        from airflow_secure_ml.deployment import Deployment
        from airflow_secure_ml.settings import parse_settings

        return Deployment(parse_settings(self._texts))

    def write_input(self) -> None:
        # In a fork: this process must not have run anything yet.
        self.once_forked("write", "input")

    def once(self, name: str, run_id: str) -> float:
        """Seconds of one task, from its rendered fields to its end in the trail."""
        from airflow_secure_ml.deployment import use_deployment
        from airflow_secure_ml.recording import close_sink

        operator, context = self._tasks[name], self._context(name, run_id)
        operator.render_template_fields(context)
        start = perf_counter()
        if name != "bare":
            use_deployment(self._deployment())
        operator.execute(context)
        if name != "bare":
            close_sink()
        return perf_counter() - start

    def once_forked(self, name: str, run_id: str) -> float:
        """As `once`, in a child that ends with the task."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writer, json.dumps(self.once(name, run_id)).encode())
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                # Not sys.exit: what the parent holds is the parent's to end.
                sys.stderr.flush()
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        if not said:
            raise RuntimeError(f"the task {name!r} failed in a process of its own")
        return float(json.loads(said))

    def _context(self, name: str, run_id: str) -> dict[str, Any]:
        ti = types.SimpleNamespace(
            dag_id=self._dag.dag_id,
            run_id=run_id,
            task_id=self._tasks[name].task_id,
            map_index=-1,
            try_number=1,
            id=uuid.uuid4(),
            get_task_states=lambda **asked: {run_id: {asked["task_ids"][0]: "running"}},
            xcom_push=lambda **_: None,
        )
        return {
            "ti": ti,
            "task_instance": ti,
            "dag": self._dag,
            "run_id": run_id,
            "task": self._tasks[name],
            "outlet_events": defaultdict(types.SimpleNamespace),
            "params": {},
        }


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
        ("input: find and verify the statement", secured_inputs, "statements_for"),
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
