"""Columns with keys of their own: what a reader gets with which keys, and what lies there."""

from __future__ import annotations

import io

import pyarrow.parquet as pq
import pytest

from airflow_secure_ml.adapters.parquet import decryption_properties
from airflow_secure_ml.core.parquet.key_material import KeyMaterial, WrappedKek
from airflow_secure_ml.errors import (
    FormatError,
    PolicyError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from airflow_secure_ml.services.parquet_keys import ReaderKeys
from airflow_secure_ml.services.parquet_opening import read_columns
from tests.services.parquet.conftest import DATA, PII, URI, people, table_of, written

WRITERS = {
    "plain": {},
    "many groups": {"row_group_size": 97},
    "pages of version 2": {"data_page_version": "2.0", "data_page_size": 256},
    "no dictionary, not compressed": {"use_dictionary": False, "compression": "none"},
    "zstd and checksums": {"compression": "zstd", "write_page_checksum": True},
    "page index": {"write_page_index": True},
    "old Parquet": {"version": "1.0"},
}


@pytest.mark.parametrize("options", WRITERS.values(), ids=WRITERS)
def test_a_reader_with_all_keys_gets_the_table_back(bench, options):
    data = written(people(), **options)

    opened = bench.open(bench.seal(data))

    assert table_of(opened).equals(people(), check_metadata=False)
    assert table_of(opened).schema.equals(table_of(data).schema, check_metadata=True)


@pytest.mark.parametrize("options", WRITERS.values(), ids=WRITERS)
def test_a_reader_without_a_key_gets_the_other_columns(bench, options):
    opened = bench.open(bench.seal(written(people(), **options)), [DATA])

    assert table_of(opened).equals(people().drop(["ssn"]))
    assert list(bench.columns.denied) == ["ssn"]


def test_a_nested_column_is_kept_from_a_reader_whole(bench):
    sealed = bench.seal(written(people()), {"home": ("pii", PII), "visits": ("pii", PII)})

    opened = bench.open(sealed, [DATA])

    assert table_of(opened).equals(people().drop(["home", "visits"]))
    assert table_of(bench.open(sealed)).equals(people())


def test_wanted_columns_are_the_only_ones_opened(bench):
    opened = bench.open(bench.seal(written(people())), wanted=["kind", "ssn"])

    assert table_of(opened).equals(people().select(["ssn", "kind"]))


def test_a_wanted_column_without_its_key_is_refused_by_name(bench):
    sealed = bench.seal(written(people()))

    with pytest.raises(PolicyError, match="column 'ssn' is under key pii") as refused:
        bench.open(sealed, [DATA], wanted=["ssn"])

    assert refused.value.why == "key_missing"


def test_a_key_that_is_there_and_not_listed_is_called_not_allowed(bench):
    sealed = bench.seal(written(people()))

    with pytest.raises(PolicyError) as refused:
        bench.open(sealed, [DATA], wanted=["ssn"], state_of=lambda kind, slot: "active")

    assert refused.value.why == "key_not_allowed"


def test_a_wanted_column_that_is_not_there_is_refused(bench):
    with pytest.raises(FormatError, match="'snn' is not in the file"):
        bench.open(bench.seal(written(people())), wanted=["snn"])


def test_without_the_footers_key_nothing_is_read(bench):
    with pytest.raises(PolicyError, match="the file: needs key data"):
        bench.open(bench.seal(written(people())), [PII])


def test_a_column_that_is_not_there_is_never_left_without_its_key(bench):
    with pytest.raises(PolicyError, match="'SSN'") as refused:
        bench.seal(written(people()), {"SSN": ("pii", PII)})

    assert refused.value.why == "output_missing"


def test_nothing_of_any_column_lies_there_in_clear(bench):
    data = written(people(), use_dictionary=False, compression="none", column_encoding="PLAIN")

    sealed = bench.seal(data)

    assert b"123-26-0123" in data
    for text in (b"123-26-0123", b"city", b"ssn", b"pandas", b"ARROW:schema"):
        assert text not in sealed


@pytest.mark.parametrize("data", [b"", b"PAR1", b"a,b\n1,2\n" * 9], ids=["none", "short", "csv"])
def test_what_is_no_parquet_is_refused_when_written(bench, data):
    with pytest.raises(FormatError, match="columns= encrypts plain Parquet files"):
        bench.seal(data)


def test_what_is_encrypted_already_is_refused_when_written(bench):
    with pytest.raises(FormatError, match="expected the magic PAR1"):
        bench.seal(bench.seal(written(people())))


def test_keys_are_wrapped_once_however_many_groups_and_columns(bench):
    calls = []

    class Counting:
        slot_type, slot_id, ref = PII.slot_type, PII.slot_id, PII.ref

        def wrap(self, key, core_id):
            calls.append(core_id)
            return PII.wrap(key, core_id)

    bench.seal(written(people(), row_group_size=50), {"home": ("pii", Counting())})

    assert len(calls) == 1


def test_pandas_and_its_index_survive_a_column_left_out(bench):
    frame = people().to_pandas().set_index("ssn")
    out = io.BytesIO()
    frame.to_parquet(out)

    opened = bench.open(bench.seal(out.getvalue()), [DATA])

    expected = frame.reset_index(drop=True)
    assert pq.read_table(io.BytesIO(opened)).to_pandas()["age"].equals(expected["age"])


@pytest.mark.parametrize("options", WRITERS.values(), ids=WRITERS)
def test_pyarrow_reads_it_with_lent_keys(bench, options):
    sealed = bench.seal(written(people(), **options))
    lent = _lent(bench, sealed, [DATA, PII])

    found = pq.ParquetFile(
        io.BytesIO(sealed), decryption_properties=decryption_properties(lent)
    ).read()

    assert found.equals(people())


def test_pyarrow_reads_the_other_columns_without_a_key(bench):
    sealed = bench.seal(written(people(), row_group_size=100))
    lent = {k: v for k, v in _lent(bench, sealed, [DATA, PII]).items() if _column(k) != "ssn"}

    def file():
        return pq.ParquetFile(io.BytesIO(sealed), decryption_properties=decryption_properties(lent))

    others = [name for name in people().column_names if name != "ssn"]
    assert file().read(columns=others).equals(people().select(others))
    with pytest.raises(Exception, match="pii was not lent"):
        file().read(columns=["ssn"])


def _lent(bench, sealed, keys):
    with ReaderKeys(URI, keys) as held:
        columns = read_columns(bench.put(sealed), held)
        return {
            material.kek.as_text(): bytes(held.kek(material).key)
            for material in (columns.footer_key, *columns.own.values())
        }


def _column(text):
    return WrappedKek.parse(text).column


def test_key_material_reads_back():
    material = KeyMaterial(
        key_name="pii",
        kek_id=bytes(range(16)),
        kek=WrappedKek(slot_type=3, slot_id="mount/pii", column="größe . ~", body=b"vault:v1:x"),
        wrapped_dek=bytes(60),
    )

    assert KeyMaterial.parse(material.as_json(), column="größe . ~") == material


def test_a_key_system_that_does_not_answer_leaves_nothing_out(bench):
    sealed = bench.seal(written(people()))

    class Silent:
        slot_type, slot_id, ref = PII.slot_type, PII.slot_id, PII.ref

        def unwrap(self, body, core_id):
            raise ServiceUnavailableError(service="vault", action="decrypt", reason="timeout")

    with pytest.raises(ServiceUnavailableError):
        bench.open(sealed, [DATA, Silent()])


def test_a_key_system_that_says_no_leaves_the_column_out(bench):
    sealed = bench.seal(written(people()))

    class Denying:
        slot_type, slot_id, ref = PII.slot_type, PII.slot_id, PII.ref

        def unwrap(self, body, core_id):
            raise ServiceRefusedError(service="vault", action="decrypt", reason="denied")

    opened = bench.open(sealed, [DATA, Denying()])

    assert table_of(opened).equals(people().drop(["ssn"]))
