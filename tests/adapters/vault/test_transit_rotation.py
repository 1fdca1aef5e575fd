"""Rotation on a real Vault: how often it is asked, what a thief of the token could do, and what
happens when answers are lost."""

from __future__ import annotations

import itertools

import pytest

from airflow_secure_ml.errors import (
    PolicyError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.sealed_reader import SealedReader
from tests.servers.proxy import Cut, Lose
from tests.servers.transit_place import TransitPlace
from tests.services.sealing.lake import Lake, states


@pytest.fixture
def place(vault):
    with TransitPlace(vault) as made:
        made.make("data")
        yield made


@pytest.fixture
def lake(place, tmp_path):
    """Sealed with every right; who does something to it later has `lake.keys` of his own."""
    return Lake(tmp_path / "lake", place.keys())


def test_a_thousand_files_are_ten_calls_of_somebody_who_cannot_read_one(place, lake):
    for number in range(1_000):
        lake.seal(f"{number % 10}/{number}.bin")
    place.rotate("data")
    everything, lake.keys = lake.keys, place.keys("rewrap/data")

    with place.asked() as asked:
        tally = lake.rewrap()

    assert asked == ["read keys/data", *["update rewrap/data"] * 10]
    assert (tally.rewrapped, tally.failed, tally.newest) == (1_000, 0, 2)
    assert set(map(tuple, lake.versions().values())) == {(2,)}
    with place.asked() as asked, pytest.raises(ServiceRefusedError, match="permission denied"):
        lake.read("7/7.bin")
    lake.keys = everything
    assert lake.read("7/7.bin") == b"hello"


@pytest.mark.parametrize("files", [5_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_data_set_is_one_call_and_one_file(place, lake, files):
    header = lake.data_set("lake", files)
    before = states(lake.root)
    place.rotate("data")
    lake.keys = place.keys("rewrap/data", "read keys/data")

    with place.asked() as asked:
        tally = lake.rewrap()

    after = states(lake.root)
    assert [name for name in before if before[name] != after[name]] == [str(header)]
    assert asked == ["read keys/data", "update rewrap/data"]
    assert (tally.rewrapped, tally.others) == (1, files)
    lake.keys = place.keys("decrypt/data", "read keys/data")
    with place.asked() as asked:
        assert lake.read("lake/07/7.bin", root="lake") == b"hello"
    assert asked == ["read keys/data", "update decrypt/data"]


def test_the_rotation_role_does_all_of_it_and_opens_nothing(place, lake):
    lake.keys = place.role("pipeline-writer")
    lake.data_set("set", 3)
    lake.seal("loose/1.bin")
    lake.keys = place.role("rotation")

    made = lake.keys.rotate("data")
    tally = lake.rewrap()
    _, left = lake.retire()

    assert (str(made), tally.rewrapped, left) == ("data/2", 2, 2)
    facts = place.facts("data")
    assert (facts["min_decryption_version"], facts["min_encryption_version"]) == (2, 2)
    for path, root in (("loose/1.bin", None), ("set/00/0.bin", "set")):
        with pytest.raises(ServiceRefusedError, match="permission denied"):
            lake.read(path, root)
    lake.keys = place.role("pipeline-reader")
    assert lake.read("loose/1.bin") == lake.read("set/00/0.bin", "set") == b"hello"


def test_the_reader_and_the_writer_can_rotate_nothing(place, lake):
    lake.seal("loose/1.bin")
    place.rotate("data")

    for policy in ("pipeline-reader", "pipeline-writer", "signer"):
        lake.keys = place.role(policy)
        for act in (lake.rewrap, lake.retire, lambda: lake.keys.rotate("data")):
            with pytest.raises(ServiceRefusedError, match="permission denied"):
                act()

    facts = place.facts("data")
    assert (facts["latest_version"], facts["min_decryption_version"]) == (2, 1)
    assert facts["min_encryption_version"] == 0


def test_the_newest_version_alone_wraps_before_anything_is_counted_and_retired(place, lake):
    lake.seal("1.bin")
    place.rotate("data")
    lake.rewrap()

    def count():
        assert place.facts("data")["min_encryption_version"] == 2
        assert place.facts("data")["min_decryption_version"] == 1
        return lake.usage()

    with place.asked() as asked:
        assert lake.retire(count=count)[1] == 2

    changes = [each for each in asked if each.startswith("update")]
    assert changes == ["update keys/data/config", "update keys/data/config"]
    assert place.facts("data")["min_decryption_version"] == 2


def test_what_an_old_version_still_opens_keeps_it(place, lake):
    lake.seal("1.bin")
    place.rotate("data")
    lake.seal("2.bin")

    assert lake.retire()[1] is None

    assert place.facts("data")["min_decryption_version"] == 1
    assert lake.read("1.bin") == lake.read("2.bin") == b"hello"


def test_a_file_that_kept_a_retired_version_says_why_it_does_not_open(place, lake):
    kept = lake.seal("1.bin").read_bytes()
    place.rotate("data")
    lake.rewrap()
    lake.retire()
    (lake.root / "from_backup.bin").write_bytes(kept)

    with pytest.raises(PolicyError) as caught:
        lake.read("from_backup.bin")
    tally = lake.rewrap()

    assert caught.value.why == "key_disabled"
    assert (tally.failed, tally.already) == (1, 1)
    assert tally.failures[0].why == "key_disabled"
    # Whoever manages the key can take it back, and then the backup opens.
    place.configure("data", min_decryption_version=1)
    assert lake.read("from_backup.bin") == b"hello"


def test_a_rotation_whose_answer_was_lost_is_not_done_twice(place, vault_proxy):
    client = place.client(url=vault_proxy.url)
    keys = place.keys_over(client)
    vault_proxy.will(Cut(path=f"{place.mount}/keys/data/rotate"))

    made = keys.rotate("data")

    assert str(made) == "data/2"
    assert place.facts("data")["latest_version"] == 2


def test_a_rotation_that_never_reached_vault_fails_and_makes_nothing(place, vault_proxy):
    keys = place.keys_over(place.client(url=vault_proxy.url))
    vault_proxy.will(Lose(path=f"{place.mount}/keys/data/rotate"))

    with pytest.raises(ServiceUnavailableError):
        keys.rotate("data")

    assert place.facts("data")["latest_version"] == 1


def test_a_connection_that_is_cut_in_the_middle_of_many_files_is_tried_again(
    place, lake, vault_proxy
):
    for number in range(250):
        lake.seal(f"{number:03}.bin")
    place.rotate("data")
    lake.keys = place.keys_over(place.client(url=vault_proxy.url))
    vault_proxy.will(Cut(path=f"{place.mount}/rewrap/data", times=2, after_bytes=100))

    tally = lake.rewrap()

    assert (tally.rewrapped, tally.failed) == (250, 0)
    assert set(map(tuple, lake.versions().values())) == {(2,)}
    lake.keys = place.keys()
    assert lake.read("007.bin") == b"hello"


def test_a_vault_that_stops_answering_leaves_whole_files_and_the_next_run_finishes(
    place, lake, vault_proxy
):
    for number in range(150):
        lake.seal(f"{number:03}.bin")
    place.rotate("data")
    lake.keys = place.keys_over(place.client(url=vault_proxy.url, deadline_s=1.0, timeout_s=1.0))
    rewraps = itertools.count()
    whole = lake.keys.rewrap

    def cut_the_second(name, bodies):
        if next(rewraps) == 1:
            vault_proxy.will(Lose(path=f"{place.mount}/rewrap/data", times=100))
        return whole(name, bodies)

    lake.keys.rewrap = cut_the_second
    with pytest.raises(ServiceUnavailableError):
        lake.rewrap()
    halfway = sorted(lake.versions().values())
    lake.keys = place.keys()
    opened = {lake.read(f"{number:03}.bin") for number in range(150)}
    tally = lake.rewrap()

    assert halfway == [[1]] * 50 + [[2]] * 100
    assert opened == {b"hello"}
    assert (tally.rewrapped, tally.already) == (50, 100)


def test_a_file_that_vault_rewrapped_opens_with_what_its_reader_demands(place, lake):
    lake.seal("1.bin")
    place.rotate("data")
    lake.rewrap()

    with lake.store.open(lake.uri("1.bin")) as pinned:
        reader = SealedReader(pinned, keys=lake.keys.unwrappers(), expect={"dataset": "d1"})
        assert reader.read() == b"hello"
        assert str(reader.key) == "data/2"
    with lake.store.open(lake.uri("1.bin")) as pinned, pytest.raises(PolicyError):
        SealedReader(pinned, keys=lake.keys.unwrappers(), expect={"dataset": "d2"})
