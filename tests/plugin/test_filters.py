"""The filter box: what it understands, and that it never skips what it does not."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_secure_ml.plugin.filter_words import Token
from airflow_secure_ml.plugin.filters import FIELDS, parse_filter
from airflow_secure_ml.services.report_figures import stamp

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
    [
        "colour:red", "status:maybe", "-status:maybe", "after:yesterday", "dag:a dag:b",
        "-after:1d", "-show:everything", "after:99999d", "dag:", "version:3", 'dag:"churn',
        "show:nothing", "after:1d after:2d", "after:2026-11-02 before:2026-11-01",
    ],
    ids=[
        "field", "status", "excluded status", "time", "twice", "excluded time",
        "excluded show", "before the calendar", "no value", "version of no key", "open quotation",
        "show", "two times", "empty time",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_said(text):
    assert parse_filter(text, now=NOW).problems


@pytest.mark.parametrize(
    ("text", "wrong", "instead"),
    [
        ("dag:churn colour:red late", "colour:red", ""),
        ("dag:churn stauts:refused", "stauts:refused", "dag:churn status:refused"),
        ("status:refusd dag:churn", "status:refusd", "status:refused dag:churn"),
        ('late run:"manual 1', 'run:"manual 1', 'late run:"manual 1"'),
        ("-before:1d", "-before:1d", "before:1d"),
        ("-staus:failed", "-staus:failed", "-status:failed"),
        ("key:data version:3 dag:a dag:b", "dag:b", ""),
    ],
    ids=["unknown", "field", "status", "quotation", "time", "exclusion", "second"],
)
def test_a_problem_points_at_its_place_and_says_what_was_meant(text, wrong, instead):
    [problem] = parse_filter(text, now=NOW).problems

    assert (text[problem.start : problem.stop], problem.instead) == (wrong, instead)


def test_the_box_is_shown_whole_with_the_wrong_words_apart():
    found = parse_filter("dag:a  colour:red x stauts:b", now=NOW)

    assert [(part.text, part.is_wrong) for part in found.parts] == [
        ("dag:a  ", False),
        ("colour:red", True),
        (" x ", False),
        ("stauts:b", True),
    ]


@pytest.mark.parametrize(
    ("text", "excluded"),
    [
        ("-dag:churn", ("dag", "churn")),
        ("-object:s3://lake/x.csv", ("uri", "s3://lake/x.csv")),
        ("-status:allowed", ("result", "ok")),
        ("-act:object.*", ("act", "object.")),
        ('-key:"a b"', ("key", "a b")),
    ],
    ids=["dag", "object", "status", "activities", "quoted"],
)
def test_a_minus_leaves_events_out(text, excluded):
    found = parse_filter(text, now=NOW)

    assert (found.problems, found.query.excluded) == ((), (excluded,))
    assert (found.query.dag, found.query.uri, found.query.key) == (None, None, None)


def test_each_field_asks_the_store_for_its_own_part():
    text = "digest:sha256:aa lease:sha256:bb by:ada host:w1 of:00ff:3 key:data version:2"

    query = parse_filter(text, now=NOW).query

    assert (query.digest, query.lease, query.by) == ("sha256:aa", "sha256:bb", "ada")
    assert (query.host, query.of, query.key, query.version) == ("w1", "00ff:3", "data", "2")


def test_an_address_is_a_word_and_not_a_field():
    found = parse_filter("file:///srv/lake/x.csv", now=NOW)

    assert (found.problems, found.query.text) == ((), "file:///srv/lake/x.csv")


def test_clicking_a_value_replaces_what_the_field_said():
    found = parse_filter('dag:churn run:"manual 1" late', now=NOW)

    assert found.narrowed(("run", "b c")) == 'dag:churn late run:"b c"'
    assert found.without("dag") == 'run:"manual 1" late'
    assert found.narrowed(("key", "data"), ("version", "3")).endswith("late key:data version:3")


def test_a_value_is_never_both_asked_for_and_left_out():
    found = parse_filter("dag:churn -task:train late", now=NOW)

    assert found.excluding("dag", "churn") == "-task:train late -dag:churn"
    assert found.narrowed(("task", "train")) == "dag:churn late task:train"
    assert found.including("task", "train") == "dag:churn late"
    assert found.excluding("task", "score") == "dag:churn -task:train late -task:score"
    assert (found.value("task"), found.excluded("task")) == ("", ("train",))


def test_another_time_takes_the_place_of_the_one_before():
    found = parse_filter("after:7d dag:churn before:1d", now=NOW)

    assert found.between("2026-11-01", "2026-11-02") == (
        "dag:churn after:2026-11-01 before:2026-11-02"
    )
    assert found.between("", "") == "dag:churn"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1793491200000, "2026-11-01"),
        (1793536200000, "2026-11-01T12:30"),
        (1793536201000, "2026-11-01T12:30:01"),
        (1793536201007, "2026-11-01T12:30:01.007"),
        (-62135596800000, "0001-01-01"),
    ],
    ids=["day", "minute", "second", "millisecond", "first"],
)
def test_a_moment_is_written_as_it_is_read(ms, text):
    assert stamp(ms) == text
    assert parse_filter(f"after:{text}", now=NOW).query.from_ms == ms


@given(
    field=st.sampled_from(["", *FIELDS]),
    value=st.text(st.characters(codec="utf-8"), max_size=40),
    is_excluded=st.booleans(),
)
@example(field="object", value="//lake/x", is_excluded=False)
@example(field="dag", value="a\u202eb\ud7ff\n\t\0 ", is_excluded=True)
@example(field="", value="dag:", is_excluded=False)
@example(field="run", value="two  spaces ", is_excluded=False)
def test_whatever_a_value_holds_it_comes_back_from_the_box(field, value, is_excluded):
    token = Token(field=field, value=value, is_excluded=is_excluded and field != "")

    assert parse_filter(str(token), now=NOW).tokens == (token,)


@given(st.text(max_size=60))
@example('dag:"\\ud800" x')
@example('"\\u{110000}"')
def test_whatever_the_box_holds_it_is_shown_without_hidden_characters(text):
    found = parse_filter(text, now=NOW)
    shown = found.text + "".join(problem.instead for problem in found.problems)

    assert [char for char in shown if char != " " and unicodedata.category(char)[0] in "CZ"] == []
    assert "".join(part.text for part in found.parts) == found.text
    assert parse_filter(found.text, now=NOW) == found
    found.query.text is None or found.query.text.encode("utf-8")


def test_what_the_log_says_of_itself_is_left_out_unless_asked_for():
    assert "trail.emitter" not in parse_filter("dag:churn", now=NOW).query.acts
    assert "trail.verify" in parse_filter("", now=NOW).query.acts
    assert parse_filter("show:everything", now=NOW).query.acts == ()
    assert parse_filter("emitter:00ff", now=NOW).query.acts == ()
