"""A whole Airflow of a test session's own: scheduler, triggerer, DAG processor, API server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_secure_ml.adapters.sequencer import stop_sequencer
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.query import EventQuery

DAGS = Path(__file__).parent / "dags"
ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
START_S, RUN_S, TRAIL_S = 240, 420, 90
ENDED = {"success", "failed"}


class OwnAirflow:
    """What tests ask of a running Airflow."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.url = folder, f"http://127.0.0.1:{port}"
        self.home, self.data, self.audit_dir = folder / "home", folder / "data", folder / "audit"
        self._token = ""

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        if not self._token:
            self._token = self._call("POST", "/auth/token", LOGIN)["access_token"]
        return self._call(method, f"/api/v2{path}", body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def start(self, dag: str, run: str) -> None:
        """Trigger a run, once the DAG is known."""

        def known() -> bool:
            try:
                return self.api("GET", f"/dags/{dag}")["dag_id"] == dag
            except urllib.error.HTTPError:
                return False

        errors = self.api
        until(known, START_S, lambda: json.dumps(errors("GET", "/importErrors"))[:3000])
        self.api("PATCH", f"/dags/{dag}", {"is_paused": False})
        self.api("POST", f"/dags/{dag}/dagRuns", {"dag_run_id": run, "logical_date": None})

    def wait(self, dag: str, run: str) -> dict[tuple[str, int], str]:
        """The state of each task instance when the run has ended."""
        until(
            lambda: self.api("GET", f"/dags/{dag}/dagRuns/{run}")["state"] in ENDED,
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

    def log_of(self, name: str = "standalone.log") -> str:
        return (self.folder / name).read_text(errors="replace")


LOGIN = {"username": "admin", "password": "admin-pw"}


def until(found: Any, seconds: float, describe: Any) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, f"not within {seconds} s: {describe()}"
        time.sleep(0.5)


@contextmanager
def running(folder: Path) -> Iterator[OwnAirflow]:
    """Run an Airflow in `folder` for as long as the block lasts."""
    port = _free_port()
    airflow = OwnAirflow(folder, port)
    for each in (airflow.home, airflow.data, airflow.audit_dir):
        each.mkdir(mode=0o700)
    (airflow.home / "passwords.json").write_text(json.dumps({"admin": LOGIN["password"]}))
    environment = _environment(airflow, port)
    keys = subprocess.run(
        [BIN / "secure-ml", "keys", "init"], env=environment, capture_output=True, check=False
    )
    assert keys.returncode == 0, keys.stderr
    with (folder / "standalone.log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "airflow", "standalone"],
            env=environment,
            cwd=airflow.home,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            # "Airflow is ready" is printed before the port answers.
            until(lambda: _healthy(airflow.url, process), START_S, airflow.log_of)
            yield airflow
        finally:
            _end_session(process)
            stop_sequencer(airflow.audit_dir)


def _environment(airflow: OwnAirflow, port: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return kept | {
        "HOME": str(airflow.home),
        "AIRFLOW_HOME": str(airflow.home),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(airflow.home / "passwords.json"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        # uv would ask a package index for what a bare environment needs.
        "AIRFLOW__STANDARD__VENV_INSTALL_METHOD": "pip",
        "AIRFLOW__SECURE_ML__KEY_SYSTEM": f"local://{airflow.home}/secure_ml/keyring.json",
        "AIRFLOW__SECURE_ML__AUDIT_DIR": str(airflow.audit_dir),
        "AIRFLOW__SECURE_ML__AUDIT_SIGNER_DIR": str(airflow.folder / "signer"),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(_free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(_free_port()),
        "SECURE_ML_TEST_DATA": str(airflow.data),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _healthy(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "airflow standalone ended"
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:
            health = json.load(answer)
    except (urllib.error.URLError, OSError):
        return False
    parts = ("scheduler", "triggerer", "dag_processor")
    return all(health[part]["status"] == "healthy" for part in parts)


def _end_session(process: subprocess.Popen[bytes]) -> None:
    # A signal to standalone alone orphans its children; some of them lead groups of their own.
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in _session(process.pid):
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and set(_session(process.pid)) - {process.pid}:
            time.sleep(0.2)
    process.wait(timeout=10)


def _session(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == leader:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found
