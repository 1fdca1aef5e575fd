"""A log of its own for each test, with a real spool and a real sequencer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.event import Fact, RunRef
from airflow_secure_ml.core.audit.query import EventQuery

DIED = 9


class Place:
    """An audit directory and what is done in it."""

    def __init__(self, folder):
        self.audit, self.signer = folder / "audit", folder / "signer"
        init_log(self.signer, "test")

    @property
    def reader(self):
        return SqliteAuditReader(self.audit / LOG_FILE)

    def sequence(self):
        """Take everything that is in the spool into the log."""
        subprocess.run(
            [sys.executable, "-I", "-m", "airflow_secure_ml.sequencer", "--once",
             "--audit-dir", str(self.audit), "--signer-dir", str(self.signer)],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def tell(self, ti, *acts, is_closed=True, **run):
        """A process of a try records these, in a process of its own."""
        ref = RunRef(dag="d", run="r", task="t", try_number=1, ti=ti, **run)

        def record():
            spool = Spool(self.audit, "task", run=ref)
            for act in acts:
                spool.record(Fact(act=act, phase="seen", result="ok", run=ref))
            spool.settle()
            if is_closed:
                spool.close()

        assert in_child(record) == 0

    def events(self, **query):
        """Events, oldest first."""
        return [leaf.event for leaf in reversed(self.reader.page(EventQuery(**query), limit=1000))]


def in_child(work):
    """Do something in a forked process; returns its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            # Nothing of this process's own end: no exit handlers, no buffers.
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)
