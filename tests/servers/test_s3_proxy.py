"""The proxy before S3 does to each request what it was told, and nothing to the others."""

from __future__ import annotations

import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    SSLError,
)

from tests.servers.proxy import Cut, CutRequest, Lose
from tests.servers.s3_proxy import DropHeaders, FlipByte, OtherBody, SetHeaders, before, s3_error

BODY = bytes(range(256)) * 64
# An end without TLS' own is an error of TLS.
CUT = (
    ConnectionClosedError,
    HTTPClientError,
    ResponseStreamingError,
    IncompleteReadError,
    SSLError,
)


@pytest.fixture
def bucket(s3):
    return s3.new_bucket(versioned=True)


@pytest.fixture
def client(s3, s3_proxy):
    return s3.client(endpoint_url=s3_proxy.url)


@pytest.fixture
def stored(s3, bucket):
    """An object with a checksum, put past the proxy."""
    s3.client().put_object(Bucket=bucket, Key="a b/ü", Body=BODY, ChecksumAlgorithm="CRC64NVME")
    return {"Bucket": bucket, "Key": "a b/ü"}


def read(client, stored, **more):
    return client.get_object(**stored, **more)["Body"].read()


def test_signed_requests_pass_whatever_their_key(s3, s3_proxy, client, bucket):
    for key in ("a", "a b/ü%20+&=#", "x/y.z~"):
        client.put_object(Bucket=bucket, Key=key, Body=BODY, ChecksumAlgorithm="CRC64NVME")

        assert s3.client().get_object(Bucket=bucket, Key=key)["Body"].read() == BODY
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == BODY
        assert client.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(BODY)

    assert (s3_proxy.count(method="PUT"), s3_proxy.count(method="GET")) == (3, 3)


def test_parts_pass_and_are_told_apart(s3, s3_proxy, client, bucket):
    place = {"Bucket": bucket, "Key": "parts"}
    upload = client.create_multipart_upload(**place)["UploadId"]
    s3_proxy.will(s3_error("SlowDown", method="PUT", has="partNumber=2"))

    for number in (1, 2):
        part = {"UploadId": upload, "PartNumber": number, "Body": BODY}
        if number == 2:
            with pytest.raises(ClientError, match="SlowDown"):
                client.upload_part(**place, **part)
        client.upload_part(**place, **part)
    client.abort_multipart_upload(**place, UploadId=upload)

    assert s3_proxy.count(has="partNumber=1") == 1
    assert s3_proxy.count(has="partNumber=2") == 2


@pytest.mark.parametrize("after_bytes", [0, 1, 1000], ids="after={}".format)
def test_a_request_cut_in_its_body_stores_nothing(s3, s3_proxy, client, bucket, after_bytes):
    s3_proxy.will(CutRequest(after_bytes=after_bytes, method="PUT"))

    with pytest.raises(CUT):
        client.put_object(Bucket=bucket, Key="cut", Body=BODY)

    assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("after_bytes", [None, 0, 1000], ids="after={}".format)
def test_an_answer_is_cut(s3_proxy, client, stored, after_bytes):
    s3_proxy.will(Cut(after_bytes=after_bytes, method="GET"))

    with pytest.raises(CUT):
        read(client, stored)

    assert read(client, stored) == BODY


def test_a_lost_request_is_not_seen_by_the_store(s3, s3_proxy, client, bucket):
    s3_proxy.will(Lose())

    with pytest.raises(CUT):
        client.put_object(Bucket=bucket, Key="lost", Body=BODY)

    assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket)


def test_a_write_whose_answer_is_cut_was_done(s3, s3_proxy, client, bucket):
    s3_proxy.will(Cut(method="PUT"))

    with pytest.raises(CUT):
        client.put_object(Bucket=bucket, Key="done", Body=BODY)

    assert s3.client().get_object(Bucket=bucket, Key="done")["Body"].read() == BODY


@pytest.mark.parametrize(
    ("code", "status"), [("SlowDown", 503), ("ExpiredToken", 400), ("NoSuchKey", 404)]
)
def test_an_error_is_answered_as_a_store_does(s3_proxy, client, stored, code, status):
    s3_proxy.will(s3_error(code))

    with pytest.raises(ClientError) as raised:
        read(client, stored)

    answer = raised.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)


def test_an_act_waits_until_as_many_have_passed(s3_proxy, client, stored):
    s3_proxy.will(s3_error("InternalError", method="GET", skip=2, times=1))

    assert [read(client, stored), read(client, stored)] == [BODY, BODY]
    with pytest.raises(ClientError, match="InternalError"):
        read(client, stored)
    assert read(client, stored) == BODY


def test_a_client_that_retries_gets_through(s3, s3_proxy, stored):
    retries = Config(
        retries={"mode": "standard", "total_max_attempts": 3}, s3={"addressing_style": "path"}
    )
    s3_proxy.will(s3_error("SlowDown"))

    assert read(s3.client(endpoint_url=s3_proxy.url, config=retries), stored) == BODY
    assert s3_proxy.count() == 2


@pytest.mark.parametrize(
    "act",
    [
        FlipByte(at=0),
        FlipByte(at=-1),
        OtherBody(body=BODY[::-1]),
        SetHeaders(headers={"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}),
    ],
    ids=["first byte", "last byte", "other body", "other checksum"],
)
def test_an_altered_answer_does_not_fit_its_checksum(s3_proxy, client, stored, act):
    s3_proxy.will(act)

    with pytest.raises(FlexibleChecksumError):
        read(client, stored, ChecksumMode="ENABLED")

    assert read(client, stored, ChecksumMode="ENABLED") == BODY


def test_headers_are_left_out_of_an_answer(s3_proxy, client, stored):
    s3_proxy.will(DropHeaders(prefixes=("x-amz-version-id",)))

    assert "VersionId" not in client.head_object(**stored)
    assert "VersionId" in client.head_object(**stored)


def test_a_plain_one_speaks_http(s3, stored, tmp_path):
    with before(s3, tmp_path, plain=True) as proxy:
        assert proxy.url.startswith("http://")
        assert read(s3.client(endpoint_url=proxy.url), stored) == BODY
