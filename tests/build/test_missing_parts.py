"""A test whose program is missing: a failure where CI=true, one loud skip elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import pytest

@pytest.mark.browser
def test_of_a_page():
    pass

@pytest.mark.long
def test_of_minutes():
    pass

@pytest.mark.parametrize("n", range(4))
def test_of_nothing(n):
    pass
"""
SETTINGS = "[pytest]\nmarkers =\n    browser:\n    airflow:\n    long:\n"


def run(folder, *arguments, ci=None, path="/nowhere"):
    """A session of pytest over `folder`, with nothing but what `path` holds installed."""
    shutil.copy(CONFTEST, folder)
    (folder / "test_one.py").write_text(TESTS)
    (folder / "pytest.ini").write_text(SETTINGS)
    (folder / "tmp").mkdir()
    environment = {"PATH": path, "TMPDIR": str(folder / "tmp"), "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments],
        cwd=folder,
        env=environment | ({"CI": ci} if ci else {}),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def with_chromium(tmp_path):
    there = tmp_path / "bin"
    there.mkdir()
    (there / "chromium").touch(mode=0o755)
    return str(there)


def test_where_ci_is_true_a_missing_program_is_a_failure(tmp_path):
    done = run(tmp_path, ci="true")

    assert done.returncode == 1
    assert "1 error" in done.stdout.splitlines()[-1] or "1 failed" in done.stdout.splitlines()[-1]
    assert "MISSING for browser tests: chromium; apt-get install chromium" in done.stdout


def test_elsewhere_it_is_skipped_and_said_aloud(tmp_path):
    done = run(tmp_path)

    assert done.returncode == 0
    loud = [line for line in done.stdout.splitlines() if line.startswith("!!")]
    assert len(loud) == 1
    assert "MISSING for browser tests: chromium; apt-get install chromium" in loud[0]


def test_what_is_there_is_run(tmp_path, with_chromium):
    done = run(tmp_path, ci="true", path=with_chromium)

    assert done.returncode == 0
    assert "PASSED test_one.py::test_of_a_page" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"), [((), "SKIPPED"), (("--long",), "PASSED")], ids=["not-asked", "asked"]
)
def test_what_takes_minutes_runs_when_asked(tmp_path, arguments, said):
    done = run(tmp_path, *arguments)

    (line,) = [
        line for line in done.stdout.splitlines()
        if line.startswith(said) and ("test_of_minutes" in line or "takes minutes" in line)
    ]  # fmt: skip
    assert line


def test_heavy_tests_come_last(tmp_path, with_chromium):
    done = run(tmp_path, "-v", path=with_chromium)

    ran = [line.split()[0] for line in done.stdout.splitlines() if "%]" in line]
    assert ran[-1] == "test_one.py::test_of_a_page"


def test_airflows_home_is_gone_afterwards(tmp_path):
    run(tmp_path)

    assert os.listdir(tmp_path / "tmp") == []
