"""The filter box: what it understands, and that it never skips what it does not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.plugin.filters import FIELDS, Token, parse_filter

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_fields_and_words_become_one_query():
    found = parse_filter("dag:churn status:refused act:object.* customers table", now=NOW)

    assert found.problems == ()
    assert found.query.dag == "churn"
    assert found.query.results == ("refused",)
    assert found.query.acts == ("object.",)
    assert found.query.text == "customers table"


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("after:2026-11-01", 1793491200000),
        ("after:2026-11-01T12:30", 1793536200000),
        ("after:2026-11-01T12:30:00+01:00", 1793532600000),
        ("after:1d", 1795262400000),
        ("after:90m", 1795343400000),
    ],
    ids=["day", "minute", "zone", "day ago", "minutes ago"],
)
def test_times_are_utc_unless_they_say_otherwise(text, ms):
    assert parse_filter(text, now=NOW).query.from_ms == ms


@pytest.mark.parametrize(
    "text",
    ["colour:red", "status:maybe", "after:yesterday", "dag:a dag:b", "-status:ok", "after:99999d"],
    ids=["field", "status", "time", "twice", "exclusion", "before the calendar"],
)
def test_what_is_not_understood_is_said(text):
    assert parse_filter(text, now=NOW).problems


def test_an_address_is_a_word_and_not_a_field():
    found = parse_filter("file:///srv/lake/x.csv", now=NOW)

    assert (found.problems, found.query.text) == ((), "file:///srv/lake/x.csv")


def test_clicking_a_value_replaces_what_the_field_said():
    found = parse_filter('dag:churn run:"manual 1" late', now=NOW)

    assert found.narrowed("run", "b c") == 'dag:churn late run:"b c"'
    assert found.without("dag") == 'run:"manual 1" late'


@given(
    field=st.sampled_from(["", *FIELDS]), value=st.text(st.characters(codec="utf-8"), max_size=40)
)
def test_whatever_a_value_holds_it_comes_back_from_the_box(field, value):
    value = value.strip()
    token = Token(field=field, value=value)

    assert parse_filter(str(token), now=NOW).tokens == (token,)


def test_what_the_log_says_of_itself_is_left_out_unless_asked_for():
    assert "trail.emitter" not in parse_filter("dag:churn", now=NOW).query.acts
    assert "trail.verify" in parse_filter("", now=NOW).query.acts
    assert parse_filter("show:everything", now=NOW).query.acts == ()
    assert parse_filter("emitter:00ff", now=NOW).query.acts == ()
