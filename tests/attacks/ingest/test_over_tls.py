"""Handing over to an end point behind real TLS: its certificate, its name, its age are checked."""

from __future__ import annotations

import socket
import threading

import pytest

from airflow_secure_ml.errors import ServiceUnavailableError
from dags_examples.demo.certificates import CertificateAuthority

from .conftest import TOKEN, hand_over, serving


@pytest.fixture
def authority(tmp_path):
    return CertificateAuthority.make(tmp_path / "ca.pem")


@pytest.fixture
def trusted(authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))


@pytest.mark.usefixtures("trusted")
def test_events_are_handed_over_by_tls(site, settings, token_path, authority, tmp_path):
    with serving(settings, authority.for_server(tmp_path)) as server:
        emitter = hand_over(server.url, token_path)

    site.run()

    assert server.url.startswith("https://")
    assert site.of(emitter) == [0, 1, 2]
    assert site.ends(emitter) == ["found", "whole"]


def test_a_server_that_the_system_does_not_trust_gets_no_token(
    site, settings, token_path, authority, tmp_path
):
    with (
        serving(settings, authority.for_server(tmp_path)) as server,
        pytest.raises(ServiceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        hand_over(server.url, token_path)

    assert not (site.path / "ingested").exists()


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_another_name_gets_no_token(settings, token_path, authority, tmp_path):
    # For log-ins of `other.example`, not for a server of this address.
    other = authority.for_client(tmp_path, "other.example")

    with (
        serving(settings, other) as server,
        pytest.raises(ServiceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        hand_over(server.url, token_path)


@pytest.mark.usefixtures("trusted")
def test_who_answers_without_tls_hears_no_token(token_path):
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as door:

        def listen():
            client, _ = door.accept()
            with client:
                client.settimeout(5)
                heard.append(client.recv(1 << 16))

        thread = threading.Thread(target=listen)
        thread.start()
        with pytest.raises(ServiceUnavailableError):
            hand_over(f"https://127.0.0.1:{door.getsockname()[1]}/secure-ml/ingest", token_path)
        thread.join(30)

    assert TOKEN.encode() not in heard[0]
    assert heard[0][:1] == b"\x16"
