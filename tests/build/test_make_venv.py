"""`make setup` on machines that lack something: said clearly, with what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "make-venv"


@pytest.fixture
def programs(tmp_path):
    """A folder that stands for the whole PATH; `add(name, text)` puts a program into it."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def add(name, text):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    add("rm", 'exec /bin/rm "$@"')
    add.folder = folder
    return add


def run(tmp_path, programs):
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), str(tmp_path / "venv"), "test"],
        cwd=ROOT, env={"PATH": str(programs.folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_no_python_is_said(tmp_path, programs):
    done = run(tmp_path, programs)

    assert done.returncode == 1
    assert "no Python of version 3.11 or newer was found" in done.stderr


def test_an_old_python_does_not_do(tmp_path, programs):
    programs("python3", "exit 1")

    done = run(tmp_path, programs)

    assert done.returncode == 1
    assert "no Python of version 3.11 or newer was found" in done.stderr


def test_a_python_without_venv_is_said_with_the_package_to_install(tmp_path, programs):
    programs("python3", 'case "$2" in venv) exit 1;; esac; echo Python 3.11.2')

    done = run(tmp_path, programs)

    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_the_pinned_versions_are_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()

    assert len(lines) > 150
    assert [line for line in lines if not line.replace("==", "").strip() or "/" in line] == []
    assert all(line.count("==") == 1 for line in lines)
