"""A task in small, in a process of its own: a guardian, leases of a real Vault, and some end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from airflow_secure_ml.core.audit.frame import EVENT, HEADER_BYTES, read_frames

ROOT = Path(__file__).resolve().parents[2]
# Half of what a lease and its token would last by themselves: who ends them sooner is the guardian.
# How soon is a figure, not a test's: a busy machine may take its time.
WITHIN_S, PATIENCE_S = 30.0, 60.0
GRANT = "0" * 32 + ":3"

# Its order comes by pipe.
PROGRAM = """
import json, os, signal, sys, threading, time
from pathlib import Path
order = json.loads(sys.stdin.readline())
sys.path.insert(0, order["root"])
from airflow_secure_ml.adapters.guardian_process import Guardian, GuardianAudit
from airflow_secure_ml.adapters.scratch.making import make_scratch
from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.leases import VaultCredentials
from airflow_secure_ml.adapters.vault.logins import AppRoleLogin, TokenLogin
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.secret import Secret

run = RunRef(dag="churn", run="manual__1", task="train", try_number=1, ti="019ab2c4-7d10-7b3e")
scratch = make_scratch([Path(order["shm"])], 1)
guardian = Guardian.start(
    scratch=[scratch.root], run=run, audit=GuardianAudit(audit_dir=Path(order["audit"]))
)
if order["token"]:
    login = TokenLogin(token=Secret(order["token"]))
else:
    login = AppRoleLogin(role_id=order["role_id"], secret_id=Secret(order["secret_id"]))
client = VaultClient(VaultServer(url=order["url"], ca=order["ca"]), login)
source = VaultCredentials(client)
guardian.ready()
path = scratch.path_for("table", "customers.csv")
path.write_text("plaintext")
guardian.take_line(0, source.line())
said = []
for _ in range(order["count"]):
    guardian.ask(0)
    granted = source.grant(order["path"], {})
    if order["hand_over"]:
        guardian.take_lease(0, order["path"], granted, "0" * 32 + ":3")
    user, password = (granted.fields[name].reveal() for name in ("username", "password"))
    said.append({"user": user, "password": password, "id": granted.id_digest})
print(json.dumps({"pid": os.getpid(), "guardian": guardian.pid, "scratch": str(scratch.root),
                  "leases": said}), flush=True)
"""
ENDS = {
    "waits": "time.sleep(600)",
    "exits": "os._exit(3)",
    "exits when told": "sys.stdin.readline()\nos._exit(3)",
    "raises": "raise SystemExit(4)",
    # One call of C that holds the interpreter's lock, as a model's training may.
    "holds the lock": (
        "import collections, itertools\ncollections.deque(itertools.repeat(0, 10**12), maxlen=0)"
    ),
    # Its leases as a run does it, and how long that took.
    "is told": (
        "sys.stdin.readline()\n"
        "began = time.monotonic()\n"
        "report = guardian.finish()\n"
        "guardian.bye(report.revoked)\n"
        "took = time.monotonic() - began\n"
        "print(json.dumps({'took': took, 'revoked': report.revoked, 'held': report.held}), "
        "flush=True)\n"
        "sys.stdin.readline()\n"
        "client.close()"
    ),
    "leaves": "guardian.leave()\nclient.close()",
    "leaves a child": ("if os.fork() == 0:\n    time.sleep(600)\nos.kill(os.getpid(), 9)"),
    "closes everything": (
        "os.closerange(3, 4096)\n"
        "sys.stdin.readline()\n"
        "report = guardian.finish()\n"
        "print(json.dumps({'alone': report.is_alone}), flush=True)\n"
        "guardian.leave()"
    ),
    "uses up its files": (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "held = []\n"
        "try:\n    while True: held.append(os.dup(1))\n"
        "except OSError: pass\n"
        "report = guardian.finish()\n"
        "guardian.bye(report.revoked)\n"
        "os.write(1, json.dumps({'revoked': report.revoked}).encode() + b'\\n')"
    ),
    "becomes another": (
        "import ctypes\n"
        "assert ctypes.CDLL(None).unshare(0x00020000) == 0, 'a mount namespace of its own'\n"
        "os.setresgid(65534, 65534, 65534)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "os._exit(0)"
    ),
    "writes into the line": (
        "guardian._line.send(b'\\xff no line at all\\n')\nsys.stdin.readline()\nos._exit(0)"
    ),
}


def until(condition, what, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@dataclass
class Task:
    """One that was started, and what it said."""

    process: subprocess.Popen
    audit: Path
    pid: int
    guardian: int
    scratch: Path
    leases: list[dict]

    @property
    def user(self):
        return self.leases[0]["user"]

    @property
    def password(self):
        return self.leases[0]["password"]

    @property
    def id(self):
        return self.leases[0]["id"]

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def said(self):
        return json.loads(self.process.stdout.readline())

    def guardian_ends(self, seconds=PATIENCE_S):
        until(lambda: not is_running(self.guardian), "the guardian ends", seconds)

    def events(self, act=None):
        """What its guardian recorded, once it has ended."""
        self.guardian_ends()
        found = []
        for part in sorted((self.audit / "spool").glob("*.seg")):
            data = part.read_bytes()
            frames = read_frames(data[HEADER_BYTES:])
            found += [json.loads(f.payload) for f in frames.frames if f.kind == EVENT]
        return [event for event in found if act in (None, event["act"])]

    def ended(self):
        """What its guardian recorded of the ends of leases, by lease."""
        found = {}
        for event in self.events("lease.revoke"):
            assert event["lease"]["id"] not in found, "told twice"
            found[event["lease"]["id"]] = (event["result"], event.get("why"))
        return found


@dataclass
class Starter:
    """Starts tasks, and sees that nothing of them is left.

    Attributes:
        vault: Where they lease.
        database: Its database engine.
        role: Their role id and secret id; tokens outlive what any test waits for.
        fleeting_role: The same, for tokens that live for three seconds unless they are renewed.
        folder: Where their guardians record.
        shm: Where their plaintext goes.
    """

    vault: object
    database: object
    role: tuple[str, str]
    fleeting_role: tuple[str, str]
    folder: Path
    shm: Path
    tasks: list = field(default_factory=list)

    def __call__(
        self, end, *, ttl="60s", max_ttl="10m", path=None, before=(), url="", is_fleeting=False,
        **order,
    ):  # fmt: skip
        role_id, secret_id = self.fleeting_role if is_fleeting else self.role
        path = path or self.database.make_role(f"guarded-{ttl}-{max_ttl}", ttl, max_ttl)
        process = subprocess.Popen(
            [*before, sys.executable, "-c", PROGRAM + ENDS[end]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        order = {
            "root": str(ROOT), "audit": str(self.folder), "shm": str(self.shm),
            "url": url or self.vault.url, "ca": str(self.vault.ca), "path": path,
            "role_id": role_id, "secret_id": secret_id,
            "token": "", "count": 1, "hand_over": True, **order,
        }  # fmt: skip
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        self.tasks.append(process)
        said = json.loads(process.stdout.readline())
        said["scratch"] = Path(said["scratch"])
        return Task(process=process, audit=self.folder, **said)

    def close(self):
        for process in self.tasks:
            # What it forked lives in its group, too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdin.close()
            process.stdout.close()


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def lives(postgres, task):
    return any(one["user"] in postgres.logins() for one in task.leases)


def logs_in(postgres, task):
    try:
        postgres.query("SELECT 1", user=task.user, password=task.password)
    except psycopg.OperationalError:
        return False
    return True
