"""A test whose server is missing is a failure where CI=true, and one loud skip elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS_VAULT = "tests/servers/test_proxy.py::test_requests_pass_and_are_counted"
LEAVES = """
from tests.servers import fixtures, vault_setup

fixtures.ENDED_S = 0.5

def test_that_leaves_a_token(vault):
    vault_setup.policy(vault, "idle", 'path "none" { capabilities = ["deny"] }')
    vault_setup.token(vault, "idle", ttl="10m")

def test_that_leaves_nothing(vault):
    vault_setup.revoke(vault, vault_setup.token(vault, "default"))
"""


def session(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider",
         *arguments],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize(("ci", "expected"), [("true", 1), ("", 0)], ids=["in-ci", "elsewhere"])
def test_without_vault_the_fixture_alone_says_so(tmp_path, ci, expected):
    status, said = session(NEEDS_VAULT, PATH="/nowhere", XDG_CACHE_HOME=str(tmp_path), CI=ci)

    assert status == expected
    loud = "MISSING for vault tests: vault or bao on PATH, or Go and then make servers"
    assert loud in said
    assert any(line.startswith("!!") and loud in line for line in said.splitlines()) is not bool(ci)
    assert ("1 skipped" in said) is not bool(ci)


def test_a_session_that_leaves_a_token_in_use_fails(vault_binary, tmp_path):
    (tmp_path / "test_leaving.py").write_text(LEAVES)
    alone = ("-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "tests.servers.fixtures")
    # Else it tidies up after every other session of this user, and warns of what it cannot remove.
    own = ("--basetemp", str(tmp_path / "own"))

    status, said = session(*alone, *own, str(tmp_path), PYTHONPATH=str(ROOT))

    assert status == 1
    assert "2 passed, 1 error" in said
    assert "tokens and leases that tests left on Vault" in said
    assert said.count("token auth/token/create ['idle']") >= 1
    assert "token auth/token/create ['default']" not in said
