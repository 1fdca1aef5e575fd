"""What the demo puts into Vault and PostgreSQL before Airflow starts, as an administrator would.

Everything that tasks may do stands in docker/vault/*.hcl; nobody but Vault knows the password by
which Vault makes roles.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from dags_examples.demo.certificates import write_private
from dags_examples.demo.postgres_server import RunningPostgres
from dags_examples.demo.vault_server import RunningVault

POLICIES = Path(__file__).resolve().parents[2] / "docker" / "vault"
# One AppRole for all tasks of this one machine; in production each kind of worker has its own.
GIVEN = (
    "task-leases", "task-loading", "pipeline-writer", "pipeline-reader", "signer", "rotation",
)  # fmt: skip
TOKEN_TTL_S, LEASE_TTL, LONGEST_LEASE = 60, "60s", "1h"
# Roles without a login hold the rights; those that Vault makes are members for their short life.
WAREHOUSE = """\
CREATE ROLE vault LOGIN CREATEROLE PASSWORD '{password}';
CREATE ROLE warehouse_owner;
CREATE ROLE warehouse_reader;
GRANT CREATE ON SCHEMA public TO warehouse_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE warehouse_owner GRANT SELECT ON TABLES TO warehouse_reader;
GRANT warehouse_owner, warehouse_reader TO vault WITH ADMIN OPTION;
GRANT pg_signal_backend TO vault;
"""
READER = """\
CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'
IN ROLE warehouse_reader;"""
# What it makes belongs to the owner, and stays when the login goes.
LOADER = """\
CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'
IN ROLE warehouse_owner;
ALTER ROLE "{{name}}" SET role = warehouse_owner;"""
# Whoever is connected would go on with it.
DROP_ROLE = """\
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';
DROP ROLE IF EXISTS "{{name}}";"""


def fill(vault: RunningVault, postgres: RunningPostgres) -> dict[str, str]:
    """Set both up.

    Returns:
        Airflow's connections `vault_default` and `warehouse`, as variables of an environment.
    """
    _add_keys(vault)
    _add_database(vault, postgres)
    vault.api("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
    shared = {"data": {"key": secrets.token_urlsafe(32)}}
    vault.api("POST", "kv/data/pipelines/partner", shared)
    return {
        "AIRFLOW_CONN_VAULT_DEFAULT": json.dumps(_add_role(vault)),
        "AIRFLOW_CONN_WAREHOUSE": json.dumps(_warehouse(postgres)),
    }


def _add_keys(vault: RunningVault) -> None:
    vault.api("POST", "sys/mounts/transit", {"type": "transit"})
    # Without it a typo in a name makes a key.
    vault.api("POST", "transit/config/keys", {"disable_upsert": True})
    vault.api("POST", "transit/keys/data", {"type": "aes256-gcm96", "derived": True})
    vault.api("POST", "transit/keys/pipeline", {"type": "ed25519"})


def _add_database(vault: RunningVault, postgres: RunningPostgres) -> None:
    password = secrets.token_urlsafe(24)
    postgres.query(WAREHOUSE.format(password=password))
    vault.api("POST", "sys/mounts/database", {"type": "database"})
    address = f"{postgres.host}:{postgres.port}/{postgres.database}?sslmode=disable"
    order = {
        "plugin_name": "postgresql-database-plugin",
        "allowed_roles": ["reader", "loader"],
        "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@{address}",
        "username": "vault",
        "password": password,
        "password_authentication": "scram-sha-256",
    }
    vault.api("POST", "database/config/warehouse", order)
    # From here on Vault alone knows it.
    vault.api("POST", "database/rotate-root/warehouse")
    for name, creation in (("reader", READER), ("loader", LOADER)):
        order = {
            "db_name": "warehouse",
            "creation_statements": [creation],
            "revocation_statements": [DROP_ROLE],
            "default_ttl": LEASE_TTL,
            "max_ttl": LONGEST_LEASE,
        }
        vault.api("POST", f"database/roles/{name}", order)


def _add_role(vault: RunningVault) -> dict[str, object]:
    """An AppRole for Airflow; its secret id lies in a file, as an agent would leave it."""
    for name in GIVEN:
        text = (POLICIES / f"{name}.hcl").read_text()
        vault.api("PUT", f"sys/policies/acl/{name}", {"policy": text})
    vault.api("POST", "sys/auth/approle", {"type": "approle"})
    order = {
        "token_policies": GIVEN,
        "token_no_default_policy": True,
        "token_ttl": f"{TOKEN_TTL_S}s",
        "token_bound_cidrs": ["127.0.0.1/32"],
        "secret_id_bound_cidrs": ["127.0.0.1/32"],
    }
    vault.api("POST", "auth/approle/role/airflow", order)
    role_id = vault.api("GET", "auth/approle/role/airflow/role-id")["data"]["role_id"]
    made = vault.api("POST", "auth/approle/role/airflow/secret-id", {})
    secret_id_file = vault.folder / "airflow-secret-id"
    write_private(secret_id_file, made["data"]["secret_id"].encode())
    extra = {
        "auth_type": "approle",
        "secret_id_path": str(secret_id_file),
        "ca": str(vault.ca),
    }
    return {"conn_type": "vault_secure_ml", "host": vault.url, "login": role_id, "extra": extra}


def _warehouse(postgres: RunningPostgres) -> dict[str, object]:
    """Where the database is, and a login that is none: were it ever used, a task would fail."""
    return {
        "conn_type": "postgres",
        "host": postgres.host,
        "port": postgres.port,
        "schema": postgres.database,
        "login": "nobody",
        "password": secrets.token_urlsafe(12),
    }
