"""The back end over a real Vault, beside the official one, on the same secrets."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import pytest

from airflow_secure_ml.recording import use_sink
from airflow_secure_ml.testing.ports import MemoryAudit
from tests.servers import vault_setup

POLICY = """
path "airflow/data/connections/*" { capabilities = ["read"] }
path "airflow/data/shared/*" { capabilities = ["read"] }
path "airflow/data/variables/*" { capabilities = ["read"] }
path "airflow/data/config/*" { capabilities = ["read"] }
path "airflow/data/+" { capabilities = ["read"] }
path "airflow1/*" { capabilities = ["read"] }
path "airflow/data/connections/forbidden" { capabilities = ["deny"] }
path "airflow/data/variables/forbidden*" { capabilities = ["deny"] }
"""
LOGIN = "auth/approle/login"
_numbers = itertools.count(1)


def denied(ask, match=None):
    """The denial that asking ends in."""
    from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied

    with pytest.raises(AirflowSecretsBackendAccessDenied, match=match) as caught:
        ask()
    return caught.value


class Place:
    """A Vault with secrets, and the back ends that read them."""

    def __init__(self, vault, audit):
        self.vault, self.audit, self.official_ones = vault, audit, []
        vault_setup.enable_engine(vault, "kv", "airflow", version="2")
        vault_setup.enable_engine(vault, "kv", "airflow1", version="1")
        vault_setup.policy(vault, "airflow-secrets", POLICY)
        self.role_id, self.secret_id = vault_setup.approle(
            vault, f"airflow-{next(_numbers)}", "airflow-secrets"
        )
        self._from = sum(1 for _ in vault.audited("request"))

    @property
    def facts(self):
        return self.audit.facts

    def put(self, path, fields, **metadata):
        self.vault.api("POST", f"airflow/data/{path}", {"data": fields})
        if metadata:
            self.vault.api("POST", f"airflow/metadata/{path}", {"custom_metadata": metadata})

    def put1(self, path, fields):
        self.vault.api("POST", f"airflow1/{path}", fields)

    def kwargs(self, **more):
        given = {
            "url": self.vault.url,
            "auth_type": "approle",
            "role_id": self.role_id,
            "secret_id": self.secret_id,
            "verify": str(self.vault.ca),
            "mount_point": "airflow",
        }
        return given | more

    def ours(self, **more):
        from airflow.sdk.definitions.connection import Connection

        from airflow_secure_ml.secrets import VaultBackend

        made = VaultBackend(**self.kwargs(**more))
        made._set_connection_class(Connection)
        return made

    def official(self, **more):
        from airflow.providers.hashicorp.secrets.vault import VaultBackend
        from airflow.sdk.definitions.connection import Connection

        made = VaultBackend(**self.kwargs(**more))
        made._set_connection_class(Connection)
        self.official_ones.append(made)
        return made

    def asked(self, path):
        """How often Vault was asked to read, or to log in, since this place was made."""
        entries = itertools.islice(self.vault.audited("request"), self._from, None)
        wanted = (path, "update" if path == LOGIN else "read")
        return sum((e["request"]["path"], e["request"]["operation"]) == wanted for e in entries)

    def close(self):
        from airflow_secure_ml.secrets.answering import forget_answers

        forget_answers()
        for made in self.official_ones:
            client = made.vault_client.__dict__.get("_client")
            if client is not None:
                vault_setup.revoke(self.vault, client.token)


@pytest.fixture
def place(vault):
    audit = MemoryAudit()
    use_sink(audit)
    made = Place(vault, audit)
    yield made
    made.close()
    use_sink(None)


@pytest.fixture
def as_task():
    """Be a task try for the time of a block."""
    from airflow.sdk.execution_time.context import set_current_context

    def enter(dag="churn", task="train", team=None):
        server = SimpleNamespace(dag_run=SimpleNamespace(team_name=team))
        ti = SimpleNamespace(
            dag_id=dag, run_id="r1", task_id=task, map_index=-1, try_number=1, id="ti-1",
            _ti_context_from_server=server,
        )  # fmt: skip
        return set_current_context({"ti": ti})

    return enter


@pytest.fixture
def teams(monkeypatch):
    """An Airflow with teams."""
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")


@pytest.fixture
def chain(monkeypatch):
    """Airflow's own look-ups in a worker, with a static login of the same id behind ours."""
    from airflow.sdk.configuration import clear_secrets_backends_cache
    from airflow.sdk.execution_time import context

    def use(place, **options):
        monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "airflow_secure_ml.secrets.VaultBackend")
        monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND_KWARGS", json.dumps(place.kwargs(**options)))
        for name in ("FORBIDDEN", "WAREHOUSE", "NEVER"):
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", "http://static")
            monkeypatch.setenv(f"AIRFLOW_VAR_{name}", "static")
        clear_secrets_backends_cache()
        return context

    yield use
    clear_secrets_backends_cache()
