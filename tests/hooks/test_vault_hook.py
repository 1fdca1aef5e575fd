"""The connection type as Airflow shows it, and its Test button."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from airflow_secure_ml.get_provider_info import vault_fields
from airflow_secure_ml.hooks import vault as hooks
from dags_examples.demo.certificates import CertificateAuthority
from tests.adapters.vault.client_place import LOGIN, ClientPlace, read_one
from tests.servers import vault_setup
from tests.servers.proxy import Answer, Proxy

CANARY = "canary-4711"


@pytest.fixture(autouse=True)
def no_clients_of_other_tests(monkeypatch):
    monkeypatch.setattr(hooks, "_clients", {})


@pytest.fixture
def hook():
    from airflow_secure_ml.hooks.vault_hook import VaultHook

    return VaultHook("vault_tried")


@pytest.fixture
def place(vault, vault_proxy):
    # The proxy ends later, so that tokens can be revoked through it.
    with ClientPlace(vault) as made:
        yield made
        vault_proxy.behave()


@pytest.fixture
def connect(place, monkeypatch):
    """Defines the connection that the hook tries."""

    def define(role=None, host=None, **more):
        given = {"conn_type": "vault_secure_ml", "host": host or place.vault.url}
        if role is not None:
            given |= {"login": role.role_id, "password": role.secret_id.reveal()}
        extra = {"auth_type": "approle", "ca": str(place.vault.ca), "deadline_s": 1}
        extra |= more.pop("extra", {})
        monkeypatch.setenv("AIRFLOW_CONN_VAULT_TRIED", json.dumps(given | more | {"extra": extra}))

    return define


def test_a_constructor_reads_nothing(monkeypatch):
    from airflow.sdk import BaseHook

    from airflow_secure_ml.hooks.vault_hook import VaultHook

    def get_connection(conn_id):
        raise AssertionError("a connection was looked up")

    monkeypatch.setattr(BaseHook, "get_connection", get_connection)

    assert VaultHook().vault_conn_id == "vault_default"


@pytest.mark.vault
def test_the_hook_gives_the_client_of_its_connection(place, connect, hook):
    connect(place.role())

    client = hook.get_conn()

    assert read_one(client) == "first"
    assert hook.get_conn() is client
    client.close()


@pytest.mark.vault
def test_it_says_who_one_is_and_leaves_no_token(place, connect, hook):
    before = place.vault.counts().tokens
    connect(place.role("kv-reader", "default"))

    works, said = hook.test_connection()

    assert works, said
    assert said == (
        f"Logged in at {place.vault.url} by approle. It is approle; "
        "policies: default, kv-reader; the token holds 60 s and can be renewed."
    ) or said.endswith("the token holds 59 s and can be renewed.")
    assert place.vault.counts().tokens == before


@pytest.mark.vault
def test_a_token_that_may_not_look_itself_up_is_good(place, connect, hook):
    given = vault_setup.token(place.vault, "kv-reader")
    connect(password=given, extra={"auth_type": "token"})

    works, said = hook.test_connection()

    assert works
    assert said.endswith("The token is good; its policies do not let it look itself up.")
    vault_setup.revoke(place.vault, given)


@pytest.mark.vault
def test_a_root_token_does_not_end(place, connect, hook):
    connect(password=place.vault.root_token, extra={"auth_type": "token"})

    works, said = hook.test_connection()

    assert works
    assert "It is root; policies: root; the token does not end." in said


@pytest.mark.vault
def test_a_wrapping_token_is_looked_at_and_not_used(place, connect, hook):
    role_id, _ = vault_setup.approle(place.vault, "wrapped", "kv-reader")
    wrapping = vault_setup.wrapped_secret_id(place.vault, "wrapped")
    connect(login=role_id, extra={"wrapped_secret_id": wrapping})

    works, said = hook.test_connection()

    assert works
    assert "made for a secret id at approle, for 60 s. It was not used" in said
    assert wrapping not in said
    assert place.asked("sys/wrapping/unwrap") == 0
    client = hook.get_conn()
    assert read_one(client) == "first"
    client.close()


@pytest.mark.vault
def test_a_connection_in_the_clear_says_so(place, connect, hook, vault, tmp_path):
    with Proxy.before(vault, tmp_path, plain=True) as plain:
        connect(place.role(), host=plain.url, extra={"allow_http": True})

        works, said = hook.test_connection()

    assert works
    assert "NOT ENCRYPTED" in said


@pytest.mark.vault
def test_what_is_wrong_is_told(place, connect, hook, vault_proxy, tmp_path):
    other = CertificateAuthority.make(tmp_path / "other.pem")
    good = place.role()
    told = []

    def tell(expected, **given):
        connect(**given)
        works, said = hook.test_connection()
        assert not works
        assert expected in said
        told.append(said)

    tell("login not accepted; what the connection logs in with is wrong", login="x", password="y")
    tell("not issued by a certificate authority", role=good, extra={"ca": str(other.file)})
    tell("expected none but auth_type", role=good, extra={"namepsace": "x"})
    tell("this release supports token", role=good, extra={"auth_type": "github"})
    tell("is not encrypted", role=good, host="http://127.0.0.1:1")
    tell("not reachable", role=good, host="https://127.0.0.1:1")
    vault_proxy.will(Answer(path=LOGIN, status=503, times=99))
    tell("sealed or in maintenance", role=good, host=vault_proxy.url)

    assert not any(good.secret_id.reveal() in text for text in told)


def test_a_connection_that_is_not_there_is_told(hook):
    works, said = hook.test_connection()

    assert not works
    assert "connection vault_tried" in said


@pytest.fixture(scope="module")
def form():
    """The connection type as Airflow's own pages are told of it."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    found = HookMetaService.hook_meta_data()
    (ours,) = (one for one in found if one.connection_type == "vault_secure_ml")
    return ours


def test_airflow_shows_the_form(form):
    assert form.hook_name == "Vault (secure ML)"
    assert form.hook_class_name == "airflow_secure_ml.hooks.vault_hook.VaultHook"
    assert list(form.extra_fields) == list(vault_fields())
    assert form.standard_fields.host.title == "Vault address"
    assert form.standard_fields.url_schema.hidden


def test_airflow_shows_each_field_with_its_label_and_choices(form):
    for name, declared in vault_fields().items():
        shown = form.extra_fields[name]
        assert shown["schema"]["title"] == declared["label"]
        assert shown["description"] == declared["description"]
    assert form.extra_fields["auth_type"]["schema"]["enum"][0] == "token"
    assert form.extra_fields["auth_type"]["value"] == "token"
    assert form.extra_fields["allow_http"]["value"] is False
    assert form.extra_fields["jwt_token"]["schema"]["format"] == "password"


def test_airflow_offers_to_test_it():
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    hook = ProvidersManagerTaskRuntime().hooks["vault_secure_ml"]

    assert hook.connection_testable
    assert hook.connection_id_attribute_name == "vault_conn_id"


@pytest.mark.vault
@pytest.mark.parametrize("where", ["API server", "worker"])
def test_a_connection_of_airflows_own_class_is_tried_as_the_button_does(place, monkeypatch, where):
    if where == "worker":
        from airflow.sdk.definitions.connection import Connection
    else:
        from airflow.models.connection import Connection
    role = place.role("default")
    extra = {"auth_type": "approle", "ca": str(place.vault.ca), "namespace": None}
    connection = Connection(
        conn_id="abcdef",
        conn_type="vault_secure_ml",
        host=place.vault.url,
        login=role.role_id,
        password=role.secret_id.reveal(),
        extra=json.dumps(extra),
    )
    # Where the button is pressed, Airflow puts the form's text into the environment.
    monkeypatch.setenv("AIRFLOW_CONN_ABCDEF", connection.get_uri())

    works, said = connection.test_connection()

    assert (works, said[:12]) == (True, "Logged in at")


@pytest.mark.airflow
@pytest.mark.vault
def test_airflows_command_tries_a_connection_of_the_database(place, tmp_path):
    role = place.role("default")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
    }

    def airflow(*arguments):
        run = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    airflow("db", "migrate")
    connection = {
        "conn_type": "vault_secure_ml",
        "host": place.vault.url,
        "login": role.role_id,
        "password": role.secret_id.reveal(),
        "extra": {"auth_type": "approle", "ca": str(place.vault.ca)},
    }
    file = tmp_path / "connections.json"
    file.write_text(json.dumps({"vault_stored": connection}))
    airflow("connections", "import", str(file))

    assert "Connection success!" in airflow("connections", "test", "vault_stored")
    assert place.asked(LOGIN) == 1
