"""The chart over time: round steps, bars that show one event beside a million, ways to zoom in."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.query import Histogram
from airflow_secure_ml.plugin.histogram import (
    FIRST_MS,
    HEIGHT,
    LAST_MS,
    MAX_BARS,
    MAX_TICKS,
    Axis,
    axis,
    draw,
)

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
NOVEMBER_MS = 1793491200000  # 2026-11-01T00:00Z


def zoomed(begin, end):
    return f"{begin}..{end}"


def chart(*bars, step=HOUR_MS, is_exact=True, begin=NOVEMBER_MS):
    over = Axis(from_ms=begin, step_ms=step, steps=len(bars))
    counted = Histogram(from_ms=begin, bucket_ms=step, bars=bars, is_exact=is_exact)
    return draw(counted, over, zoomed)


@pytest.mark.parametrize(
    ("length_ms", "step_ms"),
    [(1, 1), (1000, 20), (60_000, 1000), (HOUR_MS, 60_000), (DAY_MS, 900_000),
     (7 * DAY_MS, 2 * HOUR_MS), (30 * DAY_MS, 12 * HOUR_MS), (365 * DAY_MS, 5 * DAY_MS)],
    ids=["ms", "second", "minute", "hour", "day", "week", "month", "year"],
)  # fmt: skip
def test_a_bar_is_a_round_stretch_of_time(length_ms, step_ms):
    found = axis(NOVEMBER_MS, NOVEMBER_MS + length_ms - 1)

    assert found.step_ms == step_ms
    assert found.from_ms % step_ms == 0


@given(st.integers(-(2**53), 2**53), st.integers(-(2**53), 2**53))
@example(0, 2**53)
@example(FIRST_MS, LAST_MS)
def test_an_axis_holds_both_its_ends_whatever_the_clocks_said(first, last):
    found = axis(first, last)

    held = min(max(first, FIRST_MS), LAST_MS)
    assert found.from_ms <= held < found.until_ms
    assert 1 <= found.steps <= MAX_BARS
    drawn = draw(
        Histogram(
            from_ms=found.from_ms, bucket_ms=found.step_ms, bars=((1, 1),) * found.steps,
            is_exact=True,
        ),
        found,
        zoomed,
    )  # fmt: skip
    assert len(drawn.bars) == found.steps
    assert len(drawn.ticks) <= MAX_TICKS + 1


def test_bars_are_in_proportion_and_the_refused_part_is_within():
    drawn = chart((100, 0), (50, 25), (0, 0), (200, 200))

    assert [(bar.x, bar.height, bar.refused) for bar in drawn.bars] == [
        ("0.000", 22, 0),
        ("25.000", 11, 6),
        ("75.000", HEIGHT, HEIGHT),
    ]
    assert drawn.most == "200"


def test_one_refusal_among_a_million_events_is_seen():
    drawn = chart((1_000_000, 1), (1, 0))

    assert [(bar.height, bar.refused) for bar in drawn.bars] == [(HEIGHT, 2), (2, 0)]


def test_a_bar_leads_to_its_own_time_and_says_it():
    first, second = chart((1_204, 3), (1, 0)).bars

    assert first.href == f"{NOVEMBER_MS}..{NOVEMBER_MS + HOUR_MS}"
    assert first.said == "2026-11-01 00:00 to 01:00: 1,204 events, 3 refused"
    assert second.said == "2026-11-01 01:00 to 02:00: 1 event"


def test_a_bar_that_ends_another_day_says_both():
    [bar] = chart((2, 0), step=12 * HOUR_MS, begin=NOVEMBER_MS + 12 * HOUR_MS).bars

    assert bar.said == "2026-11-01 12:00 to 2026-11-02 00:00: 2 events"


def test_what_was_counted_in_a_part_is_said_to_be_about():
    drawn = chart((1_000, 10), is_exact=False)

    assert drawn.bars[0].said.endswith("about 1,000 events, about 10 refused")
    assert drawn.most == "about 1,000"


@pytest.mark.parametrize(
    ("begin", "length_ms", "labels"),
    [
        (NOVEMBER_MS, 6 * HOUR_MS, ["Nov 1", "01:00", "02:00", "03:00", "04:00", "05:00"]),
        (NOVEMBER_MS, 7 * DAY_MS, [f"Nov {day}" for day in range(1, 8)]),
        (NOVEMBER_MS + 1, 500, ["Nov 1", "00:00:00.100", "00:00:00.200", "00:00:00.300",
                                "00:00:00.400"]),
    ],
    ids=["hours", "days", "milliseconds"],
)  # fmt: skip
def test_ticks_stand_at_round_moments(begin, length_ms, labels):
    over = axis(begin, begin + length_ms - 1)
    counted = Histogram(
        from_ms=over.from_ms, bucket_ms=over.step_ms, bars=((1, 0),) * over.steps, is_exact=True
    )

    assert [label for _, label in draw(counted, over, zoomed).ticks] == labels
