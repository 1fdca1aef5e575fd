"""A folder is sealed to another place; whatever interrupts it, and whoever writes there."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.core import dsse
from airflow_secure_ml.core.keyring import changes
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.core.sealed_file.hpke import HYBRID, HpkeOpener
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services import sealing_below
from airflow_secure_ml.services.sealed_dataset import DataSetRoot, create_dataset_key
from airflow_secure_ml.services.sealed_header import read_sealed_header
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.services.sealing_below import SealingBelow, SealingKeys
from airflow_secure_ml.services.signing import Demand, verify_artifact
from airflow_secure_ml.services.tree_work import Tree
from airflow_secure_ml.testing.ports import MemoryKeySystem, MemoryObjects
from tests.services.sealing.interrupting import only_commits
from tests.services.sealing.lake import states
from tests.signing_keys import MALLORY

ANN = HpkeOpener(HYBRID, bytes(32), KeyRef(system="local", name="ann", version="1"))
FILES = {
    "a.csv": b"alice",
    "deep/b.csv": b"bob" * 1000,
    "deep/er/empty": b"",
    "größe 100% #1.csv": b"\x00" * 70_000,
    "two-segments.bin": bytes(range(256)) * 5000,
}


class Move:
    """A plain folder, where its sealed twin goes, and the keys."""

    def __init__(self, path, store=None):
        self.path, self.keys = path, MemoryKeySystem()
        self.store = store or LocalObjects()
        self.source = Tree(store=self.store, uri=self.store.canonical(f"{path}/plain"))
        self.target = Tree(store=self.store, uri=self.store.canonical(f"{path}/sealed"))
        self.seen = []

    def write(self, files):
        for name, data in files.items():
            with self.store.create(self.source.child(name)) as writer:
                writer.write_at(0, data)
                writer.commit(replace=True)

    def sealing(self, *, keys=("data",), context=None, signer=None, **more):
        return SealingBelow(
            more.pop("source", self.source),
            more.pop("target", self.target),
            keys=SealingKeys(
                system=self.keys,
                names=keys,
                signer=signer or self.keys.signer("pipeline"),
                verifiers=self.keys.verifiers({"pipeline"}),
            ),
            context=context or {},
            threads=more.pop("threads", 2),
            pace=lambda files, size: self.seen.append((files, size)),
            **more,
        )

    def seal(self, **more):
        """Seal and sign; returns the tally."""
        sealing = self.sealing(**more)
        tally = sealing.run()
        if not tally.failed:
            self.signed = sealing.sign(1)
        return tally

    def verify(self):
        demand = Demand(verifiers=self.keys.verifiers({"pipeline"}))
        return verify_artifact(self.store, self.target.uri, demand)

    def read(self, keys=None):
        """What the sealed folder holds, each file opened under its own address."""
        above = self.keys.unwrappers() if keys is None else keys
        keys = [DataSetRoot(self.store, self.target.uri, keys=above)]
        found = {}
        for name in self.store.walk(self.target.uri):
            uri = self.target.child(name)
            with self.store.open(uri) as pinned:
                expect = {"object": uri, "dataset": self.target.uri}
                found[name] = SealedReader(pinned, keys=keys, expect=expect).read()
        return found

    def headers(self):
        """Names of the data-set keys."""
        return sorted(name for name in os.listdir(self.path / "sealed/_asml") if "asmk" in name)


@pytest.fixture
def move(tmp_path):
    move = Move(tmp_path)
    move.write(FILES)
    return move


@pytest.fixture
def in_memory():
    move = Move("/data", MemoryObjects())
    move.write(FILES)
    return move


@pytest.mark.parametrize("which", ["move", "in_memory"])
def test_a_folder_is_sealed_under_one_key_and_signed_as_a_whole(which, request):
    move = request.getfixturevalue(which)

    tally = move.seal(context={"purpose": "training"})

    assert move.read() == FILES
    said = move.verify().statement
    assert said.context == {
        "purpose": "training",
        "dataset": move.target.uri,
        "object": move.target.uri,
    }
    assert (said.act, said.producer) == ("write", None)
    assert (tally.files, tally.done, tally.already, tally.failed) == (5, 5, 0, 0)
    assert tally.done_bytes == tally.size_bytes == sum(map(len, FILES.values()))
    assert move.seen[-1] == (5, tally.size_bytes)


def test_every_file_has_the_data_set_key_as_its_only_slot(move):
    move.seal()

    (header,) = move.headers()
    for name in move.store.walk(move.target.uri):
        with move.store.open(move.target.child(name)) as pinned:
            slots = read_sealed_header(pinned).slots
        assert [(slot.type, f"{slot.id}.asmk") for slot in slots] == [(5, header)]


def test_begun_again_it_touches_nothing_and_signs_nothing_more(move):
    move.seal()
    before = states(move.path / "sealed") | states(move.path / "sealed.sig")

    tally = move.seal()

    assert (tally.done, tally.already, tally.already_bytes) == (0, 5, tally.size_bytes)
    assert states(move.path / "sealed") | states(move.path / "sealed.sig") == before


def add_ann(move):
    """A recipient of whom only the public key is here."""
    move.keys.keyring = changes.add_recipient(
        move.keys.keyring, "ann", ANN.recipient, now="2026-11-28T00:00:00Z"
    )


def interrupt(move, monkeypatch, commits, **more):
    """Let only so many commits of any object happen."""
    with only_commits(monkeypatch, commits):
        move.seal(threads=1, **more)


# Two of the journal's first record and the key, then a record and a file by turns, five times;
# the thirteenth is the statement.
@pytest.mark.parametrize("commits", range(13))
def test_a_folder_for_others_alone_goes_on_from_any_commit(move, monkeypatch, commits):
    add_ann(move)
    interrupt(move, monkeypatch, commits, keys=("ann",))
    done = states(move.path / "sealed") if commits else {}

    tally = move.seal(keys=("ann",))

    finished = max(0, commits - 2) // 2
    assert (tally.already, tally.done) == (finished, 5 - finished)
    assert move.read(keys=[ANN]) == FILES
    move.verify()
    assert len(move.headers()) == (2 if 2 <= commits < 12 else 1)
    now = states(move.path / "sealed")
    assert {path: now.get(path) for path in done} == done
    with pytest.raises(PolicyError, match="none of the reader's keys"):
        move.read()


def test_a_folder_for_others_and_us_goes_on_under_its_one_key(move, monkeypatch):
    add_ann(move)
    interrupt(move, monkeypatch, 6, keys=("ann", "data"))

    move.seal(keys=("ann", "data"))

    assert len(move.headers()) == 1
    assert move.read() == move.read(keys=[ANN]) == FILES


def test_a_key_that_is_disabled_is_no_reason_for_another(move, monkeypatch):
    interrupt(move, monkeypatch, 6)
    move.keys.rotate("data")
    move.keys.keyring = changes.disable(move.keys.keyring, "data", 1)

    with pytest.raises(PolicyError) as refused:
        move.seal()

    assert refused.value.why == "key_disabled"
    assert len(move.headers()) == 1


def test_the_first_of_two_data_set_keys_is_missed_as_well(move, monkeypatch):
    add_ann(move)
    interrupt(move, monkeypatch, 6, keys=("ann",))
    first = move.headers()[0]
    move.seal(keys=("ann",))
    (move.path / "sealed/_asml" / first).unlink()

    with pytest.raises(PolicyError) as refused:
        move.seal(keys=("ann",))

    assert (refused.value.why, first in str(refused.value)) == ("key_missing", True)


@pytest.mark.parametrize("commits", range(13))
def test_interrupted_at_any_commit_it_goes_on_with_what_is_left(move, monkeypatch, commits):
    interrupt(move, monkeypatch, commits)
    done = states(move.path / "sealed") if commits else {}

    tally = move.seal()

    finished = max(0, commits - 2) // 2
    assert (tally.already, tally.done) == (finished, 5 - finished)
    assert move.read() == FILES
    move.verify()
    assert len(move.headers()) == 1
    now = states(move.path / "sealed")
    assert {path: now.get(path) for path in done} == done


def test_a_source_that_changed_is_sealed_anew_and_signed_anew(move):
    move.seal()
    first = move.signed.digest
    move.write({"a.csv": b"alice, older"})

    tally = move.seal()

    assert (tally.done, tally.already) == (1, 4)
    assert move.read() == FILES | {"a.csv": b"alice, older"}
    assert move.verify().digest != first


def test_a_new_source_joins(move):
    move.seal()
    move.write({"new": b"n"})

    assert move.seal().done == 1
    assert move.read() == FILES | {"new": b"n"}
    move.verify()


@pytest.mark.parametrize(
    "spoil",
    [lambda path: path.unlink(), lambda path: os.truncate(path, path.stat().st_size - 1)],
    ids=["removed", "cut"],
)
def test_a_finished_file_that_is_not_there_whole_is_sealed_anew(move, spoil):
    move.seal()
    spoil(move.path / "sealed/deep/b.csv")

    tally = move.seal()

    assert (tally.done, tally.already) == (1, 4)
    assert move.read() == FILES
    move.verify()


def test_a_finished_file_whose_payload_was_altered_is_never_signed_as_it_lies(move, monkeypatch):
    interrupt(move, monkeypatch, 12)
    path = move.path / "sealed/a.csv"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    move.seal()

    with pytest.raises(IntegrityError):
        move.verify()


# What is not ours is never signed, replaced, or taken for finished.


def plant_stranger(move):
    (move.path / "sealed/stranger").write_bytes(b"theirs")


def plant_plain(move):
    (move.path / "sealed/a.csv").write_bytes(b"theirs")


def plant_sealed_with_our_key(move):
    """Whoever may read may seal with the same key: what the journal does not know is no matter."""
    other = Move(move.path / "elsewhere")
    other.keys = move.keys
    other.write({"a.csv": b"alice"})
    other.seal()
    shutil.copy(move.path / "elsewhere/sealed/a.csv", move.path / "sealed/a.csv")


def swap_two(move):
    one, two = move.path / "sealed/a.csv", move.path / "sealed/two-segments.bin"
    data = one.read_bytes()
    shutil.copy(two, one)
    two.write_bytes(data)


@pytest.mark.parametrize(
    "plant", [plant_stranger, plant_plain, plant_sealed_with_our_key, swap_two]
)
def test_what_is_not_of_this_run_stops_it_before_anything_is_written(move, plant):
    move.seal()
    plant(move)
    move.write({"new": b"n"})
    before = states(move.path / "sealed") | states(move.path / "sealed.sig")

    with pytest.raises(PolicyError) as refused:
        move.seal()

    assert refused.value.why == "address_taken"
    assert states(move.path / "sealed") | states(move.path / "sealed.sig") == before


def test_a_folder_that_was_there_before_is_refused(move):
    (move.path / "sealed").mkdir()
    plant_stranger(move)

    with pytest.raises(PolicyError, match="'stranger'"):
        move.seal()


@pytest.mark.parametrize(("what", "why"), [("came", "address_taken"), ("went", "output_missing")])
def test_what_came_or_went_after_the_last_file_is_not_signed(move, what, why):
    sealing = move.sealing()
    sealing.run()
    if what == "came":
        (move.path / "sealed/stranger.csv").write_bytes(b"not sealed by this run")
    else:
        (move.path / "sealed/a.csv").unlink()

    with pytest.raises(PolicyError) as raised:
        sealing.sign(1)

    assert raised.value.why == why
    assert not (move.path / "sealed.sig").exists()


def test_an_older_state_of_a_file_is_replaced_and_not_signed(move):
    move.seal()
    older = (move.path / "sealed/a.csv").read_bytes()
    move.write({"a.csv": b"newer"})
    move.seal()
    (move.path / "sealed/a.csv").write_bytes(older)

    tally = move.seal()

    assert tally.done == 1
    assert move.read()["a.csv"] == b"newer"
    move.verify()


def test_a_planted_data_set_key_is_never_sealed_under(move):
    """Whoever can wrap to the reader's key, and write there, would read everything."""
    planted = create_dataset_key(
        move.store,
        move.target.uri,
        keys=[move.keys.wrapper("data")],
        context={"dataset": move.target.uri},
    )

    move.seal()

    for name in move.store.walk(move.target.uri):
        with move.store.open(move.target.child(name)) as pinned:
            assert planted.slot_id not in [slot.id for slot in read_sealed_header(pinned).slots]


def records(move):
    return sorted((move.path / "sealed/_asml/sealing").iterdir())


def forge(move):
    """The last record, signed by somebody who says they are us."""
    path = records(move)[-1]
    envelope = dsse.parse(path.read_bytes())
    payload, _ = dsse.verify(envelope, move.keys.verifiers({"pipeline"}))
    path.write_bytes(dsse.sign(payload, [MALLORY]).encode())


def alter(move):
    path = records(move)[-1]
    record = json.loads(path.read_bytes())
    record["payload"] = record["payload"][:-8] + "AAAA" + record["payload"][-4:]
    path.write_text(json.dumps(record, separators=(",", ":"), sort_keys=True))


def use_as_statement_of_another(move):
    other = Move(move.path / "elsewhere")
    other.keys = move.keys
    other.write({"a.csv": b"alice"})
    other.seal()
    shutil.copy(records(other)[-1], records(move)[1])


@pytest.mark.parametrize(
    "spoil",
    [
        forge,
        alter,
        use_as_statement_of_another,
        lambda move: records(move)[1].unlink(),
        lambda move: shutil.copy(records(move)[1], records(move)[2]),
    ],
    ids=["forged", "altered", "of-another-tree", "removed", "twice"],
)
def test_a_journal_that_is_not_ours_stops_it(move, spoil):
    move.seal(threads=1)
    spoil(move)

    with pytest.raises((IntegrityError, PolicyError)):
        move.seal()


def test_a_journal_cut_at_its_end_leaves_files_that_are_not_known_any_more(move):
    move.seal(threads=1)
    records(move)[-1].unlink()

    with pytest.raises(PolicyError, match="1 other files"):
        move.seal()


def test_a_record_of_the_journal_is_no_statement_about_the_folder(move):
    move.seal()
    shutil.rmtree(move.path / "sealed.sig")
    (move.path / "sealed.sig").mkdir()
    digest = move.signed.digest.removeprefix("sha256:")
    for number, record in enumerate(records(move)):
        shutil.copy(record, move.path / f"sealed.sig/sha256-{digest}.pipeline.{number}")

    with pytest.raises(IntegrityError):
        move.verify()


@pytest.mark.parametrize(
    "other",
    [{"keys": ("data", "more")}, {"context": {"purpose": "other"}}],
    ids=["keys", "context"],
)
def test_other_arguments_do_not_go_on_with_it(move, other):
    move.keys.create("more", "wrap")
    move.seal()

    with pytest.raises(ConfigurationError, match="same arguments"):
        move.seal(**other)


def test_another_source_does_not_go_on_with_it(move):
    move.seal()
    shutil.copytree(move.path / "plain", move.path / "twin")
    twin = Tree(store=move.store, uri=move.store.canonical(str(move.path / "twin")))

    with pytest.raises(ConfigurationError, match="another source"):
        move.seal(source=twin)


def test_a_rotated_key_goes_on_with_it(move, monkeypatch):
    interrupt(move, monkeypatch, 6)
    move.keys.rotate("data")
    move.keys.rotate("pipeline")

    assert move.seal().already == 2
    assert move.read() == FILES
    move.verify()


def test_a_data_set_key_that_is_gone_is_not_made_anew_over_what_it_sealed(move):
    move.seal()
    (move.path / "sealed/_asml" / move.headers()[0]).unlink()

    with pytest.raises(PolicyError) as refused:
        move.seal()

    assert refused.value.why == "key_missing"


@pytest.mark.parametrize(
    ("source", "target"),
    [("plain", "plain"), ("plain", "plain/sealed"), ("plain/deep", "plain")],
    ids=["itself", "in-it", "above-it"],
)
def test_nothing_is_sealed_in_place(move, source, target):
    source, target = (
        Tree(store=move.store, uri=move.store.canonical(str(move.path / name)))
        for name in (source, target)
    )
    before = states(move.path)

    with pytest.raises(ConfigurationError, match="apart"):
        move.seal(source=source, target=target)

    assert states(move.path) == before


@pytest.mark.parametrize("name", ["x.sig", "_asml", "x.sig/y"])
def test_names_that_are_kept_are_no_target(move, name):
    target = Tree(store=move.store, uri=move.store.canonical(str(move.path / name)))

    with pytest.raises(ConfigurationError, match="kept for statements and keys"):
        move.seal(target=target)


def test_a_folder_that_may_be_sealed_already_is_no_source(move):
    move.write({"_asml/x": b""})

    with pytest.raises(ConfigurationError, match="sealed already"):
        move.seal()


@pytest.mark.parametrize("name", ["object", "dataset"])
def test_pairs_that_a_tree_gives_are_not_taken(move, name):
    with pytest.raises(ConfigurationError, match=name):
        move.seal(context={name: "x"})


def test_a_device_or_a_way_out_is_refused_before_anything_is_written(move):
    for make in (
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to("/etc/hostname"),
    ):
        make(move.path / "plain/odd")
        with pytest.raises(FormatError, match="odd"):
            move.seal()
        (move.path / "plain/odd").unlink()
        assert not (move.path / "sealed").exists()


def test_no_files_are_nothing_to_seal(move):
    shutil.rmtree(move.path / "plain")
    with pytest.raises(ConfigurationError, match="found nothing"):
        move.seal()
    (move.path / "plain").mkdir()
    with pytest.raises(ConfigurationError, match="expected 1 to"):
        move.seal()


class Unreadable(LocalObjects):
    """A store where reading one file fails."""

    def __init__(self, error):
        self.error = error

    def open_directory(self, uri):
        folder = super().open_directory(uri)
        opened = folder.open

        def open_file(name):
            if name == "deep/b.csv":
                raise self.error
            return opened(name)

        folder.open = open_file
        return folder


@pytest.mark.parametrize(
    ("keep_going", "done"), [(True, 4), (False, 1)], ids=["keep-going", "stop"]
)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_signed(move, keep_going, done):
    source = Tree(store=Unreadable(IntegrityError("changed")), uri=move.source.uri)
    sealing = move.sealing(source=source, keep_going=keep_going, threads=1)

    tally = sealing.run()

    assert (tally.failed, tally.done) == (1, done)
    assert [str(error) for error in tally.failures] == ["changed"]
    with pytest.raises(PolicyError, match="only what is complete is signed"):
        sealing.sign(1)
    # What was wrong was mended.
    assert move.seal().already == done
    assert move.read() == FILES


def test_a_store_that_does_not_answer_ends_it_whatever_may_go_on(move):
    source = Tree(store=Unreadable(ServiceUnavailableError("no")), uri=move.source.uri)

    with pytest.raises(ServiceUnavailableError):
        move.seal(source=source, keep_going=True)


def test_only_ten_reasons_are_kept(move):
    for number in range(20):
        move.write({f"many/{number}": b"x"})

    class Broken(LocalObjects):
        def create(self, uri):
            if "/many/" in uri:
                raise ConfigurationError(uri)
            return super().create(uri)

    target = Tree(store=Broken(), uri=move.target.uri)

    tally = move.seal(target=target, keep_going=True)

    assert (tally.failed, len(tally.failures), tally.done) == (20, 10, 5)
    assert len(tally.as_record()["failures"]) == 10


def test_two_runs_at_once_do_not_both_go_on(move, monkeypatch):
    interrupt(move, monkeypatch, 4)
    second = move.sealing(threads=1)
    create, taken = LocalObjects.create, []

    # The first takes the journal's next place after the second has read it.
    def create_late(store, uri):
        if not taken and uri.endswith("deep/b.csv"):
            taken.append(uri)
            move.seal()
        return create(store, uri)

    monkeypatch.setattr(LocalObjects, "create", create_late)
    with pytest.raises(PolicyError, match="another run"):
        second.run()

    assert move.read() == FILES
    move.verify()


def test_a_signer_is_needed_before_anything_is_written(move):
    with pytest.raises(PolicyError):
        move.sealing(signer=move.keys.signer("nobody"))
    assert not (move.path / "sealed").exists()


def test_nothing_opens_without_the_key(move):
    move.seal()
    other = MemoryKeySystem()
    keys = [DataSetRoot(move.store, move.target.uri, keys=other.unwrappers())]

    with move.store.open(move.target.child("a.csv")) as pinned, pytest.raises(CiphertextError):
        SealedReader(pinned, keys=keys, expect=ANY_CONTEXT).read()


def test_files_that_no_batch_holds_are_sealed_by_several_threads(move, monkeypatch):
    monkeypatch.setattr(sealing_below, "BATCH_BYTES", 2000)
    seen = []
    seal = sealing_below.seal_object

    def note(*given, **more):
        seen.append(more["threads"])
        return seal(*given, **more)

    monkeypatch.setattr(sealing_below, "seal_object", note)
    move.seal(threads=3)

    assert sorted(seen) == [1, 1, 3, 3, 3]
    assert move.read() == FILES
    move.verify()


def test_a_tree_goes_on_with_the_digest_that_it_was_begun_with(move, monkeypatch):
    begun = sealing_below.seal_object

    def seal(*given, **more):
        more["digest_algorithm"] = "blake3"
        return begun(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(sealing_below, "seal_object", seal)
        interrupt(move, patch, 6)
    assert move.seal().already == 2

    assert move.verify().manifest.algorithm == "blake3"
    assert move.read() == FILES
