"""What secure() refuses of columns= while the DAG is parsed."""

from __future__ import annotations

import pytest

from airflow_secure_ml import Reads, Writes
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.securing.declaration import declare

X = "s3://lake/x.parquet"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (Writes(X, columns={"ssn": "pii"}, sealed=False), "sealed=False and columns="),
        (Writes(X, columns=["ssn"]), "a mapping of columns to wrap keys"),
        (Writes(X, columns={"": "pii"}), "a mapping of columns to wrap keys"),
        (Writes(X, columns={"ssn": None}), "a mapping of columns to wrap keys"),
        (Reads(X, columns="ssn"), "a list of columns' names"),
        (Reads(X, columns=[""]), "a list of columns' names"),
        (Reads(X, columns=["ssn"], stream=True), "neither stream=True nor quarantine="),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(entry, said):
    reads = {"data": entry} if isinstance(entry, Reads) else {}
    writes = {"data": entry} if isinstance(entry, Writes) else {}

    with pytest.raises(ConfigurationError, match=said):
        declare(reads, writes, {}, False)
