"""An AWS identity becomes clients: over TLS alone, quiet, and each process with its own."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.awsrequest import AWSResponse
from urllib3 import HTTPResponse

from airflow_secure_ml.adapters.aws import session as sessions
from airflow_secure_ml.adapters.aws.failures import S3, asking
from airflow_secure_ml.adapters.aws.s3 import S3Objects
from airflow_secure_ml.adapters.aws.s3.parts import PART_BYTES
from airflow_secure_ml.adapters.aws.session import AssumedRole, AwsIdentity, AwsSession
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import (
    ConfigurationError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from tests.servers.proxy import Answer, Hang
from tests.servers.s3_proxy import before

CANARY = "canary-4711"
ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def levels():
    loggers = [logging.getLogger(name) for name in ("boto3", "botocore", "s3transfer")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.NOTSET)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def identity(**more):
    given = {
        "name": "connection x",
        "access_key": "AK",
        "secret_key": Secret(CANARY),
        "region": "eu-central-1",
    }
    return AwsIdentity(**given | more)


def identity_of(s3, **more):
    given = {
        "access_key": s3.access_key,
        "secret_key": Secret(s3.secret_key),
        "endpoint": s3.url,
        "ca": str(s3.ca),
        "region": "us-east-1",
    }
    return identity(**given | more)


@pytest.fixture
def put_large(s3):
    bucket = s3.new_bucket()
    s3.client().put_object(Bucket=bucket, Key="x", Body=bytes(4 << 20))
    return f"s3://{bucket}/x"


def test_a_client_speaks_to_the_server_of_its_identity(s3):
    bucket = s3.new_bucket()
    client = AwsSession(identity_of(s3)).client("s3")

    client.put_object(Bucket=bucket, Key="a", Body=b"x")

    assert s3.client().get_object(Bucket=bucket, Key="a")["Body"].read() == b"x"


def test_many_threads_get_one_client(s3):
    session = AwsSession(identity_of(s3))

    with ThreadPoolExecutor(16) as pool:
        clients = set(pool.map(lambda _: session.client("s3"), range(64)))

    assert len(clients) == 1


def test_a_forked_child_has_clients_of_its_own(s3):
    session = AwsSession(identity_of(s3))
    of_parent = session.client("s3")
    of_parent.list_buckets()
    read, write = os.pipe()

    child = os.fork()
    if not child:
        own = session.client("s3")
        own.list_buckets()
        os.write(write, b"other" if own is not of_parent else b"same")
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as said:
        told = said.read()
    os.waitpid(child, 0)

    assert told == b"other"
    assert session.client("s3") is of_parent


def test_a_child_forked_while_another_thread_asks_does_not_wait_for_it():
    session = AwsSession(identity())
    session._mine.lock.acquire()

    child = os.fork()
    if not child:
        session.client("s3")
        os._exit(7)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_server_of_another_authority_is_not_trusted(s3):
    client = AwsSession(identity_of(s3, ca=None)).client("s3")

    with pytest.raises(ConfigurationError, match="Set verify"), asking(S3, "list"):
        client.list_buckets()


@pytest.mark.parametrize("kind", ["nothing", "a folder", "no certificate"])
def test_certificates_that_are_none_are_told_before_anything_is_asked(tmp_path, kind):
    ca = tmp_path / "ca.pem"
    if kind == "a folder":
        ca.mkdir()
    if kind == "no certificate":
        ca.write_text("none\n")

    with pytest.raises(ConfigurationError, match=r"verify .*ca\.pem"):
        AwsSession(identity(ca=str(ca))).client("s3")


@pytest.mark.parametrize("url", ["https://[::1", "https://no host"])
def test_an_address_of_the_environment_that_is_none_is_told(monkeypatch, url):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)

    with pytest.raises(ConfigurationError, match="the address of s3 cannot be read"):
        AwsSession(identity()).client("s3")


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400])
@pytest.mark.parametrize("code", ["PermanentRedirect", "TemporaryRedirect"])
def test_nobody_is_followed_to_another_host(s3, s3_proxy, tmp_path, status, code):
    session = AwsSession(identity_of(s3, endpoint=s3_proxy.url))
    bucket = s3.new_bucket()
    with before(s3, tmp_path) as other:
        host = f"127.0.0.1:{other.port}"
        named = (
            f"<Error><Code>{code}</Code><Endpoint>{host}</Endpoint><Region>{host}</Region></Error>"
        )
        headers = {"Location": f"{other.url}/{bucket}/x", "x-amz-bucket-region": f"{host}/"}
        s3_proxy.will(
            Answer(
                status=status,
                headers=headers | {"Content-Type": "application/xml"},
                body=named.encode(),
                times=99,
            )
        )

        with pytest.raises(ConfigurationError), asking(S3, "read"):
            session.client("s3").get_object(Bucket=bucket, Key="x")

        assert other.seen == []


def test_a_wrong_secret_is_told_and_not_shown(s3):
    client = AwsSession(identity_of(s3, secret_key=Secret(CANARY))).client("s3")

    with (
        pytest.raises(ServiceRefusedError, match="check its password") as raised,
        asking(S3, "list"),
    ):
        client.list_buckets()

    assert CANARY not in str(raised.value)


@pytest.mark.parametrize(
    "more",
    [{"endpoint": "http://127.0.0.1:1"}, {"endpoints": {"s3": "http://127.0.0.1:1"}}],
    ids=["every service's", "the service's"],
)
def test_plain_http_is_refused_unless_it_is_allowed(more):
    with pytest.raises(ConfigurationError, match="connection x: the address of s3 is not encr"):
        AwsSession(identity(**more)).client("s3")

    AwsSession(identity(allow_http=True, **more)).client("s3")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_plain_http_of_the_environment_is_refused_too(monkeypatch, name):
    monkeypatch.setenv(name, "http://127.0.0.1:1")

    with pytest.raises(ConfigurationError, match="not encrypted"):
        AwsSession(identity()).client("s3")


def test_plain_http_of_a_profile_is_refused_too(tmp_path):
    (tmp_path / "config").write_text("[profile p]\nendpoint_url = http://127.0.0.1:1\n")

    with pytest.raises(ConfigurationError, match="not encrypted"):
        AwsSession(identity(profile="p")).client("s3")


def test_the_environment_has_no_say_in_checksums(monkeypatch):
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")

    config = AwsSession(identity()).client("s3").meta.config

    assert config.request_checksum_calculation == "when_required"
    assert config.response_checksum_validation == "when_supported"


def test_whatever_is_stored_is_sent_in_one_piece_with_its_checksum(s3):
    client = AwsSession(identity_of(s3)).client("s3")
    sent = []
    client.meta.events.register(
        "before-send.s3", lambda request, **_: sent.append((request.method, request.headers))
    )
    store, bucket = S3Objects(lambda _: client), s3.new_bucket(versioned=True)

    for uri, size in (("small", 10), ("parts", PART_BYTES + 1)):
        with store.create(f"s3://{bucket}/{uri}") as writer:
            writer.write_at(0, bytes(size))
            writer.commit(replace=False)
    with store.create_directory(f"s3://{bucket}/d") as directory:
        with directory.create("a") as writer:
            writer.write_at(0, b"x")
            writer.commit(replace=False)
        directory.commit(replace=False)

    puts = [headers for method, headers in sent if method == "PUT"]
    # The object, two parts, a file, and the listing twice.
    assert len(puts) == 6
    assert all("x-amz-checksum-crc64nvme" in headers for headers in puts)
    assert not any("x-amz-trailer" in h or "Content-Encoding" in h for _, h in sent)


@pytest.mark.parametrize(
    ("more", "is_signed"),
    [
        ({"endpoint": "https://127.0.0.1:1"}, False),
        ({"endpoint": "http://127.0.0.1:1", "allow_http": True}, True),
    ],
    ids=["https", "http"],
)
def test_bytes_are_digested_for_a_signature_only_where_no_tls_holds_them(more, is_signed):
    client = AwsSession(identity(**more)).client("s3")
    sent = []

    def answer(request, **_):
        sent.append(request.headers["X-Amz-Content-SHA256"].decode())
        return AWSResponse(request.url, 200, {}, HTTPResponse(io.BytesIO()))

    client.meta.events.register("before-send.s3", answer)
    client.put_object(Bucket="bucket", Key="a", Body=b"x", ChecksumCRC64NVME="AAAAAAAAAAA=")

    digest = hashlib.sha256(b"x").hexdigest()
    assert sent == [digest if is_signed else "UNSIGNED-PAYLOAD"]


def test_retries_are_bounded_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1000")
    monkeypatch.setenv("AWS_RETRY_MODE", "legacy")

    session = AwsSession(identity())
    of_kms, of_s3 = (session.client(name).meta.config.retries for name in ("kms", "s3"))

    assert of_kms == {"mode": "standard", "total_max_attempts": 4}
    # What is asked of S3 is tried again by its adapter, which knows whether anybody waits.
    assert of_s3 == {"mode": "standard", "total_max_attempts": 1}


def test_whoever_lets_go_waits_for_one_answer_at_most(s3, s3_proxy, put_large):
    session = AwsSession(identity_of(s3, endpoint=s3_proxy.url, read_timeout_s=1.0))
    store = S3Objects(lambda _: session.client("s3"))
    pinned = store.open(put_large)
    asked = s3_proxy.count(method="GET")
    s3_proxy.will(Hang(seconds=30, method="GET", times=99))

    with ThreadPoolExecutor(1) as reader, pinned:
        reading = reader.submit(pinned.read_at, 1 << 20, 1 << 10)
        deadline = time.monotonic() + 10
        while s3_proxy.count(method="GET") == asked and time.monotonic() < deadline:
            time.sleep(0.01)
        pinned.__exit__(None, None, None)

    assert isinstance(reading.exception(), ServiceUnavailableError)
    assert s3_proxy.count(method="GET") == asked + 1


def test_a_profile_of_the_shared_files_is_taken(tmp_path):
    (tmp_path / "credentials").write_text(
        "[p]\naws_access_key_id = AKP\naws_secret_access_key = s\n"
    )
    (tmp_path / "config").write_text("[profile p]\nregion = eu-west-3\n")

    client = AwsSession(
        identity(access_key=None, secret_key=None, region=None, profile="p")
    ).client("s3")

    assert client.meta.region_name == "eu-west-3"
    assert client._request_signer._credentials.access_key == "AKP"


def test_a_profile_that_is_not_there_is_told():
    with pytest.raises(ConfigurationError, match="ProfileNotFound"):
        AwsSession(identity(profile="p")).client("s3")


def test_no_credentials_at_all_are_told(s3):
    nobody = identity_of(s3, access_key=None, secret_key=None)

    with (
        pytest.raises(ConfigurationError, match="give the connection login and password"),
        asking(S3, "list"),
    ):
        AwsSession(nobody).client("s3").list_buckets()


class Sts:
    """AWS' token service as far as a role needs it; what is tested is who asks, and when."""

    def __init__(self, monkeypatch, valid_s=3600):
        self.asked, self.valid_s, self.error = [], valid_s, None
        made = AwsSession._client_of

        def client_of(session, boto3_session, service):
            if service == "sts":
                return self
            return made(session, boto3_session, service)

        # Patched: no server here has a token service.
        monkeypatch.setattr(AwsSession, "_client_of", client_of)

    def assume_role(self, **arguments):
        self.asked.append(arguments)
        if self.error is not None:
            raise self.error
        number = len(self.asked)
        return {
            "Credentials": {
                "AccessKeyId": f"AK{number}",
                "SecretAccessKey": CANARY,
                "SessionToken": f"token {number}",
                "Expiration": datetime.now(UTC) + timedelta(seconds=self.valid_s),
            }
        }


ARGUMENTS = {"RoleSessionName": "asml", "ExternalId": CANARY}
WITH_ROLE = {"role": AssumedRole(arn=ROLE, arguments=ARGUMENTS)}


def token_of(client):
    return client._request_signer._credentials.get_frozen_credentials().token


def test_a_role_is_become_once_for_all_services(monkeypatch):
    sts = Sts(monkeypatch)
    session = AwsSession(identity(**WITH_ROLE))

    tokens = [token_of(session.client(service)) for service in ("s3", "kms", "s3")]

    assert tokens == ["token 1"] * 3
    assert sts.asked == [{"RoleArn": ROLE, **ARGUMENTS}]


def test_a_role_is_become_again_before_it_ends(monkeypatch):
    sts = Sts(monkeypatch, valid_s=60)
    client = AwsSession(identity(**WITH_ROLE)).client("s3")

    tokens = [token_of(client), token_of(client)]

    assert len(set(tokens)) == 2
    assert len(sts.asked) >= 2


def test_a_role_that_is_refused_is_told_by_its_name(monkeypatch):
    from botocore.exceptions import ClientError

    sts = Sts(monkeypatch)
    sts.error = ClientError({"Error": {"Code": "AccessDenied", "Message": CANARY}}, "AssumeRole")

    with pytest.raises(ServiceRefusedError, match=f"aws sts did not become {ROLE}") as raised:
        AwsSession(identity(**WITH_ROLE)).client("s3").list_buckets()

    assert CANARY not in str(raised.value)


def test_a_token_service_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(sessions, "ATTEMPTS", 1)
    alone = identity(endpoints={"sts": "https://127.0.0.1:1"}, **WITH_ROLE)

    with pytest.raises(ServiceUnavailableError, match="EndpointConnectionError"):
        AwsSession(alone).client("s3").list_buckets()


def test_a_role_is_not_become_over_plain_http():
    with pytest.raises(ConfigurationError, match="the address of sts is not encrypted"):
        AwsSession(identity(endpoints={"sts": "http://127.0.0.1:1"}, **WITH_ROLE)).client("s3")


def test_no_secret_is_written_where_everything_is_logged(s3, caplog, levels):
    caplog.set_level(logging.DEBUG)
    secret = identity_of(s3, session_token=Secret(CANARY))

    AwsSession(secret).client("s3").list_buckets()

    assert "urllib3" in caplog.text
    assert CANARY not in caplog.text
    assert s3.secret_key not in caplog.text
    assert not [one for one in caplog.records if one.name.startswith("botocore")]


def test_a_quiet_logger_stays_quiet(levels):
    logging.getLogger("botocore").setLevel(logging.ERROR)

    AwsSession(identity()).client("s3")

    assert logging.getLogger("botocore").level == logging.ERROR


def test_an_identity_does_not_show_its_secrets():
    whole = replace(identity(**WITH_ROLE), session_token=Secret(CANARY), proxies={"a": CANARY})

    assert CANARY not in repr(whole)
