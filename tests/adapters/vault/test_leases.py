"""Credentials of a real Vault: what its engines hand out, and what they do not."""

from __future__ import annotations

import time

import pytest

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.leases import VaultCredentials
from airflow_secure_ml.adapters.vault.logins import AppRoleLogin
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ServiceRefusedError
from tests.servers import vault_setup

ANY = """
path "database/creds/*" { capabilities = ["read"] }
path "kv/data/*" { capabilities = ["read"] }
path "pki/issue/*" { capabilities = ["update"] }
path "ssh/creds/*" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/internal/ui/mounts" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "auth/token/renew-self" { capabilities = ["update"] }
"""
GONE_S = 10.0


@pytest.fixture(scope="module")
def make_client(vault):
    """A client of a role that may take every credential; its tokens end with the module."""
    role_id, secret_id = vault_setup.approle(
        vault, "leases", vault_setup.policy(vault, "leases-any", ANY), token_no_default_policy=True
    )
    made = []

    def make():
        login = AppRoleLogin(role_id=role_id, secret_id=Secret(secret_id))
        made.append(VaultClient(VaultServer(url=vault.url, ca=str(vault.ca)), login))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="module")
def source(make_client):
    return VaultCredentials(make_client())


def test_a_login_of_a_database_works_and_is_gone_when_it_is_revoked(
    source, vault_database, postgres
):
    path = vault_database.make_role("leases", default_ttl="60s", max_ttl="120s")

    granted = source.grant(path, {})
    user = granted.fields["username"].reveal()
    password = granted.fields["password"].reveal()
    whoami = postgres.query("SELECT current_user", user=user, password=password)
    source.revoke(granted.lease_id)

    assert whoami == [(user,)]
    assert user not in postgres.logins()
    assert (granted.ttl_s, granted.renewable) == (60, True)
    assert granted.secrets == (password,)


def test_a_secret_of_kv_is_not_leased(source, vault):
    vault_setup.kv(vault, {"pipelines/api": {"url": "https://x", "key": "api-key-1"}})

    granted = source.grant("kv/data/pipelines/api", {})

    assert {name: field.reveal() for name, field in granted.fields.items()} == {
        "url": "https://x",
        "key": "api-key-1",
    }
    assert (granted.lease_id, granted.ttl_s, granted.renewable) == (None, None, False)


def test_a_certificate_is_issued_leased_and_ends(source, vault):
    vault_setup.pki(vault, "scoring")

    granted = source.grant("pki/issue/scoring", {"common_name": "scoring.example.test"})
    source.revoke(granted.lease_id)

    key = granted.fields["private_key"].reveal()
    assert key.startswith("-----BEGIN")
    assert key in granted.secrets
    assert granted.fields["certificate"].reveal() not in granted.secrets
    assert 0 < granted.ttl_s <= 60


def test_a_certificate_that_its_engine_does_not_lease_says_when_it_ends(source, vault):
    vault_setup.pki(vault, "unleased")
    order = {"allowed_domains": ["example.test"], "allow_subdomains": True, "ttl": "60s"}
    vault.api("POST", "pki/roles/unleased", {**order, "generate_lease": False})

    granted = source.grant("pki/issue/unleased", {"common_name": "a.example.test"})

    assert granted.lease_id is None
    assert 30 <= granted.ttl_s <= 60


def test_a_one_time_password_of_ssh_is_leased(source, vault):
    vault_setup.ssh(vault, "machine")

    granted = source.grant("ssh/creds/machine", {"ip": "127.0.0.1"})
    source.revoke(granted.lease_id)

    assert granted.fields["key"].reveal() in granted.secrets


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("database/creds/no-such-role", "request not accepted"),
        ("database/config/postgres", "permission denied"),
        ("kv/data/nothing/here", "nothing at that path"),
    ],
)
def test_what_vault_refuses_is_a_refusal_with_its_reason(
    source, vault, vault_database, path, reason
):
    vault_setup.kv(vault, {})

    with pytest.raises(ServiceRefusedError) as caught:
        source.grant(path, {})

    assert caught.value.reason == reason
    assert path in str(caught.value)


def test_an_answer_with_anything_but_a_few_fields_is_refused(source, vault):
    fields = {f"field-{i}": "x" for i in range(65)}
    vault_setup.kv(vault, {"pipelines/large": fields})

    with pytest.raises(ServiceRefusedError, match="without 1 to 64 fields") as caught:
        source.grant("kv/data/pipelines/large", {})

    assert caught.value.why == "lease_refused"


def test_no_lease_is_left_when_its_token_is_revoked(vault_database, postgres, make_client):
    path = vault_database.make_role("token-end", default_ttl="60s", max_ttl="120s")
    own = make_client()
    user = VaultCredentials(own).grant(path, {}).fields["username"].reveal()
    assert user in postgres.logins()

    own.close()

    until = time.monotonic() + GONE_S
    while user in postgres.logins():
        assert time.monotonic() < until
        time.sleep(0.02)
