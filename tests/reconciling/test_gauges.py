"""How the log stands, as gauges: over a real log, and over none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader
from airflow_secure_ml.core.audit.frame import HEADER_BYTES
from airflow_secure_ml.reconciling import gauges
from airflow_secure_ml.reconciling.gauges import show_trail
from tests.services.audit.conftest import ALICE, Held, chain, site  # noqa: F401 - a fixture


def shown(monkeypatch, reader, now_ms):
    found = {}
    # That gauges reach a server is another test's; here, what they are set to.
    monkeypatch.setattr(gauges, "gauge", found.__setitem__)
    show_trail(lambda: reader, now_ms=lambda: now_ms)
    return found


def test_size_age_and_what_waits_are_those_of_the_log(site, monkeypatch):  # noqa: F811
    site.put(ALICE, 0, chain(ALICE, 9))
    site.run()
    site.times.advance(3_600_000)
    site.run()
    reader = site.reader()
    newest = reader.leaf(reader.size() - 1).event["time"]

    found = shown(monkeypatch, reader, newest + 2_500)

    assert found["secure_ml.trail.size"] == reader.size() >= 9
    assert found["secure_ml.trail.lag_s"] == 2.5
    assert found["secure_ml.trail.waiting_bytes"] == 0


def test_what_waits_in_the_spool_is_told_in_bytes(site, monkeypatch):  # noqa: F811
    spool = Held(site.segments())
    spool.held = {ALICE}
    site.start(segments=spool)
    # What follows waits for what is not there yet.
    waits = site.put(ALICE, 1, chain(ALICE, 9)[3:])
    site.sequencer.step()
    site.times.advance(300_000)
    site.sequencer.step()

    found = shown(monkeypatch, site.reader(), site.times.now)

    assert found["secure_ml.trail.waiting_bytes"] == waits.stat().st_size - HEADER_BYTES > 0


def test_the_running_reconciler_sends_them_to_airflow_s_statsd(site, tmp_path):  # noqa: F811
    site.put(ALICE, 0, chain(ALICE, 9))
    site.run()
    size = site.reader().size()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60.0)
        running = subprocess.Popen(
            [sys.executable, "-I", "-m", "airflow_secure_ml.reconciling", "--every-s", "300"],
            env={
                "PATH": os.environ["PATH"],
                "AIRFLOW_HOME": str(tmp_path / "home"),
                "AIRFLOW__METRICS__STATSD_ON": "True",
                "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
                "AIRFLOW__METRICS__STATSD_PORT": str(server.getsockname()[1]),
                "AIRFLOW__SECURE_ML__AUDIT_DIR": str(site.path),
                "AIRFLOW__SECURE_ML__AUDIT_SIGNER_DIR": str(site.path / "nobody"),
            },
        )  # fmt: skip
        try:
            found = ""
            while "trail.size" not in found:
                found = server.recv(4096).decode()
        finally:
            running.kill()
            running.wait()

    # What a reconciler says of itself may be in the log by then.
    assert int(found.removeprefix("airflow.secure_ml.trail.size:").removesuffix("|g")) >= size


def test_a_log_that_is_not_there_sets_no_gauge(tmp_path, monkeypatch):
    assert shown(monkeypatch, SqliteAuditReader(tmp_path / "none.db"), 0) == {}
