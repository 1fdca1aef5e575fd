"""A deployment whose keys and credentials lie in a real Vault, and runs of tasks on it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.audit.frame import EVENT, HEADER_BYTES, read_frames
from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.hooks.vault import vault_client
from airflow_secure_ml.services.run_plan import Plan
from airflow_secure_ml.settings import parse_settings
from dags_examples.demo.vault_server import RunningVault
from tests.servers import vault_setup

_numbers = itertools.count(1)
POLICY = """
path "database/creds/{name}" {{ capabilities = ["read"] }}
path "kv/data/pipelines/{name}" {{ capabilities = ["read"] }}
path "sys/leases/renew" {{ capabilities = ["update"] }}
path "sys/leases/revoke" {{ capabilities = ["update"] }}
path "transit/keys/{name}-data" {{ capabilities = ["read"] }}
path "transit/encrypt/{name}-data" {{ capabilities = ["update"] }}
path "transit/decrypt/{name}-data" {{ capabilities = ["update"] }}
path "transit/keys/{name}-pipeline" {{ capabilities = ["read"] }}
path "transit/sign/{name}-pipeline" {{ capabilities = ["update"] }}
path "auth/token/renew-self" {{ capabilities = ["update"] }}
path "auth/token/revoke-self" {{ capabilities = ["update"] }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultDeployment:
    """Keys `<name>-data` and `<name>-pipeline`, and whatever the role `name` may lease.

    Attributes:
        here: The deployment itself.
        conn_id: Its connection to Vault.
    """

    here: Deployment
    conn_id: str

    @classmethod
    @contextmanager
    def make(
        cls,
        vault: RunningVault,
        name: str,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        url: str = "",
        **fields: Any,
    ) -> Iterator[VaultDeployment]:
        """Set it up, and revoke its tokens afterwards.

        Args:
            vault: The server.
            name: A name of its own, of letters.
            folder: Where its trail lies.
            monkeypatch: Puts its connection into the environment.
            url: Where Vault is reached; empty: itself.
            **fields: More fields of the connection, such as deadline_s.
        """
        vault_setup.transit_key(vault, f"{name}-data")
        vault_setup.transit_key(vault, f"{name}-pipeline", "ed25519")
        policy = vault_setup.policy(vault, name, POLICY.format(name=name))
        role_id, secret_id = vault_setup.approle(vault, name, policy, token_no_default_policy=True)
        # A process keeps a client for each id.
        conn_id = f"vault_{name}_{next(_numbers)}"
        connection = {
            "conn_type": "vault_secure_ml",
            "host": url or vault.url,
            "login": role_id,
            "password": secret_id,
            "extra": {"auth_type": "approle", "ca": str(vault.ca), **fields},
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
        settings = {
            "audit_dir": str(folder / "audit"),
            "audit_signer_dir": str(folder / "signer"),
            "key_system": f"vault://transit?conn_id={conn_id}",
            "vault_conn_id": conn_id,
            "data_key": f"{name}-data",
            "signing_key": f"{name}-pipeline",
            "trusted_signers": f"{name}-pipeline",
        }
        made = cls(here=Deployment(parse_settings(settings)), conn_id=conn_id)
        try:
            yield made
        finally:
            vault_client(conn_id).close()

    def run(self, task: str, plan: Plan, body: Callable[[Any], None]) -> None:
        """Run a body as a task would, with a guardian and a spool of its own."""
        ref = RunRef(dag="churn", run="r1", task=task, try_number=1, ti=f"ti-{task}")
        sink = self.here.open_sink(ref, "task")
        secured = self.here.secured_run(
            lambda: plan,
            reads=[one.name for one in plan.inputs],
            writes=[one.name for one in plan.outputs],
            operator="test",
            sink=sink,
            run=ref,
            still_ours=lambda: None,
            tell=lambda line: None,
        )
        try:
            with secured:
                body(secured.open())
                secured.publish()
        finally:
            sink.close()

    def events(self) -> list[dict[str, Any]]:
        """Everything that was recorded, in the order of time."""
        found = []
        for part in (self.here.settings.audit_dir / "spool").glob("*.seg"):
            frames = read_frames(part.read_bytes()[HEADER_BYTES:]).frames
            found += [json.loads(frame.payload) for frame in frames if frame.kind == EVENT]
        return sorted(found, key=lambda event: int(event["time"]))
