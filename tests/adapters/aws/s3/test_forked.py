"""A process that forks while S3 is read and written: the child has its own of everything."""

from __future__ import annotations

import os
import random
import select
import signal

import pytest

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.adapters.aws.s3.parts import PART_BYTES
from airflow_secure_ml.adapters.aws.session import AwsIdentity, AwsSession
from airflow_secure_ml.core.secret import Secret

MIB = 1 << 20
DATA = random.Random(3).randbytes(12 * MIB)


@pytest.fixture
def bucket(s3):
    return s3.new_bucket(versioned=True)


@pytest.fixture
def session(s3):
    return AwsSession(
        AwsIdentity(
            name="connection x",
            access_key=s3.access_key,
            secret_key=Secret(str(s3.secret_key)),
            endpoint=s3.url,
            ca=str(s3.ca),
            region="us-east-1",
        )
    )


@pytest.fixture
def store(session):
    return S3Objects(lambda bucket: session.client("s3"))


def in_a_child(act):
    """What `act` returns in a forked child; None: it did not end."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        said = b""
        try:
            said = act()
        except BaseException as error:
            said = type(error).__name__.encode()
        finally:
            os.write(write, said)
            os._exit(0)
    os.close(write)
    try:
        if not select.select([read], [], [], 20)[0]:
            return None
        return os.read(read, 1 << 16)
    finally:
        os.close(read)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_child_forked_while_another_thread_looks_a_bucket_up_does_not_wait(store, bucket, put):
    put(f"s3://{bucket}/x", b"data")
    store.place(f"s3://{bucket}/x")
    lock = getattr(store, "_lock", None)
    if lock is not None:
        lock.acquire()

    def read():
        with store.open(f"s3://{bucket}/x") as pinned:
            return pinned.read_at(0, 9)

    assert in_a_child(read) == b"data"


def test_what_was_opened_before_a_fork_is_read_by_both(store, session, bucket, put):
    put(f"s3://{bucket}/x", DATA)
    with store.open(f"s3://{bucket}/x") as pinned:
        at = pinned.size_bytes // 2
        assert pinned.read_at(0, 3 * MIB) == DATA[: 3 * MIB]

        def read():
            whole = b"".join(pinned.read_at(n * MIB, MIB) for n in range(12))
            pinned.check_unchanged()
            is_own = pinned.place.bucket.client is session.client("s3")
            return b"right" if is_own and whole == DATA else b"wrong"

        told = in_a_child(read)

        assert pinned.read_at(at, MIB) == DATA[at : at + MIB]
    assert told == b"right"


def test_a_child_ends_no_upload_of_its_parent(store, s3, bucket):
    with store.create(f"s3://{bucket}/x") as writer:
        writer.write_at(0, DATA[:PART_BYTES])

        def unwind():
            writer.abort()
            return b"done"

        assert in_a_child(unwind) == b"done"
        writer.write_at(PART_BYTES, DATA[PART_BYTES:])
        writer.commit(replace=False)

    with store.open(f"s3://{bucket}/x") as pinned:
        assert pinned.read_at(0, pinned.size_bytes) == DATA


def test_a_child_cannot_go_on_with_its_parents_upload(store, bucket):
    with store.create(f"s3://{bucket}/x") as writer:
        writer.write_at(0, DATA[:PART_BYTES])

        def write():
            writer.write_at(PART_BYTES, DATA[PART_BYTES:])
            return b"written"

        assert in_a_child(write) == b"ValueError"


def test_a_child_takes_back_no_directory_of_its_parent(store, bucket):
    with store.create_directory(f"s3://{bucket}/d") as directory:
        with directory.create("a") as writer:
            writer.write_at(0, b"1")
            writer.commit(replace=False)

        def unwind():
            directory.abort()
            return b"done"

        assert in_a_child(unwind) == b"done"
        directory.commit(replace=False)

    assert list(store.walk(f"s3://{bucket}/d")) == ["a"]
