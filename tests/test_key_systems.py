"""Which adapter an address means, and which system a name lies in."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.errors import CiphertextError, ConfigurationError, PolicyError
from airflow_secure_ml.key_systems import NamedKeys, open_key_system, open_local_keyring


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    ours, partners = tmp_path / "ours.json", tmp_path / "partners.json"
    LocalKeyring(ours).init([("data", "wrap"), ("pipeline", "sign"), ("partner", "wrap")])
    LocalKeyring(partners).init([("partner", "wrap"), ("data", "wrap"), ("them", "sign")])
    return ours, partners


def test_a_local_address_is_a_keyring_file(tmp_path):
    assert open_local_keyring(f"local://{tmp_path}/k.json").path == tmp_path / "k.json"


@pytest.mark.parametrize(
    "address",
    [
        "vault://transit?conn_id=x",
        "awskms://alias/x",
        "local://k.json",
        "/etc/k.json",
        "",
        "LOCAL:///x",
    ],
)
def test_an_address_without_adapter_says_what_is_supported(address):
    with pytest.raises(ConfigurationError, match="this release supports local:///absolute/path"):
        open_key_system(address)


def test_an_addresss_secrets_are_not_shown():
    with pytest.raises(ConfigurationError) as caught:
        open_key_system("vault://user:canary-1@host/transit?token=canary-2")

    assert "canary" not in str(caught.value)
    assert "vault://host/transit" in str(caught.value)


def test_opening_touches_nothing(tmp_path):
    open_key_system(f"local://{tmp_path}/missing.json")

    assert list(tmp_path.iterdir()) == []


def test_a_name_lies_where_the_settings_say(two):
    ours, partners = two
    keys = NamedKeys(f"local://{ours}", {"partner": f"local://{partners}"})
    theirs, mine = LocalKeyring(partners), LocalKeyring(ours)
    core_id = bytes(32)

    body = keys.wrapper("partner").wrap(bytes(range(32)), core_id)

    assert bytes(theirs.unwrappers(["partner"])[0].unwrap(body, core_id)) == bytes(range(32))
    assert keys.wrapper("data").slot_id == mine.wrapper("data").slot_id


def test_a_name_that_lies_elsewhere_is_never_taken_from_here(two):
    ours, partners = two
    keys = NamedKeys(f"local://{ours}", {"partner": f"local://{partners}"})
    core_id = bytes(32)
    body = LocalKeyring(ours).wrapper("partner").wrap(bytes(range(32)), core_id)

    found = keys.unwrappers()

    assert sorted(key.ref.name for key in found) == ["data", "partner"]
    (partner,) = (key for key in found if key.ref.name == "partner")
    with pytest.raises(CiphertextError):
        partner.unwrap(body, core_id)


def test_a_slots_state_is_asked_where_its_name_lies(two):
    ours, partners = two
    keys = NamedKeys(f"local://{ours}", {"partner": f"local://{partners}"})
    slot_type = keys.wrapper("partner").slot_type
    LocalKeyring(partners).disable("partner")

    assert keys.state_of(slot_type, "partner/1") == "disabled"
    assert keys.state_of(slot_type, "data/1") == "active"
    assert keys.state_of(slot_type, "partner/2") is None
    assert keys.state_of(slot_type, "nobody/1") is None


def test_verifiers_come_from_each_names_system(two):
    ours, partners = two
    keys = NamedKeys(f"local://{ours}", {"them": f"local://{partners}"})

    found = keys.verifiers(["pipeline", "them"])

    assert [key.ref.name for key in found] == ["pipeline", "them"]
    found[1].verify(LocalKeyring(partners).signer("them").sign(b"m"), b"m")


def test_an_unknown_signer_never_passes(two):
    keys = NamedKeys(f"local://{two[0]}")

    with pytest.raises(PolicyError) as caught:
        keys.verifiers(["pipeline", "nobody"])

    assert caught.value.why == "key_missing"


def test_a_missing_keyring_is_an_error_that_names_keys_init(tmp_path):
    keys = NamedKeys(f"local://{tmp_path}/missing.json")

    with pytest.raises(ConfigurationError, match="keys init"):
        keys.wrapper("data")
