"""Keys in a real Vault's Transit engine: what they are refused for, and what is asked of Vault."""

from __future__ import annotations

import logging
import pickle

import pytest

from airflow_secure_ml.core.sealed_file.keys import wipe
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    PolicyError,
    ServiceRefusedError,
    SignatureError,
)
from tests.servers.transit_place import TransitPlace

FILE_KEY, CORE_ID, OTHER_ID = bytes(range(32)), b"c" * 32, b"d" * 32


@pytest.fixture
def place(vault):
    with TransitPlace(vault) as made:
        yield made


@pytest.fixture
def data(place):
    place.make("data")
    return place


def slot(place, body, name="data"):
    return Slot(type=3, id=f"{place.mount}/{name}", body=body)


def test_a_body_opens_for_its_own_file_only(data):
    wrapper = data.keys().wrapper("data")

    body = wrapper.wrap(FILE_KEY, CORE_ID)

    assert (wrapper.slot_type, wrapper.slot_id) == (3, f"{data.mount}/data")
    assert body.startswith(b"vault:v1:")
    assert wrapper.unwrap(body, CORE_ID) == FILE_KEY
    with pytest.raises(CiphertextError, match="not wrapped by this key for this file"):
        wrapper.unwrap(body, OTHER_ID)


def test_a_file_key_comes_out_as_something_that_can_be_wiped(data):
    wrapper = data.keys().wrapper("data")

    file_key = wrapper.unwrap(wrapper.wrap(FILE_KEY, CORE_ID), CORE_ID)
    wipe(file_key)

    assert file_key == bytearray(32)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_only_32_bytes_are_wrapped_and_only_32_bytes_come_out(data, length):
    wrapper = data.keys().wrapper("data")
    foreign = data.client().call(
        "wrap what is no file key",
        lambda vault: vault.secrets.transit.encrypt_data(
            "data", plaintext="QUFB", context="YyBj", mount_point=data.mount
        ),
    )["data"]["ciphertext"]

    with pytest.raises(ConfigurationError, match="32 bytes"):
        wrapper.wrap(bytes(length), CORE_ID)
    with pytest.raises(CiphertextError, match="holds 3 bytes"):
        wrapper.unwrap(foreign.encode(), b"c c")


def test_events_name_the_version_that_wrapped_a_body_not_the_newest(data):
    keys = data.keys()
    old = keys.wrapper("data").wrap(FILE_KEY, CORE_ID)
    data.rotate("data")
    new = keys.wrapper("data").wrap(FILE_KEY, CORE_ID)

    (unwrapper,) = keys.unwrappers(["data"])

    assert [str(unwrapper.ref_of(body)) for body in (old, new)] == ["data/1", "data/2"]
    assert unwrapper.ref_of(old).system == "vault"
    assert unwrapper.unwrap(old, CORE_ID) == unwrapper.unwrap(new, CORE_ID) == FILE_KEY
    assert [keys.version_in("data", slot(data, body)) for body in (old, new)] == [1, 2]
    assert keys.version_in("other", slot(data, old)) is None


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"derived": False}, "derived=false"),
        ({"convergent_encryption": True}, "convergent_encryption=true"),
        ({"kind": "chacha20-poly1305", "derived": True}, "type=chacha20-poly1305"),
        ({"kind": "aes128-gcm96", "derived": True}, "type=aes128-gcm96"),
        ({"kind": "rsa-2048"}, "type=rsa-2048"),
    ],
    ids=["not-derived", "convergent", "another-cipher", "shorter", "rsa"],
)
def test_a_key_that_would_not_bind_a_file_key_to_its_file_wraps_nothing(place, options, found):
    place.make("data", **options)

    with place.asked() as asked, pytest.raises(ConfigurationError, match=found):
        place.keys().wrapper("data")

    assert asked == ["read keys/data"]


def test_the_refusal_says_how_to_make_the_key(place):
    place.make("data", derived=False)

    with pytest.raises(ConfigurationError) as caught:
        place.keys().wrapper("data")

    command = f"`vault write {place.mount}/keys/data type=aes256-gcm96 derived=true`"
    assert command in str(caught.value)


def test_a_typo_makes_no_key(place):
    place.vault.api("POST", f"{place.mount}/config/keys", {"disable_upsert": False})

    with place.asked() as asked, pytest.raises(PolicyError) as caught:
        place.keys().wrapper("dtaa")

    assert caught.value.why == "key_missing"
    assert asked == ["read keys/dtaa"]
    assert place.vault.client().names(f"{place.mount}/keys") == []


@pytest.mark.parametrize("name", ["../sys/seal", "data/../../x", "", "data?x=1", "a" * 129, ".x"])
def test_a_name_that_leads_elsewhere_is_not_asked_for(place, name):
    keys = place.keys()

    with place.asked() as asked, pytest.raises(ConfigurationError, match="expected a name"):
        keys.wrapper(name)

    assert asked == []


def test_a_key_that_leaves_vault_is_used_with_a_warning_once(place, caplog):
    place.make("data", exportable=True)
    keys = place.keys()

    with caplog.at_level(logging.WARNING):
        keys.wrapper("data").wrap(FILE_KEY, CORE_ID)
        keys.versions("data")

    assert [record.args for record in caplog.records] == [(f"{place.mount}/data",)]


def test_one_description_of_a_key_serves_many_wraps(data):
    keys = data.keys()

    with data.asked() as asked:
        for _ in range(3):
            keys.wrapper("data").wrap(FILE_KEY, CORE_ID)

    assert asked == ["read keys/data", *["update encrypt/data"] * 3]


def test_without_a_name_only_the_keys_of_the_settings_open_and_nobody_is_asked(data):
    data.make("secret")
    keys = data.keys(wraps=["data", "feature"], names={"feature": "data", "data": "data"})

    with data.asked() as asked:
        found = keys.unwrappers()
        states = [
            keys.state_of(kind, slot_id)
            for kind, slot_id in [
                (3, f"{data.mount}/data"),
                (3, f"{data.mount}/secret"),
                (1, f"{data.mount}/data"),
                (3, "data/1"),
            ]
        ]

    assert [each.slot_id for each in found] == [f"{data.mount}/data"]
    assert states == ["active", None, None, None]
    assert asked == []


def test_a_slot_for_a_key_that_only_signs_is_refused_without_a_decryption(place):
    place.make("pipeline", "ed25519")
    (unwrapper,) = place.keys(wraps=["pipeline"]).unwrappers()

    with place.asked() as asked, pytest.raises(PolicyError) as caught:
        unwrapper.unwrap(b"vault:v1:QUJD", CORE_ID)

    assert caught.value.why == "key_not_allowed"
    assert asked == ["read keys/pipeline"]


@pytest.mark.parametrize(
    ("trim", "why"), [(False, "key_disabled"), (True, "key_destroyed")], ids=["disabled", "gone"]
)
def test_a_body_of_a_version_out_of_use_says_so(data, trim, why):
    keys = data.keys()
    wrapper = keys.wrapper("data")
    body = wrapper.wrap(FILE_KEY, CORE_ID)
    data.rotate("data")
    data.configure("data", min_decryption_version=2, min_encryption_version=2)
    if trim:
        data.vault.api("POST", f"{data.mount}/keys/data/trim", {"min_available_version": 2})

    with pytest.raises(PolicyError) as caught:
        wrapper.unwrap(body, CORE_ID)

    assert caught.value.why == why
    states = {each.number: each.state for each in keys.versions("data")}
    assert states == {1: why.removeprefix("key_"), 2: "active"}


def test_a_body_of_a_version_that_never_was_is_refused(data):
    wrapper = data.keys().wrapper("data")
    body = wrapper.wrap(FILE_KEY, CORE_ID).replace(b"v1", b"v999")

    with pytest.raises(CiphertextError):
        wrapper.unwrap(body, CORE_ID)


def test_a_key_that_was_deleted_is_missing(data):
    wrapper = data.keys().wrapper("data")
    body = wrapper.wrap(FILE_KEY, CORE_ID)
    data.vault.api("POST", f"{data.mount}/keys/data/config", {"deletion_allowed": True})
    data.vault.api("DELETE", f"{data.mount}/keys/data")

    with pytest.raises(PolicyError) as caught:
        wrapper.unwrap(body, CORE_ID)

    assert caught.value.why == "key_missing"


def test_a_right_that_is_missing_is_one_denial(data):
    wrapper = data.keys("encrypt/data", "read keys/data").wrapper("data")
    body = wrapper.wrap(FILE_KEY, CORE_ID)

    with data.asked() as asked, pytest.raises(ServiceRefusedError, match="permission denied") as no:
        wrapper.unwrap(body, CORE_ID)

    assert no.value.why == "key_not_allowed"
    assert asked == ["update decrypt/data"]


def test_a_signature_is_the_raw_64_bytes_and_holds_for_the_version_it_names(place):
    place.make("pipeline", "ed25519")
    keys = place.keys()

    first = keys.signer("pipeline")
    old = first.sign(b"message")
    place.rotate("pipeline")
    second = keys.signer("pipeline")
    late = first.sign(b"late")

    fresh = place.keys()
    two, one = fresh.verifiers(["pipeline", "pipeline"])
    assert [len(old), str(first.ref), str(second.ref)] == [64, "pipeline/1", "pipeline/2"]
    assert [two.key_id, one.key_id, one.ref.system] == ["pipeline/2", "pipeline/1", "vault"]
    one.verify(old, b"message")
    # The signer keeps the version that it was given: its signature is filed under that name.
    one.verify(late, b"late")
    two.verify(second.sign(b"message"), b"message")
    with pytest.raises(SignatureError):
        two.verify(old, b"message")


def test_signatures_of_a_version_out_of_use_are_not_accepted(place):
    place.make("pipeline", "ed25519")
    place.rotate("pipeline")
    place.configure("pipeline", min_decryption_version=2, min_encryption_version=2)

    assert [each.key_id for each in place.keys().verifiers(["pipeline"])] == ["pipeline/2"]


def test_public_keys_are_read_again_after_a_minute(place):
    place.make("pipeline", "ed25519")
    now = [0.0]
    keys = place.keys(clock=lambda: now[0])
    keys.verifiers(["pipeline"])
    place.rotate("pipeline")

    now[0] = 59.0
    before = [each.key_id for each in keys.verifiers(["pipeline"])]
    now[0] = 61.0

    assert before == ["pipeline/1"]
    assert [each.key_id for each in keys.verifiers(["pipeline"])] == ["pipeline/2", "pipeline/1"]


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("aes256-gcm96", {}, PolicyError),
        ("ed25519", {"derived": True}, ConfigurationError),
        ("ecdsa-p256", {}, ConfigurationError),
    ],
    ids=["wraps", "derived", "another-algorithm"],
)
def test_only_a_plain_ed25519_key_signs(place, kind, options, error):
    place.make("pipeline", kind, **options)
    keys = place.keys()

    for ask in (keys.signer, lambda name: keys.verifiers([name])):
        with pytest.raises(error):
            ask("pipeline")


def test_more_than_vault_takes_in_one_request_is_no_outage(place):
    place.make("pipeline", "ed25519")
    signer = place.keys().signer("pipeline")

    assert len(signer.sign(b"x" * 786_432)) == 64
    with place.asked() as asked, pytest.raises(ConfigurationError, match="max_json_string_value"):
        signer.sign(b"x" * 800_000)
    assert len(asked) <= 1


def test_our_names_may_be_others_in_vault(place):
    place.make("team-a.data")
    keys = place.keys(names={"health": "team-a.data"})

    wrapper = keys.wrapper("health")
    body = wrapper.wrap(FILE_KEY, CORE_ID)

    assert wrapper.slot_id == f"{place.mount}/team-a.data"
    assert str(wrapper.ref_of(body)) == "health/1"


def test_what_reaches_vault_shows_no_token_and_is_not_pickled(place):
    place.make("data")
    place.make("pipeline", "ed25519")
    keys = place.keys()

    for thing in (keys, keys.wrapper("data"), keys.signer("pipeline")):
        assert place.vault.root_token not in repr(thing)
    for thing in (keys.wrapper("data"), keys.signer("pipeline")):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_a_mount_that_is_not_there_is_a_missing_key(place):
    place.mount, there = "nowhere", place.mount
    keys = place.keys()
    place.mount = there

    with pytest.raises(PolicyError) as caught:
        keys.wrapper("data")

    assert caught.value.why == "key_missing"
