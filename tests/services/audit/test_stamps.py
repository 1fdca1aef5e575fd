"""Stamps: believed where a receiver alone writes, refused everywhere else."""

from __future__ import annotations

import os

import pytest

from airflow_secure_ml.adapters.sequencer import SpoolSegments
from airflow_secure_ml.core.audit.frame import SegmentHeader, encode_frame, encode_header
from airflow_secure_ml.core.audit.stamp import Stamp

from .conftest import ALICE, VECTORS, chain, event

TASK = Stamp(via="socket", pid=4711, uid=1001)
OTHER = Stamp(via="socket", pid=4712, uid=1001)
VECTOR_EMITTER = "00112233445566778899aabbccddeeff"


def start(site):
    """A new sequencer process, which knows what the log tells."""
    site.close()
    folder = site.path / "collected"
    source = SpoolSegments([site.spool], site.path / "refused", stamped=[folder])
    site.opened[:] = [source]
    site.start(segments=source)


@pytest.fixture
def collected(site):
    folder = site.path / "collected"
    folder.mkdir(mode=0o700)
    start(site)
    return folder


def stamped(part, stamp, payloads):
    head = encode_header(SegmentHeader(emitter=ALICE, part=part))
    first = b"" if stamp is None else encode_frame(3, stamp.encode())
    return head + first + b"".join(encode_frame(1, payload) for payload in payloads)


def put(folder, part, stamp, payloads):
    path = folder / f"{ALICE}-{part:04d}.seg"
    path.write_bytes(stamped(part, stamp, payloads))
    return path


def founds(site):
    more = [event["more"] for event in site.events("trail.emitter")]
    return [found for found in more if found["state"] == "found"]


def refusals(site):
    return [event["more"]["because"] for event in site.events("trail.refused")]


def test_what_a_receiver_stamped_says_who_sent_it(site, collected):
    path = put(collected, 0, TASK, chain(ALICE, 3))

    site.run()

    found = founds(site)[0]
    assert (found["pid"], found["uid"], found["via"]) == (4711, 1001, "socket")
    assert found["owner_uid"] == os.geteuid()
    assert site.of(ALICE) == [0, 1, 2]
    assert site.ends(ALICE) == ["found", "whole"]
    assert not path.exists()


def test_the_vector_of_a_stamped_segment_comes_out(site, collected):
    data = (VECTORS.parent / "stamped" / "segment.seg").read_bytes()
    (collected / f"{VECTOR_EMITTER}-0000.seg").write_bytes(data)

    site.run()

    assert [event["seq"] for event in site.events() if event["emitter"] == VECTOR_EMITTER] == [0, 1]
    assert founds(site)[0]["uid"] == 1001


def test_a_stamp_in_a_spool_of_emitters_is_refused_and_their_events_are_not(site):
    put(site.spool, 0, TASK, chain(ALICE, 3))

    site.run()

    assert refusals(site) == ["a stamp in a spool of emitters' own"]
    assert "uid" not in founds(site)[0]
    assert site.of(ALICE) == [0, 1, 2]


def test_events_without_a_stamp_are_refused_where_a_receiver_writes(site, collected):
    put(collected, 0, None, chain(ALICE, 2))

    site.run()

    assert refusals(site) == ["no stamp says who sent it"] * 2
    assert site.of(ALICE) == []


def test_an_emitter_keeps_its_sender(site, collected):
    events = chain(ALICE, 4)
    put(collected, 0, TASK, events[:2])
    put(collected, 1, OTHER, events[2:])

    site.run()

    assert site.of(ALICE) == [0, 1]
    assert refusals(site) == [
        "another sender than the emitter's",
        "no stamp says who sent it",
        "no stamp says who sent it",
    ]


def test_a_later_part_with_the_same_stamp_goes_on(site, collected):
    events = chain(ALICE, 4)
    put(collected, 0, TASK, events[:2])
    put(collected, 1, TASK, events[2:])

    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3]
    assert refusals(site) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_among_a_receivers_is_left_alone(site, collected):
    path = put(collected, 0, TASK, chain(ALICE, 2))
    os.chown(path, 65534, 65534)

    site.run()

    assert site.of(ALICE) == []
    assert path.exists()


def forged(seq, prev):
    return event(ALICE, seq, prev=prev, act="object.publish")


@pytest.mark.parametrize("part", [0, 1, 9], ids="part {}".format)
def test_a_spool_of_tasks_own_adds_nothing_to_what_a_receiver_stamps(site, collected, part):
    events = chain(ALICE, 4)
    put(collected, 0, TASK, events[:2])
    site.put(ALICE, part, [forged(2, events[1])])

    site.sequencer.step()
    put(collected, 1, TASK, events[2:])
    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3]
    assert [e["act"] for e in site.events() if e["emitter"] == ALICE].count("object.publish") == 0
    assert refusals(site) == ["a segment where its emitter's are not"]


def test_a_spool_of_tasks_own_adds_nothing_later_either(site, collected):
    events = chain(ALICE, 4)
    put(collected, 0, TASK, events[:2])
    site.sequencer.step()

    site.put(ALICE, 1, [forged(2, events[1])])
    site.run()

    assert site.of(ALICE) == [0, 1]


def test_who_sends_to_a_receiver_takes_no_emitter_of_a_spool(site, collected):
    events = chain(ALICE, 4)
    site.put(ALICE, 0, events[:2])
    site.sequencer.step()

    put(collected, 0, OTHER, [*events[:2], forged(2, events[1])])
    site.put(ALICE, 1, events[2:])
    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3]
    assert refusals(site) == ["a segment where its emitter's are not"]


def step(site):
    """Taken in, and its emitter has not ended."""
    site.sequencer.step()


def end(site):
    """Taken in, and its emitter has ended."""
    site.run()


def go_on(site):
    """The same sequencer."""


# When somebody may try: while the emitter lives or later, at this sequencer or the next.
MOMENTS = pytest.mark.parametrize(
    ("taken", "then"),
    [(step, start), (end, go_on), (end, start)],
    ids=["a new sequencer", "it ended", "it ended, a new sequencer"],
)


@MOMENTS
def test_nobody_carries_on_a_received_emitter_from_a_spool(site, collected, taken, then):
    events = chain(ALICE, 2, is_closed=False)
    put(collected, 0, TASK, events)
    taken(site)
    then(site)

    site.put(ALICE, 1, [forged(2, events[1])])
    site.run()

    assert site.of(ALICE) == [0, 1]
    assert refusals(site) == ["a segment where its emitter's are not"]


@MOMENTS
def test_nobody_carries_on_a_spools_emitter_by_a_receiver(site, collected, taken, then):
    events = chain(ALICE, 2, is_closed=False)
    site.put(ALICE, 0, events)
    taken(site)
    then(site)

    put(collected, 1, OTHER, [forged(2, events[1])])
    site.run()

    assert site.of(ALICE) == [0, 1]
    assert refusals(site) == ["a segment where its emitter's are not"]


@MOMENTS
def test_nobody_else_carries_on_by_the_same_receiver(site, collected, taken, then):
    events = chain(ALICE, 2, is_closed=False)
    path = put(collected, 0, TASK, events)
    taken(site)
    path.unlink(missing_ok=True)
    then(site)

    put(collected, 1, OTHER, [forged(2, events[1])])
    site.run()

    assert site.of(ALICE) == [0, 1]
    assert refusals(site) == ["another sender than the emitter's", "no stamp says who sent it"]


@MOMENTS
@pytest.mark.parametrize(
    "stamp",
    [
        TASK,
        Stamp(via="http", host="10.0.0.7"),
        Stamp(via="inbox", login="asml_worker"),
    ],
    ids=lambda stamp: stamp.via,
)
def test_its_own_sender_carries_on(site, collected, taken, then, stamp):
    events = chain(ALICE, 4)
    put(collected, 0, stamp, events[:2])
    taken(site)
    then(site)

    put(collected, 1, stamp, events[2:])
    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3]
    assert refusals(site) == []


def test_an_emitter_that_ended_without_a_word_is_known_from_its_first(site, collected):
    put(collected, 0, TASK, [])
    site.run()
    events = chain(ALICE, 2, is_closed=False)
    put(collected, 1, TASK, events)
    site.run()
    start(site)

    site.put(ALICE, 2, [forged(2, events[1])])
    site.run()

    assert site.of(ALICE) == [0, 1]
    assert site.ends(ALICE) == ["found", "cut", "found", "cut"]
    assert refusals(site) == ["a segment where its emitter's are not"]
