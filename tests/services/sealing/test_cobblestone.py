"""Files of suite 0x02 through the services: vectors, attacks, order, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.core.sealed_file.header import SUITE_DATASET_KEY, make_core
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    FormatError,
    IntegrityError,
    SecureMLError,
)
from airflow_secure_ml.services.rewrapping import rewrap_object
from airflow_secure_ml.services.sealed_header import read_sealed_header
from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.services.sealing import digest_payload, open_object

FOLDER = Path(__file__).parents[2] / "vectors" / "v1" / "sealed_file_02"
VECTORS = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
KEK = bytes(range(32))
CHUNK, SEALED, MIB, HEADER = 16384, 16400, 1 << 20, 4096
COBBLESTONE = 2


def seal(bench, plaintext, **more):
    return bench.seal(plaintext, suite=COBBLESTONE, **more)


@pytest.fixture
def three(bench, pattern):
    """Two segments of 64 chunks and three chunks more, behind a header of 4096 bytes."""
    return seal(bench, pattern(2 * MIB + 2 * CHUNK + 1000))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_is_read(bench, kek, reference, pattern, vector, threads):
    file_key, salt = bytes.fromhex(vector["file_key"]), bytes.fromhex(vector["salt"])
    length = vector["plaintext_bytes"]
    plaintext = b"hello" if vector["name"] == "document" else pattern(length)
    core = reference.core(file_key, vector["context"], suite=2)
    body = reference.kek_body(KEK, file_key, core)
    header = reference.header(
        file_key, core, [(1, "team/3", body)], 512 if length < 65536 else 4096
    )
    file = header + reference.cobblestone(file_key, core, plaintext, salt)

    assert hashlib.sha256(file).hexdigest() == vector["sha256"]
    assert file.hex().startswith(vector.get("file") or vector["header"])
    out = io.BytesIO()
    opened = open_object(
        bench.put(file), out, keys=[bench.kek], expect=vector["context"], threads=threads
    )
    assert bench.open(file, threads=threads) == out.getvalue() == plaintext
    assert hashlib.sha256(plaintext).hexdigest() == vector["plaintext_sha256"]
    assert opened.core_id.hex() == vector["core_id"]
    assert opened.payload_bytes == vector["payload_bytes"]


def test_every_vector_is_there():
    assert len(VECTORS) == 11


LENGTHS = sorted({0, 5, *(n * CHUNK + by for n in (1, 63, 64, 65, 128, 192) for by in (-1, 0, 1))})


@pytest.mark.parametrize("known", [True, False], ids=["known", "stream"])
@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_sealed_comes_back_and_the_reference_opens_it(
    bench, reference, pattern, length, known
):
    plaintext = pattern(length)

    file = seal(bench, plaintext, threads=3, **({} if known else {"plaintext_bytes": None}))

    assert reference.read(file, kek=KEK, slot_id="team/3") == plaintext
    payload = file[bench.sealed.header_bytes :]
    assert bench.sealed.payload_digest == f"sha256:{hashlib.sha256(payload).hexdigest()}"
    assert (bench.sealed.suite, bench.sealed.payload_bytes) == (2, len(payload))
    assert bench.sealed.plaintext_bytes == length
    assert bench.open(file, threads=3) == plaintext
    assert bench.opened.payload_digest == bench.sealed.payload_digest
    found = digest_payload(bench.put(file))
    assert (found.payload_digest, found.plaintext_bytes) == (bench.sealed.payload_digest, length)


class Recorder:
    """A stream that remembers whether anything came."""

    def __init__(self):
        self.written = 0

    def write(self, data):
        self.written += len(data)
        return len(data)


def refused(bench, file):
    """Neither a stream gets a byte, nor does an object appear."""
    out = Recorder()
    with pytest.raises((CiphertextError, FormatError)):
        open_object(bench.put(file), out, keys=[bench.kek], expect=ANY_CONTEXT, threads=3)
    for threads in (1, 3):
        with pytest.raises((CiphertextError, FormatError)):
            bench.open(file, threads=threads)
    assert "file:///data/opened" not in bench.store.objects
    return out.written == 0


CUTS = sorted(
    {
        HEADER + boundary + by
        for boundary in (
            0,
            24,
            56,
            72,
            *(56 + n * SEALED + at for n in (1, 63, 64, 65, 128, 130) for at in (0, 16)),
        )
        for by in (-1, 0, 1)
    }
)


@pytest.mark.parametrize("length", CUTS)
def test_a_cut_file_is_refused_before_a_byte_is_given(bench, three, length):
    assert refused(bench, three[:length])


@pytest.mark.parametrize("more", [1, 15, 16, 17, 1000, SEALED - 1, SEALED, SEALED + 1, MIB])
@pytest.mark.parametrize("length", [0, 5, CHUNK - 1, CHUNK, 64 * CHUNK])
def test_bytes_behind_the_end_are_refused(bench, pattern, length, more):
    assert refused(bench, seal(bench, pattern(length)) + bytes(more))


def test_chunks_and_segments_do_not_change_places(bench, pattern):
    file = seal(bench, pattern(3 * MIB + 1000))
    for unit in (SEALED, 64 * SEALED):
        at = HEADER + 56
        one, two = file[at : at + unit], file[at + unit : at + 2 * unit]
        assert refused(bench, file[:at] + two + one + file[at + 2 * unit :])


@pytest.mark.parametrize("unit", [SEALED, 64 * SEALED], ids=["chunk", "segment"])
def test_a_chunk_or_segment_twice_or_left_out_is_refused(bench, three, unit):
    at = HEADER + 56
    for forged in (three[: at + unit] + three[at:], three[:at] + three[at + unit :]):
        assert refused(bench, forged)


@pytest.mark.parametrize("part", ["header", "start", "chunk", "payload"])
def test_parts_of_another_file_under_the_same_key_are_refused(bench, three, pattern, part):
    other = seal(bench, pattern(2 * MIB + 2 * CHUNK + 1000))
    begin, end = {
        "header": (0, HEADER),
        "start": (HEADER, HEADER + 56),
        "chunk": (HEADER + 56, HEADER + 56 + SEALED),
        "payload": (HEADER, len(three)),
    }[part]

    assert refused(bench, three[:begin] + other[begin:end] + three[end:])


PLACES = sorted(
    {0, 23, 24, 55, 56, -1, -16, -17}
    | {56 + n * SEALED + by for n in (1, 64, 128) for by in (-17, -16, -1, 0, 1)}
)


@pytest.mark.parametrize("at", PLACES, ids="byte={}".format)
def test_a_flipped_bit_in_the_payload_is_refused(bench, three, at):
    place = HEADER + at if at >= 0 else len(three) + at
    assert refused(bench, three[:place] + bytes([three[place] ^ 0x10]) + three[place + 1 :])


def test_every_header_byte_flipped_is_refused(bench):
    file = seal(bench, b"hello")

    for at in range(512):
        with pytest.raises(SecureMLError, match=r"^file:///data/object: "):
            bench.open(file[:at] + bytes([file[at] ^ 0x01]) + file[at + 1 :])


@pytest.mark.parametrize("length", [5, 3 * MIB])
def test_the_suites_byte_cannot_be_edited_to_the_other(bench, pattern, length):
    for suite in (1, 2):
        file = bench.seal(pattern(length), suite=suite)
        assert file[9] == suite
        assert refused(bench, file[:9] + bytes([3 - suite]) + file[10:])


def test_who_has_the_file_key_cannot_put_one_suites_payload_under_the_others_core(bench, reference):
    """Not even with a new header around it: the label in the key's derivation differs."""
    file = bench.seal(b"x" * 1000)
    header = read_sealed_header(bench.put(file))
    file_key = bytes(bench.kek.unwrap(header.slots[0].body, header.core_id))
    core = reference.core(file_key, bench.context, suite=2)
    slots = [(1, "team/3", reference.kek_body(KEK, file_key, core))]

    forged = reference.header(file_key, core, slots, 512) + file[header.size_bytes :]

    assert refused(bench, forged)


def test_a_payload_with_another_digest_than_was_signed_is_not_published(bench, three):
    with pytest.raises(IntegrityError, match="sealed anew under the same header"):
        bench.open(three, expected_payload_digest="sha256:" + "0" * 64)
    with pytest.raises(IntegrityError, match="expected 7"):
        bench.open(three, expected_payload_bytes=7)
    assert "file:///data/opened" not in bench.store.objects


def test_random_access_is_refused_with_suite_and_cure_and_no_key_is_asked(bench, three):
    class Asked:
        slot_type, slot_id, ref = 1, "team/3", "a key"

        def unwrap(self, body, core_id):
            raise AssertionError("asked")

    message = r"file:///data/object: sealed in suite cobblestone-256.*stream.*aes256-gcm-1mb"
    with pytest.raises(ConfigurationError, match=message):
        SealedReader(bench.put(three), keys=[Asked()], expect=ANY_CONTEXT)


def test_a_rewrap_keeps_core_and_payload(bench, three, kek):
    with bench.store.create("file:///data/rewrapped") as writer:
        rewrap_object(
            bench.put(three),
            writer,
            readers=[bench.kek],
            keys=[kek("other/1")],
            expect=ANY_CONTEXT,
        )
        writer.commit(replace=True)
    file = bench.store.objects["file:///data/rewrapped"]

    assert file[HEADER:] == three[HEADER:]
    assert bench.open(file, keys=[kek("other/1")]) == bench.open(three)


def test_a_stream_that_is_not_taken_back_gets_the_whole_or_nothing(bench, three, pattern):
    """The payload is read twice: all of it verified, then given."""
    obj, reads = bench.put(three), []

    class Counting:
        uri, size_bytes, version = obj.uri, obj.size_bytes, obj.version
        read_at, check_unchanged = obj.read_at, obj.check_unchanged

        def readinto_at(self, offset, buffer):
            reads.append(offset)
            return obj.readinto_at(offset, buffer)

    out = io.BytesIO()
    open_object(Counting(), out, keys=[bench.kek], expect=ANY_CONTEXT, threads=1)

    assert out.getvalue() == pattern(2 * MIB + 2 * CHUNK + 1000)
    body = [offset for offset in reads if offset > HEADER]
    assert body[: len(body) // 2] == body[len(body) // 2 :]


def test_a_data_set_key_has_no_payload_of_either_suite(bench):
    core = make_core(SUITE_DATASET_KEY, bytes(32), {"a": "b"})

    assert core.encoded[9] == 0x10
    with pytest.raises(FormatError, match="suite 0x10"):
        bench.seal(b"x", suite=SUITE_DATASET_KEY)
