"""A Debian package is installed where its program is missing, and missed aloud elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "need-package"
# Nobody may become root here, so nothing is installed.
PROGRAMS = {"id": "echo 1000", "sudo": "exit 1", "apt-get": 'echo "$@" >>calls'}


@pytest.fixture
def need(tmp_path):
    """Asks for a package where nothing else is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    def run(*arguments, ci=""):
        return subprocess.run(
            ["/bin/sh", str(SCRIPT), *arguments], cwd=tmp_path,
            env={"PATH": str(folder), "CI": ci}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_a_program_beside_path_is_found_by_its_pattern(need, tmp_path):
    (tmp_path / "15" / "bin").mkdir(parents=True)
    (tmp_path / "15" / "bin" / "initdb").touch(mode=0o755)

    done = need("postgresql", f"{tmp_path}/*/bin/initdb", ci="true")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("ci", "expected"), [("true", 1), ("", 0)], ids=["in-ci", "elsewhere"])
def test_what_cannot_be_installed_is_said(need, tmp_path, ci, expected):
    done = need("slapd", f"{tmp_path}/sbin/slapd", ci=ci)

    assert done.returncode == expected
    assert done.stderr == (
        "MISSING: slapd. What needs it cannot run here; on Debian: apt-get install slapd\n"
    )
    assert not (tmp_path / "calls").exists()
