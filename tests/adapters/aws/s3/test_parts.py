"""Every byte of an object lies in exactly one part, and a part goes when it is whole."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.adapters.aws.s3.checksums import combine, crc_of, in_answer, rest_of, to_text
from airflow_secure_ml.adapters.aws.s3.parts import (
    MAX_OBJECT_BYTES,
    MAX_PARTS,
    MIN_PART_BYTES,
    PART_BYTES,
    Layout,
    Part,
    part_at,
    part_bytes,
    part_start,
)

MIB = 1 << 20


def test_parts_lie_end_to_end_and_the_largest_object_fits():
    ends = 0
    for number in range(1, MAX_PARTS + 1):
        assert part_start(number) == ends
        ends += part_bytes(number)

    assert ends >= MAX_OBJECT_BYTES
    assert (part_bytes(1), part_bytes(1000), part_bytes(1001)) == (8 * MIB, 8 * MIB, 16 * MIB)
    assert part_bytes(1) >= MIN_PART_BYTES
    # The longest that S3 takes.
    assert part_bytes(MAX_PARTS) <= 5 << 30


@given(st.integers(0, MAX_OBJECT_BYTES - 1))
def test_a_byte_lies_in_the_part_that_is_named(offset):
    number = part_at(offset)

    assert part_start(number) <= offset < part_start(number) + part_bytes(number)


@pytest.mark.parametrize("number", [1, 2, 999, 1000, 1001, 2000, 2001, 9000, 9001])
def test_the_first_and_the_last_byte_of_a_part_are_in_it(number):
    start, end = part_start(number), part_start(number) + part_bytes(number)

    assert [part_at(at) for at in (start, end - 1, end)] == [number, number, number + 1]


def test_behind_a_copied_part_the_others_go_on():
    layout = Layout()

    assert layout.part_of(PART_BYTES) == (2, PART_BYTES, PART_BYTES)
    layout.copied(2, 100 * MIB)

    assert layout.part_of(100 * MIB) == (3, 100 * MIB, PART_BYTES)
    assert layout.part_of(108 * MIB) == (4, 108 * MIB, PART_BYTES)
    with pytest.raises(ValueError, match="before what was copied"):
        layout.part_of(100 * MIB - 1)


@given(st.integers(1, 200), st.integers(0, 2**32))
def test_a_part_holds_what_was_written_whatever_the_order(size, seed):
    rng = random.Random(seed)
    data = rng.randbytes(size)
    cuts = sorted({0, size, *(rng.randrange(size) for _ in range(8))})
    runs = list(itertools.pairwise(cuts))
    rng.shuffle(runs)
    part = Part(1, 0, size, bytearray())

    for place, (begin, end) in enumerate(runs):
        assert not part.is_full
        part.write(begin, memoryview(data)[begin:end])
        assert part.end == max(last for _, last in runs[: place + 1])

    assert part.is_full
    assert part.first_hole is None
    assert part.buffer == data


def test_a_part_knows_its_first_hole():
    part = Part(1, 0, 100, bytearray())
    assert (part.first_hole, part.end) == (None, 0)

    part.write(10, memoryview(b"x" * 10))
    assert (part.first_hole, part.end) == (0, 20)
    part.write(0, memoryview(b"x" * 5))
    assert part.first_hole == 5
    part.write(3, memoryview(b"y" * 9))
    assert (part.first_hole, part.end) == (None, 20)
    assert bytes(part.buffer) == b"xxx" + b"y" * 9 + b"x" * 8


def test_a_used_buffer_is_cut_to_what_was_written():
    part = Part(1, 0, 8, bytearray(b"old data"))

    part.write(0, memoryview(b"new"))
    part.cut()

    assert part.buffer == b"new"


def test_the_checksum_is_the_one_that_s3_keeps():
    # Of `123456789`, from the catalogue of CRCs: CRC-64/NVME, check ae8b14860a799888.
    assert crc_of(b"123456789") == 0xAE8B14860A799888
    assert to_text(crc_of(b"123456789")) == "rosUhgp5mIg="


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_the_checksum_of_a_rest_follows_from_the_whole(first, rest):
    whole = crc_of(first + rest)

    assert crc_of(rest, crc_of(first)) == whole
    assert combine(crc_of(first), crc_of(rest), len(rest)) == whole
    assert rest_of(whole, crc_of(first), len(rest)) == crc_of(rest)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"ChecksumCRC64NVME": "rosUhgp5mIg=-2"},
        {"ChecksumCRC64NVME": "rosUhgp5mIg=", "ChecksumType": "COMPOSITE"},
        {"ChecksumCRC64NVME": "rosU"},
        {"ChecksumCRC64NVME": "no base64!!"},
    ],
    ids=["none", "of parts", "composite", "short", "other text"],
)
def test_what_is_no_checksum_of_a_whole_object_is_passed_over(answer):
    assert in_answer(answer) is None
