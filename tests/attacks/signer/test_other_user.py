"""The signer's program as a user of its own: what the sequencer's user gets from it, and not.

Needs root: three real users.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE
from airflow_secure_ml.core.audit.checkpoint import parse_log_keys
from airflow_secure_ml.services.verifying import WHOLE
from tests.adapters.trail_folder import TrailFolder
from tests.attacks.collector.place import DEADLINE_S, DRIVER
from tests.readable import is_readable

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="NEEDS ROOT: three real users")
SIGNER, SEQUENCER, TASK = 60003, 60004, 60005
# What somebody tries with the signer; says what came of it, one line each.
ATTEMPTS = """
import os, sys
from pathlib import Path
from airflow_secure_ml.adapters.log_signer.client import SocketSigner
signer, socket, pid = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
def tried(what):
    try:
        return f"done: {what()}"
    except BaseException as error:
        return type(error).__name__
def rolled_back():
    return SocketSigner(socket).sign(1, bytes(32), ())
for what in (
    lambda: (signer / "log.key").read_bytes(),
    lambda: (signer / "last").write_text("mine"),
    lambda: (signer / "last").unlink(),
    lambda: signer.rename(signer.with_name("aside")),
    lambda: socket.unlink(),
    lambda: socket.rename(socket.with_name("aside.sock")),
    lambda: Path(f"/proc/{pid}/mem").open("rb"),
    lambda: Path(f"/proc/{pid}/environ").read_bytes(),
    lambda: os.kill(int(pid), 9),
    rolled_back,
):
    print(tried(what))
"""


class Place(TrailFolder):
    """A folder for one test: the signer's directories are its user's, the log the sequencer's."""

    def __init__(self):
        # Not below pytest's own directory, which nobody else may enter.
        self.base = Path(tempfile.mkdtemp(prefix="asml-signer-"))
        self.base.chmod(0o755)
        super().__init__(self.base)
        self.run = self.base / "run"
        self.run.mkdir(mode=0o755)
        self.socket = self.run / "signer.sock"
        self.process = None
        self.give(SIGNER, self.signer, *self.signer.iterdir(), self.run)

    @staticmethod
    def give(uid, *paths):
        for path in paths:
            os.chown(path, uid, uid, follow_symlinks=False)

    def program(self, uid, module, *words):
        return [sys.executable, DRIVER, str(uid), "program", module, *map(str, words)]

    def start(self, *uids):
        words = ["--signer-dir", self.signer, "--socket", self.socket]
        words += [word for uid in uids for word in ("--allow-uid", uid)]
        command = self.program(SIGNER, "airflow_secure_ml.signer", *words)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/")
        assert is_readable(self.process.stdout, DEADLINE_S)
        assert self.process.stdout.readline() == "READY\n"

    def sequence(self):
        self.give(SEQUENCER, self.audit, *self.audit.rglob("*"))
        words = ["--audit-dir", self.audit, "--signer-dir", "/nonexistent", "--once"]
        command = self.program(
            SEQUENCER, "airflow_secure_ml.sequencer", *words, "--signer-socket", self.socket
        )
        return subprocess.run(
            command, capture_output=True, text=True, cwd="/", timeout=DEADLINE_S, check=False
        )

    def attempts(self, uid):
        command = [sys.executable, DRIVER, str(uid), "code", ATTEMPTS]
        command += [str(self.signer), str(self.socket), str(self.process.pid)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd="/", timeout=DEADLINE_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    def last(self):
        return (self.signer / "last").read_text("utf-8")

    def verify(self):
        keys = parse_log_keys((self.signer / "log_keys").read_text("utf-8"))
        return self.report(keys, signed_last=self.last())

    def end(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(DEADLINE_S)
            self.process.stdout.close()
        shutil.rmtree(self.base)


@pytest.fixture
def place():
    made = Place()
    yield made
    made.end()


def test_another_users_sequencer_has_its_log_signed(place):
    place.start(SEQUENCER)
    place.put()

    done = place.sequence()

    assert done.returncode == 0, done.stderr
    report = place.verify()
    assert (report.status, report.problem, report.signed_size) == (WHOLE, "", report.size)
    assert place.written <= set(place.names())
    assert (place.audit / LOG_FILE).stat().st_uid == SEQUENCER
    assert (place.signer / "last").stat().st_uid == SIGNER


# The last of them is answered: by a refusal to whom it may answer, by nothing to others.
@pytest.mark.parametrize(
    ("uid", "answer"),
    [(SEQUENCER, "AuditLogError"), (TASK, "ServiceUnavailableError")],
    ids=["the sequencer's user", "a task's user"],
)
def test_neither_key_nor_record_nor_process_is_anothers(place, uid, answer):
    place.start(SEQUENCER)
    place.put()
    assert place.sequence().returncode == 0
    before = place.last()

    came_of_it = place.attempts(uid)

    assert came_of_it == ["PermissionError"] * 9 + [answer]
    assert place.last() == before
    place.put()
    assert place.sequence().returncode == 0
    assert place.verify().status == WHOLE


@pytest.mark.parametrize(
    ("count", "said"),
    [(4, "it was cut or rolled back"), (40, "are not those that were signed")],
    ids=["smaller", "larger"],
)
def test_a_log_begun_anew_by_the_sequencers_user_is_not_signed(place, count, said):
    place.start(SEQUENCER)
    place.put(8)
    assert place.sequence().returncode == 0
    before = place.last()

    for path in place.audit.glob(f"{LOG_FILE}*"):
        path.unlink()
    place.put(count)
    done = place.sequence()

    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert place.last() == before


def test_a_user_who_is_not_named_gets_nothing_signed(place):
    place.start()
    place.put()

    done = place.sequence()

    assert done.returncode == 3, done.stderr
    assert int(place.last().splitlines()[1]) == 0
