"""The derived keys and the wrapping of file keys, against literals and an attacker."""

from __future__ import annotations

import pickle

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_wrap, aes_key_wrap_with_padding

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file import keys
from airflow_secure_ml.errors import CiphertextError, ConfigurationError

KEK = bytes(range(32))
FILE_KEY = bytes(range(0x20, 0x40))
CORE_ID = bytes.fromhex("450de32868f1195860714b8e552a56199644472f1428db0bab7a6d252ace5054")
REF = KeyRef(system="local", name="team", version="3")


@pytest.fixture
def kek():
    return keys.KekWrapper(KEK, slot_id="team/3", ref=REF)


@pytest.fixture
def dataset_key():
    return keys.DataSetKeyWrapper(
        FILE_KEY, header_core_id=CORE_ID, context={"dataset": "d1"}, ref=REF
    )


def test_the_commitment_is_the_documents():
    commitment = keys.commitment(FILE_KEY).hex()

    assert commitment.startswith("9842a17b")
    assert commitment.endswith("f332c2b")


def test_a_wrapped_key_comes_back(kek):
    body = kek.wrap(FILE_KEY, CORE_ID)

    assert len(body) == 40
    assert bytes(kek.unwrap(body, CORE_ID)) == FILE_KEY


def test_a_wrapper_names_its_slot_and_key(kek, dataset_key):
    assert (kek.slot_type, kek.slot_id, kek.ref) == (1, "team/3", REF)
    assert (dataset_key.slot_type, dataset_key.slot_id) == (5, CORE_ID.hex())


def test_a_body_of_another_file_is_refused(kek):
    body = kek.wrap(FILE_KEY, CORE_ID)

    with pytest.raises(CiphertextError, match="another file"):
        kek.unwrap(body, bytes(32))


@pytest.mark.parametrize("position", [0, 7, 8, 39])
def test_a_body_one_byte_off_is_refused(kek, position):
    body = bytearray(kek.wrap(FILE_KEY, CORE_ID))
    body[position] ^= 1

    with pytest.raises(CiphertextError):
        kek.unwrap(bytes(body), CORE_ID)


@pytest.mark.parametrize("length", [24, 40])
def test_an_inner_key_of_another_length_is_refused(kek, length):
    under = bytes(keys.expand(KEK, b"asml/v1/kek" + CORE_ID))
    body = aes_key_wrap(under, bytes(length))

    with pytest.raises(CiphertextError, match="expected 40"):
        kek.unwrap(body, CORE_ID)


@pytest.mark.parametrize("length", [31, 32, 33])
def test_a_padded_wrap_is_refused(kek, length):
    under = bytes(keys.expand(KEK, b"asml/v1/kek" + CORE_ID))
    body = aes_key_wrap_with_padding(under, bytes(length))

    with pytest.raises(CiphertextError):
        kek.unwrap(body, CORE_ID)


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33, 40])
def test_only_a_file_key_of_32_bytes_is_wrapped(kek, length):
    with pytest.raises(ConfigurationError, match="32 bytes"):
        kek.wrap(bytes(length), CORE_ID)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_only_a_kek_of_32_bytes_is_taken(length):
    with pytest.raises(ConfigurationError, match="32 bytes"):
        keys.KekWrapper(bytes(length), slot_id="team/3", ref=REF)


def test_a_data_set_keys_slot_is_not_a_keks(dataset_key):
    raw = keys.expand(FILE_KEY, b"asml/v1/dataset-key" + CORE_ID)
    as_kek = keys.KekWrapper(raw, slot_id="team/3", ref=REF)
    body = as_kek.wrap(FILE_KEY, CORE_ID)

    with pytest.raises(CiphertextError):
        dataset_key.unwrap(body, CORE_ID)


def test_commitment_is_refused_for_every_other_length():
    stored = keys.commitment(FILE_KEY)

    assert keys.commits_to(FILE_KEY, stored)
    assert not keys.commits_to(FILE_KEY[:31], stored)
    assert not keys.commits_to(FILE_KEY + b"\0", stored)
    assert not keys.commits_to(KEK, stored)


def test_a_wrapper_shows_and_pickles_no_key(kek, dataset_key):
    for wrapper in (kek, dataset_key):
        assert "***" in repr(wrapper)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(wrapper)


def test_a_wiped_wrapper_opens_nothing(kek):
    body = kek.wrap(FILE_KEY, CORE_ID)

    kek.wipe()

    with pytest.raises(CiphertextError):
        kek.unwrap(body, CORE_ID)
