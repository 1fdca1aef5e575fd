"""Where a deployment's events go by its settings, and that somebody takes them from there."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
import time

import pytest

from airflow_secure_ml.adapters.log_signer import init_log
from airflow_secure_ml.adapters.sequencer import stop_sequencer
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.audit_sinks import open_emitter
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.settings import parse_settings

DEADLINE_S = 60.0
TASK = """
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.recording import close_sink, sink_of_this_process
sink = sink_of_this_process(program="task")
sink.record(Fact(act="trail.view", phase="seen", result="ok", more={"page": "x"}))
sink.settle()
close_sink()
"""


def acts(audit):
    if not (audit / LOG_FILE).exists():
        return []
    found = SqliteAuditReader(audit / LOG_FILE).page(EventQuery(), limit=100)
    return [leaf.event["act"] for leaf in found]


def test_what_went_to_the_spare_directory_is_in_the_log(tmp_path):
    audit, spare, signer = (tmp_path / name for name in ("audit", "spare", "signer"))
    init_log(signer, "example.org")
    # No event is written where others may write.
    (audit / "spool").mkdir(parents=True)
    (audit / "spool").chmod(0o777)
    options = {"AUDIT_DIR": audit, "AUDIT_SPARE_DIR": spare, "AUDIT_SIGNER_DIR": signer}
    names = {f"AIRFLOW__SECURE_ML__{name}": str(value) for name, value in options.items()}
    try:
        done = subprocess.run(
            [sys.executable, "-c", TASK],
            env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path / "home")}
            | names
            | {"AIRFLOW__SECURE_ML__AUDIT_RULES_OFF": "all"},
            capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        due = time.monotonic() + DEADLINE_S
        while "emitter.close" not in acts(audit) or any(spare.iterdir()):
            assert time.monotonic() < due, (acts(audit), list(spare.iterdir()))
            time.sleep(0.05)
    finally:
        stop_sequencer(audit)

    assert acts(audit).count("trail.view") == 1
    assert list((audit / "spool").iterdir()) == []


def test_a_shared_spool_whose_files_cannot_be_locked_is_refused(tmp_path, monkeypatch):
    def lockf(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    local = dataclasses.replace(parse_settings({}), audit_dir=tmp_path / "audit")
    shared = dataclasses.replace(local, audit_spool="shared")
    monkeypatch.setattr(os, "lockf", lockf)

    open_emitter(local, None, "task", airflow=None)
    with pytest.raises(ConfigurationError, match="cannot be locked"):
        open_emitter(shared, None, "task", airflow=None)
