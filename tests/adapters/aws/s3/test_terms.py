"""What is asked of a store besides keeping bytes is confirmed by its answer, or nothing stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_secure_ml.adapters.aws.s3 import Asked, S3Objects
from airflow_secure_ml.adapters.aws.s3.parts import PART_BYTES
from airflow_secure_ml.adapters.aws.s3.terms import TOKEN, make_terms
from airflow_secure_ml.errors import ConfigurationError, IntegrityError, ServiceRefusedError
from tests.servers.s3_proxy import SetHeaders

NOW = datetime(2026, 11, 28, 12, 0, 0, 5, tzinfo=UTC)
SIZES = pytest.mark.parametrize("size", [10, PART_BYTES + 1], ids=["small", "parts"])
ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd"
AES256 = {"x-amz-server-side-encryption": "AES256"}


@pytest.fixture
def store_that_asks(s3, s3_proxy):
    def store_that_asks(**asked):
        client = s3.client(endpoint_url=s3_proxy.url)
        return S3Objects(lambda bucket: client, asked_of=lambda bucket: Asked(**asked))

    return store_that_asks


def write(store, uri, size, **how):
    with store.create(uri) as writer:
        writer.write_at(0, b"x" * size)
        return writer.commit(**({"replace": False} | how))


def left_in(client, bucket):
    versions = client.list_object_versions(Bucket=bucket)
    uploads = client.list_multipart_uploads(Bucket=bucket)
    return versions.get("Versions", []), versions.get("DeleteMarkers", []), uploads.get("Uploads")


def terms(*, asked=None, kept=None, **more):
    return make_terms(asked or Asked(), token="t", now=NOW, kept=kept, **more)


@SIZES
@pytest.mark.parametrize(
    "asked",
    [{"sse": "AES256"}, {"sse": "aws:kms"}, {"sse": "aws:kms", "sse_kms_key_id": ARN}],
    ids=["s3", "kms", "one key"],
)
@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "plain"])
def test_a_store_that_passes_over_encryption_keeps_nothing(
    s3, client, store_that_asks, asked, size, versioned
):
    bucket = s3.new_bucket(versioned=versioned)

    with pytest.raises(ServiceRefusedError, match="confirm encryption"):
        write(store_that_asks(**asked), f"s3://{bucket}/x", size)

    assert left_in(client, bucket) == ([], [], None)


@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "plain"])
def test_what_was_there_before_such_a_refusal_stays(s3, client, put, store_that_asks, versioned):
    bucket = s3.new_bucket(versioned=versioned)
    put(f"s3://{bucket}/x", b"old")

    with pytest.raises(ServiceRefusedError):
        write(store_that_asks(sse="AES256"), f"s3://{bucket}/x", 10, replace=True)

    assert client.get_object(Bucket=bucket, Key="x")["Body"].read() == b"old"


@SIZES
def test_a_store_that_stops_confirming_has_it_taken_back(
    s3, client, s3_proxy, size, store_that_asks
):
    bucket = s3.new_bucket(versioned=True)
    store = store_that_asks(sse="AES256")
    s3_proxy.will(
        SetHeaders(headers=AES256, method="POST", has="uploads"),
        SetHeaders(headers=AES256, method="POST", has="uploadId"),
    )
    write(store, f"s3://{bucket}/first", 10)
    if size > PART_BYTES:
        s3_proxy.will(SetHeaders(headers=AES256, method="POST", has="uploads"))

    with pytest.raises(ServiceRefusedError, match="confirm encryption"):
        write(store, f"s3://{bucket}/second", size)

    versions, markers, uploads = left_in(client, bucket)
    assert ([each["Key"] for each in versions], markers, uploads) == (["first"], [], None)


@SIZES
def test_a_lock_that_is_asked_for_is_there(s3, client, store_that_asks, size):
    bucket = s3.new_bucket(locked=True)
    store = store_that_asks(object_lock="GOVERNANCE", object_lock_days=2, legal_hold=True)

    version = write(store, f"s3://{bucket}/x", size)

    head = client.head_object(Bucket=bucket, Key="x", VersionId=version)
    assert (head["ObjectLockMode"], head["ObjectLockLegalHoldStatus"]) == ("GOVERNANCE", "ON")
    left = head["ObjectLockRetainUntilDate"] - datetime.now(UTC)
    assert timedelta(days=1, hours=23) < left <= timedelta(days=2)


@SIZES
def test_a_bucket_that_cannot_lock_keeps_nothing(s3, client, store_that_asks, size):
    bucket = s3.new_bucket(versioned=True)

    with pytest.raises(ServiceRefusedError):
        write(
            store_that_asks(object_lock="COMPLIANCE", object_lock_days=1), f"s3://{bucket}/x", size
        )

    assert left_in(client, bucket) == ([], [], None)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"x-amz-object-lock-mode": "GOVERNANCE"}, "a lock COMPLIANCE"),
        ({"x-amz-object-lock-legal-hold": "OFF"}, "a legal hold"),
        ({"x-amz-object-lock-retain-until-date": "2026-11-28T00:00:00Z"}, "until the day"),
    ],
    ids=["mode", "hold", "day"],
)
def test_a_lock_that_is_not_confirmed_is_refused_and_what_stays_is_said(
    s3, s3_proxy, store_that_asks, headers, told
):
    bucket = s3.new_bucket(locked=True)
    store = store_that_asks(object_lock="COMPLIANCE", object_lock_days=1, legal_hold=True)
    s3_proxy.will(SetHeaders(headers=headers, method="HEAD"))

    with pytest.raises(ServiceRefusedError, match=told) as caught:
        write(store, f"s3://{bucket}/x", 10)

    # It was locked after all: then nobody can take it back, and who reads this must know.
    assert "could not be taken back (AccessDenied): remove version" in str(caught.value)


def test_a_locked_version_is_not_destroyed_and_the_error_names_it(s3, store_that_asks, put, store):
    bucket = s3.new_bucket(locked=True)
    locked = write(
        store_that_asks(object_lock="GOVERNANCE", object_lock_days=1), f"s3://{bucket}/x", 10
    )
    put(f"s3://{bucket}/x", b"free", replace=True)

    with pytest.raises(ServiceRefusedError) as caught:
        store.destroy(f"s3://{bucket}/x")

    assert locked in str(caught.value)


@pytest.mark.parametrize(
    "asked",
    [
        {"sse": "aws:fsx"},
        {"sse": "AES256", "sse_kms_key_id": ARN},
        {"object_lock": "governance", "object_lock_days": 1},
        {"object_lock": "GOVERNANCE"},
        {"object_lock_days": 3},
    ],
    ids=["unknown", "key without kms", "lower case", "no days", "no mode"],
)
def test_what_cannot_be_meant_is_refused(asked):
    with pytest.raises(ConfigurationError):
        Asked(**asked)


@pytest.mark.parametrize(
    ("wanted", "found", "is_right"),
    [
        (ARN, ARN, True),
        ("1234abcd", ARN, True),
        ("34abcd", ARN, False),
        (ARN, ARN + "5", False),
        ("alias/data", ARN, True),
        ("alias/data", "", False),
    ],
)
def test_the_key_that_is_named_is_the_one_that_was_asked_for(wanted, found, is_right):
    asked = Asked(sse="aws:kms", sse_kms_key_id=wanted)
    answer = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": found}

    if is_right:
        terms(asked=asked).check_encrypted(answer, "s3://b/x")
    else:
        with pytest.raises(ServiceRefusedError):
            terms(asked=asked).check_encrypted(answer, "s3://b/x")


def test_the_encryption_of_what_is_replaced_is_kept_whole_or_not_at_all():
    kept = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": ARN, "BucketKeyEnabled": True}

    same = dict(terms(kept=kept).headers)
    other = dict(terms(kept=kept, asked=Asked(sse="AES256")).headers)

    del same["Metadata"], other["Metadata"]
    assert same == kept
    assert other == {"ServerSideEncryption": "AES256"}


def test_the_longer_and_the_stricter_lock_is_kept():
    kept = {
        "ObjectLockMode": "COMPLIANCE",
        "ObjectLockRetainUntilDate": datetime(2027, 1, 1, tzinfo=UTC),
        "ObjectLockLegalHoldStatus": "ON",
    }
    asked = Asked(object_lock="GOVERNANCE", object_lock_days=1)

    found = terms(asked=asked, kept=kept).headers

    assert found["ObjectLockMode"] == "COMPLIANCE"
    assert found["ObjectLockRetainUntilDate"] == datetime(2027, 1, 1, tzinfo=UTC)
    assert found["ObjectLockLegalHoldStatus"] == "ON"


def test_a_lock_that_is_over_is_not_asked_for_again():
    kept = {
        "ObjectLockMode": "GOVERNANCE",
        "ObjectLockRetainUntilDate": datetime(2026, 1, 1, tzinfo=UTC),
    }

    assert "ObjectLockMode" not in terms(kept=kept).headers


def test_metadata_is_kept_but_for_the_token_of_the_write_before():
    kept = {"Metadata": {TOKEN: "old", "owner": "team"}, "StorageClass": "STANDARD"}

    found = terms(kept=kept, metadata={"more": "1"}).headers

    assert found == {"Metadata": {TOKEN: "t", "owner": "team", "more": "1"}}


def test_what_lies_there_after_a_small_replacement_keeps_its_metadata_and_tags(
    s3, store, client, put
):
    bucket = s3.new_bucket(versioned=True)
    client.put_object(
        Bucket=bucket, Key="x", Body=b"old", Metadata={"owner": "team"}, Tagging="a=b&c=d%20e",
        ContentType="text/csv",
    )  # fmt: skip
    with store.open(f"s3://{bucket}/x") as pinned:
        version = pinned.version

    put(f"s3://{bucket}/x", b"new", replace=True, if_version=version)

    head = client.head_object(Bucket=bucket, Key="x")
    tags = client.get_object_tagging(Bucket=bucket, Key="x")["TagSet"]
    tags = sorted((tag["Key"], tag["Value"]) for tag in tags)
    assert (head["Metadata"]["owner"], head["ContentType"]) == ("team", "text/csv")
    assert tags == [("a", "b"), ("c", "d e")]


def test_a_store_that_drops_the_metadata_it_was_given_is_found_out(s3, s3_proxy, store_that_asks):
    bucket = s3.new_bucket(versioned=True)
    store = store_that_asks()
    version = write(store, f"s3://{bucket}/x", 10)
    s3_proxy.will(SetHeaders(headers={"x-amz-meta-asml-write": "other"}, method="HEAD", skip=1))

    with pytest.raises(ServiceRefusedError, match="metadata"):
        write(store, f"s3://{bucket}/x", 10, replace=True, if_version=version)

    with store.open(f"s3://{bucket}/x") as pinned:
        assert pinned.version == version


def test_a_wrong_checksum_of_what_was_stored_is_found_out(s3, s3_proxy, store_that_asks, client):
    bucket = s3.new_bucket(versioned=True)
    s3_proxy.will(SetHeaders(headers={"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, method="PUT"))

    with pytest.raises(IntegrityError, match="checksum"):
        write(store_that_asks(), f"s3://{bucket}/x", 10)

    assert left_in(client, bucket) == ([], [], None)
