"""A real log before two real witnesses: ours, and litewitness, which never saw our code.

What must hold for one must hold for the other: they are asked the same questions.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from airflow_secure_ml.adapters.log_signer import PUBLIC_FILE, LogSigner, read_log_keys
from airflow_secure_ml.adapters.log_signer.directory import KeyDirectory
from airflow_secure_ml.adapters.relay import BOOK_FILE, SqliteBook
from airflow_secure_ml.core.audit.add_checkpoint import PATH, AddCheckpoint, parse_size
from airflow_secure_ml.core.audit.checkpoint import (
    Checkpoint,
    parse_checkpoint,
    parse_note,
    sign_with,
)
from airflow_secure_ml.core.audit.cosignature import cosigned_note, cosigners
from airflow_secure_ml.core.audit.log_key import parse_log_keys
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import EMPTY_ROOT, consistency_proof
from airflow_secure_ml.errors import (
    AuditLogError,
    ServiceUnavailableError,
    SignatureError,
)
from airflow_secure_ml.outgoing import HttpPoster
from airflow_secure_ml.services.witnessing import WitnessJob
from tests.interop.witnesses import kill, litewitness, our_witness
from tests.services.audit.conftest import ALICE, BOB, Installation, chain, site  # noqa: F401 - fixture


def job_of(log, witness, *, book="book", key=None, door=None):
    return WitnessJob(
        key=key or witness.key,
        door=door or HttpPoster("witness", witness.url),
        reader=log.reader(),
        log_keys=lambda: log_keys(log),
        book=SqliteBook(log.path / f"{book}.db"),
    )


def log_keys(log):
    return parse_log_keys(read_log_keys(log.signer_path / PUBLIC_FILE))


def signed(log, size, root):
    """What whoever holds the log's key can sign: anything."""
    keys = KeyDirectory(log.signer_path).in_use()
    checkpoint = Checkpoint(origin=log.origin, size=size, root=root)
    return sign_with(checkpoint, [(key.public, key.sign) for key in keys])


def ask(witness, old, proof, note):
    asked = AddCheckpoint(old=old, proof=tuple(proof), note=note)
    return HttpPoster("witness", witness.url).post(PATH, asked.encode(), "text/plain")


def proof(log, old, size):
    reader = log.reader()
    return consistency_proof(old, size, node_reader(reader.leaf_hashes, reader.tile))


def size_of(note):
    return parse_checkpoint(parse_note(note).text).size


@pytest.fixture
def log(site):  # noqa: F811 - the fixture
    site.put(ALICE, 0, chain(ALICE, 5))
    site.run()
    return site


def grow(log):
    log.put(BOB, 0, chain(BOB, 7))
    return log.run()


@pytest.fixture(params=["ours", "litewitness"])
def witness(request, log, tmp_path):
    vkeys = [key.vkey() for key in log_keys(log)]
    if request.param == "ours":
        running = our_witness(tmp_path / "witness", vkeys)
    else:
        running = litewitness(request.getfixturevalue("litewitness_binary"), vkeys)
    with running as found:
        yield found


def test_our_checkpoints_are_cosigned_as_the_log_grows(log, witness):
    job = job_of(log, witness)
    book = SqliteBook(log.path / "book.db")

    for make in (log.reader().checkpoint, lambda: grow(log)):
        note = make()

        job.step()

        lines = [each.line for each in book.cosigned(size_of(note))]
        shown = cosigned_note(note, lines)
        assert list(cosigners(shown, [witness.key])) == [witness.key.vkey()]
        assert parse_note(shown).text == parse_note(note).text
    assert book.last_cosigned(witness.key.vkey()).size == size_of(note)


def test_a_relay_that_forgot_is_told_the_size_and_goes_on(log, witness):
    job_of(log, witness).step()
    note = grow(log)

    job_of(log, witness, book="another").step()

    book = SqliteBook(log.path / "another.db")
    assert book.last_cosigned(witness.key.vkey()).size == size_of(note)


def test_a_log_rolled_back_with_its_signer_is_an_alarm(log, witness, tmp_path):
    shutil.copytree(log.path, tmp_path / "older")
    grow(log)
    job_of(log, witness).step()
    older = Installation.__new__(Installation)
    older.__dict__ |= log.__dict__ | {"path": tmp_path / "older"}
    older.signer_path = older.path / "signer"

    # Even where the relay's own book was rolled back with the log.
    with pytest.raises(AuditLogError, match="leaves of this log, here are fewer"):
        job_of(older, witness, book="another").step()


def test_a_log_rewritten_by_whoever_has_its_key_is_an_alarm(log, witness, tmp_path):
    job_of(log, witness).step()
    old = size_of(log.reader().checkpoint())
    (tmp_path / "other" / "spool").mkdir(parents=True)
    shutil.copytree(log.path / "signer", tmp_path / "other" / "signer")
    other = Installation.__new__(Installation)
    other.__dict__ |= log.__dict__ | {"path": tmp_path / "other", "opened": [], "restarts": 0}
    other.spool, other.signer_path = other.path / "spool", other.path / "signer"
    (other.signer_path / "last").write_text(signed(log, 0, EMPTY_ROOT))
    other.signer = LogSigner(other.signer_path)
    other.put(BOB, 0, chain(BOB, old + 3))
    other.run()

    try:
        with pytest.raises(AuditLogError, match="not the beginning of this log"):
            job_of(other, witness).step()
    finally:
        for each in other.opened:
            each.close()


def test_a_stale_size_is_refused_with_the_known_one(log, witness):
    job_of(log, witness).step()
    known = size_of(log.reader().checkpoint())
    note = grow(log)

    answer = ask(witness, known - 1, proof(log, known - 1, size_of(note)), note)

    assert (answer.status, parse_size(answer.body)) == (409, known)


def test_a_smaller_tree_is_refused(log, witness):
    grow(log)
    job_of(log, witness).step()
    known = size_of(log.reader().checkpoint())
    smaller = log.reader().checkpoint(at_most=known - 1)

    answer = ask(witness, known, (), smaller)

    assert answer.status == 400


def test_a_proof_of_another_tree_is_refused(log, witness):
    job_of(log, witness).step()
    known = size_of(log.reader().checkpoint())
    note = grow(log)
    good = proof(log, known, size_of(note))
    bad = (bytes([good[0][0] ^ 1]) + good[0][1:], *good[1:])

    statuses = [
        ask(witness, known, each, note).status
        for each in (bad, good[:-1], (*good, good[0]), (), good)
    ]

    assert statuses == [422, 422, 422, 422, 200]


def test_two_trees_of_one_size_are_never_cosigned(log, witness):
    job_of(log, witness).step()
    known = size_of(log.reader().checkpoint())

    answer = ask(witness, known, (), signed(log, known, b"\x07" * 32))

    # C2SP says 409 here; litewitness answers 422.
    assert answer.status in (409, 422)
    with pytest.raises(AuditLogError):
        Forged.step_of(log, witness, signed(log, known, b"\x07" * 32))


def test_a_forged_checkpoint_is_refused(log, witness):
    note = log.reader().checkpoint()
    lines = note.split("\n")
    forged = note.replace(f"\n{lines[1]}\n", f"\n{int(lines[1]) + 1}\n", 1)

    assert ask(witness, 0, (), forged).status == 403


def test_a_log_that_it_does_not_know_is_refused(log, witness, tmp_path):
    (tmp_path / "stranger").mkdir()
    stranger = Installation(tmp_path / "stranger")

    answer = ask(witness, 0, (), (stranger.signer_path / "last").read_text())

    assert answer.status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"old 01\n\nx\n",
        b"old -1\n\nx\n",
        b"old 0\nAA==\n\nx\n",
        b"old 0\n\n\n\xff",
    ],
    ids=["nothing", "cut", "zero first", "negative", "short hash", "no text"],
)
def test_a_request_that_is_none_is_refused(witness, body):
    answer = HttpPoster("witness", witness.url).post(PATH, body, "text/plain")

    assert answer.status in (400, 404)


def test_a_witness_of_another_key_is_not_believed(log, witness):
    other = replace(witness.key, public_key=b"\x11" * 32)

    with pytest.raises(SignatureError, match="without a cosignature of its key"):
        job_of(log, witness, key=other).step()

    assert SqliteBook(log.path / "book.db").cosigned(size_of(log.reader().checkpoint())) == []


def test_a_witness_that_is_gone_is_unavailable(log, witness):
    kill(witness)

    with pytest.raises(ServiceUnavailableError):
        job_of(log, witness).step()


def test_our_witness_killed_at_any_time_never_forgets(log, tmp_path):
    vkeys = [key.vkey() for key in log_keys(log)]
    folder = tmp_path / "witness"
    job_sizes = []

    for round_ in range(3):
        with our_witness(folder, vkeys) as witness:
            job_of(log, witness, book=f"round{round_}").step()
            kill(witness)
        job_sizes.append(size_of(log.reader().checkpoint()))
        log.put(f"{round_}d" * 16, 0, chain(f"{round_}d" * 16, 4))
        log.run()
    with our_witness(folder, vkeys) as witness:
        forged = signed(log, job_sizes[-1], b"\x07" * 32)
        stale = ask(witness, job_sizes[0], (), forged)
        same = ask(witness, job_sizes[-1], (), forged)

    assert (stale.status, parse_size(stale.body)) == (409, job_sizes[-1])
    assert same.status == 409


class Forged:
    """A reader whose newest checkpoint is whatever it is given."""

    def __init__(self, reader, note):
        self._reader, self._note = reader, note

    def checkpoint(self, **_):
        return self._note

    def __getattr__(self, name):
        return getattr(self._reader, name)

    @classmethod
    def step_of(cls, log, witness, note):
        WitnessJob(
            key=witness.key,
            door=HttpPoster("witness", witness.url),
            reader=cls(log.reader(), note),
            log_keys=lambda: log_keys(log),
            book=SqliteBook(log.path / BOOK_FILE),
        ).step()
