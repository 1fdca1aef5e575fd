"""Suite 0x02, held against the specification as it was written once more in `reference`."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_secure_ml.core.crypto_policy import SUITES
from airflow_secure_ml.core.sealed_file.cobblestone import (
    Cobblestone256,
    CobblestoneLayout,
    CobblestoneOpener,
    CobblestoneSealer,
)
from airflow_secure_ml.core.sealed_file.header import FILE_SUITES
from airflow_secure_ml.core.sealed_file.payload import SegmentCipher
from airflow_secure_ml.core.sealed_file.suites import payload_suite
from airflow_secure_ml.errors import CiphertextError, ConfigurationError, FormatError

CHUNK, MIB = 16384, 1 << 20
FILE_KEY = bytes(range(0x20, 0x40))
SUITE = Cobblestone256()


@pytest.fixture(scope="module")
def core(reference):
    return reference.core(FILE_KEY, {"a": "b"}, suite=2)


def seal(core_id, plaintext):
    cipher = CobblestoneSealer(FILE_KEY, core_id)
    layout = CobblestoneLayout.of_plaintext(len(plaintext))
    sealed = bytearray(layout.payload_bytes)
    sealed[:56] = cipher.start
    for index in range(layout.count):
        at = layout.segment(index)
        plain = plaintext[at.plain_at : at.plain_at + at.plain_bytes]
        place = memoryview(sealed)[at.sealed_at : at.sealed_at + at.sealed_bytes]
        cipher.seal_into(index, at.last, plain, place)
    return bytes(sealed)


def open_whole(core_id, sealed, file_key=FILE_KEY):
    layout = CobblestoneLayout.of_payload(len(sealed))
    cipher = CobblestoneOpener(file_key, core_id, sealed[:56])
    plain = bytearray(layout.plaintext_bytes)
    for index in range(layout.count):
        at = layout.segment(index)
        place = memoryview(plain)[at.plain_at : at.plain_at + at.plain_bytes]
        part = sealed[at.sealed_at : at.sealed_at + at.sealed_bytes]
        cipher.open_into(index, at.last, part, place)
    return bytes(plain)


BOUNDARIES = sorted({0, 1, *(n * CHUNK + by for n in (1, 2, 63, 64, 65, 128) for by in (-1, 0, 1))})


@pytest.mark.parametrize("length", BOUNDARIES)
def test_what_is_sealed_the_specification_opens_and_the_other_way_round(reference, core, length):
    plaintext, core_id = os.urandom(length), reference.core_id(core)

    sealed = seal(core_id, plaintext)

    assert reference._read_cobblestone(FILE_KEY, core, sealed) == plaintext
    assert reference.cobblestone(FILE_KEY, core, plaintext, sealed[:24]) == sealed
    other = reference.cobblestone(FILE_KEY, core, plaintext, bytes(24))
    assert open_whole(core_id, other) == plaintext


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, 3 * MIB))
def test_any_length_comes_back(length):
    core_id, plaintext = bytes(32), bytes(length)

    sealed = seal(core_id, plaintext)

    assert len(sealed) == 56 + length + 16 * (length // CHUNK + 1)
    assert open_whole(core_id, sealed) == plaintext


@settings(deadline=None)
@given(length=st.integers(0, (1 << 52) - 1))
def test_a_layout_is_the_same_from_either_side(length):
    layout = CobblestoneLayout.of_plaintext(length)

    assert CobblestoneLayout.of_payload(layout.payload_bytes) == layout
    last = layout.segment(layout.count - 1)
    assert last.last
    assert last.plain_at + last.plain_bytes == length
    assert last.whole_at + last.whole_bytes == layout.payload_bytes
    assert layout.index_at(max(0, length - 1)) == layout.count - 1


@given(count=st.integers(2, 40), rest=st.integers(0, MIB))
def test_segments_lie_one_behind_the_other(count, rest):
    layout = CobblestoneLayout.of_plaintext((count - 1) * MIB + max(rest, 1))

    segments = [layout.segment(index) for index in range(layout.count)]

    assert segments[0].whole_at == 0
    for one, two in itertools.pairwise(segments):
        assert one.sealed_at + one.sealed_bytes == two.sealed_at
        assert one.plain_at + one.plain_bytes == two.plain_at
        assert (one.plain_bytes, one.sealed_bytes) == (MIB, 64 * 16400)


WRONG = sorted({0, 1, 55, 56, 71} | {56 + n * 16400 + by for n in (1, 2, 64) for by in (0, 1, 15)})


@pytest.mark.parametrize("length", WRONG)
def test_a_length_that_no_payload_has_is_refused(length):
    with pytest.raises(CiphertextError, match=f"payload: {length} bytes"):
        CobblestoneLayout.of_payload(length)


def test_the_most_chunks_are_read_and_written_and_no_more():
    most = (1 << 38) * CHUNK - 1

    assert CobblestoneLayout.of_plaintext(most).count == 1 << 32
    with pytest.raises(ConfigurationError, match="split it"):
        CobblestoneLayout.of_plaintext(most + 1)
    with pytest.raises(CiphertextError, match="chunks"):
        CobblestoneLayout.of_payload(56 + (1 << 38) * 16400 + 16)


@pytest.mark.parametrize("at", [0, 23, 24, 55], ids="byte={}".format)
def test_a_start_that_was_altered_is_refused_before_a_chunk(reference, core, at):
    start = bytearray(reference.cobblestone(FILE_KEY, core, b"x", bytes(24))[:56])
    start[at] ^= 1

    with pytest.raises(CiphertextError, match="start does not fit"):
        CobblestoneOpener(FILE_KEY, reference.core_id(core), bytes(start))


def test_another_file_key_or_core_id_does_not_open(reference, core):
    start = reference.cobblestone(FILE_KEY, core, b"x", bytes(24))[:56]

    for key, core_id in ((bytes(32), reference.core_id(core)), (FILE_KEY, bytes(32))):
        with pytest.raises(CiphertextError, match="start does not fit"):
            CobblestoneOpener(key, core_id, start)
    with pytest.raises(CiphertextError, match="inside its start"):
        CobblestoneOpener(FILE_KEY, reference.core_id(core), start[:55])


def test_a_last_chunk_as_long_as_the_others_is_refused(reference, core):
    """What an attacker with the file key could write, and a lenient reader would take."""
    start = reference.cobblestone(FILE_KEY, core, b"", bytes(24))[:56]
    full = reference.chunk(FILE_KEY, core, bytes(24), 0, bytes(CHUNK))

    with pytest.raises(CiphertextError, match="without the last one"):
        open_whole(reference.core_id(core), start + full)


def test_segments_are_taken_in_order_only(reference, core):
    core_id, plain, sealed = reference.core_id(core), bytes(MIB), bytearray(64 * 16400)
    whole = seal(core_id, bytes(2 * MIB))
    opener = CobblestoneOpener(FILE_KEY, core_id, whole[:56])

    with pytest.raises(ConfigurationError, match="expected segment 0, found 1"):
        CobblestoneSealer(FILE_KEY, core_id).seal_into(1, False, plain, sealed)
    with pytest.raises(ConfigurationError, match="expected segment 0, found 1"):
        opener.open_into(1, True, whole[56 + 64 * 16400 :], bytearray(MIB))


def test_a_cipher_does_one_thing(reference, core):
    core_id = reference.core_id(core)
    sealer = CobblestoneSealer(FILE_KEY, core_id)

    with pytest.raises(ConfigurationError, match="sealed here"):
        sealer.open_into(0, True, bytes(16), bytearray(0))
    with pytest.raises(ConfigurationError, match="opened here"):
        CobblestoneOpener(FILE_KEY, core_id, sealer.start).seal_into(0, True, b"", bytearray(16))


def test_two_seals_of_one_file_key_never_share_a_salt():
    salts = {CobblestoneSealer(FILE_KEY, bytes(32)).start[:24] for _ in range(100)}

    assert len(salts) == 100


def test_one_file_key_gives_each_suite_another_key(reference, core):
    """Else what one suite made could be taken apart with the other's rules."""
    core_id = reference.core_id(core)
    one = SegmentCipher(FILE_KEY, core_id, salt=bytes(32), prefix=bytes(7))
    roots = {
        reference.expand(FILE_KEY, label + core_id)
        for label in (b"asml/v1/payload", b"asml/v1/cobblestone-256")
    }

    assert len(roots) == 2
    with pytest.raises(CiphertextError):
        CobblestoneOpener(FILE_KEY, core_id, (one.start + bytes(16))[:56])


def test_every_suite_has_a_number_and_a_name():
    assert {number: payload_suite(number).number for number in FILE_SUITES} == {1: 1, 2: 2}
    assert tuple(SUITES) == FILE_SUITES
    for number in (0x00, 0x03, 0x10):
        with pytest.raises(FormatError, match=f"suite 0x{number:02x}"):
            payload_suite(number)


@pytest.mark.parametrize("number", FILE_SUITES)
def test_a_segment_of_unknown_length_lies_where_the_layout_says(number):
    suite = payload_suite(number)
    layout = suite.layout_of_plaintext(3 * suite.full_plain_bytes)

    for index in range(layout.count):
        segment = layout.segment(index)
        assert suite.segment(index, segment.plain_bytes, segment.last) == segment
        if not segment.last:
            assert suite.plain_bytes_of(index) == segment.plain_bytes
        assert segment.plain_bytes <= suite.full_plain_bytes
        assert segment.whole_bytes <= suite.full_whole_bytes
