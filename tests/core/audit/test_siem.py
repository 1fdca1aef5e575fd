"""What the relay writes for good: its cursor, and syslog's frames, against kept bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.siem import Cursor, encode_syslog, parse_cursor
from airflow_secure_ml.core.audit.tree import leaf_hash
from airflow_secure_ml.errors import FormatError

VECTORS = Path(__file__).parents[2] / "vectors" / "v1"
ORIGIN = "example.org/asml-trail/7f3a9c20"
LINES = (VECTORS / "trail" / "leaves.txt").read_bytes().splitlines()
LEAVES = [line for line in LINES if line.startswith(b"{")][:4]


def test_syslog_frames_are_the_bytes_that_were_kept():
    made = [
        encode_syslog(
            Leaf(index=index, data=data, hash=leaf_hash(data), event=json.loads(data)),
            origin=ORIGIN,
            version="1.2.3",
        )
        for index, data in enumerate(LEAVES)
    ]

    assert len(made) == 4
    assert b"".join(made) == (VECTORS / "siem" / "syslog.bin").read_bytes()


def test_cursors_are_read_as_they_were_kept():
    lines = (VECTORS / "siem" / "cursors.txt").read_text().splitlines()

    found = [parse_cursor(line) for line in lines]

    assert found == [
        Cursor(origin=ORIGIN),
        Cursor(origin=ORIGIN, next=3, last=leaf_hash(LEAVES[2])),
    ]
    assert [each.encode() for each in found] == lines


@given(st.integers(1, 2**53), st.binary(min_size=32, max_size=32))
def test_a_cursor_comes_back(index, last):
    made = Cursor(origin=ORIGIN, next=index, last=last)

    assert parse_cursor(made.encode()) == made


@pytest.mark.parametrize(
    "text", ["", "1", "1 -1 - x", "1 1 - x", "1 1 zz x", "1 0 - a b", "1 0 - "]
)
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises(FormatError, match="cursor"):
        parse_cursor(text)
