"""Sealing and opening as a caller sees it: sources, sinks, digests, refusals."""

from __future__ import annotations

import hashlib
import io
import os
import threading

import blake3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
)
from airflow_secure_ml.services.sealed_header import read_sealed_header
from airflow_secure_ml.services.sealing import digest_payload, open_object, seal_object

MIB = 1 << 20
LENGTHS = [0, 1, 1048519, 1048520, 1048521, 2097080, 2097081, 5_000_000]


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_sealed_is_opened(bench, pattern, tmp_path, length, threads):
    path = tmp_path / "plain"
    path.write_bytes(pattern(length))

    file = bench.seal(path, threads=threads)

    assert bench.open(file, threads=threads) == pattern(length)
    payload = file[bench.sealed.header_bytes :]
    assert bench.sealed.payload_digest == "sha256:" + hashlib.sha256(payload).hexdigest()
    assert bench.sealed.payload_bytes == len(payload)
    assert bench.sealed.plaintext_bytes == bench.opened.plaintext_bytes == length
    assert bench.opened.payload_digest == bench.sealed.payload_digest
    assert bench.opened.payload_bytes == len(payload)
    assert bench.opened.core_id == bench.sealed.core_id
    assert str(bench.sealed.key) == str(bench.opened.key) == "team/3"
    assert dict(bench.opened.context) == bench.context


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=3000), st.booleans())
def test_any_bytes_come_back(bench, plaintext, known):
    more = {} if known else {"plaintext_bytes": None}

    assert bench.open(bench.seal(plaintext, **more)) == plaintext


class Drip(io.RawIOBase):
    """A stream that gives odd amounts, as pipes do."""

    def __init__(self, data):
        self._data, self._at, self._step = data, 0, 0

    def readinto(self, buffer):
        self._step = self._step * 7 % 65521 + 1
        part = self._data[self._at : self._at + min(len(buffer), self._step)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


class OnlyRead:
    """The least that a stream can do."""

    def __init__(self, data):
        self.read = io.BytesIO(data).read


@pytest.mark.parametrize("stream", [io.BytesIO, Drip, OnlyRead])
@pytest.mark.parametrize("length", LENGTHS[:6])
def test_a_stream_is_sealed(bench, pattern, stream, length):
    file = bench.seal(stream(pattern(length)), threads=3)

    assert bench.open(file) == pattern(length)


def test_a_pipe_is_sealed_and_opened_into_a_pipe(bench, pattern):
    plaintext = pattern(3_000_000)
    read_end, write_end = os.pipe()

    def feed():
        with os.fdopen(write_end, "wb") as stream:
            stream.write(plaintext)

    feeder = threading.Thread(target=feed)
    feeder.start()
    file = bench.seal(read_end)
    feeder.join()
    os.close(read_end)
    out = io.BytesIO()
    opened = open_object(bench.put(file), out, keys=[bench.kek], expect=ANY_CONTEXT, threads=3)

    assert out.getvalue() == plaintext
    assert opened.payload_digest == bench.sealed.payload_digest


def test_a_raw_stream_that_takes_little_gets_all(bench, pattern):
    class Narrow(io.RawIOBase):
        got = b""

        def write(self, data):
            self.got += bytes(data[:100_001])
            return min(len(data), 100_001)

    sink = Narrow()
    file = bench.seal(pattern(2_500_000))

    open_object(bench.put(file), sink, keys=[bench.kek], expect=ANY_CONTEXT)

    assert sink.got == pattern(2_500_000)


def test_a_descriptor_and_a_pinned_object_are_sealed(bench, pattern, tmp_path):
    plaintext = pattern(2_000_000)
    (tmp_path / "plain").write_bytes(plaintext)
    with open(tmp_path / "plain", "rb") as file:
        from_descriptor = bench.seal(file.fileno())
        assert not file.closed

    from_object = bench.seal(bench.put(plaintext, "file:///data/plain"))

    assert bench.open(from_descriptor) == bench.open(from_object) == plaintext


def test_two_sealings_share_no_key_salt_or_prefix(bench):
    one, two = bench.seal(b"same"), bench.seal(b"same")

    assert read_sealed_header(bench.put(one)).core.commitment != (
        read_sealed_header(bench.put(two)).core.commitment
    )
    assert one[512:553] != two[512:553]


def test_blake3_or_no_digest_is_taken_when_asked(bench):
    file = bench.seal(b"hello", digest_algorithm="blake3")
    digest = "blake3:" + blake3.blake3(file[512:]).hexdigest()

    assert bench.sealed.payload_digest == digest
    bench.open(file, expected_payload_digest=digest)
    assert bench.opened.payload_digest == digest
    bench.seal(b"hello", digest_algorithm=None)
    assert bench.sealed.payload_digest is None


@pytest.mark.parametrize("length", [0, 1048520, 3_000_000])
def test_a_payloads_digest_needs_no_key(bench, pattern, length):
    file = bench.seal(pattern(length))

    found = digest_payload(bench.put(file))

    assert found.payload_digest == bench.sealed.payload_digest
    assert found.core_id == bench.sealed.core_id
    assert (found.payload_bytes, found.plaintext_bytes) == (bench.sealed.payload_bytes, length)


def test_another_payload_under_the_same_core_is_refused(bench, reference):
    file = bench.seal(b"hello")
    file_key = bench.kek.unwrap(
        read_sealed_header(bench.put(file)).slots[0].body, bench.sealed.core_id
    )
    core = file[: int.from_bytes(file[10:12], "big")]
    forged = file[:512] + reference.payload(file_key, core, b"jello", bytes(32), bytes(7))

    assert bench.open(forged) == b"jello"
    with pytest.raises(IntegrityError, match="sealed anew under the same header"):
        bench.open(forged, expected_payload_digest=bench.sealed.payload_digest)
    with pytest.raises(IntegrityError, match="expected 62"):
        bench.open(forged, expected_payload_bytes=62)


def test_a_refused_digest_publishes_nothing(bench):
    file = bench.seal(b"hello")

    with pytest.raises(IntegrityError):
        bench.open(file, expected_payload_digest="sha256:" + "0" * 64)

    assert "file:///data/opened" not in bench.store.objects


def test_the_context_is_compared_before_any_key_is_used(bench):
    class Loud:
        slot_type, slot_id = 1, "team/3"

        def unwrap(self, body, core_id):
            raise AssertionError("called")

    file = bench.seal(b"hello")

    with pytest.raises(PolicyError) as caught:
        bench.open(file, keys=[Loud()], expect={"dataset": "d2"})

    assert caught.value.why == "context_differs"


@pytest.mark.parametrize("data", [b"", b"PAR1", b"plain,file\n1,2\n" * 100, b"\x89ASML\r\n\x1a"])
def test_a_plain_file_is_refused(bench, data):
    with pytest.raises(FormatError) as caught:
        bench.open(data)

    assert caught.value.why == "not_sealed"


@pytest.mark.parametrize("threads", [0, 65])
def test_a_number_of_threads_outside_the_limits_is_refused(bench, threads):
    with pytest.raises(ConfigurationError, match="1 to 64"):
        bench.seal(b"hello", threads=threads)


def test_keys_outside_the_limits_are_refused(bench, kek):
    for keys in ([], [bench.kek, bench.kek], [kek(f"k/{i}") for i in range(65)]):
        with pytest.raises(ConfigurationError):
            bench.seal(b"hello", keys=keys)


def test_randomness_of_another_length_is_refused(bench):
    with pytest.raises(ConfigurationError, match="randomness"):
        bench.seal(b"hello", random_bytes=lambda length: b"x" * (length - 1))


def test_a_fifo_device_or_directory_is_refused(bench, tmp_path):
    os.mkfifo(tmp_path / "fifo")

    for path in (tmp_path / "fifo", "/dev/null", tmp_path):
        with pytest.raises(FormatError, match="not a regular file"):
            bench.seal(path)


def test_no_source_at_all_is_refused(bench):
    with pytest.raises(ConfigurationError, match="expected a path"):
        bench.seal(3.5)


@pytest.mark.parametrize("announced", [0, 4, 6, 3_000_000])
def test_a_stream_or_file_of_another_length_is_refused(bench, tmp_path, announced):
    (tmp_path / "plain").write_bytes(b"hello")

    for source in (io.BytesIO(b"hello"), tmp_path / "plain"):
        with pytest.raises(IntegrityError, match="expected"):
            bench.seal(source, plaintext_bytes=announced)


def test_a_stream_that_does_not_end_is_refused_when_its_length_is_up(bench):
    class Endless(io.RawIOBase):
        def readinto(self, buffer):
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    with pytest.raises(IntegrityError, match="expected a stream of 2000000 bytes, found more"):
        bench.seal(Endless(), plaintext_bytes=2_000_000)


def test_a_stream_that_does_not_wait_is_refused(bench):
    class Impatient(io.RawIOBase):
        def readinto(self, buffer):
            return None

    with pytest.raises(ConfigurationError, match="waits"):
        bench.seal(Impatient())


class Meddler:
    """A writer that lets somebody change the source after the first segment."""

    def __init__(self, meddle):
        self._meddle = meddle

    def write_at(self, offset, data):
        if offset and self._meddle:
            self._meddle, meddle = None, self._meddle
            meddle()


def overwrite(path):
    with open(path, "r+b") as file:
        file.write(b"changed")


def restore_times(path):
    before = path.stat()
    overwrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "meddle",
    [
        overwrite,
        restore_times,
        lambda path: os.truncate(path, 2_000_000),
        lambda path: os.truncate(path, 4_000_000),
    ],
    ids=["bytes", "bytes and mtime put back", "shorter", "longer"],
)
def test_a_file_that_changes_while_it_is_read_is_refused(bench, pattern, tmp_path, meddle):
    path = tmp_path / "plain"
    path.write_bytes(pattern(3_000_000))
    os.utime(path, ns=(1, 1))
    writer = Meddler(lambda: meddle(path))

    with pytest.raises(IntegrityError, match="changed while it was read"):
        seal_object(path, writer, keys=[bench.kek], context=bench.context, threads=1)


def test_a_pinned_source_that_changes_is_refused(bench, pattern):
    source = bench.put(pattern(3_000_000), "file:///data/plain")
    change = bench.store.change_in_place
    writer = Meddler(lambda: change("file:///data/plain", b"other"))

    with pytest.raises(IntegrityError, match="changed while it was read"):
        seal_object(source, writer, keys=[bench.kek], context=bench.context)


def test_a_sealed_object_that_changes_while_it_is_opened_is_refused(bench, pattern):
    obj = bench.put(bench.seal(pattern(3_000_000)))
    writer = Meddler(lambda: bench.store.change_in_place(bench.uri, b"other"))

    with pytest.raises(IntegrityError, match="changed while it was read"):
        open_object(obj, writer, keys=[bench.kek], expect=ANY_CONTEXT)


def test_a_sealed_object_that_is_cut_while_it_is_opened_is_refused(bench, pattern):
    obj = bench.put(bench.seal(pattern(3_000_000)))

    class Cut:
        uri, size_bytes, version = obj.uri, obj.size_bytes, obj.version
        read_at = staticmethod(obj.read_at)
        calls = 0

        def readinto_at(self, offset, buffer):
            self.calls += 1
            return 0 if self.calls > 3 else obj.readinto_at(offset, buffer)

    with pytest.raises(CiphertextError, match="cuts it meanwhile"):
        open_object(Cut(), Meddler(None), keys=[bench.kek], expect=ANY_CONTEXT)


@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_in_one_thread_stops_all_and_is_told(bench, pattern, threads):
    class Full:
        def write_at(self, offset, data):
            if offset > 3 * MIB:
                raise OSError(28, "No space left on device")

    before = threading.active_count()

    with pytest.raises(OSError, match="No space left"):
        seal_object(
            io.BytesIO(pattern(12_000_000)),
            Full(),
            keys=[bench.kek],
            context=bench.context,
            threads=threads,
        )

    assert threading.active_count() == before


def test_an_interrupt_in_the_callers_thread_stops_all(bench, pattern):
    class Interrupted(BaseException):
        pass

    struck = threading.Event()

    class Interrupting:
        def write_at(self, offset, data):
            if offset and threading.current_thread() is threading.main_thread():
                struck.set()
                raise Interrupted
            assert not offset or struck.wait(60)

    before, source = threading.active_count(), io.BytesIO(pattern(30_000_000))

    with pytest.raises(Interrupted):
        seal_object(source, Interrupting(), keys=[bench.kek], context=bench.context, threads=3)

    assert threading.active_count() == before
    assert source.tell() < 30_000_000


def test_progress_is_told_in_order(bench, pattern):
    seen = []

    file = bench.seal(pattern(5_000_000), threads=4, progress=seen.append)
    bench.open(file, threads=4, progress=seen.append)

    assert seen == [1048520, 2097080, 3145640, 4194200, 5_000_000] * 2


def test_no_key_is_shown_or_left_behind(bench):
    fresh = bytearray()

    def random_bytes(length):
        fresh.extend(os.urandom(length))
        return bytes(fresh[-length:])

    bench.seal(b"hello", random_bytes=random_bytes)

    file_key = bytes(fresh[:32])
    assert file_key.hex() not in repr(bench.sealed)
    assert file_key not in bench.store.objects["file:///data/sealed"]


def test_the_file_key_is_wiped_after_use(bench):
    taken = []

    class Spy(type(bench.kek)):
        def wrap(self, file_key, core_id):
            taken.append(file_key)
            return super().wrap(file_key, core_id)

        def unwrap(self, body, core_id):
            taken.append(super().unwrap(body, core_id))
            return taken[-1]

    spy = Spy(bytes(range(32)), slot_id="team/3", ref=bench.kek.ref)

    bench.open(bench.seal(b"hello", keys=[spy]), keys=[spy])

    assert [bytes(key) for key in taken] == [bytes(32), bytes(32)]
