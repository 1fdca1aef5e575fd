"""docs/commands.md says what the commands are, and its examples run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.sequencer import stop_sequencer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_declaration_says():
    path = ROOT / "docs" / "make_commands.py"
    spec = importlib.util.spec_from_file_location("make_commands", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.render() == PAGE, "run `python docs/make_commands.py`"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bin").mkdir()
    programs = {
        "secure-ml": f'exec "{sys.executable}" -m airflow_secure_ml.cli "$@"',
        "pg_dump": "echo a dump",
    }
    for name, line in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "customers.csv").write_text("name,age\nalice,42\n")
    yield tmp_path
    stop_sequencer(tmp_path / "secure_ml" / "audit")


def test_the_examples_run_in_their_order(folder):
    (block,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    lines = [line.removeprefix("$ ") for line in block.splitlines()]

    answer = subprocess.run(
        ["sh", "-e", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(folder),
            "PYTHONPATH": str(ROOT),
        },
    )

    assert answer.returncode == 0, answer.stderr
    assert len(lines) == 7
    assert (folder / "customers.csv.new").read_text() == "name,age\nalice,42\n"
