"""A log in PostgreSQL over TLS: who the server is gets checked before a password is sent."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.postgres_audit import (
    Login,
    PostgresAuditReader,
    PostgresAuditWriter,
    parse_address,
)
from airflow_secure_ml.adapters.postgres_audit.connecting import connect
from airflow_secure_ml.errors import SecureMLError, ServiceUnavailableError
from dags_examples.demo.certificates import CertificateAuthority
from dags_examples.demo.postgres_server import _server_user
from tests.contracts.audit_stores import LEAVES, ORIGIN, append
from tests.servers.trail_place import running

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return CertificateAuthority.make(tmp_path_factory.mktemp("tls") / "ca.pem")


@pytest.fixture(scope="module")
def place(authority, tmp_path_factory):
    """A log on a server with TLS, whose certificate is for localhost and 127.0.0.1."""
    # Not below pytest's own folder, which the server's user may not enter.
    with tempfile.TemporaryDirectory(prefix="asml-tls-") as folder:
        issued = authority.for_server(Path(folder))
        user = _server_user()
        if user is not None:
            for path in (Path(folder), issued.file, issued.key_file):
                os.chown(path, user.pw_uid, user.pw_gid)
        tls = {
            "listen_addresses": "127.0.0.1,127.0.0.2",
            "ssl": "on",
            "ssl_cert_file": str(issued.file),
            "ssl_key_file": str(issued.key_file),
        }
        with running(tmp_path_factory.mktemp("tls_server"), options=tls) as server:
            yield server.fresh()


def login(place, ca, user="trail_sequencer", *, host="localhost", port=None):
    where = f"{host}:{port or place.server.port}/{place.database}"
    options = f"sslmode=verify-full&sslrootcert={ca.file}"
    address = parse_address(f"postgresql://{user}@{where}?{options}")
    return Login(address=address, passfile=place.passfile)


def test_a_log_is_written_and_read_over_tls(place, authority):
    with PostgresAuditWriter(login(place, authority), ORIGIN) as writer:
        append(writer, LEAVES)
    reader = PostgresAuditReader(login(place, authority, "trail_reader"))
    with contextlib.closing(connect(login(place, authority), writes=False)) as session:
        sql = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        is_safe, version = session.execute(sql).fetchone()

    assert reader.size() == len(LEAVES)
    assert (is_safe, version) in {(True, "TLSv1.2"), (True, "TLSv1.3")}


def test_a_server_of_another_authority_is_not_logged_in_to(place, tmp_path):
    other = CertificateAuthority.make(tmp_path / "other.pem")

    with pytest.raises(ServiceUnavailableError, match="certificate verify failed"):
        connect(login(place, other), writes=False)


def test_a_certificate_of_another_name_is_not_believed(place, authority):
    # The same server, and its certificate does not name this address.
    with pytest.raises(ServiceUnavailableError, match="does not match host name"):
        connect(login(place, authority, host="127.0.0.2"), writes=False)


class OnTheWay:
    """Somebody between a client and a server, who says that the server has no TLS."""

    def __init__(self):
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.door.accept()
                with client:
                    client.settimeout(10)
                    self.heard += client.recv(8)
                    client.sendall(b"N")
                    self.heard += client.recv(4096)


def test_who_is_on_the_way_and_denies_tls_hears_no_password(place, authority):
    way = OnTheWay()

    with pytest.raises(SecureMLError, match="does not support SSL"):
        connect(login(place, authority, port=way.port), writes=False)

    way.door.close()
    # Asked for TLS, and nothing after the answer that there is none.
    assert way.heard == bytes.fromhex("0000000804d2162f")
