"""The second signature: made, demanded, and not to be stripped."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_secure_ml.core import dsse
from airflow_secure_ml.core.ed25519 import (
    Ed25519Signer,
    Ed25519Verifier,
    PublicKey,
    parse_public_text,
    public_text,
)
from airflow_secure_ml.core.keyring import changes
from airflow_secure_ml.core.keyring.model import Keyring
from airflow_secure_ml.core.keyring.text import decode, encode
from airflow_secure_ml.core.ml_dsa import SUFFIX, MlDsaSigner, MlDsaVerifier, public_of
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import ConfigurationError, PolicyError, SignatureError

VECTORS = Path(__file__).parents[1] / "vectors" / "v1" / "two_signatures"
NOW = "2026-11-28T00:00:00Z"
SEED, SECOND_SEED = bytes(range(32)), bytes(range(32, 64))
REF = KeyRef(system="local", name="pipeline", version="1")
PAYLOAD = b'{"a statement":1}'
SECOND_PUBLIC = public_of(SECOND_SEED)


def _signer():
    return Ed25519Signer(SEED, REF, MlDsaSigner(SECOND_SEED, REF))


def _verifier(*, second=SECOND_PUBLIC):
    public = Ed25519Signer(SEED, REF)._key.public_key().public_bytes_raw()
    return Ed25519Verifier(public, REF, second=second)


def _counted(random):
    return lambda length: bytes([next(random)]) * length


@pytest.fixture
def keyring():
    made = Keyring(system="local", where="f")
    return changes.create(
        made,
        "release",
        "sign",
        now=NOW,
        random_bytes=_counted(iter(range(1, 9))),
        post_quantum=True,
    )


def test_a_stripped_second_signature_is_refused_by_who_knows_of_it():
    envelope = dsse.sign(PAYLOAD, [_signer()])
    stripped = replace(envelope, signatures=envelope.signatures[:1])

    with pytest.raises(SignatureError, match="is missing"):
        dsse.verify(dsse.parse(stripped.encode()), [_verifier()])


def test_an_envelope_signed_by_the_first_half_alone_is_refused():
    forged = dsse.sign(PAYLOAD, [Ed25519Signer(SEED, REF)])

    with pytest.raises(SignatureError, match="missing"):
        dsse.verify(forged, [_verifier()])


def test_the_second_half_alone_signs_nothing():
    envelope = dsse.sign(PAYLOAD, [_signer()])
    alone = replace(envelope, signatures=envelope.signatures[1:])

    with pytest.raises(PolicyError) as caught:
        dsse.verify(alone, [_verifier()])
    assert caught.value.why == "signer_not_accepted"


@pytest.mark.parametrize("at", [0, 1], ids=["first", "second"])
def test_neither_signature_can_be_another_statements(at):
    envelope, other = dsse.sign(PAYLOAD, [_signer()]), dsse.sign(b"{}", [_signer()])
    mixed = list(envelope.signatures)
    mixed[at] = other.signatures[at]

    with pytest.raises(SignatureError, match="does not hold"):
        dsse.verify(replace(envelope, signatures=tuple(mixed)), [_verifier()])


def test_another_keys_second_signature_does_not_stand_in():
    envelope = dsse.sign(PAYLOAD, [Ed25519Signer(SEED, REF, MlDsaSigner(bytes(32), REF))])

    with pytest.raises(SignatureError, match="does not hold"):
        dsse.verify(envelope, [_verifier()])


def test_a_good_second_signature_does_not_hide_a_bad_one_beside_it():
    envelope = dsse.sign(PAYLOAD, [_signer()])
    bad = replace(envelope.signatures[1], value=bytes(3309))

    with pytest.raises(SignatureError):
        dsse.verify(replace(envelope, signatures=(*envelope.signatures, bad)), [_verifier()])


def test_both_signatures_are_made_and_verified():
    envelope = dsse.parse(dsse.sign(PAYLOAD, [_signer()]).encode())

    assert [each.key for each in envelope.signatures] == ["pipeline/1", f"pipeline/1{SUFFIX}"]
    assert [len(each.value) for each in envelope.signatures] == [64, 3309]
    assert dsse.verify(envelope, [_verifier()]) == (PAYLOAD, (REF,))


def test_who_does_not_know_of_the_second_half_still_verifies_the_first():
    envelope = dsse.sign(PAYLOAD, [_signer()])

    assert dsse.verify(envelope, [_verifier(second=None)]) == (PAYLOAD, (REF,))


def test_a_key_of_one_half_and_one_of_two_sign_together():
    other = KeyRef(system="local", name="other", version="1")
    envelope = dsse.sign(PAYLOAD, [Ed25519Signer(bytes(32), other), _signer()])

    assert len(dsse.parse(envelope.encode()).signatures) == 3
    assert dsse.verify(envelope, [_verifier()]) == (PAYLOAD, (REF,))


def test_the_most_signatures_that_are_allowed_are_read():
    envelope = dsse.sign(PAYLOAD, [_signer()])
    many = replace(envelope, signatures=(envelope.signatures[1],) * 16)

    assert len(dsse.parse(many.encode()).signatures) == 16


def test_the_frozen_envelope_holds():
    envelope = dsse.parse((VECTORS / "envelope.dsse.json").read_bytes())
    (key,) = parse_public_text((VECTORS / "public.pem").read_text())
    verifier = Ed25519Verifier(key.public, REF, key.key_id, key.second)

    assert dsse.verify(envelope, [verifier]) == (PAYLOAD, (REF,))
    assert key.second == SECOND_PUBLIC


def test_the_public_key_is_what_another_implementation_makes():

    vector = json.loads((VECTORS / "keygen.json").read_text())
    public = public_of(bytes.fromhex(vector["seed"]))
    assert hashlib.sha256(public).hexdigest() == vector["sha256_of_public"]


def test_public_keys_travel_with_both_halves():
    text = public_text([_verifier()])

    assert text.count("BEGIN PUBLIC KEY") == 2
    assert text.splitlines()[0] == "# pipeline/1"
    (key,) = parse_public_text(text)
    assert (key.version, key.key_id, key.second) == (1, "pipeline/1", SECOND_PUBLIC)


@pytest.mark.parametrize(
    "change",
    [
        lambda first, second: second,
        lambda first, second: second + first,
        lambda first, second: first + second + second,
        lambda first, second: first + second.replace("pipeline/1", "pipeline/2"),
        lambda first, second: first.replace("pipeline/1", "pipeline/1" + SUFFIX) + second,
        lambda first, second: first + first.replace("pipeline/1", "pipeline/1" + SUFFIX),
        lambda first, second: first + second.replace("pipeline/1" + SUFFIX, "pipeline/1"),
    ],
)
def test_halves_that_do_not_belong_together_are_refused(change):
    text = public_text([_verifier()])
    at = text.index(f"# pipeline/1{SUFFIX}")

    with pytest.raises(ConfigurationError):
        parse_public_text(change(text[:at], text[at:]))


def test_a_keyring_keeps_both_halves_and_an_older_release_refuses_it(keyring):
    data = encode(keyring)
    read = decode(data, system="local", where="f")

    assert json.loads(data)["secure_ml_keyring"] == 2
    assert encode(read) == data
    envelope = dsse.sign(PAYLOAD, [read.signer("release")])
    assert len(envelope.signatures) == 2
    assert dsse.verify(envelope, read.verifiers(["release"]))[0] == PAYLOAD


def test_a_rotated_key_signs_twice_as_before(keyring):
    rotated = changes.rotate(
        keyring, "release", now=NOW, random_bytes=_counted(iter(range(20, 30)))
    )

    old = dsse.sign(PAYLOAD, [keyring.signer("release")])
    new = dsse.sign(PAYLOAD, [rotated.signer("release")])
    assert [each.key for each in new.signatures] == ["release/2", f"release/2{SUFFIX}"]
    for envelope in (old, new):
        assert dsse.verify(envelope, rotated.verifiers(["release"]))[0] == PAYLOAD


def test_a_destroyed_key_keeps_no_half(keyring):
    destroyed = changes.destroy(keyring, "release")
    version = destroyed.key("release").newest

    assert (version.secret, version.second_secret) == (None, None)
    assert decode(encode(destroyed), system="local", where="f") == destroyed


def test_trust_keeps_both_halves_and_drops_none_later(keyring):
    (given,) = parse_public_text(public_text(keyring.verifiers(["release"])))
    trusting = changes.trust(Keyring(system="local", where="f"), "them", [given], now=NOW)
    trusting = decode(encode(trusting), system="local", where="f")
    envelope = dsse.sign(PAYLOAD, [keyring.signer("release")])

    assert dsse.verify(envelope, trusting.verifiers(["them"]))[0] == PAYLOAD
    with pytest.raises(SignatureError, match="missing"):
        dsse.verify(
            replace(envelope, signatures=envelope.signatures[:1]), trusting.verifiers(["them"])
        )
    with pytest.raises(PolicyError, match="another public key"):
        changes.trust(trusting, "them", [replace(given, second=None)], now=NOW)


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_a_newer_version_without_the_second_half_of_the_older_is_refused(keyring, known):
    first = parse_public_text(public_text(keyring.verifiers(["release"])))
    keyring = changes.rotate(keyring, "release", now=NOW, random_bytes=_counted(iter((8, 9))))
    both = parse_public_text(public_text(keyring.verifiers(["release"])[::-1]))
    trusting = Keyring(system="local", where="f")
    if known:
        trusting = changes.trust(trusting, "them", first, now=NOW)

    with pytest.raises(PolicyError, match="them/2: expected a second half") as refused:
        changes.trust(trusting, "them", [both[0], replace(both[1], second=None)], now=NOW)

    assert refused.value.why == "key_not_allowed"
    assert changes.trust(trusting, "them", both, now=NOW).key("them").newest.second_public


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("second_secret"),
        lambda v: v.pop("second_public"),
        lambda v: v.update(second_secret="AQEB"),
        lambda v: v.update(second_public=v["public"]),
    ],
)
def test_a_keyring_with_half_of_a_second_half_is_refused(keyring, change):
    record = json.loads(encode(keyring))
    change(record["keys"]["release"]["versions"][0])

    with pytest.raises(ConfigurationError):
        decode(json.dumps(record).encode(), system="local", where="f")


def test_no_seed_shows_or_travels_and_both_are_wiped(keyring):
    version = keyring.key("release").newest
    seeds = [bytes(version.secret.value), bytes(version.second_secret.value)]
    signer = keyring.signer("release")

    shown = repr(keyring) + repr(signer) + repr(signer.second)
    for seed in seeds:
        assert seed.hex() not in shown
        assert base64.b64encode(seed).decode() not in shown
    with pytest.raises(TypeError):
        pickle.dumps(signer.second)
    keyring.wipe()
    assert bytes(version.second_secret.value) == bytes(32)


def test_bytes_that_are_no_public_key_are_refused():
    with pytest.raises(ConfigurationError, match="1952"):
        MlDsaVerifier(bytes(1951), REF, "pipeline/1")
    with pytest.raises(ConfigurationError):
        changes.create(
            Keyring(system="local", where="f"),
            "data",
            "wrap",
            now=NOW,
            random_bytes=bytes,
            post_quantum=True,
        )
    assert PublicKey(version=1, public=bytes(32)).second is None
