"""`verify --recheck`: what it reads, what it says of what it did not read, and what it refuses."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_objects import remembering
from airflow_secure_ml.cli import main
from airflow_secure_ml.settings import reset_settings
from tests.commands.test_addresses import shell  # noqa: F401 - a fixture

SIGN, CHECK = ("sign", "plain"), ("verify", "plain", "--recheck")


@pytest.fixture(autouse=True)
def later(monkeypatch):
    """Files count as written well before, and as lying on a file system that is believed."""
    monkeypatch.setattr(remembering, "_MARGIN_NS", -60_000_000_000)
    monkeypatch.setattr(remembering, "_file_system", lambda descriptor: "ext4")
    # Its folder is to be this test's, not the one of whoever read the settings before.
    reset_settings()
    yield
    reset_settings()


@pytest.fixture
def desk(shell):  # noqa: F811 - the fixture
    shell.done(*SIGN)
    return shell


def outcomes(desk):
    facts = desk.made.audit.facts
    return [fact for fact in facts if (fact.act, fact.phase) == ("object.verify", "outcome")]


def test_the_second_check_reads_nothing_and_says_so(desk):
    first, second = desk.done(*CHECK), desk.done(*CHECK)

    assert (first["remembered"], second["remembered"]) == (0, 2)
    assert second["digest"] == first["digest"]
    folder = desk.path / "secure_ml" / "digests"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_changed_since_is_read_and_refused(desk):
    desk.done(*CHECK)
    (desk.path / "plain" / "a.csv").write_bytes(b"alicE")

    assert desk.refused(1, *CHECK)["why"] == "digest_differs"
    # Nor is what was refused taken for signed the next time.
    assert desk.refused(1, *CHECK)["why"] == "digest_differs"


def test_the_trail_says_how_many_files_were_not_read(desk):
    desk.done(*CHECK)
    desk.done(*CHECK)
    desk.done("verify", "plain")

    found = [dict(fact.more).get("remembered") for fact in outcomes(desk)]
    assert found == [0, 2, None]


def test_a_person_is_told_what_was_not_read(desk, capsys):
    for said in ("every file was read", "2 files were not read"):
        assert main([*CHECK]) == 0
        assert said in capsys.readouterr().out


def test_what_lies_in_a_store_is_refused_before_the_store_is_asked(desk):
    desk.done("seal", "--recursive", "plain", "s3://lake/visits")

    refused = desk.refused(2, "verify", "s3://lake/visits", "--recheck")

    assert "no proof of its bytes; verify it whole" in refused["message"]
    assert "remembered" not in desk.done("verify", "s3://lake/visits")
    assert not (desk.path / "secure_ml" / "digests").exists()


def test_a_memory_that_others_may_write_is_refused(desk):
    desk.done(*CHECK)
    (desk.path / "secure_ml" / "digests").chmod(0o770)

    assert "0700" in desk.refused(2, *CHECK)["message"]
    assert "remembered" not in desk.done("verify", "plain")


def test_what_is_remembered_stands_for_no_signature(desk):
    (statement,) = desk.done(*CHECK)["statements"]
    Path(statement.removeprefix("file://")).unlink()

    assert desk.refused(1, *CHECK)["why"] == "not_signed"
