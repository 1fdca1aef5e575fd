"""The example of a change of suite, as its author runs it: over data written before the change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.example_home import example_home

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("example_script.py")
EXAMPLE = ROOT / "dags_examples" / "05_change_suite.py"
TOOLS = Path(sys.executable).parent
TO_2 = {"write": {"suites": ["cobblestone-256"]}}
ONLY_2 = {**TO_2, "read": {"suites": ["cobblestone-256"]}}
BEFORE = """
import os
from pathlib import Path
import pendulum
from airflow.sdk import dag, task
from airflow_secure_ml import secure

LAKE = os.environ["SECURE_ML_DEMO_DATA"]

@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1), catchup=False)
def before():
    @secure(writes={"visits": f"{LAKE}/visits", "note": f"{LAKE}/note"})
    @task
    def write(visits: Path, note: Path) -> None:
        visits.mkdir()
        for day in range(20):
            (visits / f"{day:02}.csv").write_text(f"zper,day\\n125024,{day}\\n")
        note.write_text("no visit\\n")

    write()

before()
"""

pytestmark = pytest.mark.airflow


@pytest.fixture
def home(tmp_path):
    """An Airflow of its own with a keyring in its home; its environment."""
    with example_home(tmp_path) as environment:
        yield environment


def test_the_lake_is_moved_nothing_old_is_left_and_an_old_backup_is_refused(home, tmp_path):
    lake = tmp_path / "lake"

    def run(*command, policy=None, status=0):
        env = home if policy is None else home | {"AIRFLOW__SECURE_ML__CRYPTO_POLICY": policy}
        done = subprocess.run(
            command, env=env, cwd=tmp_path / "home", capture_output=True, text=True, check=False
        )
        assert done.returncode == status, (done.stdout + done.stderr)[-5000:]
        return done.stdout, done.stderr

    run(TOOLS / "secure-ml", "keys", "init")
    (tmp_path / "before.py").write_text(BEFORE)
    run(sys.executable, SCRIPT, tmp_path / "before.py", "before", "1")
    backup = (lake / "note").read_bytes()
    assert backup[9] == 1

    _, stderr = run(sys.executable, SCRIPT, EXAMPLE, "change_suite", "2", policy=json.dumps(TO_2))

    first, second = json.loads(stderr.splitlines()[-1])
    for told in (first, second):
        assert {state for _, _, state in told["states"]} == {"success"}
        # 20 files and their data-set key, and the note.
        assert told["values"]["nothing_old"] == {
            "sealed_files": 22,
            "suites": {"cobblestone-256": 21},
            "slots": {"data-set-key": 20, "local": 2},
            "old": 0,
        }
        assert told["values"]["still_opens"] == 20
    assert (lake / "note").read_bytes()[9] == 2

    opening = [TOOLS / "secure-ml", "open", lake / "note", tmp_path / "out", "--any-context"]
    run(*opening, policy=json.dumps(ONLY_2))
    assert (tmp_path / "out").read_text() == "no visit\n"
    (tmp_path / "out").unlink()
    (lake / "note").write_bytes(backup)
    stdout, stderr = run(*opening, policy=json.dumps(ONLY_2), status=1)
    assert "aes256-gcm-1mb: [secure_ml] crypto_policy (read.suites)" in stdout + stderr
    assert not (tmp_path / "out").exists()
