"""What each login cannot do to a log on a real PostgreSQL."""

from __future__ import annotations

import psycopg
import pytest

from airflow_secure_ml.adapters.postgres_audit import PostgresAuditReader, PostgresAuditWriter
from airflow_secure_ml.errors import ServiceRefusedError

pytestmark = pytest.mark.postgres
ORIGIN = "example.org/asml-trail/00010203"
EMITTER = "ab" * 16
CHANGES = [
    f"{verb} asml_trail.{table}{rest}"
    for table in ("leaf", "tile", "aside", "log", "emitter", "checkpoint")
    for verb, rest in (("DELETE FROM", ""), ("TRUNCATE", ""), ("DROP TABLE", ""))
] + [
    "UPDATE asml_trail.leaf SET hash = ''",
    "UPDATE asml_trail.tile SET hashes = ''",
    "UPDATE asml_trail.aside SET value = 'bob'",
    "UPDATE asml_trail.log SET origin = 'x'",
    "CREATE TABLE asml_trail.mine (a int)",
    "ALTER TABLE asml_trail.leaf DISABLE TRIGGER ALL",
    "SET session_replication_role = replica",
]
INSERTS = [
    "INSERT INTO asml_trail.leaf(idx, data, hash) VALUES (9, '{}', '')",
    "INSERT INTO asml_trail.checkpoint VALUES (9, 'x', 1)",
    "UPDATE asml_trail.log SET size = 0",
    "UPDATE asml_trail.emitter SET next_seq = 0",
]
READS = ["SELECT 1 FROM asml_trail.leaf", "SELECT 1 FROM asml_trail.aside"]
INBOX = [
    "SELECT 1 FROM asml_trail.inbox",
    "UPDATE asml_trail.inbox SET frames = 'x'",
    "DELETE FROM asml_trail.inbox",
    f"INSERT INTO asml_trail.inbox(emitter, seq, frames, sender) VALUES ('{EMITTER}', 0, 'x', 'a')",
    "INSERT INTO asml_trail.inbox(emitter, seq, frames, received) "
    f"VALUES ('{EMITTER}', 0, 'x', now())",
]


def refused(place, user, statements):
    """Each of the statements that was not refused to a login."""
    done = []
    for statement in statements:
        try:
            place.query(statement, user=user)
        except psycopg.errors.InsufficientPrivilege:
            continue
        done.append(statement)
    return done == []


def test_no_login_of_airflow_changes_what_stands_in_the_log(trail_place):
    with PostgresAuditWriter(trail_place.login(), ORIGIN):
        pass

    assert refused(trail_place, "trail_sequencer", CHANGES)
    assert refused(trail_place, "trail_reader", [*CHANGES, *INSERTS, *INBOX])
    assert refused(trail_place, "trail_worker", [*CHANGES, *INSERTS, *READS, *INBOX])


def test_a_worker_adds_to_the_inbox_in_its_own_name_alone(trail_place):
    sql = "INSERT INTO asml_trail.inbox(emitter, seq, frames) VALUES (%s, 0, 'x')"

    trail_place.query(sql, [EMITTER], user="trail_worker")

    rows = trail_place.query("SELECT emitter, seq, frames, sender FROM asml_trail.inbox")
    assert rows == [(EMITTER, 0, b"x", "trail_worker")]
    with pytest.raises(psycopg.errors.CheckViolation):
        trail_place.query(sql, ["../x"], user="trail_worker")


def test_a_login_that_may_not_write_is_told_so(trail_place):
    with pytest.raises(ServiceRefusedError, match="grant the login the role"):
        PostgresAuditWriter(trail_place.login("trail_reader"), ORIGIN)
    with pytest.raises(ServiceRefusedError):
        PostgresAuditReader(trail_place.login("trail_worker")).size()
