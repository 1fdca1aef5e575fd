"""Leases that outlive no task: a real guardian, Vault and PostgreSQL, and killed tasks."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.adapters.guarded_task import (
    GRANT,
    PATIENCE_S,
    WITHIN_S,
    Task,
    lives,
    logs_in,
    until,
)

# It stands for the supervisor: it is the task's parent and waits for it.
SHELL = ("sh", "-c", '"$@"; true', "sh")


@pytest.mark.parametrize("hand_over", [True, False], ids=["handed over", "not handed over yet"])
def test_a_killed_task_keeps_nothing(start, postgres, hand_over):
    task = start("waits", hand_over=hand_over)
    assert logs_in(postgres, task)

    os.kill(task.pid, signal.SIGKILL)

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)


@pytest.mark.parametrize("end", ["exits", "raises"])
def test_a_body_that_ends_the_process_keeps_nothing(start, postgres, end):
    # A guardian whose line was closed lets the token end by itself.
    task = start(end, is_fleeting=True)

    task.process.wait(PATIENCE_S)

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    (revoked,) = task.events("lease.revoke")
    assert revoked["lease"]["id"] == task.id
    assert revoked["of"] == GRANT
    # An interpreter that winds up lets go of its line some time before its process ends.
    because = {"task_died"} if end == "exits" else {"task_died", "line_closed"}
    assert revoked["result"] == "ok"
    assert revoked["more"]["because"] in because


def test_a_terminated_task_in_a_call_of_c_keeps_nothing_once_it_is_killed(start, postgres):
    task = start("holds the lock")

    # As the supervisor does it: a request that such a task does not hear, and then no request.
    os.kill(task.pid, signal.SIGTERM)
    os.killpg(task.process.pid, signal.SIGKILL)

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)


def kill_in_c(task):
    os.kill(task.pid, signal.SIGTERM)
    os.killpg(task.process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("body", "before", "end"),
    [
        pytest.param("waits", (), Task.kill, id="killed"),
        pytest.param("holds the lock", (), kill_in_c, id="terminated and killed in a call of C"),
        pytest.param("exits when told", (), Task.go_on, id="exits"),
        pytest.param("waits", SHELL, lambda task: os.kill(task.process.pid, 9), id="orphaned"),
    ],
)
def test_nothing_is_leased_a_second_after_a_task_died(start, postgres, body, before, end):
    took = []
    # The best of several: a busy machine may take its time, the guardian itself may not.
    while min(took, default=1.0) >= 1.0 and len(took) < 10:
        task = start(body, before=before)
        began = time.monotonic()
        end(task)
        until(lambda task=task: not lives(postgres, task), "the role is dropped", WITHIN_S)
        took.append(time.monotonic() - began)
        task.kill()

    assert min(took) < 1.0, took


def test_a_body_that_holds_the_lock_for_three_terms_keeps_its_login(start, postgres):
    task = start("holds the lock", ttl="3s", is_fleeting=True)
    began = time.monotonic()

    # The token lives for three seconds too.
    while time.monotonic() < began + 9.5:
        assert logs_in(postgres, task), f"the login ended after {time.monotonic() - began:.1f} s"
        time.sleep(0.25)
    os.kill(task.pid, signal.SIGKILL)

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    renewals = task.events("lease.renew")
    assert len(renewals) >= 3
    assert [each["more"]["renewals"] for each in renewals] == list(range(1, len(renewals) + 1))
    assert {each["result"] for each in renewals} == {"ok"}


def test_a_task_whose_supervisor_was_killed_loses_its_login(start, postgres):
    task = start("waits", before=SHELL)
    assert task.pid != task.process.pid

    os.kill(task.process.pid, signal.SIGKILL)

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    assert Path(f"/proc/{task.pid}").exists()
    os.kill(task.pid, signal.SIGKILL)
    (revoked,) = task.events("lease.revoke")
    assert revoked["result"] == "ok"


def test_a_task_that_is_done_hears_that_its_lease_has_ended(start, postgres):
    task = start("is told")

    task.go_on()
    said = task.said()
    task.go_on()

    assert (said["revoked"], said["held"]) == ([task.id], [])
    assert not lives(postgres, task)
    # It said that it records this itself.
    assert task.events() == []


def test_a_task_that_leaves_without_a_word_has_its_lease_revoked_and_recorded(start, postgres):
    task = start("leaves")

    task.process.wait(PATIENCE_S)

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    assert [event["result"] for event in task.events("lease.revoke")] == ["ok"]


def test_a_lease_at_the_end_of_its_longest_life_is_said_not_to_be_renewed(start, postgres):
    task = start("waits", ttl="2s", max_ttl="4s")

    until(lambda: not lives(postgres, task), "Vault ends it")
    os.kill(task.pid, signal.SIGKILL)

    last = task.events("lease.renew")[-1]
    assert last["lease"]["id"] == task.id
    (ended,) = task.events("lease.revoke")
    assert ended["result"] == "ok"


def test_a_server_that_cannot_be_reached_is_asked_until_it_can(start, postgres, vault_proxy):
    task = start("waits", url=vault_proxy.url)
    vault_proxy.refuse()

    os.kill(task.pid, signal.SIGKILL)
    time.sleep(0.5)
    still_there = lives(postgres, task)
    vault_proxy.accept()

    assert still_there
    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    assert [event["result"] for event in task.events("lease.revoke")] == ["ok"]


def test_neither_token_nor_lease_nor_login_show_outside_the_process(start, tmp_path):
    task = start("waits")

    seen = b""
    for pid in (task.pid, task.guardian):
        seen += Path(f"/proc/{pid}/cmdline").read_bytes()
    seen += Path(f"/proc/{task.pid}/environ").read_bytes()
    # It is closed to this user's other processes; root may look.
    if os.getuid() == 0:
        seen += Path(f"/proc/{task.guardian}/environ").read_bytes()
    os.kill(task.pid, signal.SIGKILL)
    recorded = json.dumps(task.events()).encode()

    for secret in (task.password, "hvs.", "database/creds/guarded-60s-10m/"):
        assert secret.encode() not in seen + recorded
