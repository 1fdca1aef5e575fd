"""A writer killed between any two of its requests: readers have one whole directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.config import Config

FILES = {"a.csv": b"first a", "b/c.csv": b"first c", "gone.csv": b"first gone"}
NEXT = {"a.csv": b"next a", "b/c.csv": b"next c", "new.csv": b"next new"}
LAST = {"a.csv": b"last a"}
PROGRAM = Path(__file__).with_name("killed_directory_writer.py")
# Two to begin, four files, a look and the listing; what follows a commit is tidying.
REQUESTS, COMMIT = 10, 8
# After one request is before the next one, but for what the program does in between.
WHEN = ["before", pytest.param("after", marks=pytest.mark.long)]


@pytest.fixture
def client(s3):
    return s3.client(
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    )


@pytest.fixture
def kill(s3):
    def kill(bucket, number, when):
        keys = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": str(s3.secret_key)}
        command = [sys.executable, str(PROGRAM), s3.url, str(s3.ca), bucket, str(number), when]
        answer = subprocess.run(
            command, env=os.environ | keys, capture_output=True, timeout=60, check=False
        )
        assert answer.returncode in (0, -9), answer.stderr.decode()
        return answer.returncode == 0

    return kill


def _write(store, uri, files, *, replace=False):
    with store.create_directory(uri) as builder:
        for name, data in files.items():
            with builder.create(name) as writer:
                writer.write_at(0, data)
                writer.commit(replace=False)
        builder.commit(replace=replace)


def _read(store, uri):
    if store.info(uri) is None:
        return None
    with store.open_directory(uri) as directory:
        found = {}
        for name in directory.names():
            with directory.open(name) as pinned:
                found[name] = pinned.read_at(0, pinned.size_bytes)
        return found


def _versions(client, bucket):
    page = client.list_object_versions(Bucket=bucket)
    found = {(each["Key"], each["VersionId"]) for each in page.get("Versions", [])}
    return {one for one in found if not one[0].endswith("_asml/listing")}


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("number", range(1, REQUESTS + 1))
def test_a_killed_replacement_is_the_old_directory_or_the_new_one(
    store, client, s3, kill, number, when
):
    bucket = s3.new_bucket(versioned=True)
    uri = f"s3://{bucket}/d"
    _write(store, uri, FILES)
    before = _versions(client, bucket)

    kill(bucket, number, when)

    found = _read(store, uri)
    committed = _versions(client, bucket) if found == NEXT else before
    assert found in (FILES, NEXT)
    assert found == (NEXT if number + (when == "after") > COMMIT else FILES)
    _write(store, uri, LAST, replace=True)
    assert _read(store, uri) == LAST
    after = _versions(client, bucket)
    assert committed <= after
    assert {key for key, _ in after - committed} == {"d/a.csv"}


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("number", [4, COMMIT])
@pytest.mark.parametrize("has_versions", [True, False], ids=["versioned", "plain"])
def test_a_killed_first_write_is_nothing_or_the_whole(
    store, client, s3, kill, number, when, has_versions
):
    bucket = s3.new_bucket(versioned=has_versions)
    uri = f"s3://{bucket}/d"

    kill(bucket, number, when)

    found = _read(store, uri)
    assert found in (None, NEXT)
    if found is None:
        _write(store, uri, LAST)
        assert _read(store, uri) == LAST
        assert {key for key, _ in _versions(client, bucket)} == {"d/a.csv"}
