"""`dag.test()` runs secured tasks with all their security, without a scheduler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.query import EventQuery

SCRIPT = Path(__file__).with_name("dag_test_script.py")
TOOLS = Path(sys.executable).parent

pytestmark = pytest.mark.airflow


@pytest.fixture
def scratch():
    path = Path(tempfile.mkdtemp(prefix="asml-test-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


def test_dag_test_runs_secured_tasks_and_refuses_a_plain_file(tmp_path, scratch):
    home, lake = tmp_path / "home", tmp_path / "lake"
    home.mkdir()
    lake.mkdir()
    (lake / "plain.csv").write_text("age,visits\n54,3\n")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__SECURE_ML__SCRATCH_DIRS": str(scratch),
        "LAKE": str(lake),
    }
    run = {"env": environment, "cwd": home, "check": True, "capture_output": True, "text": True}
    subprocess.run([TOOLS / "secure-ml", "keys", "init"], **run)

    done = subprocess.run([sys.executable, SCRIPT], **run)
    subprocess.run([TOOLS / "secure-ml", "audit", "sequencer", "--once"], **run)

    states = json.loads(done.stderr[done.stderr.rindex("{") :])
    assert states == {"make": "success", "use": "success", "counts": "success", "plain": "failed"}
    reader = SqliteAuditReader(home / "secure_ml" / "audit" / LOG_FILE)
    ended = reader.page(EventQuery(dag="tested", acts=("task.secure",)), limit=50)
    results = {
        leaf.event["run"]["task"]: (leaf.event["result"], leaf.event.get("why"))
        for leaf in ended
        if leaf.event["phase"] == "outcome"
    }
    assert results == {
        "make": ("ok", None),
        "use": ("ok", None),
        "counts": ("ok", None),
        "plain": ("refused", "not_sealed"),
    }
    assert list(scratch.iterdir()) == []
