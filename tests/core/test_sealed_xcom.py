"""Places of XCom values: no two have one context, and every one can be written as a context."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.sealed_file.context import check_context, decode_context, encode_context
from airflow_secure_ml.core.sealed_xcom import (
    Place,
    check_order,
    envelope,
    key_context,
    key_folder,
    sealed_in,
)
from airflow_secure_ml.errors import IntegrityError

NAMES = st.text(alphabet=st.characters(), max_size=300) | st.sampled_from(["a", "\n", "\ud800"])
PLACES = st.builds(
    Place,
    dag_id=NAMES,
    task_id=NAMES,
    key=NAMES,
    run_id=NAMES,
    map_index=st.integers(min_value=-1, max_value=1 << 31),
)


@given(PLACES)
def test_every_place_is_a_context_that_the_dags_key_covers(place):
    context = place.context()

    assert decode_context(encode_context(context)) == context
    check_context(context, key_context(place.dag_id))


@given(PLACES, PLACES)
def test_two_places_never_have_one_context(one, other):
    assert (one.context() == other.context()) == (one == other)


@given(NAMES, NAMES)
def test_two_dags_never_have_one_folder(one, other):
    assert (key_folder(one) == key_folder(other)) == (one == other)
    assert "/" not in key_folder(one)
    assert key_folder(one).isascii()
    assert len(key_folder(one)) <= 113


@given(st.binary(max_size=2000))
def test_an_envelope_holds_the_bytes_as_they_were(sealed):
    assert sealed_in(envelope(sealed)) == sealed


@pytest.mark.parametrize("value", [None, 1, "text", [], {}, {"sealed": "AA=="}], ids=repr)
def test_what_has_no_mark_was_not_sealed(value):
    assert sealed_in(value) is None


def test_a_readers_place_leaves_out_what_it_takes_as_it_comes():
    any_run = Place(dag_id="d", task_id="t", key="k", run_id=None, map_index=None)

    assert any_run.context() == {"use": "xcom", "dag_id": "d", "task_id": "t", "key": "k"}


def test_a_place_is_named_without_what_is_long():
    place = Place(dag_id="d", task_id="t", key="k" * 500, run_id="r", map_index=-1)

    assert len(str(place)) < 120


@pytest.mark.parametrize(
    ("seen", "after", "step"),
    [(5, None, 1), (5, 4, 1), (5, 6, -1), (5, 5, 0), (6, 5, 0)],
)
def test_values_in_order_may_follow(seen, after, step):
    assert check_order(seen, after, step) is None


@pytest.mark.parametrize(
    ("seen", "after", "step"), [(5, 5, 1), (4, 5, 1), (5, 5, -1), (6, 5, -1), (4, 5, 0)]
)
def test_values_out_of_order_may_not(seen, after, step):
    with pytest.raises(IntegrityError, match="copied or exchanged"):
        check_order(seen, after, step)
