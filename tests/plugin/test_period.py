"""Days as a page's fields give them."""

from __future__ import annotations

import pytest

from airflow_secure_ml.plugin.period import DAY_MS, days_before, parse_period

FIRST_MS = 1_793_491_200_000  # 2026-11-01 00:00 UTC


def test_the_last_day_counts_whole():
    period = parse_period("2026-11-01", "2026-11-01")

    assert (period.from_ms, period.until_ms) == (FIRST_MS, FIRST_MS + DAY_MS)


@pytest.mark.parametrize(
    ("after", "before"),
    [("2026-11-02", "2026-11-01"), ("yesterday", ""), ("", "2026-13-01"), ("2026-W45-1", "")],
    ids=["turned around", "a word", "no month", "a week"],
)
def test_what_is_not_understood_is_said_and_bounds_nothing(after, before):
    period = parse_period(after, before)

    assert period.problem
    assert (period.from_ms, period.until_ms) == (None, None)


def test_nothing_given_is_no_problem():
    period = parse_period("", "")

    assert (period.problem, period.is_bounded) == ("", False)


def test_so_many_days_ago_is_a_day_of_the_field():
    assert days_before(FIRST_MS, 30) == "2026-10-02"
