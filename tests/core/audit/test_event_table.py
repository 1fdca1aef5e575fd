"""A table of events: nothing in it runs, and every cell can be turned back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.audit.event_table import COLUMNS, guarded, header, restored, row
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.tree import leaf_hash

VECTORS = Path(__file__).parents[2] / "vectors" / "v1" / "event_table"
FORMULAS = "=+-@＝＋－＠"
# What a program with other settings may take for the end of a cell.
ENDS = ',;|"'
_NASTY = "=+-@＝＋－＠'\",;|\\ \t\r\n\u202e\u200b\x00\x1bau0U"
SIGNS = st.text(st.sampled_from(_NASTY) | st.characters())
# What UTF-8 can hold.
STORED = st.text(st.sampled_from(_NASTY) | st.characters(exclude_categories=["Cs"]))


def leaf(event):
    data = json.dumps(event, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    return Leaf(index=0, data=data, hash=leaf_hash(data), event=event)


def cells_of(text, **how):
    return next(csv.reader(io.StringIO(text, newline=""), **how))


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("＝1", "'＝1"),
        ("  =1", "'  =1"),
        ("\t=1", "\\u0009=1"),
        ("\r=1", "\\u000d=1"),
        ("\n=1", "\\u000a=1"),
        ("a;=1", "a;'=1"),
        ("a,@x", "a,'@x"),
        ('a"=1', "a\"'=1"),
        ("a|-1", "a|'-1"),
        ("'a", "''a"),
        ("a=1", "a=1"),
        ("a-b", "a-b"),
        ("C:\\x", "C:\\\\x"),
        ("\u202eabc", "\\u202eabc"),
        ("\x1b[31m", "\\u001b[31m"),
        ("\U000e0041", "\\U000e0041"),
        ("zoë 🙂", "zoë 🙂"),
        ("", ""),
    ],
    ids=lambda text: ascii(text)[:24],
)
def test_a_cell_is_no_formula_and_hides_nothing(text, cell):
    assert guarded(text) == cell
    assert restored(cell) == text


@given(SIGNS)
def test_every_text_comes_back(text):
    assert restored(guarded(text)) == text


@given(SIGNS)
def test_no_program_sees_a_cell_that_begins_with_a_formula(text):
    cell = guarded(text)

    assert cell.isprintable() or not cell
    for at, sign in enumerate(cell):
        if sign in FORMULAS:
            before = cell[:at].rstrip(" ")
            assert before
            assert before[-1] not in ENDS


@given(STORED, st.sampled_from(",;|\t"))
def test_other_separators_make_no_formula_of_it_either(text, separator):
    line = row(leaf({"act": "a", "object": {"name": text}}))

    for cell in cells_of(line.rstrip("\r\n"), delimiter=separator, strict=False):
        assert cell.lstrip(' "')[:1] not in FORMULAS or not cell.lstrip(' "')


def test_a_row_stays_a_row_whatever_is_in_it():
    event = {"act": "a", "object": {"name": 'x","y\r\n=1', "uri": "\u2028"}}

    line = row(leaf(event))

    assert line.count("\r\n") == 1
    assert len(cells_of(line)) == len(COLUMNS)


def test_the_last_cell_is_the_event_as_it_is_stored():
    event = {"act": "object.open", "more": {"because": '=cmd|"/C calc"!A0'}}
    found = leaf(event)

    stored = restored(cells_of(row(found))[-1]).encode()

    assert stored == found.data
    assert leaf_hash(stored) == found.hash


def test_hidden_values_keep_together_what_one_person_did():
    hidden = {"h": "ab" * 32, "n": 5}

    cells = dict(zip(COLUMNS, cells_of(row(leaf({"by": hidden}))), strict=True))

    assert cells["person"] == "hidden:" + "ab" * 32


def test_an_edited_event_is_a_row_too():
    event = {"time": "soon", "run": "none", "object": ["x"], "seq": None}

    cells = dict(zip(COLUMNS, cells_of(row(leaf(event))), strict=True))

    assert cells["time"] == "soon"
    assert cells["dag"] == ""


def test_the_bytes_are_those_of_the_first_release():
    events = (VECTORS / "events.jsonl").read_bytes().splitlines()
    leaves = [
        Leaf(index=at, data=data, hash=leaf_hash(data), event=json.loads(data))
        for at, data in enumerate(events)
    ]

    made = header() + "".join(map(row, leaves))

    assert made.encode() == (VECTORS / "events.csv").read_bytes()
