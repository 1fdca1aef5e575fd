"""Attacks on the one who signs: by its sequencer, with an old key, by leaving a signature away."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import threading

import pytest

from airflow_secure_ml.adapters.log_signer import LogSigner, SocketSigner, prepare_successors
from airflow_secure_ml.adapters.log_signer.serving import SignerServer, listening
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE
from airflow_secure_ml.core.audit.checkpoint import Checkpoint, sign_with
from airflow_secure_ml.core.audit.tree import consistency_proof, leaf_hash, root_of
from airflow_secure_ml.errors import AuditLogError
from airflow_secure_ml.services.checkpointing import Checkpointer
from airflow_secure_ml.services.verifying import TAMPERED, WHOLE
from tests.services.audit.conftest import ALICE, BOB, chain
from tests.services.audit.test_verifying import leaves, relinked, rewrite

CAROL = "ca" * 16


def notes(site):
    with sqlite3.connect(site.database) as connection:
        return dict(connection.execute("SELECT size, note FROM checkpoint ORDER BY size"))


def put_note(site, size, note):
    with sqlite3.connect(site.database) as connection:
        connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, 0)", (size, note))


@pytest.fixture
def rotated(site):
    """A log whose second pair of keys signs with both kinds; what was stolen before that."""
    site.put(ALICE, 0, chain(ALICE, 6))
    site.take_all()
    site.stolen = site.path / "stolen"
    shutil.copytree(site.signer_path, site.stolen)
    prepare_successors(site.signer_path, post_quantum=True)
    site.put(BOB, 0, chain(BOB, 5))
    site.take_all()
    assert site.verify(site.log_keys()).status == WHOLE
    return site


@pytest.fixture
def served(site):
    """A signer behind its socket; the attacker is its sequencer, with all rights to the log."""
    site.put(ALICE, 0, chain(ALICE, 8))
    site.take_all()
    place = site.path / "run"
    place.mkdir(mode=0o700)
    stopped, ready = threading.Event(), threading.Event()
    server = SignerServer(LogSigner(site.signer_path), site.signer_path, {os.geteuid()})

    def serve():
        with listening(place / "signer.sock", is_shared=False) as listener:
            ready.set()
            server.serve(listener, stopped.is_set)

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(20)
    site.client = SocketSigner(place / "signer.sock")
    yield site
    stopped.set()
    thread.join(20)


def test_a_sequencer_that_rewrote_its_log_gets_no_signature(served):
    kept = (served.signer_path / "last").read_bytes()
    stored = leaves(served)
    forged = relinked(stored, 4, stored[4].replace(b"object.open", b"object.seal"))
    hashes = [leaf_hash(leaf) for leaf in forged]

    def node(level, n):
        return root_of(hashes[n << level : (n + 1) << level])

    rewrite(served, forged)
    for size, proof in (
        (len(forged), ()),
        (len(forged), consistency_proof(3, len(forged), node)),
        (3, ()),
    ):
        with pytest.raises(AuditLogError):
            served.client.sign(size, root_of(hashes[:size]), proof)
    assert (served.signer_path / "last").read_bytes() == kept


def test_a_sequencer_over_an_older_copy_of_its_log_gets_no_signature(served):
    served.log.close()
    older = served.path / "older.db"
    shutil.copy(served.database, older)
    served.put(BOB, 0, chain(BOB, 4))
    served.take_all()
    served.log.close()
    for beside in served.path.glob(f"{LOG_FILE}-*"):
        beside.unlink()
    shutil.copy(older, served.database)
    served.start()
    checkpointer = Checkpointer(log=served.log, signer=served.client, clock=served.clock)

    with pytest.raises(AuditLogError, match="cut or rolled back"):
        checkpointer.make()


def test_a_sequencer_cannot_make_the_signer_hand_over_to_a_key_of_its_own(served):
    prepare_successors(served.signer_path)
    own = b'{"act":"trail.key"}'
    stored = [leaf_hash(leaf) for leaf in leaves(served)]

    with pytest.raises(AuditLogError):
        served.client.hand_over(len(stored), root_of(stored), (), own, ())
    assert [(key.from_size, key.to_size) for key in served.log_keys()] == [(0, None)]


def test_the_retired_key_signs_nothing_that_is_believed(rotated):
    size = max(notes(rotated))
    [old] = LogSigner(rotated.stolen)._files.in_use()
    root = root_of(leaf_hash(leaf) for leaf in leaves(rotated))
    checkpoint = Checkpoint(origin=rotated.origin, size=size, root=root)

    put_note(rotated, size, sign_with(checkpoint, [(old.public, old.sign)]))

    report = rotated.verify(rotated.log_keys())
    assert report.status == TAMPERED
    assert "no key known for that size" in report.problem


def test_the_new_keys_sign_nothing_below_their_sizes(rotated):
    first = min(notes(rotated))
    new = LogSigner(rotated.signer_path)._files.in_use()
    root = root_of(leaf_hash(leaf) for leaf in leaves(rotated)[:first])
    checkpoint = Checkpoint(origin=rotated.origin, size=first, root=root)

    put_note(rotated, first, sign_with(checkpoint, [(key.public, key.sign) for key in new]))

    assert rotated.verify(rotated.log_keys()).status == TAMPERED


@pytest.mark.parametrize("kept", [0, 1], ids=["second", "first"])
def test_a_signature_of_either_kind_that_is_left_away_is_missed(rotated, kept):
    size = max(notes(rotated))
    body, _, signed = notes(rotated)[size].rpartition("\n\n")
    lines = re.findall(r"^— .*\n", signed, re.MULTILINE)
    assert len(lines) == 2

    put_note(rotated, size, f"{body}\n\n{lines[kept]}")

    report = rotated.verify(rotated.log_keys())
    assert report.status == TAMPERED
    assert "not by one of each kind" in report.problem


def test_the_signer_s_old_directory_put_back_signs_nothing_that_is_believed(rotated):
    known = rotated.log_keys()
    rotated.put(CAROL, 0, chain(CAROL, 4))
    shutil.rmtree(rotated.signer_path)
    shutil.copytree(rotated.stolen, rotated.signer_path)

    # All that it knows is its old key; the log extends what it signed last.
    rotated.take_all()

    report = rotated.verify(known)
    assert report.status == TAMPERED
    assert "no key known for that size" in report.problem
