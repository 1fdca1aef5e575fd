"""The listing as an object: what is there when the store did not do all that was asked."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.aws.s3 import Asked, S3Objects
from airflow_secure_ml.errors import ServiceRefusedError, ServiceUnavailableError


def test_a_refused_beginning_leaves_the_directory_as_it_was(store, client, bucket):
    uri = f"s3://{bucket}/d"
    with store.create_directory(uri) as directory:
        with directory.create("a") as writer:
            writer.write_at(0, b"1")
            writer.commit(replace=False)
        directory.commit(replace=False)
    # Not of the directory: a reader who finds no listing takes it for a part.
    client.put_object(Bucket=bucket, Key="d/stray", Body=b"x")
    asking = S3Objects(lambda _: client, asked_of=lambda _: Asked(sse="AES256"))

    with pytest.raises(ServiceRefusedError, match="confirm"):
        asking.create_directory(uri)

    assert list(store.walk(uri)) == ["a"]


def test_a_store_that_takes_a_removal_for_a_listing_is_told_of(store, s3):
    uri = f"s3://{s3.new_bucket(versioned=True)}/d"
    with store.create_directory(uri) as directory:
        with directory.create("a") as writer:
            writer.write_at(0, b"1")
            writer.commit(replace=False)
        directory.commit(replace=False)
    store.delete(uri)

    with pytest.raises(ServiceUnavailableError, match="mark of a removal"):
        store.create_directory(uri)
