"""An API server's end point on a real port, and a sequencer over what it took."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import socket
import threading

import pytest

from airflow_secure_ml.adapters.ingest.line import IngestLines
from airflow_secure_ml.adapters.sequencer import SpoolSegments
from airflow_secure_ml.adapters.spool import EmitterSink
from airflow_secure_ml.core.audit.ingesting import EMITTER_HEADER, MEDIA_TYPE
from airflow_secure_ml.deployment import Deployment, use_deployment
from airflow_secure_ml.settings import parse_settings
from tests.attacks.pushing import fact
from tests.services.audit.conftest import Installation

TOKEN = "0123456789abcdef" * 4


class Server:
    """uvicorn over the route, in a thread."""

    def __init__(self, certificate=None):
        import uvicorn
        from fastapi import FastAPI

        from airflow_secure_ml.plugin.ingest import router

        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.include_router(router, prefix="/secure-ml")
        door = socket.socket()
        door.bind(("127.0.0.1", 0))
        door.listen(128)
        self.port = door.getsockname()[1]
        scheme, tls = "http", {}
        if certificate is not None:
            files = (str(certificate.file), str(certificate.key_file))
            scheme, tls = "https", dict(zip(("ssl_certfile", "ssl_keyfile"), files, strict=True))
        self.url = f"{scheme}://127.0.0.1:{self.port}/secure-ml/ingest"
        self._server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="off", **tls)
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [door]})
        self._thread.start()

    def post(self, body, *, emitter="", token=TOKEN, path="/secure-ml/ingest", **headers):
        """Status and text of the answer."""
        found = {"Content-Type": MEDIA_TYPE, EMITTER_HEADER: emitter}
        found |= {} if token is None else {"Authorization": f"Bearer {token}"}
        found |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = {name: value for name, value in found.items() if value is not None}
            connection.request("POST", path, body, sent)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def stop(self):
        self._server.should_exit = True
        self._thread.join(30)


class IngestSite(Installation):
    """An installation whose sequencer follows what the end point took."""

    def segments(self):
        folder = self.path / "ingested"
        found = SpoolSegments([self.spool], self.path / "refused", stamped=[folder])
        self.opened.append(found)
        return found


@pytest.fixture
def site(tmp_path):
    made = IngestSite(tmp_path)
    yield made
    made.close()


@pytest.fixture
def token_path(tmp_path):
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN + "\n")
    return path


@pytest.fixture
def settings(site, token_path):
    return dataclasses.replace(
        parse_settings({}),
        audit_dir=site.path,
        audit_signer_dir=site.path / "nobody",
        audit_ingest_token_path=token_path,
    )


def hand_over(url, token_path):
    """Hand one event over, at once or not at all; returns its emitter."""
    sink = EmitterSink("task", IngestLines(url, token_path, patience_s=0.0))
    sink.record(fact("value"))
    sink.settle()
    emitter = sink.emitter
    sink.close()
    return emitter


@contextlib.contextmanager
def serving(settings, certificate=None):
    """An end point with these settings, for as long as the block lasts."""
    from airflow_secure_ml.plugin.ingest import shared_door

    use_deployment(Deployment(settings))
    shared_door.cache_clear()
    running = Server(certificate)
    try:
        yield running
    finally:
        running.stop()
        shared_door().receiver.close()
        shared_door.cache_clear()
        use_deployment(None)


@pytest.fixture
def server(settings):
    with serving(settings) as running:
        yield running
