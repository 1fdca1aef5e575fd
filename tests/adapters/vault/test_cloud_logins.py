"""Kubernetes and AWS IAM: the real Vault asks a responder that plays the cluster, or AWS.

The responder checks what it is asked as the real one would, signatures included.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import boto3
import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_secure_ml.adapters.vault.aws_login import AwsIamLogin
from airflow_secure_ml.adapters.vault.logins import KubernetesLogin
from airflow_secure_ml.adapters.vault.secret_file import SecretFile
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError, ServiceRefusedError
from tests.adapters.vault.client_place import ClientPlace, read_one
from tests.adapters.vault.responder import Responder, Said
from tests.servers import vault_setup

pytestmark = pytest.mark.vault
CANARY = "canary-4711"
KEY_ID, SECRET_KEY = "AKIAEXAMPLE", "secret-key-of-the-example"
ARN = "arn:aws:iam::123456789012:user/worker"


@pytest.fixture
def place(vault):
    with ClientPlace(vault) as made:
        yield made


def said(body, status=200, kind="application/json"):
    return Said(status=status, headers={"Content-Type": kind}, body=[body], length=len(body))


def reason_of(client):
    with pytest.raises(ServiceRefusedError) as raised:
        read_one(client)
    return raised.value.reason


class Cluster(Responder):
    """A Kubernetes cluster that knows one token."""

    def __init__(self, token):
        super().__init__(self.review)
        self.token = token

    def review(self, asked):
        assert (asked.method, asked.path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
        assert asked.headers["Authorization"] == "Bearer reviewer"
        shown = json.loads(asked.body)["spec"]["token"]
        known = shown == self.token
        status = {"authenticated": known}
        if known:
            status["user"] = {
                "username": "system:serviceaccount:ml:worker",
                "uid": "uid-1",
                "groups": ["system:serviceaccounts"],
            }
        answer = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        return said(json.dumps(answer | {"status": status}).encode(), status=201)


def service_account(name="worker"):
    claims = {
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": "ml",
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": "uid-1",
        "sub": f"system:serviceaccount:ml:{name}",
    }
    return pyjwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")


@pytest.fixture
def cluster(place):
    with Cluster(service_account()) as made:
        path = vault_setup.enable_auth(place.vault, "kubernetes")
        config = {
            "kubernetes_host": made.url,
            "token_reviewer_jwt": "reviewer",
            "disable_local_ca_jwt": True,
            "kubernetes_ca_cert": place.vault.ca.read_text(),
        }
        place.vault.api("POST", f"auth/{path}/config", config)
        order = {
            "bound_service_account_names": ["worker"],
            "bound_service_account_namespaces": ["ml"],
            "token_policies": ["kv-reader"],
            "token_ttl": "60s",
        }
        place.vault.api("POST", f"auth/{path}/role/worker", order)
        yield made


def test_a_service_account_logs_in(place, cluster, tmp_path):
    file = tmp_path / "token"
    file.write_text(cluster.token)
    client = place.client(KubernetesLogin(role="worker", jwt=SecretFile(path=str(file))))

    assert read_one(client) == "first"
    assert len(cluster.asked) == 1


def test_a_service_account_that_the_cluster_does_not_know_is_refused(place, cluster):
    stranger = Secret(service_account())
    client = place.client(KubernetesLogin(role="worker", jwt=stranger))

    assert reason_of(client) == "login not accepted"


def test_a_service_account_of_another_role_is_refused(place, cluster):
    client = place.client(KubernetesLogin(role="another", jwt=Secret(cluster.token)))

    assert reason_of(client) == "login not accepted"


class TokenService(Responder):
    """AWS' token service: who signed is told by the signature."""

    def __init__(self):
        super().__init__(self.identify)
        self.trouble = []

    def identify(self, asked):
        if not self._is_signed(asked):
            return said(b"<ErrorResponse/>", status=403, kind="text/xml")
        body = f"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
        <GetCallerIdentityResult><Arn>{ARN}</Arn><UserId>AIDAEXAMPLE</UserId>
        <Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""
        return said(body.encode(), kind="text/xml")

    def _is_signed(self, asked):
        """Signature version 4, as AWS describes it; written anew, since the signer is tested."""
        headers = {name.lower(): value.strip() for name, value in asked.headers.items()}
        fields = dict(
            part.strip().split("=", 1)
            for part in headers["authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(",")
        )
        key_id, day, region, service, end = fields["Credential"].split("/")
        names = fields["SignedHeaders"].split(";")
        canonical = "\n".join(
            [
                asked.method,
                "/",
                "",
                *(f"{name}:{headers[name]}" for name in names),
                "",
                ";".join(names),
                hashlib.sha256(asked.body).hexdigest(),
            ]
        )
        scope = f"{day}/{region}/{service}/{end}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{digest}"
        key = f"AWS4{SECRET_KEY}".encode()
        for part in (day, region, service, end):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        wanted = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return (key_id, service, wanted) == (KEY_ID, "sts", fields["Signature"])


@pytest.fixture
def aws(place, monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with TokenService() as made:
        configure(place, made.url)
        order = {
            "auth_type": "iam",
            "bound_iam_principal_arn": ARN,
            "resolve_aws_unique_ids": False,
            "token_policies": ["kv-reader"],
            "token_ttl": "60s",
        }
        place.vault.api("POST", "auth/aws/role/worker", order)
        yield made


def configure(place, url, **more):
    vault_setup.enable_auth(place.vault, "aws")
    order = {"sts_endpoint": url, "sts_region": "us-east-1", "iam_server_id_header_value": ""}
    place.vault.api("POST", "auth/aws/config/client", order | more)


def login(**more):
    given = {"role": "worker", "access_key": KEY_ID, "secret_key": Secret(SECRET_KEY)}
    return AwsIamLogin(**given | more)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "sts.amazonaws.com"),
        ("eu-central-1", "sts.eu-central-1.amazonaws.com"),
        ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_an_aws_identity_logs_in_by_the_address_of_its_region(place, aws, region, host):
    configure(place, aws.url, sts_region=region)

    assert read_one(place.client(login(region=region))) == "first"
    assert {one.headers["Host"] for one in aws.asked} == {host}


def test_an_aws_identity_is_found_where_boto3_looks(place, aws, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    # Where AWS is asked is the connection's matter, not the environment's.
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://evil.example")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")

    client = place.client(login(access_key=None, secret_key=None))

    assert read_one(client) == "first"
    assert aws.asked[0].headers["Host"] == "sts.amazonaws.com"


def test_no_aws_identity_is_told(place, aws):
    client = place.client(login(access_key=None, secret_key=None))

    with pytest.raises(ConfigurationError, match="no AWS credentials"):
        read_one(client)


def test_a_wrong_aws_signature_is_refused(place, aws):
    client = place.client(login(secret_key=Secret(CANARY)))

    assert reason_of(client) == "login not accepted"


@pytest.mark.parametrize(("server_id", "is_right"), [("vault.example.org", True), (None, False)])
def test_the_server_id_keeps_a_signature_from_another_vault(place, aws, server_id, is_right):
    configure(place, aws.url, iam_server_id_header_value="vault.example.org")
    client = place.client(login(server_id=server_id))

    if is_right:
        assert read_one(client) == "first"
        assert "x-vault-aws-iam-server-id" in aws.asked[0].headers["Authorization"]
    else:
        assert reason_of(client) == "login not accepted"


def test_a_role_is_become_first(place, aws, monkeypatch):
    # Patched: AWS itself would have to make the role's credentials.
    asked = []
    made = {"AccessKeyId": KEY_ID, "SecretAccessKey": SECRET_KEY, "SessionToken": "session"}

    def assume_role(**given):
        asked.append(given)
        return {"Credentials": made}

    real = boto3.Session.client

    def client_of(self, *args, **given):
        made = real(self, *args, **given)
        made.assume_role = assume_role
        return made

    monkeypatch.setattr(boto3.Session, "client", client_of)
    arn = "arn:aws:iam::123456789012:role/worker"

    client = place.client(login(access_key="AKIAOTHER", assume=(("RoleArn", arn),)))

    assert read_one(client) == "first"
    assert asked == [{"RoleArn": arn}]
    assert aws.asked[0].headers["X-Amz-Security-Token"] == "session"


def test_what_is_sent_is_a_signed_question_and_no_key(place):
    with Responder(lambda asked: said(b'{"auth": {"client_token": "t"}}')) as vault:
        client = place.client(login(), url=vault.url, allow_http=True)
        client.token()
        place.clients.remove(client)

    sent = json.loads(vault.asked[0].body)
    assert SECRET_KEY not in vault.asked[0].body.decode()
    assert base64.b64decode(sent["iam_request_body"]) == (
        b"Action=GetCallerIdentity&Version=2011-06-15"
    )
    assert base64.b64decode(sent["iam_request_url"]) == b"https://sts.amazonaws.com/"
