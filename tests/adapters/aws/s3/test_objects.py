"""What S3 keeps, and what it costs in requests."""

from __future__ import annotations

import contextlib
import io
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.adapters.aws.s3.parts import PART_BYTES
from airflow_secure_ml.adapters.aws.s3.pinned import FIRST_BYTES
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import KekWrapper
from airflow_secure_ml.errors import FormatError, IntegrityError, PolicyError
from airflow_secure_ml.services.sealing import open_object, seal_object

MIB = 1 << 20
# A sealed file's first segment holds so much, and each later one.
SEGMENT_0, SEGMENT = 1048520, 1048560
SIZES = [
    *(edge + by for edge in (SEGMENT_0, SEGMENT_0 + SEGMENT) for by in (-1, 0, 1)),
    *(FIRST_BYTES - 4096 - 16 - 40 + by for by in (-1, 0, 1)),
    # Headers are of 4096 bytes here, each of 8 segments costs 16, the first 40 more.
    *(PART_BYTES - 4096 - 8 * 16 - 40 + by for by in (-1, 0, 1)),
    *(0, 1, 20 * MIB + 7),
]


@pytest.fixture(scope="module")
def data():
    return random.Random(5).randbytes(max(SIZES))


@pytest.fixture
def kek():
    ref = KeyRef(system="local", name="team", version="3")
    return KekWrapper(bytes(range(32)), slot_id="team/3", ref=ref)


@pytest.mark.parametrize("bucket", ["versioned"], indirect=True)
@pytest.mark.parametrize("size", sorted(set(SIZES)))
def test_what_was_sealed_into_s3_opens(store, bucket, data, kek, size):
    plain = memoryview(data)[:size]
    uri = f"s3://{bucket}/sealed"
    opened = io.BytesIO()

    with store.create(uri) as writer:
        sealed = seal_object(io.BytesIO(plain), writer, keys=[kek], context={"a": "b"})
        version = writer.commit(replace=False)
    with store.open(uri) as pinned:
        found = open_object(pinned, opened, keys=[kek], expect={"a": "b"})
        assert pinned.version == version

    assert opened.getbuffer() == plain
    assert (found.core_id, found.payload_digest) == (sealed.core_id, sealed.payload_digest)


def test_a_small_object_costs_a_look_and_a_put_and_one_get(store, bucket, put, get, requests):
    put(f"s3://{bucket}/d/x", b"x" * 1000)
    assert requests == ["ListObjectsV2", "PutObject"]
    requests.clear()

    assert get(f"s3://{bucket}/d/x") == b"x" * 1000
    assert requests == ["GetObject"]


def test_an_object_of_parts_costs_one_request_a_part_and_few_more(store, s3, put, get, requests):
    bucket = s3.new_bucket()
    size = 5 * PART_BYTES + 1
    put(f"s3://{bucket}/x", bytes(size))
    assert sorted(requests) == sorted(
        [
            "ListObjectsV2",
            "ListMultipartUploads",
            "CreateMultipartUpload",
            *["UploadPart"] * 6,
            "CompleteMultipartUpload",
        ]
    )
    requests.clear()

    with store.open(f"s3://{bucket}/x") as pinned:
        buffer = bytearray(MIB)
        for offset in range(0, size, MIB):
            pinned.readinto_at(offset, buffer)
        pinned.check_unchanged()
    # Pieces grow from 1 to 8 MiB; one look brings the checksum of the whole.
    assert requests.count("GetObject") <= 10
    assert requests.count("HeadObject") == 1


def test_reads_here_and_there_fetch_little_more_than_they_use(store, s3, put, client):
    bucket = s3.new_bucket()
    put(f"s3://{bucket}/x", bytes(64 * MIB))
    fetched = []
    client.meta.events.register(
        "after-call.s3.GetObject",
        lambda parsed, **_: fetched.append(parsed["ContentLength"]),
    )

    with store.open(f"s3://{bucket}/x") as pinned:
        for offset in (60, 3, 40, 17, 33, 9):
            assert pinned.read_at(offset * MIB, 64 << 10) == bytes(64 << 10)

    assert sum(fetched) == FIRST_BYTES + 6 * (64 << 10)


def test_reads_from_many_threads_get_what_is_there(store, bucket, put, data):
    put(f"s3://{bucket}/x", data)

    with store.open(f"s3://{bucket}/x") as pinned, ThreadPoolExecutor(6) as pool:

        def is_right(offset):
            length = min(700_001, len(data) - offset)
            return pinned.read_at(offset, length) == data[offset : offset + length]

        assert all(pool.map(is_right, range(0, len(data), 700_001)))
        pinned.check_unchanged()


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_an_object_that_changes_between_reads_is_refused(store, s3, put, how):
    uri = f"s3://{s3.new_bucket()}/x"
    put(uri, bytes(2 * MIB))
    with store.open(uri) as pinned:
        pinned.read_at(MIB, 10)
        if how == "replaced":
            put(uri, b"\1" * 2 * MIB, replace=True)
        else:
            store.delete(uri)

        with pytest.raises(IntegrityError, match="meanwhile"):
            pinned.read_at(MIB + 10, 10)


def test_a_version_is_read_whatever_came_later(store, s3, put):
    uri = f"s3://{s3.new_bucket(versioned=True)}/x"
    put(uri, bytes(2 * MIB))
    with store.open(uri) as pinned:
        put(uri, b"\1" * 2 * MIB, replace=True)
        store.delete(uri)

        assert pinned.read_at(0, 2 * MIB) == bytes(2 * MIB)
        pinned.check_unchanged()


def test_a_version_that_is_destroyed_while_it_is_read_is_refused(store, s3, put, client):
    bucket = s3.new_bucket(versioned=True)
    uri = f"s3://{bucket}/x"
    version = put(uri, bytes(2 * MIB))
    with store.open(uri) as pinned:
        client.delete_object(Bucket=bucket, Key="x", VersionId=version)

        with pytest.raises(IntegrityError):
            pinned.read_at(MIB, 10)


@pytest.mark.parametrize("size", [10, PART_BYTES + 1], ids=["small", "parts"])
@pytest.mark.parametrize("how", ["new", "that version"])
def test_of_writers_at_once_the_first_wins_and_the_others_are_refused(
    store, bucket, put, get, size, how
):
    uri = f"s3://{bucket}/x"
    version = put(uri, b"old") if how == "that version" else None
    replace, refusal = version is not None, IntegrityError if version else PolicyError

    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(store.create(uri)) for _ in range(4)]
        for number, writer in enumerate(writers):
            writer.write_at(0, bytes([number]) * size)
        # One after another: this server looks at a condition first, and acts on it then, so two
        # requests of the same moment may both pass. S3 itself does both in one step.
        writers[2].commit(replace=replace, if_version=version)
        for number in (0, 1, 3):
            with pytest.raises(refusal):
                writers[number].commit(replace=replace, if_version=version)

    assert get(uri) == b"\2" * size


def test_a_whole_bucket_is_no_object(store, bucket):
    for act in (store.open, store.create, store.delete):
        with pytest.raises(FormatError, match="whole bucket"):
            act(f"s3://{bucket}")


def test_bytes_that_were_never_written_are_not_published(store, bucket):
    for holes in ([(1, 5)], [(0, 5), (6, 5)], [(0, PART_BYTES), (PART_BYTES + 1, 5)]):
        with store.create(f"s3://{bucket}/x") as writer:
            for offset, length in holes:
                writer.write_at(offset, b"x" * length)
            with pytest.raises(IntegrityError, match="never written"):
                writer.commit(replace=False)

    assert store.info(f"s3://{bucket}/x") is None


def test_what_was_sent_is_not_written_again(store, bucket):
    with store.create(f"s3://{bucket}/x") as writer:
        writer.write_at(0, bytes(PART_BYTES + 1))

        with pytest.raises(ValueError, match="sent already"):
            writer.write_at(0, b"x")


def test_writing_far_ahead_is_stopped_before_memory_is_full(store, bucket):
    with store.create(f"s3://{bucket}/x") as writer:
        for part in range(16):
            writer.write_at(part * PART_BYTES + 1, b"x")

        with pytest.raises(ValueError, match="more or less in order"):
            writer.write_at(16 * PART_BYTES, b"x")


def test_deleting_what_never_was_leaves_no_marker(store, s3, client):
    bucket = s3.new_bucket(versioned=True)

    store.delete(f"s3://{bucket}/x")

    assert "DeleteMarkers" not in client.list_object_versions(Bucket=bucket)


def test_two_stores_share_nothing_but_the_bucket(s3, bucket, put):
    put(f"s3://{bucket}/x", b"one")
    other = s3.client()

    with S3Objects(lambda _: other).open(f"s3://{bucket}/x") as pinned:
        assert pinned.read_at(0, 9) == b"one"


def test_reading_after_it_was_let_go_is_an_error(store, bucket, put):
    put(f"s3://{bucket}/x", b"one")
    with store.open(f"s3://{bucket}/x") as pinned:
        pass

    with pytest.raises(ValueError, match="let go"):
        pinned.read_at(0, 1)


def test_writing_nothing_far_away_makes_no_hole(store, bucket, get):
    uri = f"s3://{bucket}/x"

    with store.create(uri) as writer:
        writer.write_at(10, b"")
        writer.write_at(0, b"hello")
        writer.commit(replace=False)

    assert get(uri) == b"hello"
