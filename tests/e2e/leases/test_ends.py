"""A task that is ended by force leaves no login behind, long before that would end by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

RUN = "ends-1"
# The lease and its token hold for 40 s at least, renewed or not; how soon they end is a figure.
WITHIN_S = 30.0


@pytest.fixture(scope="module")
def ended(leases):
    leases.start("ends", RUN)
    return leases


def said(leases, name):
    path = leases.data / f"{RUN}-{name}"
    leases.until(path.exists, 240, lambda: leases.states("ends", RUN))
    return json.loads(path.read_text())


def lives(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def await_end(condition, within_s):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def revoked_because(leases, dag, task):
    def found():
        return [
            event["more"]["because"]
            for event in leases.events(dag=dag, run=RUN, task=task, acts=("lease.revoke",))
            if event.get("result") == "ok"
        ]

    leases.until(found, 90, lambda: leases.events(dag=dag, run=RUN, task=task))
    return found()


def test_the_login_of_a_killed_task_is_gone(ended):
    task = said(ended, "killed")
    assert task["user"] in ended.postgres.logins()

    os.kill(task["pid"], signal.SIGKILL)

    await_end(lambda: task["user"] not in ended.postgres.logins(), WITHIN_S)
    assert revoked_because(ended, "ends", "killed") == ["task_died"]


def test_the_login_of_a_task_that_just_exits_is_gone(ended):
    task = said(ended, "exits")

    await_end(lambda: not lives(task["pid"]), 60.0)
    await_end(lambda: task["user"] not in ended.postgres.logins(), WITHIN_S)
    assert revoked_because(ended, "ends", "exits") == ["task_died"]


def test_the_login_of_a_task_that_is_cleared_is_gone_with_it_and_the_next_has_another(ended):
    task = said(ended, "cleared")

    order = {"dry_run": False, "dag_run_id": RUN, "task_ids": ["cleared"], "only_failed": False}
    ended.api("POST", "/dags/ends/clearTaskInstances", order)

    await_end(lambda: not lives(task["pid"]), 60.0)
    await_end(lambda: task["user"] not in ended.postgres.logins(), WITHIN_S)
    assert ended.wait("ends", RUN)["cleared", -1] == "success"
    assert ended.xcom("ends", RUN, "cleared") not in ("", task["user"])
    assert sorted(revoked_because(ended, "ends", "cleared")) == ["task_died", "task_ended"]


def test_each_ended_as_airflow_says(ended):
    states = ended.wait("ends", RUN)

    assert states == {("killed", -1): "failed", ("exits", -1): "failed", ("cleared", -1): "success"}


def test_an_orphan_loses_its_login_with_its_supervisor(leases):
    leases.start("orphans", RUN)
    task = said(leases, "orphaned")

    os.kill(task["supervisor"], signal.SIGKILL)

    await_end(lambda: task["user"] not in leases.postgres.logins(), WITHIN_S)
    lost = leases.data / f"{RUN}-lost"
    leases.until(lost.exists, 60, leases.logs)
    assert revoked_because(leases, "orphans", "orphaned") != []


def test_nobody_is_left_in_postgres_nor_on_vault(ended):
    ended.until(lambda: not ended.postgres.logins(), 30, ended.postgres.logins)
    ended.until(lambda: not ended.vault.counts().leases, 30, ended.vault.left)
