"""Frames: what is whole is read, and nothing after what is not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.frame import (
    Frame,
    SegmentHeader,
    cut_frames,
    decode_header,
    encode_frame,
    encode_header,
    read_frames,
)
from airflow_secure_ml.errors import FormatError

TRAIL = Path(__file__).parents[2] / "vectors" / "v1" / "trail"
SEGMENT = (TRAIL / "segment.seg").read_bytes()
EMITTER = "00112233445566778899aabbccddeeff"

_frames = st.lists(
    st.builds(
        lambda kind, payload: Frame(kind=kind, payload=payload),
        st.integers(1, 255),
        st.binary(min_size=1, max_size=300),
    ),
    max_size=6,
)


def encoded(frames):
    return b"".join(encode_frame(frame.kind, frame.payload) for frame in frames)


def test_the_worked_example_is_read():
    header = decode_header(SEGMENT)
    scan = read_frames(SEGMENT, 32)

    leaves = [line for line in (TRAIL / "leaves.txt").read_bytes().splitlines() if line]
    assert header == SegmentHeader(emitter=EMITTER, part=0)
    assert header.file_name == EMITTER + "-0000.seg"
    assert [frame.kind for frame in scan.frames] == [1] * 7
    assert [frame.payload for frame in scan.frames] == leaves[2:9]
    assert (scan.used, scan.stop) == (3383, "")


def test_the_worked_example_is_written():
    header = encode_header(SegmentHeader(emitter=EMITTER, part=0))
    frames = encoded(read_frames(SEGMENT, 32).frames)

    assert header.hex() == "41534d4c53504c3100112233445566778899aabbccddeeff00000000492d1094"
    assert SEGMENT.index(bytes.fromhex("010001f8f699733b7b")) == 32 + 8 + 429
    assert hashlib.sha256(header + frames).hexdigest() == (
        "f6ce16a26062b4eaecd460256c84383d71f721b0fe3dcaad1eb03774019b63ee"
    )


@given(_frames, st.integers(0, 9999))
def test_what_was_encoded_is_read(frames, part):
    header = SegmentHeader(emitter=EMITTER, part=part)

    scan = read_frames(encode_header(header) + encoded(frames), 32)

    assert decode_header(encode_header(header)) == header
    assert list(scan.frames) == frames
    assert scan.stop == ""


@given(_frames, st.data())
def test_a_cut_segment_gives_the_frames_before_the_cut(frames, data):
    whole = encoded(frames)
    cut = data.draw(st.integers(0, len(whole)))

    scan = read_frames(whole[:cut])

    assert list(scan.frames) == frames[: len(scan.frames)]
    assert scan.stop == ("" if scan.used == cut else "short")
    assert read_frames(whole, scan.used).frames == tuple(frames[len(scan.frames) :])


@given(_frames.filter(bool), st.data())
def test_a_flipped_byte_ends_the_reading_before_it(frames, data):
    whole = bytearray(encoded(frames))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))

    scan = read_frames(bytes(whole))

    assert list(scan.frames) == frames[: len(scan.frames)]
    assert scan.used <= at
    assert scan.stop in {"short", "zero", "length", "crc"}


@given(st.binary(max_size=400))
def test_any_bytes_are_read_as_far_as_they_are_frames(data):
    scan = read_frames(data)

    assert encoded(scan.frames) == data[: scan.used]


@pytest.mark.parametrize(
    ("data", "stop"),
    [
        pytest.param(b"\0", "zero", id="kind 0"),
        pytest.param(b"\1\0\0", "short", id="half a head"),
        pytest.param(b"\1\0\0\0" + bytes(4), "length", id="no payload"),
        pytest.param(b"\1\0\x80\1" + bytes(4), "length", id="32769 bytes"),
        pytest.param(b"\1\0\x80\0" + bytes(4), "short", id="32768 bytes to come"),
        pytest.param(b"\1\0\0\1" + bytes(4) + b"x", "crc", id="another CRC"),
    ],
)
def test_reading_says_why_it_stopped(data, stop):
    first = encode_frame(2, b"aside")

    scan = read_frames(first + data)

    assert scan.frames == (Frame(kind=2, payload=b"aside"),)
    assert (scan.used, scan.stop) == (len(first), stop)


def test_pieces_are_cut_between_frames_and_lose_none():
    frames = [Frame(kind=1, payload=bytes([sign]) * 92) for sign in range(5)]

    pieces = list(cut_frames(encoded(frames) + b"torn", 299))

    assert [len(data) for _, data in pieces] == [200, 200, 100]
    assert b"".join(data for _, data in pieces) == encoded(frames)
    assert [frame for found, _ in pieces for frame in found] == frames


def test_a_frame_longer_than_a_piece_is_one_of_its_own():
    frames = [Frame(kind=1, payload=b"x" * 92), Frame(kind=1, payload=b"y")]

    pieces = list(cut_frames(encoded(frames), 50))

    assert [len(data) for _, data in pieces] == [100, 9]


@pytest.mark.parametrize("at", range(32), ids="byte={}".format)
def test_a_header_with_a_flipped_byte_is_refused(at):
    header = bytearray(SEGMENT[:32])
    header[at] ^= 1

    with pytest.raises(FormatError):
        decode_header(bytes(header))


def test_a_short_header_is_refused():
    with pytest.raises(FormatError, match="31 bytes, its header has 32"):
        decode_header(SEGMENT[:31])


@pytest.mark.parametrize(
    ("kind", "payload"),
    [(1, b""), (1, bytes(32769)), (0, b"x"), (256, b"x")],
    ids=["empty", "large", "kind 0", "kind 256"],
)
def test_what_cannot_be_framed_is_refused(kind, payload):
    with pytest.raises(FormatError):
        encode_frame(kind, payload)
