"""A store that answers a reader for something else than was asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from airflow_secure_ml.adapters.aws.s3 import S3Objects, place
from airflow_secure_ml.adapters.aws.s3.pinned import pin
from airflow_secure_ml.errors import FormatError, IntegrityError, SecureMLError
from tests.servers.proxy import Alter
from tests.servers.s3_proxy import DropHeaders, SetHeaders

MIB = 1 << 20
DATA = random.Random(5).randbytes(3 * MIB)


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch):
    monkeypatch.setattr(place, "_FIRST_WAIT_S", 0.001)


@pytest.fixture
def broken(s3, s3_proxy):
    client = s3.client(endpoint_url=s3_proxy.url)
    return S3Objects(lambda bucket: client)


@pytest.fixture
def bucket(s3):
    return s3.new_bucket(versioned=True)


@pytest.fixture
def uri(bucket):
    return f"s3://{bucket}/x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shorter(Alter):
    """Give the beginning of what was asked for, as if it were all."""

    def altered(self, headers, body):
        return headers, body[: len(body) // 2]


def test_part_of_an_object_is_not_taken_for_the_whole(s3_proxy, broken, put, uri):
    put(uri, DATA)
    s3_proxy.will(DropHeaders(prefixes=("content-range",), method="GET"))

    with pytest.raises(FormatError, match="range"):
        broken.open(uri)


@pytest.mark.parametrize(
    "range_", ["bytes 5-9/10", "bytes 0-9/*", "0-9/10", "bytes 0-9/-1", "bytes 0-9/\u0661"]
)
def test_a_range_that_is_none_is_refused(s3_proxy, broken, put, uri, range_):
    put(uri, DATA)
    s3_proxy.will(
        SetHeaders(headers={"Content-Range": range_.encode().decode("latin-1")}, method="GET")
    )

    with pytest.raises(FormatError, match="range"):
        broken.open(uri)


def test_a_shorter_answer_is_asked_on(s3_proxy, broken, put, uri):
    put(uri, DATA)
    s3_proxy.will(Shorter(method="GET"), Shorter(method="GET"))

    with broken.open(uri) as pinned:
        assert pinned.read_at(0, len(DATA)) == DATA


def test_a_length_past_the_objects_end_ends_in_a_refusal(s3_proxy, broken, put, uri):
    put(uri, DATA)
    s3_proxy.will(SetHeaders(headers={"Content-Range": f"bytes 0-524287/{1 << 62}"}, method="GET"))

    with broken.open(uri) as pinned, pytest.raises(IntegrityError):
        pinned.read_at(0, len(DATA) + 1)


def test_another_version_than_was_asked_for_is_refused(s3_proxy, broken, put, uri):
    first = put(uri, b"same")
    second = put(uri, b"same", replace=True)
    s3_proxy.will(SetHeaders(headers={"x-amz-version-id": second}, method="GET"))

    with pytest.raises(IntegrityError, match="another"):
        pin(broken.place(uri), version_id=first)


def test_a_store_that_names_no_etag_is_refused(s3_proxy, broken, put, uri):
    put(uri, DATA)
    s3_proxy.will(DropHeaders(prefixes=("etag",), times=9))

    with pytest.raises(SecureMLError):
        broken.open(uri)
