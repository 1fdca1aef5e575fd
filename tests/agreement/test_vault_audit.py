"""Vault's own audit log and our trail tell the same story, request by request.

Two runs, one of which outlives a term of its lease: what Vault was asked, and what we say.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import Counter

import pytest

from airflow_secure_ml.services.run_plan import Input, LeaseRequest, Output, Plan
from tests.servers import vault_setup
from tests.servers.vault_deployment import VaultDeployment

NAME, WITHIN_S = "agreement", 30.0
DATABASE, KV = f"database/creds/{NAME}", f"kv/data/pipelines/{NAME}"
# Requests, and what the trail calls them.
ACTS = {
    DATABASE: ("lease.grant", DATABASE),
    KV: ("lease.grant", KV),
    "sys/leases/renew": ("lease.renew", DATABASE),
    "sys/leases/revoke": ("lease.revoke", DATABASE),
    f"transit/encrypt/{NAME}-data": ("object.seal", f"{NAME}-data"),
    f"transit/decrypt/{NAME}-data": ("object.open", f"{NAME}-data"),
    f"transit/sign/{NAME}-pipeline": ("object.sign", f"{NAME}-pipeline"),
}
# What is asked beside the acts: getting a token, keeping it, and what a key is like.
HOUSEKEEPING = {
    "auth/approle/login",
    "auth/token/renew-self",
    "auth/token/revoke-self",
    f"transit/keys/{NAME}-data",
    f"transit/keys/{NAME}-pipeline",
}


@pytest.fixture
def deployed(vault, vault_database, tmp_path, monkeypatch):
    vault_database.make_role(NAME, default_ttl="3s", max_ttl="60s")
    vault_setup.kv(vault, {f"pipelines/{NAME}": {"key": "agreed-secret"}})
    with VaultDeployment.make(vault, NAME, tmp_path, monkeypatch) as made:
        yield made


def asked(vault, after):
    """What this deployment's tokens asked Vault, in order."""
    entries = itertools.islice(vault.audited(), after, None)
    return [entry for entry in entries if _role(entry) == NAME]


def _role(entry):
    return ((entry.get("auth") or {}).get("metadata") or {}).get("role_name")


def about(event):
    return event.get("lease", {}).get("path") or event.get("key", {}).get("name")


def test_vaults_audit_log_and_the_trail_agree(deployed, vault, tmp_path):
    uri = deployed.here.canonical(str(tmp_path / "table.csv"))
    before = sum(1 for _ in vault.audited())

    def stay_for_a_renewal(bound):
        assert bound["api"]["key"] == "agreed-secret"
        until = time.monotonic() + WITHIN_S
        while not any(e["request"]["path"] == "sys/leases/renew" for e in asked(vault, before)):
            assert time.monotonic() < until
            time.sleep(0.05)
        bound["table"].write_text("age\n40\n")

    warehouse = LeaseRequest(name="w", path=DATABASE, conn_id="w")
    api = LeaseRequest(name="api", path=KV, conn_id="api")
    output = Output(name="table", uri=uri)
    make = Plan(outputs=(output,), leases=(warehouse, api), dag_id="churn", task_id="make")
    use = Plan(inputs=(Input(name="table", uri=uri),), leases=(warehouse,), dag_id="churn")
    deployed.run("make", make, stay_for_a_renewal)
    deployed.run("use", use, lambda bound: bound["table"].read_text())

    said = asked(vault, before)
    told = [event for event in deployed.events() if event.get("result") == "ok"]
    requests = Counter(entry["request"]["path"] for entry in said)
    acts = Counter((event["act"], about(event)) for event in told)
    # Each request is told of, once, and nothing is told that was not asked.
    assert {path: requests[path] for path in ACTS} == {path: acts[ACTS[path]] for path in ACTS}
    assert set(requests) - ACTS.keys() <= HOUSEKEEPING
    assert (requests[DATABASE], requests[KV], requests["sys/leases/revoke"]) == (2, 1, 2)
    assert requests["sys/leases/renew"] >= 1
    # Lease by lease: Vault's log has their ids, the trail the digests of these.
    ids = [e["response"]["secret"]["lease_id"] for e in said if e["request"]["path"] == DATABASE]
    digests = ["sha256:" + hashlib.sha256(one.encode()).hexdigest() for one in ids]
    granted, revoked = (
        [e["lease"]["id"] for e in told if e["act"] == act and about(e) == DATABASE]
        for act in ("lease.grant", "lease.revoke")
    )
    assert granted == digests
    assert sorted(revoked) == sorted(digests)
