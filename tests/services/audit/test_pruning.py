"""Pruning: attacks on it first, then that hashes, proofs and the verdict stay."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from types import SimpleNamespace

import pytest
from fastapi import HTTPException

from airflow_secure_ml.core.audit.pruning import Hold
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import inclusion_path
from airflow_secure_ml.errors import AuditLogError, ConfigurationError
from airflow_secure_ml.plugin.lookup import visible_leaf
from airflow_secure_ml.services.archiving import archive_leaves
from airflow_secure_ml.services.proving import check_proof, prove
from airflow_secure_ml.services.pruning import hold_log, prune_log, release_hold, survey_log
from airflow_secure_ml.services.verifying import INCOMPLETE, TAMPERED, WHOLE

from .conftest import ALICE, BOB, Held, chain, event


@pytest.fixture
def long(site):
    """A log of more than three full tiles; ALICE's events are leaves 2 to 601."""
    site.put(ALICE, 0, chain(ALICE, 600))
    site.run()
    site.put(BOB, 0, chain(BOB, 300))
    site.run()
    return site


def restart(site):
    site.close()
    site.opened.clear()
    site.start()
    return site


def prune(site, below, **more):
    restart(site)
    prune_log(site.sequencer, site.checkpointer, site.log, below, because="it is old", **more)


def indices(site):
    with site.reader().whole() as log:
        return [at for at, _, _ in log.leaves()]


def attack(site, *statements):
    site.close()
    connection = sqlite3.connect(site.database, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_a_pruned_log_is_whole_and_says_where_it_begins(long):
    before = long.verify()

    prune(long, 512)

    report = long.verify()
    assert (report.status, report.problem) == (WHOLE, "")
    assert (before.pruned_below, report.pruned_below) == (0, 512)
    assert indices(long)[0] == 512
    assert report.checked == report.size == report.signed_size > before.size
    [intent, outcome] = long.events("trail.prune")
    assert intent["more"] == {"below": 512, "because": "it is old"}
    assert outcome["of"] == f"{intent['emitter']}:{intent['seq']}"
    assert outcome["result"] == "ok"


def test_a_log_that_is_pruned_twice_is_whole(long):
    prune(long, 256)
    prune(long, 768)

    report = long.verify()

    assert (report.status, report.problem, report.pruned_below) == (WHOLE, "", 768)


def test_a_proof_that_was_kept_still_checks(long):
    leaf = long.reader().leaf(100)
    kept = prove(long.reader(), 100)
    prune(long, 512)

    checked = check_proof(kept, [long.signer.public], origin=long.origin)

    assert checked.size > 512
    assert kept["leaf"].encode() == leaf.data
    assert long.reader().leaf(100) is None


def test_rows_that_go_without_a_word_are_tampering(long):
    attack(long, "DELETE FROM leaf WHERE idx < 512")

    report = long.verify()

    assert (report.status, report.first_bad) == (TAMPERED, 0)
    assert "no signed trail.prune says so" in report.problem


def test_more_rows_gone_than_was_said_is_tampering(long):
    prune(long, 256)
    attack(long, "DELETE FROM leaf WHERE idx < 512")

    assert long.verify().status == TAMPERED


@pytest.mark.parametrize("below", [255, 300], ids="below={}".format)
def test_rows_that_end_within_a_tile_are_tampering(long, below):
    prune(long, 256)
    attack(long, f"DELETE FROM leaf WHERE idx < {below + 100}")

    assert long.verify().status == TAMPERED


def test_a_pruned_leafs_hash_cannot_be_exchanged(long):
    prune(long, 512)
    attack(long, "UPDATE tile SET hashes = zeroblob(8192) WHERE level = 0 AND n = 1")

    assert long.verify().status == TAMPERED


def test_a_pruned_leafs_hash_cannot_be_removed(long):
    prune(long, 512)
    attack(long, "DELETE FROM tile WHERE level = 0 AND n = 1")

    report = long.verify()

    assert (report.status, report.first_bad) == (TAMPERED, 256)


@pytest.mark.parametrize("act", ["trail.prune", "trail.hold"])
def test_a_task_cannot_say_it(long, act):
    forger = "f0" * 16
    opened = event(forger, 0, None, "emitter.open")
    said = {"below": 512} if act == "trail.prune" else {"name": "x", "state": "held"}
    forged = event(forger, 1, opened, act, more=said)

    long.put(forger, 0, [opened, forged])
    long.run()

    assert long.events(act) == []
    assert [e["why"] for e in long.events("trail.refused")] == ["rule_denied"]


@pytest.mark.parametrize("below", [-256, 0, 100, 1_024_000], ids="below={}".format)
def test_what_is_no_beginning_of_whole_tiles_is_not_pruned(long, below):
    before = indices(long)

    with pytest.raises(ConfigurationError, match="expected a multiple of 256"):
        prune(long, below)

    assert indices(long) == before
    assert long.events("trail.prune") == []


def test_nothing_goes_past_a_hold(long):
    restart(long)
    hold = Hold(name="case 7", from_index=300, because="a court asks")
    hold_log(long.sequencer, long.checkpointer, long.log, hold)

    with pytest.raises(ConfigurationError, match=r"hold 'case 7' keeps all leaves from 300 on"):
        prune(long, 512)
    prune(long, 256)

    assert indices(long)[0] == 256
    assert long.verify().status == WHOLE


def test_a_hold_that_is_released_stands_no_longer(long):
    hold = Hold(name="case 7", from_index=0, because="a court asks")
    restart(long)
    hold_log(long.sequencer, long.checkpointer, long.log, hold)
    restart(long)
    over = Hold(name="case 7", from_index=0, because="it is over")
    release_hold(long.sequencer, long.checkpointer, long.log, over)

    prune(long, 512)

    assert long.verify().status == WHOLE
    assert [e["more"]["state"] for e in long.events("trail.hold")] == ["held", "released"]


def test_a_hold_that_somebody_edits_is_tampering(long):
    restart(long)
    hold = Hold(name="case 7", from_index=300, because="a court asks")
    hold_log(long.sequencer, long.checkpointer, long.log, hold)
    attack(
        long,
        "UPDATE leaf SET data = replace(data, '\"from_index\":300', '\"from_index\":900') "
        "WHERE act = 'trail.hold'",
    )

    assert long.verify().status == TAMPERED


def test_an_emitter_that_has_not_ended_keeps_its_events(site):
    opened = chain(ALICE, 10, is_closed=False)
    path = site.put(ALICE, 0, opened)
    segments = held_by_alice(site)
    site.start(segments=segments)
    site.sequencer.step()
    assert path.exists()
    site.put(BOB, 0, chain(BOB, 600))
    site.sequencer.step()
    site.checkpointer.make()

    with pytest.raises(ConfigurationError, match="a process that has not ended"):
        prune_log(site.sequencer, site.checkpointer, site.log, 256, because="it is old")


def test_the_leaf_that_found_an_emitter_which_has_not_ended_stays(site):
    site.put(BOB, 0, chain(BOB, 252))
    site.put(ALICE, 0, chain(ALICE, 10, is_closed=False))
    site.start(segments=held_by_alice(site))
    site.times.advance(2000)
    while site.events("object.open") == [] or site.ends(BOB) != ["found", "whole"]:
        site.sequencer.step()
    site.put("c0" * 16, 0, chain("c0" * 16, 600))
    site.sequencer.step()

    with site.reader().whole() as log:
        found = survey_log(log)

    assert site.reader().find(f"{ALICE}:0").index == found.live_from + 1
    assert site.reader().leaf(found.live_from).event["act"] == "trail.emitter"


def held_by_alice(site):
    held = Held(site.segments())
    held.held = {ALICE}
    return held


def test_an_event_that_was_pruned_does_not_come_back(long):
    events = chain(ALICE, 600)
    prune(long, 768)
    restart(long)

    long.put(ALICE, 0, events)
    long.run()

    assert long.of(ALICE) == []
    assert {e["more"]["because"] for e in long.events("trail.refused")} == {
        "an event of this name was pruned"
    }
    assert long.verify().status in {WHOLE, INCOMPLETE}


def test_only_the_sequencers_clock_tells_how_old_a_leaf_is(long):
    """A task that says it is 1970, or the year 9999, removes and keeps nothing."""
    start = long.times.now
    long.times.advance(86_400_000)
    long.put("c0" * 16, 0, chain("c0" * 16, 300, is_closed=True))
    long.run()

    with long.reader().whole() as log:
        old = survey_log(log, before_ms=start + 1)
        none = survey_log(log, before_ms=start)

    assert old.due() == 768
    assert none.due() == 0


def _killed_at(site, step):
    """In another process: prune, and be killed at one of its steps."""
    site.restarts += 100
    site.start()
    log, maker = site.log, site.checkpointer
    real = {"prune": log.prune, "make": maker.make}
    made = []

    def stop():
        os.kill(os.getpid(), signal.SIGKILL)

    def make():
        made.append(1)
        if step == f"before signing {len(made)}":
            stop()
        note = real["make"]()
        if step == f"after signing {len(made)}":
            stop()
        return note

    def cut(below):
        if below == 0:
            return
        if step == "before removing":
            stop()
        real["prune"](below if step != "within removing" else 256)
        if step in {"within removing", "after removing"}:
            stop()

    maker.make, log.prune = make, cut
    prune_log(site.sequencer, maker, log, 512, because="it is old")


STEPS = (
    *("before signing 1", "after signing 1", "before signing 2", "after signing 2"),
    *("before removing", "within removing", "after removing", "before signing 3"),
)


@pytest.mark.parametrize("step", STEPS)
def test_a_pruning_that_is_killed_leaves_a_whole_log_and_is_repeated(long, step):
    long.close()
    long.opened.clear()
    child = multiprocessing.get_context("fork").Process(target=_killed_at, args=(long, step))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL

    found = long.verify()
    prune(long, 512)

    assert (found.status, found.problem) == (WHOLE, "")
    report = long.verify()
    assert (report.status, report.problem, report.pruned_below) == (WHOLE, "", 512)


def test_a_reader_that_began_before_sees_all_of_it(long):
    with long.reader().whole() as log:
        assert log.edge().size > 512
        prune(long, 512)

        seen = [at for at, _, _ in log.leaves()]

    assert seen[0] == 0
    assert indices(long)[0] == 512


def test_a_pruned_log_goes_on(long):
    prune(long, 512)
    restart(long)

    long.put("c0" * 16, 0, chain("c0" * 16, 600))
    long.run()

    report = long.verify()
    assert (report.status, report.problem, report.pruned_below) == (WHOLE, "", 512)
    assert prove(long.reader(), 1000)["size"] == report.size


def test_a_pruned_log_can_be_adopted(long):
    prune(long, 512)
    (long.signer_path / "last").unlink()
    restart(long)

    long.checkpointer.adopt()

    assert long.verify().status == WHOLE


class Shelf:
    """A folder in memory; what it confirms it may keep otherwise."""

    def __init__(self):
        self.files, self.spoils = {}, None

    def read(self, path):
        return self.files.get(path)

    def write(self, path, data):
        self.files[path] = data if path != self.spoils else data[:-1] + b"?"


def archive(site, shelf, first, below):
    note = site.reader().checkpoint()
    with site.reader().whole() as log:
        return archive_leaves(log, note, [site.signer.public], shelf, first=first, below=below)


def test_an_archive_holds_every_byte_that_goes(long):
    with long.reader().whole() as log:
        before = {at: data for at, data, _ in log.leaves()}
    shelf = Shelf()

    found = archive(long, shelf, 0, 512)
    prune(long, 512)

    entries = []
    for n in (0, 1):
        bundle = shelf.files[f"tile/entries/{n:03d}"]
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            entries.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
    assert entries == [before[at] for at in range(512)]
    assert (found.first, found.below, found.kept) == (0, 512, 0)
    assert "tile/entries/002" not in shelf.files


def test_an_archived_leaf_is_proved_without_the_log(long):
    shelf = Shelf()
    archive(long, shelf, 0, 256)
    note = shelf.files["checkpoint"].decode()
    size = int(note.split("\n")[1])
    bundle = shelf.files["tile/entries/000"]
    leaf = bundle[2 : 2 + int.from_bytes(bundle[:2], "big")]

    def tile(level, n):
        return shelf.files.get(f"tile/{level}/{n:03d}")

    def hashes(start, stop):
        partial = shelf.files[f"tile/0/{size // 256:03d}.p/{size % 256}"]
        first = size - size % 256
        return [partial[32 * (at - first) :][:32] for at in range(start, stop)]

    path = inclusion_path(0, size, node_reader(hashes, tile))
    proof = {"index": 0, "leaf": leaf.decode(), "path": [p.hex() for p in path], "checkpoint": note}

    assert check_proof(proof, [long.signer.public]).size == size


def test_a_second_archive_goes_on_where_the_first_ended(long):
    shelf = Shelf()
    archive(long, shelf, 0, 256)
    first = dict(shelf.files)
    prune(long, 256)

    archive(long, shelf, 256, 512)

    same = {path for path in first if shelf.files[path] == first[path]}
    assert {"tile/entries/000", "tile/0/000", "tile/0/001"} <= same
    assert "tile/entries/001" in shelf.files


@pytest.mark.parametrize("path", ["tile/entries/001", "tile/0/000", "checkpoint"])
def test_an_archive_that_does_not_keep_what_it_confirms_is_refused(long, path):
    shelf = Shelf()
    shelf.spoils = path

    with pytest.raises(AuditLogError, match="nothing is pruned"):
        archive(long, shelf, 0, 512)


def test_an_archive_that_holds_another_file_is_refused(long):
    shelf = Shelf()
    shelf.files["tile/entries/000"] = b"somebody else's"

    with pytest.raises(AuditLogError, match="tile/entries/000 does not hold"):
        archive(long, shelf, 0, 512)
    assert shelf.files["tile/entries/000"] == b"somebody else's"


@pytest.mark.parametrize(
    ("dags", "told"),
    [
        (None, "Events below leaf 512 were pruned, archived at s3://archive/trail."),
        (("churn",), "that you may read. Older events were pruned."),
    ],
    ids=["whole", "a DAG's"],
)
def test_a_page_says_that_older_events_were_pruned(long, dags, told):
    prune(long, 512, archive="s3://archive/trail")
    trail = SimpleNamespace(store=long.reader())
    scope = SimpleNamespace(whole=dags is None, covers=lambda event: True)

    with pytest.raises(HTTPException) as raised:
        visible_leaf(trail, scope, f"{ALICE}:5")

    assert raised.value.status_code == 404
    assert raised.value.detail.endswith(told)


def test_a_page_of_a_log_that_was_never_pruned_says_nothing_of_it(long):
    trail = SimpleNamespace(store=long.reader())
    scope = SimpleNamespace(whole=True, covers=lambda event: True)

    with pytest.raises(HTTPException) as raised:
        visible_leaf(trail, scope, f"{ALICE}:5000")

    assert "pruned" not in raised.value.detail
