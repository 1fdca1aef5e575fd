"""docs/object-stores.md says what the connection takes, and its examples are what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.aws.s3.address import MAX_KEY_BYTES, parse
from airflow_secure_ml.adapters.aws.s3.terms import Asked
from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.hooks.aws_connection import _ASKED, _ROLE_ARGUMENTS, AwsConnection
from airflow_secure_ml.hooks.connections import parse_connection
from airflow_secure_ml.settings import parse_settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "object-stores.md").read_text(encoding="utf-8")
ADAPTER = ROOT / "airflow_secure_ml" / "adapters" / "aws" / "s3"
# What IAM calls the requests that the adapter makes.
ACTIONS = {
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "complete_multipart_upload": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "get_object": "s3:GetObject",
    "get_object_tagging": "s3:GetObjectTagging",
    "head_object": "s3:GetObject",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_object_versions": "s3:ListBucketVersions",
    "list_objects_v2": "s3:ListBucket",
    "list_parts": "s3:ListMultipartUploadParts",
    "put_object": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "upload_part_copy": "s3:PutObject",
}
_REQUEST = re.compile(
    r'"((?:abort|complete|create|delete|get|head|list|put|upload|copy|restore)_[a-z_0-9]+)"'
)


def section(title):
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_its_addresses_are_addresses():
    shown = re.findall(r"^\| `(s3://\S+)` \|", PAGE, flags=re.MULTILINE)

    assert [parse(one).conn_id for one in shown] == ["", "", "aws_models"]
    assert f"{MAX_KEY_BYTES:,} bytes" in PAGE


def test_its_settings_are_settings():
    (text,) = re.findall(r"^s3_connections = (.+)$", PAGE, flags=re.MULTILINE)

    assert parse_settings({"s3_connections": text}).s3_connections == {"models": "aws_models"}


def test_its_example_is_a_connection():
    text = PAGE.partition("AIRFLOW_CONN_AWS_DEFAULT='")[2].partition("'\n")[0]

    connection = AwsConnection(parse_connection("aws_default", text))

    assert connection.identity().role.arn == "arn:aws:iam::123456789012:role/airflow-data"
    assert connection.asked() == Asked(sse="aws:kms", sse_kms_key_id="alias/lake")


def test_every_name_of_ours_is_explained():
    told = re.findall(r"`([a-z_]+)`", section("What is asked of the store besides"))

    assert set(told) >= _ASKED
    assert {"ExternalId", "DurationSeconds", "RoleSessionName"} <= _ROLE_ARGUMENTS


@pytest.mark.parametrize("scheme", ["abfs", "gs"])
def test_the_stores_that_it_says_are_refused_are(scheme):
    assert f"`{scheme}://`" in PAGE
    with pytest.raises(ConfigurationError, match="endpoint_url"):
        Deployment(parse_settings({})).store(f"{scheme}://a/b")


def test_the_policy_allows_every_request_that_is_made():
    policies = [json.loads(text) for text in re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)]
    allowed = {action for statement in policies[1]["Statement"] for action in statement["Action"]}
    made = {
        name
        for file in ADAPTER.glob("*.py")
        for name in _REQUEST.findall(file.read_text(encoding="utf-8"))
    }

    assert made == set(ACTIONS)
    assert {ACTIONS[name] for name in made} <= allowed


def test_the_lifecycle_rule_ends_uploads():
    (rule,) = json.loads(re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)[0])["Rules"]

    assert rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] >= 2
