"""A certificate of destruction: its bytes, for good, and what passes for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_secure_ml.core import statement
from airflow_secure_ml.core.destruction import Destruction, LostObject, parse_destruction
from airflow_secure_ml.core.statement import Producer
from airflow_secure_ml.errors import FormatError

VECTOR = Path(__file__).parents[1] / "vectors" / "v1" / "destruction" / "certificate.json"
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
    assert parse_destruction(VECTOR.read_bytes()) == certificate()


def test_a_certificate_has_one_spelling():
    assert certificate().encode() == VECTOR.read_bytes()


@pytest.mark.parametrize(
    "other",
    [{"producer": None, "by": "ada"}, {"objects": ()}, {"copies": 0}],
    ids=["command line", "no object", "no copy"],
)
def test_what_is_written_is_read(other):
    assert parse_destruction(certificate(**other).encode()) == certificate(**other)


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
        parse_destruction(data.replace(old, new, 1))


def test_a_certificate_is_no_artifacts_statement():
    with pytest.raises(FormatError):
        statement.parse(certificate().encode())
