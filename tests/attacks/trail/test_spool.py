"""A task that writes what it likes into the spool."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import replace

import pytest

from airflow_secure_ml.adapters.sequencer import (
    SequencerLock,
    SpoolSegments,
    sequencer_pid,
    stop_sequencer,
)
from airflow_secure_ml.core import canonical
from airflow_secure_ml.core.audit.frame import encode_frame
from airflow_secure_ml.core.redaction import hidden_hash
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.services import reading
from airflow_secure_ml.services.auditing import run_sequencer
from airflow_secure_ml.services.verifying import INCOMPLETE
from tests.services.audit.conftest import ALICE, BOB, Held, chain, event, segment

MALLORY = "66" * 16


class Counted(Held):
    """A spool that counts how often it is read, and can lie about sizes."""

    def __init__(self, segments):
        super().__init__(segments)
        self.reads, self.size_bytes = 0, None

    def scan(self):
        found = super().scan()
        return [replace(s, size_bytes=self.size_bytes or s.size_bytes) for s in found]

    def read(self, token, at, length):
        self.reads += 1
        return self._segments.read(token, at, length)


def test_an_emitter_that_ended_whole_goes_on_with_a_gap_and_cries_wolf(site):
    source = Held(site.segments())
    site.start(segments=source)
    site.put(MALLORY, 0, chain(MALLORY, 3))
    site.sequencer.step()
    site.put(MALLORY, 1, [event(MALLORY, 9, b"nothing")])
    site.sequencer.step()
    site.times.advance(60_000)
    site.sequencer.step()
    source.held = {MALLORY}
    site.sequencer.step()
    site.checkpointer.make()

    assert site.of(MALLORY) == [0, 1, 2, 9]
    assert site.ends(MALLORY) == ["found", "whole"]
    assert site.verify().status == INCOMPLETE


def test_a_sparse_segment_larger_than_a_number_may_be_does_not_stop_the_log(site):
    source = Counted(site.segments())
    site.start(segments=source)
    site.put(MALLORY, 0, [], tail=bytes(64))
    site.put(ALICE, 0, chain(ALICE, 3))
    source.size_bytes = 2**62

    site.sequencer.step(is_last=True)
    source.size_bytes = None
    site.sequencer.step(is_last=True)

    assert site.of(ALICE) == [0, 1, 2]
    torn = [e["more"].get("torn_bytes") for e in site.events("trail.emitter")]
    assert canonical.MAX_INTEGER in torn


def test_waiting_bytes_beyond_a_number_do_not_stop_the_log(site):
    source = Counted(site.segments())
    site.start(segments=source)
    site.put(MALLORY, 0, [], tail=bytes(64))
    site.put(BOB, 0, [], tail=bytes(64))
    source.held = {MALLORY, BOB}
    site.sequencer.step()
    source.size_bytes = 2**62
    site.times.advance(300_000)

    site.sequencer.step()

    assert site.events("trail.beat")[-1]["more"]["waiting_bytes"] == canonical.MAX_INTEGER


@pytest.mark.parametrize("has_gaps", [False, True])
def test_parts_in_the_wrong_order_hold_up_nobody_else(site, has_gaps):
    parts = 200
    events = chain(MALLORY, parts * (3 if has_gaps else 1))[:: 3 if has_gaps else 1]
    for part, payload in enumerate(reversed(events)):
        site.put(MALLORY, part, [payload])
    source = Counted(site.segments())
    site.start(segments=source)
    site.sequencer.step()
    site.times.advance(60_000)
    site.put(ALICE, 0, chain(ALICE, 3))

    site.sequencer.step()

    assert site.of(ALICE) == [0, 1, 2]
    assert source.reads < 12 * parts

    while site.sequencer.step(is_last=True).has_more:
        continue
    assert len(site.of(MALLORY)) == len(events)


def test_a_batch_is_bounded_in_bytes_whatever_it_is_made_of(site, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BATCH_BYTES", 100_000)
    events = [event(MALLORY, 0, None, "emitter.open")]
    while len(events) < 30:
        events.append(event(MALLORY, len(events), events[-1], more={"x": ["ab"] * 5000}))
    site.put(MALLORY, 0, events)
    site.start()

    step = site.sequencer.step()

    assert step.has_more
    assert step.appended < 10
    while site.sequencer.step(is_last=True).has_more:
        continue
    assert len(site.of(MALLORY)) == 30


def test_hidden_values_alone_fill_a_batch_too(site, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BATCH_BYTES", 1_000)
    asides = []
    for number in range(30):
        value, salt = f"value {number}", number.to_bytes(16, "big")
        record = {"h": hidden_hash(value, salt), "salt": salt.hex(), "value": value}
        asides.append(encode_frame(2, canonical.encode(record)))
    site.put(MALLORY, 0, [], tail=b"".join(asides))
    site.start()

    step = site.sequencer.step()

    assert step.has_more
    while site.sequencer.step(is_last=True).has_more:
        continue
    assert site.reader().reveal(hidden_hash("value 29", (29).to_bytes(16, "big")))


@pytest.mark.parametrize("salt", ["00" * 15 + " 00", "AA" * 16, "00" * 15, "00" * 17, ""])
def test_an_aside_with_another_spelling_of_its_salt_is_refused(site, salt):
    h = hidden_hash("value", bytes.fromhex(salt))
    record = canonical.encode({"h": h, "salt": salt, "value": "value"})
    site.put(MALLORY, 0, [event(MALLORY, 0, None)], tail=encode_frame(2, record))

    site.run()

    assert len(site.events("trail.refused")) == 1
    assert site.reader().reveal(h) is None


def test_rubbish_is_kept_without_looking_through_the_whole_folder_each_time(tmp_path, monkeypatch):
    segments = SpoolSegments([tmp_path / "spool"], tmp_path / "refused")
    segments.scan()
    looked = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (looked.append(path), scandir(path))[1])

    for number in range(50):
        assert segments.keep_refused(f"{number:064x}", b"x" * number)

    segments.close()
    assert len(looked) <= 1
    assert len(list((tmp_path / "refused").iterdir())) == 50


def test_the_process_id_is_written_through_no_link(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "sequencer.pid").symlink_to(precious)
    lock = SequencerLock(tmp_path)

    assert lock.acquire()

    assert precious.read_text() == "precious"
    assert (tmp_path / "sequencer.pid").read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_lock_without_a_process_names_none_to_stop(tmp_path):
    descriptor = os.open(tmp_path / "trail.lock", os.O_RDWR | os.O_CREAT, 0o600)
    # A lock of an open file description: the kernel says -1 for its process.
    asked = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(descriptor, 37, asked)

    assert sequencer_pid(tmp_path) == 0
    assert stop_sequencer(tmp_path) is False

    os.close(descriptor)


def test_an_alert_that_cannot_be_recorded_does_not_end_the_sequencer(site):
    site.start()
    site.put(ALICE, 0, chain(ALICE, 3))
    turns, told = [], []

    def wait(seconds):
        turns.append(seconds)
        site.times.advance(int(seconds * 1000))

    def full(*arguments, **options):
        raise ServiceUnavailableError(service="audit log", action="write", reason="disk full")

    publish, record = site.log.publish, site.sequencer.record
    site.log.publish = site.sequencer.record = full

    def stop():
        if len(turns) == 20:
            site.log.publish, site.sequencer.record = publish, record
        return len(turns) >= 400

    run_sequencer(
        site.sequencer,
        site.checkpointer,
        clock=site.clock,
        wait=wait,
        stop=stop,
        on_trouble=told.append,
    )

    assert told
    assert site.verify().status == 0


def test_a_header_that_is_not_its_names_takes_the_segment_only(site):
    data = segment(MALLORY, 0, chain(MALLORY, 2))
    (site.spool / f"{ALICE}-0000.seg").write_bytes(data)
    (site.spool / f"{BOB}-0003.seg").write_bytes(segment(BOB, 3, chain(BOB, 2)))

    site.run()

    assert site.of(MALLORY) == site.of(ALICE) == []
    assert site.of(BOB) == [0, 1]
