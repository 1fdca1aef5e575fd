"""A page at a time: memory does not grow with the file."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_secure_ml.adapters.local_objects import LocalObjects
from airflow_secure_ml.services.parquet_keys import ReaderKeys
from airflow_secure_ml.services.parquet_opening import choose, open_columns, read_columns
from airflow_secure_ml.services.parquet_sealing import ColumnKeys, NamedKey, seal_parquet
from tests.services.parquet.conftest import DATA, PII

MIB = 1 << 20
LIMIT = 12 * MIB


@pytest.fixture
def large(tmp_path):
    """A file of 76 MiB."""
    noise = np.random.default_rng(3)
    table = pa.table({name: noise.integers(0, 1 << 60, 2_000_000) for name in "abcde"})
    path = tmp_path / "plain.parquet"
    pq.write_table(table, path, use_dictionary=False, compression="none", row_group_size=500_000)
    return path


def test_sealing_and_opening_hold_a_few_pages(large, tmp_path):
    store = LocalObjects()
    plain, sealed, opened = (
        store.canonical(str(tmp_path / name)) for name in ("plain.parquet", "sealed", "opened")
    )
    keys = {"a": NamedKey(name="pii", wrapper=PII)}

    tracemalloc.start()
    with (
        ColumnKeys(sealed, NamedKey(name="data", wrapper=DATA), keys) as held,
        store.open(plain) as source,
        store.create(sealed) as writer,
    ):
        seal_parquet(source, writer, keys=held)
        writer.commit(replace=False)
    with (
        ReaderKeys(sealed, [DATA, PII]) as reader,
        store.open(sealed) as source,
        store.create(opened) as writer,
    ):
        columns = read_columns(source, reader)
        open_columns(source, writer, columns, reader, keep=choose(columns, ()))
        writer.commit(replace=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert large.stat().st_size > 6 * LIMIT
    assert peak < LIMIT
    assert pq.read_table(tmp_path / "opened").equals(pq.read_table(large))
