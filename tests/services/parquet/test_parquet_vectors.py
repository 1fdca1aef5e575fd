"""Files that every later release opens; their bytes are never made anew."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import KekWrapper
from tests.services.parquet.conftest import table_of

FOLDER = Path(__file__).parents[2] / "vectors/v1/parquet"
SAID = json.loads((FOLDER / "people.json").read_text())
SEALED = (FOLDER / "people.parquet").read_bytes()


def keys(*names):
    return [
        KekWrapper(
            bytes.fromhex(SAID["keys"][f"{name}/1"]),
            slot_id=f"{name}/1",
            ref=KeyRef(system="local", name=name, version="1"),
        )
        for name in names
    ]


def test_the_vector_is_as_it_was_made():
    assert hashlib.sha256(SEALED).hexdigest() == SAID["sha256"]


@pytest.mark.parametrize("names", [("data", "pii"), ("data",)], ids=["all keys", "without pii"])
def test_the_vector_opens(bench, names):
    opened = bench.open(SEALED, keys(*names), uri=SAID["made_for"])

    hidden = {name for name, key in SAID["columns"].items() if key not in names}
    expected = [{k: v for k, v in row.items() if k not in hidden} for row in SAID["rows"]]
    assert table_of(opened).to_pylist() == expected
