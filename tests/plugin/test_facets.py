"""The choices beside the filter: counts that never claim more than what was looked at."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_secure_ml.core.audit.query import Values
from airflow_secure_ml.plugin.facets import ago, build, times
from airflow_secure_ml.plugin.filters import parse_filter

NOW = datetime(2026, 11, 22, tzinfo=UTC)
COUNTED = {
    "status": (("ok", 2), ("refused", 1_204), ("intent", 1)),
    "act": (("object.open", 2), ("rule.decide", 1), ("object.publish", 1)),
    "dag": (("churn", 3), ("health", 1)),
    "key": (("data", 2),),
}


def choices(text, *, is_exact=True, **counted):
    found = {
        field: Values(values=values, is_exact=is_exact)
        for field, values in (COUNTED | counted).items()
    }
    facets = build(found, parse_filter(text, now=NOW))
    return {(facet.name, choice.label): choice for facet in facets for choice in facet.choices}


def test_counts_are_of_what_matches():
    found = choices("")

    assert found["status", "allowed"].count == "2"
    assert found["status", "refused"].count == "1,204"
    assert found["status", "refused"].tone == "bad"
    assert found["activity", "rules"].count == "1"
    assert found["dag", "churn"].count == "3"
    assert ("activity", "seal") not in found


def test_what_never_happened_is_not_red():
    assert choices("", status=(("ok", 2),))["status", "refused"].tone == ""


def test_counts_of_a_part_are_lower_bounds():
    assert choices("", is_exact=False)["status", "refused"].count == "1,204+"


def test_a_choice_that_would_change_nothing_is_not_offered():
    assert ("key", "data") not in choices("")
    assert choices("key:data")["key", "data"].state == "chosen"


def test_a_chosen_value_is_clicked_away_and_its_alternatives_stay():
    found = choices("dag:churn status:refused")

    assert found["status", "refused"].state == "chosen"
    assert found["status", "refused"].href == "events?q=dag%3Achurn"
    assert found["status", "allowed"].href == "events?q=dag%3Achurn+status%3Aallowed"
    assert found["dag", "health"].count == "1"


def test_a_value_can_be_left_out_and_taken_back():
    assert choices("late")["dag", "churn"].but == "events?q=late+-dag%3Achurn"

    found = choices("late -dag:churn -dag:gone")

    assert (found["dag", "churn"].state, found["dag", "churn"].but) == ("left out", "")
    assert found["dag", "churn"].href == "events?q=late+-dag%3Agone"
    assert found["dag", "gone"].count == ""


def test_a_name_that_would_hide_or_reorder_text_is_shown_as_what_it_is():
    found = choices("", dag=(("a\u202eb", 1), ("c", 1)))

    choice = found["dag", "a\\u202eb"]
    assert choice.href == "events?q=dag%3A%22a%5Cu202eb%22"


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", "any time"),
        ("after:7d", "7 days"),
        ("after:2026-11-01", None),
        ("after:7d before:1d", None),
    ],
    ids=["any", "a week", "another", "both ends"],
)
def test_the_time_that_the_filter_says_is_marked(text, chosen):
    found = [choice.label for choice in times(parse_filter(text, now=NOW)) if choice.state]

    assert found == ([] if chosen is None else [chosen])


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
