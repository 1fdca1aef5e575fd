"""Keys are lent only for what was verified, and only those that this reader may use."""

from __future__ import annotations

import io
import pickle

import pandas as pd
import pyarrow.parquet as pq
import pytest

from airflow_secure_ml import Writes, secure
from airflow_secure_ml.adapters.parquet import decryption_properties
from airflow_secure_ml.errors import IntegrityError, PolicyError
from airflow_secure_ml.securing.lending import lend_parquet_keys

ADDRESS = "s3://lake/people.parquet"
FRAME = pd.DataFrame({"id": [1, 2], "ssn": ["a", "b"]})


@pytest.fixture
def people(secure_ml):
    """A file with a column key, written by a task."""
    from airflow.sdk import DAG, task

    secure_ml.keys.create("pii", "wrap")
    with DAG("lake", schedule=None):

        @secure(writes={"out": Writes(ADDRESS, columns={"ssn": "pii"})})
        @task
        def make(out=None):
            FRAME.to_parquet(out)

        made = make()
    ran = secure_ml.run(made.operator)
    assert ran.error is None
    return secure_ml


def test_lent_keys_open_it_where_it_lies(people):
    lent = lend_parquet_keys(ADDRESS)

    data = people._here.objects.objects[ADDRESS]
    properties = decryption_properties(lent.keys)
    found = pq.ParquetFile(io.BytesIO(data), decryption_properties=properties).read()

    assert found.to_pandas().equals(FRAME)
    opened = [event for event in people.events if event.act == "object.open"]
    assert len(opened) == 2


def test_a_key_that_is_not_to_be_had_is_not_lent(people):
    people.keys.disable("pii", 1)

    lent = lend_parquet_keys(ADDRESS)
    with pytest.raises(PolicyError, match="column 'ssn' is under key pii"):
        lend_parquet_keys(ADDRESS, columns=["ssn"])

    assert lent.columns == ("id",)
    assert lent.left_out == (("ssn", "pii"),)
    assert len(lent.keys) == 1


def test_lent_keys_leave_no_process_by_accident(people):
    lent = lend_parquet_keys(ADDRESS)

    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(lent)

    assert all(repr(key) not in repr(lent) for key in lent.keys.values())


def test_nothing_is_lent_for_what_was_altered(people):
    objects = people._here.objects.objects
    data = bytearray(objects[ADDRESS])
    data[50] ^= 1
    objects[ADDRESS] = bytes(data)

    with pytest.raises(IntegrityError):
        lend_parquet_keys(ADDRESS)
