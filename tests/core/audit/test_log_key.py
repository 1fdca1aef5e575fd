"""A log's keys of both kinds, their ranges, and which signatures a reader demands."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.checkpoint import Checkpoint, open_checkpoint, sign_with
from airflow_secure_ml.core.audit.log_key import (
    ED25519,
    ML_DSA_65,
    LogKey,
    hand_over,
    parse_log_keys,
    parse_vkey,
)
from airflow_secure_ml.errors import FormatError, PolicyError, SignatureError

ORIGIN = "example.org/asml-trail/7f3a9c20"
VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "log_note"
NOTE = (VECTORS / "note.txt").read_text("utf-8")
CLASSIC, QUANTUM = parse_log_keys((VECTORS / "log_keys.txt").read_text("utf-8"))
BODY, CLASSIC_LINE, QUANTUM_LINE = NOTE.rsplit("\n", 3)[0], *NOTE.splitlines()[-2:]
SEEDS = (bytes(range(32)), bytes(range(32, 64)))


def note_of(*lines, size=10):
    return f"{NOTE.split(chr(10) * 2)[0]}\n\n" + "".join(f"{line}\n" for line in lines)


def test_the_vector_s_keys_are_those_of_its_seeds():
    classic = Ed25519PrivateKey.from_private_bytes(SEEDS[0]).public_key().public_bytes_raw()
    quantum = MLDSA65PrivateKey.from_seed_bytes(SEEDS[1]).public_key().public_bytes_raw()

    assert (CLASSIC.algorithm, CLASSIC.public_key) == (b"\x01", classic)
    assert (QUANTUM.algorithm, QUANTUM.public_key) == (b"\xffasml/v1/ml-dsa-65\x00", quantum)
    assert (CLASSIC.key_id.hex(), QUANTUM.key_id.hex()) == ("677f7721", "8cb06471")


def test_the_second_key_s_id_and_text_are_made_as_the_specification_says():
    head = b"\xff" + b"asml/v1/ml-dsa-65" + b"\x00"
    identity = hashlib.sha256(ORIGIN.encode() + b"\n" + head + QUANTUM.public_key).hexdigest()[:8]
    packed = base64.b64encode(head + QUANTUM.public_key).decode()

    assert QUANTUM.vkey() == f"{ORIGIN}+{identity}+{packed}"
    assert parse_vkey(QUANTUM.vkey()) == QUANTUM


def test_the_vector_s_note_opens_with_both_keys_and_with_either():
    for keys in ([CLASSIC, QUANTUM], [CLASSIC], [QUANTUM]):
        found = open_checkpoint(NOTE, keys, origin=ORIGIN)

        assert (found.origin, found.size) == (ORIGIN, 10)


@pytest.mark.parametrize(
    "lines", [[CLASSIC_LINE], [QUANTUM_LINE]], ids=["second left away", "first left away"]
)
def test_who_knows_both_kinds_of_key_demands_both_signatures(lines):
    with pytest.raises(PolicyError, match="not by one of each kind") as caught:
        open_checkpoint(note_of(*lines), [CLASSIC, QUANTUM])
    assert caught.value.why == "signer_not_accepted"


def test_outside_its_range_the_second_key_is_not_demanded_and_proves_nothing():
    later = LogKey(name=ORIGIN, public_key=QUANTUM.public_key, algorithm=ML_DSA_65, from_size=11)

    assert open_checkpoint(note_of(CLASSIC_LINE), [CLASSIC, later]).size == 10
    with pytest.raises(PolicyError):
        open_checkpoint(note_of(QUANTUM_LINE), [later])


@given(at=st.integers(0, 3308), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_second_signature_is_refused(at, bit):
    dash, name, packed = QUANTUM_LINE.split(" ")
    signature = bytearray(base64.b64decode(packed))
    signature[4 + at] ^= 1 << bit
    line = f"{dash} {name} {base64.b64encode(signature).decode()}"

    with pytest.raises(SignatureError):
        open_checkpoint(note_of(CLASSIC_LINE, line), [CLASSIC, QUANTUM])


def test_a_signature_of_one_kind_under_the_other_key_s_id_is_refused():
    dash, name, packed = CLASSIC_LINE.split(" ")
    forged = base64.b64encode(QUANTUM.key_id + base64.b64decode(packed)[4:]).decode()

    with pytest.raises(SignatureError):
        open_checkpoint(note_of(CLASSIC_LINE, f"{dash} {name} {forged}"), [CLASSIC, QUANTUM])


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x01",
        b"\x01" + bytes(31),
        b"\x02" + bytes(32),
        ML_DSA_65 + bytes(1951),
        ML_DSA_65 + bytes(1953),
        b"\xffasml/v1/ml-dsa-87\x00" + bytes(1952),
        b"\xff" + bytes(1952),
    ],
    ids=["nothing", "no key", "short", "ECDSA", "short second", "long", "ml-dsa-87", "no name"],
)
def test_a_key_of_another_kind_or_length_is_refused(packed):
    identity = hashlib.sha256(ORIGIN.encode() + b"\n" + packed).hexdigest()[:8]

    with pytest.raises(FormatError, match="not an Ed25519 key"):
        parse_vkey(f"{ORIGIN}+{identity}+{base64.b64encode(packed).decode()}")


def test_ranges_of_sizes_are_kept_and_an_empty_one_is_refused():
    text = CLASSIC.line().replace(" 0 -", " 5 9")

    [key] = parse_log_keys(text)

    assert [key.covers(size) for size in (4, 5, 9, 10)] == [False, True, True, False]
    with pytest.raises(FormatError, match="which is none"):
        parse_log_keys(text.replace(" 5 9", " 10 9"))


def test_two_keys_of_one_id_are_refused(monkeypatch):
    # Four bytes: whoever tries long enough finds two keys of one id.
    monkeypatch.setattr(LogKey, "key_id", property(lambda self: b"\x01\x02\x03\x04"))
    other = LogKey(name=ORIGIN, public_key=bytes(32))
    text = f"{CLASSIC.line()}{other.line()}"

    with pytest.raises(FormatError, match="another key has the id 01020304"):
        parse_log_keys(text)


def test_a_hand_over_ends_the_keys_in_use_and_begins_their_successors():
    new = LogKey(name=ORIGIN, public_key=b"\x07" * 32)

    keys = hand_over([CLASSIC, QUANTUM], [new], 40)

    assert [(key.algorithm, key.from_size, key.to_size) for key in keys] == [
        (ED25519, 0, 40),
        (ML_DSA_65, 0, 40),
        (ED25519, 41, None),
    ]
    assert parse_log_keys("".join(key.line() for key in keys)) == keys


def test_a_second_hand_over_at_the_same_size_is_refused():
    first = hand_over([CLASSIC], [LogKey(name=ORIGIN, public_key=b"\x07" * 32)], 40)

    with pytest.raises(FormatError, match="which is none"):
        hand_over(first, [LogKey(name=ORIGIN, public_key=b"\x08" * 32)], 40)


def test_a_successor_that_is_an_old_key_is_refused():
    with pytest.raises(FormatError, match="make another"):
        hand_over([CLASSIC], [CLASSIC], 40)


def test_a_note_of_two_keys_is_as_large_as_its_signatures():
    quantum = MLDSA65PrivateKey.from_seed_bytes(SEEDS[1])
    classic = Ed25519PrivateKey.from_private_bytes(SEEDS[0])
    checkpoint = Checkpoint(origin=ORIGIN, size=10, root=bytes(32))

    note = sign_with(checkpoint, [(CLASSIC, classic.sign), (QUANTUM, quantum.sign)])

    assert len(note) < 4700
    assert open_checkpoint(note, [CLASSIC, QUANTUM]) == checkpoint
