"""Thrift's compact protocol: what is written reads back, and nothing read hurts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_secure_ml.core.parquet.layout import page_header
from airflow_secure_ml.core.parquet.thrift import (
    BINARY,
    BYTE,
    DOUBLE,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Items,
    Struct,
    read_struct,
    write_struct,
)
from airflow_secure_ml.errors import FormatError

SCALARS = {
    TRUE: st.booleans(),
    BYTE: st.integers(0, 255),
    I16: st.integers(-(1 << 15), (1 << 15) - 1),
    I32: st.integers(-(1 << 31), (1 << 31) - 1),
    I64: st.integers(-(1 << 63), (1 << 63) - 1),
    DOUBLE: st.binary(min_size=8, max_size=8),
    BINARY: st.binary(max_size=20),
}
scalars = st.sampled_from(list(SCALARS)).flatmap(lambda k: st.tuples(st.just(k), SCALARS[k]))


def lists_of(structs):
    kinds = st.sampled_from(list(SCALARS)).flatmap(
        lambda kind: st.builds(Items, st.just(kind), st.lists(SCALARS[kind], max_size=20))
    )
    return kinds | st.builds(Items, st.just(STRUCT), st.lists(structs, max_size=4))


def structs_of(values):
    return st.builds(Struct, st.dictionaries(st.integers(1, 300), values, max_size=6))


structs = st.recursive(
    structs_of(scalars),
    lambda inner: structs_of(
        scalars | st.tuples(st.just(STRUCT), inner) | st.tuples(st.just(LIST), lists_of(inner))
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(structs)
def test_what_is_written_reads_back(struct):
    data = write_struct(struct)

    assert read_struct(data) == (struct, len(data))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_struct_or_refused(data):
    try:
        struct, end = read_struct(data)
    except FormatError:
        return
    assert end <= len(data)
    assert read_struct(write_struct(struct))[0] == struct


@settings(deadline=None)
@given(structs, st.integers(0, (1 << 31) - 1), st.integers(0, (1 << 31) - 1), st.booleans())
def test_a_page_header_gets_its_length_whatever_else_it_holds(rest, old, new, checksum):
    header = Struct({n: v for n, v in rest.fields.items() if n > 4})
    header.put(1, I32, 0)
    header.put(2, I32, 77)
    header.put(3, I32, old)
    if checksum:
        header.put(4, I32, -5)

    made, _ = read_struct(page_header(header, write_struct(header), new))

    expected = header.copy()
    expected.drop(4)
    expected.put(3, I32, new)
    assert made == expected
