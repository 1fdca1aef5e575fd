"""Which adapter an address means, and which system a name lies in."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.errors import CiphertextError, ConfigurationError, PolicyError
from airflow_secure_ml.key_systems import (
    NamedKeys,
    how_to_make,
    open_local_keyring,
    parse_kms_address,
    parse_vault_address,
)

KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:eu-central-1:123456789012:key/{KEY_ID}"
DEFAULT = ("aws_default", None)


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
        "gcpkms://x",
        "AWSKMS://alias",
        "local://k.json",
        "/etc/k.json",
        "",
        "LOCAL:///x",
        "VAULT://transit",
    ],
)
def test_an_address_without_adapter_says_what_is_supported(address):
    with pytest.raises(ConfigurationError, match="this release supports local:///absolute/path"):
        NamedKeys(address)


def unreachable(conn_id):
    raise AssertionError(f"asked for {conn_id}")


@pytest.mark.parametrize(
    ("address", "mount", "conn_id", "key"),
    [
        ("vault://transit?conn_id=prod", "transit", "prod", None),
        ("vault://team/eu/transit?conn_id=a.b%2Fc", "team/eu/transit", "a.b/c", None),
        ("vault://transit", "transit", "vault_default", None),
        ("vault://transit?key=team.data&conn_id=x", "transit", "x", "team.data"),
    ],
)
def test_a_vault_address_names_mount_connection_and_key(address, mount, conn_id, key):
    found = parse_vault_address(address, default_conn_id="vault_default")

    assert (found.mount, found.conn_id, found.key) == (mount, conn_id, key)


@pytest.mark.parametrize(
    "address",
    [
        "vault://user:canary-1@host/transit?token=canary-2",
        "vault://canary@transit",
        "vault://transit?token=canary",
        "vault://transit?conn_id=x&conn_id=canary",
        "vault://transit?conn_id=canary%20x",
        "vault://transit?conn_id=",
        "vault://transit?canary",
        "vault://transit?key=../canary",
        "vault://transit?conn_id=x#canary",
        "vault://transit:8200",
        "vault://transit/",
        "vault:///transit",
        "vault://",
        "vault://tran//sit",
        "vault://transit/../sys",
        "vault://[x",
        "vault://" + "a" * 128,
    ],
)
def test_a_vault_address_with_anything_else_in_it_is_refused_and_its_secrets_not_shown(address):
    with pytest.raises(ConfigurationError, match="<mount>") as caught:
        NamedKeys(address, connect=unreachable)

    assert "canary" not in str(caught.value).replace("vault://[x", "")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "address",
    ["vault://transit?key=data", "awskms://alias/data", f"awskms://{ARN}", "pkcs11://team/data"],
)
def test_all_names_cannot_be_one_key(address):
    with pytest.raises(ConfigurationError, match="belongs to one name"):
        NamedKeys(address, connect=unreachable, connect_aws=unreachable, find_token=unreachable)


@pytest.mark.parametrize(
    ("address", "key", "conn_id", "region"),
    [
        ("awskms://alias", None, "aws_default", None),
        ("awskms://alias/data", "alias/data", "aws_default", None),
        ("awskms://alias/team/a_b-c?conn_id=a.b%2Fc", "alias/team/a_b-c", "a.b/c", None),
        ("awskms://alias/x?region=eu-west-1&conn_id=x", "alias/x", "x", "eu-west-1"),
        (f"awskms://{KEY_ID}?region=eu-west-1", KEY_ID, "aws_default", "eu-west-1"),
        (f"awskms://{ARN}", ARN, "aws_default", "eu-central-1"),
        (f"awskms://{ARN}?region=eu-central-1", ARN, "aws_default", "eu-central-1"),
        (f"awskms://mrk-{KEY_ID.replace('-', '')}", f"mrk-{KEY_ID.replace('-', '')}", *DEFAULT),
    ],
)
def test_an_address_of_kms_names_key_connection_and_region(address, key, conn_id, region):
    found = parse_kms_address(address, default_conn_id="aws_default")

    assert (found.key, found.conn_id, found.region) == (key, conn_id, region)


@pytest.mark.parametrize(
    "address",
    [
        "awskms://",
        "awskms://alias/",
        "awskms://alias/aws/canary",
        "awskms://alias/canary.x",
        "awskms://alias/canary//x",
        "awskms://canary@alias/x",
        "awskms://alias/x?token=canary",
        "awskms://alias/x?conn_id=a&conn_id=canary",
        "awskms://alias/x?region=canary%20",
        "awskms://alias/x?region=",
        "awskms://alias/x?canary",
        "awskms://alias/x?",
        "awskms://alias/x#canary",
        "awskms://alias/../canary",
        "awskms://alias/x?grant_token=canary%20",
        f"awskms://{ARN}?region=us-east-1",
        f"awskms://{ARN.replace(':key/', ':alias/')}",
        "awskms://alias/" + "a" * 300,
    ],
)
def test_an_address_of_kms_with_anything_else_in_it_is_refused(address):
    with pytest.raises(ConfigurationError, match="<key ARN>") as caught:
        NamedKeys("local:///x", {"data": address}, connect_aws=unreachable)

    hidden = "canary" in address.partition("?")[2] + address.partition("#")[2]
    assert not (hidden and "canary" in str(caught.value))
    assert "canary@" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "address",
    [
        "pkcs11://",
        "pkcs11://team/",
        "pkcs11://team/data/1",
        "pkcs11://team/data?pin-value=canary",
        "pkcs11:token=team;object=data?pin-value=canary",
        "pkcs11://canary@team/data",
        "pkcs11://my%20token/data",
        "pkcs11://team/../data",
        "pkcs11://team/data?module=/canary.so",
        "pkcs11://" + "t" * 33,
    ],
)
def test_an_address_of_a_token_with_anything_else_in_it_is_refused_and_not_shown(address):
    with pytest.raises(ConfigurationError) as caught:
        NamedKeys("local:///x", {"data": address}, find_token=unreachable)

    assert "canary" not in str(caught.value)


def test_a_name_lies_in_kms_or_in_a_token_by_its_address(two):
    keys = NamedKeys(
        f"local://{two[0]}",
        {"health": f"awskms://{ARN}", "other": "awskms://alias/x?region=eu-west-1"},
        connect_aws=unreachable,
        wraps=["data"],
        signs=["other"],
    )

    slots = [(each.slot_type, each.slot_id) for each in keys.unwrappers()]

    assert slots == [(1, "data/1"), (1, "partner/1"), (4, ARN)]
    assert not keys.is_blind("health")
    assert str(keys.ref("health", 1)) == "health/1"
    assert keys.ref("health", 1).system == "awskms"


@pytest.mark.parametrize("address", ["awskms://alias", "pkcs11://team"])
def test_nothing_leads_elsewhere_where_there_is_no_way(address):
    with pytest.raises(ConfigurationError, match="nothing leads to"):
        NamedKeys(address)


def test_a_token_is_found_by_its_label_and_holds_the_default_names(softhsm):
    place = softhsm.place()
    place.keys().create("data", "wrap")
    keys = NamedKeys(
        "pkcs11://team",
        {"data": f"pkcs11://team/{place.at('data')}"},
        find_token=softhsm.token,
        wraps=["data"],
    )

    body = keys.wrapper("data").wrap(bytes(range(32)), bytes(32))

    (opener,) = keys.unwrappers()
    assert bytes(opener.unwrap(body, bytes(32))) == bytes(range(32))
    assert keys.state_of(6, opener.slot_id) == "active"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("vault://transit?key=k", "vault write transit/keys/k type=aes256-gcm96"),
        ("awskms://alias/x", "--alias-name alias/x"),
        ("awskms://alias", "--alias-name alias/data"),
        ("pkcs11://team", "secure-ml keys create data --for wrap"),
    ],
)
def test_how_a_key_is_made_is_said_for_each_system(address, words):
    made = how_to_make(address, "data", "wrap", vault_conn_id="v", aws_conn_id="a")

    assert words in made


def test_nothing_leads_to_vault_where_there_is_no_way_to_it(two):
    with pytest.raises(ConfigurationError, match="nothing leads to Vault"):
        NamedKeys(f"local://{two[0]}", {"health": "vault://transit"})


def test_opening_touches_nothing(tmp_path):
    elsewhere = {"health": "vault://transit?conn_id=x"}
    NamedKeys(f"local://{tmp_path}/missing.json", elsewhere, connect=unreachable)

    assert list(tmp_path.iterdir()) == []


def test_without_a_name_the_settings_own_names_in_vault_may_open_and_nobody_is_asked(two):
    keys = NamedKeys(
        f"local://{two[0]}",
        {
            "health": "vault://transit?conn_id=x&key=h",
            "archive": "vault://archive?conn_id=x",
            "release": "vault://transit?conn_id=x",
        },
        connect=unreachable,
        wraps=["data"],
        signs=["release"],
    )

    slots = [(each.slot_type, each.slot_id) for each in keys.unwrappers()]

    assert slots == [(1, "data/1"), (1, "partner/1"), (3, "transit/h"), (3, "archive/archive")]
    assert keys.state_of(3, "transit/h") == "active"
    assert keys.state_of(3, "transit/release") is None
    assert keys.state_of(3, "transit/data") is None


def test_where_vault_is_the_default_its_data_key_opens_and_no_other(two):
    keys = NamedKeys(
        "vault://transit",
        {"partner": f"local://{two[1]}"},
        connect=unreachable,
        wraps=["data", "partner"],
        signs=["pipeline"],
    )

    slots = [(each.slot_type, each.slot_id) for each in keys.unwrappers()]

    assert slots == [(3, "transit/data"), (1, "partner/1")]
    assert keys.state_of(1, "partner/1") == "active"
    assert keys.state_of(1, "data/1") is None
    assert keys.is_blind("data")
    assert not keys.is_blind("partner")


def test_each_name_is_rotated_where_it_lies(two):
    ours, partners = two
    keys = NamedKeys(f"local://{ours}", {"partner": f"local://{partners}"})

    assert str(keys.rotate("partner")) == "partner/2"

    assert [each.number for each in keys.versions("partner")] == [1, 2]
    assert LocalKeyring(ours).find_key("partner").newest.number == 1
    assert keys.fence("partner") == 2
    keys.retire_below("partner", 2)
    assert [each.state for each in LocalKeyring(partners).versions("partner")] == [
        "disabled",
        "active",
    ]


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
