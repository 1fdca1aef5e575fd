"""What docs/lineage.md says of the pages is what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_secure_ml.plugin.keys_view import LEASE_MARKS
from airflow_secure_ml.services.lineage import Limits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lineage.md").read_text()
TEMPLATES = ROOT / "airflow_secure_ml" / "plugin" / "templates"


def test_the_states_of_a_lease_are_those_of_the_page():
    table = PAGE.partition("## Keys and leased credentials")[2].partition("## DAGs")[0]

    told = re.findall(r"^\| (?!state)([a-z, ]+) \|", table, re.MULTILINE)
    assert told == [word for _, word, _ in LEASE_MARKS.values()]


def test_the_bounds_of_a_picture_are_those_in_force():
    bounds = Limits()

    assert (
        f"at most {bounds.nodes} boxes, {bounds.fan} works at a version and {bounds.steps} works"
        in PAGE
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("object", ["Who opened it", "Where it comes from, where it went", "Versions"]),
        ("lineage", ["What it became in the end", "The same as a table"]),
        ("key", ["Runs that used"]),
        ("keys", ["Leased credentials"]),
        ("principals", ["Show names"]),
        ("principal", ["Show who"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_it_names_stands_on_the_page(name, words):
    html = (TEMPLATES / f"{name}.html").read_text()

    assert [word for word in words if word not in html] == []
