"""Which versions of a key are in use; none is retired before the proof that nothing needs it."""

from __future__ import annotations

import os

import pytest

from airflow_secure_ml.adapters.local_objects.pinned_directory import PinnedFolder
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import DataSetKeyWrapper
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    PolicyError,
    ServiceUnavailableError,
)
from airflow_secure_ml.testing.ports import MemoryKeySystem, MemoryTransit
from tests.services.sealing.lake import Lake


@pytest.fixture(params=[MemoryTransit, MemoryKeySystem], ids=["blind", "as-reader"])
def lake(request, tmp_path):
    return Lake(tmp_path / "lake", request.param())


@pytest.fixture
def three(lake):
    """A data set of the first version, files of the first and second, and a third version."""
    lake.data_set("sets/a", 4)
    lake.seal("loose/1.bin")
    lake.keys.rotate("data")
    lake.seal("loose/2.bin")
    lake.seal("loose/3.bin")
    (lake.root / "loose/plain.txt").write_text("plain")
    lake.keys.rotate("data")
    return lake


def states_of(lake):
    return [each.state for each in lake.keys.versions("data")]


def test_usage_says_which_versions_each_data_set_and_each_folder_uses(three):
    found = three.usage("sets", "loose")

    assert [(place.uri, place.is_data_set, place.versions) for place in found.places] == [
        (three.uri("loose"), False, {1: 1, 2: 2}),
        (three.uri("sets/a"), True, {1: 1}),
    ]
    assert (found.sealed, found.oldest(), dict(found.unresolved)) == (8, 1, {})
    assert found.as_record() == {
        "key": "data",
        "sealed_files": 8,
        "versions": [
            {"version": 1, "state": "retired", "files": 2},
            {"version": 2, "state": "retired", "files": 2},
            {"version": 3, "state": "active", "files": 0},
        ],
        "places": [
            {"uri": three.uri("loose"), "data_set": False, "versions": {"1": 1, "2": 2}},
            {"uri": three.uri("sets/a"), "data_set": True, "versions": {"1": 1}},
        ],
        "place_count": 2,
        "unresolved": 0,
    }


def test_what_lies_below_two_addresses_counts_once(three):
    assert three.usage("", "loose", "loose/1.bin").counts == {1: 2, 2: 2}


def test_nothing_is_retired_while_the_oldest_version_is_in_use(three):
    usage, left = three.retire()

    assert (usage.oldest(), left) == (1, None)
    assert states_of(three) == ["retired", "retired", "active"]
    assert three.outcomes("key.disable") == [("ok", None)]


def test_versions_below_the_oldest_in_use_are_retired_and_no_other(three):
    three.rewrap("sets")
    os.remove(three.root / "loose/1.bin")

    usage, left = three.retire()

    assert (usage.oldest(), left) == (2, 2)
    assert states_of(three) == ["disabled", "retired", "active"]
    assert three.read("loose/2.bin") == b"hello"
    assert three.read("sets/a/01/1.bin", root="sets/a") == b"hello"
    (outcome,) = (f for f in three.audit.facts if (f.act, f.phase) == ("key.disable", "outcome"))
    assert outcome.more["count"] == 1
    assert outcome.more["because"] == "version 2 is the oldest in use"


def test_after_a_rewrap_of_everything_only_the_newest_is_left(three):
    three.rewrap()

    assert three.retire()[1] == 3
    assert states_of(three) == ["disabled", "disabled", "active"]
    assert three.retire()[1] is None


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:200]), id="cut"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:9]), id="magic-only"),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:9] + b"\x03" + path.read_bytes()[10:]),
            id="another-suite",
        ),
        pytest.param(lambda path: os.mkfifo(path.with_name("fifo")), id="fifo"),
        pytest.param(lambda path: path.with_name("link").symlink_to("/etc/hosts"), id="link-out"),
    ],
)
def test_what_cannot_be_looked_at_is_no_proof(three, spoil):
    three.rewrap()
    spoil(three.root / "loose/2.bin")

    with pytest.raises(FormatError) as caught:
        three.retire()

    assert states_of(three) == ["retired", "retired", "active"]
    assert three.outcomes("key.disable") == [("refused", caught.value.why)]


def test_what_may_not_be_read_is_no_proof(three, monkeypatch):
    three.rewrap()
    whole, hidden = PinnedFolder.open, three.uri("loose/2.bin")

    def open_or_not(folder, name):
        if three.store.child(folder.uri, name) == hidden:
            raise ConfigurationError(f"{hidden}: cannot open: Permission denied")
        return whole(folder, name)

    monkeypatch.setattr(PinnedFolder, "open", open_or_not)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        three.retire()

    assert states_of(three) == ["retired", "retired", "active"]


def test_a_data_set_whose_key_lies_outside_is_no_proof(three):
    three.rewrap()

    with pytest.raises(PolicyError, match="name the data sets' own roots") as caught:
        three.retire("sets/a/01", "loose")

    assert caught.value.why == "not_checkable"
    assert states_of(three) == ["retired", "retired", "active"]
    assert three.retire("sets", "loose")[1] == 3


def test_a_data_set_whose_key_is_gone_is_no_proof(three):
    three.rewrap()
    ref = KeyRef(system="memory", name="data", version="1")
    lost = DataSetKeyWrapper(
        bytes(32), header_core_id=b"l" * 32, context={"dataset": "d1"}, ref=ref
    )
    three.seal("loose/orphan.bin", keys=[lost])

    with pytest.raises(PolicyError, match=r"orphan\.bin"):
        three.retire()

    assert states_of(three) == ["retired", "retired", "active"]


def test_a_place_without_any_use_of_the_key_proves_nothing(three):
    (three.root / "typo").mkdir()

    with pytest.raises(PolicyError, match="found none among 0 sealed objects") as caught:
        three.retire("typo")
    with pytest.raises(ConfigurationError, match="found nothing there"):
        three.retire("nowhere")

    assert caught.value.why == "not_checkable"
    assert states_of(three) == ["retired", "retired", "active"]


def test_what_is_published_while_it_is_counted_is_seen_by_the_second_count(three):
    old = (three.root / "loose/1.bin").read_bytes()
    three.rewrap()
    counts = []

    def count():
        counts.append(three.usage())
        (three.root / "late.bin").write_bytes(old)
        return counts[-1]

    usage, left = three.retire(count=count)

    assert [each.oldest() for each in counts] == [3, 1]
    assert (usage.oldest(), left) == (1, None)
    assert states_of(three) == ["retired", "retired", "active"]


def test_only_the_newest_version_wraps_before_the_count_begins(three, monkeypatch):
    order = []
    fence = three.keys.fence
    monkeypatch.setattr(three.keys, "fence", lambda name: (order.append("fence"), fence(name))[1])

    three.retire(count=lambda: (order.append("count"), three.usage())[1])

    assert order == ["fence", "count"]


def test_without_a_trail_nothing_is_retired(three, monkeypatch):
    three.rewrap()
    three.audit.broken = True

    with pytest.raises(ServiceUnavailableError):
        three.retire()

    assert states_of(three) == ["retired", "retired", "active"]


def test_a_key_that_signs_is_not_counted_or_retired(tmp_path):
    lake = Lake(tmp_path / "lake", MemoryKeySystem())
    lake.seal("a.bin")
    lake.keys.rotate("pipeline")

    with pytest.raises(PolicyError) as caught:
        lake.retire(name="pipeline")

    assert caught.value.why == "key_not_allowed"
    assert [each.state for each in lake.keys.versions("pipeline")] == ["retired", "active"]
