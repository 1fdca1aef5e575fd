"""Which connection reaches a bucket: the address', else the bucket's own, else the default."""

from __future__ import annotations

import json
import os

import pytest

from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.hooks import aws as hooks
from airflow_secure_ml.hooks.s3 import BucketConnections
from airflow_secure_ml.settings import parse_settings

IDS = {"default": "aws_default", "models": "aws_models", "other": "aws_other"}


@pytest.fixture(autouse=True)
def connections(monkeypatch):
    """Three connections that differ by what they ask of the store."""
    monkeypatch.setattr(hooks, "_sessions", {})
    for name, conn_id in IDS.items():
        extra = {
            "region_name": "eu-west-1",
            "endpoint_url": f"https://{name}.test",
            "secure_ml": {"sse": "aws:kms", "sse_kms_key_id": name},
        }
        text = json.dumps({"conn_type": "aws", "login": "A", "password": "s", "extra": extra})
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)


def deployment(**texts):
    return Deployment(parse_settings(texts))


def reached(buckets, bucket):
    return buckets.asked(bucket).sse_kms_key_id, buckets.client(bucket).meta.endpoint_url


def test_a_bucket_has_the_default_unless_another_is_named():
    buckets = BucketConnections("aws_default", {"models": "aws_models"})

    buckets.use("raw", "aws_other")

    assert reached(buckets, "data") == ("default", "https://default.test")
    assert reached(buckets, "models") == ("models", "https://models.test")
    assert reached(buckets, "raw") == ("other", "https://other.test")


def test_a_bucket_has_one_connection():
    buckets = BucketConnections("aws_default", {"models": "aws_models"})
    buckets.use("raw", "aws_other")
    buckets.use("raw", "aws_other")
    buckets.use("models", "aws_models")

    for bucket in ("raw", "models"):
        with pytest.raises(ConfigurationError, match="has already; name one connection"):
            buckets.use(bucket, "aws_default")


def test_a_forked_child_does_not_wait_for_a_lock_of_its_parent():
    buckets = BucketConnections("aws_default", {})
    buckets._lock.acquire()

    child = os.fork()
    if not child:
        buckets.use("raw", "aws_other")
        os._exit(7)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_addresses_lead_to_their_stores(tmp_path):
    here = deployment()

    assert here.canonical("s3://bucket/a b%20.csv") == "s3://bucket/a b%20.csv"
    assert here.canonical(str(tmp_path)) == f"file://{tmp_path}"
    assert here.store("s3://bucket/a") is here.s3_objects
    assert here.store("/a") is here.store("file:///a") is here.local_objects


def test_the_connection_in_an_address_is_used_and_not_kept_in_it():
    here = deployment()

    assert here.canonical("s3://aws_other@bucket/a") == "s3://bucket/a"

    place = here.s3_objects.place("s3://bucket/a")
    assert place.bucket.client.meta.endpoint_url == "https://other.test"
    with pytest.raises(ConfigurationError, match="expected connection aws_other"):
        here.canonical("s3://aws_models@bucket/b")


def test_settings_name_connections_of_buckets():
    here = deployment(aws_conn_id="aws_other", s3_connections='{"models": "aws_models"}')

    urls = [
        here.s3_objects.place(uri).bucket.client.meta.endpoint_url
        for uri in ("s3://models/a", "s3://bucket/a")
    ]

    assert urls == ["https://models.test", "https://other.test"]


@pytest.mark.parametrize("scheme", ["gs", "abfs", "abfss", "http", "https", "S3", "s3a", "memory"])
def test_another_scheme_is_refused_and_what_is_supported_told(scheme):
    with pytest.raises(ConfigurationError) as raised:
        deployment().store(f"{scheme}://bucket/key")

    text = str(raised.value)
    assert f"no store for {scheme}://" in text
    assert "expected s3://bucket/key, file:///path or a local path" in text


def test_a_rule_may_be_for_a_bucket(tmp_path):
    policy = tmp_path / "rules.toml"
    policy.write_text('version = "1"\n[[data]]\nprefix = "s3://lake/health/"\nkey = "health"\n')

    rules = deployment(policy_file=str(policy)).rules

    assert rules.rule_for("s3://lake/health/a.csv").key == "health"
    assert rules.rule_for("s3://lake/healthy/a.csv") is None
