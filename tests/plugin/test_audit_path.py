"""The drawn audit path: which events each of its hashes covers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.plugin.audit_path import ROW, SPINE_X, drawing


@pytest.mark.parametrize(
    ("index", "size", "expected"),
    [
        (0, 1, []),
        (1, 2, [("left", "event 0")]),
        (0, 7, [("right", "events 4 to 6"), ("right", "events 2 to 3"), ("right", "event 1")]),
        (6, 7, [("left", "events 0 to 3"), ("left", "events 4 to 5")]),
        (5, 7, [("left", "events 0 to 3"), ("right", "event 6"), ("left", "event 4")]),
        (1024, 1025, [("left", "events 0 to 1,023")]),
    ],
    ids=["one", "two", "first", "last", "middle", "after a power of two"],
)
def test_each_hash_says_which_events_it_covers(index, size, expected):
    path = [f"{number:064x}" for number in range(len(expected))]

    drawn = drawing(index, size, path)

    assert [(each.side, each.covers) for each in drawn.siblings] == expected
    assert [each.hash for each in drawn.siblings] == path[::-1]


@given(st.integers(1, 2**40), st.data())
def test_the_drawing_grows_by_a_row_for_each_hash(size, data):
    index = data.draw(st.integers(0, size - 1))

    drawn = drawing(index, size, ["aa"] * 64)

    assert len(drawn.siblings) <= 40
    assert drawn.event_y < drawn.height == ROW * (len(drawn.siblings) + 2)
    assert {each.x < SPINE_X for each in drawn.siblings} <= {True, False}
    assert [each.y for each in drawn.siblings] == [
        drawn.root_y + ROW * (at + 1) for at in range(len(drawn.siblings))
    ]


def test_a_path_that_is_too_short_is_drawn_as_far_as_it_goes():
    assert len(drawing(5, 7, ["aa"]).siblings) == 1
