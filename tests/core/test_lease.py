"""What of a leased credential may be shown, and how a secret is recognized."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pytest

from airflow_secure_ml.core.lease import (
    Granted,
    LeaseLine,
    check_lease_path,
    holds_secret,
    spellings,
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


@dataclass
class Holder:
    inner: Any


class Slotted:
    __slots__ = ("__inner",)

    def __init__(self, inner: Any) -> None:
        self.__inner = inner


class MadeForTheMoment(Mapping[int, Any]):
    """Its values are new objects each time, and the last one may lie where another was."""

    def __init__(self, inner: list[Any]) -> None:
        self.inner = inner

    def __getitem__(self, index: int) -> Any:
        return [self.inner[index]]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.inner)))

    def __len__(self) -> int:
        return len(self.inner)


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


def test_an_event_names_a_lease_by_its_digest():
    assert granted(password=PASSWORD).id_digest == (
        "sha256:c1ea27904ae71b62fe46f2c69cacdd14380accbf49458fcd312595f660047a46"
    )
    assert Granted(fields={}).id_digest is None


def test_a_secret_is_known_as_a_url_holds_it():
    assert list(spellings(PASSWORD)) == [
        "A1a-/x+ y%z",
        "A1a-/x%2B%20y%25z",
        "A1a-%2Fx%2B%20y%25z",
        "A1a-%2Fx%2B+y%25z",
    ]


@pytest.mark.parametrize(
    ("secret", "written"),
    [
        ('a"b\\c', 'a\\"b\\\\c'),
        ("caf\u00e9-1", "caf\\u00e9-1"),
        ("it's\tsecret", "it's\\tsecret"),
        ('it\'s "secret"', 'it\\\'s "secret"'),
    ],
    ids=["json", "json-ascii", "python", "python-both-quotes"],
)
def test_a_secret_is_known_as_a_log_holds_it(secret, written):
    assert written in list(spellings(secret))


def test_each_line_of_a_private_key_is_a_secret():
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nshort\n-----END KEY-----"

    assert "MIIEvQIBADANBgkqhkiG9w0B" in list(spellings(key))
    assert "-----BEGIN KEY-----" not in list(spellings(key))
    assert "short" not in list(spellings(key))


@pytest.mark.parametrize(
    "value",
    [
        PASSWORD,
        f"postgresql://u:{PASSWORD}@h",
        "postgresql://u:A1a-%2Fx%2B%20y%25z@h",
        f"prefix {PASSWORD}".encode(),
        {"deep": [("x", {PASSWORD})]},
        {PASSWORD: 1},
        Holder(Holder([PASSWORD])),
        Slotted(Slotted(PASSWORD)),
        PurePosixPath("/dev/shm") / PASSWORD,
        MadeForTheMoment([1, 2, 3, PASSWORD]),
    ],
    ids=[
        "text", "inside", "quoted", "bytes", "nested", "key", "object", "slots", "path",
        "made-for-the-moment",
    ],
)  # fmt: skip
def test_a_secret_is_found_wherever_it_lies(value):
    assert holds_secret(value, (PASSWORD,))


def test_what_holds_no_secret_passes_and_a_ring_ends():
    ring: list[Any] = [1, "x", None, {"a": 2.5}]
    ring.append(ring)

    assert not holds_secret(ring, (PASSWORD,))


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
