"""Names that stand for recipients and groups, from the settings to the keys that seal and open."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.core.sealed_file.hpke import HYBRID, recipient_of, recipient_text
from airflow_secure_ml.errors import ConfigurationError, PolicyError
from airflow_secure_ml.key_systems import NamedKeys
from airflow_secure_ml.services.key_choice import opening_keys, sealing_keys

FILE_KEY, CORE_ID = bytes(range(32)), b"c" * 32
BOB = recipient_text(recipient_of(HYBRID, bytes(32)))


@pytest.fixture
def keyring(tmp_path: Path) -> LocalKeyring:
    keyring = LocalKeyring(tmp_path / "ours.json")
    keyring.init()
    return keyring


@pytest.fixture
def ann(tmp_path: Path) -> LocalKeyring:
    """Another organisation's keyring."""
    keyring = LocalKeyring(tmp_path / "anns.json")
    keyring.init()
    keyring.create("ann", "receive", post_quantum=True)
    return keyring


def _named(keyring, **more):
    return NamedKeys(f"local://{keyring.path}", **more)


def test_what_is_sealed_to_a_trusted_recipient_only_its_owner_opens(keyring, ann):
    keyring.trust("partner", ann.export_public("ann"))
    named = _named(keyring)
    (wrapper,) = sealing_keys(named, ["partner"])
    body = wrapper.wrap(FILE_KEY, CORE_ID)

    (theirs,) = [key for key in ann.openers() if key.slot_type == 2]
    assert theirs.slot_id == wrapper.slot_id
    assert theirs.unwrap(body, CORE_ID) == FILE_KEY
    assert [key for key in opening_keys(named) if key.slot_type == 2] == []
    assert list(opening_keys(named, ["partner"])) == []
    assert named.state_of(2, wrapper.slot_id) is None


def test_an_address_may_be_a_public_key(keyring):
    named = _named(keyring, key_names={"bob": BOB})
    (wrapper,) = sealing_keys(named, ["bob"])

    assert (str(wrapper.ref), wrapper.ref.system) == ("bob/1", "hpke")
    assert wrapper.slot_id == recipient_of(HYBRID, bytes(32)).id
    with pytest.raises(PolicyError, match="only seals") as caught:
        named.unwrappers(["bob"])
    assert caught.value.why == "key_not_allowed"
    with pytest.raises(PolicyError, match="only seals"):
        named.signer("bob")
    with pytest.raises(ConfigurationError, match="only its owner"):
        named.rotate("bob")


def test_a_damaged_public_key_in_the_settings_is_named(keyring):
    with pytest.raises(ConfigurationError, match="key bob: recipient"):
        _named(keyring, key_names={"bob": BOB[:-1] + "A"})


def test_a_name_may_stand_for_several_keys(keyring, ann):
    keyring.trust("ann", ann.export_public("ann"))
    named = _named(keyring, key_names={"bob": BOB}, groups={"all": ("data", "ann", "bob")})

    found = sealing_keys(named, ["all", "data"])
    assert [str(key.ref) for key in found] == ["data/1", "ann/1", "bob/1"]
    assert [str(key.ref) for key in opening_keys(named, ["all"])] == ["data/1"]


def test_one_weak_recipient_in_a_group_is_refused(keyring, ann):
    ann.create("old", "receive")
    keyring.trust("old", ann.export_public("old"))
    named = _named(keyring, key_names={"bob": BOB}, groups={"both": ("old", "bob")})

    with pytest.raises(ConfigurationError, match="as strong as its weakest"):
        sealing_keys(named, ["both"])
    assert len(sealing_keys(named, ["both"], mixed_strength=True)) == 2


def test_a_key_to_receive_with_opens_only_for_who_demands_a_signature(ann):
    named = _named(ann)

    assert [key.slot_type for key in named.unwrappers()] == [1]
    assert [key.slot_type for key in opening_keys(named)] == [1, 2]
    with pytest.raises(PolicyError, match="anybody may have sealed") as caught:
        named.unwrappers(["ann"])
    assert caught.value.why == "key_not_allowed"


def test_a_receive_key_of_another_name_is_not_used(ann, keyring):
    # The name `ann` lies in another keyring, so this one's key of that name opens nothing.
    keyring.create("ann", "receive")
    named = _named(ann, key_names={"ann": f"local://{keyring.path}"})

    assert [key.slot_id for key in opening_keys(named) if key.slot_type == 2] == [
        keyring.openers(["ann"])[0].slot_id
    ]


def test_older_versions_still_open_and_the_newest_is_sealed_to(ann):
    old = ann.wrapper("ann").wrap(FILE_KEY, CORE_ID)
    before = ann.export_public("ann")
    ann.rotate("ann")

    assert ann.export_public("ann") != before
    newest, older = ann.openers(["ann"])
    assert (str(newest.ref), str(older.ref)) == ("ann/2", "ann/1")
    assert older.unwrap(old, CORE_ID) == FILE_KEY
    assert ann.wrapper("ann").slot_id == newest.slot_id
    ann.destroy("ann", 1)
    assert ann.state_of(2, older.slot_id) == "destroyed"
    assert [str(key.ref) for key in ann.openers(["ann"])] == ["ann/2"]


def test_a_recipients_newer_key_replaces_the_older_and_never_comes_back(keyring, ann):
    old = ann.export_public("ann")
    keyring.trust("ann", old)
    ann.rotate("ann")
    keyring.trust("ann", ann.export_public("ann"))
    keyring.trust("ann", ann.export_public("ann"))

    assert keyring.wrapper("ann").slot_id == ann.wrapper("ann").slot_id
    assert [each.number for each in keyring.versions("ann")] == [1, 2]
    with pytest.raises(PolicyError, match="no longer used"):
        keyring.trust("ann", old)


def test_a_recipients_stronger_key_is_not_replaced_by_a_weaker_one(keyring, ann):
    keyring.trust("partner", ann.export_public("ann"))
    ann.create("weak", "receive")

    with pytest.raises(PolicyError, match="x25519 alone") as refused:
        keyring.trust("partner", ann.export_public("weak"))

    assert refused.value.why == "key_not_allowed"
    assert keyring.wrapper("partner").recipient.algorithm == HYBRID
    keyring.trust("other", ann.export_public("weak"))
    ann.create("strong", "receive", post_quantum=True)
    keyring.trust("other", ann.export_public("strong"))
    assert keyring.wrapper("other").recipient.algorithm == HYBRID


def test_a_recipient_takes_no_name_of_another_kind(keyring, ann):
    with pytest.raises(ConfigurationError, match="another kind"):
        keyring.trust("data", ann.export_public("ann"))
    keyring.trust("ann", ann.export_public("ann"))
    with pytest.raises(ConfigurationError, match="take another"):
        keyring.trust("ann", keyring.export_public("pipeline"))
    with pytest.raises(ConfigurationError, match="only its owner"):
        keyring.rotate("ann")


def test_an_older_release_refuses_a_keyring_with_receive_keys_by_its_number(ann, keyring):
    assert '"secure_ml_keyring": 2' in ann.path.read_text()
    assert '"secure_ml_keyring": 1' in keyring.path.read_text()


def test_no_private_key_shows(ann):
    (opener,) = ann.openers(["ann"])
    text = ann.path.read_text()
    secret = text.split('"secret": "')[1].split('"')[0]

    shown = repr(ann) + repr(ann.list_keys()) + repr(opener) + repr(opener.ref)
    assert secret not in shown
    assert ann.find_key("ann").newest.secret.value == bytearray(32)
