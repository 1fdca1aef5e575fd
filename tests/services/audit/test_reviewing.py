"""Reviews from the log: who may end one, and whether it is still the log that was looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_secure_ml.core.audit.checkpoint import Checkpoint
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import Edge
from airflow_secure_ml.services.reviewing import (
    Grown,
    grown_since,
    notes_on,
    reviews,
    reviews_in,
    sign_off_of,
)
from tests.contracts.audit_stores import EMITTER, ORIGIN, SqliteStore, append, leaf

VERA, OLAF = "aa" * 32, "bb" * 32
NAMES = {VERA: "vera", OLAF: "olaf", "cc" * 32: "vera"}
ASSIGNED = f"{EMITTER}:0"


def hidden(h):
    return {"h": h, "n": 4}


def assigned(seq=0, *, to=VERA, begin=0, end=1000, **more):
    facts = {"from_ms": begin, "until_ms": end, "assignee": hidden(to), **more}
    return leaf(seq, time=5000 + seq, act="review.assign", dag=None, by=hidden(OLAF), more=facts)


def noted(seq, *, of=ASSIGNED, review=ASSIGNED):
    more = {"review": review, "note": hidden("dd" * 32)}
    return leaf(
        seq, time=5000 + seq, act="review.note", dag=None, of=of, by=hidden(VERA), more=more
    )


def signed(seq, *, by=VERA, of=ASSIGNED, size=1, root="00" * 32, **more):
    facts = {"from_ms": 0, "until_ms": 1000, "size": size, "root": root, "signer": ORIGIN, **more}
    return leaf(seq, time=5000 + seq, act="review.sign", dag=None, of=of, by=hidden(by), more=facts)


def as_leaves(new):
    return [
        Leaf(index=at, data=each.data, hash=each.hash, event=each.event)
        for at, each in enumerate(new)
    ]


def only(*new):
    (found,) = reviews_in(as_leaves(new))
    return found


def test_a_review_is_a_period_given_to_somebody():
    found = only(assigned(end=2000, note=hidden("ee" * 32)))

    assert (found.name, found.from_ms, found.until_ms) == (ASSIGNED, 0, 2000)
    assert (found.assignee, found.asked.by, found.asked.text) == (VERA, OLAF, "ee" * 32)
    assert sign_off_of(found, NAMES.get) is None


def test_the_newest_comes_first():
    found = reviews_in(as_leaves([assigned(0), assigned(1)]))

    assert [review.name for review in found] == [f"{EMITTER}:1", f"{EMITTER}:0"]


def test_notes_belong_to_a_review_and_perhaps_to_an_event():
    other = "cd" * 16 + ":7"

    found = only(assigned(), noted(1), noted(2, of=other))

    assert [note.of for note in found.notes] == [ASSIGNED, other]
    assert [note.event for note in notes_on(other, [found])] == [f"{EMITTER}:2"]
    assert notes_on(ASSIGNED, [found]) == []


def by_a_task(new):
    run = {"dag": "churn", "run": "r1", "task": "train"}
    return Leaf(index=1, data=new.data, hash=new.hash, event={**new.event, "run": run})


@pytest.mark.parametrize("said", [assigned(1), noted(1), signed(1)], ids=["a", "note", "sign-off"])
def test_what_a_task_says_of_a_review_is_not_believed(said):
    honest = as_leaves([assigned()])

    assert reviews_in([*honest, by_a_task(said)]) == reviews_in(honest)


@pytest.mark.parametrize("period", [(0, 2**52), (-1, 1000), (253_402_300_800_000, 2**52)])
def test_a_period_that_no_calendar_has_is_passed_over(period):
    assert reviews_in(as_leaves([assigned(begin=period[0], end=period[1])])) == []


def test_a_sign_off_of_somebody_else_does_not_count():
    found = only(assigned(), signed(1, by=OLAF), signed(2, by="cc" * 32, size=2))

    ended = sign_off_of(found, NAMES.get)

    assert (ended.size, ended.note.event) == (2, f"{EMITTER}:2")


def test_of_two_by_the_assignee_the_first_counts():
    found = only(assigned(), signed(1, size=1), signed(2, size=2))

    assert sign_off_of(found, NAMES.get).size == 1


def test_who_was_erased_cannot_be_compared_and_the_first_counts():
    found = only(assigned(), signed(1, by=OLAF))

    assert sign_off_of(found, {}.get).size == 1


@pytest.mark.parametrize(
    "more",
    [
        {"from_ms": "x"},
        {"until_ms": None},
        {"from_ms": 9, "until_ms": 9},
        {"assignee": "vera"},
        {"assignee": {"h": "x", "n": 1}},
    ],
    ids=["text", "nothing", "empty", "in the open", "no hash"],
)
def test_what_an_edited_log_says_otherwise_is_passed_over(more):
    event = dict(assigned().event)
    event["more"] = {**event["more"], **more}

    made = as_leaves([assigned()])
    assert reviews_in([replace(made[0], event=event)]) == []


@pytest.mark.parametrize(
    "more", [{"size": -1}, {"size": "1"}, {"root": "00"}, {"root": 7}], ids=str
)
def test_a_sign_off_that_names_no_tree_is_none(more):
    event = dict(signed(1).event)
    event["more"] = {**event["more"], **more}
    first, second = as_leaves([assigned(), signed(1)])

    (found,) = reviews_in([first, replace(second, event=event)])

    assert found.sign_offs == ()


@pytest.fixture
def log(tmp_path):
    store = SqliteStore(tmp_path)
    with store.writer(ORIGIN) as writer:
        append(writer, [assigned(0), leaf(1, time=10), leaf(2, time=20)])
        yield writer, store


def tree(store, size):
    reader = store.reader()
    root = Edge.read(size, node_reader(reader.leaf_hashes, reader.tile)).root()
    return Checkpoint(origin=ORIGIN, size=size, root=root)


def test_the_same_log_has_grown_by_what_came_since(log):
    writer, store = log
    at = tree(store, 3)
    append(writer, [signed(3, size=3, root=at.root.hex()), leaf(4, time=9999)])
    (found,), is_all = reviews(store.reader())

    grown = grown_since(store.reader(), found, found.sign_offs[0], tree(store, 5))

    assert is_all
    assert grown == Grown(by=2)


def test_events_of_the_period_that_came_later_are_told(log):
    writer, store = log
    at = tree(store, 3)
    append(writer, [signed(3, size=3, root=at.root.hex()), leaf(4, time=500), leaf(5, time=1000)])
    (found,), _ = reviews(store.reader())

    assert grown_since(store.reader(), found, found.sign_offs[0], tree(store, 6)).late == 1


def test_another_history_below_the_sign_off_is_told(log):
    writer, store = log
    append(writer, [signed(3, size=3, root="ab" * 32)])
    (found,), _ = reviews(store.reader())

    grown = grown_since(store.reader(), found, found.sign_offs[0], tree(store, 4))

    assert grown.by is None
    assert "another history" in grown.problem


def test_a_changed_hash_below_the_sign_off_is_told(log):
    writer, store = log
    at = tree(store, 3)
    append(writer, [signed(3, size=3, root=at.root.hex())])
    now = tree(store, 4)
    store.edit("UPDATE leaf SET hash = ? WHERE idx = 1", b"\x00" * 32)
    (found,), _ = reviews(store.reader())

    assert grown_since(store.reader(), found, found.sign_offs[0], now).by is None


def test_a_log_that_was_cut_is_told(log):
    writer, store = log
    append(writer, [signed(3, size=9, root="ab" * 32)])
    (found,), _ = reviews(store.reader())

    grown = grown_since(store.reader(), found, found.sign_offs[0], tree(store, 4))

    assert "was cut" in grown.problem


def test_without_a_checkpoint_nothing_is_told(log):
    writer, store = log
    append(writer, [signed(3)])
    (found,), _ = reviews(store.reader())

    assert "no checkpoint" in grown_since(store.reader(), found, found.sign_offs[0], None).problem
