"""Slots of type 2: against published vectors, another implementation, and attackers."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.hpke import (
    ALGORITHMS,
    HYBRID,
    X25519,
    HpkeOpener,
    HpkeWrapper,
    Recipient,
    check_strength,
    parse_recipient,
    recipient_of,
    recipient_text,
)
from airflow_secure_ml.core.sealed_file.slots import Slot, check_slot
from airflow_secure_ml.errors import CiphertextError, ConfigurationError
from tests.core.sealed_file import hpke_reference as reference

VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "hpke"
PUBLISHED = json.loads((VECTORS / "published.json").read_text())
SLOTS = json.loads((VECTORS / "slots.json").read_text())
KEMS = {X25519: reference.X25519, HYBRID: reference.HYBRID}
SEED, FILE_KEY, CORE_ID = bytes(range(32)), bytes(range(32, 64)), b"c" * 32
REF = KeyRef(system="local", name="ann", version="1")
# Of order 1, 2 (twice spelt), 4 and 8; then the field's prime and one past it.
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def _opener(algorithm, seed=SEED):
    return HpkeOpener(algorithm, seed, REF)


def test_the_reference_agrees_with_the_published_vectors_of_x25519():
    vector = PUBLISHED["rfc9180"]
    seed, enc, info = (bytes.fromhex(vector[name]) for name in ("skRm", "enc", "info"))
    shared = reference.decapsulate(reference.X25519, seed, enc)
    key, nonce = reference.schedule(reference.X25519, 2, shared, info)
    cipher, sink = AESGCM(key), hashlib.shake_128()
    stream, at = hashlib.shake_128().digest(2 * 256 * 1000), 0
    for count in range(1000):
        drawn = []
        for _ in range(2):
            length = stream[at]
            drawn.append(stream[at + 1 : at + 1 + length])
            at += 1 + length
        this = (int.from_bytes(nonce, "big") ^ count).to_bytes(12, "big")
        sink.update(cipher.encrypt(this, drawn[1], drawn[0]))

    assert reference.public_of(reference.X25519, seed).hex() == vector["pkRm"]
    assert sink.hexdigest(16) == vector["encryptions_accumulated"]


def test_the_reference_agrees_with_the_published_vector_of_the_hybrid():
    vector = PUBLISHED["hpke-pq"]
    seed, enc, info = (bytes.fromhex(vector[name]) for name in ("skRm", "enc", "info"))
    shared = reference.decapsulate(reference.HYBRID, seed, enc)

    assert reference.public_of(reference.HYBRID, seed).hex() == vector["pkRm"]
    assert shared.hex() == vector["shared_secret"]
    key, nonce = reference.schedule(reference.HYBRID, 3, shared, info)
    assert (key.hex(), nonce.hex()) == (vector["key"], vector["base_nonce"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_reference_opens_what_is_sealed(algorithm):
    body = _opener(algorithm).wrap(FILE_KEY, CORE_ID)

    kem, enc_bytes = KEMS[algorithm], len(body) - 6 - 48
    enc, ct = body[6 : 6 + enc_bytes], body[6 + enc_bytes :]
    shared = reference.decapsulate(kem, SEED, enc)
    key, nonce = reference.schedule(kem, 2, shared, b"asml/v1/hpke" + CORE_ID)
    assert body[:6] == kem.to_bytes(2, "big") + bytes.fromhex("00010002")
    assert AESGCM(key).decrypt(nonce, ct, b"") == FILE_KEY


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_another_implementation_sealed_is_opened(algorithm):
    vector = SLOTS["keys"][algorithm]
    opener = _opener(algorithm, bytes.fromhex(vector["private"]))
    body, core_id = bytes.fromhex(vector["body"]), bytes.fromhex(SLOTS["core_id"])

    check_slot(Slot(type=2, id=opener.slot_id, body=body))
    assert opener.recipient.public.hex() == vector["public"]
    assert opener.slot_id == vector["slot_id"]
    assert opener.unwrap(body, core_id).hex() == SLOTS["file_key"]


@pytest.mark.parametrize(("algorithm", "length"), [(X25519, 86), (HYBRID, 1174)])
def test_a_slot_has_the_length_that_the_format_says(algorithm, length):
    wrapper = HpkeWrapper(recipient_of(algorithm, SEED), REF)
    body = wrapper.wrap(FILE_KEY, CORE_ID)

    check_slot(Slot(type=wrapper.slot_type, id=wrapper.slot_id, body=body))
    assert (wrapper.slot_type, len(body)) == (2, length)
    assert _opener(algorithm).unwrap(body, CORE_ID) == FILE_KEY


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_slot_of_another_file_does_not_open(algorithm):
    body = _opener(algorithm).wrap(FILE_KEY, CORE_ID)

    with pytest.raises(CiphertextError, match="another file"):
        _opener(algorithm).unwrap(body, b"d" * 32)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_recipients_slot_does_not_open(algorithm):
    body = _opener(algorithm, bytes(range(1, 33))).wrap(FILE_KEY, CORE_ID)

    with pytest.raises(CiphertextError, match="not sealed to this key"):
        _opener(algorithm).unwrap(body, CORE_ID)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_byte_of_a_slot_can_be_changed_or_cut(algorithm):
    opener = _opener(algorithm)
    body = opener.wrap(FILE_KEY, CORE_ID)
    step = 1 if algorithm == X25519 else 37

    for at in range(0, len(body), step):
        changed = bytearray(body)
        # Bit 255 of an X25519 value is ignored, by RFC 7748; the exchange covers the rest.
        changed[at] ^= 1
        with pytest.raises(CiphertextError):
            opener.unwrap(bytes(changed), CORE_ID)
    for wrong in (b"", body[:6], body[:37], body[:-1], body + b"\0"):
        with pytest.raises(CiphertextError):
            opener.unwrap(wrong, CORE_ID)


def test_the_highest_bit_of_the_others_value_counts_too():
    opener = _opener(X25519)
    body = bytearray(opener.wrap(FILE_KEY, CORE_ID))
    body[6 + 31] ^= 0x80

    with pytest.raises(CiphertextError):
        opener.unwrap(bytes(body), CORE_ID)


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_point_of_low_order_is_no_recipient_and_opens_nothing(point):
    low = bytes.fromhex(point)
    with pytest.raises(ConfigurationError, match="no safe public key"):
        Recipient(algorithm=X25519, public=low)
    hybrid = recipient_of(HYBRID, SEED).public
    with pytest.raises(ConfigurationError, match="no safe public key"):
        Recipient(algorithm=HYBRID, public=hybrid[:-32] + low)

    # With all zeros as the shared secret an attacker could make a slot for anybody.
    for algorithm, at in ((X25519, 6), (HYBRID, 6 + 1088)):
        body = bytearray(_opener(algorithm).wrap(FILE_KEY, CORE_ID))
        body[at : at + 32] = low
        with pytest.raises(CiphertextError):
            _opener(algorithm).unwrap(bytes(body), CORE_ID)


def test_a_key_of_ml_kem_with_values_past_its_modulus_is_refused():
    public = recipient_of(HYBRID, SEED).public

    with pytest.raises(ConfigurationError, match="ML-KEM-768"):
        Recipient(algorithm=HYBRID, public=b"\xff" * 1152 + public[1152:])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_recipient_travels_as_one_line(algorithm):
    text = recipient_text(recipient_of(algorithm, SEED))

    assert "\n" not in text
    assert text.startswith(f"hpke:{algorithm}:")
    assert parse_recipient(text) == recipient_of(algorithm, SEED)


def test_the_text_of_a_recipient_is_as_it_was():
    assert recipient_text(recipient_of(X25519, SEED)) == SLOTS["keys"][X25519]["text"]
    text = recipient_text(recipient_of(HYBRID, SEED))
    assert text == SLOTS["keys"][HYBRID]["text"]


@given(at=st.integers(0, 10_000), new=st.sampled_from("AB9_-"))
def test_a_forged_or_damaged_recipient_is_refused(at, new):
    for algorithm in ALGORITHMS:
        text = recipient_text(recipient_of(algorithm, SEED))
        place = at % len(text)
        changed = text[:place] + new + text[place + 1 :]
        if changed != text:
            with pytest.raises(ConfigurationError):
                parse_recipient(changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace("hpke:", "HPKE:"),
        lambda text: text.replace("x25519", "x448"),
        lambda text: text.replace("x25519", "mlkem768-x25519"),
        lambda text: text + "=",
        lambda text: text.replace("hpke:x25519:", "hpke:x25519:٠"),
        lambda text: "hpke:x25519:" + "A" * 5000,
    ],
)
def test_a_text_that_is_not_as_printed_is_refused(change):
    with pytest.raises(ConfigurationError, match="recipient"):
        parse_recipient(change(recipient_text(recipient_of(X25519, SEED))))


def test_classical_beside_quantum_resistant_is_refused():
    classical, hybrid = (recipient_of(each, SEED) for each in (X25519, HYBRID))

    with pytest.raises(ConfigurationError, match="as strong as its weakest"):
        check_strength([classical, hybrid])
    check_strength([classical, classical])
    check_strength([hybrid])


def test_a_recipient_opens_nothing():
    opener = _opener(X25519)
    wrapper = HpkeWrapper(opener.recipient, REF)

    with pytest.raises(CiphertextError, match="its owner opens"):
        wrapper.unwrap(opener.wrap(FILE_KEY, CORE_ID), CORE_ID)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_key_shows_or_travels_and_it_can_be_wiped(algorithm):
    opener = _opener(algorithm)
    body = opener.wrap(FILE_KEY, CORE_ID)

    shown = repr(opener) + str(opener) + repr(opener.recipient)
    assert SEED.hex() not in shown
    assert repr(SEED)[2:-1] not in shown
    with pytest.raises(TypeError):
        pickle.dumps(opener)
    opener.wipe()
    with pytest.raises(CiphertextError):
        opener.unwrap(body, CORE_ID)


@pytest.mark.parametrize("length", [0, 24, 31, 33])
def test_only_a_file_key_of_32_bytes_is_sealed(length):
    with pytest.raises(ConfigurationError, match="32 bytes"):
        _opener(X25519).wrap(bytes(length), CORE_ID)
