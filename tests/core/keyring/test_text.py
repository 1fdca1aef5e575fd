"""A keyring's text is read strictly."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.ed25519 import PublicKey
from airflow_secure_ml.core.keyring import changes
from airflow_secure_ml.core.keyring.model import Keyring
from airflow_secure_ml.core.keyring.text import decode, encode
from airflow_secure_ml.errors import ConfigurationError

VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "keyring"
NOW = "2026-11-22T03:00:00Z"
GOOD = {
    "secure_ml_keyring": 1,
    "keys": {
        "data": {
            "purpose": "wrap",
            "versions": [
                {
                    "number": 1,
                    "state": "active",
                    "created": NOW,
                    "secret": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
                }
            ],
        }
    },
}


def _decode(record):
    return decode(json.dumps(record).encode(), system="local", where="test")


def _changed(change):
    record = copy.deepcopy(GOOD)
    change(record, record["keys"]["data"], record["keys"]["data"]["versions"][0])
    return record


def test_a_keyring_is_read():
    key = _decode(GOOD).keys["data"]

    assert (key.purpose, key.newest.number, key.newest.state) == ("wrap", 1, "active")
    assert bytes(key.newest.secret.value) == b"\x01" * 32


@pytest.mark.parametrize(
    "change",
    [
        lambda r, k, v: r.pop("secure_ml_keyring"),
        lambda r, k, v: r.update(secure_ml_keyring=4),
        lambda r, k, v: r.update(secure_ml_keyring=True),
        lambda r, k, v: r.update(secure_ml_keyring=1.0),
        lambda r, k, v: v.update(algorithm="x25519"),
        lambda r, k, v: r.update(more=1),
        lambda r, k, v: r.update(keys=[]),
        lambda r, k, v: r["keys"].update(BAD=k),
        lambda r, k, v: k.update(purpose="other"),
        lambda r, k, v: k.update(purpose="sign"),
        lambda r, k, v: k.update(purpose="trust"),
        lambda r, k, v: k.update(versions=[]),
        lambda r, k, v: k.update(versions=[v, v]),
        lambda r, k, v: k.update(more=1),
        lambda r, k, v: v.update(number=0),
        lambda r, k, v: v.update(number="1"),
        lambda r, k, v: v.update(state="asleep"),
        lambda r, k, v: v.update(state="destroyed"),
        lambda r, k, v: v.update(more=1),
        lambda r, k, v: v.update(created="x" * 33),
        lambda r, k, v: v.update(secret="AQEB"),
        lambda r, k, v: v.update(secret=1),
        lambda r, k, v: v.update(secret="ö" * 44),
        lambda r, k, v: v.update(public=v["secret"]),
        lambda r, k, v: v.pop("secret"),
    ],
)
def test_a_keyring_with_anything_unusual_is_refused(change):
    with pytest.raises(ConfigurationError) as caught:
        _decode(_changed(change))

    assert "AQEB" not in str(caught.value)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b"\xff", b'{"keys":{},"keys":{},"secure_ml_keyring":1}', b"[" * 9999]
)
def test_another_text_is_refused(text):
    with pytest.raises(ConfigurationError):
        decode(text, system="local", where="test")


@given(
    st.lists(
        st.tuples(st.sampled_from(["data", "a-b_c", "0"]), st.sampled_from(["wrap", "sign"])),
        unique_by=lambda pair: pair[0],
    ),
    st.lists(st.sampled_from(["rotate", "retire", "disable", "enable", "destroy"]), max_size=6),
    st.binary(min_size=32, max_size=32),
)
def test_what_is_written_is_read(keys, acts, secret):
    keyring = Keyring(system="local", where="test")
    for name, purpose in keys:
        keyring = changes.create(keyring, name, purpose, now=NOW, random_bytes=lambda _: secret)
        for act in acts:
            if act == "rotate":
                keyring = changes.rotate(keyring, name, now=NOW, random_bytes=lambda _: secret)
            else:
                keyring = getattr(changes, act)(keyring, name)

    text = encode(keyring)

    assert encode(decode(text, system="local", where="test")) == text


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    try:
        decode(data, system="local", where="test")
    except ConfigurationError:
        return
    raise AssertionError("such a keyring should not be met by chance")


@pytest.mark.parametrize("key_id", ["", "pipeline", "pipeline/0", "a/b/1", "pipeline/1\n", 1, []])
def test_another_key_id_than_a_name_and_a_version_is_refused(key_id):
    public = {"public": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "key_id": key_id}

    def change(record, key, version):
        key["purpose"] = "trust"
        del version["secret"]
        version.update(public)

    with pytest.raises(ConfigurationError):
        _decode(_changed(change))
    public["key_id"] = "pipeline/1"
    assert _decode(_changed(change)).verifiers(["data"])[0].key_id == "pipeline/1"


@pytest.mark.parametrize(
    ("name", "number"), [("plain.json", 1), ("with-recipients.json", 2)], ids=["first", "second"]
)
def test_the_frozen_keyrings_are_read_and_written_the_same(name, number):
    data = (VECTORS / name).read_bytes()
    keyring = decode(data, system="local", where="f")

    assert json.loads(data)["secure_ml_keyring"] == number
    assert encode(keyring) == data
    kinds = {slot.slot_type for slot in keyring.openers()}
    assert kinds == ({1} if number == 1 else {1, 2})


def test_a_keyring_that_nobody_could_read_again_is_not_written():
    keyring = Keyring(system="local", where="k.json")
    keys = [PublicKey(version=n, public=bytes(32), second=bytes(1952)) for n in range(1, 256)]
    for at in range(5):
        keyring = changes.trust(keyring, f"partner-{at}", keys, now=NOW)
    assert decode(encode(keyring), system="local", where="k.json") == keyring

    grown = changes.trust(keyring, "partner-5", keys, now=NOW)

    with pytest.raises(ConfigurationError, match=r"k\.json: expected at most 4194304 bytes"):
        encode(grown)
