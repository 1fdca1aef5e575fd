"""The proxy before Vault does to each request what it was told, and nothing to the others."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dags_examples.demo.vault_api import VaultAnswerError
from tests.servers import vault_setup
from tests.servers.proxy import Answer, Cut, Hang, Lose, Proxy


@pytest.fixture
def client(vault, vault_proxy):
    """Vault's interface through the proxy, for the root token."""
    return replace(vault.client(), url=vault_proxy.url)


@pytest.fixture
def connection(vault, vault_proxy):
    """One connection to the proxy; `ask(path)` is one request on it."""
    trusted = ssl.create_default_context(cafile=str(vault.ca))
    made = http.client.HTTPSConnection("127.0.0.1", vault_proxy.port, timeout=30, context=trusted)
    headers = {"X-Vault-Token": vault.root_token}

    def ask(path, method="GET", body=None):
        made.request(method, f"/v1/{path}", body, headers)
        return made.getresponse()

    yield ask
    made.close()


def word(vault, name):
    return vault.api("GET", f"kv/data/{name}")["data"]["data"]["word"]


def test_requests_pass_and_are_counted(vault_proxy, client):
    first = client.call("GET", "sys/mounts")
    client.names("auth/token/accessors")

    assert "cubbyhole/" in first["data"]
    assert vault_proxy.count() == 2
    assert vault_proxy.count("sys/") == vault_proxy.count("auth/", method="LIST") == 1


def test_one_connection_serves_many_requests(vault_proxy, connection):
    answers = [json.loads(connection("sys/health").read()) for _ in range(3)]

    assert [answer["sealed"] for answer in answers] == [False] * 3


def test_an_answer_is_given_as_often_as_told(vault, vault_proxy, client, connection):
    vault_proxy.will(Answer(status=429, headers={"Retry-After": "7"}, times=2))

    first = connection("sys/mounts")
    first.read()
    with pytest.raises(VaultAnswerError, match="429, the proxy says 429"):
        client.call("GET", "sys/mounts")
    passed = client.call("GET", "sys/mounts")

    assert (first.status, first.headers["Retry-After"]) == (429, "7")
    assert "cubbyhole/" in passed["data"]
    assert vault_proxy.count("sys/mounts") == 3


def test_vault_does_not_see_what_the_proxy_answers(vault, vault_proxy, client):
    vault_setup.kv(vault, {"proxy/unseen": {"word": "old"}})
    vault_proxy.will(Answer(status=503))

    with pytest.raises(VaultAnswerError, match="503"):
        client.call("POST", "kv/data/proxy/unseen", {"data": {"word": "new"}})

    assert word(vault, "proxy/unseen") == "old"


def test_a_redirect_names_where_to_go(vault_proxy, connection):
    vault_proxy.will(Answer(status=307, headers={"Location": "https://127.0.0.1:1/v1/x"}))

    answer = connection("sys/mounts")

    assert (answer.status, answer.headers["Location"]) == (307, "https://127.0.0.1:1/v1/x")


def test_only_requests_that_fit_are_touched(vault_proxy, client):
    vault_proxy.will(Answer(status=473, path="sys/mounts"))

    client.call("GET", "sys/auth")
    with pytest.raises(VaultAnswerError, match="473"):
        client.call("GET", "sys/mounts")

    client.call("GET", "sys/mounts")


def test_what_was_not_needed_is_forgotten(vault_proxy, client):
    vault_proxy.will(Answer(status=503, times=100))

    vault_proxy.behave()

    assert "cubbyhole/" in client.call("GET", "sys/mounts")["data"]


@pytest.mark.parametrize("after_bytes", [None, 0, 10], ids="after={}".format)
def test_a_cut_answer_comes_after_vault_did_it(vault, vault_proxy, connection, after_bytes):
    vault_setup.kv(vault, {"proxy/cut": {"word": "old"}})
    vault_proxy.will(Cut(after_bytes=after_bytes))
    body = json.dumps({"data": {"word": "new"}})

    with pytest.raises((http.client.HTTPException, OSError)) as caught:
        connection("kv/data/proxy/cut", "POST", body).read()

    assert word(vault, "proxy/cut") == "new"
    if after_bytes:
        assert len(getattr(caught.value, "partial", b"x" * 10)) == 10


def test_a_lost_request_never_reaches_vault(vault, vault_proxy, client):
    vault_setup.kv(vault, {"proxy/lost": {"word": "old"}})
    vault_proxy.will(Lose())

    with pytest.raises(VaultAnswerError, match="0, "):
        client.call("POST", "kv/data/proxy/lost", {"data": {"word": "new"}})

    assert word(vault, "proxy/lost") == "old"


def test_refused_connections_are_accepted_again_at_the_same_place(vault_proxy, client, connection):
    connection("sys/health").read()

    vault_proxy.refuse()
    with pytest.raises(VaultAnswerError, match="refused"):
        client.call("GET", "sys/mounts")
    with pytest.raises((http.client.HTTPException, OSError)):
        connection("sys/health")
    vault_proxy.accept()

    assert "cubbyhole/" in client.call("GET", "sys/mounts")["data"]


def test_one_that_hangs_keeps_nobody_else_waiting(vault_proxy, client):
    vault_proxy.will(Hang(seconds=600, path="sys/auth"))
    hanging = threading.Thread(
        target=pytest.raises, args=(Exception, client.call, "GET", "sys/auth")
    )
    hanging.start()
    until(lambda: vault_proxy.count("sys/auth"))

    answer = client.call("GET", "sys/mounts")

    assert "cubbyhole/" in answer["data"]
    assert hanging.is_alive()
    vault_proxy.refuse()
    hanging.join(timeout=30)
    assert not hanging.is_alive()


def test_a_slow_answer_is_the_right_one(vault_proxy, client):
    vault_proxy.will(Hang(seconds=0.3))

    began_s = time.monotonic()
    answer = client.call("GET", "sys/mounts")

    assert time.monotonic() - began_s >= 0.3
    assert "cubbyhole/" in answer["data"]


def test_many_threads_pass_at_once(vault_proxy, client):
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: client.call("GET", "sys/health"), range(64)))

    assert all(answer["initialized"] for answer in answers)
    assert vault_proxy.count("sys/health") == 64


def test_who_trusts_another_authority_does_not_speak_to_it(vault_proxy, client, tmp_path):
    from dags_examples.demo.certificates import CertificateAuthority

    other = CertificateAuthority.make(tmp_path / "other.pem")

    with pytest.raises(VaultAnswerError, match="CERTIFICATE_VERIFY_FAILED"):
        replace(client, ca=other.file).call("GET", "sys/mounts")

    assert vault_proxy.count() == 0


def test_a_plain_one_speaks_http(vault, tmp_path):
    with Proxy.before(vault, tmp_path, plain=True) as proxy:
        answer = replace(vault.client(), url=proxy.url).call("GET", "sys/health")

    assert proxy.url.startswith("http://127.0.0.1:")
    assert answer["initialized"] is True


def until(found, seconds=30):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)
