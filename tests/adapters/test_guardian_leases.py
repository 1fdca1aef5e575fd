"""Leases that outlive no task: a real guardian, Vault and PostgreSQL, and killed tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from airflow_secure_ml.core.audit.frame import EVENT, HEADER_BYTES, read_frames
from tests.servers import vault_setup

ROOT = Path(__file__).resolve().parents[2]
# Airflow's own patience is longer; what is measured is the guardian's.
WITHIN_S, PATIENCE_S = 1.0, 60.0

# A task in small: a guardian, a lease, and then whatever its end is. Its order comes by pipe.
TASK = """
import json, os, signal, sys, threading, time
from pathlib import Path
order = json.loads(sys.stdin.readline())
sys.path.insert(0, order["root"])
from airflow_secure_ml.adapters.guardian_process import Guardian, GuardianAudit
from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.leases import VaultCredentials
from airflow_secure_ml.adapters.vault.logins import AppRoleLogin
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.secret import Secret

run = RunRef(dag="churn", run="manual__1", task="train", try_number=1, ti="019ab2c4-7d10-7b3e")
guardian = Guardian.start(run=run, audit=GuardianAudit(audit_dir=Path(order["audit"])))
secret_id = Secret(order["secret_id"])
client = VaultClient(
    VaultServer(url=order["url"], ca=order["ca"]),
    AppRoleLogin(role_id=order["role_id"], secret_id=secret_id),
)
source = VaultCredentials(client)
guardian.ready()
guardian.take_line(0, source.line())
granted = source.grant(order["path"], {})
if order["hand_over"]:
    guardian.take_lease(0, order["path"], granted, "0" * 32 + ":3")
user, password = (granted.fields[name].reveal() for name in ("username", "password"))
print(json.dumps({"user": user, "password": password, "pid": os.getpid(),
                  "guardian": guardian.pid, "id": granted.id_digest}), flush=True)
"""
ENDS = {
    "waits": "time.sleep(600)",
    "exits": "os._exit(3)",
    "raises": "raise SystemExit(4)",
    # One call of C that holds the interpreter's lock, as a model's training may.
    "holds the lock": (
        "import collections, itertools\ncollections.deque(itertools.repeat(0, 10**12), maxlen=0)"
    ),
    "is told": (
        "report = guardian.finish()\nguardian.bye()\nclient.close()\nprint(report, flush=True)"
    ),
    "leaves": "guardian.leave()\nclient.close()",
}


@dataclass
class Task:
    process: subprocess.Popen
    user: str
    password: str
    pid: int
    guardian: int
    id: str
    audit: Path

    def events(self, act=None):
        """What its guardian recorded, once it has ended."""
        until(lambda: not Path(f"/proc/{self.guardian}").exists(), "the guardian ends")
        found = []
        for part in sorted((self.audit / "spool").glob("*.seg")):
            data = part.read_bytes()
            frames = read_frames(data[HEADER_BYTES:])
            found += [json.loads(f.payload) for f in frames.frames if f.kind == EVENT]
        return [event for event in found if act in (None, event["act"])]


def until(condition, what, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture(scope="module")
def role(vault, vault_database):
    """An AppRole with what a task needs, and no more; its tokens live for three seconds."""
    text = (ROOT / "docker/vault/task-leases.hcl").read_text().replace("creds/reader", "creds/+")
    name = vault_setup.policy(vault, "guardian-leases", text)
    return vault_setup.approle(
        vault, "guardian", name, token_ttl="3s", token_max_ttl="10m", token_no_default_policy=True
    )


@pytest.fixture
def start(vault, vault_database, role, tmp_path):
    """Start a task in small, and see that nothing of it is left."""
    running = []

    def start(end, *, ttl="60s", max_ttl="10m", hand_over=True, before=(), url=""):
        path = vault_database.make_role(f"guarded-{ttl}-{max_ttl}", ttl, max_ttl)
        process = subprocess.Popen(
            [*before, sys.executable, "-c", TASK + ENDS[end]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        running.append(process)
        order = {
            "root": str(ROOT), "audit": str(tmp_path), "url": url or vault.url,
            "ca": str(vault.ca), "role_id": role[0], "secret_id": role[1], "path": path,
            "hand_over": hand_over,
        }  # fmt: skip
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        said = json.loads(process.stdout.readline())
        return Task(process=process, audit=tmp_path, **said)

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def lives(postgres, task):
    return task.user in postgres.logins()


def logs_in(postgres, task):
    try:
        postgres.query("SELECT 1", user=task.user, password=task.password)
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("hand_over", [True, False], ids=["handed over", "not handed over yet"])
def test_a_killed_task_keeps_nothing_for_a_second(start, postgres, hand_over):
    task = start("waits", hand_over=hand_over)
    assert logs_in(postgres, task)

    os.kill(task.pid, signal.SIGKILL)

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)


@pytest.mark.parametrize("end", ["exits", "raises"])
def test_a_body_that_ends_the_process_keeps_nothing_for_a_second(start, postgres, end):
    task = start(end)

    task.process.wait(PATIENCE_S)

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    (revoked,) = task.events("lease.revoke")
    assert revoked["lease"]["id"] == task.id
    assert revoked["of"] == "0" * 32 + ":3"
    assert (revoked["result"], revoked["more"]["because"]) == ("ok", "task_died")


def test_a_terminated_task_in_a_call_of_c_keeps_nothing_once_it_is_killed(start, postgres):
    task = start("holds the lock")

    # As the supervisor does it: a request that such a task does not hear, and then no request.
    os.kill(task.pid, signal.SIGTERM)
    os.killpg(task.process.pid, signal.SIGKILL)

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)


def test_a_body_that_holds_the_lock_for_three_terms_keeps_its_login(start, postgres):
    task = start("holds the lock", ttl="3s")
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


def test_a_task_whose_supervisor_was_killed_has_no_login_a_second_later(start, postgres):
    # The shell stands for the supervisor: it is the task's parent and waits for it.
    task = start("waits", before=["sh", "-c", '"$@"; true', "sh"])
    assert task.pid != task.process.pid

    os.kill(task.process.pid, signal.SIGKILL)

    until(lambda: not lives(postgres, task), "the role is dropped", WITHIN_S)
    assert Path(f"/proc/{task.pid}").exists()
    os.kill(task.pid, signal.SIGKILL)
    (revoked,) = task.events("lease.revoke")
    assert revoked["result"] == "ok"


def test_a_task_that_is_done_hears_that_its_lease_has_ended(start, postgres):
    task = start("is told")

    said = task.process.communicate(timeout=PATIENCE_S)[0]

    assert task.id in said
    assert not lives(postgres, task)
    # It said that it records this itself.
    assert task.events("lease.revoke") == []


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
    until(lambda: not lives(postgres, task), "the role is dropped", 5.0)
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
