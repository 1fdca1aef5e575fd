"""Where a Vault is and how far it is trusted."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.errors import ConfigurationError

CANARY = "canary-4711"


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("https://vault.example.org:8200", "https://vault.example.org:8200"),
        ("https://vault.example.org:8200/", "https://vault.example.org:8200"),
        ("HTTPS://Vault.Example.org", "https://vault.example.org"),
        ("https://[::1]:8200", "https://[::1]:8200"),
        ("https://10.0.0.7", "https://10.0.0.7"),
    ],
    ids=["plain", "slash", "capitals", "ipv6", "ipv4"],
)
def test_an_address_has_one_form(given, plain):
    assert VaultServer(url=given).url == plain


@pytest.mark.parametrize(
    "url",
    [
        "",
        "vault.example.org",
        "ftp://vault.example.org",
        "https://",
        "https://vault.example.org:0",
        "https://vault.example.org:99999",
        "https://vault.example.org/v1",
        "https://vault.example.org?token=x",
        "https://vault.example.org#x",
        "https://vault.example.org\\.evil.example",
        "https://vault.example.org\t.evil.example",
        "https://vault.example.org evil.example",
        "https://vaült.example.org",
        "https://vault.example.org%00",
        "https://vault example.org",
        "https://[::1",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigurationError, match="expected https://host:port"):
        VaultServer(url=url)


@pytest.mark.parametrize(
    "url",
    [f"https://user:{CANARY}@vault.example.org", f"https://{CANARY}@evil.example"],
    ids=["password", "user"],
)
def test_an_address_with_a_user_is_refused_and_not_shown(url):
    with pytest.raises(ConfigurationError, match="holds a user") as refusal:
        VaultServer(url=url)

    assert CANARY not in str(refusal.value)


def test_plain_http_is_refused_unless_allowed():
    with pytest.raises(ConfigurationError, match="not encrypted"):
        VaultServer(url="http://127.0.0.1:8200")

    allowed = VaultServer(url="http://127.0.0.1:8200", allow_http=True)

    assert not allowed.is_encrypted


def test_https_in_capitals_is_encrypted():
    assert VaultServer(url="HTTPS://vault.example.org").is_encrypted


@pytest.mark.parametrize("namespace", ["", "/", "a//b", "../a b", "a\r\nX-Vault-Token: x", "ä"])
def test_what_is_no_namespace_is_refused(namespace):
    with pytest.raises(ConfigurationError, match="namespace"):
        VaultServer(url="https://vault.example.org", namespace=namespace)


@pytest.mark.parametrize(
    "wrong",
    [{"timeout_s": 0}, {"timeout_s": 601}, {"deadline_s": -1}, {"deadline_s": float("nan")}],
    ids=str,
)
def test_times_have_limits(wrong):
    with pytest.raises(ConfigurationError, match="timeout"):
        VaultServer(url="https://vault.example.org", **wrong)


def test_a_key_needs_its_certificate():
    with pytest.raises(ConfigurationError, match="without its certificate"):
        VaultServer(url="https://vault.example.org", client_key="/k.pem")
