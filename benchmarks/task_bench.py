"""Run single tasks of a DAG as a worker would, without Airflow's own work, and time them."""

from __future__ import annotations

import json
import os
import sys
import traceback
import types
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

from benchmarks.measuring import quantile, say


def in_turns(
    once: Callable[[str, str], float], cases: Sequence[str], count: int, what: str
) -> dict[str, list[float]]:
    """Seconds by case, each case once in every round."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(count):
        if number % 25 == 0:
            say(f"{what}: {number} of {count}")
        for name in cases:
            found[name].append(once(name, f"{what[-7:].strip()}-{number}"))
    return found


def summary(taken: list[float]) -> dict[str, float]:
    """Milliseconds from seconds."""
    return {
        "p50_ms": round(1000 * quantile(taken, 0.5), 2),
        "p95_ms": round(1000 * quantile(taken, 0.95), 2),
    }


class TaskBench:
    """A DAG, its keys and its trail below one folder.

    Args:
        folder: Where everything of it lies.
        make_dag: Makes the DAG and its tasks by name; the one named `bare` is not secured.
        settings: More options of [secure_ml].
    """

    def __init__(
        self,
        folder: Path,
        make_dag: Callable[[], tuple[Any, dict[str, Any]]],
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        from airflow_secure_ml.adapters.local_keyring import LocalKeyring
        from airflow_secure_ml.adapters.log_signer import init_log

        self._folder = folder
        LocalKeyring(folder / "keyring.json").init()
        init_log(folder / "signer", "example.org")
        self._texts = {
            "key_system": f"local://{folder}/keyring.json",
            "audit_dir": str(folder / "audit"),
            "audit_signer_dir": str(folder / "signer"),
            **settings,
        }
        self._dag, self._tasks = make_dag()
        self._deployment().ensure_sequencer()

    def stop(self) -> None:
        """Stop the trail's sequencer."""
        from airflow_secure_ml.adapters.sequencer import stop_sequencer

        stop_sequencer(self._folder / "audit", timeout_s=60)

    def _deployment(self) -> Any:
        from airflow_secure_ml.deployment import Deployment
        from airflow_secure_ml.settings import parse_settings

        return Deployment(parse_settings(self._texts))

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
