"""A collector of one user, and tasks of another, as real processes in a folder of their own.

Needs root: `NEEDS_ROOT` marks what does.
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

from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.frame import read_frames
from airflow_secure_ml.core.audit.query import EventQuery
from tests.readable import is_readable

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="NEEDS ROOT: two real users")
COLLECTOR, TASK = 60001, 60002
DRIVER = str(Path(__file__).with_name("as_user.py"))
DEADLINE_S = 30
PRELUDE = """
import os, sys, socket, errno
from pathlib import Path
from airflow_secure_ml.adapters.collector.line import CollectorLines
from airflow_secure_ml.adapters.spool import EmitterSink
from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.collecting import POINT
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.core.audit.frame import SegmentHeader, encode_frame, encode_header
from airflow_secure_ml.core.audit.tree import leaf_hash
from tests.readable import is_readable
door = Path(sys.argv[1])
fact = Fact(act="trail.view", phase="seen", result="ok", more={"page": "x"})
def event(emitter, seq, prev, page="x"):
    record = {"v": 1, "emitter": emitter, "seq": seq, "time": 1, "mono": 0, "act": "trail.view"}
    record |= {"phase": "seen", "result": "ok", "more": {"page": page}}
    if prev is not None:
        record["prev"] = leaf_hash(prev).hex()
    return canonical.encode(record)
def call(data):
    line = socket.socket(socket.AF_UNIX)
    line.connect(str(door))
    line.settimeout(20)
    line.sendall(data)
    return line
def header(emitter):
    return encode_header(SegmentHeader(emitter=emitter, part=0))
A = "a1" * 16
"""
# Says the emitter; then an event, made durable, for each line it is sent.
ON_DEMAND = """
s = EmitterSink('task', CollectorLines(door, patience_s=60))
s.record(fact); s.settle(); print(s.emitter, flush=True)
for _ in sys.stdin:
    s.record(fact); s.settle(); print('.', flush=True)
s.close()
"""


class Place:
    """A folder for one test; leaving it ends the collector and takes the folder away."""

    def __init__(self):
        # Not below pytest's own directory, which nobody else may enter.
        self.base = Path(tempfile.mkdtemp(prefix="asml-collector-"))
        self.base.chmod(0o755)
        self.audit, self.run = self.base / "audit", self.base / "run"
        for folder, mode in ((self.audit, 0o700), (self.run, 0o755)):
            folder.mkdir(mode=mode)
            os.chown(folder, COLLECTOR, COLLECTOR)
        self.door = self.run / "collector.sock"
        self.process = None
        self.signer = self.base / "signer"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()
        shutil.rmtree(self.base)

    def start(self, *more):
        command = [sys.executable, DRIVER, str(COLLECTOR), "program", "airflow_secure_ml.collector"]
        command += ["--audit-dir", str(self.audit), "--socket", str(self.door), *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/")
        assert is_readable(self.process.stdout, DEADLINE_S)
        assert self.process.stdout.readline().startswith(b"READY ")

    def stop(self, number=signal.SIGTERM):
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(DEADLINE_S)
            self.process.stdout.close()
            self.process = None

    def make_log(self):
        """Make the log's key, the collector's user's own."""
        init_log(self.signer, "example.org", random_bytes=os.urandom)
        for path in (self.signer, *self.signer.iterdir()):
            os.chown(path, COLLECTOR, COLLECTOR)

    def sequence(self, *more):
        """Start a sequencer of the collector's user."""
        command = [sys.executable, DRIVER, str(COLLECTOR), "program", "airflow_secure_ml.sequencer"]
        command += ["--collector", "--audit-dir", str(self.audit)]
        command += ["--signer-dir", str(self.signer), *more]
        return subprocess.Popen(command, cwd="/")

    def sequence_once(self):
        assert self.sequence("--once").wait(DEADLINE_S) == 0

    def log(self):
        return SqliteAuditReader(self.audit / LOG_FILE)

    def events(self, **query):
        """Sequenced events, oldest first."""
        if not (self.audit / LOG_FILE).exists():
            return []
        found = self.log().page(EventQuery(**query), limit=100_000)
        return [dict(leaf.event) for leaf in reversed(found)]

    def endings(self):
        """How each emitter ended, as it was said last; `found` before that."""
        more = [e["more"] for e in self.events(acts=("trail.emitter",))]
        return {each["emitter"]: each["state"] for each in more}

    def task(self, code, uid=TASK):
        command = [sys.executable, DRIVER, str(uid), "code", PRELUDE + code, str(self.door)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd="/", timeout=DEADLINE_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def sender(self, code, uid=TASK):
        command = [sys.executable, DRIVER, str(uid), "code", PRELUDE + code, str(self.door)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
        )

    def frames(self):
        files = sorted((self.audit / "collected").glob("*.seg"))
        return [frame for path in files for frame in read_frames(path.read_bytes(), 32).frames]

    def count(self, kind):
        return sum(1 for frame in self.frames() if frame.kind == kind)
