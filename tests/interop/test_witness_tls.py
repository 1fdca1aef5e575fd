"""The witness's server and its client over TLS, each by a certificate of one authority."""

from __future__ import annotations

import socket
import ssl

import pytest

from airflow_secure_ml.adapters.relay import SqliteBook
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError
from airflow_secure_ml.outgoing import HttpPoster
from dags_examples.demo.certificates import CertificateAuthority
from tests.interop.test_witnesses import job_of, log, log_keys, size_of  # noqa: F401 - a fixture
from tests.interop.witnesses import our_witness
from tests.services.audit.conftest import site  # noqa: F401 - a fixture


@pytest.fixture
def authority(tmp_path):
    return CertificateAuthority.make(tmp_path / "ca.pem")


@pytest.fixture
def witness(authority, log, tmp_path):  # noqa: F811 - the fixture
    (tmp_path / "tls").mkdir()
    server = authority.for_server(tmp_path / "tls")
    more = ["--tls-cert", str(server.file), "--tls-key", str(server.key_file)]
    vkeys = [key.vkey() for key in log_keys(log)]
    with our_witness(tmp_path / "witness", vkeys, more=more) as running:
        assert running.url.startswith("https://127.0.0.1:")
        yield running


def step(log, witness, ca):  # noqa: F811 - the fixture's name
    job_of(log, witness, door=HttpPoster("witness", witness.url, ca=str(ca))).step()


def test_a_checkpoint_is_cosigned_over_tls(log, witness, authority):  # noqa: F811 - the fixture
    step(log, witness, authority.file)

    kept = SqliteBook(log.path / "book.db").last_cosigned(witness.key.vkey())
    assert kept.size == size_of(log.reader().checkpoint())


def test_a_server_of_another_authority_is_not_asked(log, witness, tmp_path):  # noqa: F811 - fixture
    other = CertificateAuthority.make(tmp_path / "other.pem")

    with pytest.raises(ServiceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        step(log, witness, other.file)
    with pytest.raises(ServiceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        step(log, witness, "")


def test_a_certificate_of_another_name_is_not_believed(authority, log, tmp_path):  # noqa: F811
    # Its certificate is for log-ins of `witness.example`, not for a server of this address.
    (tmp_path / "tls").mkdir()
    client = authority.for_client(tmp_path / "tls", "witness.example")
    more = ["--tls-cert", str(client.file), "--tls-key", str(client.key_file)]
    vkeys = [key.vkey() for key in log_keys(log)]

    with (
        our_witness(tmp_path / "witness", vkeys, more=more) as witness,
        pytest.raises(ServiceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        step(log, witness, authority.file)


def test_plain_http_gets_nothing_from_a_door_with_tls(log, witness):  # noqa: F811 - the fixture
    plain = HttpPoster("witness", witness.url.replace("https://", "http://"), timeout_s=5.0)

    with pytest.raises(ServiceUnavailableError):
        plain.post("/add-checkpoint", b"", "text/plain")


def test_an_old_tls_is_refused(witness, authority):
    context = ssl.create_default_context(cafile=str(authority.file))
    host, port = witness.url.removeprefix("https://").split(":")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with (
        socket.create_connection((host, int(port)), 5.0) as plain,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        context.wrap_socket(plain, server_hostname=host)


def test_certificates_to_trust_that_cannot_be_read_are_named(log, witness, tmp_path):  # noqa: F811
    with pytest.raises(ConfigurationError, match="expected certificates to trust"):
        step(log, witness, tmp_path / "none.pem")
