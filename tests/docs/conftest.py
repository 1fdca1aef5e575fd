"""What the pages' examples run on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.sequencer import stop_sequencer

ROOT = Path(__file__).parents[2]


def add_program(folder, name, line):
    """Put a program of one line into the folder's `bin`."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
    (folder / "bin" / name).chmod(0o755)


def shell(folder, lines):
    """What becomes of a page's lines in a folder with programs in its `bin`."""
    return subprocess.run(
        ["sh", "-e", "-c", "\n".join(lines)],
        capture_output=True, text=True, cwd=folder, check=False,
        env={
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(folder),
            "PYTHONPATH": str(ROOT),
        },
    )  # fmt: skip


@pytest.fixture
def home(tmp_path):
    """A folder where the command can be called by its name."""
    add_program(tmp_path, "secure-ml", f'exec "{sys.executable}" -m airflow_secure_ml.cli "$@"')
    yield tmp_path
    stop_sequencer(tmp_path / "secure_ml" / "audit")


@pytest.fixture
def warehouse(postgres, monkeypatch):
    """Runs statements in a database of its own, where the connection `warehouse` leads to.

    Nobody can log in with what the connection itself says.
    """
    postgres.query("CREATE DATABASE pages")
    where = f"{postgres.host}:{postgres.port}/pages"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f"postgres://nobody:wrong@{where}")
    yield lambda statement: postgres.query(statement, database="pages")
    postgres.query("DROP DATABASE pages WITH (FORCE)")
