"""Where segments lie, for every length, and that none opens in another's place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.sealed_file.payload import Layout, SegmentCipher
from airflow_secure_ml.errors import CiphertextError, ConfigurationError

FILE_KEY = bytes(range(0x20, 0x40))
CORE_ID = bytes(range(32))
MIB = 1 << 20


@pytest.fixture
def cipher():
    return SegmentCipher(FILE_KEY, CORE_ID, salt=bytes(32), prefix=bytes(7))


@pytest.mark.parametrize(
    ("plaintext", "payload", "count"),
    [
        (0, 56, 1),
        (1, 57, 1),
        (1048519, MIB - 1, 1),
        (1048520, MIB, 1),
        (1048521, MIB + 17, 2),
        (1048520 + 1048560, 2 * MIB, 2),
        (1048520 + 1048560 + 1, 2 * MIB + 17, 3),
    ],
)
def test_lengths_at_the_boundaries(plaintext, payload, count):
    for layout in (Layout.of_plaintext(plaintext), Layout.of_payload(payload)):
        assert (layout.plaintext_bytes, layout.payload_bytes) == (plaintext, payload)
        assert layout.count == count


@pytest.mark.parametrize(
    "payload", [-1, 0, 1, 39, 40, 41, 55, MIB + 1, MIB + 16, 2 * MIB + 1, 2 * MIB + 16]
)
def test_a_length_that_ends_inside_a_segment_is_refused(payload):
    with pytest.raises(CiphertextError, match="cut or added"):
        Layout.of_payload(payload)


def test_more_segments_than_allowed_are_refused():
    assert Layout.of_payload((2**31 - 1) * MIB).count == 2**31 - 1
    with pytest.raises(CiphertextError, match="at most"):
        Layout.of_payload(2**31 * MIB)
    with pytest.raises(ConfigurationError, match="split"):
        Layout.of_plaintext(2**51)


@given(st.integers(0, 2**45))
def test_both_ways_give_one_layout(plaintext):
    layout = Layout.of_plaintext(plaintext)

    assert Layout.of_payload(layout.payload_bytes) == layout


@given(st.integers(0, 2**24), st.integers(0, 2**24))
def test_every_byte_lies_in_the_segment_that_is_named(plaintext, at):
    layout = Layout.of_plaintext(plaintext)
    segments = [layout.segment(i) for i in range(layout.count)]

    assert sum(s.plain_bytes for s in segments) == plaintext
    assert segments[-1].sealed_at + segments[-1].sealed_bytes == layout.payload_bytes
    assert [s.last for s in segments] == [False] * (layout.count - 1) + [True]
    if at < plaintext:
        segment = segments[layout.index_at(at)]
        assert segment.plain_at <= at < segment.plain_at + segment.plain_bytes


@pytest.mark.parametrize(
    ("index", "last"), [(0, False), (1, True), (1, False)], ids=["not last", "moved", "both"]
)
def test_a_segment_opens_only_in_its_place(cipher, index, last):
    sealed, plain = bytearray(21), bytearray(5)
    cipher.seal_into(0, True, b"hello", sealed)

    cipher.open_into(0, True, sealed, plain)
    assert plain == b"hello"
    with pytest.raises(CiphertextError, match="does not verify"):
        cipher.open_into(index, last, sealed, plain)


def test_a_segment_opens_only_under_its_file_salt_and_prefix(cipher):
    sealed = bytearray(21)
    cipher.seal_into(0, True, b"hello", sealed)
    others = [
        SegmentCipher(CORE_ID, CORE_ID, salt=bytes(32), prefix=bytes(7)),
        SegmentCipher(FILE_KEY, FILE_KEY, salt=bytes(32), prefix=bytes(7)),
        SegmentCipher(FILE_KEY, CORE_ID, salt=CORE_ID, prefix=bytes(7)),
        SegmentCipher(FILE_KEY, CORE_ID, salt=bytes(32), prefix=b"1234567"),
    ]

    for other in others:
        with pytest.raises(CiphertextError):
            other.open_into(0, True, sealed, bytearray(5))


@pytest.mark.parametrize("start", [b"", b"\x28" * 39, b"\x28" * 41, b"\x27" + bytes(39)])
def test_another_start_is_refused(start):
    with pytest.raises(CiphertextError, match="begins otherwise"):
        SegmentCipher.from_start(FILE_KEY, CORE_ID, start)


@pytest.mark.parametrize(("salt", "prefix"), [(31, 7), (32, 8)])
def test_salt_and_prefix_have_their_lengths(salt, prefix):
    with pytest.raises(ConfigurationError, match="expected 32 and 7"):
        SegmentCipher(FILE_KEY, CORE_ID, salt=bytes(salt), prefix=bytes(prefix))
