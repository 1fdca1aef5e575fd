"""Every engine and every way to log in that tests set up works on the real Vault."""

from __future__ import annotations

import time
from dataclasses import replace

import psycopg
import pytest

from dags_examples.demo.vault_api import VaultAnswerError
from tests.servers import vault_setup

READ_SECRET = 'path "kv/data/logins/*" { capabilities = ["read"] }'


@pytest.fixture
def logins(vault):
    """A policy to log in for; `read(token)` uses what it allows, and ends the token."""
    vault_setup.kv(vault, {"logins/one": {"word": "swordfish"}})
    vault_setup.policy(vault, "logins", READ_SECRET)
    tokens = []

    def read(answer):
        token = answer["auth"]["client_token"]
        tokens.append(token)
        return vault.api("GET", "kv/data/logins/one", token=token)["data"]["data"]["word"]

    yield read
    for token in tokens:
        vault_setup.revoke(vault, token)


def test_an_app_role_logs_in(vault, logins):
    role_id, secret_id = vault_setup.approle(vault, "logins", "logins")

    order = {"role_id": role_id, "secret_id": secret_id}
    answer = vault.api("POST", "auth/approle/login", order, token="")

    assert logins(answer) == "swordfish"


def test_a_wrapped_secret_id_unwraps_once(vault, logins):
    role_id, _ = vault_setup.approle(vault, "logins", "logins")
    wrapped = vault_setup.wrapped_secret_id(vault, "logins")

    secret_id = vault.api("POST", "sys/wrapping/unwrap", {}, token=wrapped)["data"]["secret_id"]

    order = {"role_id": role_id, "secret_id": secret_id}
    assert logins(vault.api("POST", "auth/approle/login", order, token="")) == "swordfish"
    with pytest.raises(VaultAnswerError, match="not valid or does not exist"):
        vault.api("POST", "sys/wrapping/unwrap", {}, token=wrapped)


def test_a_user_logs_in_with_a_password(vault, logins):
    path = vault_setup.userpass(vault, "bob", "a long password", "logins")

    order = {"password": "a long password"}
    answer = vault.api("POST", f"auth/{path}/login/bob", order, token="")

    assert logins(answer) == "swordfish"


def test_a_user_of_the_ldap_server_logs_in(vault, ldap_server, logins):
    path = vault_setup.ldap(vault, ldap_server, "logins")
    login = f"auth/{path}/login/{ldap_server.user}"

    answer = vault.api("POST", login, {"password": ldap_server.password}, token="")

    assert logins(answer) == "swordfish"
    with pytest.raises(VaultAnswerError, match="400"):
        vault.api("POST", login, {"password": "a guess"}, token="")


def test_a_signed_statement_logs_in(vault, logins):
    issuer = vault_setup.JwtIssuer.trusted(vault, "worker", "logins")
    login = f"auth/{issuer.path}/login"

    answer = vault.api("POST", login, {"role": "worker", "jwt": issuer.jwt()}, token="")

    assert logins(answer) == "swordfish"
    stranger = replace(issuer, _key=vault_setup.JwtIssuer(path="", role="")._key)
    with pytest.raises(VaultAnswerError, match="signature"):
        vault.api("POST", login, {"role": "worker", "jwt": stranger.jwt()}, token="")


def test_a_client_certificate_logs_in(vault, logins, tmp_path):
    path = vault_setup.cert(vault, "worker", "logins")
    shown = vault.authority.for_client(tmp_path, "worker")
    client = replace(vault.client(""), certificate=(shown.file, shown.key_file))

    answer = client.call("POST", f"auth/{path}/login", {"name": "worker"})

    assert logins(answer) == "swordfish"
    stranger = vault.authority.for_client(tmp_path, "stranger")
    client = replace(client, certificate=(stranger.file, stranger.key_file))
    with pytest.raises(VaultAnswerError, match="400"):
        client.call("POST", f"auth/{path}/login", {"name": "worker"})


def test_a_leased_role_reads_and_is_gone_when_revoked(vault, vault_database, postgres):
    postgres.query("CREATE TABLE IF NOT EXISTS visits (id int)")
    path = vault_database.make_role("setup", "1m", "2m")

    lease = vault.api("GET", path)
    login = {"user": lease["data"]["username"], "password": lease["data"]["password"]}

    assert postgres.query("SELECT count(*) FROM visits", **login) == [(0,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        postgres.query("INSERT INTO visits VALUES (1)", **login)
    assert login["user"] in postgres.logins()
    assert lease["lease_id"] in list(vault.client().leases())
    vault.api("PUT", "sys/leases/revoke", {"lease_id": lease["lease_id"], "sync": True})
    assert login["user"] not in postgres.logins()
    assert lease["lease_id"] not in list(vault.client().leases())


def test_a_role_lives_as_long_as_it_was_made_for(vault, vault_database, postgres):
    path = vault_database.make_role("brief", "1s", "1s")

    user = vault.api("GET", path)["data"]["username"]

    until(lambda: user not in postgres.logins())


def test_a_derived_key_seals_for_its_context_alone(vault):
    path = vault_setup.transit_key(vault, "setup-derived")
    asked = {"plaintext": "c2VjcmV0", "context": "b25l"}

    sealed = vault.api("POST", f"{path}/encrypt/setup-derived", asked)["data"]["ciphertext"]

    opened = {"ciphertext": sealed, "context": "b25l"}
    answer = vault.api("POST", f"{path}/decrypt/setup-derived", opened)
    assert answer["data"]["plaintext"] == "c2VjcmV0"
    with pytest.raises(VaultAnswerError, match="message authentication failed"):
        vault.api("POST", f"{path}/decrypt/setup-derived", opened | {"context": "dHdv"})


def test_a_typo_makes_no_key(vault):
    path = vault_setup.transit_key(vault, "setup-derived")

    with pytest.raises(VaultAnswerError, match="encryption key not found"):
        vault.api("POST", f"{path}/encrypt/setup-typo", {"plaintext": "c2VjcmV0"})

    assert "setup-typo" not in vault.client().names(f"{path}/keys")


def test_a_signing_key_signs(vault):
    path = vault_setup.transit_key(vault, "setup-signing", "ed25519")

    made = vault.api("POST", f"{path}/sign/setup-signing", {"input": "c2VjcmV0"})

    assert made["data"]["signature"].startswith("vault:v1:")


def test_certificates_and_one_time_passwords_are_leased(vault):
    pki, ssh = vault_setup.pki(vault, "setup"), vault_setup.ssh(vault, "setup")

    order = {"common_name": "one.example.test"}
    certificate = vault.api("POST", f"{pki}/issue/setup", order)
    password = vault.api("POST", f"{ssh}/creds/setup", {"ip": "127.0.0.1"})

    assert certificate["data"]["private_key"].startswith("-----BEGIN")
    assert password["data"]["key_type"] == "otp"
    leases = {certificate["lease_id"], password["lease_id"]}
    assert leases <= set(vault.client().leases())
    for lease in leases:
        vault.api("PUT", "sys/leases/revoke", {"lease_id": lease, "sync": True})
    assert not leases & set(vault.client().leases())


def until(found, seconds=30):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)
