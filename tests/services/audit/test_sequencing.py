"""What becomes a leaf, in which order, and what the sequencer says about the rest."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from airflow_secure_ml.adapters.sqlite_audit import SqliteAuditWriter
from airflow_secure_ml.core.audit.frame import encode_frame
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.core.redaction import Aside, hidden_hash
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.services import sequencing
from airflow_secure_ml.services.own_events import Clock, Host, seen
from airflow_secure_ml.services.sequencing import Sequencer

from .conftest import ALICE, BOB, VECTORS, Held, chain, event, segment


def test_the_worked_example_comes_out_byte_for_byte(site):
    leaves = (VECTORS / "leaves.txt").read_bytes().splitlines()
    emitter = "00112233445566778899aabbccddeeff"
    path = site.put(emitter, 0, leaves[2:9])
    source = Held(site.segments(), owner_uid=50000)
    log = SqliteAuditWriter(site.path / "example.db", "example.org/asml-trail/7f3a9c20")
    site.opened.append(log)
    times = iter([0, 60_012, 69_420])
    now = 0

    def wall():
        nonlocal now
        now = next(times)
        return 1_795_316_340_000 + now

    sequencer = Sequencer(
        log=log,
        segments=source,
        clock=Clock(now_ms=wall, mono_ms=lambda: now),
        host=Host(name="worker-1", facts={}),
        random_bytes=lambda count: b"\x5e" * count,
    )

    assert hashlib.sha256(path.read_bytes()).hexdigest() == (
        "f6ce16a26062b4eaecd460256c84383d71f721b0fe3dcaad1eb03774019b63ee"
    )
    sequencer.step()

    assert list(log.leaf_data(0, 99)) == leaves
    assert log.edge().root().hex() == (
        "8d45fdcea534e62e36c252a2684b527a1084a0c2a0150bc36a0a1a56b7bfc19d"
    )
    assert not path.exists()


def test_two_emitters_come_out_whole_and_their_segments_go(site):
    site.put(ALICE, 0, chain(ALICE, 5))
    site.put(BOB, 0, chain(BOB, 3))

    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3, 4]
    assert site.of(BOB) == [0, 1, 2]
    assert site.ends(ALICE) == site.ends(BOB) == ["found", "whole"]
    assert list(site.spool.iterdir()) == []
    assert site.verify().status == 0


def test_an_event_written_again_in_the_next_part_is_one_leaf(site):
    events = chain(ALICE, 6)
    site.put(ALICE, 0, events[:4], tail=encode_frame(1, events[4])[:-3])
    site.put(ALICE, 1, events[3:])

    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3, 4, 5]
    assert site.ends(ALICE) == ["found", "whole"]
    assert site.events("trail.emitter")[-1]["more"]["torn_bytes"] > 0


def test_a_second_event_of_one_name_is_refused_and_kept(site):
    events = chain(ALICE, 3)
    forged = event(ALICE, 1, events[0], act="object.seal")
    site.put(ALICE, 0, events)
    site.put(ALICE, 1, [forged])

    site.run()

    refused = site.events("trail.refused")
    assert [e["more"]["because"] for e in refused] == ["another event of this name is in the log"]
    assert refused[0]["result"] == "refused"
    kept = site.path / "refused" / f"{leaf_hash(forged).hex()}.bin"
    assert kept.read_bytes() == forged
    assert site.of(ALICE) == [0, 1, 2]


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b'{"v": 1}',
        b'{"act":"x","emitter":"' + ALICE.encode() + b'","mono":0,"phase":"seen","result":"ok",'
        b'"seq":"1","time":0,"v":1}',
        b"\xff\xfe",
        event(BOB, 1, b"x"),
        event(ALICE, 1, b"x", act="trail.emitter", more={"emitter": BOB, "state": "whole"}),
    ],
    ids=["no json", "white space", "another type", "no utf-8", "another emitter", "own verdict"],
)
def test_one_bad_event_does_not_stop_the_log(site, payload):
    site.put(ALICE, 0, [payload])
    site.put(BOB, 0, chain(BOB, 3))

    site.run()

    assert len(site.events("trail.refused")) == 1
    assert site.of(BOB) == [0, 1, 2]
    assert site.of(ALICE) == []
    assert site.verify().status == 0
    assert list(site.spool.iterdir()) == []


def test_the_same_refused_bytes_are_recorded_once_however_often_they_are_read(site):
    site.put(ALICE, 0, [b"not json"])
    site.run()
    site.put(ALICE, 1, [b"not json"])

    site.start()
    site.run()

    assert len(site.events("trail.refused")) == 1


def test_a_segment_in_the_sequencer_s_own_name_is_refused(site):
    site.run()
    own = site.events()[0]["emitter"]
    newest = max(e["seq"] for e in site.events() if e["emitter"] == own)
    with site.reader().whole() as log:
        last = [data for _, data, _ in log.leaves()][-1]
    site.put(own, 0, [event(own, newest + 1, last, act="object.open")])

    site.run()

    assert site.events("object.open") == []
    assert site.events("trail.refused")[0]["more"]["because"] == "a segment in a sequencer's name"
    assert site.verify().status == 0


def test_a_file_under_another_emitter_s_name_is_refused_whole(site):
    path = site.spool / f"{BOB}-0000.seg"
    path.write_bytes(segment(ALICE, 0, chain(ALICE, 3)))

    site.run()

    assert site.of(ALICE) == site.of(BOB) == []
    assert len(site.events("trail.refused")) == 1
    assert not path.exists()


def test_a_suppressed_last_event_shows_as_cut(site):
    site.put(ALICE, 0, chain(ALICE, 5)[:-1])

    site.run()

    assert site.ends(ALICE) == ["found", "cut"]
    assert site.verify().ends == {"cut": 1}


def test_half_a_frame_counts_as_torn_once_nobody_writes(site):
    events = chain(ALICE, 4)
    site.put(ALICE, 0, events[:2], tail=encode_frame(1, events[2])[:20])
    source = Held(site.segments())
    site.start(segments=source)
    source.held.add(ALICE)

    site.sequencer.step()
    held = site.ends(ALICE)
    source.held.clear()
    site.sequencer.step(is_last=True)

    assert held == ["found"]
    assert site.ends(ALICE) == ["found", "torn"]
    assert site.events("trail.emitter")[-1]["more"]["torn_bytes"] == 20


def test_a_hole_is_waited_for_and_then_called_a_gap(site):
    events = chain(ALICE, 6)
    site.put(ALICE, 0, [*events[:2], *events[3:]])
    source = Held(site.segments())
    site.start(segments=source)
    source.held.add(ALICE)

    site.sequencer.step()
    site.times.advance(600_000)
    site.sequencer.step()
    while_held = site.of(ALICE)
    source.held.clear()
    site.sequencer.step()
    site.times.advance(59_999)
    site.sequencer.step()
    waiting = site.of(ALICE)
    site.times.advance(1)
    site.sequencer.step()

    assert while_held == waiting == [0, 1]
    assert site.of(ALICE) == [0, 1, 3, 4, 5]
    assert site.ends(ALICE) == ["found", "gap"]
    report = site.verify()
    assert (report.status, report.ends) == (4, {"gap": 1})


def test_an_emitter_that_waits_holds_up_nobody_else(site):
    site.put(ALICE, 0, chain(ALICE, 6)[2:])
    source = Held(site.segments())
    site.start(segments=source)
    source.held.add(ALICE)
    site.put(BOB, 0, chain(BOB, 3))

    site.sequencer.step()

    assert site.of(BOB) == [0, 1, 2]
    assert site.ends(BOB) == ["found", "whole"]


def test_an_unlinked_segment_is_read_to_its_end(site):
    events = chain(ALICE, 6)
    path = site.put(ALICE, 0, events[:2])
    source = Held(site.segments())
    site.start(segments=source)
    source.held.add(ALICE)
    site.sequencer.step()

    with path.open("ab") as writer:
        path.unlink()
        writer.write(b"".join(encode_frame(1, data) for data in events[2:]))
    source.held.clear()
    site.sequencer.step()

    assert site.of(ALICE) == [0, 1, 2, 3, 4, 5]
    assert site.ends(ALICE) == ["found", "whole"]


def test_a_replaced_segment_is_read_beside_the_one_it_replaced(site):
    events = chain(ALICE, 6)
    path = site.put(ALICE, 0, events[:2])
    site.start()
    site.sequencer.step()
    path.unlink()
    site.put(ALICE, 0, [events[0], event(ALICE, 1, events[0], act="object.seal"), *events[2:]])

    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3, 4, 5]
    assert len(site.events("trail.refused")) == 1
    assert list(site.spool.iterdir()) == []


def test_a_shortened_segment_ends_and_what_comes_after_is_read(site):
    events = chain(ALICE, 6)
    path = site.put(ALICE, 0, events[:4])
    source = Held(site.segments())
    site.start(segments=source)
    source.held.add(ALICE)
    site.sequencer.step()

    path.write_bytes(segment(ALICE, 0, events[:1]) + encode_frame(1, events[4]))
    site.sequencer.step()
    path.write_bytes(segment(ALICE, 0, events[:1]))
    source.held.clear()
    site.sequencer.step(is_last=True)

    assert site.of(ALICE) == [0, 1, 2, 3, 4]
    assert site.ends(ALICE) == ["found", "cut"]


def test_an_emitter_whose_segments_vanish_while_nobody_looks_is_cut(site):
    path = site.put(ALICE, 0, chain(ALICE, 4)[:3])
    source = Held(site.segments())
    site.start(segments=source)
    source.held.add(ALICE)
    site.sequencer.step()
    path.unlink()

    site.start()
    site.run()

    assert site.ends(ALICE) == ["found", "cut"]


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_what_is_no_plain_file_is_never_followed(site, kind, caplog):
    path = site.spool / f"{ALICE}-0000.seg"
    target = site.path / "elsewhere"
    target.write_bytes(segment(ALICE, 0, chain(ALICE, 3)))
    if kind == "symlink":
        path.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()

    site.run()

    assert site.of(ALICE) == []
    assert "is left alone" in caplog.text
    assert os.path.lexists(path)


def test_a_hidden_value_goes_aside_and_a_wrong_one_does_not(site):
    salt = b"s" * 16
    good = Aside(h=hidden_hash("Ada", salt), salt=salt.hex(), value="Ada")
    wrong = Aside(h=hidden_hash("Ada", salt), salt=salt.hex(), value="Eve")
    path = site.put(ALICE, 0, chain(ALICE, 2))
    frames = encode_frame(2, good.encode()) + encode_frame(2, wrong.encode())
    path.write_bytes(path.read_bytes() + frames)

    site.run()

    assert site.reader().reveal(good.h) == "Ada"
    refused = site.events("trail.refused")
    assert [e["more"]["because"] for e in refused] == ["a hidden value that does not give its hash"]
    assert b"Eve" not in json.dumps(site.events()).encode()


def test_a_batch_that_fails_is_taken_whole_the_next_time(site):
    class Failing:
        def __init__(self, log):
            self.log, self.is_full = log, True

        def append(self, batch):
            if self.is_full:
                raise ServiceUnavailableError(service="audit log", action="append", reason="full")
            self.log.append(batch)

        def __getattr__(self, name):
            return getattr(self.log, name)

    site.put(ALICE, 0, chain(ALICE, 4))
    log = Failing(SqliteAuditWriter(site.database, site.origin))
    site.opened.append(log.log)
    site.start(log=log)

    with pytest.raises(ServiceUnavailableError):
        site.sequencer.step(is_last=True)
    log.is_full = False
    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3]
    assert site.verify().status == 0


@pytest.mark.parametrize("what", ["step", "record", "record_last", "close"])
def test_whatever_follows_a_lost_confirmation_goes_on_from_the_log(site, what):
    class Lossy:
        def __init__(self, log):
            self.log, self.is_lost = log, False

        def append(self, batch):
            self.log.append(batch)
            if self.is_lost:
                self.is_lost = False
                raise ServiceUnavailableError(service="audit log", action="append", reason="gone")

        def __getattr__(self, name):
            return getattr(self.log, name)

    log = Lossy(SqliteAuditWriter(site.database, site.origin))
    site.opened.append(log.log)
    site.start(log=log)
    beat = seen("trail.beat", size=1, emitters=0, waiting=0, waiting_bytes=0)
    site.sequencer.record(beat)
    log.is_lost = True
    with pytest.raises(ServiceUnavailableError):
        site.sequencer.record(beat)

    follow = {"record": (beat,), "record_last": (lambda size: beat,)}
    getattr(site.sequencer, what)(*follow.get(what, ()))
    site.run()

    names = [(e["emitter"], e["seq"]) for e in site.events()]
    assert len(names) == len(set(names))
    assert site.verify().status == 0


def test_a_later_sequencer_says_that_the_one_before_was_cut(site):
    site.put(ALICE, 0, chain(ALICE, 2))
    site.run()
    first = site.events()[0]["emitter"]

    site.put(BOB, 0, chain(BOB, 2))
    site.start()
    site.run()
    site.sequencer.close()

    assert site.ends(first) == ["cut"]
    assert site.events()[-1]["act"] == "emitter.close"
    site.checkpointer.make()
    assert site.verify().status == 0
    assert site.verify().ends == {"whole": 2}


def test_a_beat_comes_every_five_minutes(site):
    site.start()
    for _ in range(7):
        site.sequencer.step()
        site.times.advance(100_000)

    site.sequencer.step()

    assert [e["more"]["size"] for e in site.events("trail.beat")] == [1, 2]


def test_a_spool_that_fills_is_told_of_once_and_again_when_it_is_low(site, monkeypatch):
    monkeypatch.setattr(sequencing, "HIGH_WATER_BYTES", 1000)
    monkeypatch.setattr(sequencing, "LOW_WATER_BYTES", 100)
    spool = Held(site.segments())
    spool.held = {ALICE}
    site.start(segments=spool)
    events = chain(ALICE, 30)

    def levels():
        site.sequencer.step()
        site.times.advance(300_000)
        site.sequencer.step()
        found = [e for e in site.events() if e["act"].startswith("alert.")]
        return [(e["act"], e["more"]["about"], e["more"]["subject"]) for e in found]

    # What follows waits for what is not there yet.
    site.put(ALICE, 1, events[3:])
    raised = ("alert.raise", "spool", "worker-1")
    assert [levels(), levels()] == [[raised], [raised]]

    site.put(ALICE, 0, events[:3])
    closed = ("alert.close", "spool", "worker-1")
    assert [levels(), levels()] == [[raised, closed], [raised, closed]]
    assert site.of(ALICE) == list(range(30))


def test_a_clock_set_back_shows_and_stops_nothing(site):
    site.start()
    site.sequencer.step()
    site.times.now -= 3_600_000
    site.times.mono += 5_000
    site.put(ALICE, 0, chain(ALICE, 2))

    site.run()

    first, second = site.events("trail.start")[0], site.events("trail.emitter")[0]
    assert second["time"] - first["time"] == -3_600_000
    assert second["mono"] - first["mono"] == 5_000
    assert site.verify().status == 0


def test_a_batch_is_bounded_and_the_rest_follows(site, monkeypatch):
    monkeypatch.setattr("airflow_secure_ml.services.reading.MAX_BATCH_LEAVES", 7)
    site.put(ALICE, 0, chain(ALICE, 20))
    site.put(BOB, 0, chain(BOB, 20))
    site.start()

    steps = [site.sequencer.step()]
    while steps[-1].has_more:
        steps.append(site.sequencer.step())

    assert max(step.appended for step in steps) <= 10
    assert site.of(ALICE) == site.of(BOB) == list(range(20))
    site.checkpointer.make()
    assert site.verify().status == 0


def test_an_emitter_with_a_mountain_of_events_keeps_nobody_waiting(site, monkeypatch):
    monkeypatch.setattr("airflow_secure_ml.services.reading.MAX_BATCH_LEAVES", 5)
    site.put(ALICE, 0, chain(ALICE, 200))
    site.put(BOB, 0, chain(BOB, 3))
    site.start()

    for _ in range(3):
        site.sequencer.step()

    assert site.of(BOB) == [0, 1, 2]
    assert len(site.of(ALICE)) < 20


def test_parts_that_are_read_in_pieces_stay_in_order(site, monkeypatch):
    monkeypatch.setattr("airflow_secure_ml.services.reading.READ_BYTES", 40_000)
    events = chain(ALICE, 900)
    site.put(ALICE, 0, events[:600])
    site.put(ALICE, 1, events[600:])
    site.start()

    while site.sequencer.step().has_more:
        continue

    assert site.of(ALICE) == list(range(900))
    assert site.ends(ALICE) == ["found", "whole"]


def test_rubbish_by_the_thousand_is_counted_not_recorded(site):
    site.put(ALICE, 0, [*chain(ALICE, 3), *(b"rubbish %d" % n for n in range(1000))])

    site.run()

    assert len(site.events("trail.refused")) == 100
    assert site.events("trail.emitter")[-1]["more"]["because"] == "900 more events were refused"
    assert site.of(ALICE) == [0, 1, 2]


def test_a_foreign_file_beside_a_real_segment_is_refused_once(site):
    events = chain(ALICE, 6)
    site.put(ALICE, 0, events[:2])
    site.put(ALICE, 2, events[2:4])
    site.put(ALICE, 3, [events[5], events[4], events[5]])
    (site.spool / f"{ALICE}-0001.seg").write_bytes(segment(BOB, 1, chain(BOB, 3)))

    site.start()
    site.sequencer.step()
    site.times.advance(61_000)
    site.run()

    assert len(site.events("trail.refused")) == 1
    assert sorted(site.of(ALICE)) == [0, 1, 2, 3, 4, 5]
    assert list(site.spool.iterdir()) == []
