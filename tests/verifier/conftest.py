"""The verifier as an outsider runs it: a Python that has `cryptography` and nothing of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERIFY = ROOT / "airflow_secure_ml" / "verifier" / "verify.py"
# What the library is made of; there is no other package in the outsider's environment.
_PARTS = ("cryptography", "cffi", "pycparser", "_cffi_backend*")


class Outsider:
    """Runs a copy of verify.py in an environment of its own."""

    def __init__(self, folder):
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        ours = Path(sys.modules["cryptography"].__file__).parents[1]
        for pattern in _PARTS:
            for path in ours.glob(pattern):
                (packages / path.name).symlink_to(path)
        self.program = folder / "verify.py"
        shutil.copy(VERIFY, self.program)
        self.folder = folder

    def python_says(self, code):
        done = subprocess.run(
            [str(self.python), "-I", "-c", code],
            capture_output=True, text=True, check=False, cwd=self.folder,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def run(self, what, *options):
        """(exit status, standard output, standard error)."""
        done = subprocess.run(
            [str(self.python), "-I", str(self.program), str(what), *map(str, options)],
            capture_output=True, text=True, check=False, cwd=self.folder,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def report(self, what, *options):
        """The report; its status is the exit status."""
        status, said, told = self.run(what, *options, "--json")
        assert said, told
        report = json.loads(said)
        assert report["status"] == status
        return report


@pytest.fixture(scope="session")
def outsider(tmp_path_factory):
    import cryptography  # noqa: F401 - its place is looked up

    return Outsider(tmp_path_factory.mktemp("outsider"))
