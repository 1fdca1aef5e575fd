"""Hidden values under their subject's key: opened by it alone, and moved nowhere."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.subject import (
    NONCE_BYTES,
    AsideRow,
    Subject,
    open_aside,
    seal_aside,
)
from airflow_secure_ml.core.redaction import Aside, hidden_hash
from airflow_secure_ml.errors import AuditLogError

VECTOR = Path(__file__).parents[2] / "vectors" / "v1" / "aside" / "aside.json"
NONCE = bytes(range(NONCE_BYTES))
SALT = bytes(range(16))
MARIA = Subject(id="11" * 16, key=bytes(range(32)))
JONAS = Subject(id="22" * 16, key=bytes(range(32, 64)))


def aside_of(value, salt=SALT):
    return Aside(h=hidden_hash(value, salt), salt=salt.hex(), value=value)


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=200))
def test_what_was_sealed_is_opened(value):
    sealed = seal_aside(aside_of(value), MARIA, NONCE)

    assert open_aside(sealed, MARIA) == aside_of(value)


def test_neither_value_nor_salt_nor_key_can_be_seen():
    sealed = seal_aside(aside_of("maria.keller"), MARIA, NONCE)

    data = base64.b64decode(sealed.value)
    assert b"maria" not in data
    assert SALT not in data
    assert repr(MARIA.key) not in repr(MARIA)


@pytest.mark.parametrize(
    "change",
    [
        {"h": hidden_hash("jonas.brandt", SALT)},
        {"subject": JONAS.id},
        {"value": ""},
        {"value": "AAAA"},
        {"value": "not base64"},
        {"value": seal_aside(aside_of("jonas.brandt"), MARIA, NONCE).value},
        {"value": seal_aside(aside_of("maria.keller"), JONAS, NONCE).value},
    ],
)
def test_a_row_that_was_changed_or_moved_is_refused(change):
    row = replace(seal_aside(aside_of("maria.keller"), MARIA, NONCE), **change)

    with pytest.raises(AuditLogError, match="it was exchanged"):
        open_aside(row, JONAS if row.subject == JONAS.id else MARIA)


def test_every_changed_byte_is_refused():
    row = seal_aside(aside_of("maria.keller"), MARIA, NONCE)
    data = base64.b64decode(row.value)

    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(AuditLogError):
            open_aside(replace(row, value=base64.b64encode(changed).decode()), MARIA)


def test_whoever_holds_the_key_cannot_put_another_value_behind_a_hash():
    forged = replace(aside_of("jonas.brandt"), h=hidden_hash("maria.keller", SALT))

    with pytest.raises(AuditLogError, match="it was exchanged"):
        open_aside(seal_aside(forged, MARIA, NONCE), MARIA)


def test_the_frozen_row_is_opened():
    frozen = json.loads(VECTOR.read_text())
    subject = Subject(id=frozen["subject"], key=bytes.fromhex(frozen["key"]))
    row = AsideRow(h=frozen["h"], subject=frozen["subject"], value=frozen["sealed"])

    assert open_aside(row, subject).value == frozen["value"]
    aside = Aside(h=frozen["h"], salt=frozen["salt"], value=frozen["value"])
    assert seal_aside(aside, subject, bytes.fromhex(frozen["nonce"])) == row
