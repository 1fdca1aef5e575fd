"""Parquet that is sealed whole: one column is read without fetching the rest."""

from __future__ import annotations

import io
import random

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_secure_ml.services.sealed_reader import SealedReader
from airflow_secure_ml.services.sealing import seal_object
from airflow_secure_ml.testing.memory_objects import MemoryObjects
from tests.services.parquet.conftest import DATA

COLUMNS, ROWS = 26, 330_000
CONTEXT = {"object": "file:///lake/wide.parquet"}


class Counting:
    """A pinned object that counts the bytes that are fetched."""

    def __init__(self, pinned):
        self._pinned, self.fetched = pinned, 0

    def __getattr__(self, name):
        return getattr(self._pinned, name)

    def read_at(self, offset, length):
        data = self._pinned.read_at(offset, length)
        self.fetched += len(data)
        return data

    def readinto_at(self, offset, buffer):
        count = self._pinned.readinto_at(offset, buffer)
        self.fetched += count
        return count


@pytest.fixture(scope="module")
def sealed():
    """26 columns of noise, which no encoding makes small: 66 MiB in one row group."""
    noise = random.Random(5)
    table = pa.table(
        {
            f"c{n:02d}": pa.Array.from_buffers(
                pa.int64(), ROWS, [None, pa.py_buffer(noise.randbytes(8 * ROWS))]
            )
            for n in range(COLUMNS)
        }
    )
    out = io.BytesIO()
    pq.write_table(table, out, use_dictionary=False, compression="none")
    store = MemoryObjects()
    with store.create("file:///s") as writer:
        out.seek(0)
        seal_object(out, writer, keys=[DATA], context=CONTEXT)
        writer.commit(replace=False)
    return store, table


READERS = {
    "pyarrow": lambda file: pq.ParquetFile(file).read(columns=["c13"]),
    "read_table": lambda file: pq.read_table(file, columns=["c13"]),
    "pandas": lambda file: pa.Table.from_pandas(
        pd.read_parquet(file, columns=["c13"]), preserve_index=False
    ).replace_schema_metadata(None),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_one_column_of_26_fetches_at_most_8_percent(sealed, read):
    store, table = sealed
    pinned = Counting(store.open("file:///s"))

    with SealedReader(pinned, keys=[DATA], expect=CONTEXT) as file:
        found = read(file)

    assert found.column("c13").equals(table.column("c13"))
    assert pinned.fetched / pinned.size_bytes <= 0.08


def test_what_pre_buffer_fetches_is_the_same(sealed):
    store, _ = sealed
    fetched = {}
    for pre_buffer in (True, False):
        pinned = Counting(store.open("file:///s"))
        with SealedReader(pinned, keys=[DATA], expect=CONTEXT) as file:
            pq.ParquetFile(file, pre_buffer=pre_buffer).read(columns=["c13"])
        fetched[pre_buffer] = round(pinned.fetched / pinned.size_bytes, 3)

    assert max(fetched.values()) <= 0.08, fetched
