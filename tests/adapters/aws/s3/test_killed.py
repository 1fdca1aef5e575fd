"""A writer killed at any moment leaves the old object whole, and no upload after the next one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_secure_ml.errors import IntegrityError

ROOT = Path(__file__).parents[4]
SIZE = 9 << 20
DEADLINE_S = 120
# Started once: it forks a writer for each moment, which is killed by a timer of its own.
SCRIPT = """
import os, random, signal, sys, threading, time
import boto3
from botocore.config import Config
from airflow_secure_ml.adapters.aws.s3 import S3Objects

url, ca, bucket, size = sys.argv[1:5]
key, secret = sys.stdin.readline().split()

# It has no connection yet that two processes could share.
client = boto3.client(
    "s3", endpoint_url=url, verify=ca, region_name="us-east-1", aws_access_key_id=key,
    aws_secret_access_key=secret, config=Config(s3={"addressing_style": "path"}),
)

def write(number, moment):
    store = S3Objects(lambda _: client)
    data = bytes([number % 251 + 1]) * int(size)
    client.head_bucket(Bucket=bucket)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, moment)
    with store.create(f"s3://{bucket}/x") as writer:
        writer.write_at(0, data)
        writer.commit(replace=True)
    signal.setitimer(signal.ITIMER_REAL, 0)

print("ready", flush=True)
for line in sys.stdin:
    number, moment = line.split()
    pid = os.fork()
    if not pid:
        try:
            write(int(number), float(moment))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture
def writer(s3, bucket):
    command = [sys.executable, "-c", SCRIPT, s3.url, str(s3.ca), bucket, str(SIZE)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        print(s3.access_key, str(s3.secret_key), file=process.stdin, flush=True)
        assert process.stdout.readline() == "ready\n"

        def write(number, moment):
            print(number, moment, file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield write
        process.stdin.close()


def whole_object(store, uri):
    """The number of the one writer whose bytes the object holds from end to end."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            with store.open(uri) as pinned:
                data = pinned.read_at(0, pinned.size_bytes)
            break
        except IntegrityError:
            # Replaced while it was read, by what a dead writer had sent.
            assert time.monotonic() < deadline
    assert len(data) == SIZE
    assert data[:1] * SIZE == data
    return data[0]


def kill_at_moments(count, writer, bucket, store, put, client):
    uri = f"s3://{bucket}/x"
    put(uri, b"\xff" * SIZE)
    began = time.monotonic()
    assert writer(0, 60.0) == 0
    took = time.monotonic() - began
    there, rng, killed, late = 1, random.Random(7), 0, set()
    for number in range(1, 4 * count):
        moment = max(0.001, rng.uniform(0, took))
        status = writer(number, moment)
        assert status in (0, -9)
        killed += status == -9
        # A store may be completing a dead writer's upload still, after the next one's.
        late.add(number % 251 + 1)
        assert whole_object(store, uri) in {there} | late
        # What was on its way when the writer died may reach the store after its death.
        deadline = time.monotonic() + DEADLINE_S
        while True:
            with store.create(uri):
                pass
            if "Uploads" not in client.list_multipart_uploads(Bucket=bucket):
                break
            assert time.monotonic() < deadline
        # Also the call that completes an upload: only now is it settled whose bytes stay.
        settled = whole_object(store, uri)
        assert settled in {there} | late
        late.discard(settled)
        there = settled
        if killed == count:
            break
        if status == 0:
            # Quicker than its moment: the first may have been slower than most are.
            took = max(moment, 0.9 * took)
    return killed


@pytest.mark.parametrize("bucket", ["versioned"], indirect=True)
def test_a_killed_writer_leaves_one_whole_object(writer, bucket, store, put, client):
    assert kill_at_moments(40, writer, bucket, store, put, client) == 40


@pytest.mark.long
def test_a_writer_killed_two_hundred_times_leaves_one_whole_object(
    writer, bucket, store, put, client
):
    assert kill_at_moments(200, writer, bucket, store, put, client) == 200
