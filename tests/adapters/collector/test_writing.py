"""Writings that begin at one time: one thread where the disk is fast, several where it is slow."""

from __future__ import annotations

import queue
import threading

import pytest

from airflow_secure_ml.adapters.collector.writing import Writers, Writing
from airflow_secure_ml.core.audit.receiving import Place, Sender

DEADLINE_S = 30.0
PLACE = Place(sender=Sender(pid=1, uid=2, start=3, boot="boot"), next_seq=1, last=b"x" * 32)


class Segment:
    """A segment that says which thread wrote it; `act` happens meanwhile."""

    def __init__(self, act=lambda: None):
        self.act, self.thread, self.frames = act, None, b""

    def write(self, frames, *, wait):
        self.act()
        self.thread, self.frames = threading.current_thread().name, frames
        assert wait


@pytest.fixture
def write():
    """Have segments written at one time; returns the writings, by when they were over."""
    made, over = [], queue.SimpleQueue()

    def write(segments, now_s=lambda: 0.0):
        if not made:
            made.append(Writers(4, over.put, now_s))
        begun = [Writing(None, segment, b"frames", PLACE) for segment in segments]
        made[0].add(begun)
        ended = []
        while len(ended) < len(begun):
            ended += over.get(timeout=DEADLINE_S)
        return ended

    yield write
    for writers in made:
        writers.close()


def test_a_disk_that_was_never_seen_is_written_to_by_several_at_once(write):
    together = threading.Barrier(4, timeout=DEADLINE_S)
    segments = [Segment(together.wait) for _ in range(4)]

    write(segments)

    assert len({segment.thread for segment in segments}) == 4


def test_a_fast_disk_keeps_one_thread_busy_with_what_comes_at_one_time(write):
    write([Segment()])
    segments = [Segment() for _ in range(8)]

    ended = write(segments)

    assert len({segment.thread for segment in segments}) == 1
    assert [segment.frames for segment in segments] == [b"frames"] * 8
    assert [writing.place for writing in ended] == [PLACE] * 8


def test_a_disk_that_becomes_slow_is_written_to_by_several_at_once(write):
    seconds = iter([0.0, 0.0, 1.0, 3.0])
    write([Segment()], lambda: next(seconds))
    write([Segment(), Segment()])
    seconds = iter(range(99))
    together = threading.Barrier(3, timeout=DEADLINE_S)
    segments = [Segment(together.wait) for _ in range(3)]

    write(segments)

    assert len({segment.thread for segment in segments}) == 3


def test_one_that_fails_keeps_its_error_and_the_others_are_written(write):
    def fail():
        raise OSError(28, "no room")

    write([Segment()])
    segments = [Segment(), Segment(fail), Segment()]

    ended = write(segments)

    assert [str(writing.error or "") for writing in ended] == ["", "[Errno 28] no room", ""]
    assert segments[2].frames == b"frames"
