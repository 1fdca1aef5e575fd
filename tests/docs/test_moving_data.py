"""What docs/platform-teams.md says of data on its way in and out runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_secure_ml.core.manifest import MAX_FILES
from airflow_secure_ml.services.opening_notes import NOTES
from airflow_secure_ml.services.sealing_journal import JOURNAL
from tests.docs.conftest import shell

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "platform-teams.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Bringing existing data in")[2].partition("\n## ")[0]


@pytest.fixture
def folder(home):
    (home / "visits" / "2026").mkdir(parents=True)
    (home / "visits" / "2026" / "01.csv").write_text("age,visits\n40,2\n")
    (home / "visits" / "all.csv").write_text("age,visits\n")
    return home


def test_its_commands_run_in_their_order(folder):
    (block,) = re.findall(r"```console\n(.*?)```", SECTION, re.DOTALL)
    lines = [line.removeprefix("$ ") for line in block.splitlines()]

    answer = shell(folder, ["secure-ml keys init", *lines])

    assert answer.returncode == 0, answer.stderr
    assert len(lines) == 4
    assert "sealed 2 files" in answer.stdout
    assert "opened 2 files" in answer.stdout
    assert (folder / "visits.back" / "2026" / "01.csv").read_text() == "age,visits\n40,2\n"


def test_its_names_and_figures_are_those_of_the_code():
    assert f"`DST/{JOURNAL}`" in SECTION
    assert f"`DST/{NOTES}`" in SECTION
    assert f"{MAX_FILES:,} files at most" in SECTION
