"""One AWS session for each connection in a process, on the real S3 server."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.hooks import aws as hooks
from airflow_secure_ml.hooks import connection_warnings
from airflow_secure_ml.hooks.aws import aws_session, connected_aws


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(hooks, "_sessions", {})
    monkeypatch.setattr(connection_warnings, "_said", set())
    monkeypatch.setattr(connection_warnings, "_untold", [])


@pytest.fixture
def told():
    heard = []
    connection_warnings.on_warning(heard.append)
    yield heard
    connection_warnings.on_warning(None)


def variable(s3, **extra):
    return json.dumps(
        {
            "conn_type": "aws",
            "login": s3.access_key,
            "password": s3.secret_key,
            "extra": {"endpoint_url": s3.url, "verify": str(s3.ca), "region_name": "us-east-1"}
            | extra,
        }
    )


def test_a_connection_becomes_one_session_however_many_ask(s3, monkeypatch):
    bucket = s3.new_bucket()
    monkeypatch.setenv("AIRFLOW_CONN_AWS_HERE", variable(s3))

    with ThreadPoolExecutor(16) as pool:
        clients = set(pool.map(lambda _: aws_session("aws_here").client("s3"), range(64)))

    (client,) = clients
    assert bucket in [one["Name"] for one in client.list_buckets()["Buckets"]]


def test_a_connection_that_is_not_there_is_asked_for_again(s3, monkeypatch):
    with pytest.raises(ConfigurationError, match=r"aws_here: (not found|Airflow knows none)"):
        aws_session("aws_here")
    monkeypatch.setenv("AIRFLOW_CONN_AWS_HERE", variable(s3))

    assert aws_session("aws_here").client("s3").list_buckets()


def test_what_is_asked_of_the_store_comes_with_it(s3, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_HERE", variable(s3, secure_ml={"sse": "AES256"}))

    assert connected_aws("aws_here").asked.sse == "AES256"


@pytest.mark.parametrize("conn_id", ["", None], ids=["empty", "none"])
def test_without_a_connection_boto3_finds_who_speaks(s3, monkeypatch, conn_id):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(s3.ca))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    assert aws_session(conn_id).client("s3").list_buckets()


def test_plain_http_is_warned_about_in_the_trail(s3, monkeypatch, told):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_HERE", variable(s3, secure_ml={"allow_http": True}))

    aws_session("aws_here")

    assert [(one.subject, "plain http" in one.about) for one in told] == [("aws_here", True)]


def test_a_connection_over_tls_warns_of_nothing(s3, monkeypatch, told):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_HERE", variable(s3))

    aws_session("aws_here")

    assert told == []
