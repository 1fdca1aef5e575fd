"""Spark reads what is written here: every column with the keys, the others without one."""

from __future__ import annotations

import re

import pytest

from airflow_secure_ml.services.artifact import pin_artifact
from airflow_secure_ml.services.parquet_keys import ReaderKeys
from airflow_secure_ml.services.parquet_lending import lend_keys
from tests.services.parquet.conftest import DATA, PII, ParquetBench, people, written

URI = "file:///lake/people.parquet"
# Spark knows no duration, and reads a category as its text.
TABLE = people(300).drop(["stay"])
WRITERS = {
    "many groups": {"row_group_size": 64},
    "not compressed": {"use_dictionary": False, "compression": "none"},
}


def rows_of(table):
    return table.to_pylist()


def rows_read(frame):
    return [row.asDict(recursive=True) for row in frame.orderBy("id").collect()]


def sealed_file(tmp_path, columns=None, **options):
    """An encrypted file on disk, and what its readers with these keys are lent."""
    bench = ParquetBench()
    sealed = bench.seal(written(TABLE, **options), columns)
    path = tmp_path / "people.parquet"
    path.write_bytes(sealed)
    bench.put(sealed, URI)

    def lent(*keys, **how):
        with ReaderKeys(URI, keys) as held, pin_artifact(bench.store, URI) as artifact:
            return lend_keys(artifact, held, **how)

    return str(path), lent


@pytest.mark.parametrize("options", WRITERS.values(), ids=WRITERS)
def test_spark_reads_every_column_with_the_keys(spark, tmp_path, options):
    path, lent = sealed_file(tmp_path, **options)

    frame = spark.read.options(**lent(DATA, PII).spark_options()).parquet(path)

    assert rows_read(frame) == rows_of(TABLE)


def test_spark_reads_no_pages_of_version_2_and_says_so(spark, tmp_path):
    path, lent = sealed_file(tmp_path, data_page_version="2.0")
    frame = spark.read.options(**lent(DATA, PII).spark_options()).parquet(path)

    # Spark's reader takes the levels of such pages for plain bytes; Arrow's and ours decrypt them.
    with pytest.raises(Exception, match="FAILED_READ_FILE"):
        frame.collect()


def test_spark_reads_the_other_columns_without_a_key(spark, tmp_path):
    path, lent = sealed_file(tmp_path)
    keys = lent(DATA)
    frame = spark.read.options(**keys.spark_options()).parquet(path)

    others = frame.select(*keys.columns)
    with pytest.raises(Exception, match="key pii was not lent"):
        frame.select("ssn").collect()

    assert rows_read(others) == rows_of(TABLE.drop(["ssn"]))
    assert keys.left_out == (("ssn", "pii"),)


def test_spark_filters_and_counts_by_an_encrypted_column(spark, tmp_path):
    path, lent = sealed_file(tmp_path, row_group_size=50)
    frame = spark.read.options(**lent(DATA, PII).spark_options()).parquet(path)

    found = frame.where("ssn = '123-26-0123'").select("id").collect()

    assert [row.id for row in found] == [123]


def test_spark_without_any_key_is_refused(spark, tmp_path):
    path, _ = sealed_file(tmp_path)

    with pytest.raises(Exception, match=r"(?i)encrypted|crypto|decrypt"):
        spark.read.parquet(path).collect()


def test_spark_refuses_what_is_sealed_whole(spark, tmp_path):
    path = tmp_path / "sealed.parquet"
    path.write_bytes(b"\x89ASML\r\n\x1a" + bytes(1000))

    with pytest.raises(Exception, match=r"not a Parquet file|CANNOT_READ_FILE_FOOTER"):
        spark.read.parquet(str(path)).collect()


def test_no_lent_key_stands_in_a_plan_or_a_repr(spark, tmp_path):
    path, lent = sealed_file(tmp_path)
    keys = lent(DATA, PII)
    options = keys.spark_options()
    frame = spark.read.options(**options).parquet(path)
    texts = re.findall(r" (\S+)$", options["parquet.encryption.key.access.token"], re.MULTILINE)

    shown = frame._jdf.queryExecution().toString() + repr(keys)

    assert len(texts) == 2
    assert not [text for text in texts if text in shown]


def test_what_spark_wrote_is_sealed_and_opened_to_spark_again(spark, tmp_path):
    rows = [(n, f"{n:03d}-26", [n, None], {"city": f"c{n}"}) for n in range(50)]
    frame = spark.createDataFrame(
        rows, "id long, ssn string, visits array<int>, home map<string,string>"
    )
    frame.coalesce(1).write.parquet(str(tmp_path / "plain"))
    (part,) = (tmp_path / "plain").glob("part-*.parquet")
    bench = ParquetBench()

    sealed = bench.seal(part.read_bytes())
    for name, keys in (("all", [DATA, PII]), ("others", [DATA])):
        (tmp_path / f"{name}.parquet").write_bytes(bench.open(sealed, keys))

    everything = spark.read.parquet(str(tmp_path / "all.parquet"))
    others = spark.read.parquet(str(tmp_path / "others.parquet"))
    assert everything.schema == frame.schema
    assert everything.orderBy("id").collect() == frame.collect()
    assert others.orderBy("id").collect() == frame.drop("ssn").collect()
