"""What the Vault demo sets up gives each role what it needs and nothing else, on real servers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from dags_examples.demo.postgres_server import RunningPostgres, find_postgres
from dags_examples.demo.vault_api import VaultAnswerError
from dags_examples.demo.vault_contents import GIVEN, POLICIES, fill
from dags_examples.demo.vault_server import RunningVault

pytestmark = pytest.mark.postgres


@dataclass
class Place:
    vault: Any
    postgres: Any
    connections: dict[str, Any]

    def lease(self, role):
        """A login of a role, as the database takes it, and what ends it."""
        answer = self.vault.api("GET", f"database/creds/{role}")
        login = {"user": answer["data"]["username"], "password": answer["data"]["password"]}
        return login, answer["lease_id"]

    def end(self, lease):
        self.vault.api("PUT", "sys/leases/revoke", {"lease_id": lease, "sync": True})


@pytest.fixture(scope="module")
def place(vault_binary, tmp_path_factory):
    folder = tmp_path_factory.mktemp("contents")
    with (
        RunningVault(binary=vault_binary, folder=folder / "vault") as vault,
        RunningPostgres(binaries=find_postgres(), folder=folder / "postgres") as postgres,
    ):
        texts = fill(vault, postgres)
        yield Place(vault, postgres, {name: json.loads(text) for name, text in texts.items()})


def test_what_a_loader_makes_stays_when_its_login_goes_and_a_reader_sees_it(place):
    loader, lease = place.lease("loader")
    place.postgres.query("CREATE TABLE visits AS SELECT 7 AS n", **loader)
    place.end(lease)

    reader, lease = place.lease("reader")

    assert place.postgres.query("SELECT n FROM visits", **reader) == [(7,)]
    place.end(lease)
    assert place.postgres.logins() == ["vault"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (n int)",
        "INSERT INTO kept VALUES (8)",
        "DROP TABLE kept",
        "SET ROLE warehouse_owner",
        "CREATE ROLE mine LOGIN",
    ],
    ids=["makes", "writes", "drops", "becomes-the-owner", "makes-a-login"],
)
def test_a_reader_only_reads(place, statement):
    loader, loading = place.lease("loader")
    place.postgres.query("CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS n", **loader)
    reader, reading = place.lease("reader")

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.postgres.query(statement, **reader)

    for lease in (loading, reading):
        place.end(lease)


def test_the_connections_own_login_is_none(place):
    warehouse = place.connections["AIRFLOW_CONN_WAREHOUSE"]

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        place.postgres.query("SELECT 1", user=warehouse["login"], password=warehouse["password"])


def test_the_secret_id_stands_in_a_file_of_its_owners_alone(place):
    connection = place.connections["AIRFLOW_CONN_VAULT_DEFAULT"]
    path = place.vault.folder / "airflow-secret-id"

    assert connection["extra"]["secret_id_path"] == str(path)
    assert path.read_text() not in json.dumps(place.connections)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_task_of_the_demo_gets_the_policies_of_the_project_and_no_other(place):
    role_id = place.connections["AIRFLOW_CONN_VAULT_DEFAULT"]["login"]
    secret_id = (place.vault.folder / "airflow-secret-id").read_text()
    order = {"role_id": role_id, "secret_id": secret_id}

    made = place.vault.api("POST", "auth/approle/login", order, token="")["auth"]

    assert sorted(made["policies"]) == sorted(GIVEN)
    assert made["lease_duration"] == 60
    for name in GIVEN:
        found = place.vault.api("GET", f"sys/policies/acl/{name}")["data"]["policy"]
        assert found == (POLICIES / f"{name}.hcl").read_text()
    place.vault.api("POST", "auth/token/revoke-self", {}, token=made["client_token"])


def test_who_may_load_may_nothing_else_by_that(place):
    order = {"policies": ["task-loading"], "no_default_policy": True, "ttl": "60s"}
    token = place.vault.api("POST", "auth/token/create", order)["auth"]["client_token"]
    others = (
        ("GET", "database/creds/reader"),
        ("GET", "database/roles/loader"),
        ("POST", "database/roles/loader"),
        ("GET", "kv/data/pipelines/partner"),
        ("POST", "transit/decrypt/data"),
        ("LIST", "sys/leases/lookup/database/creds/loader"),
        ("POST", "auth/token/create"),
    )

    found = place.vault.api("GET", "database/creds/loader", token=token)
    refused = []
    for method, path in others:
        with pytest.raises(VaultAnswerError) as denied:
            place.vault.api(method, path, {} if method == "POST" else None, token=token)
        refused.append(denied.value.status)

    assert found["data"]["username"].startswith("v-")
    assert refused == [403] * len(others)
    place.vault.api("POST", "auth/token/revoke", {"token": token})
