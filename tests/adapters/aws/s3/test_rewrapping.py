"""A rewrap in S3 moves a header and no payload, and makes one whole object or none."""

from __future__ import annotations

import io
import random

import pytest

from airflow_secure_ml.adapters.aws.s3 import Asked, S3Objects
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import KekWrapper
from airflow_secure_ml.errors import IntegrityError
from airflow_secure_ml.services.rewrapping import rewrap_object
from airflow_secure_ml.services.sealing import open_object, seal_object
from tests.servers.s3_proxy import SetHeaders

MIB = 1 << 20
DATA = random.Random(3).randbytes(64 * MIB)
SIZES = [1000, 5 * MIB, 8 * MIB - 4096, 8 * MIB, 13 * MIB - 1, 13 * MIB + 1, 21 * MIB]


def kek(name, byte):
    return KekWrapper(
        bytes([byte]) * 32, slot_id=name, ref=KeyRef(system="local", name=name, version="1")
    )


OLD, NEW = kek("old", 1), kek("new", 2)


@pytest.fixture
def seal(store):
    def seal(uri, size, *, replace=False):
        with store.create(uri) as writer:
            plain = io.BytesIO(memoryview(DATA)[:size])
            seal_object(plain, writer, keys=[OLD], context={"a": "b"})
            return writer.commit(replace=replace)

    return seal


def opened(store, uri, key):
    sink = io.BytesIO()
    with store.open(uri) as pinned:
        open_object(pinned, sink, keys=[key], expect={"a": "b"})
    return sink.getvalue()


def rewrap(store, uri, *, between=lambda: None, keys=(NEW,)):
    with store.open(uri) as pinned, store.create(uri) as writer:
        done = rewrap_object(pinned, writer, readers=[OLD], keys=list(keys), expect={"a": "b"})
        between()
        return writer.commit(replace=True, if_version=done.replaces)


@pytest.mark.parametrize("bucket", ["versioned"], indirect=True)
@pytest.mark.parametrize("size", SIZES, ids="size={}".format)
def test_a_rewrapped_object_opens_with_the_new_key(store, bucket, seal, size):
    uri = f"s3://{bucket}/x"
    before = seal(uri, size)

    after = rewrap(store, uri)

    assert after != before
    assert opened(store, uri, NEW) == DATA[:size]


def test_a_header_that_grows_is_no_reason_to_move_the_payload(store, bucket, seal, requests):
    uri = f"s3://{bucket}/x"
    seal(uri, 20 * MIB)

    rewrap(store, uri, keys=[NEW, *(kek(f"{number:02}-{'k' * 200}", 7) for number in range(20))])

    assert requests.count("UploadPartCopy") == 1
    assert opened(store, uri, NEW) == DATA[: 20 * MIB]


@pytest.mark.parametrize("bucket", ["plain"], indirect=True)
def test_64_mib_are_copied_by_the_store(store, bucket, seal, client, s3):
    uri = f"s3://{bucket}/x"
    seal(uri, 64 * MIB)
    sent, came = [], []
    client.meta.events.register(
        "before-send.s3", lambda request, **_: sent.append(len(request.body or b""))
    )
    client.meta.events.register(
        "after-call.s3.GetObject", lambda parsed, **_: came.append(parsed["ContentLength"])
    )

    rewrap(store, uri)

    assert sum(sent) < 9 * MIB
    assert sum(came) < 10 * MIB
    assert opened(store, uri, NEW) == DATA


@pytest.mark.parametrize("size", [1000, 13 * MIB], ids=["small", "parts"])
@pytest.mark.parametrize("how", ["replaced", "removed", "rewrapped"])
def test_an_object_that_changes_while_it_is_rewrapped_is_left_whole(
    store, bucket, seal, size, how, client
):
    uri = f"s3://{bucket}/x"
    seal(uri, size)

    def change():
        if how == "replaced":
            seal(uri, size - 7, replace=True)
        elif how == "removed":
            store.delete(uri)
        else:
            rewrap(store, uri, keys=[OLD, NEW])

    with pytest.raises(IntegrityError):
        rewrap(store, uri, between=change, keys=[kek("third", 3)])

    if how == "removed":
        assert store.info(uri) is None
    else:
        length = size - 7 if how == "replaced" else size
        assert opened(store, uri, OLD) == DATA[:length]
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("size", [1000, 13 * MIB], ids=["small", "parts"])
@pytest.mark.parametrize("how", ["replaced", "rewrapped"])
def test_an_object_that_changes_after_the_last_look_is_left_whole(
    store, bucket, seal, size, how, client, s3
):
    uri = f"s3://{bucket}/x"
    seal(uri, size)
    another = s3.client()
    other = S3Objects(lambda bucket: another)
    changes = []

    def change(**_):
        if changes:
            return
        changes.append(how)
        if how == "rewrapped":
            rewrap(other, uri, keys=[OLD, NEW])
            return
        with other.create(uri) as writer:
            plain = io.BytesIO(memoryview(DATA)[: size - 7])
            seal_object(plain, writer, keys=[OLD], context={"a": "b"})
            writer.commit(replace=True)

    def arm():
        for last in ("PutObject", "CompleteMultipartUpload"):
            client.meta.events.register(f"before-call.s3.{last}", change)

    with pytest.raises(IntegrityError, match="another writer came in between"):
        rewrap(store, uri, between=arm, keys=[kek("third", 3)])

    assert changes == [how], "it was changed right before the last request"
    length = size - 7 if how == "replaced" else size
    assert opened(other, uri, OLD) == DATA[:length]
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_a_source_that_changes_before_it_is_copied_is_refused(store, s3, seal):
    uri = f"s3://{s3.new_bucket()}/x"
    seal(uri, 13 * MIB)

    with store.open(uri) as pinned, store.create(uri) as writer:
        seal(uri, 13 * MIB - 1, replace=True)
        with pytest.raises(IntegrityError):
            rewrap_object(pinned, writer, readers=[OLD], keys=[NEW], expect={"a": "b"})

    assert opened(store, uri, OLD) == DATA[: 13 * MIB - 1]


def test_a_copy_that_is_not_what_was_sealed_is_taken_back(s3, s3_proxy, seal, client):
    bucket = s3.new_bucket(versioned=True)
    uri = f"s3://{bucket}/x"
    before = seal(uri, 20 * MIB)
    through = s3.client(endpoint_url=s3_proxy.url)
    store = S3Objects(lambda _: through)
    # The look at what was made, behind those at what is replaced.
    headers = {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}
    s3_proxy.will(SetHeaders(headers=headers, method="HEAD", skip=2))

    with pytest.raises(IntegrityError, match="another checksum"):
        rewrap(store, uri)

    left = client.list_object_versions(Bucket=bucket)["Versions"]
    assert [each["VersionId"] for each in left] == [before]


@pytest.mark.parametrize("size", [1000, 13 * MIB], ids=["small", "parts"])
def test_a_rewrap_keeps_metadata_tags_and_lock(s3, store, client, size, seal):
    bucket = s3.new_bucket(locked=True)
    uri = f"s3://{bucket}/x"
    locking = S3Objects(
        lambda _: client,
        asked_of=lambda _: Asked(object_lock="GOVERNANCE", object_lock_days=3, legal_hold=True),
    )
    with locking.create(uri) as writer:
        plain = io.BytesIO(DATA[:size])
        seal_object(plain, writer, keys=[OLD], context={"a": "b"})
        writer.commit(replace=False)
    client.put_object_tagging(
        Bucket=bucket, Key="x", Tagging={"TagSet": [{"Key": "cost centre", "Value": "a b=c+d"}]}
    )
    before = client.head_object(Bucket=bucket, Key="x")

    rewrap(store, uri)

    after = client.head_object(Bucket=bucket, Key="x")
    kept = ("ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus", "TagCount")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert client.get_object_tagging(Bucket=bucket, Key="x")["TagSet"] == [
        {"Key": "cost centre", "Value": "a b=c+d"}
    ]
    assert after["VersionId"] != before["VersionId"]


def test_an_object_of_another_client_is_not_copied_by_the_store(s3, store, bucket, seal, requests):
    uri = f"s3://{bucket}/x"
    seal(uri, 13 * MIB)
    other = s3.client()

    with S3Objects(lambda _: other).open(uri) as pinned, store.create(uri) as writer:
        done = rewrap_object(pinned, writer, readers=[OLD], keys=[NEW], expect={"a": "b"})
        writer.commit(replace=True, if_version=done.replaces)

    assert "UploadPartCopy" not in requests
    assert opened(store, uri, NEW) == DATA[: 13 * MIB]
