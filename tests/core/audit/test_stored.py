"""What rows say and what rows a batch makes, for every store; what was not written is refused."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.audit import stored
from airflow_secure_ml.core.audit.ports import Batch, EmitterRow, NewLeaf
from airflow_secure_ml.core.audit.query import Leaf
from airflow_secure_ml.core.audit.subject import AsideRow, Subject, open_aside
from airflow_secure_ml.core.audit.tree import Edge
from airflow_secure_ml.core.redaction import Aside, hidden_hash
from airflow_secure_ml.errors import AuditLogError

SALT = bytes(range(16))
ADA = Aside(h=hidden_hash("Ada", SALT), salt=SALT.hex(), value="Ada")
SUBJECT = Subject(id="11" * 16, key=bytes(range(32)))


class Known:
    def subject(self, subject_id):
        return SUBJECT if subject_id == SUBJECT.id else None

    def subjects(self, values):
        return dict.fromkeys(values, SUBJECT)


def batch(**fields):
    return Batch(edge=Edge(), **fields)


@pytest.mark.parametrize(
    ("asked", "expected"), [(-1, 0), (0, 0), (1, 1), (1000, 1000), (1001, 1000), (2**63, 1000)]
)
def test_a_page_has_a_bounded_number_of_leaves(asked, expected):
    assert stored.page_limit(asked) == expected


@pytest.mark.parametrize(
    ("older_than", "newer_than", "expected"),
    [
        (None, None, ("DESC", [])),
        ((9, 1), None, ("DESC", [("<", (9, 1))])),
        (None, (5, 2), ("ASC", [(">", (5, 2))])),
        ((9, 1), (5, 2), ("DESC", [("<", (9, 1)), (">", (5, 2))])),
        ((0, 0), (0, 0), ("DESC", [("<", (0, 0)), (">", (0, 0))])),
    ],
    ids=["neither", "older", "newer", "both", "both zero"],
)
def test_only_a_lower_bound_alone_turns_a_page_round(older_than, newer_than, expected):
    assert stored.keyset(older_than, newer_than) == expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("ab:0", ("ab", 0)),
        (":7", ("", 7)),
        ("ab:9007199254740991", ("ab", 2**53 - 1)),
        ("ab:0000000000000003", ("ab", 3)),
        ("", None),
        ("ab", None),
        ("ab:", None),
        ("ab:-1", None),
        ("ab:1:2", None),
        ("ab: 1", None),
        ("ab:1_0", None),
        ("ab:٣", None),
        ("ab:²", None),
        ("ab:00000000000000003", None),
    ],
)
def test_an_event_s_name_is_an_emitter_and_a_decimal_number(event, expected):
    assert stored.event_named(event) == expected


def test_a_leaf_holds_its_bytes_as_they_are_and_parsed():
    found = stored.leaf_in(4, b'{"act": "objects"}', b"h" * 32)

    assert found == Leaf(
        index=4, data=b'{"act": "objects"}', hash=b"h" * 32, event={"act": "objects"}
    )


def test_a_leaf_without_a_hash_is_read_as_one_of_no_bytes():
    assert stored.leaf_in(0, b"{}", None).hash == b""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "leaf 4 is not JSON"),
        (b"", "leaf 4 is not JSON"),
        (b"{", "leaf 4 is not JSON"),
        (b'{"a": "\xff"}', "leaf 4 is not JSON"),
        (b"[" * 1_000_000, "leaf 4 is not JSON"),
        (b"[]", "leaf 4 is not an event"),
        (b"null", "leaf 4 is not an event"),
    ],
    ids=["null", "empty", "cut", "not utf-8", "too deep", "list", "none"],
)
def test_a_leaf_that_is_no_event_is_named(data, message):
    with pytest.raises(AuditLogError, match=message) as caught:
        stored.leaf_in(4, data, b"h" * 32)

    assert caught.value.index == 4


def test_an_event_without_a_result_is_an_intent():
    assert stored.kinds_in([("object.open", None), ("objects", "ok")]) == [
        ("object.open", "intent"),
        ("objects", "ok"),
    ]


def test_the_log_s_row_is_read_from_any_iterator():
    assert stored.log_in(iter([("name", 2, b"e")])) == ("name", 2, b"e")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "0 rows in table log, expected 1"),
        ([("a", 0, b""), ("a", 0, b"")], "2 rows in table log, expected 1"),
        ([("a", "0", b"")], "holds no size and edge"),
        ([("a", None, b"")], "holds no size and edge"),
        ([("a", 0, "")], "holds no size and edge"),
        ([("a", 0, None)], "holds no size and edge"),
    ],
    ids=["none", "two", "size is text", "no size", "edge is text", "no edge"],
)
def test_a_table_log_of_another_shape_is_refused(rows, message):
    with pytest.raises(AuditLogError, match=message):
        stored.log_in(rows)


def test_an_edge_is_read_with_its_size():
    edge = Edge().append([b"a" * 32, b"b" * 32, b"c" * 32])

    assert stored.edge_in(3, edge.to_bytes()) == edge


def test_an_edge_that_does_not_fit_its_size_is_refused_with_the_log_s_name():
    with pytest.raises(AuditLogError) as plain:
        stored.edge_in(3, b"short")
    with pytest.raises(AuditLogError) as named:
        stored.edge_in(3, b"short", prefix="audit log trail.db: ")

    assert str(named.value) == f"audit log trail.db: {plain.value}"
    assert "edge" in str(plain.value)


@pytest.mark.parametrize("salt", [SALT, bytearray(SALT), memoryview(SALT)], ids=type)
def test_a_row_of_aside_is_read_whatever_type_its_bytes_have(salt):
    assert stored.aside_row((ADA.h, None, salt, "Ada")) == AsideRow(h=ADA.h, salt=SALT, value="Ada")
    assert type(stored.aside_row((ADA.h, None, salt, "Ada")).salt) is bytes


def test_a_sound_table_aside_has_no_faults():
    assert stored.aside_faults(iter([(ADA.h, None, SALT, "Ada")]), None) == []


def test_exchanged_values_are_counted_and_the_first_is_named():
    rows = [(ADA.h, None, SALT, "Ada"), ("cd" * 99, None, SALT, "x"), (ADA.h, None, SALT, "Bob")]

    assert stored.aside_faults(rows, None) == [
        "2 values in table aside do not give their hashes, the first is '" + "cd" * 32 + "'"
    ]


def test_leaves_are_counted_on_from_the_batch_s_old_size():
    leaves = [NewLeaf(data='{"a":"ä"}'.encode(), hash=bytes([n]) * 32, event={}) for n in (1, 2)]

    assert list(stored.leaf_rows(batch(old_size=7, leaves=leaves))) == [
        (7, '{"a":"ä"}', b"\x01" * 32),
        (8, '{"a":"ä"}', b"\x02" * 32),
    ]


def test_tiles_and_emitters_stand_in_the_order_of_their_columns():
    row = EmitterRow(
        id="ab", next_seq=1, last=b"l", part=2, at=3, state="gap", first_ms=4, last_ms=5
    )
    made = batch(old_size=0, tiles={(1, 2): b"t"}, emitters=[row])

    assert stored.tile_rows(made) == [(1, 2, b"t")]
    assert stored.emitter_rows(made) == [("ab", 1, b"l", 2, 3, "gap", 4, 5)]


def test_hidden_values_lie_in_the_open_where_nobody_has_keys():
    made = batch(old_size=0, asides=[ADA])

    assert stored.aside_rows(made, None, bytes) == [(ADA.h, None, SALT, "Ada")]


def test_hidden_values_are_sealed_under_their_subject_s_key():
    (row,) = stored.aside_rows(batch(old_size=0, asides=[ADA]), Known(), bytes)

    assert row[:3] == (ADA.h, SUBJECT.id, None)
    assert open_aside(stored.aside_row(row), SUBJECT) == ADA
    assert stored.aside_faults([row], Known()) == []
