"""How the log stands, as gauges: over a real log, and over none."""

from __future__ import annotations

from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditReader
from airflow_secure_ml.reconciling import gauges
from airflow_secure_ml.reconciling.gauges import show_trail
from tests.services.audit.conftest import ALICE, chain, site  # noqa: F401 - a fixture


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


def test_a_log_that_is_not_there_sets_no_gauge(tmp_path, monkeypatch):
    assert shown(monkeypatch, SqliteAuditReader(tmp_path / "none.db"), 0) == {}
