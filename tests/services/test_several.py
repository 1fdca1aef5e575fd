from __future__ import annotations

import threading

import pytest

from airflow_secure_ml.services.several import several


@pytest.mark.parametrize("at_once", [1, 2, 16])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
def test_results_come_in_the_items_order(at_once, count):
    assert several(lambda item: item * 2, range(count), at_once=at_once) == [
        item * 2 for item in range(count)
    ]


def test_as_many_run_at_once_as_are_allowed_and_no_more():
    together = threading.Barrier(4)

    def act(item):
        together.wait(30)
        return threading.get_ident()

    threads = several(act, range(8), at_once=4)

    assert len(set(threads)) == 4


@pytest.mark.parametrize("at", [0, 1, 50])
@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_the_first_error_stops_all_and_is_raised(at, error):
    begun = []

    def act(item):
        begun.append(item)
        if item == at:
            raise error(item)

    before = threading.active_count()
    with pytest.raises(error):
        several(act, range(10_000), at_once=4)

    assert len(begun) < 10_000
    assert threading.active_count() == before
