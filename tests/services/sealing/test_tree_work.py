"""How files are handed out, and what is counted of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from airflow_secure_ml.errors import IntegrityError, ServiceUnavailableError
from airflow_secure_ml.services.tree_work import (
    ASIDE_FILES,
    BATCH_BYTES,
    StoppedError,
    Tally,
    batches,
    in_threads,
    one_file,
)


@dataclass
class File:
    size_bytes: int


@pytest.mark.parametrize("threads", [1, 2, 16, 64])
@pytest.mark.parametrize("sizes", [[0] * 5000, [BATCH_BYTES] * 3, [1 << 20] * 300, [7], []])
def test_batches_hold_all_in_order_and_few_at_once(threads, sizes):
    files = [File(size) for size in sizes]

    made = list(batches(files, threads))

    assert [each for batch in made for each in batch] == files
    most = sorted(made, key=len)[-threads:]
    assert sum(map(len, most)) <= max(ASIDE_FILES, threads)
    for batch in made:
        together = sum(each.size_bytes for each in batch)
        assert len(batch) == 1 or together <= BATCH_BYTES // threads


def test_few_files_are_shared_out_among_the_threads():
    assert len(list(batches([File(1)] * 16, 4))) == 16


@pytest.mark.parametrize("threads", [1, 4])
def test_each_item_is_taken_once(threads):
    taken = []

    in_threads(taken.append, list(range(500)), threads)

    assert sorted(taken) == list(range(500))


@pytest.mark.parametrize("threads", [1, 4])
def test_the_first_error_stops_all(threads):
    taken = []

    def work(number):
        taken.append(number)
        if number == 3:
            raise KeyError(number)

    with pytest.raises(KeyError):
        in_threads(work, list(range(100_000)), threads)

    assert len(taken) < 100_000


def test_what_concerns_one_file_is_counted_and_stops_the_others_unless_told_not_to():
    tally = Tally()

    with one_file(tally, "a", keep_going=True):
        raise IntegrityError("changed")
    with one_file(tally, "b", keep_going=True):
        raise FileNotFoundError("b")
    with pytest.raises(StoppedError), one_file(tally, "c", keep_going=False):
        raise IntegrityError("changed")

    assert tally.failed == 3
    assert [str(error) for error in tally.failures][1] == "b: it was removed meanwhile"


def test_what_concerns_all_is_raised():
    tally = Tally()

    with pytest.raises(ServiceUnavailableError), one_file(tally, "a", keep_going=True):
        raise ServiceUnavailableError("no answer")

    assert tally.failed == 0


def test_bytes_are_told_as_they_are_done():
    told = []
    tally = Tally(pace=lambda files, size: told.append((files, size)))
    one, other = tally.meter(), tally.meter()

    one(10)
    other(5)
    one(30)
    tally.did(30)
    tally.was_done(100)

    assert told == [(0, 10), (0, 15), (0, 35), (1, 35), (2, 135)]
