"""KV engines of a real Vault: what is there, what is not, and what must not pass for that."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.kv import KvEngine
from airflow_secure_ml.adapters.vault.logins import TokenLogin
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError, ServiceError, ServiceRefusedError
from tests.adapters.vault.responder import Responder, Said
from tests.servers import vault_setup

POLICY = """
path "kv-two/data/seen/*" { capabilities = ["read"] }
path "kv-two/seen/*" { capabilities = ["read"] }
path "kv-one/seen/*" { capabilities = ["read"] }
path "kv-one/data/*" { capabilities = ["read"] }
path "kv-none/*" { capabilities = ["read"] }
"""


@pytest.fixture(scope="module")
def client(vault):
    vault_setup.enable_engine(vault, "kv", "kv-two", version="2")
    vault_setup.enable_engine(vault, "kv", "kv-one", version="1")
    held = vault_setup.token(vault, vault_setup.policy(vault, "kv-reading", POLICY))
    server = VaultServer(url=vault.url, ca=str(vault.ca), deadline_s=5.0)
    made = VaultClient(server, TokenLogin(token=Secret(held)))
    yield made
    vault_setup.revoke(vault, held)


@pytest.fixture
def two(client):
    return KvEngine(client, version=2)


@pytest.fixture
def one(client):
    return KvEngine(client, version=1)


def put(vault, path, **fields):
    vault.api("POST", f"kv-two/data/seen/{path}", {"data": fields})


def test_a_secret_comes_with_what_is_written_beside_it(vault, two):
    put(vault, "a", password="p", nested={"b": [1]})
    vault.api("POST", "kv-two/metadata/seen/a", {"custom_metadata": {"dags": "churn"}})

    found = two.read("kv-two", "seen/a")

    assert found.fields == {"password": "p", "nested": {"b": [1]}}
    assert found.metadata == {"dags": "churn"}


def test_the_newest_version_is_read(vault, two):
    put(vault, "b", value="1")
    put(vault, "b", value="2")

    assert two.read("kv-two", "seen/b").fields == {"value": "2"}


def test_version_1_has_nothing_beside_it(vault, one):
    vault.api("POST", "kv-one/seen/a", {"value": "x"})

    found = one.read("kv-one", "seen/a")

    assert (found.fields, found.metadata) == ({"value": "x"}, {})


@pytest.mark.parametrize("name", ["blank name", "ümlaut", "100%", "a?b", "a#b", "deep/er", "a;b"])
def test_any_name_is_a_path_of_its_own(vault, two, name):
    from urllib.parse import quote

    put(vault, quote(name), value=name)

    assert two.read("kv-two", f"seen/{name}").fields == {"value": name}


def test_nothing_there_and_deleted_and_destroyed_are_absent(vault, two, one):
    put(vault, "deleted", value="x")
    vault.api("DELETE", "kv-two/data/seen/deleted")
    put(vault, "destroyed", value="x")
    vault.api("POST", "kv-two/destroy/seen/destroyed", {"versions": [1]})

    assert two.read("kv-two", "seen/never") is None
    assert two.read("kv-two", "seen/deleted") is None
    assert two.read("kv-two", "seen/destroyed") is None
    assert one.read("kv-one", "seen/never") is None


def test_what_is_not_allowed_is_no_absence(two):
    with pytest.raises(ServiceRefusedError) as caught:
        two.read("kv-two", "other/a")

    assert caught.value.reason == "permission denied"


def test_no_engine_at_the_mount_is_no_absence(one):
    with pytest.raises(ServiceRefusedError) as caught:
        one.read("kv-none", "a")

    assert caught.value.reason == "nothing at that path"


def test_an_engine_of_the_other_version_is_no_absence(vault, client):
    put(vault, "c", value="x")

    with pytest.raises(ServiceRefusedError) as caught:
        KvEngine(client, version=1).read("kv-two", "seen/c")

    assert caught.value.reason == "nothing at that path"


def test_version_1_asked_as_version_2_is_no_absence(vault, two):
    vault.api("POST", "kv-one/data/c", {"value": "x"})

    with pytest.raises(ConfigurationError, match="KV version 1, and was asked as one of version 2"):
        two.read("kv-one", "d")


def test_the_version_is_looked_at_once(vault, client):
    engine = KvEngine(client, version=2)
    path = "sys/internal/ui/mounts/kv-two"
    before = sum(one["request"]["path"] == path for one in vault.audited("request"))

    for number in range(3):
        assert engine.read("kv-two", f"seen/never {number}") is None

    after = sum(one["request"]["path"] == path for one in vault.audited("request"))
    assert after == before + 1


ANSWERS_OF_OTHERS = {
    "a page": Said(status=404, body=(b"<html>default backend - 404</html>",)),
    "an empty page": Said(status=404, body=(b"",)),
    "an empty object": Said(status=404, body=(b"{}",)),
    "no such route": Said(status=404, body=(b'{"errors": ["404 page not found"]}',)),
    "another api": Said(status=404, body=(b'{"error": "not found"}',)),
    "nothing, gladly": Said(status=200, body=(b"",)),
    "an object, gladly": Said(status=200, body=(b"{}",)),
    "no content": Said(status=204, body=()),
}
# Of version 1 they would be secrets with such fields.
NO_SECRETS_OF_VERSION_2 = {
    "no data": Said(status=200, body=(b'{"data": {"data": null, "metadata": {}}}',)),
    "text for data": Said(status=200, body=(b'{"data": {"data": "x"}}',)),
}


def read_from(answer, version):
    with Responder(answer) as responder:
        server = VaultServer(url=responder.url, allow_http=True, deadline_s=0.3)
        engine = KvEngine(VaultClient(server, TokenLogin(token=Secret("t"))), version=version)
        return engine.read("kv", "a")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("said", ANSWERS_OF_OTHERS.values(), ids=ANSWERS_OF_OTHERS.keys())
def test_what_somebody_else_on_the_way_answers_is_no_absence(said, version):
    with pytest.raises(ServiceError):
        read_from(lambda asked: said, version)


@pytest.mark.parametrize(
    "said", NO_SECRETS_OF_VERSION_2.values(), ids=NO_SECRETS_OF_VERSION_2.keys()
)
def test_an_answer_without_a_secret_is_no_absence(said):
    with pytest.raises(ServiceRefusedError, match="request not accepted"):
        read_from(lambda asked: said, 2)


def test_a_gateway_that_lets_only_secrets_through_is_no_reason_to_deny():
    def answer(asked):
        nothing = asked.path.startswith("/v1/kv/")
        return Said(status=404 if nothing else 403, body=(b'{"errors": []}',))

    assert read_from(answer, 2) is None


@pytest.mark.parametrize(
    "path",
    ["../kv-one/seen/a", "seen/../seen/a", "seen/./a", "seen//a", "/seen/a", "seen/a/", "", "a\n",
     "seen/a\0", "seen/\udce4", "x" * 1025],
    ids=ascii,
)  # fmt: skip
def test_a_path_that_leads_elsewhere_is_never_sent(two, path):
    with pytest.raises(ServiceRefusedError, match="not in its plain form") as caught:
        two.read("kv-two", path)

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1200
