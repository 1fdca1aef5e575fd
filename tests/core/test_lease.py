"""What of a leased credential may be shown, and how a secret is recognized."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from airflow_secure_ml.core.lease import (
    Granted,
    LeaseLine,
    check_lease_path,
)
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError

PASSWORD = "A1a-/x+ y%z"


def granted(**fields: str) -> Granted:
    return Granted(
        fields={name: Secret(text) for name, text in fields.items()},
        lease_id=Secret("database/creds/reader/abcdef"),
        ttl_s=900,
    )


def test_neither_fields_nor_lease_id_nor_token_show_in_a_repr():
    shown = repr(granted(username="u-1", password=PASSWORD))
    shown += repr(LeaseLine(server={}, token=Secret("hvs.token")))
    shown += f"{Secret('secret')} {Secret('secret'):>30}"

    assert PASSWORD not in shown
    assert "abcdef" not in shown
    assert "hvs.token" not in shown
    assert "'secret'" not in shown


@pytest.mark.parametrize("carry", [pickle.dumps, copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_secret_is_carried_nowhere(carry):
    with pytest.raises(TypeError, match="cannot be pickled"):
        carry(Secret("secret"))


def test_a_secret_is_no_json():
    with pytest.raises(TypeError):
        json.dumps(Secret("secret"))


def test_equal_secrets_are_equal():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1


def test_a_user_name_is_no_secret_and_an_unknown_field_is_one():
    found = granted(username="v-reader-1", password=PASSWORD, api_key="key-12345", pin="1234")

    assert found.secrets == (PASSWORD, "key-12345")


def test_a_text_inside_a_field_of_json_is_a_secret_too():
    found = granted(
        account='{"type": "robot", "private_key": "key-12345", "username": "u-12345"}',
        several='[["list-12345"], {"deep": "deep-12345"}]',
        broken='{"password": ',
    )

    assert {"key-12345", "list-12345", "deep-12345"} <= set(found.secrets)
    assert "u-12345" not in found.secrets


def test_a_flag_is_no_secret():
    assert granted(enabled="false", verify="true", key="key-12345").secrets == ("key-12345",)


def test_secrets_that_are_no_text_are_compared_without_telling_them():
    assert Secret("\ud800-secret") != Secret("\ud800-other!")
    assert Secret("\ud800-secret") == Secret("\ud800-secret")


def test_an_event_names_a_lease_by_its_digest():
    assert granted(password=PASSWORD).id_digest == (
        "sha256:c1ea27904ae71b62fe46f2c69cacdd14380accbf49458fcd312595f660047a46"
    )
    assert Granted(fields={}).id_digest is None


@pytest.mark.parametrize(
    "path",
    ["database/creds/reader", "kv/data/a/b.c", "pki/issue/x-y", "/database/creds/r/"],
)
def test_a_path_of_an_engine_is_taken(path):
    assert check_lease_path("w", path) == path.strip("/")


@pytest.mark.parametrize(
    "path",
    [
        "reader",
        "database//reader",
        "database/../sys/seal",
        "database/./x",
        "database/creds/a?b",
        "database/creds/a b",
        "database/creds/\x00",
        "sys/leases/lookup",
        "auth/token/create",
        "v1/sys/seal",
        "cubbyhole/x",
        "identity/oidc/token/x",
        "a/" + "b" * 600,
        "",
    ],
)
def test_what_hands_out_no_credential_is_refused(path):
    with pytest.raises(ConfigurationError, match=r"credentials\['w'\]"):
        check_lease_path("w", path)
