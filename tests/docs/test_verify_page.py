"""docs/verify-without-us.md: its commands run in their order, the second block's outside."""

from __future__ import annotations

import re
import shutil
import sqlite3
import zipfile
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.sequencer import stop_sequencer
from tests.docs.conftest import shell
from tests.verifier.conftest import outsider  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "verify-without-us.md").read_text(encoding="utf-8")
BLOCKS = [
    [line.removeprefix("$ ") for line in block.splitlines()]
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
]


@pytest.fixture
def folder(home):
    made = shell(home, ["secure-ml keys init", "secure-ml keys create more --for wrap"])
    assert made.returncode == 0, made.stderr
    stop_sequencer(home / "secure_ml" / "audit")
    assert shell(home, ["secure-ml audit sequencer --once"]).returncode == 0
    return home


def test_the_commands_of_the_page_run(folder, outsider):  # noqa: F811
    ours, theirs = BLOCKS
    assert (len(ours), len(theirs)) == (4, 4)

    given = shell(folder, ours)

    assert given.returncode == 0, given.stderr
    assert "leaf 0 is in" in given.stdout
    stop_sequencer(folder / "secure_ml" / "audit")
    (last,) = folder.rglob("last")
    copy = outsider.folder
    for name in ("tiles", "evidence.zip", "first.tlog-proof"):
        (folder / name).rename(copy / name)
    shutil.copy(next(folder.rglob("log_keys")), copy / "log_keys")
    shutil.copy(last, copy / "last")
    with zipfile.ZipFile(copy / "evidence.zip") as pack:
        (copy / "kept").write_bytes(pack.read("checkpoint"))
    _back_up(next(folder.rglob("trail.db")), copy / "trail.db")
    statuses = []
    for line in theirs:
        python, program, what, *options = line.split()
        assert (python, program) == ("python", "verify.py")
        statuses.append(outsider.run(what, *options)[0])
    assert statuses == [0, 0, 0, 0]


def _back_up(source, target):
    with sqlite3.connect(source) as live, sqlite3.connect(target) as copy:
        live.backup(copy)
    live.close()
    copy.close()
