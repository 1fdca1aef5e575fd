"""What the programs of a trail work on: a spool with finished segments, and a log to verify."""

from __future__ import annotations

import random
import time

from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core import canonical
from airflow_secure_ml.services.verifying import verify_log
from tests.services.audit.conftest import chain, segment

DEADLINE_S = 60


class TrailFolder:
    """An audit directory, a signer's, and the names of all events that were put into the spool."""

    def __init__(self, path):
        self.audit, self.signer = path / "audit", path / "signer"
        (self.audit / "spool").mkdir(parents=True, mode=0o700)
        self.origin = init_log(self.signer, "example.org")
        self.random = random.Random(6962)
        self.written = set()

    def put(self, count=4):
        """A segment whose writer is gone, made aside so that nobody sees half of it."""
        emitter = self.random.randbytes(16).hex()
        self.written |= {f"{emitter}:{seq}" for seq in range(count)}
        aside = self.audit / "aside"
        aside.write_bytes(segment(emitter, 0, chain(emitter, count)))
        aside.rename(self.audit / "spool" / f"{emitter}-0000.seg")

    def names(self):
        """The name of each event in the log, in its order."""
        with SqliteAuditReader(self.audit / LOG_FILE).whole() as log:
            events = [canonical.decode(data) for _, data, _ in log.leaves()]
        return [f"{event['emitter']}:{event['seq']}" for event in events]

    def report(self, keys, **options):
        """What verifying the log with these keys says."""
        with SqliteAuditReader(self.audit / LOG_FILE).whole() as log:
            return verify_log(log, keys, **options)

    def until(self, condition):
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "did not come true in time"
            time.sleep(0.01)
