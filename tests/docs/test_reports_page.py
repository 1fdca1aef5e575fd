"""docs/reports.md: its examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reports.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=["a cell", "a report"])
def test_an_example_runs(block):
    found = {}

    exec(compile(block, str(PAGE), "exec"), found)

    assert {"restored", "SecurityReportOperator"} & found.keys()


def test_every_activity_it_names_is_in_the_catalogue():
    from airflow_secure_ml.core.audit.catalogue import ACTIVITIES, WHYS

    named = set(re.findall(r"`((?:trail|review)\.[a-z]+)`", PAGE.read_text(encoding="utf-8")))

    assert named == {"trail.export", "review.assign", "review.note", "review.sign"}
    assert named <= ACTIVITIES.keys()
    assert "broken_off" in WHYS
