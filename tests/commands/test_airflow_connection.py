"""A connection to Vault that only Airflow's database has, as `airflow secure-ml` finds it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import vault_setup

AIRFLOW = Path(sys.executable).parent / "airflow"
POLICY = """
path "transit/keys/from-database" { capabilities = ["read"] }
path "transit/keys/from-database-signer" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
"""


@pytest.fixture
def airflow(tmp_path):
    """Runs Airflow's commands over a database of its own."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__SECURE_ML__KEY_SYSTEM": "vault://transit?conn_id=vault_in_database",
        "AIRFLOW__SECURE_ML__DATA_KEY": "from-database",
        "AIRFLOW__SECURE_ML__SIGNING_KEY": "from-database-signer",
        "AIRFLOW__SECURE_ML__TRUSTED_SIGNERS": "from-database-signer",
    }
    environment.pop("_AIRFLOW_PROCESS_CONTEXT", None)

    def run(*words):
        done = subprocess.run(
            [AIRFLOW, *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("db", "migrate")
    return run


def test_a_connection_of_airflows_database_leads_to_the_keys(airflow, vault):
    vault_setup.transit_key(vault, "from-database")
    vault_setup.transit_key(vault, "from-database-signer", "ed25519")
    policy = vault_setup.policy(vault, "from-database", POLICY)
    role_id, secret_id = vault_setup.approle(
        vault, "from-database", policy, token_no_default_policy=True
    )
    extra = {"auth_type": "approle", "ca": str(vault.ca)}
    airflow(
        "connections", "add", "vault_in_database",
        "--conn-type", "vault_secure_ml", "--conn-host", vault.url,
        "--conn-login", role_id, "--conn-password", secret_id,
        "--conn-extra", json.dumps(extra),
    )  # fmt: skip

    said = airflow("secure-ml", "keys", "list")

    assert "from-database " in said
    assert secret_id not in said
