"""Each policy of docker/vault allows its job and nothing else, by the real Vault's own word.

Every role tries every operation of one table with a token of its own.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import pytest

from dags_examples.demo.vault_api import VaultAnswerError
from tests.servers import vault_setup

CONTEXT = base64.b64encode(b"one file").decode()
SECRET = base64.b64encode(b"a file key").decode()
DENIED = "1 error occurred:\n\t* permission denied"

# What it is called, and how it is asked; `{…}` is filled in with what the bench made for it.
OPERATIONS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "wrap with data": (
        "POST", "transit/encrypt/data", {"plaintext": SECRET, "context": CONTEXT}),
    "wrap with data, in a batch": (
        "POST", "transit/encrypt/data",
        {"batch_input": [{"plaintext": SECRET, "context": CONTEXT}] * 2}),
    "wrap with another key": (
        "POST", "transit/encrypt/other-data", {"plaintext": SECRET, "context": CONTEXT}),
    "wrap with a key that is not there": (
        "POST", "transit/encrypt/no-such", {"plaintext": SECRET, "context": CONTEXT}),
    "unwrap with data": (
        "POST", "transit/decrypt/data", {"ciphertext": "{wrapped}", "context": CONTEXT}),
    "unwrap with another key": (
        "POST", "transit/decrypt/other-data", {"ciphertext": "{foreign}", "context": CONTEXT}),
    "rewrap with data": (
        "POST", "transit/rewrap/data", {"ciphertext": "{wrapped}", "context": CONTEXT}),
    "rewrap with another key": (
        "POST", "transit/rewrap/other-data", {"ciphertext": "{foreign}", "context": CONTEXT}),
    "ask for a data key in clear": (
        "POST", "transit/datakey/plaintext/data", {"context": CONTEXT}),
    "ask for a wrapped data key": ("POST", "transit/datakey/wrapped/data", {"context": CONTEXT}),
    "sign with pipeline": ("POST", "transit/sign/pipeline", {"input": SECRET}),
    "sign with another key": ("POST", "transit/sign/other-signer", {"input": SECRET}),
    "authenticate with data": ("POST", "transit/hmac/data", {"input": SECRET}),
    "read facts of data": ("GET", "transit/keys/data", None),
    "read facts of pipeline": ("GET", "transit/keys/pipeline", None),
    "read facts of another key": ("GET", "transit/keys/other-data", None),
    "list keys": ("LIST", "transit/keys", None),
    "rotate data": ("POST", "transit/keys/data/rotate", {}),
    "rotate pipeline": ("POST", "transit/keys/pipeline/rotate", {}),
    "rotate another key": ("POST", "transit/keys/other-data/rotate", {}),
    "set the oldest version of data": (
        "POST", "transit/keys/data/config", {"min_decryption_version": 1}),
    "set the oldest version of another key": (
        "POST", "transit/keys/other-data/config", {"min_decryption_version": 1}),
    "make data exportable": ("POST", "transit/keys/data/config", {"exportable": True}),
    "make data exportable, hidden in a good wish": (
        "POST", "transit/keys/data/config", {"min_decryption_version": 1, "exportable": True}),
    "make data deletable": ("POST", "transit/keys/data/config", {"deletion_allowed": True}),
    "allow backups of data": ("POST", "transit/keys/data/config", {"allow_plaintext_backup": True}),
    "let data rotate itself": ("POST", "transit/keys/data/config", {"auto_rotate_period": "1h"}),
    "export data": ("GET", "transit/export/encryption-key/data", None),
    "back data up": ("GET", "transit/backup/data", None),
    "drop versions of data": ("POST", "transit/keys/data/trim", {"min_available_version": 1}),
    "delete data": ("DELETE", "transit/keys/data", None),
    "make a key": ("POST", "transit/keys/new-key", {"derived": True}),
    "allow keys by typo": ("POST", "transit/config/keys", {"disable_upsert": False}),
    "lease reader": ("GET", "database/creds/reader", None),
    "lease writer": ("GET", "database/creds/writer", None),
    "read how reader is made": ("GET", "database/roles/reader", None),
    "change how reader is made": (
        "POST", "database/roles/reader", {"db_name": "postgres", "creation_statements": ["x"]}),
    "read how the database is reached": ("GET", "database/config/postgres", None),
    "renew a lease": ("POST", "sys/leases/renew", {"lease_id": "{lease}"}),
    "revoke a lease": ("POST", "sys/leases/revoke", {"lease_id": "{lease}", "sync": True}),
    "revoke all leases of reader": ("POST", "sys/leases/revoke-prefix/database/creds/reader", {}),
    "look a lease up": ("POST", "sys/leases/lookup", {"lease_id": "{lease}"}),
    "list leases": ("LIST", "sys/leases/lookup/database/creds/reader", None),
    "read a secret of pipelines": ("GET", "kv/data/pipelines/mail", None),
    "read another secret": ("GET", "kv/data/people/salaries", None),
    "list secrets": ("LIST", "kv/metadata/pipelines", None),
    "write a secret": ("POST", "kv/data/pipelines/mail", {"data": {"word": "x"}}),
    "delete a secret": ("DELETE", "kv/data/pipelines/mail", None),
    "look at its token": ("GET", "auth/token/lookup-self", None),
    "renew its token": ("POST", "auth/token/renew-self", {}),
    "end its token": ("POST", "auth/token/revoke-self", {}),
    "make a token": ("POST", "auth/token/create", {}),
    "look a token up": ("POST", "auth/token/lookup-accessor", {"accessor": "{accessor}"}),
    "end another token": ("POST", "auth/token/revoke-accessor", {"accessor": "{accessor}"}),
    "list tokens": ("LIST", "auth/token/accessors", None),
    "list audit devices": ("GET", "sys/audit", None),
    "remove the audit device": ("DELETE", "sys/audit/file", None),
    "add an audit device": (
        "POST", "sys/audit/other", {"type": "file", "options": {"file_path": "discard"}}),
    "find a value in the audit log": ("POST", "sys/audit-hash/file", {"input": "x"}),
    "list engines": ("GET", "sys/mounts", None),
    "add an engine": ("POST", "sys/mounts/more", {"type": "kv"}),
    "list ways to log in": ("GET", "sys/auth", None),
    "add a way to log in": ("POST", "sys/auth/more", {"type": "userpass"}),
    "list policies": ("LIST", "sys/policies/acl", None),
    "read a policy": ("GET", "sys/policies/acl/signer", None),
    "change a policy": ("PUT", "sys/policies/acl/signer", {"policy": 'path "*" {}'}),
    "ask for a secret id": ("POST", "auth/approle/role/policies/secret-id", {}),
    "seal Vault": ("PUT", "sys/seal", {}),
    "keep a secret of its own": ("POST", "cubbyhole/note", {"word": "x"}),
}  # fmt: skip

OWN_TOKEN = {"look at its token", "renew its token", "end its token"}
ALLOWED = {
    "pipeline-writer": OWN_TOKEN | {
        "wrap with data", "wrap with data, in a batch", "read facts of data"},
    "pipeline-reader": OWN_TOKEN | {"unwrap with data", "read facts of data"},
    "rotation": OWN_TOKEN | {
        "rewrap with data", "rotate data", "rotate pipeline", "set the oldest version of data",
        "read facts of data", "read facts of pipeline"},
    "signer": OWN_TOKEN | {"sign with pipeline", "read facts of pipeline"},
    "auditor": OWN_TOKEN | {
        "read facts of data", "read facts of pipeline", "read facts of another key", "list keys",
        "look a lease up", "list leases", "look a token up", "list tokens", "list audit devices",
        "find a value in the audit log", "list engines", "list ways to log in", "list policies",
        "read a policy"},
    "task-leases": OWN_TOKEN | {
        "lease reader", "renew a lease", "revoke a lease", "read a secret of pipelines"},
}  # fmt: skip


@dataclass
class Bench:
    """The real Vault with all that the operations need."""

    vault: Any
    made: dict[str, str] = field(default_factory=dict)

    def ask(self, operation, token):
        method, path, body = OPERATIONS[operation]
        return self.vault.api(method, path, self.filled(body), token=token)

    def refusal(self, operation, token):
        try:
            self.ask(operation, token)
        except VaultAnswerError as error:
            return error.status, error.errors[-1].strip()
        return 200, "allowed"

    def filled(self, value):
        if isinstance(value, dict):
            return {name: self.filled(each) for name, each in value.items()}
        return self.made[value.strip("{}")] if str(value).startswith("{") else value


@pytest.fixture(scope="module")
def prepared(vault, vault_database):
    bench = Bench(vault)
    vault_database.make_role("writer", "1m", "2m")
    vault_setup.approle(vault, "policies")
    vault_setup.kv(vault, {"pipelines/mail": {"word": "a"}, "people/salaries": {"word": "b"}})
    for name in ("data", "other-data"):
        vault_setup.transit_key(vault, name)
    for name in ("pipeline", "other-signer"):
        vault_setup.transit_key(vault, name, "ed25519")
    for name in ALLOWED:
        vault_setup.policy(vault, name)
    for name, key in (("wrapped", "data"), ("foreign", "other-data")):
        asked = {"plaintext": SECRET, "context": CONTEXT}
        answer = vault.api("POST", f"transit/encrypt/{key}", asked)
        bench.made[name] = answer["data"]["ciphertext"]
    return bench


@pytest.fixture
def bench(prepared):
    """The bench, without what an operation left."""
    bystander = vault_setup.token(prepared.vault)
    found = prepared.vault.api("POST", "auth/token/lookup", {"token": bystander})
    prepared.made["accessor"] = found["data"]["accessor"]
    prepared.made["lease"] = prepared.vault.api("GET", "database/creds/reader")["lease_id"]
    yield prepared
    vault_setup.revoke(prepared.vault, bystander)
    prepared.vault.api("PUT", "sys/leases/revoke-prefix/database/creds", {"sync": True})


@pytest.fixture
def holder(bench):
    """Makes tokens for the holder of a policy, and of no other."""
    made = []

    def make(policy):
        made.append(vault_setup.token(bench.vault, policy))
        return made[-1]

    yield make
    for token in made:
        vault_setup.revoke(bench.vault, token)


@pytest.mark.parametrize(
    ("role", "operation"),
    [(role, operation) for role, may in ALLOWED.items() for operation in sorted(may)],
    ids=lambda text: text.replace(" ", "-"),
)
def test_a_role_can_do_its_job(bench, holder, role, operation):
    answer = bench.ask(operation, holder(role))

    assert answer == {} or answer.get("data") or answer.get("auth") or answer.get("lease_id")


@pytest.mark.parametrize("role", ALLOWED)
def test_a_role_can_do_nothing_else(bench, holder, role):
    token = holder(role)
    others = OPERATIONS.keys() - ALLOWED[role]

    answers = {operation: bench.refusal(operation, token) for operation in others}

    assert len(answers) > 40
    assert {what: said for what, said in answers.items() if said != (403, DENIED)} == {}
    # It was the policy that denied, not a token that had ended meanwhile.
    assert bench.ask("look at its token", token)["data"]["policies"] == [role]


def test_every_operation_is_somebodys_or_nobodys_by_name():
    assert set().union(*ALLOWED.values()) <= OPERATIONS.keys()


def test_what_is_denied_to_all_works_for_who_may(bench):
    """The table asks for things that exist: a denial is not a wrong address."""
    harmless = (
        "wrap with another key", "unwrap with another key", "rewrap with another key",
        "ask for a data key in clear", "ask for a wrapped data key", "sign with another key",
        "authenticate with data", "lease writer", "read how reader is made",
        "read how the database is reached", "read another secret", "list secrets",
        "write a secret", "ask for a secret id", "rotate another key",
        "set the oldest version of another key",
    )  # fmt: skip

    answers = {operation: bench.ask(operation, None) for operation in harmless}

    assert [operation for operation, answer in answers.items() if answer is None] == []


def test_rotation_moves_wrapped_keys_it_cannot_open(bench, holder):
    vault, writer, reader = bench.vault, holder("pipeline-writer"), holder("pipeline-reader")
    rotation = holder("rotation")
    asked = {"plaintext": SECRET, "context": CONTEXT}
    old = vault.api("POST", "transit/encrypt/data", asked, token=writer)["data"]["ciphertext"]

    vault.api("POST", "transit/keys/data/rotate", {}, token=rotation)
    order = {"ciphertext": old, "context": CONTEXT}
    new = vault.api("POST", "transit/rewrap/data", order, token=rotation)["data"]["ciphertext"]
    latest = vault.api("GET", "transit/keys/data", token=rotation)["data"]["latest_version"]
    order = {"min_decryption_version": latest}
    vault.api("POST", "transit/keys/data/config", order, token=rotation)

    assert new.startswith(f"vault:v{latest}:")
    opened = {"ciphertext": new, "context": CONTEXT}
    answer = vault.api("POST", "transit/decrypt/data", opened, token=reader)
    assert answer["data"]["plaintext"] == SECRET
    with pytest.raises(VaultAnswerError, match="version is disallowed by policy"):
        vault.api("POST", "transit/decrypt/data", opened | {"ciphertext": old}, token=reader)
    with pytest.raises(VaultAnswerError, match="permission denied"):
        vault.api("POST", "transit/decrypt/data", opened, token=rotation)
    # For the tests that come after.
    vault.api("POST", "transit/keys/data/config", {"min_decryption_version": 1})
