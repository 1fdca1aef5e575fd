"""docs/commands.md says what the commands are, and its examples run."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.docs.conftest import add_program, shell

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_declaration_says():
    path = ROOT / "docs" / "make_commands.py"
    spec = importlib.util.spec_from_file_location("make_commands", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.render() == PAGE, "run `python docs/make_commands.py`"


@pytest.fixture
def folder(home):
    add_program(home, "pg_dump", "echo a dump")
    (home / "customers.csv").write_text("name,age\nalice,42\n")
    return home


def test_the_examples_run_in_their_order(folder):
    (block,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    lines = [line.removeprefix("$ ") for line in block.splitlines()]

    answer = shell(folder, lines)

    assert answer.returncode == 0, answer.stderr
    assert len(lines) == 7
    assert (folder / "customers.csv.new").read_text() == "name,age\nalice,42\n"
