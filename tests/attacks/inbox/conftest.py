"""A log in PostgreSQL, its inbox, and a sequencer that follows both spool and inbox."""

from __future__ import annotations

import time

import pytest

from airflow_secure_ml.adapters.postgres_audit.inbox_line import InboxLines
from airflow_secure_ml.adapters.postgres_audit.inbox_segments import InboxSegments
from airflow_secure_ml.adapters.spool import EmitterSink
from airflow_secure_ml.services.joined_segments import JoinedSegments
from tests.contracts.audit_stores import PostgresStore, Site
from tests.services.audit.conftest import framed

ADD = "INSERT INTO asml_trail.inbox(emitter, seq, frames) VALUES (%s, %s, %s)"
LOCKS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = %s AND database = "
    "(SELECT oid FROM pg_database WHERE datname = current_database())"
)
# How PostgreSQL tells locks of one number from those of two.
SEQUENCERS, EMITTERS = 1, 2
OTHER_WORKER = "trail_other_worker"
DEADLINE_S = 60.0


class InboxSite(Site):
    """An installation with an inbox."""

    def __init__(self, path, place):
        super().__init__(path, PostgresStore(place))
        self.place = place
        self.inbox_s = 0.0

    def segments(self):
        inbox = InboxSegments(self.place.login(), now_s=lambda: self.inbox_s)
        self.opened.append(inbox)
        return JoinedSegments(super().segments(), inbox)

    def add(self, emitter, payloads, *, user="trail_worker"):
        """A row by somebody with a worker's login."""
        self.place.query(ADD, (emitter, 0, framed(payloads)), user=user)

    def sink(self, **options):
        lines = InboxLines(self.place.login("trail_worker"), patience_s=5.0)
        return EmitterSink("task", lines, **options)

    def close_sink(self, sink):
        """Close a sink, and wait until the server knows: it answers nobody who ends a session."""
        sink.close()
        self.until_let_go()

    def until_let_go(self, whose=EMITTERS):
        """Wait until no lock of theirs is held here."""
        deadline = time.monotonic() + DEADLINE_S
        while self.place.query(LOCKS, [whose]) != [(0,)]:
            assert time.monotonic() < deadline, "a session that was ended still holds its lock"
            time.sleep(0.02)

    def rows(self):
        ((count,),) = self.place.query("SELECT count(*) FROM asml_trail.inbox")
        return count

    def founds(self, emitter):
        more = [event["more"] for event in self.events("trail.emitter")]
        return [m for m in more if m["emitter"] == emitter and m["state"] == "found"]

    def refusals(self):
        return [event["more"]["because"] for event in self.events("trail.refused")]

    def restart(self):
        """Another sequencer process, which remembers nothing."""
        self.log.close()
        self.until_let_go(SEQUENCERS)
        self.start()


@pytest.fixture
def site(trail_place, tmp_path):
    made = InboxSite(tmp_path, trail_place)
    yield made
    made.close()


@pytest.fixture
def other_worker(trail_place):
    """The name of a second login that may add to the inbox."""
    word = trail_place.passwords.setdefault(OTHER_WORKER, "another-password")
    trail_place.query(
        "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = "
        f"'{OTHER_WORKER}') THEN CREATE ROLE {OTHER_WORKER} LOGIN PASSWORD '{word}' "
        "IN ROLE asml_worker; END IF; END $$"
    )
    return OTHER_WORKER
