"""The sequencer lets a log's new key take over, and the whole log verifies across the ranges."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from airflow_secure_ml.adapters.log_signer import LogSigner, prepare_successors
from airflow_secure_ml.errors import AuditLogError
from airflow_secure_ml.services.auditing import run_sequencer
from airflow_secure_ml.services.following import RESERVED_ACTS
from airflow_secure_ml.services.pruning import prune_log
from airflow_secure_ml.services.verifying import TAMPERED, WHOLE

from .conftest import ALICE, BOB, chain, event


@pytest.fixture
def rotated(site):
    site.put(ALICE, 0, chain(ALICE, 4))
    site.take_all()
    prepare_successors(site.signer_path, post_quantum=True)
    site.put(BOB, 0, chain(BOB, 5))
    site.take_all()
    return site


def test_the_log_is_whole_across_the_ranges_of_its_keys(rotated):
    report = rotated.verify(rotated.log_keys())

    assert (report.status, report.problem) == (WHOLE, "")
    old, new, second = rotated.log_keys()
    assert old.to_size + 1 == new.from_size == second.from_size
    assert report.signed_size == report.size > old.to_size
    assert report.checkpoints >= 3


def test_the_old_key_s_last_leaf_names_the_new_keys(rotated):
    events = rotated.events()
    old, new, second = rotated.log_keys()

    [found] = [n for n, each in enumerate(events) if each["act"] == "trail.key"]

    assert found == old.to_size - 1
    more = events[found]["more"]
    assert (more["vkey"], more["from_size"], more["to_size"]) == (
        new.vkey(),
        new.from_size,
        old.to_size,
    )
    assert more["second"].startswith("sha256:")
    assert len(second.public_key) == 1952


def test_whoever_knows_only_the_old_key_sees_that_another_one_signed(rotated):
    old, *_ = rotated.log_keys()

    report = rotated.verify([old])

    assert report.status == TAMPERED
    assert "no key known for that size" in report.problem


def test_whoever_knows_only_the_new_keys_sees_it_of_the_old_checkpoints(rotated):
    _, *new = rotated.log_keys()

    assert rotated.verify(new).status == TAMPERED


def test_a_key_that_no_leaf_hands_over_to_is_noticed(rotated):
    """Whoever runs the machine slips a key of their own into the list of keys."""
    old, new, _ = rotated.log_keys()
    slipped_in = replace(old, public_key=bytes(range(32)), from_size=new.from_size, to_size=None)

    report = rotated.verify([*rotated.log_keys(), slipped_in])

    assert (report.status, report.first_bad) == (TAMPERED, old.to_size - 1)
    assert "does not hand over" in report.problem


@pytest.mark.parametrize("shift", [-1, 1], ids=["earlier", "later"])
def test_keys_whose_sizes_are_not_those_of_their_leaf_are_noticed(rotated, shift):
    old, *new = rotated.log_keys()
    moved = [replace(key, from_size=key.from_size + shift) for key in new]

    assert rotated.verify([replace(old, to_size=None), *moved]).status == TAMPERED


def test_whoever_knows_no_post_quantum_key_still_finds_the_log_whole(rotated):
    old, new, _ = rotated.log_keys()

    assert rotated.verify([old, new]).status == WHOLE


def test_a_log_from_before_its_keys_last_change_was_rolled_back(site, tmp_path):
    site.put(ALICE, 0, chain(ALICE, 4))
    site.take_all()
    site.close()
    site.opened.clear()
    shutil.copy(site.database, tmp_path / "kept")
    prepare_successors(site.signer_path)
    site.put(BOB, 0, chain(BOB, 5))
    site.take_all()
    site.close()
    site.opened.clear()
    shutil.copy(tmp_path / "kept", site.database)

    report = site.verify(site.log_keys())

    assert (report.status, "cut or rolled back" in report.problem) == (TAMPERED, True)


def test_a_leaf_that_was_pruned_need_not_name_its_key(site):
    site.put(ALICE, 0, chain(ALICE, 4))
    site.take_all()
    prepare_successors(site.signer_path)
    site.put(BOB, 0, chain(BOB, 600))
    site.take_all()
    site.close()
    site.opened.clear()
    site.start()

    prune_log(site.sequencer, site.checkpointer, site.log, 512, because="it is old")

    report = site.verify(site.log_keys())
    assert (report.status, report.problem) == (WHOLE, "")


def test_a_task_cannot_say_that_the_key_changes(site):
    opened = event(ALICE, 0, None, "emitter.open")
    forged = event(ALICE, 1, opened, "trail.key", more={"from_size": 1, "to_size": 0})
    site.put(ALICE, 0, [opened, forged])

    site.take_all()

    assert "trail.key" in RESERVED_ACTS
    assert site.events("trail.key") == []
    assert len(site.events("trail.refused")) == 1


def test_a_running_sequencer_hands_over_at_its_next_checkpoint(site):
    site.put(ALICE, 0, chain(ALICE, 4))
    site.start()
    seen = []

    def wait(seconds):
        site.times.advance(300)
        seen.append(site.signer.last()[0])
        if len(seen) == 5:
            prepare_successors(site.signer_path)
            site.put(BOB, 0, chain(BOB, 4))

    run_sequencer(
        site.sequencer,
        site.checkpointer,
        clock=site.clock,
        wait=wait,
        stop=lambda: len(seen) > 12,
        on_trouble=lambda error: seen.append(error),
    )

    assert not [each for each in seen if isinstance(each, Exception)]
    assert len(site.log_keys()) == 2
    assert site.signer.successors() == ()
    assert site.verify(site.log_keys()).status == WHOLE


def test_a_hand_over_that_is_refused_is_tried_again_and_the_log_goes_on(site, monkeypatch):
    site.put(ALICE, 0, chain(ALICE, 4))
    site.take_all()
    prepare_successors(site.signer_path)
    real = LogSigner.hand_over

    def refusing(self, *args):
        raise AuditLogError("not now")

    monkeypatch.setattr(LogSigner, "hand_over", refusing)
    with pytest.raises(AuditLogError, match="not now"):
        site.take_all()
    monkeypatch.setattr(LogSigner, "hand_over", real)
    site.put(BOB, 0, chain(BOB, 4))
    site.take_all()

    assert site.verify(site.log_keys()).status == WHOLE
    # The first one led to nothing: its sizes are not those of `log_keys`.
    assert len(site.events("trail.key")) == 2
    assert site.log_keys()[1].from_size == site.events("trail.key")[1]["more"]["from_size"]
