"""A real spark-submit under remote=True: verified before, signed after, read by the next task."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.query import EventQuery
from tests.e2e.example_home import example_home

HERE = Path(__file__).parent
SCRIPT = HERE.parent / "example_script.py"
TOOLS = Path(sys.executable).parent

pytestmark = [pytest.mark.airflow, pytest.mark.spark]


@pytest.fixture
def home(tmp_path):
    """An Airflow of its own with a keyring; its environment."""
    with example_home(tmp_path) as environment:
        yield environment


def test_a_spark_job_reads_what_is_signed_and_its_output_is_signed(home, tmp_path):
    run = {"env": home, "cwd": tmp_path / "home", "capture_output": True, "text": True}
    subprocess.run([TOOLS / "secure-ml", "keys", "init"], check=True, **run)

    dag_file = HERE / "spark_dag.py"
    done = subprocess.run([sys.executable, SCRIPT, dag_file, "spark_elsewhere", "1"], **run)

    assert done.returncode == 0, done.stderr[-5000:]
    (told,) = json.loads(done.stderr.splitlines()[-1])
    assert told["states"] == [
        ["count", -1, "success"],
        ["read_counts", -1, "success"],
        ["write_visits", -1, "success"],
    ]
    assert told["values"]["read_counts"] == {"1": 7, "2": 5}
    verified = subprocess.run(
        [TOOLS / "secure-ml", "verify", tmp_path / "lake" / "counts", "--signed-by", "pipeline"],
        **run,
    )
    assert verified.returncode == 0, verified.stderr
    subprocess.run([TOOLS / "secure-ml", "audit", "sequencer", "--once"], check=True, **run)
    reader = SqliteAuditReader(tmp_path / "home" / "secure_ml" / "audit" / LOG_FILE)
    events = [leaf.event for leaf in reader.page(EventQuery(dag="spark_elsewhere"), limit=500)]
    acts = [(e["act"], e.get("result")) for e in events if e.get("run", {}).get("task") == "count"]
    assert ("object.verify", "ok") in acts
    assert ("object.publish", "ok") in acts
    assert "object.open" not in {act for act, _ in acts}
