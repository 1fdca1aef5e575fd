"""`make demo` and `make demo-vault` without a terminal: what they say, how they end, what stays."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600
REFUSED = {
    "failed_expectations": "expectation_failed",
    "forged_signature": "signature_invalid",
    "key_it_may_not_use": "key_not_allowed",
    "older_model_replayed": "digest_differs",
    "other_patients_file": "context_differs",
    "plain_where_sealed_is_due": "not_sealed",
    "tampered": "digest_differs",
}

pytestmark = pytest.mark.airflow


class Demo:
    """One demo in a folder of its own, with a home and a temporary folder to stay empty."""

    def __init__(self, folder, root=ROOT, program="run"):
        self.home, self.temporary, self.place = folder / "home", folder / "tmp", folder / "demo"
        for each in (self.home, self.temporary):
            each.mkdir()
        self.scratch_before = scratch()
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"dags_examples.demo.{program}", "--place", str(self.place)],
            cwd=root,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "TMPDIR": str(self.temporary),
                # Where a server that was built before is found.
                "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def wait(self):
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return said, self.process.returncode

    def until_it_says(self, text):
        for line in self.process.stdout:
            if text in line:
                return
        pytest.fail(f"it never said {text!r}")

    def left_processes(self):
        """Processes whose working directory, arguments or environment name the folder."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                for name in ("cmdline", "environ"):
                    try:
                        if bytes(self.place) in (folder / name).read_bytes():
                            found.append((folder / "cmdline").read_bytes())
                    except OSError:
                        continue
        return found

    def assert_nothing_is_left(self):
        deadline = time.monotonic() + 60
        # Others may have scratch at this moment, too: theirs goes, and what comes now is theirs.
        left = scratch() - self.scratch_before
        while self.left_processes() or left:
            assert time.monotonic() < deadline, (self.left_processes(), left)
            time.sleep(0.2)
            left &= scratch()
        assert list(self.home.iterdir()) == []
        assert list(self.temporary.iterdir()) == []
        # As root, PostgreSQL's cluster lies where its user can reach it.
        assert not (self.place / "postgres" / "cluster").is_symlink()


def scratch():
    names = {path.name for path in Path("/dev/shm").iterdir()}
    return {name for name in names if re.fullmatch("asml-[0-9a-f]{32}", name)}


@pytest.fixture
def start(tmp_path):
    started = []

    def start(program):
        started.append(Demo(tmp_path, program=program))
        return started[0]

    yield start
    for demo in started:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.process.wait(timeout=60)


@pytest.fixture
def demo(start):
    return start("run")


def test_the_demo_says_what_came_out_and_leaves_nothing(demo):
    said, status = demo.wait()

    assert status == 0, said
    counts = dict(
        re.findall(r"^  (validated|sealed|signed|opened|refused|trail) +(\d+) ", said, re.M)
    )
    assert {word: int(n) for word, n in counts.items() if word != "trail"} == {
        "validated": 1, "sealed": 11, "signed": 12, "opened": 4, "refused": 7,
    }  # fmt: skip
    assert dict(re.findall(r"^ {14}(\w+) +(\w+)  ", said, re.M)) == REFUSED
    assert "events, whole: all derived anew" in said
    assert re.search(r"^  page +http://127\.0\.0\.1:\d+/plugin/security-audit$", said, re.M)
    assert re.search(r"^  user +admin$", said, re.M)
    assert re.search(r"^  password +\S{16}$", said, re.M)
    demo.assert_nothing_is_left()


@pytest.mark.vault
@pytest.mark.postgres
def test_the_demo_with_vault_says_what_came_out_and_leaves_nothing(start):
    demo = start("run_vault")

    said, status = demo.wait()

    assert status == 0, said
    counts = dict(re.findall(r"^  ([a-z ]{2,9}?) +(\d+)  ", said, re.M))
    assert {word: int(n) for word, n in counts.items() if word != "trail"} == {
        "sealed": 5, "signed": 5, "opened": 8, "leased": 9, "revoked": 9, "left": 0, "read": 1,
        "rewrapped": 3, "key data": 2,
    }  # fmt: skip
    assert "roles in PostgreSQL, 0 leases and tokens on Vault" in said
    assert "events, whole: all derived anew" in said
    demo.assert_nothing_is_left()


SERVERS = (pytest.mark.vault, pytest.mark.postgres)


@pytest.mark.parametrize(
    ("program", "moment", "number"),
    [
        pytest.param("run", "starting Airflow", signal.SIGTERM, id="terminated-as-it-starts"),
        pytest.param("run", "running the examples", signal.SIGINT, id="ctrl-c-as-tasks-run"),
        pytest.param(
            "run_vault", "starting Vault", signal.SIGTERM,
            id="terminated-as-vault-starts", marks=SERVERS,
        ),
        pytest.param(
            "run_vault", "running the examples", signal.SIGINT,
            id="ctrl-c-as-tasks-hold-leases", marks=SERVERS,
        ),
    ],
)  # fmt: skip
def test_a_demo_that_is_stopped_leaves_nothing(start, program, moment, number):
    demo = start(program)
    demo.until_it_says(moment)

    demo.process.send_signal(number)

    _, status = demo.wait()
    assert status == 130
    demo.assert_nothing_is_left()


@pytest.mark.long
def test_a_refusal_that_is_broken_in_the_code_is_told(tmp_path):
    for name in ("airflow_secure_ml", "dags_examples"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name)
    policy = tmp_path / "copy" / "airflow_secure_ml" / "core" / "policy.py"
    code = policy.read_text()
    broken = code.replace("if rule.key is None or", "if True or rule.key is None or")
    assert broken != code
    policy.write_text(broken)
    demo = Demo(tmp_path, tmp_path / "copy")

    said, status = demo.wait()

    assert status == 1, said
    assert "NOT AS EXPECTED" in said
    assert "refusals.key_it_may_not_use: " in said.partition("NOT AS EXPECTED")[2]
    demo.assert_nothing_is_left()
