"""What lies below a prefix, in the words of a store that encodes keys as Amazon does."""

from __future__ import annotations

import boto3
import pytest
from moto import mock_aws

from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.adapters.aws.s3.prefix import keys_below, versions_below

NAMES = ["a b.csv", "a+b.csv", "a%20b.csv", "e\u0301/\u00e9.csv", "x&<>'.csv", "\U0001f600"]


@pytest.fixture
def amazon(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="lake")
        client.put_bucket_versioning(Bucket="lake", VersioningConfiguration={"Status": "Enabled"})
        yield client


@pytest.mark.parametrize("list_", [keys_below, versions_below], ids=["keys", "versions"])
def test_keys_come_as_they_were_written_where_the_store_encodes_them(amazon, list_):
    for name in NAMES:
        amazon.put_object(Bucket="lake", Key=f"a d\u00efr/{name}", Body=b"x")
    root = S3Objects(lambda bucket: amazon).place("s3://lake/a d\u00efr")

    found = list(list_(root))

    assert sorted(each.name for each in found) == sorted(NAMES)
