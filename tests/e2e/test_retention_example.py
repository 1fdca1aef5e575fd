"""The retention example, as its author runs it: what is over is shredded, the rest is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.example_home import example_home

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("example_script.py")
EXAMPLE = ROOT / "dags_examples" / "06_retention.py"
TOOLS = Path(sys.executable).parent

pytestmark = pytest.mark.airflow


@pytest.fixture
def home(tmp_path):
    """An Airflow of its own with a keyring; its environment."""
    with example_home(tmp_path, SECURE_ML_DEMO_KEEP_UNTIL="2026-01-31") as environment:
        yield environment


def test_what_is_over_is_shredded_and_what_is_not_still_opens(home, tmp_path):
    run = {"env": home, "cwd": tmp_path / "home", "capture_output": True, "text": True}
    lake, plain = tmp_path / "lake", tmp_path / "plain"
    subprocess.run([TOOLS / "secure-ml", "keys", "init"], check=True, **run)
    plain.mkdir()
    (plain / "a.csv").write_text("age\n54\n")
    seal = [TOOLS / "secure-ml", "seal", "--recursive", plain, lake / "for-good"]
    subprocess.run(seal, check=True, **run)

    done = subprocess.run([sys.executable, SCRIPT, EXAMPLE, "shred_what_is_over", "1"], **run)

    assert done.returncode == 0, done.stderr[-5000:]
    (told,) = json.loads(done.stderr.splitlines()[-1])
    assert told["states"] == [
        ["expired", -1, "success"],
        ["shred", 0, "success"],
        ["write_trial", -1, "success"],
    ]
    certificates = [TOOLS / "secure-ml", "certificates", lake / "trial", "--json"]
    (said,) = json.loads(subprocess.run(certificates, check=True, **run).stdout)
    assert (said["reason"], said["objects"]) == ("retention", ["answers.csv"])
    assert said["by"].startswith("shred_what_is_over.shred ")
    opened = [TOOLS / "secure-ml", "open", "--recursive", "--json"]
    refused = subprocess.run([*opened, lake / "trial", tmp_path / "a"], **run)
    kept = subprocess.run([*opened, lake / "for-good", tmp_path / "b"], **run)
    assert refused.returncode == 1
    assert "key_destroyed" in refused.stdout
    assert kept.returncode == 0
    assert (tmp_path / "b" / "a.csv").read_text() == "age\n54\n"
