"""Tasks in small with a guardian and leases of a real Vault."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.adapters.guarded_task import ROOT, Starter
from tests.servers import vault_setup


@pytest.fixture(scope="session")
def guarded_roles(vault, vault_database):
    """AppRoles with what a task needs, and no more; the second's tokens live for three seconds."""
    text = (ROOT / "docker/vault/task-leases.hcl").read_text().replace("creds/reader", "creds/+")
    policy = vault_setup.policy(vault, "guardian-leases", text)
    return [
        vault_setup.approle(
            vault, name, policy, token_ttl=ttl, token_max_ttl="10m", token_no_default_policy=True
        )
        for name, ttl in (("guardian", "60s"), ("guardian-fleeting", "3s"))
    ]


@pytest.fixture
def start(vault, vault_database, guarded_roles, tmp_path):
    """Start a task in small."""
    shm = Path(tempfile.mkdtemp(prefix="asml-test-", dir="/dev/shm"))
    role, fleeting_role = guarded_roles
    starter = Starter(vault, vault_database, role, fleeting_role, tmp_path, shm)
    yield starter
    starter.close()
    shutil.rmtree(shm, ignore_errors=True)
