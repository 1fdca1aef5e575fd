"""One client for each connection in a process, on the real Vault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError, ServiceRefusedError
from airflow_secure_ml.hooks import connection_warnings
from airflow_secure_ml.hooks import vault as hooks
from airflow_secure_ml.hooks.connections import ConnectionFields
from airflow_secure_ml.hooks.vault import client_of, vault_client
from tests.adapters.vault.client_place import LOGIN, ClientPlace, read_one
from tests.servers import vault_setup
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.vault


@pytest.fixture
def place(vault):
    with ClientPlace(vault) as made:
        yield made


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(hooks, "_clients", {})
    monkeypatch.setattr(connection_warnings, "_said", set())
    monkeypatch.setattr(connection_warnings, "_untold", [])


@pytest.fixture
def told():
    heard = []
    connection_warnings.on_warning(heard.append)
    yield heard
    connection_warnings.on_warning(None)


def fields(place, role, **more):
    extra = {"auth_type": "approle", "ca": str(place.vault.ca)}
    given = {
        "conn_id": "vault_here",
        "conn_type": "vault_secure_ml",
        "host": place.vault.url,
        "login": role.role_id,
        "password": role.secret_id,
        "extra": extra | more.pop("extra", {}),
    }
    return ConnectionFields(**given | more)


def variable(place, role):
    return json.dumps(
        {
            "conn_type": "vault_secure_ml",
            "host": place.vault.url,
            "login": role.role_id,
            "password": role.secret_id.reveal(),
            "extra": {"auth_type": "approle", "ca": str(place.vault.ca)},
        }
    )


def test_a_connection_becomes_one_client_however_many_ask(place, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_VAULT_HERE", variable(place, place.role()))

    with ThreadPoolExecutor(16) as pool:
        clients = set(pool.map(lambda _: vault_client("vault_here"), range(64)))
        (client,) = clients
        found = set(pool.map(lambda _: read_one(client), range(64)))

    assert (found, place.asked(LOGIN)) == ({"first"}, 1)
    client.close()


def test_a_connection_that_is_not_there_is_asked_for_again(place, monkeypatch):
    with pytest.raises(ConfigurationError):
        vault_client("vault_here")
    monkeypatch.setenv("AIRFLOW_CONN_VAULT_HERE", variable(place, place.role()))

    client = vault_client("vault_here")

    assert read_one(client) == "first"
    client.close()


PROCESS = """
import os, sys
from airflow_secure_ml.hooks.vault import vault_client
client = vault_client("vault_here")
client.token()
if "fork" in sys.argv:
    child = os.fork()
    if child == 0:
        vault_client("vault_here").token()
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_process_that_ends_leaves_no_token(place, how):
    before = place.vault.counts().tokens
    environment = {"AIRFLOW_CONN_VAULT_HERE": variable(place, place.role())}

    subprocess.run(
        [sys.executable, "-c", PROCESS, how], env={**os.environ, **environment}, check=True
    )

    assert place.asked(LOGIN) == (2 if how == "fork" else 1)
    assert place.vault.counts().tokens == before


def test_plain_http_is_warned_about_once(place, vault, tmp_path, told, caplog):
    with Proxy.before(vault, tmp_path, plain=True) as plain:
        given = fields(place, place.role(), host=plain.url, extra={"allow_http": True})

        for _ in range(3):
            client = client_of(given)
            assert read_one(client) == "first"
            client.close()

    (warning,) = told
    assert (warning.about, warning.subject) == (
        "Vault is spoken to over plain http",
        "vault_here",
    )
    assert [one.levelname for one in caplog.records if "plain http" in one.message] == ["WARNING"]


def test_https_is_not_warned_about(place, told):
    client = client_of(fields(place, place.role()))

    assert read_one(client) == "first"
    assert told == []
    client.close()


@pytest.fixture
def stolen(place):
    """The role id of a role, and a wrapping token that somebody has used."""
    role_id, _ = vault_setup.approle(place.vault, "wrapped", "kv-reader")
    wrapping = vault_setup.wrapped_secret_id(place.vault, "wrapped")
    place.vault.api("POST", "sys/wrapping/unwrap", token=wrapping)
    return role_id, wrapping


def test_a_wrapped_secret_id_that_somebody_read_raises_an_alarm(place, stolen, told):
    role_id, wrapping = stolen
    given = fields(
        place,
        place.role(),
        login=role_id,
        password=None,
        extra={"wrapped_secret_id": wrapping},
    )
    client = client_of(given)

    for _ in range(2):
        with pytest.raises(ServiceRefusedError, match="wrapping token used or expired"):
            read_one(client)

    (alarm,) = told
    assert (alarm.about, alarm.subject) == (
        "a wrapped secret id is not as it was sent",
        "vault_here",
    )
    assert alarm.because.startswith("wrapping token used or expired")
    assert wrapping not in repr(alarm)


def test_a_refused_login_raises_no_alarm(place, told):
    client = client_of(fields(place, place.role(), password=Secret("wrong")))

    with pytest.raises(ServiceRefusedError):
        read_one(client)

    assert told == []


def test_a_child_goes_on_with_the_secret_id_that_its_parent_unwrapped(place, monkeypatch):
    role_id, _ = vault_setup.approle(place.vault, "wrapped", "kv-reader")
    found = json.loads(variable(place, place.role())) | {"login": role_id, "password": ""}
    wrapping = vault_setup.wrapped_secret_id(place.vault, "wrapped")
    found["extra"]["wrapped_secret_id"] = wrapping
    environment = {"AIRFLOW_CONN_VAULT_HERE": json.dumps(found)}

    subprocess.run(
        [sys.executable, "-c", PROCESS, "fork"], env={**os.environ, **environment}, check=True
    )

    assert (place.asked("sys/wrapping/unwrap"), place.asked(LOGIN)) == (1, 2)
