"""Memory stays flat, however large the object is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dags_examples.demo.s3_server import RunningS3

ROOT = Path(__file__).parents[4]
MIB = 1 << 20
# What else is written meanwhile.
SPARE_MIB = 1024
SCRIPT = """
import resource, sys
import boto3
from botocore.config import Config
from airflow_secure_ml.adapters.aws.s3 import S3Objects

url, ca, bucket, mib = sys.argv[1:5]
key, secret = sys.stdin.readline().split()
client = boto3.client(
    "s3", endpoint_url=url, verify=ca, region_name="us-east-1", aws_access_key_id=key,
    aws_secret_access_key=secret,
    config=Config(s3={"addressing_style": "path"}, max_pool_connections=32),
)
store, step, peak = S3Objects(lambda _: client), 1 << 20, []

def move(count):
    data = bytes(step)
    with store.create(f"s3://{bucket}/x") as writer:
        for number in range(count):
            writer.write_at(number * step, data)
        writer.commit(replace=True)
    buffer = bytearray(step)
    with store.open(f"s3://{bucket}/x") as pinned:
        for number in range(count):
            assert pinned.readinto_at(number * step, buffer) == step
        pinned.check_unchanged()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)

move(1)
move(int(mib))
"""


def require_disk(folder, mib):
    """Skip a test of an object so large where it does not fit.

    The server keeps the parts until the object that it makes of them is there: twice as much.
    """
    need, free = 2 * mib + SPARE_MIB, shutil.disk_usage(folder).free // MIB
    if free < need:
        pytest.skip(f"NEEDS {need:,} MiB of disk below {folder}, {free:,} are free")


def peaks(s3, bucket, mib):
    """Resident MiB at most, after an object of one MiB and after a large one."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, s3.url, str(s3.ca), bucket, str(mib)],
        input=f"{s3.access_key} {s3.secret_key!s}\n", cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def check_memory(s3, mib):
    require_disk(s3.data, mib)
    bucket = s3.new_bucket()

    try:
        small, large = peaks(s3, bucket, mib)
    finally:
        s3.client().delete_object(Bucket=bucket, Key="x")

    # Four parts on their way and two being filled; then six pieces on theirs, one that is read, and
    # one before it: of 8 MiB each.
    assert large - small < 12 * 8


def test_a_large_object_takes_no_more_memory_than_its_buffers(s3):
    check_memory(s3, 1024)


@pytest.mark.long
def test_a_very_large_object_takes_no_more_memory_than_its_buffers(s3_binary, tmp_path):
    # More parts than the attributes of one file have room for.
    with RunningS3(binary=s3_binary, folder=tmp_path, attributes_in_files=True) as server:
        check_memory(server, 8192)
