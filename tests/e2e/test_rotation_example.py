"""The rotation example on a real Vault, as its author runs it: twice, beside another DAG's data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader
from airflow_secure_ml.core.audit.query import EventQuery
from tests.e2e.example_home import example_home
from tests.servers.transit_place import TransitPlace

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("example_script.py")
EXAMPLE = ROOT / "dags_examples" / "04_key_rotation.py"
TOOLS = Path(sys.executable).parent
NOTES = ["p125024", "p125025", "p125026"]

pytestmark = [pytest.mark.airflow, pytest.mark.vault]


@pytest.fixture
def place(vault):
    with TransitPlace(vault) as made:
        made.make("data")
        made.make("pipeline", "ed25519")
        yield made


@pytest.fixture
def home(place, tmp_path):
    """An Airflow of its own whose keys lie on a mount of Vault; its environment."""
    more = {
        "AIRFLOW__SECURE_ML__KEY_SYSTEM": f"vault://{place.mount}?conn_id=prod",
        "AIRFLOW_CONN_PROD": place.connection(),
    }
    with example_home(tmp_path, **more) as environment:
        yield environment


def test_the_key_is_rotated_and_everything_in_the_lake_opens_with_the_new_version(
    place, home, tmp_path
):
    run = {"env": home, "cwd": tmp_path / "home", "capture_output": True, "text": True}
    subprocess.run([TOOLS / "secure-ml", "keys", "init"], check=True, **run)
    (tmp_path / "lake" / "other").mkdir()
    (tmp_path / "plain").write_text("somebody else's")
    other = tmp_path / "lake" / "other" / "file"
    subprocess.run([TOOLS / "secure-ml", "seal", tmp_path / "plain", other], check=True, **run)

    with place.asked() as asked:
        done = subprocess.run([sys.executable, SCRIPT, EXAMPLE, "rotate_data_key", "2"], **run)
    assert done.returncode == 0, done.stderr[-5000:]
    first, second = json.loads(done.stderr.splitlines()[-1])

    for told in (first, second):
        assert {state for _, _, state in told["states"]} == {"success"}
    assert [each["values"]["rotate"] for each in (first, second)] == [
        {"key": "data", "version": 2},
        {"key": "data", "version": 3},
    ]
    assert [each["values"]["nothing_old"]["retired_below"] for each in (first, second)] == [2, 3]
    assert [each["values"]["still_opens"] for each in (first, second)] == [200, 200]
    facts = place.facts("data")
    assert (facts["latest_version"], facts["min_decryption_version"]) == (3, 3)
    # A data set, a folder of notes and the other DAG's folder: one call each, in each of two runs.
    assert asked.count("update rewrap/data") == 6
    opened = subprocess.run(
        [TOOLS / "secure-ml", "open", other, tmp_path / "out", "--any-context"], check=True, **run
    )
    assert opened.returncode == 0
    assert (tmp_path / "out").read_text() == "somebody else's"

    subprocess.run([TOOLS / "secure-ml", "audit", "sequencer", "--once"], check=True, **run)
    reader = SqliteAuditReader(tmp_path / "home" / "secure_ml" / "audit" / LOG_FILE)
    acts = ("key.rotate", "key.disable", "object.rewrap")
    leaves = reader.page(EventQuery(dag="rotate_data_key", acts=acts), limit=100)
    results = [leaf.event["result"] for leaf in leaves if leaf.event["phase"] == "outcome"]
    # Two rotations, two retirements, and five objects rewrapped in each run.
    assert results == ["ok"] * 14
