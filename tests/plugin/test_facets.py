"""The choices beside the filter: counts that never claim more than what was looked at."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_secure_ml.plugin.facets import ago, build
from airflow_secure_ml.plugin.filters import parse_filter

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SAMPLE = [
    ("object.open", "ok"),
    ("object.open", "refused"),
    ("rule.decide", "ok"),
    ("object.publish", "intent"),
]


def choices(text, *, is_all=True):
    facets = build(SAMPLE, parse_filter(text, now=NOW), is_all=is_all)
    return {(facet.name, choice.label): choice for facet in facets for choice in facet.choices}


def test_counts_are_of_what_matches():
    found = choices("")

    assert found["status", "allowed"].count == "2"
    assert found["status", "intent"].count == "1"
    assert found["activity", "open"].count == "2"
    assert found["activity", "rules"].count == "1"
    assert ("activity", "seal") not in found


def test_counts_of_a_part_are_lower_bounds():
    assert choices("", is_all=False)["status", "refused"].count == "1+"


def test_a_chosen_value_is_clicked_away_and_its_alternatives_are_not_counted():
    found = choices("dag:churn status:refused")

    assert found["status", "refused"].chosen
    assert found["status", "refused"].href == "events?q=dag%3Achurn"
    assert found["status", "allowed"].count == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s ago"),
        (61, "1 min ago"),
        (7300, "2 h ago"),
        (86400, "1 day ago"),
        (2e5, "2 days ago"),
    ],
    ids=["now", "minute", "hours", "day", "days"],
)
def test_ages_are_said_in_the_largest_unit(seconds, text):
    assert ago(seconds) == text
