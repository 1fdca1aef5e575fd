"""Vault's own audit log and our trail tell the same story, request by request.

Two runs, one of which outlives a term of its lease: what Vault was asked, and what we say.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import Counter

import pytest

from airflow_secure_ml.core.audit.event import RunRef
from airflow_secure_ml.core.audit.frame import EVENT, HEADER_BYTES, read_frames
from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.hooks.vault import vault_client
from airflow_secure_ml.services.run_plan import Input, LeaseRequest, Output, Plan
from airflow_secure_ml.settings import parse_settings
from tests.servers import vault_setup

POLICY = """
path "database/creds/agreement" { capabilities = ["read"] }
path "kv/data/pipelines/agreement" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "transit/keys/agreed-data" { capabilities = ["read"] }
path "transit/encrypt/agreed-data" { capabilities = ["update"] }
path "transit/decrypt/agreed-data" { capabilities = ["update"] }
path "transit/keys/agreed-pipeline" { capabilities = ["read"] }
path "transit/sign/agreed-pipeline" { capabilities = ["update"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
"""
CONN = "vault_agreement"
WITHIN_S = 30.0
# What is asked beside the acts themselves: getting a token, keeping it, and what a key is like.
HOUSEKEEPING = {
    "auth/approle/login",
    "auth/token/renew-self",
    "auth/token/revoke-self",
    "transit/keys/agreed-data",
    "transit/keys/agreed-pipeline",
}


@pytest.fixture
def here(vault, vault_database, tmp_path, monkeypatch):
    """A deployment whose keys and credentials lie in Vault."""
    vault_database.make_role("agreement", default_ttl="3s", max_ttl="60s")
    vault_setup.kv(vault, {"pipelines/agreement": {"key": "agreed-secret"}})
    vault_setup.transit_key(vault, "agreed-data")
    vault_setup.transit_key(vault, "agreed-pipeline", "ed25519")
    role_id, secret_id = vault_setup.approle(
        vault, "agreement", vault_setup.policy(vault, "agreement", POLICY),
        token_no_default_policy=True,
    )  # fmt: skip
    connection = {
        "conn_type": "vault_secure_ml", "host": vault.url, "login": role_id,
        "password": secret_id, "extra": {"auth_type": "approle", "ca": str(vault.ca)},
    }  # fmt: skip
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN.upper()}", json.dumps(connection))
    yield Deployment(
        parse_settings(
            {
                "audit_dir": str(tmp_path / "audit"),
                "audit_signer_dir": str(tmp_path / "signer"),
                "key_system": f"vault://transit?conn_id={CONN}",
                "vault_conn_id": CONN,
                "data_key": "agreed-data",
                "signing_key": "agreed-pipeline",
                "trusted_signers": "agreed-pipeline",
            }
        )
    )
    vault_client(CONN).close()


def run(here, task, plan, body):
    ref = RunRef(dag="churn", run="r1", task=task, try_number=1, ti=f"ti-{task}")
    sink = here.open_sink(ref, "task")
    secured = here.secured_run(
        lambda: plan, reads=[i.name for i in plan.inputs], writes=[o.name for o in plan.outputs],
        operator="test", sink=sink, run=ref, still_ours=lambda: None, tell=lambda line: None,
    )  # fmt: skip
    with secured:
        body(secured.open())
        secured.publish()
    sink.close()


def asked(vault, after):
    """What this deployment's tokens asked Vault, in order."""
    entries = itertools.islice(vault.audited(), after, None)
    return [entry for entry in entries if _role(entry) == "agreement"]


def _role(entry):
    return ((entry.get("auth") or {}).get("metadata") or {}).get("role_name")


def trail(here):
    found = []
    for part in sorted((here.settings.audit_dir / "spool").glob("*.seg")):
        frames = read_frames(part.read_bytes()[HEADER_BYTES:]).frames
        found += [json.loads(frame.payload) for frame in frames if frame.kind == EVENT]
    found.sort(key=lambda event: event["time"])
    return [event for event in found if event.get("result") == "ok"]


def test_vaults_audit_log_and_the_trail_agree(here, vault, vault_database, tmp_path):
    table = (tmp_path / "table.csv").as_uri()
    before = sum(1 for _ in vault.audited())

    def stay_for_a_renewal(bound):
        assert bound["api"]["key"] == "agreed-secret"
        until = time.monotonic() + WITHIN_S
        while not any(e["request"]["path"] == "sys/leases/renew" for e in asked(vault, before)):
            assert time.monotonic() < until
            time.sleep(0.05)
        bound["table"].write_text("age\n40\n")

    warehouse = LeaseRequest(name="w", path="database/creds/agreement", conn_id="w")
    api = LeaseRequest(name="api", path="kv/data/pipelines/agreement", conn_id="api")
    outputs = (Output(name="table", uri=here.canonical(table)),)
    plan = Plan(outputs=outputs, leases=(warehouse, api), dag_id="churn", task_id="make")
    run(here, "make", plan, stay_for_a_renewal)
    inputs = (Input(name="table", uri=here.canonical(table)),)
    plan = Plan(inputs=inputs, leases=(warehouse,), dag_id="churn", task_id="use")
    run(here, "use", plan, lambda bound: bound["table"].read_text())

    said, told = asked(vault, before), trail(here)
    paths = Counter(entry["request"]["path"] for entry in said)
    acts = Counter(
        (event["act"], event.get("lease", {}).get("path") or event.get("key", {}).get("name"))
        for event in told
    )
    database, kv = "database/creds/agreement", "kv/data/pipelines/agreement"
    # Each request is told of, once; and nothing is told that was not asked.
    assert paths[database] == acts["lease.grant", database] == 2
    assert paths[kv] == acts["lease.grant", kv] == 1
    assert paths["sys/leases/renew"] == acts["lease.renew", database] >= 1
    assert paths["sys/leases/revoke"] == acts["lease.revoke", database] == 2
    assert paths["transit/encrypt/agreed-data"] == acts["object.seal", "agreed-data"] == 1
    assert paths["transit/decrypt/agreed-data"] == acts["object.open", "agreed-data"] == 1
    assert paths["transit/sign/agreed-pipeline"] == acts["object.sign", "agreed-pipeline"] == 1
    known = {database, kv, "sys/leases/renew", "sys/leases/revoke", "transit/encrypt/agreed-data",
             "transit/decrypt/agreed-data", "transit/sign/agreed-pipeline"}  # fmt: skip
    assert set(paths) - known <= HOUSEKEEPING
    # Lease by lease: Vault names them, we name their digests.
    leased = [entry["response"]["secret"]["lease_id"] for entry in said
              if entry["request"]["path"] == database]  # fmt: skip
    digests = ["sha256:" + hashlib.sha256(lease.encode()).hexdigest() for lease in leased]
    assert digests == [
        event["lease"]["id"] for event in told
        if event["act"] == "lease.grant" and event["lease"]["path"] == database
    ]  # fmt: skip
    assert sorted(digests) == sorted(
        event["lease"]["id"] for event in told if event["act"] == "lease.revoke"
    )
