"""Arrow's own encryption is the other opinion: both say the same of where things lie."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from airflow_secure_ml.adapters.parquet import decryption_properties
from airflow_secure_ml.core.parquet import layout
from airflow_secure_ml.core.parquet.modules import Kind, ModuleCipher, module_aad
from airflow_secure_ml.core.parquet.thrift import read_struct
from airflow_secure_ml.services.parquet_keys import ReaderKeys
from airflow_secure_ml.services.parquet_opening import read_columns
from airflow_secure_ml.services.parquet_pages import Place, read_footer, sealed_pages
from tests.services.parquet.conftest import DATA, PII, URI, ParquetBench, table_of, written

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=["Cs"]),
    min_size=1,
    max_size=12,
)
LEAVES = {
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(max_size=40),
    pa.binary(): st.binary(max_size=40),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.decimal128(20, 4): st.decimals(-1000, 1000, places=4),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(dt.datetime(1800, 1, 1), dt.datetime(2200, 1, 1)),
}


@st.composite
def types(draw, depth=2):
    """A type and what makes its values; lists, structs and maps of others below it."""
    kind = draw(st.sampled_from(["leaf", "list", "struct", "map"] if depth else ["leaf"]))
    if kind == "leaf":
        leaf = draw(st.sampled_from(list(LEAVES)))
        return leaf, LEAVES[leaf]
    inner, values = draw(types(depth - 1))
    if kind == "list":
        return pa.list_(inner), st.lists(st.none() | values, max_size=4)
    if kind == "map":
        pairs = st.lists(st.tuples(st.text(max_size=5), st.none() | values), max_size=3)
        return pa.map_(pa.string(), inner), pairs
    other, others = draw(types(depth - 1))
    made = st.fixed_dictionaries({"a": st.none() | values, "b.c": st.none() | others})
    return pa.struct([("a", inner), ("b.c", other)]), made


@st.composite
def tables(draw):
    """A table of any schema with null and nested values, from no rows to some dozens."""
    count = draw(st.integers(0, 40))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    columns = {}
    for name in names:
        kind, values = draw(types())
        cells = draw(st.lists(st.none() | values, min_size=count, max_size=count))
        columns[name] = pa.array(cells, kind)
    return pa.table(columns)


OPTIONS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["none", "snappy", "zstd", "lz4", "gzip", "brotli"]),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "use_dictionary": st.booleans(),
        "row_group_size": st.sampled_from([1, 7, 1000]),
        "data_page_size": st.sampled_from([1, 1 << 20]),
        "write_batch_size": st.sampled_from([1, 1024]),
        "write_statistics": st.booleans(),
        "write_page_index": st.booleans(),
        "write_page_checksum": st.booleans(),
        "use_deprecated_int96_timestamps": st.booleans(),
    }
)
MANY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    # Shrinking takes minutes here, and what is found tells enough.
    phases=[Phase.explicit, Phase.generate],
)


@MANY
@given(tables(), OPTIONS, st.data())
def test_any_table_reads_back_here_and_in_arrow(table, options, data):
    plain = written(table, **options)
    try:
        expected = table_of(plain)
    except pa.ArrowInvalid:
        # Of some nested columns in many pages Arrow does not read what it wrote.
        reject()
    keyed = data.draw(st.sets(st.sampled_from(table.column_names)))
    bench = ParquetBench()

    sealed = bench.seal(plain, dict.fromkeys(keyed, ("pii", PII)))

    assert table_of(bench.open(sealed)).equals(expected)
    assert bench.columns.own.keys() == (keyed if _groups(plain) else set())
    assert _read_by_arrow(bench, sealed).equals(expected)
    open_ones = [name for name in table.column_names if name not in keyed]
    if open_ones and keyed and _groups(plain):
        part = bench.open(sealed, [DATA])
        assert table_of(part).equals(expected.select(open_ones))
        for name in keyed:
            assert name not in pq.read_schema(io.BytesIO(part)).names


def _groups(plain):
    return pq.ParquetFile(io.BytesIO(plain)).num_row_groups


def _read_by_arrow(bench, sealed):
    with ReaderKeys(URI, [DATA, PII]) as held:
        columns = read_columns(bench.put(sealed), held)
        every = (columns.footer_key, *columns.own.values())
        lent = {one.kek.as_text(): bytes(held.kek(one).key) for one in every}
    properties = decryption_properties(lent)
    return pq.ParquetFile(io.BytesIO(sealed), decryption_properties=properties).read()


class _PlainKms(pe.KmsClient):
    """Wraps nothing, so that a test sees the keys that Arrow made."""

    def __init__(self, config):
        pe.KmsClient.__init__(self)

    def wrap_key(self, key_bytes, master_key_identifier):
        return base64.b64encode(key_bytes).decode()

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return base64.b64decode(wrapped_key)


@settings(MANY, max_examples=30)
@given(tables(), st.sampled_from(["1.0", "2.0"]), st.booleans())
def test_what_arrow_encrypted_lies_where_it_is_looked_for_here(table, version, dictionary):
    """Every module of Arrow's file opens with the AAD that is computed here, page by page."""
    out = io.BytesIO()
    configuration = pe.EncryptionConfiguration(
        footer_key="data", uniform_encryption=True, double_wrapping=False, data_key_length_bits=256
    )
    factory = pe.CryptoFactory(_PlainKms)
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), configuration)
    pq.write_table(
        table,
        out,
        encryption_properties=properties,
        data_page_version=version,
        use_dictionary=dictionary,
        row_group_size=7,
        data_page_size=1,
        write_batch_size=1,
    )
    bench = ParquetBench()
    pinned = bench.put(out.getvalue())

    found = read_footer(pinned, layout.SEALED_MAGIC)
    assert found[:2] == layout.GCM_PREFIX
    crypto, end = read_struct(found)
    gcm = crypto.struct(1).struct(1)
    # Arrow's key tools put no prefix either.
    assert 1 not in gcm
    file_id = gcm.binary(2)
    cipher = ModuleCipher(_dek(crypto.binary(2)), lambda count: bytes(count))
    footer, _ = read_struct(cipher.open(found[end:], module_aad(file_id, Kind.FOOTER), "it"))
    paths = layout.leaf_paths(footer)
    values = 0
    for ordinal, group in enumerate(footer.structs(layout.ROW_GROUPS)):
        for column, chunk in enumerate(group.structs(layout.COLUMNS)):
            meta = chunk.struct(layout.META)
            assert layout.chunk_path(meta) == paths[column]
            place = Place(file_id=file_id, group=ordinal, column=column)
            for page in sealed_pages(pinned, meta, cipher, place):
                values += not page.is_dictionary

    assert values >= (0 if table.num_rows == 0 else len(paths))


def _dek(metadata):
    return base64.b64decode(json.loads(metadata)["wrappedDEK"])
