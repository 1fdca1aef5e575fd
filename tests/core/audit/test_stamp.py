"""Stamps and a collector's socket: the bytes are those of the vectors, and nothing else passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_secure_ml.core.audit.collecting import POINT, Answer, decode_answer_head
from airflow_secure_ml.core.audit.frame import EVENT, STAMP, encode_frame, read_frames
from airflow_secure_ml.core.audit.stamp import Stamp, decode_stamp
from airflow_secure_ml.errors import FormatError

VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "stamped"
SEGMENT = (VECTORS / "segment.seg").read_bytes()
PAYLOADS = (VECTORS / "payloads.txt").read_bytes().splitlines()


def test_a_stamped_segment_is_read():
    scan = read_frames(SEGMENT, 32)

    assert [frame.kind for frame in scan.frames] == [STAMP, EVENT, EVENT]
    assert [frame.payload for frame in scan.frames] == PAYLOADS
    assert decode_stamp(scan.frames[0].payload) == Stamp(via="socket", pid=4711, uid=1001)


def test_a_stamp_is_written_as_in_the_vector():
    stamp = Stamp(via="socket", pid=4711, uid=1001)

    assert stamp.encode() == PAYLOADS[0]


def test_stamps_of_other_ways_are_those_of_the_vectors():
    inbox, http, team = (VECTORS / "ways.txt").read_bytes().splitlines()

    assert Stamp(via="inbox", login="trail_worker").encode() == inbox
    assert decode_stamp(inbox) == Stamp(via="inbox", login="trail_worker")
    assert Stamp(via="http", host="10.0.0.7").encode() == http
    assert decode_stamp(http) == Stamp(via="http", host="10.0.0.7")
    assert Stamp(via="http", host="10.0.0.7", login="red").encode() == team
    assert decode_stamp(team) == Stamp(via="http", host="10.0.0.7", login="red")


@pytest.mark.parametrize(
    ("first", "now", "same"),
    [
        (Stamp(via="http", host="a"), Stamp(via="http", host="b"), True),
        (Stamp(via="http", login="a"), Stamp(via="http", login="b"), False),
        (Stamp(via="http", login="a"), Stamp(via="http"), False),
        (Stamp(via="inbox", login="a"), Stamp(via="inbox", login="b"), False),
        (Stamp(via="inbox", login="a"), Stamp(via="http", host="a"), False),
        (Stamp(via="socket", pid=1, uid=2), Stamp(via="socket", pid=3, uid=2), False),
    ],
    ids=[
        *("another address", "another team", "no team"),
        *("another login", "another way", "another process"),
    ],
)
def test_who_sent_first_sends_what_follows(first, now, same):
    assert now.is_sender_of(first) is same


def test_what_is_sent_is_a_segment_with_points_and_without_a_stamp():
    sent = (VECTORS / "sent.bin").read_bytes()

    first, second = (encode_frame(EVENT, payload) for payload in PAYLOADS[1:])
    assert sent == SEGMENT[:32] + first + POINT + second


def test_answers_are_those_of_the_vectors():
    answers = [Answer(status=1), Answer(status=2, text="fork"), Answer(status=3, text="no roo")]

    lines = (VECTORS / "answers.txt").read_text().splitlines()
    assert [answer.encode() for answer in answers] == [bytes.fromhex(line) for line in lines]
    assert decode_answer_head(answers[1].encode()[:3]) == (2, 4)


@pytest.mark.parametrize(
    "head", [bytes.fromhex("000000"), bytes.fromhex("040000"), bytes.fromhex("0201f5")]
)
def test_what_no_collector_says_is_refused(head):
    with pytest.raises(FormatError, match="no collector's answer"):
        decode_answer_head(head)


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b'{"pid":1,"uid":2}',
        b'{"pid":1,"uid":2,"via":"pipe"}',
        b'{"pid":1,"via":"socket"}',
        b'{"pid":true,"uid":2,"via":"socket"}',
        b'{"pid":-1,"uid":2,"via":"socket"}',
        b'{"pid":1,"uid":4294967296,"via":"socket"}',
        b'{"host":"","via":"http"}',
        b'{"via":"inbox"}',
        b'{"login":"","via":"inbox"}',
        b'{"via":"http" }',
    ],
    ids=[
        "array",
        "way",
        "pipe",
        "uid",
        "flag",
        "negative",
        "large",
        "host",
        "no login",
        "login",
        "space",
    ],
)
def test_what_is_no_stamp_is_refused(payload):
    with pytest.raises(FormatError):
        decode_stamp(payload)


def test_a_stamp_may_say_more_than_this_release_knows():
    stamp = decode_stamp(b'{"host":"w1","later":"x","via":"http"}')

    assert stamp == Stamp(via="http", host="w1")
