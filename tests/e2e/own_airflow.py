"""A whole Airflow of a test session's own, and what tests ask of it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.query import EventQuery
from dags_examples.demo.airflow_api import ENDED
from dags_examples.demo.airflow_process import COMPONENTS, RunningAirflow

START_S, RUN_S, TRAIL_S = 240, 420, 90
# The one that runs.
_started: list[RunningAirflow] = []
# uv would ask a package index for what a bare environment needs.
SETTINGS = {
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__STANDARD__VENV_INSTALL_METHOD": "pip",
    # Tests count what they recorded; who wants the reconciler asks for it.
    "AIRFLOW__SECURE_ML__RECONCILE_EVERY_S": "0",
}


class OwnAirflow:
    """What tests ask of a running Airflow."""

    def __init__(self, folder: Path, running: RunningAirflow, scratch: Path) -> None:
        self.folder, self.scratch, self.url = folder, scratch, running.url
        self.home, self.data = running.home, folder / "data"
        self.environment = running.environment
        self.audit_dir = self.home / "secure_ml" / "audit"
        self._api = running.api()
        self.token = self._api.token

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._api.call(method, f"/api/v2{path}", body)

    def start(self, dag: str, run: str) -> None:
        """Trigger a run, once the DAG is known."""
        until(
            lambda: dag in self._api.dag_ids(),
            START_S,
            lambda: "\n".join(self._api.import_errors())[:3000],
        )
        self._api.unpause(dag)
        self.api("POST", f"/dags/{dag}/dagRuns", {"dag_run_id": run, "logical_date": None})

    def wait(self, dag: str, run: str) -> dict[tuple[str, int], str]:
        """The state of each task instance when the run has ended."""
        until(
            lambda: self._api.runs(dag).get(run) in ENDED,
            RUN_S,
            lambda: str(self.states(dag, run)),
        )
        return self.states(dag, run)

    def states(self, dag: str, run: str) -> dict[tuple[str, int], str]:
        return {(t["task_id"], t["map_index"]): t["state"] for t in self.instances(dag, run)}

    def instances(self, dag: str, run: str) -> list[dict[str, Any]]:
        found = self.api("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances?limit=200")
        return found["task_instances"]

    def xcom(self, dag: str, run: str, task: str, key: str = "return_value", at: int = -1) -> Any:
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}"
        return self.api("GET", f"{path}?map_index={at}&deserialize=true")["value"]

    def events(self, **query: Any) -> list[dict[str, Any]]:
        """Sequenced events, oldest first."""
        log = self.audit_dir / LOG_FILE
        if not log.exists():
            return []
        found = SqliteAuditReader(log).page(EventQuery(**query), limit=5000)
        return [dict(leaf.event) for leaf in reversed(found)]

    def ended_emitters(self, ids: set[str]) -> dict[str, str]:
        """How each of these emitters ended: whole, cut, gap or torn."""

        def states() -> dict[str, str]:
            found = [event["more"] for event in self.events(acts=("trail.emitter",))]
            return {f["emitter"]: f["state"] for f in found if f["state"] != "found"}

        until(lambda: ids <= states().keys(), TRAIL_S, lambda: str(ids - states().keys()))
        return {emitter: state for emitter, state in states().items() if emitter in ids}

    def logs(self) -> str:
        """What its components said."""
        texts = [self.home / "logs" / f"{name}.log" for name in COMPONENTS]
        return "\n".join(path.read_text(errors="replace") for path in texts)


def until(found: Any, seconds: float, describe: Any) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, f"not within {seconds} s: {describe()}"
        time.sleep(0.5)


def make_keys(airflow: RunningAirflow) -> None:
    airflow.run(["secure-ml", "keys", "init"], "making keys")


@contextmanager
def running(
    folder: Path,
    dags: Path,
    settings: Mapping[str, str] = MappingProxyType({}),
    prepare: Callable[[RunningAirflow], None] = make_keys,
) -> Iterator[OwnAirflow]:
    """Run an Airflow in `folder`, until another is asked for or the block ends.

    The tests of a folder follow each other, and a fixture without a package to belong to lasts
    for the whole session: Airflows that nobody asks any more would take the time of those to come.

    Args:
        folder: Its home, and its tests' data.
        dags: Its DAGs.
        settings: More variables of its environment.
        prepare: Called before its components start.
    """
    (folder / "data").mkdir()
    scratch = Path(tempfile.mkdtemp(prefix="asml-test-", dir="/dev/shm"))
    own = {
        "AIRFLOW__SECURE_ML__SCRATCH_DIRS": str(scratch),
        "SECURE_ML_TEST_DATA": str(folder / "data"),
    }
    airflow = RunningAirflow(home=folder / "home", dags=dags, settings=SETTINGS | own | settings)
    airflow.prepare = lambda _: prepare(airflow)
    while _started:
        _started.pop().stop()
    try:
        with airflow:
            _started.append(airflow)
            yield OwnAirflow(folder, airflow, scratch)
    finally:
        shutil.rmtree(scratch)
