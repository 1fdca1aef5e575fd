"""`airflow db migrate` makes the log's tables in their own database, and `db reset` leaves them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.postgres]


def test_airflow_makes_the_tables_and_a_reset_keeps_them(empty_trail_place, tmp_path):
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment = kept | {
        "HOME": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__SECURE_ML__AUDIT_STORE": empty_trail_place.address("trail_owner"),
        "AIRFLOW__SECURE_ML__AUDIT_STORE_PASSFILE": str(empty_trail_place.passfile),
    }
    airflow = str(Path(sys.executable).parent / "airflow")

    for words in (["migrate"], ["reset", "--yes"]):
        done = subprocess.run(
            [airflow, "db", *words], env=environment, cwd=tmp_path, capture_output=True, text=True,
            timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        if words == ["migrate"]:
            empty_trail_place.query("INSERT INTO asml_trail.log VALUES (true, 'kept', 1, 0, '')")

    assert empty_trail_place.query("SELECT origin FROM asml_trail.log") == [("kept",)]
    with sqlite3.connect(tmp_path / "airflow.db") as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_schema")}
    assert not {name for name in names if "asml" in name}
    assert empty_trail_place.passwords["trail_owner"] not in done.stdout + done.stderr
