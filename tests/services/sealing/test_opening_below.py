"""A sealed folder is opened again to another place; whatever interrupts it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.errors import (
    ConfigurationError,
    IntegrityError,
    ManifestMismatchError,
    PolicyError,
)
from airflow_secure_ml.services.opening_below import OpeningBelow, OpeningKeys
from airflow_secure_ml.services.opening_notes import Note, OpeningNotes
from airflow_secure_ml.services.sealed_dataset import DataSetRoot
from airflow_secure_ml.services.tree_work import Tree
from airflow_secure_ml.testing.ports import MemoryObjects
from tests.services.sealing.interrupting import only_commits
from tests.services.sealing.lake import states
from tests.services.sealing.test_sealing_below import FILES, Move

VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "opening_notes"


class Back(Move):
    """A sealed folder, and where it goes."""

    def __init__(self, path, store=None):
        super().__init__(path, store)
        self.write(FILES)
        self.seal()
        self.opened = Tree(store=self.store, uri=self.store.canonical(f"{path}/opened"))

    def opening(self, *, said="verified", expect=None, original=None, **more):
        source = more.pop("source", self.target)
        unwrappers = self.keys.unwrappers()
        return OpeningBelow(
            source,
            more.pop("target", self.opened),
            keys=OpeningKeys(
                readers=[*unwrappers, DataSetRoot(self.store, source.uri, keys=unwrappers)],
                state_of=self.keys.state_of,
                expect={} if expect is None else expect,
                original=original or self.target,
            ),
            said=self.signed.manifest if said == "verified" else said,
            threads=more.pop("threads", 2),
            **more,
        )

    def open(self, **more):
        return self.opening(**more).run()

    def plain(self):
        found = {}
        for name in self.store.walk(self.opened.uri):
            with self.store.open(self.opened.child(name)) as pinned:
                found[name] = pinned.read_at(0, pinned.size_bytes)
        return found


@pytest.fixture
def back(tmp_path):
    return Back(tmp_path)


@pytest.fixture
def in_memory():
    return Back("/data", MemoryObjects())


@pytest.mark.parametrize("which", ["back", "in_memory"])
def test_what_was_sealed_comes_back(which, request):
    back = request.getfixturevalue(which)

    tally = back.open()

    assert back.plain() == FILES
    assert (tally.files, tally.done, tally.already, tally.failed) == (5, 5, 0, 0)
    assert tally.done_bytes == sum(map(len, FILES.values()))
    assert back.store.info(back.opened.child("_asml")) is None


def test_only_the_owner_may_read_what_was_opened(back):
    back.open()

    assert all(path.stat().st_mode & 0o77 == 0 for path in back.path.glob("opened/**/*.csv"))


def test_opened_once_more_nothing_is_touched_and_all_is_compared(back):
    back.open()
    before = states(back.path / "opened")

    tally = back.open()

    assert (tally.done, tally.already) == (0, 5)
    assert tally.already_bytes == sum(map(len, FILES.values()))
    assert states(back.path / "opened") == before


def interrupt(back, monkeypatch, commits):
    with only_commits(monkeypatch, commits):
        back.open(threads=1)


# A file and a note by turns.
@pytest.mark.parametrize("commits", range(10))
def test_interrupted_at_any_commit_it_goes_on_with_what_is_left(back, monkeypatch, commits):
    interrupt(back, monkeypatch, commits)
    (back.path / "opened").mkdir(exist_ok=True)
    done = {
        path: state for path, state in states(back.path / "opened").items() if "_asml" not in path
    }

    tally = back.open()

    finished = (commits + 1) // 2
    assert (tally.already, tally.done) == (finished, 5 - finished)
    assert back.plain() == FILES
    now = states(back.path / "opened")
    assert {path: now.get(path) for path in done} == done
    assert len(now) == 5


def test_a_file_that_was_noted_and_changed_since_is_neither_kept_nor_lost(back, monkeypatch):
    interrupt(back, monkeypatch, 9)
    (back.path / "opened/a.csv").write_bytes(b"mine")

    with_failure = back.open(keep_going=True)

    assert [error.why for error in with_failure.failures] == ["address_taken"]
    assert (back.path / "opened/a.csv").read_bytes() == b"mine"


def test_what_was_sealed_anew_is_opened_over_what_was_opened_before(back, monkeypatch):
    interrupt(back, monkeypatch, 9)
    back.write({"a.csv": b"alice, older"})
    back.seal()

    assert back.open().done == 1
    assert back.plain() == FILES | {"a.csv": b"alice, older"}


@pytest.mark.parametrize("name", ["stranger", "_asml/key.asmk"])
def test_what_is_there_and_not_of_this_run_stops_it(back, name):
    (back.path / "opened/_asml").mkdir(parents=True)
    (back.path / "opened" / name).write_bytes(b"theirs")

    with pytest.raises(PolicyError) as refused:
        back.open()

    assert refused.value.why == "address_taken"
    assert [path.name for path in back.path.glob("opened/**/*") if path.is_file()] == [
        name.rpartition("/")[2]
    ]


def test_notes_that_are_none_are_no_harm(back, monkeypatch):
    interrupt(back, monkeypatch, 6)
    for path in (back.path / "opened/_asml/opening").iterdir():
        path.write_bytes(b"{}")

    assert back.open().already == 3
    assert back.plain() == FILES


# What was signed is what comes back, or nothing.


def flip(back):
    path = back.path / "sealed/a.csv"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def put_another_payload(back):
    """Whoever may read may seal with the same key: opens, and was not signed."""
    other = Back(back.path / "elsewhere")
    shutil.copy(back.path / "elsewhere/sealed/a.csv", back.path / "sealed/a.csv")
    (header,) = other.headers()
    shutil.copy(back.path / "elsewhere/sealed/_asml" / header, back.path / "sealed/_asml" / header)


def swap_two(back):
    one, two = back.path / "sealed/a.csv", back.path / "sealed/two-segments.bin"
    data = one.read_bytes()
    shutil.copy(two, one)
    two.write_bytes(data)


@pytest.mark.parametrize("spoil", [flip, put_another_payload, swap_two])
def test_a_file_that_is_not_the_signed_one_gets_no_name(back, spoil):
    spoil(back)

    tally = back.open(keep_going=True)

    assert tally.failed == (2 if spoil is swap_two else 1)
    assert not (back.path / "opened/a.csv").exists()
    # The notes stay, so that it can go on once the file was restored.
    assert (back.path / "opened/_asml/opening").exists()


def test_without_keep_going_the_first_ends_it(back):
    flip(back)

    tally = back.open(threads=1)

    assert (tally.failed, tally.done) == (1, 0)


def test_files_that_came_or_went_since_it_was_signed_stop_it(back):
    os.rename(back.path / "sealed/a.csv", back.path / "sealed/z.csv")

    with pytest.raises(ManifestMismatchError) as refused:
        back.open()

    assert (refused.value.added, refused.value.missing) == (("z.csv",), ("a.csv",))
    assert not (back.path / "opened").exists()


def test_unsigned_each_file_still_must_be_the_one_of_its_place(back):
    swap_two(back)

    tally = back.open(said=None, keep_going=True)

    assert {error.why for error in tally.failures} == {"context_differs"}
    assert (tally.failed, tally.done) == (2, 3)


def test_a_copy_is_opened_as_what_it_is_a_copy_of(back):
    shutil.copytree(back.path / "sealed", back.path / "copy")
    copy = Tree(store=back.store, uri=back.store.canonical(str(back.path / "copy")))

    refused = back.open(source=copy, original=copy, keep_going=True)
    assert {error.why for error in refused.failures} == {"context_differs"}
    assert back.open(source=copy).done == 5
    assert back.plain() == FILES


def test_any_context_and_no_signature_open_whatever_the_keys_open(back):
    swap_two(back)

    back.open(said=None, expect=ANY_CONTEXT)

    assert back.plain()["a.csv"] == FILES["two-segments.bin"]


def test_a_demanded_pair_must_be_there(back):
    refused = back.open(expect={"purpose": "x"}, threads=1)

    assert [error.why for error in refused.failures] == ["context_differs"]


@pytest.mark.parametrize("at", ["sealed", "sealed/opened"])
def test_nothing_is_opened_in_place(back, at):
    target = Tree(store=back.store, uri=back.store.canonical(str(back.path / at)))

    with pytest.raises(ConfigurationError, match="apart"):
        back.open(target=target)


def test_a_plain_file_in_between_is_named(back):
    (back.path / "sealed/a.csv").write_bytes(b"plain")

    tally = back.open(said=None, keep_going=True)

    assert [error.why for error in tally.failures] == ["not_sealed"]
    assert tally.done == 4


def test_a_file_removed_meanwhile_is_named(back, monkeypatch):
    opening = back.opening(keep_going=True, threads=1)
    look = opening._plan

    def remove_then(folder):
        tasks = look(folder)
        (back.path / "sealed/deep/b.csv").unlink()
        return tasks

    monkeypatch.setattr(opening, "_plan", remove_then)
    tally = opening.run()

    assert (tally.failed, tally.done) == (1, 4)
    assert isinstance(tally.failures[0], IntegrityError)


def test_notes_are_frozen(tmp_path):
    folder = tmp_path / "opened/_asml/opening"
    folder.mkdir(parents=True)
    shutil.copy(VECTORS / "00000000", folder)
    store = LocalObjects()
    notes = OpeningNotes(Tree(store=store, uri=store.canonical(str(tmp_path / "opened"))))

    notes.read()
    notes.add(list(notes.files.values()))

    assert notes.files == {
        "a.csv": Note(path="a.csv", source="2b-18a3-5", made="2c-18a4-5"),
        "deep/größe.csv": Note(path="deep/größe.csv", source='etag:"x"', made="v1"),
    }
    assert (folder / "00000001").read_bytes() == (VECTORS / "00000000").read_bytes()
