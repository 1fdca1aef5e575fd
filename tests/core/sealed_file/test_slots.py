"""How each type of slot must look, and the limits of all."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.sealed_file.cursor import Cursor
from airflow_secure_ml.core.sealed_file.slots import (
    Slot,
    arrange_slots,
    check_slot,
    decode_slots,
    find_slot,
)
from airflow_secure_ml.errors import ConfigurationError, FormatError

HEX_ID = "0123456789abcdef" * 4
ARN = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
CLASSIC = bytes.fromhex("002000010002")
HYBRID = bytes.fromhex("647a00010002")


def raw(kind: int, name: bytes, body: bytes) -> bytes:
    parts = kind.to_bytes(2, "big") + len(name).to_bytes(2, "big") + name
    return parts + len(body).to_bytes(2, "big") + body


def decode(*slots: bytes, count: int | None = None):
    number = len(slots) if count is None else count
    return decode_slots(Cursor(number.to_bytes(2, "big") + b"".join(slots), what="header"))


@pytest.mark.parametrize(
    ("kind", "name", "body"),
    [
        (1, "a", b"x" * 40),
        (1, "~" * 256, b"x" * 40),
        (2, HEX_ID, CLASSIC + b"x" * 80),
        (2, HEX_ID, HYBRID + b"x" * 1168),
        (3, "transit/data", b"vault:v1:QUJD"),
        (3, "team/transit/data", b"vault:v120:QUI="),
        (3, "transit/data", b"vault:v1:" + b"QUJD" * 125 + b""),
        (4, ARN, b"x"),
        (4, "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-12ab", b"x" * 8192),
        (5, HEX_ID, b"x" * 40),
        (0, "unknown", b"x"),
        (7, "unknown", b"x" * 8192),
        (65535, "unknown", b"x"),
    ],
)
def test_a_slot_as_the_format_says_is_read(kind, name, body):
    (slot,) = decode(raw(kind, name.encode(), body))

    assert (slot.type, slot.id, slot.body) == (kind, name, body)
    assert slot.encoded == raw(kind, name.encode(), body)


@pytest.mark.parametrize(
    ("kind", "name", "body"),
    [
        (1, b"a", b"x" * 39),
        (1, b"a", b"x" * 41),
        (1, b"", b"x" * 40),
        (1, b"a" * 257, b"x" * 40),
        (1, b"a b", b"x" * 40),
        (1, b"a\x7f", b"x" * 40),
        (1, b"\xc3\xa4", b"x" * 40),
        (2, HEX_ID.upper().encode(), CLASSIC + b"x" * 80),
        (2, HEX_ID[:-1].encode(), CLASSIC + b"x" * 80),
        (2, HEX_ID.encode(), CLASSIC + b"x" * 79),
        (2, HEX_ID.encode(), CLASSIC + b"x" * 81),
        (2, HEX_ID.encode(), HYBRID + b"x" * 80),
        (2, HEX_ID.encode(), HYBRID + b"x" * 1167),
        (2, HEX_ID.encode(), bytes.fromhex("002000010001") + b"x" * 80),
        (2, HEX_ID.encode(), b"x"),
        (3, b"data", b"vault:v1:QUJD"),
        (3, b"transit/", b"vault:v1:QUJD"),
        (3, b"/data", b"vault:v1:QUJD"),
        (3, b"transit/data", b"vault:v0:QUJD"),
        (3, b"transit/data", b"vault:v01:QUJD"),
        (3, b"transit/data", b"vault:1:QUJD"),
        (3, b"transit/data", b"vault:v1:"),
        (3, b"transit/data", b"vault:v1:QUJ"),
        (3, b"transit/data", b"vault:v1:QU==" + b"QUJD"),
        (3, b"transit/data", b"vault:v1:QUJD\n"),
        (3, b"transit/data", b"vault:v1:" + b"QUJD" * 126),
        (4, b"arn:aws:kms:eu-central-1:123456789012:alias/data", b"x"),
        (4, b"1234abcd-12ab-34cd-56ef-1234567890ab", b"x"),
        (5, HEX_ID.encode(), b"x" * 41),
        (5, b"data/3", b"x" * 40),
        (7, b"unknown", b""),
        (7, b"unknown", b"x" * 8193),
    ],
)
def test_a_slot_that_looks_otherwise_is_refused(kind, name, body):
    with pytest.raises(FormatError):
        decode(raw(kind, name, body))


@pytest.mark.parametrize("count", [0, 65])
def test_a_number_of_slots_outside_the_limits_is_refused(count):
    slots = [raw(7, b"%03d" % i, b"x") for i in range(count)]

    with pytest.raises(FormatError, match="1 to 64"):
        decode(*slots, count=count)


@pytest.mark.parametrize(
    "pair",
    [
        (raw(7, b"a", b"x"), raw(7, b"a", b"x")),
        (raw(7, b"a", b"x"), raw(7, b"a", b"y")),
        (raw(7, b"b", b"x"), raw(7, b"a", b"x")),
        (raw(8, b"a", b"x"), raw(7, b"b", b"x")),
    ],
    ids=["twice", "twice, other body", "ids fall", "types fall"],
)
def test_slots_out_of_order_are_refused(pair):
    with pytest.raises(FormatError, match="ascending"):
        decode(*pair)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_slot_that_is_cut_is_refused(cut):
    with pytest.raises(FormatError):
        decode(raw(7, b"name", b"xx")[:-cut])


def test_slots_are_sorted_by_type_then_id_bytes():
    slots = [Slot(type=t, id=i, body=b"x") for t, i in [(9, "a"), (7, "b"), (7, "Z"), (7, "aa")]]

    arranged = arrange_slots(slots)

    assert [(s.type, s.id) for s in arranged] == [(7, "Z"), (7, "aa"), (7, "b"), (9, "a")]


@pytest.mark.parametrize(
    "slots",
    [
        [],
        [Slot(type=7, id="a", body=b"x")] * 2,
        [Slot(type=7, id=str(i), body=b"x") for i in range(65)],
        [Slot(type=1, id="a", body=b"x")],
        [Slot(type=7, id="a b", body=b"x")],
        [Slot(type=75536, id="a", body=b"x")],
    ],
    ids=["none", "twice", "65", "body", "id", "type"],
)
def test_slots_that_no_reader_takes_are_not_written(slots):
    with pytest.raises(ConfigurationError):
        arrange_slots(slots)


def test_bodies_that_a_key_system_rewraps_are_outside_the_hmac():
    vault = Slot(type=3, id="transit/data", body=b"vault:v1:QUJD")
    local = Slot(type=1, id="data/3", body=b"x" * 40)

    assert vault.authenticated == b"\0\x03\0\x0ctransit/data"
    assert local.authenticated == local.encoded


def test_a_slot_is_found_by_type_and_id():
    slots = (Slot(type=7, id="a", body=b"1"), Slot(type=8, id="a", body=b"2"))

    assert find_slot(slots, 8, "a").body == b"2"
    assert find_slot(slots, 8, "b") is None
    check_slot(slots[0])


@pytest.mark.parametrize(
    ("slot_id", "body"),
    [
        ("team/data/1", bytes(59)),
        ("team/data/1", bytes(61)),
        ("team/data", bytes(60)),
        ("team/data/0", bytes(60)),
        ("team/data/01", bytes(60)),
        ("team/data/x", bytes(60)),
        ("team/data/1/2", bytes(60)),
        ("/data/1", bytes(60)),
    ],
)
def test_a_slot_of_a_token_that_looks_otherwise_is_refused(slot_id, body):
    check_slot(Slot(type=6, id="team/data/1", body=bytes(60)))

    with pytest.raises(FormatError):
        check_slot(Slot(type=6, id=slot_id, body=body))


def test_the_header_covers_a_tokens_slot_whole():
    slot = Slot(type=6, id="team/data/1", body=bytes(60))

    assert slot.authenticated == slot.encoded
