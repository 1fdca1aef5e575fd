"""Somebody who can write the log's file and has no log key."""

from __future__ import annotations

import shutil
import sqlite3

import pytest

from airflow_secure_ml.core.audit.checkpoint import Checkpoint, sign_checkpoint
from airflow_secure_ml.core.audit.tree import EMPTY_ROOT
from airflow_secure_ml.core.redaction import hidden_hash
from airflow_secure_ml.errors import AuditLogError
from airflow_secure_ml.services.verifying import TAMPERED, WHOLE
from tests.services.audit.conftest import ALICE, BOB, chain

SALT = bytes(range(16))
NAME = hidden_hash("alice", SALT)


@pytest.fixture
def stored(site):
    """A signed log with a person's name aside."""
    site.put(ALICE, 0, chain(ALICE, 20))
    site.run()
    _write(site, "INSERT INTO aside(h, salt, value) VALUES (?, ?, ?)", NAME, SALT, "alice")
    return site


def _write(site, statement, *values):
    connection = sqlite3.connect(site.database, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(statement, values)
    connection.close()


def _open(path):
    return sqlite3.connect(path, isolation_level=None)


def test_what_lies_aside_in_the_open_is_believed(stored):
    assert stored.reader().reveal(NAME) == "alice"
    assert stored.verify().status == WHOLE


def test_another_persons_name_is_put_behind_a_hash(stored):
    _write(stored, "UPDATE aside SET value = 'bob'")

    with pytest.raises(AuditLogError, match="does not give"):
        stored.reader().reveal(NAME)
    report = stored.verify()
    assert report.status == TAMPERED
    assert "aside" in report.problem
    assert "bob" not in report.problem


def test_a_salt_of_another_length_moves_letters_of_the_name_into_the_salt(stored):
    _write(stored, "UPDATE aside SET salt = ?, value = ?", SALT + b"al", "ice")

    with pytest.raises(AuditLogError, match="does not give"):
        stored.reader().reveal(NAME)
    assert stored.verify().status == TAMPERED


def test_an_erased_value_is_no_fault(stored):
    _write(stored, "UPDATE aside SET salt = NULL, value = NULL")

    assert stored.reader().reveal(NAME) is None
    assert stored.verify().status == WHOLE


@pytest.mark.parametrize("kind", ["trigger", "view"])
def test_a_trigger_hides_behind_a_name_that_sqlite_uses(stored, kind):
    sql = {
        "trigger": "CREATE TRIGGER evil AFTER INSERT ON leaf BEGIN DELETE FROM aside; END",
        "view": "CREATE VIEW evil AS SELECT * FROM leaf",
    }[kind]
    _write(stored, sql)
    _write(
        stored,
        "UPDATE sqlite_schema SET name = 'sqlite_stat9', sql = replace(sql, 'evil', "
        "'sqlite_stat9') WHERE name = 'evil'",
    )

    assert stored.verify().status == TAMPERED


def test_what_analyze_leaves_is_no_fault(stored):
    _write(stored, "ANALYZE")

    assert stored.verify().status == WHOLE


def test_only_the_checkpoint_of_the_empty_log_is_left(stored):
    empty = Checkpoint(origin=stored.origin, size=0, root=EMPTY_ROOT)
    public = stored.signer.public.public_key
    note = sign_checkpoint(
        empty, public, stored.signer._files.in_use()[0].sign
    )  # what `keys init` signs
    _write(stored, "DELETE FROM checkpoint")
    _write(stored, "INSERT INTO checkpoint VALUES (0, ?, 0)", note)

    assert stored.verify().status != WHOLE


def test_the_store_is_rolled_back_below_what_its_signer_signed(stored):
    stored.sequencer.close()
    stored.checkpointer.make()
    stored.log.close()
    kept = stored.path / "older.db"
    with _open(stored.database) as old, _open(kept) as copy:
        old.backup(copy)
    stored.start()
    stored.put(BOB, 0, chain(BOB, 5))
    stored.run()
    stored.log.close()
    for name in ("trail.db", "trail.db-wal", "trail.db-shm"):
        (stored.path / name).unlink(missing_ok=True)
    shutil.copy(kept, stored.database)
    last = (stored.signer_path / "last").read_text()

    assert stored.verify().status == WHOLE  # by itself nothing shows it
    report = stored.verify(signed_last=last)
    assert report.status == TAMPERED
    assert "signer" in report.problem


def test_what_the_signer_recorded_fits_a_log_that_nobody_changed(stored):
    last = (stored.signer_path / "last").read_text()

    assert stored.verify(signed_last=last).status == WHOLE
    assert stored.verify(signed_last=last, kept=last).kept_size == stored.reader().size()
