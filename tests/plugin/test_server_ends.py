"""How an API server's recording ends: whole when it is stopped, cut and not hidden when killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.event import parse_event
from airflow_secure_ml.core.audit.frame import EVENT, HEADER_BYTES, read_frames
from airflow_secure_ml.services.endings import badly_ended

# A server like Airflow's: routes in an application, run by uvicorn.
SERVER = """
import sys
import uvicorn
from fastapi import FastAPI
from airflow_secure_ml.plugin.reads_middleware import ReadsMiddleware
app = FastAPI()

@app.get("/api/v2/connections/{connection_id}")
def get_connection(connection_id: str):
    return {"connection_id": connection_id}

app.add_middleware(ReadsMiddleware)
uvicorn.run(app, fd=int(sys.argv[1]), log_level="warning")
"""


@pytest.fixture
def server(tmp_path):
    (tmp_path / "audit").mkdir()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__SECURE_ML__AUDIT_DIR": str(tmp_path / "audit"),
            "AIRFLOW__SECURE_ML__AUDIT_SIGNER_DIR": str(tmp_path / "signer"),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(listening.fileno())],
            env=environment,
            pass_fds=[listening.fileno()],
        )
        yield process, f"http://127.0.0.1:{listening.getsockname()[1]}"
    if process.poll() is None:
        process.kill()
    process.wait(timeout=30)


def events_of(tmp_path):
    (segment,) = (tmp_path / "audit" / "spool").glob("*.seg")
    frames = read_frames(segment.read_bytes()[HEADER_BYTES:]).frames
    return [parse_event(frame.payload) for frame in frames if frame.kind == EVENT]


def ask(url, name):
    with urllib.request.urlopen(f"{url}/api/v2/connections/{name}", timeout=60) as answer:
        return answer.status


def test_a_server_that_is_stopped_records_all_it_answered_and_says_so(server, tmp_path):
    process, url = server
    names = [f"conn-{number}" for number in range(50)]

    statuses = [ask(url, name) for name in names]
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)

    events = events_of(tmp_path)
    assert statuses == [200] * 50
    assert [e["more"]["resource"] for e in events if e["act"] == "user.act"] == names
    assert events[-1]["act"] == "emitter.close"
    assert events[0]["more"]["program"] == "api-server"
    assert ended_in(tmp_path) == []


def test_a_server_that_is_killed_leaves_what_was_durable_and_no_close(server, tmp_path):
    process, url = server
    ask(url, "before")
    deadline = time.monotonic() + 60
    while not _has(tmp_path, "before"):
        assert time.monotonic() < deadline
        time.sleep(0.01)

    process.kill()
    process.wait(timeout=60)

    assert [event["act"] for event in events_of(tmp_path)] == ["emitter.open", "user.act"]
    assert ended_in(tmp_path) == [("cut", "api-server", process.pid, "user.act")]


def ended_in(tmp_path):
    """What the log says of recordings that did not end well, once it took the spool in."""
    init_log(tmp_path / "signer", "example.org")
    places = ["--audit-dir", str(tmp_path / "audit"), "--signer-dir", str(tmp_path / "signer")]
    subprocess.run(
        [sys.executable, "-I", "-m", "airflow_secure_ml.sequencer", "--once", *places],
        check=True,
        timeout=60,
    )
    named = badly_ended(SqliteAuditReader(tmp_path / "audit" / LOG_FILE)).named
    return [(one.state, one.program, one.pid, one.last_act) for one in named]


def _has(tmp_path, resource):
    if not list((tmp_path / "audit").glob("spool/*.seg")):
        return False
    return any(event["more"].get("resource") == resource for event in events_of(tmp_path))
