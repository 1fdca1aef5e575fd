"""Old checkpoints, the spool, and verdicts in words, over a log made by the real sequencer."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace

import pytest

from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.checkpoint import Checkpoint, sign_checkpoint
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.plugin.integrity import (
    compare,
    ended_rows,
    spool_folders,
    spool_states,
    tidy,
)
from airflow_secure_ml.plugin.proofs import prove_event
from airflow_secure_ml.plugin.verification import describe
from airflow_secure_ml.services.endings import Ending, Endings, badly_ended
from airflow_secure_ml.services.proving import check_proof
from airflow_secure_ml.services.verifying import verify_log


def change(trail, statement, *values):
    with sqlite3.connect(trail.settings.audit_dir / "trail.db") as database:
        database.execute(statement, values)


def first_note(trail):
    return trail.store.checkpoint(at_most=trail.store.size() - 1)


def test_what_waits_in_the_spare_directory_is_counted(trail, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    spare = tmp_path / "spare"
    spool = Spool(tmp_path / "file", "task", spare_dir=spare)
    spool.record(Fact(act="task.end", phase="seen", result="ok"))
    spool.settle()

    folders = spool_folders(replace(trail.settings, audit_spare_dir=spare))
    states = spool_states(folders, now_s=0.0)
    spool.close()

    assert [state.folder for state in states][-1] == str(spare)
    assert states[-1].segments == 1
    assert states[-1].problem == ""


def test_an_old_checkpoint_is_of_the_same_log(trail):
    verdict = compare(trail, first_note(trail))

    assert verdict.tone == "good"
    assert "Same log, grown by" in verdict.text


@pytest.mark.parametrize(
    "pasted",
    [
        lambda note: note.replace("\n", "\r\n"),
        lambda note: "\n\n" + note.strip(),
        lambda note: note.replace("\u2014 ", "- "),
        lambda note: "\n".join(line + "  " for line in note.split("\n")),
    ],
    ids=["windows", "blank lines", "plain dash", "spaces"],
)
def test_pasting_may_spoil_a_checkpoint_a_little(trail, pasted):
    note = first_note(trail)

    assert tidy(pasted(note)) == note
    assert compare(trail, pasted(note)).tone == "good"


@pytest.mark.parametrize("pasted", ["", "hello", "a\n1\nb\n\n\u2014 x y\n", "\x00" * 50_000])
def test_what_is_no_checkpoint_is_said_to_be_none(trail, pasted):
    assert compare(trail, pasted).tone == "look"


def test_a_forged_checkpoint_is_not_of_this_log(trail):
    lines = first_note(trail).split("\n")
    lines[1] = str(int(lines[1]) + 1)

    assert compare(trail, "\n".join(lines)).tone == "bad"


def test_a_checkpoint_by_another_key_tells_nothing(trail):
    other = Checkpoint(origin=trail.store.origin(), size=1, root=b"\0" * 32)

    note = sign_checkpoint(other, b"\1" * 32, lambda message: b"\2" * 64)

    assert compare(trail, note).tone == "look"


def test_a_log_that_was_cut_does_not_fit_its_checkpoint(trail):
    kept = trail.store.checkpoint()
    change(trail, "UPDATE log SET size = size - 1")

    verdict = compare(trail, kept)

    assert (verdict.tone, "was cut" in verdict.text) == ("bad", True)


def test_another_history_below_a_kept_checkpoint_is_noticed(trail):
    kept = first_note(trail)
    change(trail, "UPDATE leaf SET hash = zeroblob(32) WHERE idx = 7")
    change(trail, "DELETE FROM tile")

    verdict = compare(trail, kept)

    assert (verdict.tone, "Another history" in verdict.text) == ("bad", True)


def test_an_event_is_proven_by_what_a_reader_downloads(trail):
    leaf = trail.store.leaf(40)

    proof = prove_event(trail, leaf)

    assert check_proof(proof.as_file(), trail.log_keys()).size == trail.store.size()


def test_a_checkpoint_that_does_not_hold_proves_nothing(trail):
    change(trail, "UPDATE checkpoint SET note = replace(note, '/asml-trail/', '/other/')")

    assert trail.signed().problem
    assert prove_event(trail, trail.store.leaf(40)) is None


def test_a_whole_log_reads_as_unchanged(trail):
    with trail.store.whole() as whole:
        verdict = describe(verify_log(whole, trail.log_keys()), 0.25)

    assert verdict.tone == "good"
    assert "derived again in 250 ms" in verdict.text


def test_recordings_that_did_not_end_well_are_named_where_the_log_is_checked(trail):
    with trail.store.whole() as whole:
        report = verify_log(whole, trail.log_keys())

    listed = ended_rows(badly_ended(trail.store))

    assert listed == ended_rows(report.badly_ended)
    newest = report.badly_ended.named[0]
    verdict = describe(report, 1.0)
    named = f"Not ended well: {newest.program} on {newest.host} (process {newest.pid})"
    assert verdict.look.startswith(named)
    assert (verdict.tone, named in verdict.text) == ("good", False)
    assert listed[0].event == newest.last
    assert (listed[0].ended, newest.program in listed[0].who) == ("without saying so", True)


def test_what_a_killed_process_called_itself_reorders_no_text():
    ending = Ending(
        emitter="a" * 32, state="torn", program="task\u202e", host="\x1b[2J", run={"dag": "\u2066"}
    )

    (row,) = ended_rows(Endings(named=(ending,)))

    assert row.who == "task\\u202e on \\u001b[2J"
    assert (row.work, row.ended, row.last, row.when) == (
        "\\u2066", "in the middle of an event", "nothing", None,
    )  # fmt: skip


def test_a_changed_event_is_named(trail):
    change(trail, "UPDATE leaf SET data = replace(data, '\"v\":1', '\"v\":2') WHERE idx = 123")

    with trail.store.whole() as whole:
        verdict = describe(verify_log(whole, trail.log_keys()), 1.0)

    assert (verdict.tone, verdict.sign) == ("bad", "✗")
    assert "First bad event: 123." in verdict.text


def test_without_a_key_it_cannot_be_told(trail):
    with trail.store.whole() as whole:
        assert describe(verify_log(whole, []), 1.0).tone == "look"


def test_the_spool_says_how_much_waits_and_how_long(tmp_path):
    (tmp_path / ("a" * 32 + "-0000.seg")).write_bytes(b"x" * 700)
    (tmp_path / "not-a-segment.txt").write_bytes(b"x")
    os.symlink("/etc/passwd", tmp_path / ("b" * 32 + "-0000.seg"))
    changed = os.stat(tmp_path / ("a" * 32 + "-0000.seg")).st_mtime

    [state] = spool_states([tmp_path], now_s=changed + 5)

    assert (state.segments, state.size_bytes, state.oldest_s) == (1, 700, 5)


def test_a_spool_that_is_not_there_yet_is_empty(tmp_path):
    [state] = spool_states([tmp_path / "none"], now_s=0)

    assert (state.segments, state.oldest_s, state.problem) == (0, None, "")


def test_a_spool_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / "file").write_text("x")

    [state] = spool_states([tmp_path / "file"], now_s=0)

    assert state.problem == "Not a directory"
