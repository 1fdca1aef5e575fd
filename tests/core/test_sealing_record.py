"""Records of a sealed tree's journal have one spelling, which is frozen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_secure_ml.core import dsse, statement
from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.manifest import Entry
from airflow_secure_ml.core.sealing_record import (
    MAX_RECORD_FILES,
    Errand,
    SealedFrom,
    SealingRecord,
    parse,
)
from airflow_secure_ml.errors import FormatError
from tests.signing_keys import PIPELINE

VECTORS = Path(__file__).parents[1] / "vectors" / "v1" / "sealing_record"
RECORD = SealingRecord(
    number=7,
    errand=Errand(
        source="file:///data/plain",
        target="s3://lake/sealed",
        keys=("archive", "data"),
        context={"dataset": "s3://lake/sealed", "purpose": "training"},
    ),
    dataset_key="a1" * 32,
    files=(
        SealedFrom(
            entry=Entry(
                path="deep/größe.csv",
                size_bytes=61,
                digest=Digest.parse("sha256:" + "b2" * 32),
                core_id="c3" * 32,
            ),
            source="2b-18a3-5",
            plaintext_bytes=5,
        ),
    ),
)


def test_the_frozen_record_is_read_and_written():
    envelope = dsse.parse((VECTORS / "signed.dsse.json").read_bytes())

    payload, signers = dsse.verify(envelope, [PIPELINE])

    assert parse(payload) == RECORD
    assert RECORD.encode() == payload
    assert [str(ref) for ref in signers] == ["pipeline/3"]


def test_it_is_no_statement_and_a_statement_is_none():
    said = (VECTORS.parent / "statement" / "signed.dsse.json").read_bytes()
    payload, _ = dsse.verify(dsse.parse(said), [PIPELINE])

    with pytest.raises(FormatError):
        statement.parse(RECORD.encode())
    with pytest.raises(FormatError, match="sealing journal"):
        parse(payload)


def changed(change):
    record = json.loads(RECORD.encode())
    change(record, record["predicate"])
    return json.dumps(record, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda record, said: record.update(predicateType="urn:airflow-secure-ml:sealing:v2"),
        lambda record, said: record.update(more="x"),
        lambda record, said: said.update(more="x"),
        lambda record, said: said.pop("keys"),
        lambda record, said: said.update(number="7"),
        lambda record, said: said.update(number=True),
        lambda record, said: said.update(keys=[1]),
        lambda record, said: said.update(context={"a": 1}),
        lambda record, said: said.update(files=[{}]),
        lambda record, said: said["files"][0].update(more="x"),
        lambda record, said: said["files"][0].update(path="../x"),
        lambda record, said: said["files"][0].update(plain=-1),
        lambda record, said: said["files"][0].pop("core"),
        lambda record, said: said.update(files=said["files"] * (MAX_RECORD_FILES + 1)),
        lambda record, said: record["subject"][0].update(name="s3://lake/other"),
        lambda record, said: record["subject"][0]["digest"].update(sha256="A1" * 32),
        lambda record, said: record["subject"].append(record["subject"][0]),
    ],
    ids=range(17),
)
def test_another_shape_is_refused(change):
    with pytest.raises(FormatError):
        parse(changed(change))
