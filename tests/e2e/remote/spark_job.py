"""What spark-submit runs: from a signed table to a table of its own, in plain Parquet."""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession


def main(source: str, target: str) -> None:
    """Count visits by site."""
    spark = SparkSession.builder.getOrCreate()
    spark.read.parquet(source).groupBy("site").sum("visits").write.parquet(target)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
