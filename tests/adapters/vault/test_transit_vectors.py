"""A frozen file with a slot of Vault's opens on any Vault with its key, and by the key alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.blind import with_bodies
from airflow_secure_ml.core.sealed_file.header import decode_header
from airflow_secure_ml.errors import CiphertextError, SecureMLError
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.testing.ports import MemoryObjects
from tests.servers import vault_setup
from tests.servers.transit_place import TransitPlace

VECTOR = json.loads(
    (Path(__file__).parents[2] / "vectors" / "v1" / "transit" / "document.json").read_text()
)
MOUNT, NAME = VECTOR["slot_id"].split("/")
FILES = [bytes.fromhex(file) for file in VECTOR["files"]]


class KeyByItself:
    """The key outside of Vault, as Vault's source says it is used: HKDF-SHA256 over the context,
    then AES-256-GCM with a nonce of 12 bytes before the ciphertext."""

    slot_type, slot_id = 3, VECTOR["slot_id"]

    def __init__(self):
        keys = json.loads(base64.b64decode(VECTOR["backup"]))["policy"]["keys"]
        self._keys = {number: base64.b64decode(one["key"]) for number, one in keys.items()}

    def ref_of(self, body):
        return KeyRef(system="test", name=NAME, version=body.split(b":")[1][1:].decode())

    def unwrap(self, body, core_id):
        version, text = body.decode().removeprefix("vault:v").split(":")
        data = base64.b64decode(text)
        try:
            derived = HKDF(SHA256(), 32, salt=None, info=core_id).derive(self._keys[version])
            return bytearray(AESGCM(derived).decrypt(data[:12], data[12:], None))
        except (InvalidTag, KeyError) as error:
            raise CiphertextError("not wrapped by this key for this file") from error


def opened(file, keys):
    """The plaintext, and which version opened it."""
    store = MemoryObjects()
    store.put("file:///x", file)
    with store.open("file:///x") as pinned:
        reader = SealedReader(pinned, keys=keys, expect=VECTOR["context"])
        return reader.read(), str(reader.key)


@pytest.fixture
def frozen(vault):
    """The mount of the vector on a running Vault, its key restored from the backup."""
    vault_setup.enable_engine(vault, "transit", MOUNT)
    vault.api("POST", f"{MOUNT}/restore/{NAME}", {"backup": VECTOR["backup"]})
    place = TransitPlace(vault)
    place.mount = MOUNT
    yield place
    place.__exit__(None, None, None)


@pytest.mark.parametrize(("number", "file"), enumerate(FILES, start=1))
def test_a_frozen_file_opens_by_the_key_alone(number, file):
    assert opened(file, [KeyByItself()]) == (b"hello", f"{NAME}/{number}")


def test_the_two_files_differ_in_a_body_and_in_nothing_else():
    first, second = FILES
    header = decode_header(first, object_bytes=len(first))
    (slot,) = header.slots

    made = with_bodies(header, {slot: VECTOR["bodies"][1].encode()}, object_bytes=len(first))

    assert header.core_id.hex() == VECTOR["core_id"]
    assert slot.body.decode() == VECTOR["bodies"][0]
    assert made + first[header.size_bytes :] == second


@pytest.mark.parametrize(("number", "file"), enumerate(FILES, start=1))
def test_a_frozen_file_opens_on_a_fresh_vault(frozen, number, file):
    keys = frozen.keys(wraps=[NAME])

    assert opened(file, keys.unwrappers()) == (b"hello", f"{NAME}/{number}")


def test_a_frozen_body_is_rewrapped_on_a_fresh_vault(frozen):
    keys = frozen.keys(wraps=[NAME])
    frozen.rotate(NAME)
    core_id = bytes.fromhex(VECTOR["core_id"])

    (body,) = keys.rewrap(NAME, [(VECTOR["bodies"][0].encode(), core_id)])

    assert body.startswith(b"vault:v3:")
    (unwrapper,) = keys.unwrappers()
    assert unwrapper.unwrap(body, core_id).hex() == VECTOR["file_key"]


def test_no_byte_of_it_can_change():
    for at in range(len(FILES[0])):
        altered = bytearray(FILES[0])
        altered[at] ^= 1
        with pytest.raises(SecureMLError):
            opened(bytes(altered), [KeyByItself()])
