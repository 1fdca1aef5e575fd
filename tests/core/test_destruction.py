"""A certificate of destruction: its bytes, for good, and what passes for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_secure_ml.core import statement
from airflow_secure_ml.core.destruction import Destruction, LostObject, parse_destruction
from airflow_secure_ml.core.statement import Producer
from airflow_secure_ml.errors import FormatError

VECTORS = Path(__file__).parents[1] / "vectors" / "v1" / "destruction"
VECTOR, LIST = VECTORS / "certificate.json", VECTORS / "objects.json"
CORE_ID = "ab" * 32


def certificate(**other):
    given = {
        "data_set": "s3://lake/visits",
        "core_id": CORE_ID,
        "wrapped_by": ("data/3", "audit/1"),
        "copies": 2,
        "objects": (LostObject(path="ä/1.csv", core_id="cd" * 32, size_bytes=4096),),
        "reason": "retention",
        "destroyed_ms": 1_800_000_000_000,
        "event": "w1:17",
        "producer": Producer(dag_id="forget", task_id="shred", run_id="manual__1"),
    }
    return Destruction(**{**given, **other})


def test_every_release_reads_the_first_ones_certificate():
    assert parse_destruction(VECTOR.read_bytes(), LIST.read_bytes()) == certificate()


def test_a_certificate_has_one_spelling():
    assert certificate().encode() == VECTOR.read_bytes()
    assert certificate().encode_objects() == LIST.read_bytes()


@pytest.mark.parametrize(
    "other",
    [{"producer": None, "by": "ada"}, {"objects": ()}, {"copies": 0}],
    ids=["command line", "no object", "no copy"],
)
def test_what_is_written_is_read(other):
    made = certificate(**other)

    assert parse_destruction(made.encode(), made.encode_objects()) == made


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"copies":2', b'"copies":"2"'),
        (b'"copies":2', b'"copies":-2'),
        (b'"copies":2', b'"copies":2,"more":1'),
        (b"abab", b"ABAB"),
        (b":destruction:", b":artifact:"),
        (b'"event":"w1:17",', b""),
        (b'"wrapped_by":["data/3","audit/1"]', b'"wrapped_by":[]'),
        (b'{"_type"', b'{ "_type"'),
    ],
    ids=["text", "negative", "more", "case", "type", "missing", "no key", "space"],
)
def test_anything_else_is_refused(old, new):
    data = certificate().encode()
    assert old in data

    with pytest.raises(FormatError):
        parse_destruction(data.replace(old, new, 1), certificate().encode_objects())


def test_a_certificate_is_no_artifacts_statement():
    with pytest.raises(FormatError):
        statement.parse(certificate().encode())


def test_it_is_short_however_much_was_lost():
    lost = tuple(
        LostObject(path=f"{number}.csv", core_id="cd" * 32, size_bytes=1)
        for number in range(10_000)
    )

    assert len(certificate(objects=lost).encode()) < 1500


@pytest.mark.parametrize("attack", ["another list", "a longer list", "nothing", "no list"])
def test_another_list_than_was_signed_is_refused(attack):
    made = certificate()
    other = {
        "another list": certificate(objects=()).encode_objects(),
        "a longer list": made.encode_objects() + b" ",
        "nothing": b"",
        "no list": b"{}",
    }[attack]

    with pytest.raises(FormatError):
        parse_destruction(made.encode(), other)
