"""Keys are lent only for what was verified, and only those that this reader may use."""

from __future__ import annotations

import io
import pickle

import pandas as pd
import pyarrow.parquet as pq
import pytest

from airflow_secure_ml import Writes, secure
from airflow_secure_ml.adapters.parquet import decryption_properties
from airflow_secure_ml.errors import FormatError, IntegrityError, PolicyError, SecureMLError
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


@pytest.mark.parametrize("opening", [1, 2, 3, 4])
def test_what_is_put_in_its_place_meanwhile_is_never_parsed(people, opening):
    """What lies there is exchanged right before it is opened for the so-manieth time."""
    objects = people._here.objects
    signed = objects.objects[ADDRESS]
    plain_open, times = objects.open, []

    def opened(uri):
        times.append(uri)
        if uri == ADDRESS and times.count(ADDRESS) == opening:
            objects.put(ADDRESS, signed[:-9] + b"x" + signed[-8:])
        return plain_open(uri)

    objects.open = opened
    try:
        outcome = lend_parquet_keys(ADDRESS).columns
    except SecureMLError as error:
        outcome = type(error).__name__

    # CiphertextError would say that it was parsed.
    assert outcome in (("id", "ssn"), "IntegrityError", "ManifestMismatchError")


def test_where_nothing_is_nothing_is_lent_and_the_trail_says_so(people):
    with pytest.raises(FormatError, match="found nothing"):
        lend_parquet_keys("s3://lake/nobody.parquet")

    assert ("object.verify", "refused") in [(e.act, e.outcome) for e in people.events]


def test_of_what_is_sealed_whole_nothing_is_lent(people):
    people.put("s3://lake/whole.parquet", b"PAR1")

    with pytest.raises(FormatError, match="found another file"):
        lend_parquet_keys("s3://lake/whole.parquet")


@pytest.mark.parametrize(
    "wrap",
    [lambda x: x, lambda x: {"a": [x["parquet.encryption.key.access.token"]]}],
    ids=["as it is", "deep inside"],
)
def test_a_lent_key_does_not_leave_its_task_by_xcom(people, wrap):
    from airflow.sdk import DAG, task

    with DAG("reading", schedule=None):

        @secure(writes={"out": "s3://lake/out.bin"})
        @task
        def hand_on(out=None):
            out.write_bytes(b"x")
            return wrap(lend_parquet_keys(ADDRESS).spark_options())

        handed = hand_on()
    ran = people.run(handed.operator)

    assert isinstance(ran.error, PolicyError)
    assert "lent key" in str(ran.error)


def test_a_lent_key_is_masked_in_the_log_of_its_task(people, monkeypatch):
    from airflow.sdk import DAG, task

    masked, lent = [], []
    # What the supervisor is told, which a test has not.
    monkeypatch.setattr("airflow.sdk.log.mask_secret", masked.extend)
    with DAG("masking", schedule=None):

        @secure(writes={"out": "s3://lake/out.bin"})
        @task
        def borrow(out=None):
            out.write_bytes(b"x")
            lent.append(lend_parquet_keys(ADDRESS))

        borrowed = borrow()
    ran = people.run(borrowed.operator)

    assert ran.error is None
    assert len(lent[0].secrets) == 2
    assert set(lent[0].secrets) <= set(masked)
