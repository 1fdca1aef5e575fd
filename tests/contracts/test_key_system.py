"""What every KeySystem does."""

from __future__ import annotations

import pickle

import pytest

from airflow_secure_ml.core.ed25519 import parse_public_text
from airflow_secure_ml.errors import CiphertextError, PolicyError, SignatureError
from airflow_secure_ml.testing.ports import MemoryKeySystem

FILE_KEY, CORE_ID = bytes(range(32)), b"c" * 32
PEM = """# pipeline/4
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
"""


def _trust(keys):
    given = parse_public_text(PEM) if isinstance(keys, MemoryKeySystem) else PEM
    keys.trust("partner", given)


def test_what_a_key_wraps_it_unwraps(keys):
    wrapper = keys.wrapper("data")
    body = wrapper.wrap(FILE_KEY, CORE_ID)
    (unwrapper,) = keys.unwrappers(["data"])

    assert (wrapper.slot_type, wrapper.slot_id, len(body)) == (1, "data/1", 40)
    assert (wrapper.ref.name, wrapper.ref.version) == ("data", "1")
    assert unwrapper.unwrap(body, CORE_ID) == FILE_KEY
    with pytest.raises(CiphertextError):
        unwrapper.unwrap(body, b"d" * 32)


def test_after_a_rotation_the_new_version_wraps_and_the_old_one_still_opens(keys):
    old = keys.wrapper("data").wrap(FILE_KEY, CORE_ID)

    keys.rotate("data")

    assert keys.wrapper("data").slot_id == "data/2"
    assert [each.slot_id for each in keys.unwrappers()] == ["data/2", "data/1"]
    assert keys.unwrappers()[1].unwrap(old, CORE_ID) == FILE_KEY
    assert keys.state_of(1, "data/1") == "retired"


def test_all_keys_are_those_that_wrap(keys):
    keys.create("other", "wrap")
    _trust(keys)

    assert sorted(each.slot_id for each in keys.unwrappers()) == ["data/1", "other/1"]
    assert [each.slot_id for each in keys.unwrappers(["other", "other"])] == ["other/1"]
    assert keys.unwrappers([]) == []


def test_a_disabled_key_does_nothing(keys):
    keys.disable("data")

    with pytest.raises(PolicyError) as caught:
        keys.wrapper("data")
    assert caught.value.why == "key_disabled"
    assert keys.unwrappers(["data"]) == []
    assert keys.state_of(1, "data/1") == "disabled"


def test_a_disabled_newest_version_is_not_replaced_by_an_older_one(keys):
    keys.rotate("data")
    keys.disable("data", 2)

    with pytest.raises(PolicyError) as caught:
        keys.wrapper("data")
    assert caught.value.why == "key_disabled"
    assert [each.slot_id for each in keys.unwrappers(["data"])] == ["data/1"]


def test_a_destroyed_key_is_gone_and_its_number_never_comes_back(keys):
    keys.destroy("data")

    with pytest.raises(PolicyError) as caught:
        keys.wrapper("data")
    assert caught.value.why == "key_destroyed"
    assert keys.unwrappers() == []
    assert keys.state_of(1, "data/1") == "destroyed"

    keys.rotate("data")
    assert keys.wrapper("data").slot_id == "data/2"
    assert keys.state_of(1, "data/1") == "destroyed"


@pytest.mark.parametrize(
    ("slot_type", "slot_id"),
    [(1, "data/2"), (1, "nokey/1"), (1, "data"), (1, ""), (3, "data/1"), (1, "pipeline/1")],
)
def test_a_slot_of_no_key_here_has_no_state(keys, slot_type, slot_id):
    assert keys.state_of(slot_type, slot_id) is None


def test_a_missing_key_is_named(keys):
    for ask in (keys.wrapper, keys.signer):
        with pytest.raises(PolicyError, match="nokey") as caught:
            ask("nokey")
        assert caught.value.why == "key_missing"
    for ask in (keys.unwrappers, keys.verifiers):
        with pytest.raises(PolicyError, match="nokey") as caught:
            ask(["nokey"])
        assert caught.value.why == "key_missing"


def test_a_key_does_only_what_it_was_made_for(keys):
    _trust(keys)
    for ask, name in [
        (keys.wrapper, "pipeline"),
        (keys.signer, "data"),
        (keys.signer, "partner"),
        (keys.wrapper, "partner"),
    ]:
        with pytest.raises(PolicyError) as caught:
            ask(name)
        assert caught.value.why == "key_not_allowed"
    with pytest.raises(PolicyError):
        keys.verifiers(["data"])
    with pytest.raises(PolicyError):
        keys.unwrappers(["pipeline"])


def test_what_a_key_signs_it_verifies_and_nothing_else(keys):
    signature = keys.signer("pipeline").sign(b"message")
    (verifier,) = keys.verifiers(["pipeline"])

    verifier.verify(signature, b"message")
    assert len(verifier.public_key) == 32
    assert str(verifier.ref) == "pipeline/1"
    for forged, message in [(signature, b"other"), (bytes(64), b"message"), (b"", b"message")]:
        with pytest.raises(SignatureError):
            verifier.verify(forged, message)


def test_signatures_of_a_retired_version_are_accepted_of_a_disabled_one_not(keys):
    old = keys.signer("pipeline").sign(b"message")
    keys.rotate("pipeline")

    second, first = keys.verifiers(["pipeline"])
    first.verify(old, b"message")
    with pytest.raises(SignatureError):
        second.verify(old, b"message")

    keys.disable("pipeline", 1)
    assert [str(each.ref) for each in keys.verifiers(["pipeline"])] == ["pipeline/2"]


def test_a_signer_none_of_whose_versions_may_be_believed_is_refused(keys):
    keys.disable("pipeline")

    with pytest.raises(PolicyError) as caught:
        keys.verifiers(["pipeline"])
    assert caught.value.why == "key_disabled"


def test_a_trusted_key_verifies_under_its_owners_version(keys):
    _trust(keys)

    (verifier,) = keys.verifiers(["partner"])

    assert (str(verifier.ref), verifier.key_id) == ("partner/4", "pipeline/4")
    # RFC 8032, 7.1, test 1: the signature over the empty message.
    verifier.verify(
        bytes.fromhex(
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
        b"",
    )


def test_what_holds_a_key_shows_it_nowhere(keys):
    for thing in (keys, keys.wrapper("data"), keys.signer("pipeline")):
        assert "key=***" in repr(thing) or "0x" in repr(thing) or "LocalKeyring" in repr(thing)
    for thing in (keys.wrapper("data"), keys.signer("pipeline")):
        with pytest.raises(TypeError):
            pickle.dumps(thing)
