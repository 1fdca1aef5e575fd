"""From a connection's fields to an AWS identity, as the official amazon provider reads them."""

from __future__ import annotations

import json

import pytest

from airflow_secure_ml.adapters.aws.s3.terms import Asked
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.hooks.aws_connection import AwsConnection
from airflow_secure_ml.hooks.connections import ConnectionFields, parse_connection

CANARY = "canary-4711"
SECRET = Secret(CANARY)
ROLE = "arn:aws:iam::123456789012:role/team/reader"


def connection(**more):
    return AwsConnection(ConnectionFields(conn_id="a", **{"conn_type": "aws"} | more))


def identity(**extra):
    return connection(extra=extra).identity()


def asked(**ours):
    return connection(extra={"secure_ml": ours}).asked()


def refusal(act, **more):
    with pytest.raises(ConfigurationError, match="connection a: ") as raised:
        act(**more)
    assert CANARY not in str(raised.value)
    return str(raised.value)


def test_an_empty_connection_leaves_everything_to_boto3():
    found = identity()

    assert (found.name, found.access_key, found.region, found.role) == (
        "connection a",
        None,
        None,
        None,
    )
    assert (found.endpoint, found.ca, found.allow_http) == (None, None, False)
    assert connection().asked() == Asked()


KEYS = {"aws_access_key_id": "AKX", "aws_secret_access_key": CANARY}


@pytest.mark.parametrize(
    ("more", "access_key"),
    [
        ({"login": "AKL", "password": SECRET}, "AKL"),
        ({"login": "AKL", "password": SECRET, "extra": KEYS}, "AKL"),
        ({"extra": KEYS}, "AKX"),
        ({"extra": {"session_kwargs": KEYS}}, "AKX"),
    ],
    ids=["login", "login first", "extra", "session_kwargs"],
)
def test_credentials_are_looked_for_where_the_provider_looks(more, access_key):
    found = connection(**more).identity()

    assert (found.access_key, found.secret_key) == (access_key, SECRET)
    assert CANARY not in repr(found)


def test_a_session_token_is_taken_and_masked():
    found = connection(login="AKL", password=SECRET, extra={"aws_session_token": CANARY}).identity()

    assert found.session_token == SECRET
    assert CANARY not in repr(found)


def test_every_extra_that_matters_is_read():
    found = identity(
        region_name="eu-central-1",
        profile_name="ml",
        role_arn=ROLE,
        assume_role_kwargs={"ExternalId": CANARY, "DurationSeconds": 7200},
        endpoint_url="https://s3.test",
        verify="/ca.pem",
        service_config={
            "s3": {"endpoint_url": "https://s3.test:9000", "bucket_name": "b"},
            "kms": {"endpoint_url": "https://kms.test"},
            "emr": {"endpoint_url": "of no concern"},
        },
        config_kwargs={
            "s3": {"addressing_style": "path"},
            "connect_timeout": 3,
            "read_timeout": "9.5",
            "use_fips_endpoint": True,
            "use_dualstack_endpoint": "true",
            "proxies": {"https": "proxy.test:3128"},
            "retries": {"max_attempts": 99},
        },
    )

    assert (found.region, found.profile, found.ca) == ("eu-central-1", "ml", "/ca.pem")
    assert found.role.arn == ROLE
    assert found.role.arguments == {
        "RoleSessionName": "airflow-secure-ml",
        "ExternalId": CANARY,
        "DurationSeconds": 7200,
    }
    assert CANARY not in repr(found)
    assert found.endpoint == "https://s3.test"
    assert found.endpoints == {"s3": "https://s3.test:9000", "kms": "https://kms.test"}
    assert (found.addressing_style, found.connect_timeout_s, found.read_timeout_s) == (
        "path",
        3.0,
        9.5,
    )
    assert (found.use_fips, found.use_dualstack) == (True, True)
    assert found.proxies == {"https": "proxy.test:3128"}


def test_a_connection_as_a_uri_of_the_provider_is_read():
    text = "aws://AKL:s%2Fecret@/?region_name=eu-west-1&endpoint_url=https%3A%2F%2Fs3.test"

    found = AwsConnection(parse_connection("a", text)).identity()

    assert (found.access_key, found.region, found.endpoint) == (
        "AKL",
        "eu-west-1",
        "https://s3.test",
    )
    assert found.secret_key == Secret("s/ecret")


def test_what_the_provider_alone_knows_is_left_to_it():
    found = identity(
        external_secrets=True, test_endpoint_url="x", suppress_xcom=1, host="x", s3_config_file="x"
    )

    assert found == identity()


@pytest.mark.parametrize("verify", [None, "", True, "true"], ids=str)
def test_the_usual_authorities_are_trusted_by_default(verify):
    assert identity(verify=verify).ca is None


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"verify": False}, "verify is false, and any server would be trusted"),
        ({"verify": "False"}, "verify is false"),
        ({"service_config": {"s3": {"verify": False}}}, "verify is false"),
        ({"endpoint_url": "http://s3.test"}, "use https://, or set allow_http"),
        ({"service_config": {"kms": {"endpoint_url": "http://kms.test"}}}, "not encrypted"),
        ({"endpoint_url": f"https://user:{CANARY}@s3.test"}, "holds a user"),
        ({"endpoint_url": f"http://user:{CANARY}@s3.test"}, "holds a user"),
        ({"endpoint_url": "https://"}, "no host"),
        ({"endpoint_url": "ftp://s3.test"}, "expected https://"),
        ({"endpoint_url": "https://s3.test:port"}, "cannot be read"),
        ({"endpoint_url": "https://s3.test/?a=b"}, "expected https://"),
        ({"endpoint_url": "https://s3.test/\na"}, "no host"),
        ({"endpoint_url": 7}, "endpoint_url: expected a text"),
        ({"region_name": "eu central"}, "expected a name such as"),
        ({"role_arn": "reader"}, "expected arn:aws:iam::"),
        ({"role_arn": ROLE, "assume_role_method": "assume_role_with_saml"}, "supports assume_role"),
        ({"role_arn": ROLE, "assume_role_kwargs": {"SerialNumber": CANARY}}, "'SerialNumber'"),
        ({"assume_role_kwargs": "x", "role_arn": ROLE}, "assume_role_kwargs: expected a JSON"),
        ({"aws_session_token": CANARY}, "without login and password"),
        ({"service_config": []}, "service_config: expected a JSON object"),
        ({"config_kwargs": {"s3": {"addressing_style": "odd"}}}, "expected auto, path, virtual"),
        ({"config_kwargs": {"read_timeout": "soon"}}, "read_timeout: expected seconds"),
        ({"config_kwargs": {"read_timeout": 0}}, "read_timeout: expected seconds"),
        ({"config_kwargs": {"proxies": {"https": 7}}}, "proxies: expected"),
        ({"secure_ml": "x"}, "secure_ml: expected a JSON object"),
        ({"secure_ml": {"ssee": "AES256"}}, "has 'ssee'; expected none but allow_http"),
        ({"secure_ml": {"allow_http": "perhaps"}}, "allow_http: expected true or false"),
    ],
    ids=str,
)
def test_what_leads_to_no_identity_is_refused(extra, expected):
    assert expected in refusal(identity, **extra)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"conn_type": "vault"}, "of type 'vault'; expected aws"),
        ({"login": "AKL"}, "one without the other"),
        ({"password": SECRET}, "one without the other"),
    ],
    ids=["type", "login alone", "password alone"],
)
def test_half_a_connection_is_refused(more, expected):
    assert expected in refusal(lambda: connection(**more).identity())


def test_plain_http_is_taken_where_it_is_allowed():
    found = identity(endpoint_url="http://s3.test", secure_ml={"allow_http": True})

    assert (found.endpoint, found.allow_http) == ("http://s3.test", True)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ({"sse": "AES256"}, Asked(sse="AES256")),
        (
            {"sse": "aws:kms", "sse_kms_key_id": "alias/ml"},
            Asked(sse="aws:kms", sse_kms_key_id="alias/ml"),
        ),
        (
            {"object_lock": "governance", "object_lock_days": "30"},
            Asked(object_lock="GOVERNANCE", object_lock_days=30),
        ),
        (
            {"object_lock": "COMPLIANCE", "object_lock_days": 1, "legal_hold": True},
            Asked(object_lock="COMPLIANCE", object_lock_days=1, legal_hold=True),
        ),
        ({"sse": "", "legal_hold": None}, Asked()),
    ],
    ids=["sse", "kms", "governance", "compliance", "empty"],
)
def test_what_is_asked_of_the_store_is_read(ours, expected):
    assert asked(**ours) == expected


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ({"sse": "aes"}, "expected AES256 or aws:kms"),
        ({"sse_kms_key_id": "k"}, "sse_kms_key_id"),
        ({"object_lock": "SOME", "object_lock_days": 1}, "expected GOVERNANCE or COMPLIANCE"),
        ({"object_lock": "GOVERNANCE"}, "object_lock_days"),
        ({"object_lock_days": 3}, "object_lock"),
        ({"object_lock": "GOVERNANCE", "object_lock_days": 0}, "whole number from 1"),
        ({"object_lock": "GOVERNANCE", "object_lock_days": -1}, "whole number from 1"),
        ({"object_lock": "GOVERNANCE", "object_lock_days": "9" * 5000}, "whole number from 1"),
        ({"legal_hold": "maybe"}, "legal_hold: expected true or false"),
        ({"sse": 7}, "sse: expected a text"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused(ours, expected):
    assert expected in refusal(asked, **ours)


def test_json_of_the_environment_is_read():
    text = json.dumps(
        {"conn_type": "aws", "login": "AKL", "password": CANARY, "extra": {"secure_ml": {}}}
    )

    assert AwsConnection(parse_connection("a", text)).identity().secret_key == SECRET
