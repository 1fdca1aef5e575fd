"""A log's file of each format: read, verified and attacked as it is, brought up by its writer.

`python -m tests.adapters.test_sqlite_audit_formats` writes the vector of format 1; a release never
does.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader, SqliteAuditWriter, schema
from airflow_secure_ml.core.audit.checkpoint import Checkpoint, sign_checkpoint
from airflow_secure_ml.core.audit.ports import EmitterRow
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.core.audit.tree import Edge, leaf_hash
from airflow_secure_ml.core.redaction import hidden_hash
from airflow_secure_ml.errors import AuditLogError
from airflow_secure_ml.services.verifying import TAMPERED, WHOLE, verify_log
from tests.contracts.audit_stores import append, leaf
from tests.services.audit.conftest import VECTORS
from tests.services.audit.test_export_vectors import EMITTER, KEY, ORIGIN, PUBLIC
from tests.verifier.conftest import outsider  # noqa: F401 - a fixture

VECTOR = VECTORS.parent / "trail_db" / "format-1.db"
SALT = bytes(range(16))
LEAVES = (VECTORS / "leaves.txt").read_bytes().splitlines()
DIGEST = "sha256:" + "ab" * 32
WRITER = """
import os, signal, sys
from pathlib import Path
from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditWriter, schema

made = schema.make

def make(connection, number, *, found=0):
    made(connection, number, found=found)
    if connection.execute("PRAGMA database_list").fetchone()[2]:
        os.kill(os.getpid(), signal.SIGKILL)

schema.make = make
SqliteAuditWriter(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.fixture(params=[1, 2])
def database(request, tmp_path):
    """A log of each format."""
    path = tmp_path / "trail.db"
    shutil.copy(VECTOR, path)
    if request.param == 2:
        SqliteAuditWriter(path, ORIGIN).close()
    return path


@pytest.fixture
def first(tmp_path):
    shutil.copy(VECTOR, tmp_path / "trail.db")
    return tmp_path / "trail.db"


def verdict(path):
    with SqliteAuditReader(path).whole() as log:
        return verify_log(log, [PUBLIC])


def format_of(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((number,),) = connection.execute("SELECT format FROM log")
        assert schema.objects(connection) == schema.expected_objects(number)
    return number


def write(path, *statements):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)


def test_it_is_whole_to_both_verifiers(database, outsider, tmp_path):  # noqa: F811
    (tmp_path / "keys").write_text(PUBLIC.vkey())

    report = outsider.report(database, "--keys", tmp_path / "keys")

    assert (report["status"], report["checked"], report["signed_size"]) == (0, 10, 10)
    assert (verdict(database).status, verdict(database).size) == (WHOLE, 10)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [9, 8, 7, 6, 5, 4, 1, 3, 2, 0]),
        ({"emitter": EMITTER, "acts": ("object.", "lease.")}, [5, 4]),
        ({"digest": DIGEST}, [4]),
        ({"of": f"{EMITTER}:1"}, [6, 5, 4]),
        ({"key": "data", "version": "3"}, [4]),
        ({"host": "worker-1"}, [8, 7, 6, 5, 4, 3, 2]),
        ({"by": "ada"}, []),
    ],
    ids=str,
)
def test_it_answers_as_any_other(database, query, expected):
    reader = SqliteAuditReader(database)

    assert [each.index for each in reader.page(EventQuery(**query))] == expected
    assert reader.count(EventQuery(**query), at_most=99) == len(expected)


def test_it_is_counted_as_any_other(database):
    reader = SqliteAuditReader(database)
    began, ended = reader.span(EventQuery())
    found = reader.histogram(EventQuery(), from_ms=began, until_ms=ended + 1, buckets=3)

    assert sum(n for n, _ in found.bars) == 10
    assert reader.values(EventQuery(), "dag", limit=9).values == (("churn", 7),)
    assert reader.reveal(hidden_hash("ada", SALT)) == "ada"


def test_a_reader_changes_no_format(first):
    before = VECTOR.read_bytes()

    SqliteAuditReader(first).page(EventQuery(by="ada"))

    assert format_of(first) == 1
    assert first.read_bytes() == before


def test_its_writer_brings_it_up_and_goes_on(first):
    reader = SqliteAuditReader(first)
    leaves, note = [each.data for each in reader.page(EventQuery())], reader.checkpoint()

    with SqliteAuditWriter(first, ORIGIN) as writer:
        assert (format_of(first), verdict(first).status) == (2, WHOLE)
        append(writer, [leaf(0, time=2**41, emitter="77" * 16, of=f"{EMITTER}:1")])

    assert [each.data for each in reader.page(EventQuery())][1:] == leaves
    assert (reader.checkpoint(), reader.reveal(hidden_hash("ada", SALT))) == (note, "ada")
    assert [each.index for each in reader.page(EventQuery(of=f"{EMITTER}:1"))] == [10, 6, 5, 4]
    with SqliteAuditWriter(first, ORIGIN) as writer:
        assert (format_of(first), writer.edge().size) == (2, 11)


def test_who_reads_while_it_is_brought_up_sees_one_format(first):
    with SqliteAuditReader(first).whole() as log:
        SqliteAuditWriter(first, ORIGIN).close()

        assert verify_log(log, [PUBLIC]).status == WHOLE
    assert (format_of(first), verdict(first).status) == (2, WHOLE)


def test_a_writer_that_is_killed_while_it_does_leaves_what_there_was(first):
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(first), ORIGIN], capture_output=True, check=False
    )

    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (format_of(first), verdict(first).status) == (1, WHOLE)
    SqliteAuditWriter(first, ORIGIN).close()
    assert (format_of(first), verdict(first).status) == (2, WHOLE)


def test_a_log_of_another_name_is_not_brought_up(first):
    with pytest.raises(AuditLogError, match="the signer is for"):
        SqliteAuditWriter(first, "example.org/asml-trail/ffffffff")

    assert format_of(first) == 1


ATTACKS = {
    "a trigger": ("CREATE TRIGGER evil AFTER INSERT ON leaf BEGIN DELETE FROM aside; END",),
    "an index more": ("CREATE INDEX evil ON leaf(hash, time)",),
    "the other's name": ("UPDATE log SET format = 3 - format",),
    "a format that is none": ("UPDATE log SET format = 3",),
    "no format": ("UPDATE log SET format = NULL",),
    "an index that finds less": (
        "UPDATE sqlite_schema SET sql = replace(sql, '(hash)', '(hash) WHERE idx <> 4') "
        "WHERE name = 'leaf_hash'",
    ),
}


@pytest.mark.parametrize("statements", ATTACKS.values(), ids=ATTACKS.keys())
def test_whoever_changes_it_is_noticed(database, outsider, tmp_path, statements):  # noqa: F811
    (tmp_path / "keys").write_text(PUBLIC.vkey())

    write(database, *statements)

    assert verdict(database).status == TAMPERED
    assert outsider.report(database, "--keys", tmp_path / "keys")["status"] == 1
    with pytest.raises(AuditLogError):
        SqliteAuditWriter(database, ORIGIN)


@pytest.mark.parametrize(
    ("name", "lie"),
    [
        ("leaf_digest", ("$.object.digest", "$.object.uri")),
        ("leaf_host", ("'emitter.open'", "'object.open'")),
        ("leaf_of", ("IS NOT NULL", "IS NULL")),
        ("leaf_time", ("result, act", "act, result")),
    ],
)
def test_an_index_that_hides_events_from_a_search_is_noticed(first, outsider, tmp_path, name, lie):  # noqa: F811
    SqliteAuditWriter(first, ORIGIN).close()
    (tmp_path / "keys").write_text(PUBLIC.vkey())
    with contextlib.closing(sqlite3.connect(first)) as connection:
        ((told,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (name,))

    # Filled with something else, then called what it was.
    write(first, f"DROP INDEX {name}", told.replace(*lie))
    with contextlib.closing(sqlite3.connect(first, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (told, name))

    assert verdict(first).status == TAMPERED
    assert outsider.report(first, "--keys", tmp_path / "keys")["status"] == 1


def make_vector(path):
    """The worked example as a release with format 1 wrote it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        schema.make(connection, 1)
        hashes = [leaf_hash(data) for data in LEAVES]
        edge = Edge().append(hashes)
        checkpoint = Checkpoint(origin=ORIGIN, size=edge.size, root=edge.root())
        note = sign_checkpoint(checkpoint, PUBLIC.public_key, KEY.sign)
        execute = connection.execute
        execute("INSERT INTO log VALUES (?, 1, ?, ?)", (ORIGIN, edge.size, edge.to_bytes()))
        for index, (data, hashed) in enumerate(zip(LEAVES, hashes, strict=True)):
            execute("INSERT INTO leaf VALUES (?, ?, ?)", (index, data.decode(), hashed))
            event = json.loads(data)
            row = ((event["time"]) // 3_600_000, event.get("result", "intent"))
            execute("INSERT INTO tally VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET n = n + 1", row)
        last = [n for n, data in enumerate(LEAVES) if json.loads(data)["emitter"] == EMITTER][-1]
        ended = EmitterRow(id=EMITTER, next_seq=7, last=hashes[last], state="whole")
        execute(
            "INSERT INTO emitter VALUES (?, ?, ?, 0, 0, ?, 0, 0)",
            (ended.id, ended.next_seq, ended.last, ended.state),
        )
        execute("INSERT INTO checkpoint VALUES (?, ?, 0)", (edge.size, note))
        execute("INSERT INTO aside VALUES (?, NULL, ?, 'ada')", (hidden_hash("ada", SALT), SALT))


if __name__ == "__main__":
    make_vector(VECTOR)
