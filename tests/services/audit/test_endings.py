"""Whoever's recording ended without saying so, or lost its last words, is named."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_secure_ml.core.audit.event import parse_event
from airflow_secure_ml.core.audit.frame import (
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    encode_frame,
    read_frames,
)
from airflow_secure_ml.services.endings import MAX_NAMED, badly_ended
from airflow_secure_ml.services.verifying import INCOMPLETE, WHOLE

from .conftest import ALICE, BOB, chain, event

# A task's process: opens for its try, records two events, says so, and waits to be killed.
EMITTER = """
import sys
from airflow_secure_ml.adapters.spool import Spool
from airflow_secure_ml.core.audit.event import Fact, RunRef
run = RunRef(dag="churn", run="r1", task="train", try_number=1)
spool = Spool(sys.argv[1], "task", run=run)
for number in range(2):
    spool.record(Fact(act="secret.read", phase="intent", more={"name": "x"}))
    spool.settle()
print("durable", flush=True)
sys.stdin.readline()
spool.close()
"""


def emitter_in(site, *, end):
    """Run an emitter until it ends as told; returns its pid, host as events have it, and file."""
    site.spool.chmod(0o700)
    process = subprocess.Popen(
        [sys.executable, "-c", EMITTER, str(site.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline() == b"durable\n"
        if end == "killed":
            process.kill()
        else:
            process.stdin.write(b"\n")
    (path,) = site.spool.glob("*.seg")
    return process.pid, path


def frames_of(path):
    return read_frames(path.read_bytes()[HEADER_BYTES:]).frames


def cut_frames(path, count, *, spare_bytes=0):
    """Take whole frames off a segment's end, but for the first bytes of the first of them."""
    lengths = [FRAME_HEAD_BYTES + len(frame.payload) for frame in frames_of(path)]
    os.truncate(path, HEADER_BYTES + sum(lengths[:-count]) + spare_bytes)


def both(site):
    """What verification names, and what a page names from the log alone: they agree."""
    report = site.verify()
    found = badly_ended(site.reader())
    assert [(e.emitter, e.state) for e in found.named] == [
        (e.emitter, e.state) for e in report.badly_ended.named
    ]
    for named, verified in zip(found.named, report.badly_ended.named, strict=True):
        for field in ("program", "host", "pid", "run", "events", "last", "last_act", "last_ms"):
            assert getattr(named, field) == getattr(verified, field), field
    return report, found


def test_a_killed_process_is_named(site):
    pid, path = emitter_in(site, end="killed")
    written = [parse_event(frame.payload) for frame in frames_of(path)]

    site.run()

    report, found = both(site)
    (ending,) = found.named
    assert (ending.state, ending.program, ending.pid) == ("cut", "task", pid)
    assert ending.host == os.uname().nodename
    assert ending.run == {"dag": "churn", "run": "r1", "task": "train"}
    assert (ending.events, ending.last_act, ending.last_ms) == (
        3, "secret.read", written[-1]["time"],
    )  # fmt: skip
    assert ending.last == f"{written[-1]['emitter']}:2"
    assert (report.status, report.badly_ended.more, found.is_all) == (WHOLE, 0, True)


@pytest.mark.parametrize(
    ("count", "last_seq"), [(1, 2), (2, 1)], ids=["close record", "last event and close"]
)
def test_last_words_taken_away_before_they_are_read_are_missed(site, count, last_seq):
    pid, path = emitter_in(site, end="closed")
    cut_frames(path, count)

    site.run()

    _, found = both(site)
    (ending,) = found.named
    assert (ending.state, ending.pid, ending.events) == ("cut", pid, last_seq + 1)
    assert ending.last.endswith(f":{last_seq}")


def test_a_close_record_cut_in_the_middle_is_torn(site):
    pid, path = emitter_in(site, end="closed")
    cut_frames(path, 1, spare_bytes=11)

    site.run()

    _, found = both(site)
    assert [(e.state, e.pid, e.events) for e in found.named] == [("torn", pid, 3)]


def test_an_event_taken_out_of_the_middle_is_a_gap(site):
    events = chain(ALICE, 6)
    site.put(ALICE, 0, [*events[:2], *events[3:]])
    site.start()
    site.sequencer.step()
    site.times.advance(60_001)

    site.sequencer.step()
    site.times.advance(60_001)
    site.run()

    report, found = both(site)
    assert [(e.emitter, e.state, e.events) for e in found.named] == [(ALICE, "gap", 5)]
    assert report.status == INCOMPLETE


def test_what_was_refused_is_named_though_the_rest_is_whole(site):
    events = chain(ALICE, 3)
    forged = event(BOB, 1, events[0])
    site.put(ALICE, 0, [*events[:2], forged, *events[2:]])

    site.run()

    _, found = both(site)
    (ending,) = found.named
    assert (ending.emitter, ending.state, ending.last_act) == (ALICE, "refused", "emitter.close")
    assert ending.refused == 1


def test_a_whole_emitter_is_not_named_and_neither_is_one_that_still_writes(site):
    site.put(ALICE, 0, chain(ALICE, 4))
    site.run()

    report, found = both(site)

    assert found.named == report.badly_ended.named == ()


def test_who_went_on_and_then_ended_well_is_not_named(site):
    events = chain(ALICE, 5)
    site.put(ALICE, 0, events[:3])
    site.run()
    named_before = [e.state for e in badly_ended(site.reader()).named]
    site.put(ALICE, 1, events[3:])

    site.run()

    _, found = both(site)
    assert named_before == ["cut"]
    assert found.named == ()


def test_many_are_counted_and_the_newest_are_named(site):
    emitters = [f"{number:032x}" for number in range(MAX_NAMED + 7)]
    for number, emitter in enumerate(emitters):
        opened = event(emitter, 0, None, "emitter.open", time=1_000_000 + number)
        site.put(emitter, 0, [opened])

    site.run()

    report = site.verify()
    found = badly_ended(site.reader())
    assert len(report.badly_ended.named) == len(found.named) == MAX_NAMED
    assert report.badly_ended.more == found.more == 7
    assert [e.emitter for e in report.badly_ended.named] == emitters[::-1][:MAX_NAMED]


@pytest.mark.parametrize(
    "facts",
    [
        {"program": "\x1b[2J\u202e", "host": "<b>", "pid": -1},
        {"program": {"h": "0" * 64, "n": 3}, "host": {"h": "0" * 64, "n": 3}},
        {"program": 7, "host": [], "pid": "x"},
        {"program": "p" * 1024},
        {},
    ],
    ids=["control", "hidden", "types", "long", "nothing"],
)
def test_what_a_process_says_of_itself_may_be_anything(site, facts):
    site.put(ALICE, 0, [event(ALICE, 0, None, "emitter.open", more=facts)])

    site.run()

    _, found = both(site)
    (ending,) = found.named
    assert isinstance(ending.program, str)
    assert isinstance(ending.host, str)
    assert ending.pid in (None, -1)


def test_the_words_of_a_host_name_make_nobody_cut(site):
    opened = event(ALICE, 0, None, "emitter.open", more={"host": "execute-gap-torn"})
    site.put(ALICE, 0, [opened, event(ALICE, 1, opened, "emitter.close")])

    site.run()

    assert badly_ended(site.reader()).named == ()


def test_a_killed_sequencer_is_named_by_the_next_even_if_it_began_the_log(site):
    site.put(ALICE, 0, chain(ALICE, 3))
    site.run()
    site.put(BOB, 0, chain(BOB, 3))
    site.start()

    site.run()

    _, found = both(site)
    assert [(e.state, e.program, e.last_act) for e in found.named] == [
        ("cut", "sequencer", "trail.emitter")
    ]


def test_bytes_after_the_close_change_nothing(site):
    site.put(ALICE, 0, chain(ALICE, 3), tail=encode_frame(1, b"{}")[:9])

    site.run()

    both(site)
