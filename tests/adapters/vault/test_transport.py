"""Requests have an end in time and size, and nothing of the environment goes into them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from email.utils import formatdate

import hvac
import pytest
import requests

from airflow_secure_ml.adapters.vault import transport
from airflow_secure_ml.adapters.vault.failures import failure_of
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.adapters.vault.transport import make_hvac_client, retry_after_s
from airflow_secure_ml.errors import ConfigurationError
from dags_examples.demo.certificates import CertificateAuthority
from tests.adapters.vault.responder import Responder, Said


def client_of(responder, **server):
    return make_hvac_client(VaultServer(url=responder.url, allow_http=True, **server))


def get(client, path="/v1/kv/data/one"):
    return client.adapter.get(path)


def test_a_json_object_comes_back_and_the_connection_is_used_again():
    with Responder(lambda asked: Said(body=[b'{"data": 1}'], length=11)) as vault:
        client = client_of(vault)

        answers = [get(client), get(client), client.adapter.post("/v1/x", json={"a": 1})]

    assert answers == [{"data": 1}] * 3
    assert vault.connections == 1


def test_an_answer_without_a_body_comes_back_and_the_connection_is_used_again():
    with Responder(lambda asked: Said(status=204, body=[], length=0)) as vault:
        client = client_of(vault)

        statuses = [client.adapter.delete("/v1/x").status_code for _ in range(2)]

    assert (statuses, vault.connections) == ([204, 204], 1)


@pytest.mark.parametrize(
    "body",
    [b"<html>log in here</html>", b"[1]", b'"text"', b"null", b"{", b"\xff", b'{"a":' * 100_000],
    ids=["page", "list", "text", "null", "cut", "bytes", "deep"],
)
def test_an_answer_that_is_no_json_object_is_an_error(body):
    with (
        Responder(lambda asked: Said(body=[body], length=len(body))) as vault,
        pytest.raises(requests.exceptions.InvalidJSONError),
    ):
        get(client_of(vault))


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b'{"errors": "text"}', b'{"errors": [1, null, {}]}', b'{"errors": {}}', b""],
    ids=["page", "list", "text", "mixed", "object", "empty"],
)
def test_an_error_of_an_odd_form_is_still_hvacs_error(body):
    with (
        Responder(lambda asked: Said(status=400, body=[body], length=len(body))) as vault,
        pytest.raises(hvac.exceptions.InvalidRequest) as raised,
    ):
        get(client_of(vault))

    assert raised.value.status == 400


def test_hvac_sees_what_a_deleted_secret_says():
    body = json.dumps({"data": {"data": None, "metadata": {"deletion_time": "2026"}}}).encode()
    said = Said(
        status=404, headers={"Content-Type": "application/json"}, body=[body], length=len(body)
    )
    with Responder(lambda asked: said) as vault:
        client = client_of(vault)

        found = client.secrets.kv.v2.read_secret_version(
            "one", mount_point="kv", raise_on_deleted_version=False
        )

    assert found["data"]["metadata"]["deletion_time"] == "2026"


def test_an_answer_larger_than_memory_allows_is_cut_off(monkeypatch):
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 1 << 20)
    sent = []

    def endless():
        for _ in range(1000):
            sent.append(1)
            yield b"x" * (1 << 16)

    with (
        Responder(lambda asked: Said(body=endless())) as vault,
        pytest.raises(requests.exceptions.RequestException, match="too long"),
    ):
        get(client_of(vault))

    assert len(sent) < 500


def test_an_answer_that_trickles_ends_in_time():
    def trickle():
        for _ in range(100):
            time.sleep(0.05)
            yield b" "

    with Responder(lambda asked: Said(body=trickle(), length=100)) as vault:
        client = client_of(vault, timeout_s=0.3)
        began_s = time.monotonic()
        with pytest.raises(requests.exceptions.ReadTimeout):
            get(client)
        took_s = time.monotonic() - began_s

    assert took_s < 2


def test_what_is_left_of_the_deadline_limits_a_request():
    def late():
        time.sleep(1)
        yield b"{}"

    with Responder(lambda asked: Said(body=late(), length=2)) as vault:
        client = client_of(vault, timeout_s=60)
        client.adapter.until_s = time.monotonic() + 0.2
        began_s = time.monotonic()
        with pytest.raises(requests.exceptions.ReadTimeout):
            get(client)

    assert time.monotonic() - began_s < 0.9


def test_an_answer_that_is_cut_is_an_error():
    cut = Said(headers={"Connection": "close"}, body=[b'{"data"'], length=100)
    with (
        Responder(lambda asked: cut) as vault,
        pytest.raises(requests.exceptions.RequestException),
    ):
        get(client_of(vault))


def test_nothing_packed_is_asked_for():
    with Responder(lambda asked: Said(length=2)) as vault:
        get(client_of(vault))

    assert vault.asked[0].headers["Accept-Encoding"] == "identity"


def test_a_token_is_not_carried_to_where_an_answer_points():
    with Responder(lambda asked: Said(length=2)) as other:
        away = Said(status=307, headers={"Location": f"{other.url}/v1/x"}, body=[], length=0)
        with Responder(lambda asked: away) as vault:
            client = client_of(vault)
            client.token = "token"
            with pytest.raises(hvac.exceptions.UnexpectedError) as raised:
                get(client)

    assert (raised.value.status, raised.value.leads_back) == (307, False)
    assert other.asked == []


def test_a_path_that_is_not_plain_is_told_from_a_standby():
    back = Said(status=307, headers={"Location": "/v1/x"}, body=[], length=0)
    with (
        Responder(lambda asked: back) as vault,
        pytest.raises(hvac.exceptions.UnexpectedError) as raised,
    ):
        get(client_of(vault))

    assert raised.value.leads_back


HOSTILE = """
import sys
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.adapters.vault.transport import make_hvac_client
client = make_hvac_client(VaultServer(url=sys.argv[1], allow_http=True))
client.adapter.get("/v1/x")
"""


def test_nothing_of_the_environment_or_the_home_is_used(tmp_path):
    # A proxy that nobody answers at, a certificate and a CA file that are not there.
    (tmp_path / ".vault-token").write_text("token-of-the-home")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password canary")
    nowhere = "http://127.0.0.1:1"
    hostile = {
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / ".netrc"),
        "VAULT_TOKEN": "token-of-the-environment",
        "VAULT_ADDR": nowhere,
        "VAULT_CACERT": "/nowhere.pem",
        "VAULT_CAPATH": "/nowhere",
        "VAULT_CLIENT_CERT": "/nowhere.pem",
        "VAULT_CLIENT_KEY": "/nowhere.key",
        "VAULT_NAMESPACE": "elsewhere",
        "REQUESTS_CA_BUNDLE": "/nowhere.pem",
        "CURL_CA_BUNDLE": "/nowhere.pem",
        **dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), nowhere),
    }

    with Responder(lambda asked: Said(length=2)) as vault:
        subprocess.run(
            [sys.executable, "-c", HOSTILE, vault.url], env=os.environ | hostile, check=True
        )

    assert len(vault.asked) == 1
    sent = set(vault.asked[0].headers)
    assert sent == {
        "Host",
        "User-Agent",
        "Accept-Encoding",
        "Accept",
        "Connection",
        "X-Vault-Request",
    }


HOSTILE_TLS = """
import sys
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.adapters.vault.transport import make_hvac_client
client = make_hvac_client(VaultServer(url=sys.argv[1], ca=sys.argv[2]))
print(client.sys.read_health_status(method="GET")["initialized"])
"""


@pytest.mark.vault
def test_a_certificate_or_ca_file_of_the_environment_is_not_used(vault, tmp_path):
    # Files that are there and wrong: a CA of somebody else, a certificate for another purpose.
    other = CertificateAuthority.make(tmp_path / "other.pem")
    mine = other.for_client(tmp_path, "stranger")
    hostile = {
        "VAULT_CACERT": str(other.file),
        "VAULT_CLIENT_CERT": str(mine.file),
        "VAULT_CLIENT_KEY": "/nowhere.key",
        "REQUESTS_CA_BUNDLE": str(other.file),
        "SSL_CERT_FILE": str(other.file),
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "https_proxy": "http://127.0.0.1:1",
    }

    shown = subprocess.run(
        [sys.executable, "-c", HOSTILE_TLS, vault.url, str(vault.ca)],
        env=os.environ | hostile,
        check=True,
        capture_output=True,
        text=True,
    )

    assert shown.stdout == "True\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("99999999999999999999", 86400),
        ("-1", None),
        ("1.5", None),
        ("NaN", None),
        ("soon", None),
        ("", None),
        ("١", None),
        (formatdate(1_000_030, usegmt=True), 30),
        (formatdate(999_000, usegmt=True), 0),
        (formatdate(2_000_000_000, usegmt=True), 86400),
    ],
)
def test_retry_after_is_read_within_limits(text, seconds):
    assert retry_after_s(text, 1_000_000) == seconds


@pytest.mark.parametrize("content", [None, "", "no certificate", "directory"])
def test_a_ca_file_that_cannot_be_used_is_named(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content == "directory":
        path.mkdir()
    elif content is not None:
        path.write_text(content)

    with pytest.raises(ConfigurationError, match=r"CA file .*ca\.pem: .*expected certificates"):
        make_hvac_client(VaultServer(url="https://127.0.0.1", ca=str(path)))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path):
    made = CertificateAuthority.make(tmp_path / "ca.pem").for_client(tmp_path, "me")
    lock = "openssl pkcs8 -topk8 -in me.key -out locked.key -passout pass:canary-4711"
    subprocess.run(lock.split(), cwd=tmp_path, check=True)
    server = VaultServer(
        url="https://127.0.0.1",
        client_cert=str(made.file),
        client_key=str(tmp_path / "locked.key"),
    )

    with pytest.raises(ConfigurationError, match="the key without a password"):
        make_hvac_client(server)


@contextlib.contextmanager
def strict_server(folder):
    """A TLS server that wants a certificate; gives its address and its authority."""
    authority = CertificateAuthority.make(folder / "ca.pem")
    mine = authority.for_server(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(mine.file, mine.key_file)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                tls = context.wrap_socket(connection, True, do_handshake_on_connect=False)
                try:
                    tls.do_handshake()
                    tls.recv(65536)
                    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                except ssl.SSLError:
                    # What came meanwhile is read, or the alert would be lost in a reset.
                    socket.socket(fileno=tls.detach()).recv(65536)
                tls.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}", authority
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def test_a_server_that_wants_a_certificate_gets_ours(tmp_path):
    with strict_server(tmp_path) as (url, authority):
        mine = authority.for_client(tmp_path, "me")
        server = VaultServer(
            url=url,
            ca=str(authority.file),
            client_cert=str(mine.file),
            client_key=str(mine.key_file),
        )

        assert get(make_hvac_client(server)) == {}


def test_a_server_that_refuses_our_certificate_is_told_as_such(tmp_path):
    (tmp_path / "other").mkdir()
    other = CertificateAuthority.make(tmp_path / "other" / "ca.pem").for_client(tmp_path, "me")
    with strict_server(tmp_path) as (url, authority):
        without = VaultServer(url=url, ca=str(authority.file))
        shown = {"client_cert": str(other.file), "client_key": str(other.key_file)}
        for server in (without, VaultServer(url=url, ca=str(authority.file), **shown)):
            with pytest.raises(requests.exceptions.RequestException) as raised:
                get(make_hvac_client(server))

            assert failure_of(raised.value).reason == "our certificate not accepted"
