"""The S3 server of tests and the demo: real, on loopback over TLS, and gone with its owner."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, SSLError

from dags_examples.demo.certificates import CertificateAuthority
from dags_examples.demo.s3_server import RunningS3

ROOT = Path(__file__).parents[2]
CANARY = b"what is stored in a bucket"
# Starts a server, says its process, and waits to be killed.
STARTER = """
import sys, time
from pathlib import Path
from dags_examples.demo.s3_server import RunningS3
with RunningS3(binary=Path(sys.argv[1]), folder=Path(sys.argv[2])) as s3:
    print(s3.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def own_s3(s3_binary, tmp_path):
    """A server of the test's own."""
    with RunningS3(binary=s3_binary, folder=tmp_path / "s3") as running:
        yield running


def test_what_is_put_is_got(s3):
    bucket = s3.new_bucket()

    s3.client().put_object(Bucket=bucket, Key="a/b", Body=CANARY)

    assert s3.client().get_object(Bucket=bucket, Key="a/b")["Body"].read() == CANARY


def test_a_plain_bucket_keeps_the_newest_alone(s3):
    bucket, client = s3.new_bucket(), s3.client()

    put = [client.put_object(Bucket=bucket, Key="a", Body=body) for body in (b"old", b"new")]

    assert [one.get("VersionId") for one in put] == [None, None]
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"new"


def test_a_versioned_bucket_keeps_every_version(s3):
    bucket, client = s3.new_bucket(versioned=True), s3.client()

    put = [client.put_object(Bucket=bucket, Key="a", Body=body) for body in (b"old", b"new")]

    old = client.get_object(Bucket=bucket, Key="a", VersionId=put[0]["VersionId"])
    assert old["Body"].read() == b"old"


def test_a_locked_object_is_not_deleted(s3):
    bucket, client = s3.new_bucket(locked=True), s3.client()
    until = datetime.now(UTC) + timedelta(days=1)
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until}
    put = client.put_object(Bucket=bucket, Key="a", Body=CANARY, **lock)

    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=bucket, Key="a", VersionId=put["VersionId"])


def test_a_wrong_checksum_is_refused(s3):
    wrong = {"ChecksumSHA256": "A" * 43 + "="}

    with pytest.raises(ClientError, match="BadDigest"):
        s3.client().put_object(Bucket=s3.new_bucket(), Key="a", Body=CANARY, **wrong)


def test_a_wrong_secret_is_refused(s3):
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3.client(aws_secret_access_key="wrong").list_buckets()


def test_who_trusts_another_authority_does_not_speak_to_it(s3, tmp_path):
    other = CertificateAuthority.make(tmp_path / "other.pem")

    with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        s3.client(verify=str(other.file)).list_buckets()


def test_it_names_the_uploads_that_are_open(own_s3):
    bucket, client = own_s3.new_bucket(), own_s3.client()
    open_one = client.create_multipart_upload(Bucket=bucket, Key="a/b c")["UploadId"]

    during = list(own_s3.uploads())
    client.abort_multipart_upload(Bucket=bucket, Key="a/b c", UploadId=open_one)

    assert during == [f"s3://{bucket}/a/b c"]
    assert list(own_s3.uploads()) == []


def test_a_stopped_one_goes_on_where_it_was(own_s3):
    bucket, url = own_s3.new_bucket(), own_s3.url
    own_s3.client().put_object(Bucket=bucket, Key="a", Body=CANARY)

    own_s3.stop()
    with pytest.raises(EndpointConnectionError):
        own_s3.client().list_buckets()
    own_s3.start()

    assert own_s3.url == url
    assert own_s3.client().get_object(Bucket=bucket, Key="a")["Body"].read() == CANARY


def test_its_secret_is_where_its_owner_alone_can_read_it(own_s3):
    found = [
        file
        for file in own_s3.folder.rglob("*")
        if file.is_file() and own_s3.secret_key.encode() in file.read_bytes()
    ]

    assert found == []
    assert own_s3.secret_key not in " ".join(psutil.Process(own_s3.pid).cmdline())
    assert own_s3.secret_key not in repr(own_s3)
    assert own_s3.folder.stat().st_mode & 0o077 == 0


def test_it_ends_with_a_killed_owner(s3_binary, tmp_path):
    command = [sys.executable, "-c", STARTER, str(s3_binary), str(tmp_path / "s3")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        server = psutil.Process(int(owner.stdout.readline()))

        owner.kill()

    deadline = time.monotonic() + 30
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
