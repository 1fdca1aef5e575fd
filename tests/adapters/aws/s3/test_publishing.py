"""The last request of a write: what is there after it, whatever the store answers to the looks."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.aws.s3 import S3Objects, place
from airflow_secure_ml.adapters.aws.s3.parts import PART_BYTES
from airflow_secure_ml.errors import PolicyError, SecureMLError
from tests.servers.s3_proxy import DropHeaders, s3_error


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch):
    monkeypatch.setattr(place, "_FIRST_WAIT_S", 0.001)


@pytest.fixture
def broken(s3, s3_proxy):
    client = s3.client(endpoint_url=s3_proxy.url)
    return S3Objects(lambda bucket: client)


@pytest.fixture
def uri(bucket):
    return f"s3://{bucket}/x"


BREAKS = {
    "metadata lost": DropHeaders(prefixes=("x-amz-meta-",), method="HEAD", skip=1),
    "no answer": s3_error("ServiceUnavailable", method="HEAD", skip=1, times=99),
}


@pytest.mark.parametrize("fault", BREAKS.values(), ids=BREAKS)
def test_what_replaces_a_version_is_never_removed_where_that_would_leave_nothing(
    s3_proxy, broken, put, get, uri, fault
):
    version = put(uri, b"before")
    s3_proxy.will(fault)

    def replace():
        with broken.create(uri) as writer:
            writer.write_at(0, b"after")
            writer.commit(replace=True, if_version=version)

    with pytest.raises(SecureMLError):
        replace()

    assert get(uri) == (b"before" if "etag:" not in version else b"after")


@pytest.mark.parametrize("size", [5, PART_BYTES + 1], ids=["small", "parts"])
def test_a_store_that_takes_a_removal_for_an_object_is_told_of(s3, store, put, get, size):
    uri = f"s3://{s3.new_bucket(versioned=True)}/x"
    put(uri, b"before")
    store.delete(uri)

    with pytest.raises(PolicyError, match="mark of a removal"):
        put(uri, bytes(size))

    put(uri, bytes(size), replace=True)
    assert get(uri) == bytes(size)
