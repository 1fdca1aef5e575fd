"""Files that are lawful Parquet, or nearly, and that no usual writer makes."""

from __future__ import annotations

import base64
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_secure_ml.core.parquet import layout, modules
from airflow_secure_ml.core.parquet.key_material import KeyMaterial, WrappedKek
from airflow_secure_ml.core.parquet.thrift import I64, read_struct, write_struct
from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.core.sealed_file.keys import KekWrapper
from airflow_secure_ml.errors import FormatError, SecureMLError
from airflow_secure_ml.services import parquet_pages
from tests.services.parquet.conftest import DATA, PII, people, table_of, written


def altered(data, change):
    """A plain file with its footer written anew."""
    size = int.from_bytes(data[-8:-4], "little")
    footer, _ = read_struct(data[-8 - size : -8])
    change(footer)
    made = write_struct(footer)
    return data[: -8 - size] + made + len(made).to_bytes(4, "little") + b"PAR1"


def without_groups(table):
    out = io.BytesIO()
    pq.ParquetWriter(out, table.schema).close()
    return out.getvalue()


# ---- what would be published and never opened again


def test_a_column_whose_name_no_reader_takes_is_refused_when_written(bench):
    name = "x" * 1025
    table = pa.table({"id": [1], name: ["a"]})

    with pytest.raises(SecureMLError):
        bench.seal(written(table), {name: ("pii", PII)})


def test_the_longest_column_name_reads_back(bench):
    name = "ö" * 512
    table = pa.table({"id": [1], name: ["a"]})

    assert table_of(bench.open(bench.seal(written(table), {name: ("pii", PII)}))).equals(table)


def test_a_footer_that_no_reader_takes_is_refused_when_written(bench, monkeypatch):
    data = written(people())
    monkeypatch.setattr(layout, "MAX_FOOTER_BYTES", int.from_bytes(data[-8:-4], "little") + 100)

    with pytest.raises(FormatError, match="footer"):
        bench.seal(data)


@pytest.mark.parametrize("length", [0x7FFFFFFF + 1, 0xFFFFFFFF])
def test_a_page_longer_than_the_format_can_say_is_refused(length):
    header, _ = read_struct(b"\x15\x00\x15\x02\x15\x02\x00")

    with pytest.raises(FormatError, match="longer than"):
        layout.page_header(header, b"\x15\x00\x15\x02\x15\x02\x00", length)


def test_half_encrypted_metadata_is_refused_when_written(bench):
    def hide(footer):
        chunk = footer.structs(layout.ROW_GROUPS)[0].structs(layout.COLUMNS)[0]
        chunk.put(layout.SEALED_META, 8, b"x")

    with pytest.raises(FormatError, match="encrypted already"):
        bench.seal(altered(written(people()), hide))


# ---- limits of the format


def test_a_key_seals_no_more_modules_than_its_nonces_allow(monkeypatch):
    monkeypatch.setattr(modules, "MAX_MODULES", 3)
    cipher = modules.ModuleCipher(bytes(32), lambda count: bytes(count))
    for _ in range(3):
        cipher.seal(b"x", b"")

    with pytest.raises(FormatError, match=r"2\^32 pages"):
        cipher.seal(b"x", b"")


@pytest.mark.parametrize("count", [2, 3])
def test_more_row_groups_than_sixteen_bits_count_are_refused(bench, monkeypatch, count):
    monkeypatch.setattr(modules, "MAX_ORDINAL", 1)
    table = pa.table({"ssn": [str(n) for n in range(count)]})
    data = written(table, row_group_size=1)

    if count == 2:
        assert table_of(bench.open(bench.seal(data))).equals(table)
    else:
        with pytest.raises(FormatError, match="row groups, columns or pages"):
            bench.seal(data)


def test_more_pages_than_sixteen_bits_count_are_refused(bench):
    table = pa.table({"ssn": pa.array(range(33_000), pa.int64())})
    data = written(
        table, use_dictionary=False, data_page_size=1, write_batch_size=1, compression="none"
    )
    assert len(list(_pages(bench, data))) == 33_000

    with pytest.raises(FormatError, match="row groups, columns or pages"):
        bench.seal(data)


def _pages(bench, data):
    pinned = bench.put(data)
    footer, _ = read_struct(parquet_pages.read_footer(pinned, b"PAR1"))
    chunk = footer.structs(layout.ROW_GROUPS)[0].structs(layout.COLUMNS)[0]
    return parquet_pages.plain_pages(pinned, chunk.struct(layout.META))


# ---- files without rows


@pytest.mark.parametrize(
    "make",
    [
        lambda table: written(table[:0]),
        lambda table: written(table[:0], use_dictionary=False),
        without_groups,
    ],
    ids=["a dictionary alone", "no page", "no row group"],
)
def test_a_file_without_rows_keeps_its_schema(bench, make):
    data = make(people(3))

    assert table_of(bench.open(bench.seal(data))).equals(table_of(data))


# ---- what other tools leave in the footer


def test_an_arrow_schema_that_nobody_can_read_does_not_stop_a_reader_without_a_key(bench):
    def spoil(footer):
        for pair in footer.structs(layout.KEY_VALUES):
            if pair.binary(1) == b"ARROW:schema":
                pair.put(2, 8, b"%%%")

    sealed = bench.seal(altered(written(people()), spoil))

    assert pq.ParquetFile(io.BytesIO(bench.open(sealed, [DATA]))).metadata.num_columns > 0


def test_the_extent_of_a_place_lies_not_beside_its_column(bench):
    geo = {
        "version": "1.1.0",
        "primary_column": "home",
        "columns": {
            "home": {"encoding": "WKB", "geometry_types": ["Point"], "bbox": [1.5, 2.5, 1.5, 2.5]},
            "id": {"encoding": "WKB", "bbox": [7.5]},
        },
    }
    table = people(3).replace_schema_metadata({"geo": json.dumps(geo)})
    sealed = bench.seal(written(table), {"home": ("pii", PII)})

    whole = pq.ParquetFile(io.BytesIO(bench.open(sealed))).metadata.metadata
    partly = pq.ParquetFile(io.BytesIO(bench.open(sealed, [DATA]))).metadata.metadata

    assert b"1.5" not in whole[b"geo"]
    assert b"7.5" in whole[b"geo"]
    assert b"geo" not in partly, "without its primary column it is no GeoParquet"


def test_a_readers_file_names_no_column_that_it_may_not_read(bench):
    table = people(5).rename_columns(["id", "secret_name", "age", "visits", "home", "kind", "stay"])
    sealed = bench.seal(
        written(pa.Table.from_pandas(table.to_pandas())), {"secret_name": ("pii", PII)}
    )

    opened = bench.open(sealed, [DATA])

    assert b"secret_name" not in opened
    arrow = pq.ParquetFile(io.BytesIO(opened)).metadata.metadata[b"ARROW:schema"]
    assert b"secret_name" not in base64.b64decode(arrow)


# ---- spans that lie


def test_a_chunk_that_lies_in_another_columns_pages_is_refused_when_written(bench):
    def point(footer):
        chunks = footer.structs(layout.ROW_GROUPS)[0].structs(layout.COLUMNS)
        first, second = (chunk.struct(layout.META) for chunk in chunks)
        for number in (layout.DATA_AT, layout.COMPRESSED):
            second.fields[number] = first.fields[number]

    table = pa.table({"ssn": [111, 222], "id": [3, 4]})
    data = altered(written(table, use_dictionary=False), point)

    with pytest.raises(FormatError, match="overlap"):
        bench.seal(data)


@pytest.mark.parametrize("at", [-1, 0, 3, 1 << 40, (1 << 63) - 1], ids=str)
@pytest.mark.parametrize("length", [-1, 1 << 40], ids=str)
def test_a_chunk_outside_its_file_is_refused(bench, at, length):
    def point(footer):
        meta = footer.structs(layout.ROW_GROUPS)[0].structs(layout.COLUMNS)[0].struct(layout.META)
        meta.put(layout.DATA_AT, I64, at)
        meta.put(layout.COMPRESSED, I64, length)
        meta.drop(layout.DICTIONARY_AT)

    with pytest.raises(FormatError):
        bench.seal(altered(written(people()), point))


# ---- key material


def material():
    return KeyMaterial(
        key_name="data",
        kek_id=bytes(16),
        kek=WrappedKek(slot_type=1, slot_id="data/1", column="", body=b"x"),
        wrapped_dek=bytes(60),
    )


@pytest.mark.parametrize(
    "respell",
    [
        lambda data: json.dumps(list(map(list, json.loads(data).items()))).encode(),
        lambda data: data.decode().encode("utf-16"),
        lambda data: b" " + data,
        lambda data: json.dumps(dict(reversed(json.loads(data).items()))).encode(),
        lambda data: data.replace(b"data", b"d\\u0061ta", 1),
    ],
    ids=["an array of pairs", "utf-16", "a blank", "another order", "an escape"],
)
def test_key_material_has_one_spelling(respell):
    data = material().as_json()
    assert KeyMaterial.parse(data, column="") == material()

    with pytest.raises(FormatError, match="not written by airflow-secure-ml"):
        KeyMaterial.parse(respell(data), column="")


def test_a_wrapped_key_that_the_reader_would_not_read_is_refused_when_written(bench):
    class Long(KekWrapper):
        def wrap(self, key, core_id):
            return b"x" * 20_000

    ref = KeyRef(system="local", name="pii", version="1")

    with pytest.raises(SecureMLError):
        bench.seal(written(people()), {"ssn": ("pii", Long(bytes(32), slot_id="pii/1", ref=ref))})


def test_names_with_dots_and_of_one_dotted_spelling_are_told_apart(bench):
    table = pa.table({"a.b": ["top"], "a": [{"b": "below"}], "c.d.": [1]})
    data = written(table)
    sealed = bench.seal(data, {"a": ("pii", PII)})

    assert table_of(bench.open(sealed)).equals(table)
    assert table_of(bench.open(sealed, [DATA])).column_names == ["a.b", "c.d."]


def test_an_unnamed_column_is_not_the_footer(bench):
    with pytest.raises(SecureMLError):
        bench.seal(written(pa.table({"": ["a"], "id": [1]})), {"": ("pii", PII)})


def test_schemas_of_other_tools_that_name_a_hidden_column_are_left_out_with_it(bench):
    avro = json.dumps({"type": "record", "fields": [{"name": "ssn", "type": "string"}]})
    table = people(3).replace_schema_metadata({"parquet.avro.schema": avro, "note": "kept"})
    sealed = bench.seal(written(table))

    whole = pq.ParquetFile(io.BytesIO(bench.open(sealed))).metadata.metadata
    partly = pq.ParquetFile(io.BytesIO(bench.open(sealed, [DATA]))).metadata.metadata

    assert b"parquet.avro.schema" in whole
    assert b"parquet.avro.schema" not in partly
    assert partly[b"note"] == b"kept"


@pytest.mark.parametrize("size", [(1 << 20) - 33, (1 << 20) - 32, (1 << 20) - 31, 3 << 20], ids=str)
def test_pages_at_the_edge_of_what_is_held_read_back(bench, size):
    table = pa.table({"ssn": [b"x" * 7, bytes(size - 4), b"y" * 7]})
    data = written(
        table, use_dictionary=False, compression="none", data_page_size=1, write_batch_size=1
    )

    assert table_of(bench.open(bench.seal(data))).equals(table)
