"""The report example, as its author runs it: counted from a real trail, signed, and on record."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.sequencer import stop_sequencer
from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.query import EventQuery
from tests.e2e.example_home import example_home
from tests.plugin import generator

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("example_script.py")
EXAMPLE = ROOT / "dags_examples" / "05_security_report.py"
TOOLS = Path(sys.executable).parent
DAY_MS = 86_400_000

pytestmark = pytest.mark.airflow


@pytest.fixture
def home(tmp_path):
    """The environment of an Airflow of its own, with a trail that tells of yesterday."""
    audit_dir, signer_dir = tmp_path / "audit", tmp_path / "signer"
    audit_dir.mkdir()
    # Four days that end yesterday at noon: the report is of one whole day.
    noon = dt.datetime.now(dt.UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    end_ms = int(noon.timestamp() * 1000) - DAY_MS
    generator.fill(audit_dir, signer_dir, days=4, end_ms=end_ms)
    more = {
        "SECURE_ML_DEMO_REPORTS": str(tmp_path / "reports"),
        "SECURE_ML_DEMO_REPORT_PERIOD": "day",
        "AIRFLOW__SECURE_ML__AUDIT_DIR": str(audit_dir),
        "AIRFLOW__SECURE_ML__AUDIT_SIGNER_DIR": str(signer_dir),
        "AIRFLOW__API__BASE_URL": "https://airflow.example",
    }
    with example_home(tmp_path, **more) as environment:
        yield environment
    stop_sequencer(audit_dir)


def test_yesterday_is_written_as_page_and_pdf_and_that_is_recorded(home, tmp_path):
    run = {"env": home, "cwd": tmp_path / "home", "capture_output": True, "text": True}
    subprocess.run([TOOLS / "secure-ml", "keys", "init"], check=True, **run)

    done = subprocess.run([sys.executable, SCRIPT, EXAMPLE, "security_report", "1"], **run)

    assert done.returncode == 0, done.stderr[-5000:]
    (told,) = json.loads(done.stderr.splitlines()[-1])
    assert told["states"] == [["write", -1, "success"]]
    (html,) = (tmp_path / "reports").glob("*/report.html")
    (pdf,) = (tmp_path / "reports").glob("*/report.pdf")
    page = html.read_text()
    yesterday = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).date().isoformat()
    assert f"<h1>{yesterday}</h1>" in page
    assert 'href="https://airflow.example/secure-ml/events?q=status%3Arefused' in page
    assert pdf.read_bytes().startswith(b"%PDF-")
    verify = [TOOLS / "secure-ml", "verify"]
    for file in (html, pdf):
        subprocess.run([*verify, file], check=True, **run)
    store = SqliteAuditReader(tmp_path / "audit" / LOG_FILE)
    found = [leaf.event for leaf in store.page(EventQuery(acts=("trail.export",)))]
    (intent,) = (event for event in found if event["phase"] == "intent")
    outcomes = {e["object"]["name"]: e for e in found if e["phase"] == "outcome"}
    assert set(outcomes) == {"html", "pdf"}
    assert {event["of"] for event in outcomes.values()} == {f"{intent['emitter']}:{intent['seq']}"}
    assert outcomes["html"]["object"]["digest"] == told["values"]["write"]["html"]["digest"]
    assert intent["more"]["format"] == "asml-security-report/1"
