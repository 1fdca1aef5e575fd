"""Points are paired with spans, as many as can be."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.services.use_matching import Span, paired

TIMES = st.integers(0, 12)
SPANS = st.lists(
    st.tuples(TIMES, TIMES, st.integers(0, 2)).map(
        lambda each: Span(min(each[:2]), max(each[:2]), each[2])
    ),
    max_size=4,
)


def test_what_is_left_over_is_the_use_that_nobody_recorded():
    # The act was recorded at 100, right after its use at 99; 20 is somebody else's.
    assert paired([20, 99], [Span(0, 100, 1)]) == [None, 0]


def test_ends_belong_to_a_span():
    assert paired([5, 9], [Span(5, 5, 1), Span(9, 9, 1)]) == [0, 1]
    assert paired([4, 10], [Span(5, 9, 2)]) == [None, None]


def test_nothing_is_paired_with_nothing():
    assert paired([], []) == []
    assert paired([1], [Span(0, 2, 0)]) == [None]


@given(st.lists(TIMES, max_size=4), SPANS)
def test_no_other_way_pairs_more(points, spans):
    found = paired(points, spans)

    for at, index in enumerate(found):
        assert index is None or spans[index].from_ms <= points[at] <= spans[index].to_ms
    for index, span in enumerate(spans):
        assert found.count(index) <= span.takes
    assert len(points) - found.count(None) == most(points, spans)


def most(points, spans):
    """By trying everything."""
    best = 0
    for way in itertools.product([None, *range(len(spans))], repeat=len(points)):
        chosen = [(at, index) for at, index in zip(points, way, strict=True) if index is not None]
        is_fit = all(spans[i].from_ms <= at <= spans[i].to_ms for at, i in chosen)
        if is_fit and all(way.count(i) <= span.takes for i, span in enumerate(spans)):
            best = max(best, len(chosen))
    return best
