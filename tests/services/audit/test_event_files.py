"""Files of events: whole, in order, of the log as it was, whatever happens meanwhile."""

from __future__ import annotations

import csv
import io
import itertools
import json

import pytest

from airflow_secure_ml.core.audit.event_table import restored
from airflow_secure_ml.core.audit.query import EventQuery
from airflow_secure_ml.errors import AuditLogError
from airflow_secure_ml.services import event_files
from airflow_secure_ml.services.event_files import event_pieces
from tests.contracts.audit_stores import (
    EMITTER,
    LEAVES,
    ORIGIN,
    SqliteStore,
    append,
    leaf,
)


@pytest.fixture
def few_at_once(monkeypatch):
    monkeypatch.setattr(event_files, "BATCH", 2)


def text_of(pieces):
    return b"".join(piece.data for piece in pieces).decode()


def test_a_line_is_an_event_as_it_is_stored_the_oldest_first(trail_log, trail_store, few_at_once):
    pieces = list(event_pieces(trail_store.reader(), EventQuery(), "jsonl"))

    lines = text_of(pieces).encode().splitlines()
    assert lines == [LEAVES[at].data for at in (3, 0, 1, 2, 4, 5)]
    assert sum(piece.events for piece in pieces) == 6
    assert len(pieces) == 3


def test_the_filter_holds(trail_log, trail_store, few_at_once):
    pieces = event_pieces(trail_store.reader(), EventQuery(dags=("sales",)), "jsonl")

    assert [json.loads(line)["seq"] for line in text_of(pieces).splitlines()] == [4, 5]


def test_a_table_has_a_head_and_a_row_an_event(trail_log, trail_store, few_at_once):
    text = text_of(event_pieces(trail_store.reader(), EventQuery(), "csv"))

    head, *rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert head[0] == "event"
    assert [restored(row[-1]).encode() for row in rows] == [
        LEAVES[at].data for at in (3, 0, 1, 2, 4, 5)
    ]


def test_what_comes_in_meanwhile_is_not_in_the_file(trail_log, trail_store, few_at_once):
    pieces = event_pieces(trail_store.reader(), EventQuery(), "jsonl")
    first = next(pieces)

    # Later in the log, but earlier by its clock than what was not read yet, and later too.
    append(trail_log, [leaf(6, time=2000), leaf(7, time=9_000_000)])
    lines = (first.data + text_of(pieces).encode()).splitlines()

    assert [json.loads(line)["seq"] for line in lines] == [3, 0, 1, 2, 4, 5]


def test_a_file_of_nothing_is_empty(trail_log, trail_store):
    assert text_of(event_pieces(trail_store.reader(), EventQuery(dag="none"), "jsonl")) == ""


def test_a_log_that_is_pruned_meanwhile_ends_the_file_as_broken(
    trail_log, trail_store, few_at_once
):
    pieces = event_pieces(trail_store.reader(), EventQuery(), "jsonl")
    next(pieces)

    append(trail_log, [leaf(6, time=2000, act="trail.prune", result=None, dag=None)])

    with pytest.raises(AuditLogError, match="was pruned meanwhile"):
        list(pieces)


def test_an_edited_event_does_not_become_two_lines(tmp_path):
    store = SqliteStore(tmp_path)
    with store.writer(ORIGIN) as writer:
        append(writer, LEAVES)
    forged = LEAVES[2].data.replace(b'"v":1', b'"v":\n1')
    store.edit("UPDATE leaf SET data = ? WHERE idx = 2", forged.decode())

    with pytest.raises(AuditLogError, match="leaf 2 has more than one line"):
        list(event_pieces(store.reader(), EventQuery(), "jsonl"))


@pytest.mark.parametrize("time", ['"soon"', "1e400", "[1]"], ids=["text", "infinite", "list"])
def test_a_log_without_an_order_ends_instead_of_going_on_for_ever(tmp_path, few_at_once, time):
    store = SqliteStore(tmp_path)
    with store.writer(ORIGIN) as writer:
        append(writer, LEAVES)
    for at in (4, 5):
        forged = LEAVES[at].data.decode()
        stamp = LEAVES[at].event["time"]
        forged = forged.replace(f'"time":{stamp}', f'"time":{time}')
        store.edit("UPDATE leaf SET data = ? WHERE idx = ?", forged, at)

    pieces = itertools.islice(event_pieces(store.reader(), EventQuery(), "jsonl"), 50)
    with pytest.raises(AuditLogError):
        list(pieces)


def test_names_stay_hidden(trail_log, trail_store):
    hidden = {"h": "ab" * 32, "n": 3}
    append(trail_log, [leaf(6, time=5_000_000, dag=None, by=hidden, act="trail.view")])

    text = text_of(event_pieces(trail_store.reader(), EventQuery(emitter=EMITTER), "csv"))

    assert f'"hidden:{"ab" * 32}"' in text
