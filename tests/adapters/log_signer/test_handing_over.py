"""One key of a log follows another: by size, once, and whole whenever it was killed."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.log_signer import (
    KeyElsewhere,
    LogSigner,
    files,
    init_log,
    prepare_successors,
    read_log_keys,
)
from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.checkpoint import (
    Checkpoint,
    open_checkpoint,
    parse_log_keys,
    sign_checkpoint,
)
from airflow_secure_ml.core.audit.handing_over import announcement
from airflow_secure_ml.core.audit.log_key import ED25519, ML_DSA_65
from airflow_secure_ml.core.audit.tree import (
    consistency_proof,
    inclusion_path,
    leaf_hash,
    root_of,
)
from airflow_secure_ml.core.ed25519 import Ed25519Signer, public_of
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, FormatError, PolicyError

VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "log_note"
EMITTER = "5e" * 16


def event(act="trail.beat", **more):
    record = {"v": 1, "emitter": EMITTER, "seq": 0, "time": 1, "mono": 1}
    return canonical.encode({**record, "act": act, "phase": "seen", "result": "ok", "more": more})


class Log:
    """Leaves in memory, and a signer's directory."""

    def __init__(self, path, **options):
        self.path, self.leaves = path, []
        self.origin = init_log(path, "example.org", **options)

    @property
    def signer(self):
        return LogSigner(self.path)

    @property
    def size(self):
        return len(self.leaves)

    @property
    def root(self):
        return root_of(leaf_hash(leaf) for leaf in self.leaves)

    def node(self, level, n):
        return root_of(leaf_hash(leaf) for leaf in self.leaves[n << level : (n + 1) << level])

    def grow(self, count=3):
        self.leaves += [event(size=len(self.leaves) + n) for n in range(count)]

    def proof(self):
        return consistency_proof(self.signer.last()[0], self.size, self.node)

    def sign(self):
        return self.signer.sign(self.size, self.root, self.proof())

    def announce(self):
        """Add the leaf that names the successors."""
        more = announcement(self.signer.successors(), size=self.size + 1)
        self.leaves.append(event("trail.key", **more))

    def hand_over(self):
        path = inclusion_path(self.size - 1, self.size, self.node)
        proof = self.proof()
        return self.signer.hand_over(self.size, self.root, proof, self.leaves[-1], path)

    def public(self):
        return parse_log_keys(read_log_keys(self.path / "log_keys"))

    def ranges(self):
        return [(key.from_size, key.to_size) for key in self.public()]


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path / "signer")
    made.grow()
    made.sign()
    return made


@pytest.fixture
def rotating(log):
    """A log whose successor is made and named by its last leaf."""
    log.grow()
    prepare_successors(log.path)
    log.announce()
    return log


def test_the_old_key_signs_the_leaf_that_names_its_successor_and_nothing_larger(rotating):
    old = rotating.signer.public

    last_of_old = rotating.hand_over()
    rotating.grow()
    first_of_new = rotating.sign()

    assert rotating.ranges() == [(0, 7), (8, None)]
    assert open_checkpoint(last_of_old, rotating.public()).size == 7
    assert open_checkpoint(first_of_new, rotating.public()).size == 10
    assert open_checkpoint(last_of_old, [old]).size == 7
    with pytest.raises(PolicyError):
        open_checkpoint(first_of_new, [old])
    assert rotating.signer.public.key_id != old.key_id


def test_the_old_private_key_is_gone(rotating):
    old = (rotating.path / "log.key").read_bytes()
    descriptor = os.open(rotating.path / "log.key", os.O_RDONLY)

    rotating.hand_over()

    left = os.pread(descriptor, 4096, 0)
    os.close(descriptor)
    assert left == bytes(len(old))
    names = sorted(path.name for path in rotating.path.iterdir())
    assert names == ["last", "lock", "log.key", "log_keys"]
    assert old not in b"".join(path.read_bytes() for path in rotating.path.iterdir())


def test_old_checkpoints_hold_after_many_rotations(log):
    notes = [log.sign()]
    for _ in range(4):
        log.grow(2)
        prepare_successors(log.path)
        log.announce()
        notes.append(log.hand_over())
        log.grow(1)
        notes.append(log.sign())

    sizes = [open_checkpoint(note, log.public()).size for note in notes]

    assert sizes == [3, 6, 7, 10, 11, 14, 15, 18, 19]
    assert log.ranges() == [(0, 6), (7, 10), (11, 14), (15, 18), (19, None)]


def _says(log, **changed):
    more = announcement(log.signer.successors(), size=log.size)
    log.leaves[-1] = event("trail.key", **{**more, **changed})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda log: _says(log, vkey=log.signer.public.vkey()),
        lambda log: _says(log, from_size=log.size),
        lambda log: _says(log, to_size=log.size + 1),
        lambda log: _says(log, second="sha256:" + "0" * 64),
        lambda log: log.leaves.__setitem__(-1, event("trail.beat")),
        lambda log: log.leaves.__setitem__(-1, b"nothing"),
        lambda log: log.grow(1),
    ],
    ids=[
        "another key",
        "an earlier size",
        "a later size",
        "a second key",
        "a beat",
        "bytes",
        "not last",
    ],
)
def test_without_the_leaf_that_says_so_nothing_is_handed_over(rotating, spoil):
    before = {path.name: path.read_bytes() for path in rotating.path.iterdir()}
    spoil(rotating)

    with pytest.raises(AuditLogError):
        rotating.hand_over()
    assert {path.name: path.read_bytes() for path in rotating.path.iterdir()} == before


def test_a_leaf_that_is_not_in_the_tree_hands_nothing_over(rotating):
    path = inclusion_path(rotating.size - 1, rotating.size, rotating.node)
    leaf = rotating.leaves[-1]
    rotating.leaves[-1] = event("trail.beat")

    with pytest.raises(AuditLogError, match="is not in the tree"):
        rotating.signer.hand_over(rotating.size, rotating.root, rotating.proof(), leaf, path)
    assert rotating.ranges() == [(0, None)]


def test_without_a_successor_nothing_is_handed_over(log):
    with pytest.raises(ConfigurationError, match="rotate-key"):
        log.signer.hand_over(3, log.root, (), log.leaves[-1], ())


def test_a_second_rotation_at_the_same_size_is_refused(rotating):
    rotating.hand_over()
    prepare_successors(rotating.path)
    more = announcement(rotating.signer.successors(), size=rotating.size)
    rotating.leaves[-1] = event("trail.key", **more)

    with pytest.raises((AuditLogError, FormatError)):
        rotating.hand_over()
    assert rotating.ranges() == [(0, 7), (8, None)]


def test_successors_are_made_once_however_often_it_is_asked(log):
    first = prepare_successors(log.path)

    assert prepare_successors(log.path) == first
    assert log.signer.successors() == first
    assert log.ranges() == [(0, None)]


def test_a_key_id_that_the_log_had_is_not_given_again(log):
    taken = log.signer.public
    text = (log.path / "log.key").read_text("utf-8")
    old = base64.b64decode(text.strip().split("+", 4)[-1])[1:]
    given = iter([old, b"\x01" * 32])

    [new] = prepare_successors(log.path, random_bytes=lambda count: next(given))

    assert new.public_key == public_of(b"\x01" * 32)
    assert new.key_id != taken.key_id


@pytest.mark.parametrize("post_quantum", [False, True], ids=["ed25519", "both kinds"])
def test_a_second_kind_of_key_comes_and_goes_with_a_rotation(log, post_quantum):
    if not post_quantum:
        log = Log(log.path.with_name("other"), post_quantum=True)
        log.grow()
        log.sign()
    prepare_successors(log.path, post_quantum=post_quantum)
    log.announce()
    last_of_old = log.hand_over()
    log.grow()
    first_of_new = log.sign()

    kinds = {key.algorithm for key in log.public() if key.to_size is None}
    assert kinds == ({ED25519, ML_DSA_65} if post_quantum else {ED25519})
    assert open_checkpoint(last_of_old, log.public()).size == 4
    assert open_checkpoint(first_of_new, log.public()).size == 7
    lines = [note.count("\n— ") for note in (last_of_old, first_of_new)]
    assert lines == ([1, 2] if post_quantum else [2, 1])


class _KilledError(BaseException):
    pass


STEPS = ["last", "log_keys", "move", "wipe"]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_can_be_run_again(rotating, monkeypatch, step, before):
    _kill_at(monkeypatch, step, before=before)
    with pytest.raises(_KilledError):
        rotating.hand_over()
    monkeypatch.undo()

    # What every sequencer does next: look for successors, say so, hand over; then go on.
    if rotating.signer.successors():
        rotating.grow(1)
        size = rotating.size
        rotating.signer.sign(size, rotating.root, rotating.proof())
    if rotating.signer.successors():
        rotating.announce()
        rotating.hand_over()
    rotating.grow(1)
    note = rotating.sign()

    keys = rotating.public()
    assert rotating.signer.successors() == ()
    assert len(keys) == 2
    assert keys[0].to_size + 1 == keys[1].from_size
    assert open_checkpoint(note, [keys[1]]).size == rotating.size
    assert not (rotating.path / "next.key").exists()


def _kill_at(monkeypatch, step, *, before):
    def killing(target, name, is_it):
        real = getattr(target, name)

        def call(*args, **options):
            if not is_it(*args):
                return real(*args, **options)
            if not before:
                real(*args, **options)
            raise _KilledError

        monkeypatch.setattr(target, name, call)

    if step in ("last", "log_keys"):
        killing(files.os, "rename", lambda source, target: Path(target).name == step)
    elif step == "move":
        killing(files.os, "rename", lambda source, target: Path(target).name == "log.key")
    else:
        killing(files.os, "pwrite", lambda *args: True)


def test_a_copy_of_the_old_key_signs_nothing_that_a_reader_believes(rotating):
    stolen = (rotating.path / "log.key").read_bytes()
    rotating.hand_over()
    rotating.grow()
    thief = rotating.path.with_name("thief")
    thief.mkdir(mode=0o700)
    for name, data in (
        ("log.key", stolen),
        ("last", (rotating.path / "last").read_bytes()),
        ("log_keys", rotating.public()[0].line().replace(" 0 7", " 0 -").encode()),
    ):
        (thief / name).write_bytes(data)
        (thief / name).chmod(0o600)

    note = LogSigner(thief).sign(rotating.size, rotating.root, rotating.proof())

    with pytest.raises(PolicyError, match="no key known for that size"):
        open_checkpoint(note, rotating.public())


def test_the_new_key_is_not_believed_below_its_range(rotating):
    rotating.hand_over()
    [new] = rotating.signer._files.in_use()
    checkpoint = Checkpoint(origin=rotating.origin, size=5, root=bytes(32))

    forged = sign_checkpoint(checkpoint, new.public.public_key, new.sign)

    with pytest.raises(PolicyError):
        open_checkpoint(forged, rotating.public())


def test_a_restored_old_key_file_is_refused_by_the_sizes_beside_it(rotating):
    old = (rotating.path / "log.key").read_bytes()
    rotating.hand_over()
    rotating.grow()
    (rotating.path / "log.key").write_bytes(old)

    with pytest.raises(AuditLogError, match="its sizes are 0 to 7"):
        rotating.sign()


def elsewhere(number, address="vault://transit?key=log"):
    seed = bytes([number]) * 32
    signer = Ed25519Signer(seed, KeyRef(system="vault", name="log", version="1"))
    return KeyElsewhere(address=address, public_key=public_of(seed), sign=signer.sign)


def test_a_key_that_lies_elsewhere_leaves_only_its_public_half_here(tmp_path):
    at = elsewhere(1)
    log = Log(tmp_path / "signer", at=at)
    log.grow()

    signer = LogSigner(log.path, lambda address, public: at.sign)
    note = signer.sign(log.size, log.root, ())

    assert open_checkpoint(note, log.public()).size == 3
    text = (log.path / "log.key").read_text("utf-8")
    assert text == f"{log.public()[0].vkey()} vault://transit?key=log\n"
    log.grow(1)
    with pytest.raises(ConfigurationError, match="audit_signer_socket"):
        log.sign()


def test_a_log_moves_from_a_file_to_a_key_elsewhere_and_on(log):
    first, second = elsewhere(1), elsewhere(2, "vault://transit?key=log2")
    ways = {first.public_key: first.sign, second.public_key: second.sign}
    for at in (first, second):
        prepare_successors(log.path, at=at)
        log.announce()
        signer = LogSigner(log.path, lambda address, public: ways[public])
        path = inclusion_path(log.size - 1, log.size, log.node)
        signer.hand_over(log.size, log.root, log.proof(), log.leaves[-1], path)

    with pytest.raises(ConfigurationError, match="had a key of that id"):
        prepare_successors(log.path, at=first)
    assert b"PRIVATE" not in (log.path / "log.key").read_bytes()


def test_the_vector_s_key_file_signs_with_both_keys(tmp_path):
    path = tmp_path / "signer"
    path.mkdir(mode=0o700)
    for name, source in (
        ("log.key", "log.key"),
        ("last", "note.txt"),
        ("log_keys", "log_keys.txt"),
    ):
        (path / name).write_bytes((VECTORS / source).read_bytes())
        (path / name).chmod(0o600)

    signer = LogSigner(path)

    assert signer.last()[0] == 10
    assert signer.sign(10, signer.last()[1], ()) == (VECTORS / "note.txt").read_text("utf-8")
    assert [key.key_id.hex() for key in signer.in_use()] == ["677f7721", "8cb06471"]


@pytest.mark.parametrize(
    "lines", [(1,), (1, 0), (0, 0), (0, 1, 1)], ids=["second alone", "turned", "twice", "three"]
)
def test_a_key_file_of_other_keys_is_refused(tmp_path, lines):
    path = tmp_path / "signer"
    path.mkdir(mode=0o700)
    found = (VECTORS / "log.key").read_text("utf-8").splitlines()
    (path / "log.key").write_text("".join(f"{found[n]}\n" for n in lines), "utf-8")
    (path / "log.key").chmod(0o600)

    with pytest.raises(FormatError, match="expected one Ed25519 key"):
        LogSigner(path)
