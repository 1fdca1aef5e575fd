"""The page on finding events names every field, and its words mean what it says."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from airflow_secure_ml.plugin.filters import FIELDS, STATUSES, parse_filter

PAGE = (Path(__file__).parents[2] / "docs" / "finding-events.md").read_text()
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_every_field_and_status_has_its_words():
    assert {field for field in FIELDS if f"`{field}:" not in PAGE} == set()
    assert {word for word in STATUSES if f"`{word}`" not in PAGE} - {"ok", "refused"} == set()


def test_every_example_is_understood():
    table = PAGE.partition("|---|---|\n")[2].partition("\n\n")[0]
    examples = [
        words for row in table.splitlines() for words in re.findall(r"`([^`]*)`", row.split("|")[1])
    ]

    assert len(examples) > 12
    assert {text: parse_filter(text, now=NOW).problems for text in examples} == dict.fromkeys(
        examples, ()
    )
