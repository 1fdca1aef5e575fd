"""Whole sealed files with keys in KMS: the frozen one, and those that names of settings make."""

from __future__ import annotations

import json
from pathlib import Path

import moto
import pytest
from botocore.stub import Stubber

from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.errors import CiphertextError, PolicyError, SecureMLError
from airflow_secure_ml.key_systems import NamedKeys
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.settings import parse_settings
from airflow_secure_ml.testing.ports import MemoryObjects
from tests.servers.kms_place import REGION, KmsPlace
from tests.services.sealing.lake import Lake

VECTOR = json.loads(
    (Path(__file__).parents[3] / "vectors" / "v1" / "kms" / "document.json").read_text()
)
FILE, BODY, FILE_KEY = (bytes.fromhex(VECTOR[name]) for name in ("file", "body", "file_key"))
ARN = VECTOR["slot_id"]


@pytest.fixture(scope="module")
def kms():
    with moto.mock_aws():
        yield KmsPlace()


@pytest.fixture
def place(kms):
    kms.empty()
    return kms


def opened(file, keys, **more):
    store = MemoryObjects()
    store.put("file:///x", file)
    with store.open("file:///x") as pinned:
        return SealedReader(pinned, keys=keys, expect=VECTOR["context"], **more).read()


def test_the_frozen_file_asks_kms_exactly_this_and_opens(place):
    keys = place.keys({"data": ARN})
    with Stubber(place.kms) as stub:
        answer = {"KeyId": ARN, "Plaintext": FILE_KEY}
        stub.add_response("decrypt", answer, VECTOR["decrypt"] | {"CiphertextBlob": BODY})

        assert opened(FILE, keys.unwrappers()) == b"hello"


def test_a_file_key_that_kms_made_up_is_refused(place):
    keys = place.keys({"data": ARN})
    with Stubber(place.kms) as stub:
        stub.add_response("decrypt", {"KeyId": ARN, "Plaintext": bytes(32)})

        with pytest.raises(CiphertextError, match="commitment"):
            opened(FILE, keys.unwrappers())


def test_the_id_of_its_slot_cannot_change(place):
    at = FILE.index(ARN.encode())
    for offset in range(len(ARN)):
        altered = bytearray(FILE)
        altered[at + offset] ^= 1
        keys = place.keys({"data": ARN})

        with pytest.raises(SecureMLError):
            opened(bytes(altered), keys.unwrappers())
    # None of them made anybody ask KMS.
    assert place.asked == []


def test_a_reader_without_that_key_asks_nobody_for_it(place):
    place.make()
    keys = place.keys()

    with pytest.raises(PolicyError, match="none of the reader's keys"):
        opened(FILE, keys.unwrappers(), state_of=keys.state_of)

    assert {name for name, _ in place.asked} == {"DescribeKey"}
    assert all(asked["KeyId"].startswith("alias/data") for _, asked in place.asked)


def test_names_of_the_settings_lie_at_their_aliases(place):
    data, old = place.make(), place.make("archive/old")
    keys = NamedKeys(
        "awskms://alias?conn_id=prod",
        {"archive": "awskms://alias/archive/old?conn_id=prod"},
        connect_aws=lambda conn_id: {"prod": place.session}[conn_id],
        wraps=["data"],
    )

    assert [each.slot_id for each in keys.unwrappers()] == [data, old]
    assert keys.wrapper("archive").slot_id == old
    assert keys.state_of(4, data) == "active"


def test_a_folder_is_rewrapped_as_a_reader_counted_and_the_old_key_disabled(place, tmp_path):
    place.make()
    lake = Lake(tmp_path / "lake", place.keys())
    lake.data_set("set", 3)
    lake.seal("loose/1.bin")
    lake.keys.rotate("data")

    tally = lake.rewrap()
    _, left = lake.retire()

    assert (tally.rewrapped, tally.failed, left) == (2, 0, 2)
    assert [each.state for each in lake.keys.versions("data")] == ["disabled", "active"]
    assert lake.read("loose/1.bin") == lake.read("set/00/0.bin", "set") == b"hello"


def test_a_deployment_finds_kms_through_its_connection(place, monkeypatch):
    arn = place.make()
    connection = {
        "conn_type": "aws",
        "login": "AKIAPROD",
        "password": "secret-4711",
        "extra": {"region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_KMS_PROD", json.dumps(connection))
    # The address' region goes before the connection's.
    address = f"awskms://alias?conn_id=kms_prod&region={REGION}"
    keys = Deployment(parse_settings({"key_system": address})).keys

    wrapper = keys.wrapper("data")

    assert wrapper.slot_id == arn
    body = wrapper.wrap(FILE_KEY, bytes(32))
    assert bytes(keys.unwrappers()[0].unwrap(body, bytes(32))) == FILE_KEY
