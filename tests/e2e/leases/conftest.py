"""One running Airflow for the tests of this folder, with a real Vault and PostgreSQL behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

# What anyone could type into a connection; nobody can log in with it.
STATIC = "static-5d0c1fb8"
# As a URL, a shell and JSON each write it otherwise.
CANARY = "Cnry/9f3a +71&e0='b2\"$HOME%d4"
MORE_RIGHTS = """
path "pki/issue/leases" { capabilities = ["update"] }
path "ssh/creds/leases" { capabilities = ["update"] }
"""


@pytest.fixture(scope="package")
def leases(own_airflow, vault, vault_database, postgres, tmp_path_factory):
    """A running Airflow whose connections lead to Vault, and to PostgreSQL without a good login."""
    folder = tmp_path_factory.mktemp("leases")
    secrets = tmp_path_factory.mktemp("kept-aside")
    settings = {
        "AIRFLOW_CONN_VAULT_DEFAULT": json.dumps(_vault_connection(vault, secrets)),
        "AIRFLOW_CONN_WAREHOUSE": json.dumps(_warehouse(postgres)),
        "SECURE_ML_TEST_SECRETS": str(secrets),
    }
    dags = Path(__file__).parent / "dags"
    with own_airflow.running(folder, dags, settings) as running:
        running.until, running.secrets = own_airflow.until, secrets
        running.vault, running.postgres = vault, postgres
        running.canary, running.static_password = CANARY, STATIC
        yield running


def _vault_connection(vault, secrets):
    """An AppRole with what these tasks need, its secret id in a file as an agent leaves it."""
    from tests.servers import vault_setup

    vault_setup.kv(vault, {"pipelines/canary": {"username": "api", "password": CANARY}})
    vault_setup.pki(vault, "leases")
    vault_setup.ssh(vault, "leases")
    text = (vault_setup.POLICIES / "task-leases.hcl").read_text() + MORE_RIGHTS
    policy = vault_setup.policy(vault, "e2e-leases", text)
    role_id, secret_id = vault_setup.approle(
        vault, "e2e-leases", policy, token_ttl="60s", token_no_default_policy=True
    )
    (secrets / "secret-id").write_text(secret_id)
    return {
        "conn_type": "vault_secure_ml",
        "host": vault.url,
        "login": role_id,
        "extra": {
            "auth_type": "approle",
            "secret_id_path": str(secrets / "secret-id"),
            "ca": str(vault.ca),
        },
    }


def _warehouse(postgres):
    postgres.query("CREATE TABLE IF NOT EXISTS measured (n int)")
    return {
        "conn_type": "postgres",
        "host": postgres.host,
        "port": postgres.port,
        "schema": postgres.database,
        "login": "static",
        "password": STATIC,
    }
