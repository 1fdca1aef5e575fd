"""The context's pairs: what is written is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.sealed_file.context import (
    ANY_CONTEXT,
    check_context,
    decode_context,
    encode_context,
)
from airflow_secure_ml.errors import ConfigurationError, FormatError, PolicyError

KEYS = st.text("abcxyz0189._-", min_size=1, max_size=64)
VALUES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f"]),
    max_size=200,
)


def pair(key: bytes, value: bytes) -> bytes:
    return len(key).to_bytes(2, "big") + key + len(value).to_bytes(2, "big") + value


@given(st.dictionaries(KEYS, VALUES, max_size=10))
def test_what_is_written_is_read(context):
    assert decode_context(encode_context(context)) == context


@given(st.binary(max_size=300))
def test_any_bytes_are_read_as_written_or_refused(data):
    try:
        context = decode_context(data)
    except FormatError:
        return
    assert encode_context(context) == data


def test_pairs_are_written_ascending_by_key_bytes():
    assert encode_context({"b": "2", "a.": "1", "a": ""}).hex() == (
        "000300016100000002612e000131000162000132"
    )


@pytest.mark.parametrize(
    "context",
    [
        {"": "v"},
        {"k" * 65: "v"},
        {"K": "v"},
        {"k k": "v"},
        {"ä": "v"},
        {"k\n": "v"},
        {"k": "v" * 1025},
        {"k": "\u00e9" * 513},
        {"k": "a\x00"},
        {"k": "a\x1f"},
        {"k": "a\x7f"},
        {"k": "\ud800"},
        {f"k{i}": "v" for i in range(65)},
    ],
    ids=range(13),
)
def test_a_context_outside_the_limits_is_not_written(context):
    with pytest.raises(ConfigurationError, match="context"):
        encode_context(context)


@pytest.mark.parametrize(
    "context",
    [
        {"k" * 64: "v" * 1024},
        {"k": "\u00e9" * 512},
        {"k": "\x80\u2028"},
        {f"k{i}": "v" for i in range(64)},
        {},
    ],
    ids=["longest", "longest in bytes", "odd but valid", "64 pairs", "none"],
)
def test_a_context_at_the_limits_is_written_and_read(context):
    assert decode_context(encode_context(context)) == context


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0", "2 bytes"),
        (b"\0\x01", "length of key"),
        (b"\0\x01" + pair(b"", b"v"), "key has 0 bytes"),
        (b"\0\x01" + pair(b"k" * 65, b"v"), "key has 65 bytes"),
        (b"\0\x01" + pair(b"k", b"v" * 1025), "value has 1025 bytes"),
        (b"\0\x01" + pair(b"K", b"v"), "other characters"),
        (b"\0\x01" + pair(b"k\n", b"v"), "other characters"),
        (b"\0\x01" + pair(b"k", b"\x1f"), "control"),
        (b"\0\x01" + pair(b"k", b"\x7f"), "control"),
        (b"\0\x01" + pair(b"k", b"\xff"), "UTF-8"),
        (b"\0\x01" + pair(b"k", b"\xc0\x80"), "UTF-8"),
        (b"\0\x01" + pair(b"k", b"\xed\xa0\x80"), "UTF-8"),
        (b"\0\x02" + pair(b"b", b"v") + pair(b"a", b"v"), "ascending"),
        (b"\0\x02" + pair(b"a", b"v") + pair(b"a", b"v"), "ascending"),
        (b"\0\x41" + b"".join(pair(b"%03d" % i, b"") for i in range(65)), "65 pairs"),
        (b"\0\x00x", "too many"),
        (b"\0\x01" + pair(b"k", b"v")[:-1], "are left"),
    ],
)
def test_a_context_that_no_writer_makes_is_refused(data, message):
    with pytest.raises(FormatError, match=message):
        decode_context(data)


def test_more_pairs_than_expected_may_be_stored():
    check_context({"a": "1", "b": "2"}, {"a": "1"})


def test_any_context_must_be_said():
    check_context({"a": "1"}, ANY_CONTEXT)

    with pytest.raises(ConfigurationError, match="any context"):
        check_context({"a": "1"}, {})


@pytest.mark.parametrize(
    "expected",
    [{"a": "2"}, {"b": "1"}, {"a": "1", "b": "1"}, {"a": ""}, {"nfc": "e\u0301"}],
    ids=["other value", "other key", "one missing", "empty", "NFD against NFC"],
)
def test_another_context_is_refused(expected):
    with pytest.raises(PolicyError) as caught:
        check_context({"a": "1", "nfc": "\u00e9"}, expected)

    assert caught.value.why == "context_differs"


def test_the_refusal_shows_no_value():
    with pytest.raises(PolicyError) as caught:
        check_context({"a": "stored-canary"}, {"a": "expected-canary"})

    assert "canary" not in str(caught.value)
