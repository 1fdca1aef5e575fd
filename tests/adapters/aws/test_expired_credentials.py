"""Credentials that end while an object is on its way: told clearly, and nothing is left behind."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.errors import ServiceRefusedError
from tests.servers.s3_proxy import s3_error

MIB = 1 << 20
BODY = bytes(range(256)) * 4096 * 40
TOLD = "ExpiredToken; renew the connection's aws_session_token, or give it a role_arn"


@pytest.fixture
def store(s3, s3_proxy):
    client = s3.client(endpoint_url=s3_proxy.url)
    return S3Objects(lambda bucket: client)


@pytest.fixture
def bucket(s3):
    return s3.new_bucket(versioned=True)


def read(store, uri):
    with store.open(uri) as pinned:
        for offset in range(0, len(BODY), MIB):
            pinned.read_at(offset, MIB)


def write(store, uri):
    with store.create(uri) as writer:
        for offset in range(0, len(BODY), MIB):
            writer.write_at(offset, BODY[offset : offset + MIB])
        writer.commit(replace=False)


@pytest.mark.parametrize("skip", [0, 1, 3], ids="after {} answers".format)
def test_a_read_tells_that_they_have_expired(s3, s3_proxy, store, bucket, skip):
    s3.client().put_object(Bucket=bucket, Key="a", Body=BODY)
    s3_proxy.will(s3_error("ExpiredToken", method="GET", skip=skip, times=100))

    with pytest.raises(ServiceRefusedError, match=TOLD):
        read(store, f"s3://{bucket}/a")


@pytest.mark.parametrize("skip", [0, 1, 3], ids="after {} parts".format)
def test_a_write_tells_that_they_have_expired_and_publishes_nothing(
    s3, s3_proxy, store, bucket, skip
):
    s3_proxy.will(s3_error("ExpiredToken", method="PUT", skip=skip, times=100))

    with pytest.raises(ServiceRefusedError, match=TOLD):
        write(store, f"s3://{bucket}/a")

    assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket)
    assert [each for each in s3.uploads() if bucket in each] == []
