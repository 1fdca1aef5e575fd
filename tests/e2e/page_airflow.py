"""One Airflow API server with the pages, a trail to show, and users of different roles.

`running(folder)` and `chromium()` are the whole interface: the page tests, their benchmark and the
command that makes the pictures use them. No scheduler is started: nothing runs, the trail and
Airflow's tables are filled by hand. Who gets in is decided by Airflow's simple auth manager, or by
FAB with real users.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DAGS = Path(__file__).parent / "page_dags"
TEAMS = ("health", "billing")
# User: role and teams; each one's password is the name with -pw. Who is in one team only may read
# that team's DAGs only.
USERS = {
    "admin": "admin",
    "vera": "viewer:health|billing",
    "olaf": "op:health|billing",
    "bill": "viewer:billing",
    "ines": "user:billing",
    "nora": "viewer:nowhere",
}
_LOG_READER = [["can_read", "Audit Logs"], ["can_read", "Website"]]
_EACH_DAG = ("secure_training", "refusals", "billing_churn")
# FAB: actions on resources; "DAG:..." is one DAG, "DAGs" every one.
FAB_ROLES = {
    "Billing reader": [*_LOG_READER, ["can_read", "DAG:billing_churn"]],
    "Billing exporter": [
        *_LOG_READER, ["can_read", "DAG:billing_churn"], ["can_create", "Audit Logs"],
    ],
    "Reader of each": [*_LOG_READER, *(["can_read", f"DAG:{dag}"] for dag in _EACH_DAG)],
    "Reader": [*_LOG_READER, ["can_read", "DAGs"]],
    "Auditor": [
        *_LOG_READER, ["can_read", "DAGs"], ["can_create", "Audit Logs"],
        ["can_edit", "Audit Logs"],
    ],
}  # fmt: skip
FAB_USERS = {
    "admin": "Admin",
    "anna": "Auditor",
    "rudi": "Reader",
    "rita": "Billing reader",
    "xena": "Billing exporter",
    "each": "Reader of each",
    "vick": "Viewer",
}
RULES_OFF = ("access_denied_repeated", "large_export", "log_changed", "people_revealed")
START_S = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAirflow:
    """A running API server.

    Attributes:
        url: Its address, without a slash at the end.
        audit_dir: The trail it shows.
        signer_dir: The trail's log key.
        size: How many leaves the trail had at the start.
    """

    url: str
    audit_dir: Path
    signer_dir: Path
    size: int

    def token(self, user: str) -> str:
        """A session token of a user."""
        body = json.dumps({"username": user, "password": f"{user}-pw"}).encode()
        request = urllib.request.Request(
            f"{self.url}/auth/token", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer)["access_token"])

    def cookie(self, user: str) -> dict[str, str]:
        """A user's session, as a browser's `add_cookies` takes it."""
        return {"name": "_token", "value": self.token(user), "url": self.url}


def generator():
    """The module that fills trails; tests are no package, so it is loaded by its path."""
    path = ROOT / "tests" / "plugin" / "generator.py"
    spec = importlib.util.spec_from_file_location("trail_generator", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def running(
    folder: Path,
    *,
    days: int = 8,
    also: Callable[..., None] | None = None,
    has_fab: bool = False,
) -> Iterator[PageAirflow]:
    """Run an API server in `folder` for as long as the block lasts.

    Args:
        folder: Where everything lies.
        days: How many days the trail tells.
        also: What else it tells of each, as the generator takes it.
        has_fab: Whether FAB decides who gets in, and not the simple auth manager.
    """
    home, audit_dir, signer_dir = folder / "airflow", folder / "audit", folder / "signer"
    home.mkdir(parents=True)
    audit_dir.mkdir()
    generate = generator()
    size = generate.fill(audit_dir, signer_dir, days=days, also=also or generate.nothing)
    _have_looked(audit_dir)
    environment = _environment(home, audit_dir, signer_dir)
    if has_fab:
        environment |= _FAB_ENVIRONMENT
    port = _free_port()
    _prepare(home, environment, _tries(audit_dir, generate, days), has_fab=has_fab)
    log = (folder / "api-server.log").open("wb")
    command = [_tool("airflow"), "api-server", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        command, env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True
    )
    try:
        _wait(process, f"http://127.0.0.1:{port}/api/v2/monitor/health", folder)
        yield PageAirflow(
            url=f"http://127.0.0.1:{port}", audit_dir=audit_dir, signer_dir=signer_dir, size=size
        )
    finally:
        _stop(process)
        log.close()
        _stop_sequencer(audit_dir)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser of Playwright."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or "/usr/bin/chromium"
    arguments = ["--no-sandbox", "--disable-background-networking", "--disable-quic"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def _have_looked(audit_dir: Path) -> None:
    """Let the alert rules have nothing to find in what is there: tests count events."""
    from airflow_secure_ml.adapters.relay import BOOK_FILE, AlertRecorder, SqliteBook
    from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
    from airflow_secure_ml.services.alerting import AlertJob

    def never() -> None:
        raise AssertionError("no rule, no alert")

    job = AlertJob(
        rules=tuple,
        reader=SqliteAuditReader(audit_dir / LOG_FILE),
        book=SqliteBook(audit_dir / BOOK_FILE),
        recorder=AlertRecorder(never, [], never),
        now_ms=lambda: time.time_ns() // 1_000_000,
        on_pruned=lambda said: never(),
    )
    while not job.step().is_done:
        continue


def _environment(home: Path, audit_dir: Path, signer_dir: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return kept | {
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__MULTI_TEAM": "True",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
            [_bundle(team) | {"team_name": team} for team in TEAMS]
        ),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{u}:{r}" for u, r in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__SECURE_ML__AUDIT_DIR": str(audit_dir),
        "AIRFLOW__SECURE_ML__AUDIT_SIGNER_DIR": str(signer_dir),
        # What the tests themselves give reason for.
        "AIRFLOW__SECURE_ML__AUDIT_RULES_OFF": ",".join(RULES_OFF),
        "AIRFLOW__API__BASE_URL": "",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def _bundle(name: str) -> dict[str, object]:
    return {
        "name": name,
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(DAGS / name)},
    }


# FAB knows no teams.
_FAB_ENVIRONMENT = {
    "AIRFLOW__CORE__AUTH_MANAGER": (
        "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
    ),
    "AIRFLOW__CORE__MULTI_TEAM": "False",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([_bundle(t) for t in TEAMS]),
}


def _prepare(
    home: Path, environment: dict[str, str], tries: list[dict[str, object]], *, has_fab: bool
) -> None:
    (home / "passwords.json").write_text(json.dumps({user: f"{user}-pw" for user in USERS}))
    beside = Path(__file__).parent
    (home / "plugins").mkdir()
    shutil.copy(beside / "rights_plugin.py", home / "plugins")
    if not _is_installed():
        # From a source tree without an entry point, the plugins folder says the same.
        (home / "plugins" / "secure_ml_pages.py").write_text(
            "from airflow_secure_ml.plugin.airflow_plugin import SecureMLPlugin\n"
        )
    seed = [sys.executable, str(beside / "seed_runs.py")]
    if has_fab:
        given_users = json.dumps({"roles": FAB_ROLES, "users": FAB_USERS}).encode()
        people = [([sys.executable, str(beside / "fab_users.py")], given_users)]
    else:
        teams = (*TEAMS, "nowhere")
        people = [([_tool("airflow"), "teams", "create", team], b"") for team in teams]
    for command, given in (
        ([_tool("airflow"), "db", "migrate"], b""),
        *people,
        ([_tool("airflow"), "dags", "reserialize"], b""),
        (seed, json.dumps(tries).encode()),
    ):
        done = subprocess.run(
            command, env=environment, cwd=home, input=given, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]


def _tries(audit_dir: Path, generate, days: int) -> list[dict[str, object]]:
    """Airflow's view of the runs that the trail tells, with one task more than the trail knows."""
    from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
    from airflow_secure_ml.core.audit.query import EventQuery

    store = SqliteAuditReader(audit_dir / LOG_FILE)
    found: list[dict[str, object]] = []
    for dag_id in (generate.TRAINING, generate.REFUSALS):
        for day in range(days):
            query = EventQuery(dag=dag_id, run=generate.run_id(day))
            spans: dict[tuple[str, str], list[dict[str, object]]] = {}
            for leaf in reversed(store.page(query, limit=500)):
                run = leaf.event["run"]
                if "task" not in run:
                    continue
                spans.setdefault((run["task"], run["ti"]), []).append(leaf.event)
            end = 0
            for (task, ti), events in spans.items():
                states = [e["more"]["state"] for e in events if e["act"] == "task.end"]
                start, end = int(events[0]["time"]) - 200, int(events[-1]["time"]) + 300
                found.append(
                    {"dag": dag_id, "run": generate.run_id(day), "task": task, "map": -1, "ti": ti,
                     "start_ms": start, "end_ms": end, "state": (*states, "failed")[0]}
                )  # fmt: skip
            if spans and dag_id == generate.TRAINING:
                ti = generate.ti_of(dag_id, generate.run_id(day), generate.UNRECORDED_TASK)
                found.append(
                    {"dag": dag_id, "run": generate.run_id(day), "task": "notify", "map": -1,
                     "ti": ti, "start_ms": end + 400, "end_ms": end + 1900, "state": "success"}
                )  # fmt: skip
    return found


def _is_installed() -> bool:
    try:
        metadata.distribution("airflow-secure-ml")
    except metadata.PackageNotFoundError:
        return False
    return True


def _tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else str(shutil.which(name))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, folder: Path) -> None:
    # "Airflow is ready" is printed before the port answers.
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, (folder / "api-server.log").read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(
        f"no answer in {START_S} s:\n{(folder / 'api-server.log').read_text()[-3000:]}"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Its children survive a signal to it alone: the whole session is ended.
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(timeout=15)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue


def _stop_sequencer(audit_dir: Path) -> None:
    from airflow_secure_ml.adapters.sequencer import stop_sequencer

    stop_sequencer(audit_dir)
