"""Truncation, reorder, swap, and slots: each row of SEALED_FILE_FORMAT, Rules, as an attacker."""

from __future__ import annotations

import io

import pytest

from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.errors import (
    CiphertextError,
    FormatError,
    PolicyError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.sealed_header import read_sealed_header
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.services.sealing import open_object

MIB = 1 << 20
HEADER = 4096


@pytest.fixture
def three(bench, pattern):
    """Two full segments and a short third, behind a header of 4096 bytes."""
    return bench.seal(pattern(1048520 + 1048560 + 1000))


class Recorder:
    """A writer that remembers whether anything came."""

    def __init__(self):
        self.writes = []

    def write_at(self, offset, data):
        self.writes.append(bytes(data))


def refused(bench, file):
    """Every way to open must refuse, and none may give a byte that is not the plaintext's."""
    sink, out = Recorder(), io.BytesIO()
    for target in (sink, out):
        with pytest.raises((CiphertextError, FormatError)):
            open_object(bench.put(file), target, keys=[bench.kek], expect=ANY_CONTEXT)
    return not sink.writes and not out.getvalue()


CUTS = sorted(
    {
        HEADER + boundary + by
        for boundary in (0, 40, 56, MIB, MIB + 16, MIB + 17, 2 * MIB, 2 * MIB + 16, 2 * MIB + 17)
        for by in (-1, 0, 1)
    }
)


@pytest.mark.parametrize("length", CUTS)
def test_a_cut_file_is_refused_before_a_byte_is_given(bench, three, length):
    assert refused(bench, three[:length])
    with pytest.raises((CiphertextError, FormatError)):
        SealedReader(bench.put(three[:length]), keys=[bench.kek], expect=ANY_CONTEXT)


@pytest.mark.parametrize("payload", [0, 1, 39, 40, 41, 55])
def test_a_payload_cut_to_next_to_nothing_is_refused(bench, payload):
    assert refused(bench, bench.seal(b"")[: 512 + payload])


@pytest.mark.parametrize("more", [1, 15, 16, 17, 1000, MIB])
@pytest.mark.parametrize("length", [0, 5, 1048520, 1048520 + 1048560])
def test_bytes_behind_the_end_are_refused(bench, pattern, length, more):
    assert refused(bench, bench.seal(pattern(length)) + bytes(more))


def test_an_empty_last_segment_behind_a_full_one_is_refused(bench, reference, pattern):
    file_key, core = forge_key(bench)
    salt, prefix = bytes(32), bytes(7)
    full = reference.payload(file_key, core, pattern(1048520), salt, prefix)
    aead = reference._segment_key(file_key, core, salt)
    first = aead.encrypt(prefix + bytes(5), pattern(1048520), None)
    empty = aead.encrypt(prefix + b"\0\0\0\x01\x01", b"", None)

    forged = bench.base[:HEADER] + full[:40] + first + empty

    assert refused(bench, forged)


def forge_key(bench):
    """What everyone who may open a file has: its file key."""
    bench.base = bench.seal(b"x" * 70000)
    header = read_sealed_header(bench.put(bench.base))
    return bytes(bench.kek.unwrap(header.slots[0].body, header.core_id)), header.core.encoded


def test_segments_of_one_file_do_not_change_places(bench, pattern):
    file = bench.seal(pattern(3 * MIB + 1000))
    at = HEADER + MIB
    one, two = file[at : at + MIB], file[at + MIB : at + 2 * MIB]

    forged = file[:at] + two + one + file[at + 2 * MIB :]

    with pytest.raises(CiphertextError, match="segment 1"):
        bench.open(forged, threads=1)
    assert "file:///data/opened" not in bench.store.objects


def test_a_segment_twice_or_left_out_is_refused(bench, pattern):
    file = bench.seal(pattern(3 * MIB + 1000))
    at = HEADER + MIB

    for forged in (file[: at + MIB] + file[at:], file[:at] + file[at + MIB :]):
        assert refused(bench, forged)


@pytest.mark.parametrize("at", [0, HEADER + 1, HEADER + MIB], ids=["header", "payload", "segment"])
def test_parts_of_another_file_under_the_same_key_are_refused(bench, three, pattern, at):
    other = bench.seal(pattern(1048520 + 1048560 + 1000))
    end = {0: HEADER, HEADER + 1: len(three), HEADER + MIB: HEADER + 2 * MIB}[at]

    with pytest.raises(CiphertextError):
        bench.open(three[:at] + other[at:end] + three[end:])


@pytest.mark.parametrize("at", [0, 1, 33, 40, 41, MIB - 1, MIB, 2 * MIB + 5, -1])
def test_a_flipped_bit_in_the_payload_is_refused(bench, three, at):
    place = HEADER + at if at >= 0 else len(three) - 1
    forged = three[:place] + bytes([three[place] ^ 0x10]) + three[place + 1 :]

    with pytest.raises(CiphertextError):
        bench.open(forged)


def test_every_header_byte_flipped_is_refused_and_the_refusal_names_the_file(bench):
    file = bench.seal(b"hello")

    for at in range(512):
        with pytest.raises(SecureMLError, match=r"^file:///data/object: "):
            bench.open(file[:at] + bytes([file[at] ^ 0x01]) + file[at + 1 :])


def test_a_slot_of_another_file_is_refused(bench):
    one, two = bench.seal(b"hello"), bench.seal(b"jello")
    body = read_sealed_header(bench.put(two)).slots[0].body
    mine = read_sealed_header(bench.put(one)).slots[0].body

    with pytest.raises(CiphertextError, match="another file"):
        bench.open(one.replace(mine, body))


class Stub:
    """A key system under a test's control."""

    def __init__(self, answer, slot_id="team/3", kind=1):
        self.slot_type, self.slot_id, self._answer = kind, slot_id, answer
        self.ref, self.calls = f"stub {slot_id}", 0

    def unwrap(self, body, core_id):
        self.calls += 1
        if isinstance(self._answer, Exception):
            raise self._answer
        return bytearray(self._answer)


@pytest.mark.parametrize("length", [0, 24, 31, 33, 40])
def test_a_file_key_of_another_length_is_refused(bench, length):
    file = bench.seal(b"hello")

    with pytest.raises(CiphertextError, match="commitment"):
        bench.open(file, keys=[Stub(bytes(length))])


def test_a_file_key_that_does_not_fit_is_refused_and_the_next_key_tried(bench):
    file, wrong = bench.seal(b"hello"), Stub(bytes(32))

    with pytest.raises(CiphertextError, match="commitment"):
        bench.open(file, keys=[wrong])
    assert bench.open(file, keys=[wrong, bench.kek]) == b"hello"
    assert wrong.calls == 2


def test_a_key_that_the_reader_was_not_given_is_not_asked(bench, kek):
    file = bench.seal(b"hello", keys=[bench.kek, kek("other/1")])
    strangers = [Stub(b"", "team/4"), Stub(b"", "team/3", kind=3), Stub(b"", "x", kind=2)]

    with pytest.raises(PolicyError, match=r"other/1 \(type 1\), team/3 \(type 1\)") as caught:
        bench.open(file, keys=strangers)

    assert caught.value.why == "key_not_allowed"
    assert [stranger.calls for stranger in strangers] == [0, 0, 0]


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("disabled", "key_disabled"),
        ("destroyed", "key_destroyed"),
        ("retired", "key_not_allowed"),
        (None, "key_missing"),
    ],
)
def test_why_no_key_opens_is_told(bench, state, why):
    with pytest.raises(PolicyError) as caught:
        bench.open(bench.seal(b"hello"), keys=[], state_of=lambda kind, name: state)

    assert caught.value.why == why


def test_the_readers_order_counts_and_each_key_is_tried_once(bench, kek):
    file = bench.seal(b"hello", keys=[bench.kek, kek("other/1")])
    bad = Stub(CiphertextError("no"), "other/1")

    bench.open(file, keys=[bad, bench.kek, kek("other/1")])

    assert (bad.calls, str(bench.opened.key)) == (1, "team/3")


def test_a_key_system_that_is_silent_is_no_refusal(bench, kek):
    file = bench.seal(b"hello", keys=[bench.kek, kek("other/1")])
    silent = Stub(ServiceUnavailableError("down"))

    with pytest.raises(ServiceUnavailableError):
        bench.open(file, keys=[Stub(CiphertextError("no"), "other/1"), silent])
    assert bench.open(file, keys=[silent, kek("other/1")]) == b"hello"


def test_a_key_system_that_says_no_is_told(bench):
    with pytest.raises(ServiceRefusedError):
        bench.open(bench.seal(b"hello"), keys=[Stub(ServiceRefusedError("forbidden"))])


def test_a_file_of_65_slots_or_twice_the_same_is_refused(bench, reference):
    file_key, core = forge_key(bench)
    body = reference.kek_body(bytes(range(32)), file_key, core)
    payload = reference.payload(file_key, core, b"hello", bytes(32), bytes(7))
    lists = [
        [(1, f"team/{i}", body) for i in range(65)],
        [(1, "team/3", body), (1, "team/3", body)],
    ]

    for slots in lists:
        forged = reference.header(file_key, core, slots, 512) + payload
        with pytest.raises(FormatError):
            bench.open(forged)


def test_a_huge_file_that_does_not_verify_costs_no_memory(bench):
    class Huge:
        uri, version = "file:///huge", "1"

        def __init__(self, file):
            self._file, self.size_bytes = file, 512 + (1 << 50)

        def read_at(self, offset, length):
            return self._file[offset : offset + length]

        def readinto_at(self, offset, buffer):
            assert len(buffer) <= MIB
            buffer[:] = self._file[512 : 512 + len(buffer)].ljust(len(buffer), b"\0")
            return len(buffer)

    with pytest.raises(CiphertextError):
        open_object(Huge(bench.seal(b"hello")), Recorder(), keys=[bench.kek], expect=ANY_CONTEXT)


def test_a_payload_whose_start_changes_between_two_reads_is_refused(bench):
    obj = bench.put(bench.seal(b"hello"))

    class Shifty:
        uri, size_bytes, version = obj.uri, obj.size_bytes, obj.version
        read_at, check_unchanged = obj.read_at, obj.check_unchanged
        starts = 0

        def readinto_at(self, offset, buffer):
            count = obj.readinto_at(offset, buffer)
            if offset == 512:
                self.starts += 1
                buffer[5] ^= self.starts > 1
            return count

    sink = Recorder()
    with pytest.raises(CiphertextError, match="start changed"):
        open_object(Shifty(), sink, keys=[bench.kek], expect=ANY_CONTEXT)

    assert sink.writes == []
