"""Ed25519 and its PEM, against RFC 8032 and OpenSSL's text."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.ed25519 import (
    Ed25519Signer,
    Ed25519Verifier,
    parse_public_text,
    public_of,
    public_text,
)
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import SignatureError

# RFC 8032, 7.1, TEST 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
# openssl pkey -pubout of the same key.
PEM = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=
-----END PUBLIC KEY-----
"""
REF = KeyRef(system="local", name="pipeline", version="2")


def test_the_published_example_signs_and_verifies():
    assert public_of(SEED) == PUBLIC
    assert Ed25519Signer(SEED, REF).sign(b"\x72") == SIGNATURE
    Ed25519Verifier(PUBLIC, REF).verify(SIGNATURE, b"\x72")


@pytest.mark.parametrize("at", range(0, 64, 7))
def test_a_flipped_bit_is_refused(at):
    forged = bytearray(SIGNATURE)
    forged[at] ^= 1

    with pytest.raises(SignatureError, match="pipeline/2"):
        Ed25519Verifier(PUBLIC, REF).verify(bytes(forged), b"\x72")


def test_a_public_key_is_written_as_openssl_writes_it():
    assert public_text([Ed25519Verifier(PUBLIC, REF)]) == f"# pipeline/2\n{PEM}"


@pytest.mark.parametrize(
    ("text", "version", "key_id"),
    [
        (PEM, 1, None),
        (PEM.replace("\n", "\r\n"), 1, None),
        (f"# pipeline/2\n{PEM}", 2, "pipeline/2"),
        (f"# a word\n\n{PEM}", 1, None),
        (f"# pipeline/02\n{PEM}", 1, None),
    ],
)
def test_a_public_key_is_read(text, version, key_id):
    (key,) = parse_public_text(text)

    assert (key.public, key.version, key.key_id) == (PUBLIC, version, key_id)
