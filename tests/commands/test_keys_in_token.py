"""Keys in a token on the command line: real processes, SoftHSM."""

from __future__ import annotations

import json

import pytest

from airflow_secure_ml.adapters.log_signer import init_log
from tests.commands.test_rotation import Desk


@pytest.fixture
def desk(softhsm, tmp_path):
    place = softhsm.place()
    init_log(tmp_path / "secure_ml" / "signer", "test")
    names = {name: f"pkcs11://team/{place.at(name)}" for name in ("data", "pipeline")}
    options = {
        "KEY_SYSTEM": "pkcs11://team",
        "KEY_NAMES": json.dumps(names),
        "PKCS11_MODULE": str(softhsm.module),
        "PKCS11_PIN_PATH": str(softhsm.pin_path),
    }
    environment = {f"AIRFLOW__SECURE_ML__{name}": text for name, text in options.items()}
    made = Desk(tmp_path, **environment, **softhsm.environment)
    made.at, made.pin = place.at("data"), softhsm.pin
    return made


def test_a_file_is_sealed_signed_rotated_and_opened_with_keys_that_stay_in_the_token(desk):
    assert desk.done("keys", "create", "data", "--for", "wrap") == {"key": "data", "version": 1}
    desk.done("keys", "create", "pipeline", "--for", "sign")
    desk.seal("a.sealed")
    desk.done("sign", "a.sealed")
    assert desk.slots("a.sealed") == [f"team/{desk.at}/1"]

    desk.done("keys", "rotate", "data")
    desk.done("rewrap", "a.sealed", "--recursive", "--key", "data")
    desk.done("open", "a.sealed", "a.plain", "--any-context", "--signed-by", "pipeline")

    assert (desk.path / "a.plain").read_text() == "hello"
    assert desk.slots("a.sealed") == [f"team/{desk.at}/2"]
    listed = {
        (each["name"], each["purpose"], each["version"], each["state"])
        for each in desk.done("keys", "list")
    }
    assert listed == {
        ("data", "wrap", 1, "retired"),
        ("data", "wrap", 2, "active"),
        ("pipeline", "sign", 1, "active"),
    }


def test_the_pin_is_nowhere_but_in_its_file(desk):
    desk.done("keys", "create", "data", "--for", "wrap")
    desk.seal("a.sealed")

    found = [
        str(path)
        for path in desk.path.rglob("*")
        if path.is_file() and desk.pin.encode() in path.read_bytes()
    ]

    assert found == []
    assert desk.pin not in json.dumps(desk.environment)


def test_what_a_token_does_itself_is_said(desk):
    desk.done("keys", "create", "data", "--for", "wrap")

    again = desk.refused(2, "keys", "create", "data", "--for", "wrap")["message"]
    destroyed = desk.refused(2, "keys", "destroy", "data", "--yes")["message"]

    assert "keys rotate" in again
    assert "own tool" in destroyed
