"""Rewrapping all that lies below an address: which bytes change, how often a key is asked, and
what happens to what changes meanwhile, is broken, or is interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.services.sealing import digest_payload
from airflow_secure_ml.testing.ports import MemoryKeySystem, MemoryTransit
from tests.services.sealing.lake import Lake, states


@pytest.fixture
def blind(tmp_path):
    """Keys that lie elsewhere."""
    return Lake(tmp_path / "lake", MemoryTransit())


@pytest.fixture(params=[MemoryTransit, MemoryKeySystem], ids=["blind", "as-reader"])
def lake(request, tmp_path):
    return Lake(tmp_path / "lake", request.param())


@pytest.mark.parametrize("files", [5_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_data_set_is_one_call_and_one_file(blind, files):
    header = blind.data_set("lake", files)
    before = states(blind.root)
    blind.keys.rotate("data")

    tally = blind.rewrap()

    after = states(blind.root)
    assert [name for name in before if before[name] != after[name]] == [str(header)]
    assert before.keys() == after.keys()
    assert blind.keys.calls == [1]
    assert (tally.rewrapped, tally.already, tally.others) == (1, 0, files)
    assert blind.read("lake/07/7.bin", root="lake") == b"hello"


def test_files_with_slots_of_their_own_are_rewrapped_a_hundred_a_call(blind):
    for number in range(1_000):
        blind.seal(f"{number % 10}/{number}.bin")
    blind.keys.rotate("data")

    tally = blind.rewrap()

    assert blind.keys.calls == [100] * 10
    assert (tally.rewrapped, tally.failed, tally.newest) == (1_000, 0, 2)
    assert set(map(tuple, blind.versions().values())) == {(2,)}


def test_core_and_payload_stay_and_so_do_other_keys_slots_and_the_mode(lake):
    other = MemoryTransit(["other"])
    path = lake.seal("a.bin", keys=[lake.keys.wrapper("data"), other.wrapper("other")])
    os.chmod(path, 0o640)
    with lake.store.open(lake.uri("a.bin")) as pinned:
        digest = digest_payload(pinned)
    lake.keys.rotate("data")

    lake.rewrap()

    with lake.store.open(lake.uri("a.bin")) as pinned:
        assert digest_payload(pinned) == digest
        reader = SealedReader(pinned, keys=other.unwrappers(), expect={"dataset": "d1"})
        assert reader.read() == b"hello"
    assert lake.read("a.bin") == b"hello"
    assert lake.versions() == {"a.bin": [2]}
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_has_the_newest_version_is_not_touched_and_a_second_run_does_nothing(lake):
    lake.seal("old.bin")
    lake.keys.rotate("data")
    lake.seal("new.bin")
    (lake.root / "plain.txt").write_text("plain")
    before = states(lake.root)

    first, second = lake.rewrap(), lake.rewrap()

    after = states(lake.root)
    assert [name for name in before if before[name] != after[name]] == [str(lake.root / "old.bin")]
    assert (first.rewrapped, first.already) == (1, 1)
    assert (second.rewrapped, second.already) == (0, 2)


def test_data_sets_inside_the_folder_are_found_wherever_they_begin(lake):
    lake.data_set("a", 3)
    lake.data_set("b/c/d", 3)
    lake.keys.rotate("data")

    tally = lake.rewrap()

    assert (tally.rewrapped, tally.others) == (2, 6)
    assert lake.read("b/c/d/01/1.bin", root="b/c/d") == b"hello"


def test_one_file_can_be_named(lake):
    lake.seal("a.bin")
    lake.seal("b.bin")
    lake.keys.rotate("data")

    lake.rewrap("b.bin")

    assert lake.versions() == {"a.bin": [1], "b.bin": [2]}


def test_each_object_is_intended_durably_before_it_is_changed(lake):
    lake.seal("a.bin")
    lake.keys.rotate("data")
    lake.rewrap()

    intent, outcome = lake.audit.facts
    assert (intent.phase, outcome.phase, outcome.result) == ("intent", "outcome", "ok")
    assert intent.object == {"uri": lake.uri("a.bin")}
    assert outcome.more == {"from_keys": ["data/1"], "to_keys": ["data/2"]}
    assert outcome.key["version"] == "2"
    assert lake.audit.settled == 2


def test_without_a_trail_nothing_is_changed(lake):
    path = lake.seal("a.bin")
    lake.keys.rotate("data")
    before = path.read_bytes()
    lake.audit.broken = True

    with pytest.raises(ServiceUnavailableError):
        lake.rewrap()

    assert path.read_bytes() == before


class Interrupting:
    """A store that does something just before its n-th change: a create, a write or a commit."""

    def __init__(self, store, at, act):
        self._store, self._at, self._act, self._calls = store, at, act, 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def tick(self):
        if self._calls == self._at:
            self._act()
        self._calls += 1

    def create(self, uri):
        self.tick()
        return InterruptingWriter(self, self._store.create(uri))


class InterruptingWriter:
    def __init__(self, store, writer):
        self._store, self._writer = store, writer

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._writer.abort()

    def write_at(self, offset, data):
        self._store.tick()
        self._writer.write_at(offset, data)

    def copy_range(self, *args):
        self._store.tick()
        return self._writer.copy_range(*args)

    def commit(self, **how):
        self._store.tick()
        return self._writer.commit(**how)


@pytest.mark.parametrize("at", range(4))
def test_an_object_replaced_between_any_two_calls_is_left_whole_and_the_others_go_on(lake, at):
    target = lake.seal("b.bin")
    lake.seal("c.bin")
    lake.keys.rotate("data")
    (lake.root.parent / "theirs").write_bytes(b"somebody else's")

    def replace():
        os.replace(lake.root.parent / "theirs", target)

    tally = lake.rewrap(store=Interrupting(lake.store, at, replace))

    assert target.read_bytes() == b"somebody else's"
    assert lake.versions() == {"c.bin": [2]}
    assert lake.outcomes() == [("refused", "digest_differs"), ("ok", None)]
    # What lies there now was sealed by somebody else, or not at all: nothing is left to do.
    assert (tally.rewrapped, tally.failed) == (1, 0)
    assert sorted(os.listdir(lake.root)) == ["b.bin", "c.bin"]


def test_an_object_that_is_replaced_by_an_old_one_is_rewrapped_at_the_second_look(lake):
    target, again = lake.seal("b.bin"), lake.seal("../again.bin")
    lake.keys.rotate("data")

    tally = lake.rewrap(store=Interrupting(lake.store, 3, lambda: os.replace(again, target)))

    assert lake.versions() == {"b.bin": [2]}
    assert (tally.rewrapped, tally.failed) == (1, 0)
    assert lake.outcomes() == [("refused", "digest_differs"), ("ok", None)]


def test_an_object_that_is_replaced_again_and_again_is_reported(lake):
    target = lake.seal("b.bin")
    others = [lake.seal(f"../{number}.bin") for number in range(20)]
    lake.keys.rotate("data")
    store = Interrupting(lake.store, 0, None)
    store.tick = lambda: os.replace(others.pop(), target)

    tally = lake.rewrap(store=store)

    assert lake.versions() == {"b.bin": [1]}
    assert lake.outcomes() == [("refused", "digest_differs")] * 2
    with pytest.raises(
        IntegrityError, match=r"1 of 1 sealed objects were not rewrapped .* b\.bin|b"
    ):
        tally.raise_failures(lake.uri())


def test_what_is_broken_is_reported_and_the_others_go_on(lake):
    for name in ("a.bin", "b.bin", "c.bin"):
        lake.seal(name)
    broken = bytearray((lake.root / "b.bin").read_bytes())
    broken[9] = 0x77
    (lake.root / "b.bin").write_bytes(broken)
    lake.keys.rotate("data")

    tally = lake.rewrap()

    assert (lake.root / "b.bin").read_bytes() == broken
    assert (tally.rewrapped, tally.failed) == (2, 1)
    assert sorted(lake.outcomes()) == [("ok", None), ("ok", None), ("refused", "not_sealed")]
    with pytest.raises(FormatError, match="1 of 3 sealed objects"):
        tally.raise_failures(lake.uri())


def test_a_slot_taken_from_another_file_is_refused_and_the_others_go_on(blind):
    for name in ("a.bin", "b.bin"):
        blind.seal(name)
    mine, theirs = ((blind.root / name).read_bytes() for name in ("a.bin", "b.bin"))
    start = mine.index(b"vault:v1:")
    length = len(b"vault:v1:") + 56
    forged = mine[:start] + theirs[start : start + length] + mine[start + length :]
    (blind.root / "a.bin").write_bytes(forged)
    blind.keys.rotate("data")

    tally = blind.rewrap()

    assert (blind.root / "a.bin").read_bytes() == forged
    assert blind.versions() == {"a.bin": [1], "b.bin": [2]}
    assert isinstance(tally.failures[0], CiphertextError)


def test_a_body_that_is_refused_for_whatever_reason_keeps_no_other_back(blind, monkeypatch):
    for name in ("a.bin", "b.bin", "c.bin"):
        blind.seal(name)
    blind.keys.rotate("data")
    whole = blind.keys.rewrap
    no = ServiceRefusedError(service="vault", action="rewrap", reason="request not accepted")
    monkeypatch.setattr(blind.keys, "rewrap", lambda name, bodies: [no, *whole(name, bodies[1:])])

    tally = blind.rewrap()

    assert blind.versions() == {"a.bin": [1], "b.bin": [2], "c.bin": [2]}
    assert (tally.rewrapped, tally.failures) == (2, [no])
    assert blind.outcomes() == [("refused", "key_not_allowed"), ("ok", None), ("ok", None)]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"vault:v1:" + b"QUJD" * 14, id="an-older-version"),
        pytest.param(b"vault:v0:QUJD", id="no-version"),
        pytest.param(b"vault:v2:QUJ", id="no-base64"),
        pytest.param(b"vault:v2:" + b"QUJD" * 120, id="too-long-for-the-header"),
    ],
)
def test_what_no_reader_would_take_is_not_published(blind, answer, monkeypatch):
    path = blind.seal("a.bin")
    before = path.read_bytes()
    blind.keys.rotate("data")
    monkeypatch.setattr(blind.keys, "rewrap", lambda name, bodies: [answer])

    tally = blind.rewrap()

    assert path.read_bytes() == before
    assert tally.failed == 1
    assert [result for result, _ in blind.outcomes()] == ["refused"]


def test_who_may_only_rewrap_learns_the_newest_version_from_the_first_answer(blind, monkeypatch):
    for number in range(150):
        blind.seal(f"{number:03}.bin")
    blind.keys.rotate("data")
    for number in range(150, 300):
        blind.seal(f"{number}.bin")

    def denied(name):
        raise ServiceRefusedError(service="vault", action="read", reason="permission denied")

    monkeypatch.setattr(blind.keys, "versions", denied)
    tally = blind.rewrap()

    # After the first hundred the newest version is known, and what has it is not asked for.
    assert blind.keys.calls == [100, 50]
    assert (tally.rewrapped, tally.already, tally.newest) == (150, 150, 2)


def test_who_may_only_rewrap_leaves_alone_what_has_the_newest_version(blind, monkeypatch):
    path = blind.seal("a.bin")
    before = states(blind.root)

    def denied(name):
        raise ServiceRefusedError(service="vault", action="read", reason="permission denied")

    monkeypatch.setattr(blind.keys, "versions", denied)
    tally = blind.rewrap()

    assert states(blind.root) == before
    assert (tally.rewrapped, tally.already, tally.newest) == (0, 1, 1)
    assert path.exists()


def test_a_key_system_that_stops_answering_ends_it_and_the_next_run_finishes(blind, monkeypatch):
    for number in range(250):
        blind.seal(f"{number:03}.bin")
    blind.keys.rotate("data")
    whole, calls = blind.keys.rewrap, []

    def stopping(name, bodies):
        calls.append(len(bodies))
        if len(calls) == 2:
            raise ServiceUnavailableError(service="vault", action="rewrap", reason="cut")
        return whole(name, bodies)

    monkeypatch.setattr(blind.keys, "rewrap", stopping)
    with pytest.raises(ServiceUnavailableError):
        blind.rewrap()
    intents = [fact for fact in blind.audit.facts if fact.phase == "intent"]
    outcomes = blind.outcomes()
    tally = blind.rewrap()

    assert len(intents) == len(outcomes) == 200
    assert outcomes.count(("failed", "service_unavailable")) == 100
    assert (tally.rewrapped, tally.already) == (150, 100)


def test_a_missing_key_and_a_missing_folder_are_named(lake):
    lake.seal("a.bin")

    with pytest.raises(PolicyError, match="nokey"):
        lake.rewrap(name="nokey")
    with pytest.raises(ConfigurationError, match="found nothing there"):
        lake.rewrap("nowhere")


def test_reads_beside_a_rewrap_raise_no_alarm(lake):
    for number in range(40):
        lake.seal(f"{number}.bin")
    stop, failures = threading.Event(), []

    def keep_rotating():
        try:
            while not stop.is_set():
                lake.keys.rotate("data")
                lake.rewrap()
        except Exception as error:
            failures.append(error)

    rotating = threading.Thread(target=keep_rotating)
    rotating.start()
    try:
        for number in range(1_000):
            assert lake.read(f"{number % 40}.bin") == b"hello"
    finally:
        stop.set()
        rotating.join()

    assert failures == []


PROGRAM = """
import sys
from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.rewrapping_below import rewrap_below
from airflow_secure_ml.testing.ports import MemoryAudit, MemoryTransit

keys = MemoryTransit(random_bytes=lambda length: b"k" * length)
keys.rotate("data")
store = LocalObjects()

class Waiting:
    "Waits where it is told to be killed."
    def __getattr__(self, name):
        return getattr(store, name)
    def create(self, uri):
        writer = store.create(uri)
        commit = writer.commit
        def committing(**how):
            step("before " + uri.rpartition("/")[2])
            version = commit(**how)
            step("after " + uri.rpartition("/")[2])
            return version
        writer.commit = committing
        return writer

def step(words):
    print(words, flush=True)
    sys.stdin.readline()

trail = Journal(MemoryAudit(), None, lambda line: None)
rewrap_below(Waiting(), store.canonical(sys.argv[1]), keys=keys, name="data", trail=trail)
"""


@pytest.mark.parametrize("step", ["before 0.bin", "after 1.bin", "before 2.bin"])
def test_killed_anywhere_and_begun_again_it_finishes(tmp_path, step):
    lake = Lake(tmp_path / "lake", MemoryTransit(random_bytes=lambda length: b"k" * length))
    for number in range(4):
        lake.seal(f"{number}.bin")
    lake.keys.rotate("data")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(lake.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        while (line := process.stdout.readline().strip()) != step:
            assert line, "the child ended before it was killed"
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()

    names = [f"{number}.bin" for number in range(4)]
    left = [lake.read(name) for name in names]
    tally = lake.rewrap()

    assert left == [b"hello"] * 4
    assert tally.rewrapped + tally.already == 4
    assert lake.versions() == {name: [2] for name in names}
    assert sorted(os.listdir(lake.root)) == names
