"""Spark in local mode, for tests: loopback only, no page, and our class on its path."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import airflow_secure_ml

QUICK_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
SOURCE = Path(airflow_secure_ml.__file__).parent / "adapters/parquet/LentKeys.java"


@contextlib.contextmanager
def running_spark(folder):
    """A SparkSession of one thread; its JVM ends with it."""
    import pyspark
    from pyspark.sql import SparkSession

    jar = build_jar(folder, Path(pyspark.__file__).parent / "jars")
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.extraClassPath", str(jar))
        .config("spark.driver.memory", "512m")
        # Each query runs once or twice: compiling it well takes longer than running it.
        .config("spark.driver.extraJavaOptions", " ".join(QUICK_JVM))
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .getOrCreate()
    )
    gateway = session.sparkContext._gateway
    try:
        yield session
    finally:
        session.stop()
        gateway.shutdown()
        # The JVM ends when its standard input does.
        gateway.proc.stdin.close()
        gateway.proc.wait(timeout=30)


def build_jar(folder, jars):
    """Compile the class as docs/parquet.md says; skipped aloud where there is no compiler."""
    if shutil.which("javac") is None:
        pytest.skip("MISSING for spark tests: javac; apt-get install openjdk-17-jdk-headless")
    classes, jar = folder / "classes", folder / "lent-keys.jar"
    quick = [f"-J{option}" for option in QUICK_JVM]
    subprocess.run(["javac", *quick, "-cp", f"{jars}/*", "-d", classes, SOURCE], check=True)
    # What `jar cf` makes, without another JVM.
    with zipfile.ZipFile(jar, "w") as made:
        for path in sorted(classes.rglob("*.class")):
            made.write(path, path.relative_to(classes))
    return jar
