"""Keys in a token: what SoftHSM does with them, and what others could put there."""

from __future__ import annotations

import logging

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType, ObjectClass

from airflow_secure_ml.adapters.pkcs11 import objects
from airflow_secure_ml.adapters.pkcs11.wrapper import TokenWrapper
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.slots import Slot, check_slot
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    PolicyError,
    ServiceRefusedError,
    SignatureError,
)
from tests.adapters.pkcs11.bringing import put_secret

FILE_KEY, CORE_ID, OTHER_ID = bytes(range(32)), b"c" * 32, b"d" * 32
ED25519 = bytes.fromhex("06032b6570")


@pytest.fixture
def place(softhsm):
    return softhsm.place()


@pytest.fixture
def keys(place):
    made = place.keys()
    made.create("data", "wrap")
    made.create("pipeline", "sign")
    return made


def put(place, label, **more):
    put_secret(place.token, label, more.pop("VALUE", bytes(range(32))), **more)


def test_a_key_that_was_made_never_leaves_the_token(place, keys):
    def look(session):
        wanted = {Attribute.LABEL: f"{place.at('data')}/1"}
        (key,) = session.get_objects(wanted)
        with pytest.raises(pkcs11.PKCS11Error):
            key[Attribute.VALUE]
        return [key[flag] for flag in (Attribute.SENSITIVE, Attribute.NEVER_EXTRACTABLE)]

    assert place.session(look) == [True, True]


def test_a_slot_is_as_the_format_says(place, keys):
    wrapper = keys.wrapper("data")
    body = wrapper.wrap(FILE_KEY, CORE_ID)

    assert (wrapper.slot_type, wrapper.slot_id) == (6, f"team/{place.at('data')}/1")
    assert len(body) == 60
    check_slot(Slot(type=6, id=wrapper.slot_id, body=body))
    assert str(wrapper.ref) == "data/1"


def test_no_two_bodies_share_a_nonce(keys):
    wrapper = keys.wrapper("data")

    bodies = {wrapper.wrap(FILE_KEY, CORE_ID)[:12] for _ in range(50)}

    assert len(bodies) == 50


def test_any_flipped_byte_and_any_other_file_is_refused(keys):
    wrapper = keys.wrapper("data")
    body = wrapper.wrap(FILE_KEY, CORE_ID)

    for at in range(len(body)):
        altered = bytearray(body)
        altered[at] ^= 1
        with pytest.raises(CiphertextError, match="not wrapped by this key"):
            wrapper.unwrap(bytes(altered), CORE_ID)
    with pytest.raises(CiphertextError, match="not wrapped by this key"):
        wrapper.unwrap(body, OTHER_ID)
    for cut in (body[:-1], body + b"x", b""):
        with pytest.raises(CiphertextError, match="expected 60"):
            wrapper.unwrap(cut, CORE_ID)
    assert wrapper.unwrap(body, CORE_ID) == FILE_KEY


@pytest.mark.parametrize("size", [16, 31, 33])
def test_a_file_key_of_another_length_is_not_wrapped(keys, size):
    with pytest.raises(ConfigurationError, match="32 bytes"):
        keys.wrapper("data").wrap(bytes(size), CORE_ID)


def test_what_the_fence_shuts_out_the_token_itself_refuses(place, keys):
    old = keys.wrapper("data")
    body = old.wrap(FILE_KEY, CORE_ID)
    keys.rotate("data")
    keys.fence("data")

    with pytest.raises(PolicyError) as caught:
        old.wrap(FILE_KEY, CORE_ID)
    assert caught.value.why == "key_disabled"
    assert old.unwrap(body, CORE_ID) == FILE_KEY
    keys.retire_below("data", 2)
    with pytest.raises(PolicyError) as caught:
        old.unwrap(body, CORE_ID)
    assert caught.value.why == "key_disabled"
    assert keys.state_of(6, f"team/{place.at('data')}/1") == "disabled"
    assert keys.state_of(6, f"team/{place.at('data')}/2") == "active"


@pytest.mark.parametrize(
    ("slot_type", "slot_id"),
    [(1, "data/1"), (6, "team/elsewhere/1"), (6, "spare/data/1"), (6, "team/pipeline/1")],
)
def test_of_a_key_that_the_settings_do_not_name_nobody_is_asked(softhsm, slot_type, slot_id):
    keys = softhsm.place().keys()
    keys._token.use = None

    assert keys.state_of(slot_type, slot_id) is None


@pytest.mark.parametrize(
    "flags",
    [{"EXTRACTABLE": True}, {"SENSITIVE": False}, {"PRIVATE": False}, {"VALUE": bytes(16)}],
    ids=["extractable", "readable", "public", "aes-128"],
)
def test_a_key_that_does_not_stay_in_the_token_wraps_and_opens_nothing(place, flags):
    put(place, f"{place.at('data')}/1", **flags)
    wrapper = place.keys().wrapper("data")

    with pytest.raises(ConfigurationError, match="expected"):
        wrapper.wrap(FILE_KEY, CORE_ID)
    with pytest.raises(ConfigurationError, match="expected"):
        wrapper.unwrap(bytes(60), CORE_ID)


def test_a_second_object_of_the_same_label_stops_everything(place, keys):
    put(place, f"{place.at('data')}/1")

    for ask in (
        lambda: keys.wrapper("data"),
        lambda: keys.rotate("data"),
        lambda: TokenWrapper(
            place.token, place.at("data"), KeyRef(system="pkcs11", name="data", version="1")
        ).wrap(FILE_KEY, CORE_ID),
    ):
        with pytest.raises(ConfigurationError, match="found two"):
            ask()


def test_what_anybody_can_put_into_a_token_does_not_keep_other_keys_from_opening(place, keys):
    put(place, f"{place.at('data')}/1", PRIVATE=False)

    assert keys.unwrappers() == []
    with pytest.raises(ConfigurationError, match="found two"):
        keys.state_of(6, f"team/{place.at('data')}/1")
    with pytest.raises(ConfigurationError, match="found two"):
        keys.unwrappers(["data"])


def test_a_public_key_that_anybody_can_have_added_is_not_believed(place, keys):
    def add(session):
        session.create_object(
            {
                Attribute.CLASS: ObjectClass.PUBLIC_KEY,
                Attribute.KEY_TYPE: KeyType.EC_EDWARDS,
                Attribute.TOKEN: True,
                Attribute.PRIVATE: False,
                Attribute.VERIFY: True,
                Attribute.LABEL: f"{place.at('pipeline')}/2",
                Attribute.EC_PARAMS: ED25519,
                Attribute.EC_POINT: b"\x04\x20" + bytes.fromhex("d7" * 32),
            }
        )

    place.session(add)

    with pytest.raises(ConfigurationError, match="anybody can add"):
        keys.verifiers(["pipeline"])


def test_a_signature_holds_for_the_public_key_in_software(keys):
    message = b"m" * 100_000

    signature = keys.signer("pipeline").sign(message)

    (verifier,) = keys.verifiers(["pipeline"])
    verifier.verify(signature, message)
    with pytest.raises(SignatureError):
        verifier.verify(signature, message + b"x")
    assert (len(signature), len(verifier.public_key), verifier.key_id) == (64, 32, "pipeline/1")


def test_after_a_rotation_old_signatures_are_accepted_and_the_new_version_signs(keys):
    old = keys.signer("pipeline").sign(b"message")

    assert str(keys.rotate("pipeline")) == "pipeline/2"

    second, first = keys.verifiers(["pipeline"])
    first.verify(old, b"message")
    second.verify(keys.signer("pipeline").sign(b"message"), b"message")
    assert [each.state for each in keys.versions("pipeline")] == ["retired", "active"]


def test_a_private_key_beside_another_public_one_signs_nothing(place, keys):
    def swap(session):
        label = f"{place.at('pipeline')}/1"
        wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: label}
        (public,) = session.get_objects(wanted)
        public.destroy()
        domain = session.create_domain_parameters(
            KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: ED25519}, local=True
        )
        other, private = domain.generate_keypair(
            mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            label=label,
            store=True,
            public_template={Attribute.PRIVATE: True},
        )
        private.destroy()
        return other

    place.session(swap)

    with pytest.raises(ServiceRefusedError, match="does not hold"):
        keys.signer("pipeline").sign(b"message")


def test_a_key_does_only_what_it_was_made_for(keys):
    for ask, name in (
        (keys.wrapper, "pipeline"),
        (lambda name: keys.unwrappers([name]), "pipeline"),
        (keys.signer, "data"),
        (lambda name: keys.verifiers([name]), "data"),
        (keys.fence, "pipeline"),
    ):
        with pytest.raises(PolicyError) as caught:
            ask(name)
        assert caught.value.why == "key_not_allowed"


def test_a_key_is_not_made_twice(keys):
    with pytest.raises(ConfigurationError, match="keys rotate"):
        keys.create("data", "wrap")


@pytest.mark.parametrize("name", ["a/b", "../x", "", "a b", "x" * 129])
def test_a_name_that_could_lead_elsewhere_is_refused(place, name):
    with pytest.raises(ConfigurationError, match="expected a name"):
        place.keys().wrapper(name)


def test_nothing_secret_is_logged(place, keys, caplog):
    caplog.set_level(logging.DEBUG)
    wrapper = keys.wrapper("data")

    wrapper.unwrap(wrapper.wrap(FILE_KEY, CORE_ID), CORE_ID)

    assert place.hsm.pin not in caplog.text
    assert FILE_KEY.hex() not in caplog.text
    assert "key=***" in repr(wrapper)


@pytest.mark.parametrize("purpose", ["wrap", "sign"])
def test_of_two_who_rotate_at_once_one_takes_back_what_it_made(place, keys, monkeypatch, purpose):
    name = {"wrap": "data", "sign": "pipeline"}[purpose]
    whole = getattr(objects, f"_make_{purpose}")

    def both(session, label):
        whole(session, label)
        return whole(session, label)

    # Patched: the other one comes between two calls of ours.
    monkeypatch.setattr(objects, f"_make_{purpose}", both)
    with pytest.raises(ServiceRefusedError, match="somebody else"):
        keys.rotate(name)

    assert [each.number for each in keys.versions(name)] == [1, 2]
    if purpose == "wrap":
        wrapper = keys.wrapper(name)
        assert wrapper.unwrap(wrapper.wrap(FILE_KEY, CORE_ID), CORE_ID) == FILE_KEY
    else:
        keys.verifiers([name])[0].verify(keys.signer(name).sign(b"message"), b"message")
