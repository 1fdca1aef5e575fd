"""A realistic table, and everything that seals and opens it without Airflow."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_secure_ml.adapters.parquet import arrow_fields
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import KekWrapper
from airflow_secure_ml.services.parquet_keys import ReaderKeys
from airflow_secure_ml.services.parquet_opening import choose, open_columns, read_columns
from airflow_secure_ml.services.parquet_sealing import ColumnKeys, NamedKey, seal_parquet
from airflow_secure_ml.testing.memory_objects import MemoryObjects

URI = "file:///lake/people.parquet"
PLAIN, SEALED, OPENED = "file:///p", "file:///s", "file:///o"


def kek(name, byte):
    ref = KeyRef(system="local", name=name, version="1")
    return KekWrapper(bytes([byte]) * 32, slot_id=f"{name}/1", ref=ref)


DATA, PII = kek("data", 1), kek("pii", 2)


def people(rows=500):
    """Every shape of column that matters: texts, numbers, nulls, lists, a struct, a category."""
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "ssn": [f"{n % 1000:03d}-{n % 97:02d}-{n:04d}" for n in range(rows)],
            "age": pa.array([None if n % 7 == 0 else n % 90 for n in range(rows)], pa.int8()),
            "visits": [[n, n + 1][: n % 3] for n in range(rows)],
            "home": [{"city": f"c{n % 5}", "zip": n} for n in range(rows)],
            "kind": pa.array([f"k{n % 4}" for n in range(rows)]).dictionary_encode(),
            "stay": pa.array(range(rows), pa.duration("ms")),
        }
    )


def written(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def table_of(data):
    return pq.read_table(io.BytesIO(data))


class ParquetBench:
    """Seals and opens through the services, in memory."""

    def __init__(self):
        self.store = MemoryObjects()
        self.data_key = DATA

    def put(self, data, uri=SEALED):
        self.store.put(uri, bytes(data))
        return self.store.open(uri)

    def seal(self, data, columns=None, *, uri=URI, **options):
        """The encrypted bytes."""
        named = {"ssn": ("pii", PII)} if columns is None else columns
        keys = {column: NamedKey(name=n, wrapper=w) for column, (n, w) in named.items()}
        footer = NamedKey(name="data", wrapper=self.data_key)
        with ColumnKeys(uri, footer, keys, **options) as held, self.store.create(SEALED) as writer:
            self.entry = seal_parquet(self.put(data, PLAIN), writer, keys=held)
            writer.commit(replace=True)
        return self.store.objects[SEALED]

    def open(self, data, keys=(DATA, PII), *, wanted=(), uri=URI, **options):
        """The plain bytes of what a reader with these keys may read."""
        pinned = self.put(data)
        with ReaderKeys(uri, keys, **options) as held, self.store.create(OPENED) as writer:
            self.columns = read_columns(pinned, held)
            keep = choose(self.columns, wanted)
            open_columns(pinned, writer, self.columns, held, keep=keep, arrow_fields=arrow_fields)
            writer.commit(replace=True)
        return self.store.objects[OPENED]


@pytest.fixture
def bench():
    return ParquetBench()
