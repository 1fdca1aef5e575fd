"""A real Airflow in one folder: prepare it, start its four components, stop all of it.

Loopback only, free ports, a user with a password. Nothing is written outside the folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Self

from dags_examples.demo.airflow_api import AirflowApi, NoAnswerError
from dags_examples.demo.kept_programs import (
    KeptPrograms,
    ServerFailedError,
    free_ports,
    inherited,
)

ROOT = Path(__file__).resolve().parents[2]
START_S = 240.0
POLL_S = 0.3
COMPONENTS = {
    "api-server": ("--host", "127.0.0.1"),
    "scheduler": ("--skip-serve-logs",),
    "dag-processor": (),
    "triggerer": ("--skip-serve-logs",),
}
# Made once in a folder, good for every later start there.
_KEPT = ("airflow.cfg", "migrated.db", "migrated.txt")

Tick = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class RunningAirflow:
    """An Airflow that runs for as long as the block lasts.

    Attributes:
        home: Its AIRFLOW_HOME. Everything in it is removed at the start but what takes long to
            make: its configuration and an empty database.
        dags: Its DAGs folder.
        settings: More variables of its environment, such as AIRFLOW__SECURE_ML__POLICY_FILE.
        users: Role by name; Airflow's own names of roles.
        prepare: Called with the environment before anything is started: keys, rules.
        tick: Told now and then what is waited for.
    """

    home: Path
    dags: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=lambda: {"admin": "admin"})
    passwords: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Mapping[str, str]], None] = lambda environment: None
    tick: Tick = lambda text: None
    port: int = 0
    _programs: KeptPrograms | None = None

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its components, for commands that belong to it."""
        own = inherited()
        own["PATH"] = f"{Path(sys.executable).parent}:{own.get('PATH', os.defpath)}"
        return own | {
            "HOME": str(self.home / "user"),
            "AIRFLOW_HOME": str(self.home),
            # The package of this very tree, wherever another one is installed from.
            "PYTHONPATH": str(ROOT),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
                f"{name}:{role}" for name, role in self.users.items()
            ),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **self.settings,
        }

    def __enter__(self) -> Self:
        self.port = self.port or free_ports(1)[0]
        self.passwords = {
            name: self.passwords.get(name) or secrets.token_urlsafe(12) for name in self.users
        }
        try:
            self._make_home()
            self.prepare(self.environment)
            self._start()
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def api(self, user: str = "admin") -> AirflowApi:
        """Its REST API, as one of its users."""
        return AirflowApi.login(self.url, user, self.passwords[user])

    def check(self) -> None:
        """Return if every component still runs; ServerFailedError if not."""
        assert self._programs is not None
        self._programs.check()

    def stop(self) -> None:
        """Stop every component, their children, and the trail's sequencer."""
        from airflow_secure_ml.adapters.sequencer import stop_sequencer

        running, self._programs = self._programs, None
        if running is not None:
            running.stop()
        stop_sequencer(self.home / "secure_ml" / "audit")

    def run(self, command: Sequence[str], doing: str) -> None:
        """Run a command of this environment; ServerFailedError with its output if it fails."""
        log = self.home / "logs" / "commands.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / command[0]), *command[1:]],
                env=self.environment, cwd=self.home, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
            try:
                while process.poll() is None:
                    self.tick(doing)
                    time.sleep(POLL_S)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if process.returncode:
            said = log.read_text(errors="replace")[-3000:]
            raise ServerFailedError(f"{' '.join(command)} failed\n{said}")

    def _make_home(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = f"{metadata.version('apache-airflow-core')} {self.home}"
        marker = self.home / "migrated.txt"
        is_made = marker.exists() and marker.read_text() == fresh
        for old in self.home.iterdir():
            if is_made and old.name in _KEPT:
                continue
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        (self.home / "user").mkdir()
        if not is_made:
            self.run(["airflow", "db", "migrate"], "making Airflow's database")
            shutil.copyfile(self.home / "airflow.db", self.home / "migrated.db")
            marker.write_text(fresh)
        shutil.copyfile(self.home / "migrated.db", self.home / "airflow.db")
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps(dict(self.passwords)))

    def _start(self) -> None:
        logs = self.home / "logs"
        logs.mkdir(exist_ok=True)
        airflow = str(Path(sys.executable).parent / "airflow")
        programs = {name: [airflow, name, *more] for name, more in COMPONENTS.items()}
        self._programs = KeptPrograms(
            programs=programs, folder=self.home, environment=self.environment, logs=logs
        )
        self._programs.start()

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_S
        waiting = ", ".join(COMPONENTS)
        while time.monotonic() < deadline:
            self.check()
            try:
                waiting = ", ".join(AirflowApi(url=self.url).unhealthy())
            except NoAnswerError:
                waiting = "api-server"
            if not waiting:
                return
            self.tick(f"starting Airflow: {waiting}")
            time.sleep(POLL_S)
        assert self._programs is not None
        said = self._programs.last_words("api-server")
        raise ServerFailedError(f"not up in {START_S:.0f} s: {waiting}\n{said}")
