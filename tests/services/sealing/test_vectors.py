"""Every frozen vector comes out byte for byte, and opens; what is sealed, the reference opens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.core.sealed_file.keys import DataSetKeyWrapper
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import CiphertextError
from airflow_secure_ml.services.sealed_dataset import DataSetRoot

FOLDER = Path(__file__).parents[2] / "vectors" / "v1" / "sealed_file"
VECTORS = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
DOCUMENT = "ad0f02c82d257749fccc644f1cb3c7cba94835289366c7fa80aa36bf301aab4d"
ROOT = "file:///data/set"


class FixedBody:
    """Stands for a key system whose answer the vector holds."""

    def __init__(self, kind, name, body):
        self.slot_type, self.slot_id, self._body = kind, name, bytes.fromhex(body)
        self.ref = None

    def wrap(self, file_key, core_id):
        return self._body


def fixed(vector):
    fresh = [bytes.fromhex(vector[name]) for name in ("file_key", "salt", "prefix")]
    return lambda length: fresh.pop(0)


@pytest.fixture
def keys_of(bench, kek):
    def keys_of(vector):
        keys = [kek(slot_id, bytes.fromhex(key)) for slot_id, key in vector["keks"].items()]
        keys += [FixedBody(*slot) for slot in vector["extra_slots"]]
        if vector["dataset_header"]:
            header = bytes.fromhex(vector["dataset_header"])
            name = hashlib.sha256(header[: int.from_bytes(header[10:12], "big")]).hexdigest()
            bench.store.put(f"{ROOT}/_asml/{name}.asmk", header)
            keys.append(DataSetRoot(bench.store, ROOT, keys=[bench.kek]).dataset_key(name))
        return keys

    return keys_of


def plaintext_of(vector, pattern):
    return b"hello" if vector["plaintext_hello"] else pattern(vector["plaintext_bytes"])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_is_written_and_read(bench, keys_of, pattern, vector, threads):
    plaintext, keys = plaintext_of(vector, pattern), keys_of(vector)
    known = {} if vector["length_known"] else {"plaintext_bytes": None}

    file = bench.seal(
        plaintext,
        keys=keys,
        context=vector["context"],
        random_bytes=fixed(vector),
        threads=threads,
        **known,
    )

    assert hashlib.sha256(file).hexdigest() == vector["sha256"]
    assert file.hex().startswith(vector.get("file") or vector["header"])
    assert bench.sealed.core_id.hex() == vector["core_id"]
    assert bench.sealed.header_bytes == vector["header_bytes"]
    readers = [key for key in keys if not isinstance(key, FixedBody)]
    expect = vector["context"] or ANY_CONTEXT
    assert bench.open(file, keys=readers, expect=expect, threads=threads) == plaintext


def test_the_documents_vector_is_among_them():
    assert next(v for v in VECTORS if v["name"] == "document")["sha256"] == DOCUMENT
    assert len(VECTORS) == 18


def test_each_of_64_slots_opens(bench, keys_of):
    vector = next(v for v in VECTORS if v["name"] == "64-slots")
    file = bytes.fromhex(vector["file"])

    for key in keys_of(vector):
        assert bench.open(file, keys=[key]) == b"hello"


def test_the_data_set_key_opens_its_vector_alone(bench, keys_of):
    vector = next(v for v in VECTORS if v["name"] == "data-set-key-and-kek")
    file = bytes.fromhex(vector["file"])
    keys_of(vector)

    assert bench.open(file, keys=[DataSetRoot(bench.store, ROOT, keys=[bench.kek])]) == b"hello"
    assert bench.opened.key.version == "3"


@pytest.mark.parametrize("length", [0, 5, 1048520, 1048521, 3_000_000])
def test_the_reference_opens_what_is_sealed(bench, reference, pattern, length):
    plaintext = pattern(length)

    file = bench.seal(plaintext)

    assert reference.read(file, kek=bytes(range(32)), slot_id="team/3") == plaintext


def test_another_file_key_does_not_fit_a_vector(bench):
    vector = next(v for v in VECTORS if v["name"] == "document")
    wrong = DataSetKeyWrapper(bytes(32), header_core_id=bytes(32), context={}, ref=bench.kek.ref)

    with pytest.raises(CiphertextError):
        wrong.unwrap(Slot(type=5, id="a", body=bytes(40)).body, bytes.fromhex(vector["core_id"]))
