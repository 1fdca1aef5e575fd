"""One object in S3 has one address, and its key stays as people write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.adapters.aws.s3.address import child, parse, split
from airflow_secure_ml.errors import ConfigurationError, FormatError


def no_client(bucket):
    raise AssertionError("nothing is asked for an address")


store = S3Objects(no_client)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://bucket/data.csv", "s3://bucket/data.csv"),
        ("s3://bucket/folder/", "s3://bucket/folder"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://a.bucket-1/a b/ü%20+&=#;.csv", "s3://a.bucket-1/a b/ü%20+&=#;.csv"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("s3://bucket/run=2026-11-22T03:00:00+00:00", "s3://bucket/run=2026-11-22T03:00:00+00:00"),
        ("s3://bucket/%2e%2e/x", "s3://bucket/%2e%2e/x"),
        ("s3://bucket/" + "k" * 1024, "s3://bucket/" + "k" * 1024),
    ],
)
def test_an_address_has_one_form(address, expected):
    assert store.canonical(address) == expected
    assert store.canonical(expected) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        "data.csv",
        "/data.csv",
        "file:///data.csv",
        "S3://bucket/key",
        "s3:/bucket/key",
        "s3a://bucket/key",
        "s3://",
        "s3:///key",
        "s3://Bucket/key",
        "s3://bu/key",
        "s3://b..ucket/key",
        "s3://-bucket/key",
        "s3://bucket-/key",
        "s3://" + "b" * 64 + "/key",
        "s3://bucket?versionId=x/key",
        "s3://bucket/a//b",
        "s3://bucket//a",
        "s3://bucket/a//",
        "s3://bucket/./a",
        "s3://bucket/a/../b",
        "s3://bucket/..",
        "s3://bucket/*.csv",
        "s3://bucket/a?",
        "s3://bucket/[ab]",
        "s3://bucket/a\0b",
        "s3://bucket/a\nb",
        "s3://bucket/a\x7f",
        "s3://bucket/a\x85",
        "s3://bucket/a\ufffe",
        "s3://bucket/a\uffff",
        "s3://bucket/\ud800",
        "s3://bucket/" + "k" * 1025,
        "s3://bucket/" + "ü" * 513,
        "s3://@bucket/key",
        "s3://a b@bucket/key",
        "s3://user:password@bucket/key",
    ],
)
def test_what_is_no_address_in_s3_is_refused(address):
    with pytest.raises(ConfigurationError):
        store.canonical(address)


def test_a_refusal_moves_nobodys_cursor():
    with pytest.raises(ConfigurationError) as caught:
        store.canonical("s3://bucket/\x1b[2J\n")

    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "address",
    [
        "s3://AK:canary@bucket/key",
        "s3://AK:canary/4711@bucket/key",
        "s3://AK:canary*@bucket/key",
        "s3a://AK:canary@bucket/key",
        "s3://AK:canary@BUCKET/key",
        "s3://AK:ca@nary@bucket/key",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_shown(address):
    with pytest.raises(ConfigurationError) as caught:
        store.canonical(address)

    assert "nary" not in str(caught.value)


def test_the_connection_in_an_address_is_told_and_left_out():
    told = []
    with_connections = S3Objects(no_client, use_connection=lambda *args: told.append(args))

    assert with_connections.canonical("s3://aws_eu@bucket/key") == "s3://bucket/key"
    assert told == [("bucket", "aws_eu")]


def test_where_no_connection_can_be_used_an_address_names_none():
    with pytest.raises(ConfigurationError, match="aws_eu"):
        store.canonical("s3://aws_eu@bucket/key")


@pytest.mark.parametrize("uri", ["s3://conn@bucket/a", "s3://bucket/a/", "s3://bucket/"])
def test_only_a_canonical_address_is_used(uri):
    with pytest.raises(ConfigurationError, match="canonical"):
        split(uri)


@pytest.mark.parametrize("relative", ["", "/a", "a/", "../a", "a/../b", "a//b", "./a", "a*", "a\0"])
def test_a_child_stays_below_its_directory(relative):
    with pytest.raises(FormatError):
        store.child("s3://bucket/d", relative)


def test_a_child_whose_key_would_be_too_long_is_refused():
    with pytest.raises(FormatError, match="1024"):
        store.child("s3://bucket/" + "d" * 1000, "x" * 24)


def test_a_child_of_a_whole_bucket_is_an_object():
    assert store.child("s3://bucket", "a b/c%") == "s3://bucket/a b/c%"


_SEGMENT = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/*?[\ufffe\uffff"),
    min_size=1,
    max_size=20,
).filter(lambda part: part not in (".", ".."))


@given(st.lists(_SEGMENT, min_size=1, max_size=4))
def test_any_key_stays_byte_for_byte(parts):
    key = "/".join(parts)

    assert parse(f"s3://bucket/{key}").key == key
    assert split(child("s3://bucket", key)).key == key
    assert split(child("s3://bucket/d e", key)).key == f"d e/{key}"
