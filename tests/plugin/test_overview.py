"""What stands above the list is counted in the reader's own events, in the time that is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.plugin.access import Scope
from airflow_secure_ml.plugin.filters import parse_filter
from airflow_secure_ml.plugin.overview import overview

# The fixture's last event is from then.
END = datetime.fromtimestamp(1_795_316_400, UTC)
WHOLE = Scope(user="ada", dags=None)


def above(trail, text, *, scope=WHOLE, now=END):
    return overview(trail.store, trail.hasty_store, scope, parse_filter(text, now=now), now=now)


def matching(trail, text):
    return trail.store.count(parse_filter(text, now=END).query, at_most=10_000)


def in_bars(chart):
    """How many events the bars' words speak of."""
    return sum(
        int(bar.said.split(": ")[1].split(" event")[0].replace(",", "")) for bar in chart.bars
    )


@pytest.mark.parametrize("text", ["", "dag:refusals", "status:refused", "show:everything"])
def test_every_event_that_matches_is_in_one_bar(trail, text):
    chart = above(trail, text).chart

    assert in_bars(chart) == matching(trail, text) > 0


def test_a_bar_s_link_finds_the_events_that_the_bar_counts(trail):
    bar = above(trail, "dag:refusals").chart.bars[-1]
    [text] = parse_qs(urlsplit(bar.href).query)["q"]

    assert bar.said.split(": ")[1].startswith(f"{matching(trail, text)} event")


def test_a_filter_that_finds_nothing_has_no_chart(trail):
    found = above(trail, "dag:nothing")

    assert (found.chart, found.later) == (None, False)


def test_a_time_that_was_asked_for_is_the_chart_s(trail):
    over = above(trail, "after:2026-11-20 before:2026-11-22").chart.axis

    assert over.from_ms == 1_795_132_800_000
    assert over.until_ms == 1_795_305_600_000


def test_until_now_is_drawn_if_only_the_beginning_was_said(trail):
    over = above(trail, "after:7d", now=END + timedelta(days=1)).chart.axis

    assert over.until_ms > (END + timedelta(days=1)).timestamp() * 1000 > over.from_ms


def test_a_clock_that_was_years_ahead_does_not_press_the_rest_into_one_bar(trail):
    found = above(trail, "", now=END - timedelta(days=2))

    assert found.later
    assert found.chart.axis.until_ms < END.timestamp() * 1000


def test_a_reader_of_one_dag_sees_counts_of_its_events_alone(trail):
    found = above(trail, "", scope=Scope(user="bill", dags=("billing_churn",)))

    assert in_bars(found.chart) == matching(trail, "dag:billing_churn") > 0
    assert "secure_training" not in str(found)


def test_values_beside_the_chosen_one_are_counted_too(trail):
    facets = {facet.name: facet for facet in above(trail, "dag:refusals status:refused").facets}
    numbers = {choice.label: choice.count for choice in facets["status"].choices}

    assert int(numbers["allowed"]) == matching(trail, "dag:refusals status:allowed") > 0
    assert int(numbers["refused"]) == matching(trail, "dag:refusals status:refused") > 0


class SlowToSearch:
    """The log of a fixture, too large to look through for a word."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def span(self, query):
        if query.text is not None:
            raise ServiceUnavailableError(
                service="audit log", action="read", reason="too long", why="audit_unavailable"
            )
        return self._store.span(query)


def test_what_takes_too_long_to_bound_is_drawn_over_all_times(trail):
    slow = SlowToSearch(trail.store)

    found = overview(trail.store, slow, WHOLE, parse_filter("visits-01", now=END), now=END)

    assert in_bars(found.chart) == matching(trail, "visits-01") > 0
    everything = above(trail, "show:everything").chart.axis
    assert found.chart.axis.from_ms == everything.from_ms
