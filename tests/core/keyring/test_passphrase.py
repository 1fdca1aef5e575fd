"""A keyring's text under a passphrase: frozen, and altered in every way."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from airflow_secure_ml.core.keyring.passphrase import (
    Kdf,
    check_passphrase,
    derive,
    open_text,
    parse_sealed,
    seal_text,
)
from airflow_secure_ml.core.keyring.text import decode
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError

VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "keyring"
FROZEN = (VECTORS / "under-passphrase.json").read_bytes()
PASSPHRASE = Secret("correct horse battery staple")
KDF = Kdf(salt=bytes(range(16)), cost=1 << 15)


@pytest.fixture(scope="module")
def key():
    return derive(PASSPHRASE, KDF)


def test_the_frozen_file_opens_and_is_written_the_same(key):
    found = parse_sealed(FROZEN, where="f")
    text = open_text(found, key, where="f")

    assert found.kdf == KDF
    assert text == (VECTORS / "plain.json").read_bytes()
    assert decode(text, system="local", where="f").wrapper("data").slot_id == "data/1"
    assert seal_text(text, key, KDF, bytes(range(12))) == FROZEN


def test_the_derived_key_is_scrypts(key):
    reference = hashlib.scrypt(
        b"correct horse battery staple",
        salt=bytes(range(16)),
        n=1 << 15,
        r=8,
        p=1,
        maxmem=1 << 26,
        dklen=32,
    )
    assert key == reference


def test_another_passphrase_is_refused():
    other = derive(Secret("correct horse battery stable"), KDF)

    with pytest.raises(ConfigurationError, match="does not open this keyring"):
        open_text(parse_sealed(FROZEN, where="f"), other, where="f")


def test_no_bit_of_the_sealed_text_can_be_changed(key):
    record = json.loads(FROZEN)
    sealed = base64.b64decode(record["sealed"])
    for at in (0, 1, len(sealed) // 2, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[at] ^= 1
        record["sealed"] = base64.b64encode(changed).decode()
        found = parse_sealed(json.dumps(record).encode(), where="f")
        with pytest.raises(ConfigurationError):
            open_text(found, key, where="f")


@pytest.mark.parametrize(
    "change",
    [
        lambda r, k: k.update(n=1 << 30),
        lambda r, k: k.update(n=1 << 10),
        lambda r, k: k.update(n=(1 << 15) + 1),
        lambda r, k: k.update(n="32768"),
        lambda r, k: k.update(n=True),
        lambda r, k: k.update(r=1),
        lambda r, k: k.update(p=1 << 20),
        lambda r, k: k.update(name="pbkdf2"),
        lambda r, k: k.update(salt=""),
        lambda r, k: k.update(salt=1),
        lambda r, k: k.update(more=1),
        lambda r, k: r.update(kdf=None),
        lambda r, k: r.update(nonce=""),
        lambda r, k: r.update(sealed="AA=="),
        lambda r, k: r.update(sealed=[]),
        lambda r, k: r.update(keys={}),
        lambda r, k: r.pop("nonce"),
    ],
)
def test_a_file_with_anything_unusual_is_refused_before_a_key_is_derived(change):
    record = json.loads(FROZEN)
    change(record, record["kdf"])

    with pytest.raises(ConfigurationError):
        parse_sealed(json.dumps(record).encode(), where="f")


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff", b'{"secure_ml_keyring": 1}'])
def test_what_is_under_no_passphrase_is_left_to_its_reader(text):
    assert parse_sealed(text, where="f") is None


def test_the_salt_and_the_cost_are_covered_by_the_seal(key):
    found = parse_sealed(FROZEN, where="f")
    moved = type(found)(
        kdf=Kdf(salt=bytes(16), cost=1 << 15), nonce=found.nonce, sealed=found.sealed
    )

    with pytest.raises(ConfigurationError):
        open_text(moved, key, where="f")


@pytest.mark.parametrize("text", ["", "x" * 11, "x" * 1025, "ö" * 600])
def test_a_new_passphrase_has_a_length(text):
    with pytest.raises(ConfigurationError, match="passphrase"):
        check_passphrase(Secret(text))


def test_what_has_no_bytes_is_refused_and_no_error_carries_it():
    typed = Secret("correct horse\udcff battery")

    for ask in (lambda: check_passphrase(typed), lambda: derive(typed, Kdf(salt=bytes(16)))):
        with pytest.raises(ConfigurationError, match="expected UTF-8") as refused:
            ask()
        assert refused.value.__cause__ is None
        assert refused.value.__context__ is None
