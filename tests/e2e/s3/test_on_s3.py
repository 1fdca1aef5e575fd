"""Secured tasks and operators on a real S3 server, under a real scheduler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_secure_ml.core.sealed_file.header import MAGIC

DAGS = Path(__file__).parent / "dags"
RUN = "on-s3-1"
PLAIN = b"age\n42\n" * 1000
TASKS = (
    "make",
    "train",
    "count",
    "stream",
    "split",
    "join",
    "encrypt",
    "verify",
    "sign",
    "decrypt",
)

pytestmark = [pytest.mark.airflow, pytest.mark.s3]


def connection(s3, **ours):
    extra = {"endpoint_url": s3.url, "verify": str(s3.ca), "region_name": "us-east-1"}
    return json.dumps(
        {
            "conn_type": "aws",
            "login": s3.access_key,
            "password": s3.secret_key,
            "extra": extra | {"secure_ml": ours},
        }
    )


@pytest.fixture(scope="module")
def bucket(s3):
    return s3.new_bucket(versioned=True)


@pytest.fixture(scope="module")
def locked(s3):
    return s3.new_bucket(locked=True)


@pytest.fixture(scope="module")
def airflow(own_airflow, s3, bucket, locked, tmp_path_factory):
    settings = {
        "AIRFLOW_CONN_AWS_DEFAULT": connection(s3),
        "AIRFLOW_CONN_OWN": connection(s3, object_lock="GOVERNANCE", object_lock_days=1),
        "SECURE_ML_TEST_BUCKET": bucket,
        "SECURE_ML_TEST_OTHER_BUCKET": locked,
    }
    s3.client().put_object(Bucket=bucket, Key="in/plain.csv", Body=PLAIN)
    with own_airflow.running(tmp_path_factory.mktemp("s3"), DAGS, settings) as running:
        yield running


@pytest.fixture(scope="module")
def states(airflow):
    airflow.start("on_s3", RUN)
    return airflow.wait("on_s3", RUN)


def body_of(s3, bucket, key):
    return s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()


def done(airflow, act):
    return [
        event
        for event in airflow.events(acts=(act,))
        if event["phase"] == "outcome" and event["run"].get("run") == RUN
    ]


def test_every_task_of_the_whole_path_succeeds(airflow, states):
    assert states == {(task, -1): "success" for task in TASKS}, airflow.logs()[-3000:]
    assert airflow.xcom("on_s3", RUN, "count") == 14
    assert airflow.xcom("on_s3", RUN, "stream") == 41
    assert airflow.xcom("on_s3", RUN, "join") == ["a", "b/c"]


def test_a_reference_pins_the_version_in_the_bucket(s3, airflow, states, bucket):
    reference = airflow.xcom("on_s3", RUN, "make", "table")

    key = f"{RUN}/table 1%20.csv"
    head = s3.client().head_object(Bucket=bucket, Key=key)
    assert reference["uri"] == f"s3://{bucket}/{key}"
    assert reference["version"] == head["VersionId"]


def test_what_lies_in_the_bucket_is_sealed(s3, states, bucket):
    for key in (f"{RUN}/table 1%20.csv", f"{RUN}/sealed.csv", f"{RUN}/folder/b/c"):
        assert body_of(s3, bucket, key).startswith(MAGIC), key
    assert body_of(s3, bucket, f"{RUN}/delivered.csv") == PLAIN


def test_the_connection_in_an_address_is_the_one_that_is_used(s3, airflow, states, locked):
    reference = airflow.xcom("on_s3", RUN, "train", "model")

    head = s3.client().head_object(Bucket=locked, Key="model")
    assert reference["uri"] == f"s3://{locked}/model"
    assert head["ObjectLockMode"] == "GOVERNANCE"


def test_the_trail_shows_what_was_read_and_written(airflow, own_airflow, states, bucket):
    own_airflow.until(lambda: len(done(airflow, "object.publish")) >= 5, 90, airflow.logs)

    published = {event["object"]["uri"] for event in done(airflow, "object.publish")}
    opened = {event["object"]["uri"] for event in done(airflow, "object.open")}
    assert f"s3://{bucket}/{RUN}/sealed.csv" in published & opened
    assert f"s3://{bucket}/{RUN}/folder" in published & opened


def test_an_altered_object_is_refused_and_the_trail_says_so(s3, airflow, own_airflow, bucket):
    airflow.start("reading_s3", RUN)
    own_airflow.until(
        lambda: airflow.states("reading_s3", RUN).get(("write", -1)) == "success",
        120,
        lambda: f"{airflow.states('reading_s3', RUN)}\n{airflow.logs()[-3000:]}",
    )
    sealed = bytearray(body_of(s3, bucket, "altered"))
    sealed[-1] ^= 1
    s3.client().put_object(Bucket=bucket, Key="altered", Body=bytes(sealed))
    (airflow.data / "altered").touch()

    assert airflow.wait("reading_s3", RUN)["read", -1] == "failed"
    refused = [
        event
        for event in done(airflow, "object.open")
        if event["object"]["uri"] == f"s3://{bucket}/altered"
    ]
    assert [event["result"] for event in refused] == ["refused"]
