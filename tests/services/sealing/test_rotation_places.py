"""Where a rotation has something to do: few places, none inside another, nothing left out."""

from __future__ import annotations

import pytest

from airflow_secure_ml.errors import ConfigurationError, FormatError, PolicyError
from airflow_secure_ml.services.rotation_places import places_to_rewrap
from airflow_secure_ml.testing.ports import MemoryTransit
from tests.services.sealing.lake import Lake


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake", MemoryTransit(["data", "other"]))


def places(lake, path="", name="data"):
    found = places_to_rewrap(lake.store, lake.uri(path), keys=lake.keys, name=name)
    return [each.removeprefix(lake.uri()).removeprefix("/") for each in found]


def test_a_data_set_is_one_place_and_so_is_a_folder_of_files(lake):
    lake.data_set("visits", 5)
    lake.data_set("years/2026", 2)
    lake.seal("notes/1.txt")
    lake.seal("notes/2.txt")
    lake.seal("others/1.txt", keys=[lake.keys.wrapper("other")])
    lake.keys.rotate("data")

    assert places(lake) == ["notes", "visits", "years/2026"]


def test_what_has_the_newest_version_is_no_place(lake):
    lake.data_set("visits", 1)
    lake.keys.rotate("data")
    lake.data_set("stays", 1)

    assert places(lake) == ["visits"]
    lake.rewrap("visits")
    assert places(lake) == []


def test_no_place_lies_in_another(lake):
    lake.seal("a/1.txt")
    lake.seal("a/b/1.txt")
    lake.data_set("a/visits", 1)
    lake.seal("a-b/1.txt")
    lake.keys.rotate("data")

    assert places(lake) == ["a", "a-b"]


def test_rewrapping_every_place_leaves_nothing_old(lake):
    lake.data_set("visits", 3)
    lake.seal("notes/deep/1.txt")
    lake.seal("notes/2.txt")
    lake.keys.rotate("data")

    for place in places(lake):
        lake.rewrap(place)

    assert places(lake) == []
    assert lake.usage().oldest() == 2


def test_a_file_may_be_named_itself(lake):
    lake.seal("notes/1.txt")
    lake.keys.rotate("data")

    assert places(lake, "notes/1.txt") == ["notes/1.txt"]


def test_what_cannot_be_looked_at_is_no_reason_to_say_less(lake):
    lake.seal("notes/1.txt")
    path = lake.root / "notes" / "1.txt"
    path.write_bytes(path.read_bytes()[:60])

    with pytest.raises(FormatError):
        places(lake)
    with pytest.raises(ConfigurationError):
        places(lake, "nothing")
    with pytest.raises(PolicyError):
        places(lake, name="nokey")
