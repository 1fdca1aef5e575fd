"""Where a connection comes from, with Airflow and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError, ServiceRefusedError
from airflow_secure_ml.hooks.connections import (
    ConnectionFields,
    find_connection,
    parse_connection,
)

CANARY = "canary-4711"
URIS = [
    "vault-secure-ml://vault.example.org",
    "vault-secure-ml://vault.example.org:8200",
    "vault-secure-ml://:hvs.token@vault.example.org:8200/?namespace=teams%2Fml&allow_http=true",
    "vault-secure-ml://role%40id:secret%2Fid%3A%40@vault.example.org/?auth_type=approle",
    "vault-secure-ml://https://vault.example.org:8200/?ca=%2Fetc%2Fca.pem",
    "vault-secure-ml://https://role:secret@vault.example.org%3A8200/?auth_type=approle",
    "vault://user:password@host:8200/mount?kv_engine_version=1&auth_type=userpass",
    "vaults://user:@host:8200/a%2Fb",
    "http://host:80",
    "vault://:token@host/?__extra__=%7B%22client_kwargs%22%3A+%7B%22namespace%22%3A+%22a%22%7D%7D",
    "vault://host/?empty=",
]


def shown(fields):
    password = None if fields.password is None else fields.password.reveal()
    return (
        fields.conn_type,
        fields.host,
        fields.port,
        fields.schema,
        fields.login,
        password,
        dict(fields.extra),
    )


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_means_what_airflow_makes_of_it(uri):
    from airflow.sdk.definitions.connection import Connection

    wanted = ConnectionFields.of("x", Connection(conn_id="x", uri=uri))

    assert shown(parse_connection("x", uri)) == shown(wanted)


@pytest.mark.parametrize(
    "found",
    [
        {"conn_type": "vault_secure_ml", "host": "https://v:8200", "password": "hvs.token"},
        {"conn_type": "vault-secure-ml", "host": "v", "port": "8200", "extra": {"ca": "/ca.pem"}},
        {"conn_type": "vault", "host": "v", "login": "", "extra": '{"use_tls": true}'},
    ],
    ids=["plain", "port", "extra as text"],
)
def test_json_means_what_airflow_makes_of_it(found):
    from airflow.sdk.definitions.connection import Connection

    text = json.dumps(found)
    wanted = ConnectionFields.of("x", Connection.from_json(text, conn_id="x"))

    assert shown(parse_connection("x", text)) == shown(wanted)


@pytest.mark.parametrize(
    "text",
    [
        f"{{{CANARY}",
        f"vault-secure-ml:{CANARY}",
        f"vault-secure-ml://:{CANARY}@host:port",
        json.dumps({"conn_type": "vault", "port": CANARY}),
        json.dumps({"conn_type": "vault", "extra": f"{{{CANARY}"}),
        json.dumps({"conn_type": "vault", "extra": f'["{CANARY}"]'}),
        f"vault-secure-ml://:x@host/?__extra__={CANARY}",
        f"vault-secure-ml://[{CANARY}",
    ],
)
def test_what_cannot_be_read_is_refused_and_not_shown(text):
    with pytest.raises(ConfigurationError, match="connection x") as raised:
        parse_connection("x", text)

    assert CANARY not in str(raised.value)
    # What urllib and json said quotes the text.
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


class Broken:
    conn_type, host, port, schema, login, password = "vault_secure_ml", "h", None, "", "", CANARY

    def __init__(self, extra):
        self.extra = extra


@pytest.mark.parametrize("extra", ["{", "[]", '"text"', "7"])
def test_an_extra_that_cannot_be_read_is_not_taken_for_none(extra):
    with pytest.raises(ConfigurationError, match="its extra is no JSON object"):
        ConnectionFields.of("x", Broken(extra))


def test_no_field_that_may_be_secret_is_shown():
    fields = ConnectionFields.of("x", Broken(json.dumps({"jwt_token": CANARY})))

    assert CANARY not in repr(fields)
    assert fields.password == Secret(CANARY)


WITHOUT_AIRFLOW = """
import sys
from airflow_secure_ml.hooks.vault import vault_client
from airflow_secure_ml.errors import ConfigurationError
try:
    print(vault_client(sys.argv[1]).server.url)
except ConfigurationError as error:
    print(error)
print([name for name in sys.modules if name.split(".")[0] == "airflow"])
"""


def without_airflow(conn_id, **environment):
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_AIRFLOW, conn_id],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "vault-secure-ml://:token@vault.example.org:8200",
        json.dumps(
            {
                "conn_type": "vault_secure_ml",
                "host": "vault.example.org",
                "port": 8200,
                "password": "token",
            }
        ),
    ],
    ids=["uri", "json"],
)
def test_the_console_script_needs_no_airflow(text):
    said = without_airflow("vault.default", **{"AIRFLOW_CONN_VAULT.DEFAULT": text})

    assert said == ["https://vault.example.org:8200", "[]"]


def test_the_console_script_tells_how_to_define_a_connection():
    message, _ = without_airflow("vault_nowhere")

    assert "connection vault_nowhere: not found" in message
    assert "AIRFLOW_CONN_VAULT_NOWHERE" in message
    assert "airflow secure-ml" in message


@pytest.fixture
def airflow_loaded(monkeypatch):
    import airflow.sdk.configuration  # noqa: F401 - what tells that Airflow is there

    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")


def test_airflows_own_connections_are_found(airflow_loaded, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_VAULT_HERE", "vault-secure-ml://:token@vault.example.org")

    found = find_connection("vault_here")

    assert (found.conn_type, found.host) == ("vault_secure_ml", "vault.example.org")


def test_a_connection_that_airflow_does_not_know_is_told(airflow_loaded):
    with pytest.raises(ConfigurationError) as raised:
        find_connection("vault_nowhere")

    text = str(raised.value)
    assert "connection vault_nowhere: Airflow knows none of that id" in text
    assert all(way in text for way in ("Admin, Connections", "AIRFLOW_CONN_VAULT_NOWHERE"))


def test_a_denial_of_a_secrets_back_end_is_a_refusal(airflow_loaded, monkeypatch):
    from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied
    from airflow.sdk.execution_time import supervisor

    class Denying:
        def get_connection(self, conn_id):
            raise AirflowSecretsBackendAccessDenied(CANARY)

    # Patched: the place where Airflow itself asks which back ends there are.
    monkeypatch.setattr(supervisor, "ensure_secrets_backend_loaded", lambda: [Denying()])

    with pytest.raises(ServiceRefusedError, match="AirflowSecretsBackendAccessDenied") as raised:
        find_connection("vault_denied")

    assert CANARY not in str(raised.value)
