"""What a Vault, or something before it, could answer instead: refused, and never shown."""

from __future__ import annotations

import base64
import threading
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.adapters.vault.transit_key import TransitKey, version_in
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from tests.servers.proxy import Answer
from tests.servers.transit_place import TransitPlace

FILE_KEY, CORE_ID = bytes(range(32)), b"c" * 32
CANARY = "Y2FuYXJ5LWNhbmFyeQ"
FACTS = {
    "type": "aes256-gcm96",
    "derived": True,
    "exportable": False,
    "allow_plaintext_backup": False,
    "latest_version": 4,
    "min_decryption_version": 3,
    "min_available_version": 2,
    "keys": {"3": 1795812814, "4": 1795812815},
}


@pytest.fixture
def place(vault):
    with TransitPlace(vault) as made:
        made.make("data")
        made.make("pipeline", "ed25519")
        yield made


@pytest.fixture
def keys(place, vault_proxy):
    """Keys behind a proxy, everything about them read already."""
    found = place.keys_over(place.client(url=vault_proxy.url, deadline_s=1.0, timeout_s=1.0))
    found.wrapper("data").wrap(FILE_KEY, CORE_ID)
    return found


def answers(place, proxy, path, data):
    body = data if isinstance(data, bytes) else {"data": data}
    proxy.will(Answer(path=f"{place.mount}/{path}", status=200, body=body, times=10))


@pytest.mark.parametrize(
    "data",
    [
        {},
        None,
        [],
        {"ciphertext": None},
        {"ciphertext": CANARY},
        {"ciphertext": f"vault:v0:{CANARY}=="},
        {"ciphertext": f"vault:v1:{CANARY}"},
        {"ciphertext": f"vault:v1:\u00e4{CANARY}"},
        {"ciphertext": "vault:v1:" + "QUJD" * 200},
        {"ciphertext": ["vault:v1:QUJD"]},
    ],
    ids=str,
)
def test_what_no_reader_would_take_is_not_wrapped(place, keys, vault_proxy, data):
    wrapper = keys.wrapper("data")
    answers(place, vault_proxy, "encrypt/data", data)

    with pytest.raises(ServiceUnavailableError) as caught:
        wrapper.wrap(FILE_KEY, CORE_ID)

    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, ServiceUnavailableError),
        ({"plaintext": None}, ServiceUnavailableError),
        ({"plaintext": CANARY}, ServiceUnavailableError),
        ({"plaintext": f"{CANARY}=="}, CiphertextError),
        ({"plaintext": ""}, CiphertextError),
        ({"plaintext": base64.b64encode(bytes(33)).decode()}, CiphertextError),
    ],
    ids=["nothing", "null", "no-base64", "13-bytes", "empty", "33-bytes"],
)
def test_what_is_no_file_key_is_none_and_is_not_shown(place, keys, vault_proxy, data, error):
    wrapper = keys.wrapper("data")
    answers(place, vault_proxy, "decrypt/data", data)

    with pytest.raises(error) as caught:
        wrapper.unwrap(b"vault:v1:QUJD", CORE_ID)

    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"batch_results": None},
        {"batch_results": []},
        {"batch_results": [{"ciphertext": "vault:v2:QUJD"}] * 2},
        {"batch_results": ["vault:v2:QUJD"]},
        {"batch_results": [{}]},
        {"batch_results": [{"ciphertext": "vault:v2:QUJ"}]},
    ],
    ids=str,
)
def test_an_answer_to_another_batch_is_not_taken(place, keys, vault_proxy, data):
    answers(place, vault_proxy, "rewrap/data", data)

    with pytest.raises(ServiceUnavailableError):
        keys.rewrap("data", [(b"vault:v1:QUJD", CORE_ID)])


def test_errors_of_single_bodies_say_no_word_of_vaults(place, keys, vault_proxy):
    results = [{"error": CANARY}, {"error": "cipher: message authentication failed"}]
    answers(place, vault_proxy, "rewrap/data", {"batch_results": results})

    first, second = keys.rewrap("data", [(b"vault:v1:QUJD", CORE_ID)] * 2)

    assert isinstance(first, ServiceRefusedError)
    assert CANARY not in str(first)
    assert isinstance(second, CiphertextError)


def test_a_signature_that_does_not_hold_is_not_handed_on(place, keys, vault_proxy):
    place.make("mallory", "ed25519")
    signer, theirs = keys.signer("pipeline"), place.keys().signer("mallory").sign(b"message")
    forged = f"vault:v1:{base64.b64encode(theirs).decode()}"
    answers(place, vault_proxy, "sign/pipeline", {"signature": forged})

    with pytest.raises(ServiceRefusedError, match="does not hold"):
        signer.sign(b"message")


@pytest.mark.parametrize(
    "signature",
    [None, "", "vault:v1:", "vault:v2:" + "A" * 86 + "==", "vault:v1:QUJD", "vault:v1:!!"],
    ids=str,
)
def test_a_signature_of_another_version_or_length_is_none(place, keys, vault_proxy, signature):
    signer = keys.signer("pipeline")
    answers(place, vault_proxy, "sign/pipeline", {"signature": signature})

    with pytest.raises(ServiceUnavailableError):
        signer.sign(b"message")


def test_thirty_two_threads_wrap_and_unwrap_with_one_client(place):
    keys = place.keys()
    failures, together = [], threading.Barrier(32)

    def work(number):
        try:
            core_id, file_key = bytes([number]) * 32, bytes([number + 100]) * 32
            together.wait(30)
            for _ in range(5):
                (wrapper,) = keys.unwrappers(["data"])
                assert wrapper.unwrap(wrapper.wrap(file_key, core_id), core_id) == file_key
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_a_keys_versions_have_the_states_that_vault_gives_them():
    key = TransitKey.of_answer({"data": FACTS})

    states = [(each.number, each.state) for each in key.versions()]
    assert states == [(1, "destroyed"), (2, "disabled"), (3, "retired"), (4, "active")]
    assert [each.created is None for each in key.versions()] == [True, True, False, False]
    assert key.versions()[2].created.isoformat() == "2026-11-27T20:53:34+00:00"


@pytest.mark.parametrize("value", [None, "x", [], {"x": "y"}], ids=str)
@pytest.mark.parametrize("field", ["latest_version", "min_decryption_version", "keys"])
def test_a_description_that_cannot_be_read_is_no_key(field, value):
    with pytest.raises(ServiceUnavailableError):
        TransitKey.of_answer({"data": FACTS | {field: value}})


@pytest.mark.parametrize("field", sorted(FACTS.keys() - {"min_available_version"}))
def test_a_description_with_a_part_missing_is_no_key(field):
    with pytest.raises(ServiceUnavailableError):
        TransitKey.of_answer({"data": {k: v for k, v in FACTS.items() if k != field}})


@pytest.mark.parametrize("derived", ["true", "false", 1, None, [True]], ids=str)
def test_only_true_is_derived(derived):
    with pytest.raises(ConfigurationError):
        TransitKey.of_answer({"data": FACTS | {"derived": derived}}).check_wraps("transit/data")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_answer_is_a_key_or_none(answer):
    with pytest.raises(ServiceUnavailableError):
        TransitKey.of_answer({"data": answer})


@given(st.binary(max_size=600))
def test_any_body_has_a_version_or_none(body):
    try:
        number = version_in(body)
    except SecureMLError:
        return

    assert body.startswith(b"vault:v%d:" % number)
