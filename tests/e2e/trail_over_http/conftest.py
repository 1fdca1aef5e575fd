"""A whole Airflow whose events an API server of another machine takes, as far as it can tell."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.ingest.line import read_token
from airflow_secure_ml.adapters.sequencer import stop_sequencer
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.checkpoint import parse_log_keys
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.services.verifying import verify_log
from dags_examples.demo.certificates import CertificateAuthority
from dags_examples.demo.kept_programs import KeptPrograms, free_ports

DAGS = Path(__file__).parent / "dags"
PROGRAMS = Path(sys.executable).parent
START_S = 120.0


class Taker:
    """An API server with the log, behind TLS; the Airflow beside it has only the token."""

    def __init__(self, folder):
        self.folder, self.audit = folder, folder / "audit"
        self.token_path = folder / "token"
        self.authority = CertificateAuthority.make(folder / "ca.pem")
        self.port = free_ports(1)[0]
        self._programs = None

    def settings(self):
        """What the Airflow is told that hands over."""
        return {
            "AIRFLOW__SECURE_ML__AUDIT_SPOOL": "push",
            "AIRFLOW__SECURE_ML__AUDIT_INGEST_URL": (
                f"https://127.0.0.1:{self.port}/secure-ml/ingest"
            ),
            "AIRFLOW__SECURE_ML__AUDIT_INGEST_TOKEN_PATH": str(self.token_path),
            "SSL_CERT_FILE": str(self.authority.file),
        }

    def start(self, airflow):
        """Make the token and the keys, then listen; before anybody hands over."""
        own = airflow.environment | {
            "AIRFLOW__SECURE_ML__AUDIT_SPOOL": "local",
            "AIRFLOW__SECURE_ML__AUDIT_INGEST_URL": "",
            "AIRFLOW__SECURE_ML__AUDIT_DIR": str(self.audit),
            "AIRFLOW__SECURE_ML__AUDIT_SIGNER_DIR": str(self.folder / "signer"),
            "AIRFLOW__SECURE_ML__SCRATCH_DIRS": str(self.folder),
        }
        for words in (["audit", "ingest-token"], ["keys", "init"]):
            subprocess.run([PROGRAMS / "secure-ml", *words], env=own, check=True)
        certificate = self.authority.for_server(self.folder)
        command = [str(PROGRAMS / "airflow"), "api-server", "--apps", "core"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--ssl-cert", str(certificate.file), "--ssl-key", str(certificate.key_file)]
        self._programs = KeptPrograms(
            programs={"taker": command}, folder=self.folder, environment=own
        )
        self._programs.start()
        self._programs.wait(lambda: self.status() == 401, "the end point answers", START_S)

    def status(self):
        """What somebody without the token gets; None: nothing answers."""
        context = ssl.create_default_context(cafile=self.authority.file)
        line = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
        with contextlib.closing(line), contextlib.suppress(OSError, http.client.HTTPException):
            line.request("POST", "/secure-ml/ingest", b"")
            return line.getresponse().status
        return None

    def page(self, **query):
        """Sequenced events, oldest first."""
        if not (self.audit / LOG_FILE).exists():
            return []
        found = SqliteAuditReader(self.audit / LOG_FILE).page(EventQuery(**query), limit=1000)
        return [dict(leaf.event) for leaf in reversed(found)]

    def verify(self):
        keys = (self.folder / "signer" / "log_keys").read_text()
        with SqliteAuditReader(self.audit / LOG_FILE).whole() as whole:
            return verify_log(whole, parse_log_keys(keys))

    def token(self):
        return read_token(self.token_path)

    def said(self):
        return (self.folder / "taker.log").read_text(errors="replace")

    def stop(self):
        if self._programs is not None:
            self._programs.stop()
        stop_sequencer(self.audit)


@pytest.fixture
def taker(tmp_path_factory):
    made = Taker(tmp_path_factory.mktemp("taker"))
    yield made
    made.stop()


@pytest.fixture
def airflow(own_airflow, taker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trail_over_http")
    with own_airflow.running(folder, DAGS, taker.settings(), taker.start) as running:
        yield running
