"""A person erased from the trail: from the log, from copies of it; events and proofs stay."""

from __future__ import annotations

import shutil
import sqlite3

import pytest

from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader, SqliteAuditWriter
from airflow_secure_ml.adapters.sqlite_audit.erasing import SqliteEraser
from airflow_secure_ml.adapters.subject_keys import SubjectKeys
from airflow_secure_ml.core.audit.frame import ASIDE, encode_frame
from airflow_secure_ml.core.redaction import Aside, hidden_hash
from airflow_secure_ml.errors import AuditLogError, ConfigurationError
from airflow_secure_ml.services.erasing_subject import erase_subject
from airflow_secure_ml.services.proving import check_proof, prove

from .conftest import ALICE, BOB, event

MARIA, JONAS = "maria.keller", "jonas.brandt"


def hidden(value, number):
    salt = bytes([number]) * 16
    return Aside(h=hidden_hash(value, salt), salt=salt.hex(), value=value)


def said_by(emitter, *asides):
    """An emitter's events, each by a person, and what lies behind them."""
    events, tail = [event(emitter, 0, None, "emitter.open")], b""
    for aside in asides:
        by = {"h": aside.h, "n": len(aside.value)}
        events.append(event(emitter, len(events), events[-1], "trail.view", by=by))
        tail += encode_frame(ASIDE, aside.encode())
    return events, tail


@pytest.fixture
def keys(tmp_path):
    return SubjectKeys(tmp_path / "subjects" / "subjects.db")


@pytest.fixture
def told(site, keys):
    """A log in which two people did something, in two processes each."""
    site.asides = [hidden(MARIA, 1), hidden(JONAS, 2), hidden(MARIA, 3)]
    site.start(log=SqliteAuditWriter(site.database, site.origin, subjects=keys))
    for emitter, asides in ((ALICE, site.asides[:2]), (BOB, site.asides[2:])):
        events, tail = said_by(emitter, *asides)
        site.put(emitter, 0, events, tail=tail)
    site.run()
    return site


def reader(site, keys):
    return SqliteAuditReader(site.database, subjects=keys)


def erase(site, keys, name, segments=()):
    return erase_subject(name, keys, SqliteEraser(site.database), lambda: segments)


def test_who_did_it_is_told_and_stands_nowhere_in_the_log(told, keys):
    assert [reader(told, keys).reveal(aside.h) for aside in told.asides] == [MARIA, JONAS, MARIA]
    assert reader(told, keys).aside(told.asides[0].h) == told.asides[0]

    data = told.database.read_bytes() + told.database.with_name("trail.db-wal").read_bytes()
    assert MARIA.encode() not in data
    # With the salt, names could be tried.
    assert bytes.fromhex(told.asides[0].salt) not in data


def test_an_erased_person_is_named_by_nothing_any_more(told, keys, tmp_path):
    shutil.copytree(told.path, tmp_path / "copy")

    done = erase(told, keys, MARIA)

    assert (done.is_known, done.rows, done.waiting) == (True, 2, 0)
    assert [reader(told, keys).reveal(a.h) for a in told.asides] == [None, JONAS, None]
    # A copy from before has the rows, and no key opens them.
    copy = SqliteAuditReader(tmp_path / "copy" / "trail.db", subjects=keys)
    assert [copy.reveal(a.h) for a in told.asides] == [None, JONAS, None]


def test_the_tree_and_every_proof_stay(told, keys):
    proofs = [prove(told.reader(), index) for index in range(told.reader().size())]

    erase(told, keys, MARIA)

    assert told.verify().status == 0
    for proof in proofs:
        check_proof(proof, [told.signer.public], origin=told.origin)
        assert prove(told.reader(), proof["index"])["path"] == proof["path"]


def test_erasing_again_or_somebody_unknown_does_nothing(told, keys):
    erase(told, keys, MARIA)

    again, unknown = erase(told, keys, MARIA), erase(told, keys, "li.wei")

    assert (again.is_known, again.rows) == (unknown.is_known, unknown.rows) == (False, 0)
    assert reader(told, keys).reveal(told.asides[1].h) == JONAS


def test_killed_before_the_key_is_gone_it_can_be_run_again(told, keys, monkeypatch):
    def killed(self, subject_id):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SubjectKeys, "destroy", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(told, keys, MARIA)

    assert erase(told, keys, MARIA).is_known
    assert keys.named(MARIA) is None


def test_a_segment_that_still_holds_the_name_is_counted(told, keys):
    events, tail = said_by("c0" * 16, hidden(MARIA, 4), hidden(JONAS, 5))
    waiting = told.put("c0" * 16, 0, events, tail=tail).read_bytes()
    other = told.put("d0" * 16, 0, *[said_by("d0" * 16, hidden(JONAS, 6))[0]]).read_bytes()

    assert erase(told, keys, MARIA, [waiting, other, b"", b"rubbish" * 9]).waiting == 1


def test_a_segment_that_is_taken_in_meanwhile_is_counted_all_the_same(told, keys):
    eva = hidden("eva.lang", 9)
    events, tail = said_by("ea" * 16, eva)
    told.put("ea" * 16, 0, events, tail=tail)

    class TakenInMeanwhile(SqliteEraser):
        def erase_asides(self, subject, value):
            rows = super().erase_asides(subject, value)
            told.run()
            return rows

    def segments():
        return [path.read_bytes() for path in told.spool.glob("*.seg")]

    first = erase_subject("eva.lang", keys, TakenInMeanwhile(told.database), segments)
    second = erase(told, keys, "eva.lang", segments())

    assert (first.is_known, first.rows, first.waiting) == (True, 0, 1)
    assert (second.rows, second.waiting) == (1, 0)
    assert reader(told, keys).reveal(eva.h) is None


def test_what_lay_in_the_open_before_is_read_and_erased_as_well(site, keys):
    aside = hidden(MARIA, 1)
    events, tail = said_by(ALICE, aside)
    site.put(ALICE, 0, events, tail=tail)
    site.run()
    assert reader(site, keys).reveal(aside.h) == MARIA

    done = erase(site, keys, MARIA)

    assert (done.is_known, done.rows) == (True, 1)
    assert reader(site, keys).reveal(aside.h) is None
    # Nor in the journal, which its writer holds open.
    for path in site.database.parent.glob("trail.db*"):
        assert MARIA.encode() not in path.read_bytes(), path.name
    assert site.verify().status == 0


def test_rows_that_were_exchanged_are_noticed(told, keys):
    first, second = told.asides[0].h, told.asides[1].h
    connection = sqlite3.connect(told.database)
    rows = dict(connection.execute("SELECT h, value FROM aside"))
    connection.execute("UPDATE aside SET value = ? WHERE h = ?", (rows[second], first))
    connection.commit()
    connection.close()

    with pytest.raises(AuditLogError, match="exchanged"):
        reader(told, keys).reveal(first)
    with reader(told, keys).whole() as log:
        assert "1 values in table aside do not give their hashes" in log.faults()[0]


def test_without_the_keys_the_log_is_whole_and_names_nobody(told, keys, tmp_path):
    elsewhere = SubjectKeys(tmp_path / "nowhere" / "subjects.db")

    with pytest.raises(ConfigurationError, match="audit_subjects_dir"):
        reader(told, elsewhere).reveal(told.asides[0].h)
    with reader(told, elsewhere).whole() as log:
        assert log.faults() == []
    assert told.reader().reveal(told.asides[0].h) is None
    assert told.verify().status == 0
