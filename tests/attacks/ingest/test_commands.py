"""`audit ingest-token` and `audit sequencer` over what an end point took: real processes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from airflow_secure_ml.adapters.ingest.line import read_token
from airflow_secure_ml.adapters.ingest.tokens import Sender, read_tokens

from .conftest import hand_over


@pytest.fixture
def command(tmp_path):
    """Run the command line; returns its exit status and all that it said."""

    def run(*words, **options):
        own = {f"AIRFLOW__SECURE_ML__{name.upper()}": str(at) for name, at in options.items()}
        kept = {name: at for name, at in os.environ.items() if not name.startswith("AIRFLOW")}
        done = subprocess.run(
            [sys.executable, "-m", "airflow_secure_ml.cli", "audit", *words],
            env=kept | own | {"AIRFLOW_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_token_is_made_once_for_its_owner_alone_and_never_shown(command, tmp_path):
    path = tmp_path / "made"

    first, said = command("ingest-token", audit_ingest_token_path=path)
    token = read_token(path)
    second, refused = command("ingest-token", audit_ingest_token_path=path)

    assert (first, second) == (0, 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(token) == 64
    assert token not in said + refused
    assert read_token(path) == token


def test_a_token_without_a_place_is_not_made(command):
    status, said = command("ingest-token")

    assert status == 2
    assert "audit_ingest_token_path" in said


def test_a_teams_token_lies_in_a_file_of_its_own_and_is_let_in_by_a_line(command, tmp_path):
    path = tmp_path / "teams"

    for team in ("red", "blue"):
        status, said = command(
            "ingest-token", "--team", team, "--to", str(tmp_path / team),
            audit_ingest_token_path=path,
        )  # fmt: skip
        assert status == 0, said
        assert read_token(tmp_path / team) not in said + path.read_text()

    tokens = read_tokens(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for team in ("red", "blue"):
        assert tokens.sender(f"Bearer {read_token(tmp_path / team)}") == Sender(team=team)
    again = ("--team", "red", "--to", str(tmp_path / "other"))
    assert command("ingest-token", *again, audit_ingest_token_path=path)[0] == 2
    assert not (tmp_path / "other").exists()


def test_a_team_is_not_added_to_a_file_with_one_token_for_all(command, tmp_path):
    path = tmp_path / "made"
    command("ingest-token", audit_ingest_token_path=path)
    token = path.read_text()

    status, said = command(
        "ingest-token", "--team", "red", "--to", str(tmp_path / "red"), audit_ingest_token_path=path
    )

    assert status == 2
    assert "one token for all" in said
    assert path.read_text() == token
    assert not (tmp_path / "red").exists()


@pytest.mark.parametrize("is_set", [True, False], ids=["with the option", "without"])
def test_a_sequencer_follows_what_was_taken_only_where_it_is_told(
    command,
    site,
    server,
    token_path,
    is_set,
):
    emitter = hand_over(server.url, token_path)
    more = {"audit_ingest_token_path": token_path} if is_set else {}

    status, said = command(
        "sequencer",
        "--once",
        audit_dir=site.path,
        audit_signer_dir=site.signer_path,
        **more,
    )

    assert status == 0, said
    assert (site.of(emitter) == [0, 1, 2]) is is_set
