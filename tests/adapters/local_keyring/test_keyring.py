"""What `keys` commands do to a key file."""

from __future__ import annotations

import traceback

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.errors import ConfigurationError, PolicyError

PUBLIC_OF_RFC8032_TEST_1 = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
PEM = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
"""
OTHER_PEM = PEM.replace("cHURo=", "cHURs=")


def _states(keyring, name):
    (key,) = [each for each in keyring.list_keys() if each.name == name]
    return [each.state for each in key.versions]


def test_a_life_of_a_key(keyring):
    keyring.create("models", "wrap")
    keyring.rotate("models")
    keyring.rotate("models")
    assert _states(keyring, "models") == ["retired", "retired", "active"]

    keyring.disable("models", 1)
    assert _states(keyring, "models") == ["disabled", "retired", "active"]
    keyring.disable("models")
    assert _states(keyring, "models") == ["disabled", "disabled", "disabled"]
    keyring.enable("models")
    assert _states(keyring, "models") == ["retired", "retired", "active"]
    keyring.retire("models")
    assert _states(keyring, "models") == ["retired", "retired", "retired"]
    keyring.enable("models", 3)
    keyring.destroy("models", 2)
    assert _states(keyring, "models") == ["retired", "destroyed", "active"]
    keyring.destroy("models")
    keyring.enable("models")
    assert _states(keyring, "models") == ["destroyed", "destroyed", "destroyed"]


@pytest.mark.parametrize("act", ["retire", "enable", "disable", "destroy"])
def test_a_destroyed_version_stays_destroyed(keyring, act):
    keyring.destroy("data", 1)

    if act == "destroy":
        keyring.destroy("data", 1)
    else:
        with pytest.raises(PolicyError) as caught:
            getattr(keyring, act)("data", 1)
        assert caught.value.why == "key_destroyed"
    assert _states(keyring, "data") == ["destroyed"]


@pytest.mark.parametrize("name", ["", "Data", "-x", "a b", "a/b", "a" * 64, "ä", "a.b", "../x"])
def test_a_name_that_is_none_is_refused(keyring, name):
    with pytest.raises(ConfigurationError, match="expected a key's name"):
        keyring.create(name, "wrap")


def test_a_name_is_given_once(keyring):
    for act in (
        lambda: keyring.create("data", "wrap"),
        lambda: keyring.create("data", "sign"),
        lambda: keyring.trust("data", PEM),
    ):
        with pytest.raises(ConfigurationError):
            act()


def test_what_is_exported_another_keyring_trusts(keyring, tmp_path):
    keyring.rotate("pipeline")
    text = keyring.export_public("pipeline")
    other = LocalKeyring(tmp_path / "other" / "keyring.json")
    other.init()

    other.trust("partner", text)

    signer = keyring.signer("pipeline")
    newest, oldest = other.verifiers(["partner"])
    newest.verify(signer.sign(b"x"), b"x")
    assert [str(newest.ref), str(oldest.ref)] == ["partner/2", "partner/1"]
    assert [newest.key_id, oldest.key_id] == ["pipeline/2", "pipeline/1"]
    assert text.startswith("# pipeline/1\n-----BEGIN PUBLIC KEY-----\n")
    assert other.export_public("partner") == text


def test_a_plain_pem_is_version_1(keyring):
    keyring.trust("partner", "some words before\n" + PEM)

    (verifier,) = keyring.verifiers(["partner"])
    assert verifier.public_key.hex() == PUBLIC_OF_RFC8032_TEST_1
    assert str(verifier.ref) == "partner/1"


def test_a_version_known_never_gets_another_key(keyring):
    keyring.trust("partner", PEM)

    with pytest.raises(PolicyError, match="never changes"):
        keyring.trust("partner", OTHER_PEM)


def test_a_version_that_its_owner_no_longer_lists_is_disabled(keyring):
    keyring.trust("partner", f"# partner/1\n{PEM}# partner/2\n{OTHER_PEM}")

    keyring.trust("partner", f"# partner/2\n{OTHER_PEM}")

    assert [str(each.ref) for each in keyring.verifiers(["partner"])] == ["partner/2"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key",
        PEM + PEM,
        f"# p/1\n{PEM}# p/1\n{OTHER_PEM}",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        PEM * 1000,
        # X25519, not Ed25519.
        "-----BEGIN PUBLIC KEY-----\n"
        "MCowBQYDK2VuAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
        "-----END PUBLIC KEY-----",
    ],
    ids=["empty", "words", "twice", "version twice", "short", "huge", "x25519"],
)
def test_what_is_no_public_key_is_refused(keyring, text):
    with pytest.raises(ConfigurationError, match="public keys"):
        keyring.trust("partner", text)


def test_somebody_elses_key_is_not_rotated_here(keyring):
    keyring.trust("partner", PEM)

    with pytest.raises(ConfigurationError, match="its owner"):
        keyring.rotate("partner")


def test_a_wrap_key_has_no_public_half(keyring):
    with pytest.raises(PolicyError) as caught:
        keyring.export_public("data")
    assert caught.value.why == "key_not_allowed"


@pytest.mark.parametrize("cut", [2, 40, 200, 400])
def test_a_keyring_cut_short_shows_no_key_in_its_error(keyring, path, cut):
    data = path.read_bytes()
    path.write_bytes(data[:-cut])

    with pytest.raises(ConfigurationError) as caught:
        keyring.wrapper("data")

    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
    assert "AQEBAQEB" not in shown
    assert error.__cause__ is None
    assert error.__context__ is None


def test_no_key_shows_in_what_is_listed_or_printed(keyring):
    keyring.rotate("data")
    shown = repr(keyring) + repr(keyring.list_keys()) + repr(keyring.wrapper("data"))
    shown += repr(keyring.signer("pipeline")) + str(keyring.rotate("data"))

    # What the canary looks like where it is planted: bytes, hex, base64.
    for canary in (r"\x01\x01", "0101010101", "AQEBAQEB", r"\x02\x02", "0202020202", "AgICAgIC"):
        assert canary not in shown
    assert "***" in shown
