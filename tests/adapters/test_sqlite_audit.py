"""What is SQLite's own of a log in a file; all else is in tests/contracts/test_audit_log.py."""

from __future__ import annotations

import sqlite3

import pytest

from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader, SqliteAuditWriter
from airflow_secure_ml.core.audit.ports import EmitterRow
from airflow_secure_ml.core.redaction import Aside, hidden_hash
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, ServiceUnavailableError
from tests.contracts.audit_stores import EMITTER, LEAVES, ORIGIN, append, leaf


@pytest.fixture
def log(tmp_path):
    with SqliteAuditWriter(tmp_path / "trail.db", ORIGIN) as writer:
        append(writer, LEAVES)
        yield writer


@pytest.fixture
def reader(log, tmp_path):
    return SqliteAuditReader(tmp_path / "trail.db")


def test_rows_hidden_values_and_the_tally_come_with_the_leaves(log, reader, tmp_path):
    row = EmitterRow(id=EMITTER, next_seq=7, last=b"x" * 32, part=2, at=99, first_ms=1, last_ms=2)
    h = hidden_hash("Ada", b"\x01" * 16)
    aside = Aside(h=h, salt="01" * 16, value="Ada")

    append(log, [leaf(6, time=5000)], emitters=[row], asides=[aside])

    assert log.emitters(["live", "gap"]) == (row,)
    assert log.emitters(["gap"]) == ()
    assert (log.emitter(EMITTER), log.emitter("00" * 16)) == (row, None)
    assert (log.event_hash(EMITTER, 2), log.event_count(EMITTER)) == (LEAVES[2].hash, 7)
    assert reader.reveal(h) == "Ada"
    assert reader.reveal("1f" * 32) is None
    connection = sqlite3.connect(tmp_path / "trail.db")
    rows = connection.execute("SELECT hour, result, n FROM tally ORDER BY hour, result").fetchall()
    connection.close()
    assert rows == [(0, "intent", 1), (0, "ok", 3), (0, "refused", 1), (1, "ok", 2)]


def test_a_log_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"trail\.db: no such file"):
        SqliteAuditReader(tmp_path / "trail.db").size()


def test_a_leaf_that_is_not_json_is_named(log, reader, tmp_path):
    log.close()
    path = tmp_path / "trail.db"
    path.write_bytes(path.read_bytes().replace(b'"object.seal"', b'"object.seal}'))

    with pytest.raises(AuditLogError) as caught:
        reader.leaf(3)
    assert caught.value.index == 3


def test_the_file_is_for_its_owner_alone(log, tmp_path):
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}

    assert modes == {"trail.db": 0o600, "trail.db-wal": 0o600, "trail.db-shm": 0o600}


def test_a_batch_that_is_confirmed_is_on_the_disk(log):
    # NORMAL syncs no commit, and segments are unlinked on that word; nothing else shows it here.
    (found,) = log._connection.execute("PRAGMA synchronous").fetchone()

    assert found >= 2


def test_pages_use_an_index(tmp_path, log):
    connection = sqlite3.connect(tmp_path / "trail.db")
    plans = [
        " ".join(
            row[3]
            for row in connection.execute(
                f"EXPLAIN QUERY PLAN SELECT idx FROM leaf WHERE {condition} "
                "ORDER BY time DESC, idx DESC LIMIT 50"
            )
        )
        for condition in ("1", "dag = 'a'", "ti = 'a'", "uri = 'a'", "act = 'a'")
    ]
    connection.close()

    assert [plan.partition("INDEX ")[2].split()[0] for plan in plans] == [
        "leaf_time",
        "leaf_dag",
        "leaf_ti",
        "leaf_uri",
        "leaf_act",
    ]


def test_a_log_that_another_process_keeps_locked_is_unavailable_not_tampered(
    log, reader, tmp_path, monkeypatch
):
    log.close()
    monkeypatch.setattr("airflow_secure_ml.adapters.sqlite_audit.opening.BUSY_S", 0.0)
    other = sqlite3.connect(tmp_path / "trail.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(ServiceUnavailableError, match="locked"):
        reader.size()
    other.close()
    assert reader.size() == 6


def test_a_log_whose_making_was_interrupted_is_made_anew(tmp_path):
    (tmp_path / ".trail.db.new").write_bytes(b"half of it")

    with SqliteAuditWriter(tmp_path / "trail.db", ORIGIN) as writer:
        assert writer.edge().size == 0
    assert not (tmp_path / ".trail.db.new").exists()


def test_a_file_without_the_log_s_tables_is_no_log(tmp_path):
    (tmp_path / "trail.db").touch()

    with pytest.raises(AuditLogError, match="its tables are not this release's"):
        SqliteAuditWriter(tmp_path / "trail.db", ORIGIN)
