"""Random access: the same bytes as the plaintext, few of them fetched, none unverified."""

from __future__ import annotations

import io
import threading

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_secure_ml.core.sealed_file.context import ANY_CONTEXT
from airflow_secure_ml.errors import CiphertextError, ConfigurationError, PolicyError
from airflow_secure_ml.services.sealed_reader import SealedReader

MIB = 1 << 20
LENGTH = 1048520 + 2 * 1048560 + 777


class Counting:
    """A pinned object that counts what is fetched."""

    def __init__(self, obj):
        self._obj, self.fetched = obj, 0
        self.uri, self.size_bytes, self.version = obj.uri, obj.size_bytes, obj.version

    def read_at(self, offset, length):
        self.fetched += length
        return self._obj.read_at(offset, length)

    def readinto_at(self, offset, buffer):
        self.fetched += len(buffer)
        return self._obj.readinto_at(offset, buffer)

    def check_unchanged(self):
        self._obj.check_unchanged()


@pytest.fixture
def reader_of(bench):
    def reader_of(data, **more):
        bench.counting = Counting(bench.put(bench.seal(data)))
        return SealedReader(bench.counting, keys=[bench.kek], expect=bench.context, **more)

    return reader_of


@pytest.fixture
def table():
    rows = 300_000
    columns = {f"c{i}": pa.array([(row * 31 + i) % 65521 for row in range(rows)]) for i in range(9)}
    return pa.table(columns)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1048519, 1048520, 2097079, LENGTH - 1, LENGTH, LENGTH + 5])
            | st.integers(0, LENGTH),
            st.sampled_from([0, 1, 2, 1048560, LENGTH]) | st.integers(0, 5000),
        ),
        max_size=5,
    )
)
def test_every_range_is_the_plaintexts(reader_of, pattern, ranges):
    plaintext = pattern(LENGTH)

    with reader_of(plaintext, cached_segments=1) as reader:
        for offset, length in ranges:
            assert reader.seek(offset) == offset
            assert reader.read(length) == plaintext[offset : offset + length]
            assert reader.tell() == offset + len(plaintext[offset : offset + length])


@pytest.mark.parametrize("length", [0, 1, 1048520, 1048521])
def test_the_whole_is_read(reader_of, pattern, length):
    reader = reader_of(pattern(length))

    assert reader.read() == pattern(length)
    assert reader.read() == b""
    assert reader.size_bytes == length


def test_it_behaves_as_a_file(reader_of):
    reader = reader_of(b"one\ntwo\nthree")

    assert (reader.readable(), reader.seekable(), reader.writable()) == (True, True, False)
    assert reader.seek(-5, io.SEEK_END) == 8
    assert reader.seek(1, io.SEEK_CUR) == 9
    with pytest.raises(ValueError, match="before the beginning"):
        reader.seek(-1)
    with pytest.raises(ValueError, match="whence"):
        reader.seek(0, 3)
    reader.seek(0)
    assert list(reader) == [b"one\n", b"two\n", b"three"]
    assert io.TextIOWrapper(io.BufferedReader(reader_of(b"\xc3\xa4"))).read() == "ä"


def test_a_closed_reader_gives_nothing_and_keeps_nothing(reader_of):
    reader = reader_of(b"hello")
    reader.read(1)
    (cached,) = reader._cache.values()

    reader.close()
    reader.close()

    assert cached == bytes(5)
    with pytest.raises(ValueError, match="closed"):
        reader.read(1)
    with pytest.raises(ValueError, match="closed"):
        reader.seek(0)


def test_the_cache_stays_small_and_is_wiped(reader_of, pattern):
    reader = reader_of(pattern(LENGTH), cached_segments=2)
    reader.read(1)
    first = reader._cache[0]

    reader.read()

    assert len(reader._cache) == 2
    assert not any(first)


def test_parquet_columns_are_read_without_fetching_all(reader_of, table):
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=300_000, compression="none", use_dictionary=False)

    reader = reader_of(sink.getvalue())
    column = pq.read_table(reader, columns=["c4"])

    assert column.equals(table.select(["c4"]))
    assert reader._obj.fetched < 0.4 * len(sink.getvalue())


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_pandas_polars_and_pyarrow_read_from_it(reader_of, table, kind):
    small = table.slice(0, 30_000)
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(small, sink)
        ways = [pd.read_parquet, pl.read_parquet, pq.read_table]
    else:
        small.to_pandas().to_csv(sink, index=False)
        ways = [pd.read_csv, pl.read_csv, pc.read_csv]
    for way in ways:
        found = way(reader_of(sink.getvalue()))
        found = found.to_pandas() if hasattr(found, "to_pandas") else found
        assert found.astype("int64").equals(small.to_pandas())


def test_many_threads_read_at_once(reader_of, pattern):
    plaintext, wrong = pattern(LENGTH), []
    reader = reader_of(plaintext, cached_segments=1)

    def read(start):
        for offset in range(start, LENGTH - 100, 777_777):
            got = bytearray(100)
            reader.readinto_at(offset, memoryview(got))
            if got != plaintext[offset : offset + 100]:
                wrong.append(offset)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(0, 8000, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_a_segment_that_was_altered_is_refused_and_the_others_are_read(bench, pattern):
    file = bytearray(bench.seal(pattern(LENGTH)))
    file[4096 + MIB + 5] ^= 1
    reader = SealedReader(bench.put(file), keys=[bench.kek], expect=ANY_CONTEXT)

    assert reader.read(100) == pattern(100)
    reader.seek(1048500)
    buffer = bytearray(b"\xaa" * 100)
    with pytest.raises(CiphertextError, match="segment 1"):
        reader.readinto(buffer)
    assert buffer[20:] == b"\xaa" * 80
    reader.seek(2097080)
    assert reader.read(50) == pattern(LENGTH)[2097080:2097130]


def test_the_last_segment_is_verified_first(bench, pattern):
    file = bytearray(bench.seal(pattern(LENGTH)))
    file[-1] ^= 1

    with pytest.raises(CiphertextError, match="segment 3"):
        SealedReader(bench.put(file), keys=[bench.kek], expect=ANY_CONTEXT)


def test_it_opens_only_with_its_context_and_a_key(bench):
    obj = bench.put(bench.seal(b"hello"))

    with pytest.raises(PolicyError):
        SealedReader(obj, keys=[bench.kek], expect={"dataset": "d2"})
    with pytest.raises(PolicyError):
        SealedReader(obj, keys=[], expect=ANY_CONTEXT)
    with pytest.raises(ConfigurationError):
        SealedReader(obj, keys=[bench.kek], expect=ANY_CONTEXT, cached_segments=0)


def test_it_is_a_source_for_sealing_anew(bench, reader_of, pattern):
    reader = reader_of(pattern(2_000_000))

    assert bench.open(bench.seal(reader)) == pattern(2_000_000)
