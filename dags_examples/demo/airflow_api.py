"""Airflow's REST API, as far as the demo and the tests need it: standard library only."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

REQUEST_S = 30.0
POLL_S = 0.5
ENDED = ("success", "failed")


class NoAnswerError(Exception):
    """It did not answer, or not with what was asked for; names the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTry:
    """One task instance, as Airflow tells it.

    Attributes:
        ti: Its id, the one in the trail's events.
        dag: Its DAG.
        run: Its DAG run.
        task: Its task.
        map_index: -1 if it is not mapped.
        state: Airflow's word.
        try_number: From 1.
        rendered: Rendered template fields.
    """

    ti: str
    dag: str
    run: str
    task: str
    map_index: int
    state: str
    try_number: int
    rendered: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowApi:
    """A running API server.

    Attributes:
        url: Its address, without a slash at the end.
        token: A session token; empty: only what anyone may ask.
    """

    url: str
    token: str = ""

    @classmethod
    def login(cls, url: str, user: str, password: str) -> Self:
        """Log in; NoAnswerError if it is refused."""
        anyone = AirflowApi(url=url)
        answer = anyone.call("POST", "/auth/token", {"username": user, "password": password})
        return cls(url=url, token=answer["access_token"])

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One request; the answer's JSON.

        Raises:
            NoAnswerError: No connection, or a status of 400 and more.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_S) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read()[:500].decode("utf-8", "replace")
            raise NoAnswerError(f"{method} {path}: {error.code} {said}") from error
        except OSError as error:
            raise NoAnswerError(f"{method} {path}: {error}") from error
        return json.loads(text) if text else None

    def unhealthy(self) -> list[str]:
        """The components that are not up yet."""
        health = self.call("GET", "/api/v2/monitor/health")
        return [name for name, one in health.items() if one.get("status") != "healthy"]

    def import_errors(self) -> list[str]:
        """What kept DAG files from being read."""
        errors = self.call("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{one['filename']}: {one['stack_trace']}" for one in errors]

    def dag_ids(self) -> set[str]:
        """Every DAG that was read."""
        return {one["dag_id"] for one in self.call("GET", "/api/v2/dags?limit=100")["dags"]}

    def unpause(self, dag: str) -> None:
        """Let a DAG run."""
        self.call("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False})

    def trigger(self, dag: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run; its id."""
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self.call("POST", f"/api/v2/dags/{dag}/dagRuns", body)["dag_run_id"])

    def runs(self, dag: str) -> dict[str, str]:
        """State by run id."""
        found = self.call("GET", f"/api/v2/dags/{dag}/dagRuns?limit=100")["dag_runs"]
        return {one["dag_run_id"]: one["state"] for one in found}

    def tries(self, dag: str, run: str) -> list[TaskTry]:
        """The task instances of a run, each at its last try."""
        path = f"{_of_run(dag, run)}/taskInstances?limit=100"
        return [
            TaskTry(
                ti=one["id"],
                dag=dag,
                run=run,
                task=one["task_id"],
                map_index=one["map_index"],
                state=one["state"] or "none",
                try_number=one["try_number"],
                rendered=one.get("rendered_fields") or {},
            )
            for one in self.call("GET", path)["task_instances"]
        ]

    def task_log(self, dag: str, run: str, task: str, *, map_index: int = -1) -> str:
        """The log of a task's last try."""
        (last,) = [
            one.try_number
            for one in self.tries(dag, run)
            if (one.task, one.map_index) == (task, map_index)
        ]
        path = f"{_of_run(dag, run)}/taskInstances/{task}/logs/{last}?map_index={map_index}"
        content = self.call("GET", path)["content"]
        return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in content)

    def xcom(
        self, dag: str, run: str, task: str, key: str = "return_value", *, map_index: int = -1
    ):
        """One XCom value; NoAnswerError if there is none."""
        path = f"{_of_run(dag, run)}/taskInstances/{task}/xcomEntries/{_quoted(key)}"
        return self.call("GET", f"{path}?map_index={map_index}&deserialize=false")["value"]

    def wait_for_run(
        self, dag: str, run: str, *, within_s: float, tick: Callable[[], None] = lambda: None
    ) -> str:
        """Wait until a run ended; its state.

        Raises:
            NoAnswerError: It did not end in time.
        """
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            state = self.runs(dag).get(run, "none")
            if state in ENDED:
                return state
            tick()
            time.sleep(POLL_S)
        raise NoAnswerError(f"{dag} {run}: still {state} after {within_s:.0f} s")


def _of_run(dag: str, run: str) -> str:
    return f"/api/v2/dags/{dag}/dagRuns/{_quoted(run)}"


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
