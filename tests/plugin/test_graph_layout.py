"""Boxes never lie on each other, arrows lead to the right, and circles end."""

from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_secure_ml.plugin.graph_layout import ROW_GAP, Box, lay_out


def boxes(names, width=100.0, height=40.0):
    return [Box(key=name, width=width, height=height) for name in names]


def ends(path):
    """Where a path begins and ends."""
    numbers = [float(one) for one in re.findall(r"-?[0-9.]+", path)]
    return tuple(numbers[:2]), tuple(numbers[-2:])


def test_a_chain_is_one_straight_line():
    layout = lay_out(boxes("abc"), [("a", "b"), ("b", "c")])

    places = [layout.placed[name] for name in "abc"]
    assert [place.x for place in places] == [6.0, 140.0, 274.0]
    assert len({place.y for place in places}) == 1


def test_an_arrow_goes_from_edge_to_edge():
    layout = lay_out(boxes("ab"), [("a", "b")])

    assert ends(layout.paths[0]) == ((106.0, 26.0), (140.0, 26.0))


def test_a_source_stands_right_before_what_it_feeds():
    layout = lay_out(boxes("abcd"), [("a", "b"), ("b", "c"), ("d", "c")])

    assert layout.placed["d"].x == layout.placed["b"].x


def test_what_is_in_the_middle_stands_in_the_middle():
    layout = lay_out(boxes("abcd"), [("a", "b"), ("a", "c"), ("a", "d")])

    column = sorted(layout.placed[name].y for name in "bcd")
    assert layout.placed["a"].y == column[1]


def test_arrows_that_need_not_cross_do_not():
    arrows = [("a", "y"), ("b", "x")]

    layout = lay_out(boxes("abxy"), arrows)

    above = layout.placed["a"].y < layout.placed["b"].y
    assert (layout.placed["y"].y < layout.placed["x"].y) == above


def test_an_arrow_past_a_column_keeps_clear_of_its_boxes():
    layout = lay_out(boxes("abc"), [("a", "b"), ("b", "c"), ("a", "c")])

    passing = [float(y) for y in re.findall(r"L[0-9.]+ ([0-9.]+)", layout.paths[2])]
    top = layout.placed["b"].y
    assert passing
    assert all(y < top or y > top + 40 for y in passing)


def test_a_circle_is_drawn_with_one_arrow_backwards():
    layout = lay_out(boxes("ab"), [("a", "b"), ("b", "a")])

    (_, forth), (start, back) = (ends(path) for path in layout.paths)
    assert forth[0] > back[0]
    assert start[0] > back[0]


def test_nothing_is_a_picture_too():
    layout = lay_out([], [])

    assert (layout.placed, layout.paths) == ({}, ())


NAMES = [f"n{at}" for at in range(9)]
GRAPHS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda p: p[0] != p[1]),
    max_size=24,
    unique=True,
)


@settings(deadline=None, derandomize=True)
@given(GRAPHS)
def test_any_graph_has_room_for_all_of_it(arrows):
    layout = lay_out(boxes(NAMES), arrows)

    assert layout.placed.keys() == set(NAMES)
    for one, other in itertools.combinations(layout.placed.values(), 2):
        if one.x == other.x:
            assert abs(one.y - other.y) >= 40 + ROW_GAP - 0.2
    assert all(place.x >= 0 and place.y >= 0 for place in layout.placed.values())
    assert all(place.x + 100 <= layout.width for place in layout.placed.values())
    assert all(place.y + 40 <= layout.height for place in layout.placed.values())


@settings(deadline=None, derandomize=True)
@given(GRAPHS)
def test_one_graph_gives_one_picture(arrows):
    assert lay_out(boxes(NAMES), arrows) == lay_out(boxes(NAMES), arrows)


@settings(deadline=None, derandomize=True)
@given(GRAPHS)
def test_every_arrow_ends_at_its_box(arrows):
    layout = lay_out(boxes(NAMES), arrows)

    for (source, target), path in zip(arrows, layout.paths, strict=True):
        start, end = ends(path)
        for name, point in ((source, start), (target, end)):
            place = layout.placed[name]
            assert point[0] in (place.x, place.x + 100)
            assert abs(point[1] - place.y - 20) < 0.2
