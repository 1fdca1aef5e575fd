"""The Integrity page names the level in force, and does not believe what the relay wrote down."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from types import SimpleNamespace

import pytest

from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE
from airflow_secure_ml.core.audit.checkpoint import parse_note
from airflow_secure_ml.core.audit.cosignature import (
    CosignerKey,
    Witness,
    cosign,
    encode_lines,
)
from airflow_secure_ml.core.audit.relaying import Cosigned
from airflow_secure_ml.core.ed25519 import Ed25519Signer, public_of
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.plugin import routes_integrity
from airflow_secure_ml.plugin.integrity import level

SEED = b"\x05" * 32
KEY = CosignerKey(name="witness.example/w1", public_key=public_of(SEED))
SIGN = Ed25519Signer(SEED, KeyRef(system="witness", name="w1", version="0")).sign


@pytest.fixture
def watched(trail):
    """The trail, with one witness in its settings and the note that it would be asked about."""
    witness = Witness(key=KEY, url="https://witness.example")
    trail.settings = replace(trail.settings, audit_witnesses=(witness,), audit_witness_quorum=1)
    return trail


def keep(trail, text):
    size = int(trail.store.checkpoint().split("\n")[1])
    line = encode_lines([cosign(text, KEY, SIGN, time_s=1_795_316_400)])
    found = Cosigned(size=size, witness=KEY.vkey(), line=line, time_s=1_795_316_400)
    Deployment(trail.settings).relay_book.keep_cosigned(found)
    return size


def shown(trail):
    scope = SimpleNamespace(user="ann", whole=True)
    return routes_integrity._page(trail, scope, old="").body.decode()


def test_without_cosignatures_it_is_the_local_signature_only(watched):
    page = shown(watched)

    assert "Level in force: local signature only" in page
    assert "0 of 1 witnesses have cosigned, 1 are needed" in page


def test_a_cosignature_over_the_logs_note_raises_the_level(watched):
    size = keep(watched, parse_note(watched.store.checkpoint()).text)

    assert level(watched).size == size
    assert "Level in force: witnessed by 1 of 1 (1 needed)" in shown(watched)


def test_a_cosignature_over_another_history_is_shown_as_broken(watched):
    keep(watched, parse_note(watched.store.checkpoint()).text.replace("\n", "\n1", 1))

    assert level(watched).size is None
    assert "it does not hold" in level(watched).problem
    assert "it does not hold" in shown(watched)


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE leaf SET hash = zeroblob(32) WHERE idx = (SELECT max(idx) FROM leaf)",
        "UPDATE tile SET hashes = zeroblob(8192) WHERE level = 0 AND n = 0",
        "UPDATE log SET size = size - 1",
    ],
    ids=["a leaf's hash", "a tile", "cut"],
)
def test_a_log_that_is_not_what_was_cosigned_is_not_called_witnessed(watched, attack):
    keep(watched, parse_note(watched.store.checkpoint()).text)
    with contextlib.closing(sqlite3.connect(watched.settings.audit_dir / LOG_FILE)) as database:
        assert database.execute(attack).rowcount == 1
        database.commit()

    assert level(watched).size is None
    assert "cosigned" in level(watched).problem
    assert "Level in force: local signature only" in shown(watched)
