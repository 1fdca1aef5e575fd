"""One running Airflow whose secrets, and one of whose own options, lie in a real Vault."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.servers import vault_setup

POLICY = """
path "airflow/data/connections/*" { capabilities = ["read"] }
path "airflow/data/variables/*" { capabilities = ["read"] }
path "airflow/data/config/*" { capabilities = ["read"] }
path "airflow/data/connections/forbidden" { capabilities = ["deny"] }
"""
CANARY = "canary-" + hashlib.sha256(os.urandom(8)).hexdigest()[:12]
# LocalExecutor copies what a task prints to the scheduler's own log, where Airflow masks nothing
# that a task has read: so this one may stand there.
PRINTED = "printed-" + CANARY[::-1]


def fill(vault):
    """The secrets; returns how to log in."""
    vault_setup.enable_engine(vault, "kv", "airflow", version="2")
    vault_setup.policy(vault, "e2e-secrets", POLICY)

    def put(path, fields, **metadata):
        vault.api("POST", f"airflow/data/{path}", {"data": fields})
        vault.api("POST", f"airflow/metadata/{path}", {"custom_metadata": metadata})

    put("connections/warehouse", {"conn_uri": f"http://scott:{CANARY}@vault"})
    put("connections/prod", {"conn_uri": "http://vault"}, tasks="secrets/allowed")
    put("variables/greeting", {"value": CANARY})
    put("variables/printed", {"value": PRINTED})
    put("config/fernet", {"value": base64.urlsafe_b64encode(os.urandom(32)).decode()})
    # Ends soon after whoever held it was killed.
    return vault_setup.approle(vault, "e2e-secrets", "e2e-secrets", token_ttl="20s")


@pytest.fixture(scope="package")
def airflow(own_airflow, vault, tmp_path_factory):
    """A running Airflow with the DAGs of this folder."""
    role_id, secret_id = fill(vault)
    options = {
        "url": vault.url,
        "auth_type": "approle",
        "role_id": role_id,
        "secret_id": secret_id,
        "verify": str(vault.ca),
        "mount_point": "airflow",
        "cache_ttl_s": 5,
        "deadline_s": 2,
    }
    settings = {
        "AIRFLOW__SECRETS__BACKEND": "airflow_secure_ml.secrets.VaultBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(options),
        "AIRFLOW__CORE__FERNET_KEY_SECRET": "fernet",
    }
    folder = tmp_path_factory.mktemp("secrets")
    dags = Path(__file__).parent / "dags"
    with own_airflow.running(folder, dags, settings) as running:
        running.vault = vault
        running.secrets, running.printed = (CANARY, secret_id), PRINTED
        for name in ("prod", "forbidden", "plain", "warehouse"):
            body = {"connection_id": name, "conn_type": "http", "host": "static"}
            running.api("POST", "/connections", body)
        running.api("POST", "/variables", {"key": "plain", "value": "static"})
        yield running
