"""The canonical form: one spelling a record, and every other spelling refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.canonical import EVENT, Limits, decode, encode
from airflow_secure_ml.errors import FormatError

FREE = Limits(max_bytes=1 << 20, max_depth=8, key=None)

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
_scalars = st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _texts
_event_keys = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True)


def _nested(keys, levels):
    values = _scalars
    for _ in range(levels):
        inner = values
        values = _scalars | st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
    return values


def test_keys_are_sorted_by_utf16_code_units():
    # RFC 8785, 3.2.3, its own example: U+1F600 sorts before U+FB33 though its code point is larger.
    record = {"\u20ac": "a", "\r": "b", "\ufb33": "c", "1": "d", "\U0001f600": "e", "\u0080": "f"}
    record["\u00f6"] = "g"

    data = encode(record, limits=FREE)

    expected = (
        '{"\\r":"b","1":"d","\u0080":"f","\u00f6":"g","\u20ac":"a","\U0001f600":"e","\ufb33":"c"}'
    )
    assert data == expected.encode()


def test_texts_are_escaped_as_rfc_8785_says():
    data = encode({"a": '\u20ac$\u000f\nA\'B"\\\\"/\u007f\u2028'})

    assert data == b'{"a":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/\x7f\xe2\x80\xa8"}'


@given(_nested(_event_keys, 4))
def test_decoding_what_was_encoded_gives_it_back(value):
    assert decode(encode(value)) == value


@given(_nested(_texts, 6))
def test_free_keys_and_more_depth_round_trip(value):
    assert decode(encode(value, limits=FREE), limits=FREE) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_canonically_or_refused(data):
    try:
        value = decode(data)
    except FormatError:
        return

    assert encode(value) == data


@given(st.dictionaries(_event_keys, _scalars, min_size=1, max_size=4), st.data())
def test_a_flipped_byte_never_decodes_to_the_same_record(record, data):
    encoded = bytearray(encode(record))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))

    try:
        other = decode(bytes(encoded))
    except FormatError:
        return

    # True == 1 to Python, so the comparison is of text.
    assert json.dumps(other) != json.dumps(record)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"a": 1}', id="white space"),
        pytest.param(b'{"b":1,"a":1}', id="keys unsorted"),
        pytest.param(b'{"a":1,"a":1}', id="key twice"),
        pytest.param(b'{"a":1.0}', id="float"),
        pytest.param(b'{"a":1e2}', id="exponent"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":-Infinity}', id="infinity"),
        pytest.param(b'{"a":null}', id="null"),
        pytest.param(b'{"a":-0}', id="minus zero"),
        pytest.param(b'{"a":01}', id="leading zero"),
        pytest.param(b'{"a":9007199254740992}', id="integer too large"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="integer of 5000 digits"),
        pytest.param(b'{"a":"\\u0041"}', id="needless escape"),
        pytest.param(b'{"a":"\\/"}', id="escaped slash"),
        pytest.param(b'{"a":"\\u001F"}', id="upper-case escape"),
        pytest.param(b'{"a":"\\u0000"}', id="U+0000"),
        pytest.param(b'{"a":"\\ud800"}', id="half a pair"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="surrogate in UTF-8"),
        pytest.param(b'{"a":"\xc0\xaf"}', id="overlong UTF-8"),
        pytest.param(b'{"a":"\xff"}', id="not UTF-8"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="byte order mark"),
        pytest.param(b'{"a":1}\n', id="trailing line feed"),
        pytest.param(b'{"a":1}{"a":1}', id="two records"),
        pytest.param(b'{"A":1}', id="upper-case key"),
        pytest.param(b'{"a-b":1}', id="dash in a key"),
        pytest.param(b'{"' + b"a" * 33 + b'":1}', id="key of 33"),
        pytest.param(b'{"a\\n":1}', id="line feed after a key"),
        pytest.param(b'{"":1}', id="empty key"),
        pytest.param(b'{"a":{"a":{"a":{"a":{}}}}}', id="depth 5"),
        pytest.param(b"[" * 30000, id="depth 30000"),
        pytest.param(b'"' + b"a" * 32767 + b'"', id="32769 bytes"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_another_spelling_is_refused(data):
    with pytest.raises(FormatError):
        decode(data)


@pytest.mark.parametrize(
    "value",
    [1.5, None, b"a", {"a": {1}}, {1: "a"}, {"a": 2**53}, {"a": -(2**53)}, "\ud800", "a\0"],
    ids=["float", "null", "bytes", "set", "integer key", "large", "small", "surrogate", "NUL"],
)
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(FormatError):
        encode(value)


@pytest.mark.parametrize(
    "key", ["\ud800", "a\0", 1, None, b"a"], ids=["surrogate", "NUL", "int", "null", "bytes"]
)
def test_a_free_key_is_still_a_valid_text(key):
    with pytest.raises(FormatError):
        encode({"a": {"b": 1, key: 1}}, limits=FREE)


def test_a_key_that_passed_once_is_held_against_other_limits_again():
    encode({"known_before": 1})

    with pytest.raises(FormatError, match="does not match"):
        encode({"known_before": 1}, limits=Limits(key=r"[a-z]+"))


def test_two_keys_do_not_pass_as_one():
    with pytest.raises(FormatError, match="does not match"):
        encode({"a\nb": 1, "c": 2})


def test_a_twin_key_below_is_refused():
    with pytest.raises(FormatError):
        decode(b'{"a":{"b":1,"b":1},"c":1}')


def test_the_largest_record_and_the_deepest_pass():
    deepest = b'{"a":{"a":{"a":{"a":9007199254740991}}}}'
    largest = b'"' + b"a" * 32766 + b'"'

    assert encode(decode(deepest)) == deepest
    assert encode(decode(largest)) == largest
    assert EVENT.max_bytes == 32768


def test_a_record_that_holds_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)

    with pytest.raises(FormatError, match="nested deeper than 4"):
        encode(loop)
