"""A frozen file with a slot of a token opens by the raw key alone, and in a token that has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from airflow_secure_ml.adapters.pkcs11.wrapper import TokenWrapper
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.header import decode_header
from airflow_secure_ml.errors import CiphertextError, SecureMLError
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.testing.ports import MemoryObjects
from tests.adapters.pkcs11.bringing import put_secret

VECTOR = json.loads(
    (Path(__file__).parents[2] / "vectors" / "v1" / "pkcs11" / "document.json").read_text()
)
FILE, BODY, KEY = (bytes.fromhex(VECTOR[name]) for name in ("file", "body", "key"))
CORE_ID = bytes.fromhex(VECTOR["core_id"])


class KeyByItself:
    """AES-256-GCM as the format page says it: nonce, ciphertext, tag; the label and core_id
    beside them."""

    slot_type, slot_id = 6, VECTOR["slot_id"]

    def ref_of(self, body):
        return KeyRef(system="test", name="document", version="3")

    def unwrap(self, body, core_id):
        try:
            aad = b"asml/v1/pkcs11" + core_id
            return bytearray(AESGCM(KEY).decrypt(body[:12], body[12:], aad))
        except InvalidTag as error:
            raise CiphertextError("not wrapped by this key for this file") from error


def opened(file, key):
    store = MemoryObjects()
    store.put("file:///x", file)
    with store.open("file:///x") as pinned:
        return SealedReader(pinned, keys=[key], expect=VECTOR["context"]).read()


def test_the_frozen_file_opens_by_the_raw_key_alone():
    (slot,) = decode_header(FILE, object_bytes=len(FILE)).slots

    assert (slot.type, slot.id, slot.body) == (6, "team/document/3", BODY)
    assert opened(FILE, KeyByItself()) == b"hello"


def test_the_frozen_body_is_what_a_token_with_its_key_makes_and_opens(softhsm):
    place = softhsm.place()
    put_secret(place.token, f"{place.at('document')}/3", KEY)
    ref = KeyRef(system="pkcs11", name="document", version="3")
    nonce = bytes.fromhex(VECTOR["nonce"])
    key = TokenWrapper(place.token, place.at("document"), ref, lambda size: nonce[:size])

    assert key.wrap(bytes.fromhex(VECTOR["file_key"]), CORE_ID) == BODY
    assert key.unwrap(BODY, CORE_ID).hex() == VECTOR["file_key"]


def test_no_byte_of_the_frozen_file_can_change():
    for at in range(len(FILE)):
        altered = bytearray(FILE)
        altered[at] ^= 1
        with pytest.raises(SecureMLError):
            opened(bytes(altered), KeyByItself())
