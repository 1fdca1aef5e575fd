"""Shredding in a real bucket: what older versions of a data set leave behind."""

from __future__ import annotations

import io
import time

import pytest
from botocore.config import Config

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.errors import PolicyError
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.run_plan import Output
from airflow_secure_ml.services.sealed_dataset import create_dataset_key
from airflow_secure_ml.services.sealing import seal_object
from airflow_secure_ml.services.secured_outputs import DirectoryAsStore
from airflow_secure_ml.services.shredding import Asked, shred_data_set
from airflow_secure_ml.testing.ports import MemoryAudit

pytestmark = pytest.mark.s3


@pytest.fixture
def client(s3):
    return s3.client(
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    )


@pytest.fixture
def bench(bench, client):
    bench.__dict__["s3_objects"] = S3Objects(lambda bucket: client)
    return bench


@pytest.mark.parametrize("was", ["replaced", "replaced and its key removed"])
def test_keys_of_earlier_states_go_too(bench, plan, s3, client, was):
    bucket = s3.new_bucket(versioned=True)
    uri = f"s3://{bucket}/sets/day"
    for text in ("first", "second"):

        def body(bound, text=text):
            bound["day"].mkdir()
            (bound["day"] / "a.csv").write_text(text)

        bench.run(plan(outputs=[Output(name="day", uri=uri)], task_id="put"), body)
        if text == "first" and was != "replaced":
            (name,) = {name for name, _ in key_versions(client, bucket)}
            client.delete_object(Bucket=bucket, Key=name)
    before = key_versions(client, bucket)
    assert len({name for name, _ in before}) == 2

    shred(bench, uri)

    assert key_versions(client, bucket) == []


def test_a_data_set_that_was_only_removed_can_still_be_shredded(bench, plan, s3, client):
    """Its versions would come back with the markers gone."""
    bucket = s3.new_bucket(versioned=True)
    uri = f"s3://{bucket}/sets/day"

    def body(bound):
        bound["day"].mkdir()
        (bound["day"] / "a.csv").write_text("first")

    bench.run(plan(outputs=[Output(name="day", uri=uri)], task_id="put"), body)
    bench.store(uri).delete(uri)
    assert len(key_versions(client, bucket)) == 1

    done = shred(bench, uri)

    assert key_versions(client, bucket) == []
    assert [each.copies for each in done.destructions] == [1]


def shred(bench, uri):
    return shred_data_set(
        bench.store(uri),
        uri,
        Asked(reason="asked", now_ms=time.time_ns() // 1_000_000),
        signer=bench.keys.signer("pipeline"),
        verifiers=bench.keys.verifiers(["pipeline"]),
        trail=Journal(MemoryAudit(), None, lambda line: None),
    )


def key_versions(client, bucket):
    page = client.list_object_versions(Bucket=bucket, Prefix="sets/day/_asml/")
    return [
        (each["Key"], each["VersionId"])
        for each in page.get("Versions", [])
        if each["Key"].endswith(".asmk")
    ]


def test_a_key_that_came_back_and_was_only_removed_again_goes_once_more(bench, plan, s3, client):
    """Its certificate stands, and a version of it would open everything."""
    bucket = s3.new_bucket(versioned=True)
    uri = f"s3://{bucket}/sets/day"

    def body(bound):
        bound["day"].mkdir()
        (bound["day"] / "a.csv").write_text("first")

    bench.run(plan(outputs=[Output(name="day", uri=uri)], task_id="put"), body)
    ((name, _),) = key_versions(client, bucket)
    backup = client.get_object(Bucket=bucket, Key=name)["Body"].read()
    shred(bench, uri)
    client.put_object(Bucket=bucket, Key=name, Body=backup)
    client.delete_object(Bucket=bucket, Key=name)
    assert len(key_versions(client, bucket)) == 1

    done = shred(bench, uri)

    assert key_versions(client, bucket) == []
    assert [each.copies for each in done.destructions] == [1]


def test_what_readers_get_is_looked_at_and_not_what_lies_above_it(bench, plan, s3, client):
    """Whoever may add a version could hide from the look that a file stays readable."""
    bucket = s3.new_bucket(versioned=True)
    uri = f"s3://{bucket}/sets/day"
    store = bench.store(uri)
    key = write_directory(bench, store, uri, b"plain")
    with store.create(f"{uri}/a.csv") as writer:
        seal_object(
            io.BytesIO(b"x"), writer, keys=[key], context={"dataset": uri}, plaintext_bytes=1
        )
        writer.commit(replace=True)

    with pytest.raises(PolicyError, match=r"would not erase 'a\.csv'"):
        shred(bench, uri)

    assert len(key_versions(client, bucket)) == 1


def test_whoever_writes_it_meanwhile_publishes_nothing_without_a_key(bench, plan, s3, client):
    bucket = s3.new_bucket(versioned=True)
    uri = f"s3://{bucket}/sets/day"
    store = bench.store(uri)

    def body(bound):
        bound["day"].mkdir()
        (bound["day"] / "a.csv").write_text("first")

    bench.run(plan(outputs=[Output(name="day", uri=uri)], task_id="put"), body)
    with store.create_directory(uri) as directory:
        make_key(bench, directory, uri)
        with directory.create("a.csv") as writer:
            writer.write_at(0, b"second")
            writer.commit(replace=False)

        shred(bench, uri)

        with pytest.raises(PolicyError) as caught:
            directory.commit(replace=True)
    assert caught.value.why == "address_taken"
    assert key_versions(client, bucket) == []


def make_key(bench, directory, uri):
    return create_dataset_key(
        DirectoryAsStore(directory),
        uri,
        keys=[bench.keys.wrapper("data")],
        context={"dataset": uri},
    )


def write_directory(bench, store, uri, data):
    """A directory with a key of its own and one plain file."""
    with store.create_directory(uri) as directory:
        key = make_key(bench, directory, uri)
        with directory.create("a.csv") as writer:
            writer.write_at(0, data)
            writer.commit(replace=False)
        directory.commit(replace=False)
    return key
