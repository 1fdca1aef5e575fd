"""From a connection's fields to a server and a login."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.vault.secret_file import SecretFile
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.get_provider_info import get_provider_info, vault_fields
from airflow_secure_ml.hooks.connections import ConnectionFields
from airflow_secure_ml.hooks.vault_connection import VaultConnection
from airflow_secure_ml.hooks.vault_logins import LOGINS

CANARY = "canary-4711"
SECRET = Secret(CANARY)


def fields(conn_type="vault_secure_ml", host="https://vault.example.org:8200", **more):
    return ConnectionFields(conn_id="v", conn_type=conn_type, host=host, **more)


def server(**more):
    return VaultConnection(fields(**more)).server()


def login(auth_type, **more):
    extra = {"auth_type": auth_type} | more.pop("extra", {})
    return VaultConnection(fields(extra=extra, **more)).login()


def refusal(act, **more):
    with pytest.raises(ConfigurationError, match="connection v: ") as raised:
        act(**more)
    assert CANARY not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("conn_type", "host", "port", "extra", "url"),
    [
        ("vault_secure_ml", "https://v.test:8200", None, {}, "https://v.test:8200"),
        ("vault_secure_ml", "https://v.test:8200/", None, {}, "https://v.test:8200"),
        ("vault_secure_ml", "https://v.test", 8200, {}, "https://v.test:8200"),
        ("vault_secure_ml", "v.test", 8200, {}, "https://v.test:8200"),
        ("vault_secure_ml", "v.test:8200", None, {}, "https://v.test:8200"),
        ("vault_secure_ml", "v.test", None, {}, "https://v.test"),
        ("vault_secure_ml", "vault://v.test:8200", None, {}, "https://v.test:8200"),
        ("vault_secure_ml", "vaults://v.test:8200", None, {}, "https://v.test:8200"),
        ("vault_secure_ml", "http://v.test", None, {"allow_http": True}, "http://v.test"),
        ("vault_secure_ml", "http://v.test", None, {"allow_http": "true"}, "http://v.test"),
        ("vault", "v.test", 8200, {"use_tls": True}, "https://v.test:8200"),
        ("vault", "v.test", 8200, {"use_tls": "true"}, "https://v.test:8200"),
        ("vault", "v.test", 8200, {"allow_http": True}, "http://v.test:8200"),
        ("vault", "v.test", 80, {"use_tls": False, "allow_http": True}, "http://v.test:80"),
        ("vaults", "v.test", 8200, {}, "https://v.test:8200"),
        ("https", "v.test", 8200, {}, "https://v.test:8200"),
        ("http", "v.test", 8200, {"allow_http": True}, "http://v.test:8200"),
        ("vault", "https://v.test:8200", None, {}, "https://v.test:8200"),
    ],
)
def test_a_host_becomes_an_address(conn_type, host, port, extra, url):
    assert server(conn_type=conn_type, host=host, port=port, extra=extra).url == url


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"host": None}, "host: not set"),
        ({"host": "ftp://v.test"}, "begins with ftp://"),
        ({"host": "http://v.test"}, "set allow_http"),
        ({"host": "http://v.test", "extra": {"allow_http": "no"}}, "set allow_http"),
        ({"host": "https://v.test:8200", "port": 8200}, "the host has one already"),
        ({"schema": "secret"}, "schema: has no meaning"),
        ({"conn_type": "vault", "host": "v.test"}, "would speak plain http"),
        ({"conn_type": "http", "host": "v.test"}, "would speak plain http"),
        ({"conn_type": "postgres"}, "of type 'postgres'; expected vault_secure_ml"),
        ({"host": f"https://user:{CANARY}@v.test"}, "holds a user"),
        ({"extra": {"allow_http": "perhaps"}}, "allow_http: expected true or false"),
        ({"extra": {"timeout_s": "soon"}}, "timeout_s: expected a number"),
        ({"extra": {"timeout_s": 0}}, "timeout 0.0 s"),
        ({"extra": {"namepsace": "ml"}}, "its extra has 'namepsace'; expected none but auth_type"),
        ({"extra": {"allow_htpp": True}}, "allow_htpp"),
        ({"extra": {"use_tls": False}}, "use_tls"),
        ({"extra": {"namespace": ["ml"]}}, "namespace: expected a text"),
        ({"extra": {"client_key": "/k"}}, "without its certificate"),
    ],
)
def test_what_leads_to_no_server_is_refused(more, expected):
    assert expected in refusal(server, **more)


def test_every_field_of_the_server_is_read():
    found = server(
        extra={
            "namespace": "teams/ml",
            "ca": "/ca.pem",
            "client_cert": "/c.pem",
            "client_key": "/c.key",
            "timeout_s": "2.5",
            "deadline_s": 7,
        }
    )

    assert (found.namespace, found.ca, found.client_cert, found.client_key) == (
        "teams/ml",
        "/ca.pem",
        "/c.pem",
        "/c.key",
    )
    assert (found.timeout_s, found.deadline_s) == (2.5, 7.0)


def test_fields_that_a_form_leaves_empty_are_not_set():
    found = server(extra=dict.fromkeys(vault_fields(), "") | {"ca": None})

    assert (found.namespace, found.ca, found.timeout_s) == (None, None, 10.0)


def test_the_token_is_the_default():
    found = VaultConnection(fields(password=SECRET)).login()

    assert (type(found).__name__, found.token) == ("TokenLogin", SECRET)


FILE = SecretFile(path="/f")


@pytest.mark.parametrize(
    ("auth_type", "more", "attributes"),
    [
        ("token", {"password": SECRET}, {"token": SECRET}),
        ("token", {"extra": {"token_path": "/f"}}, {"token": FILE}),
        (
            "approle",
            {"login": "r", "password": SECRET},
            {"role_id": "r", "secret_id": SECRET, "mount": "approle"},
        ),
        ("approle", {"login": "r"}, {"secret_id": None}),
        ("approle", {"extra": {"role_id": "r"}}, {"role_id": "r"}),
        (
            "approle",
            {"login": "r", "extra": {"secret_id_path": "/f", "auth_mount_point": "/auth/a/b/"}},
            {"secret_id": FILE, "mount": "a/b"},
        ),
        (
            "approle",
            {"login": "r", "extra": {"wrapped_secret_id": CANARY, "approle_name": "n"}},
            {"role_id": "r", "wrapping": SECRET, "role": "n"},
        ),
        (
            "approle",
            {"login": "r", "extra": {"wrapped_secret_id_path": "/f"}},
            {"wrapping": FILE, "role": None},
        ),
        (
            "kubernetes",
            {"extra": {"kubernetes_role": "r"}},
            {
                "role": "r",
                "jwt": SecretFile(path="/var/run/secrets/kubernetes.io/serviceaccount/token"),
                "mount": "kubernetes",
            },
        ),
        (
            "kubernetes",
            {"extra": {"kubernetes_role": "r", "kubernetes_jwt_path": "/f"}},
            {"jwt": FILE},
        ),
        ("jwt", {"extra": {"jwt_token": CANARY}}, {"jwt": SECRET, "role": None, "mount": "jwt"}),
        ("jwt", {"extra": {"jwt_token_path": "/f", "jwt_role": "r"}}, {"jwt": FILE, "role": "r"}),
        (
            "aws_iam",
            {},
            {
                "role": None,
                "region": "us-east-1",
                "server_id": None,
                "assume": (),
                "access_key": None,
                "mount": "aws",
            },
        ),
        (
            "aws_iam",
            {
                "login": "AKIA",
                "password": SECRET,
                "extra": {
                    "role_id": "r",
                    "region": "eu-central-1",
                    "aws_server_id": "v",
                    "aws_assume_role": "arn:aws:iam::1:role/r",
                },
            },
            {
                "role": "r",
                "region": "eu-central-1",
                "server_id": "v",
                "access_key": "AKIA",
                "secret_key": SECRET,
                "assume": (
                    ("RoleSessionName", "airflow-secure-ml"),
                    ("RoleArn", "arn:aws:iam::1:role/r"),
                ),
            },
        ),
        (
            "cert",
            {"extra": {"client_cert": "/c", "cert_role": "r"}},
            {"role": "r", "mount": "cert"},
        ),
        (
            "userpass",
            {"login": "alice", "password": SECRET},
            {"user": "alice", "password": SECRET, "method": "userpass", "mount": "userpass"},
        ),
        (
            "ldap",
            {"login": "alice", "password": SECRET, "extra": {"auth_mount_point": "corp"}},
            {"user": "alice", "method": "ldap", "mount": "corp"},
        ),
    ],
)
def test_each_way_to_log_in_takes_its_fields(auth_type, more, attributes):
    found = login(auth_type, **more)

    assert {name: getattr(found, name) for name in attributes} == attributes


@pytest.mark.parametrize(
    ("auth_type", "more", "expected"),
    [
        ("token", {}, "expected the token as password, or token_path"),
        ("token", {"password": SECRET, "extra": {"token_path": "/f"}}, "password and token_path"),
        ("approle", {"password": SECRET}, "login: not set; expected the role id"),
        (
            "approle",
            {"login": "r", "password": SECRET, "extra": {"wrapped_secret_id": CANARY}},
            "password and wrapped_secret_id are set",
        ),
        ("approle", {"login": "r", "extra": {"auth_mount_point": "../sys"}}, "auth_mount_point"),
        ("approle", {"login": "r", "extra": {"auth_mount_point": "a?b"}}, "auth_mount_point"),
        ("kubernetes", {}, "kubernetes_role: not set"),
        ("jwt", {}, "expected jwt_token_path or jwt_token"),
        (
            "jwt",
            {"extra": {"jwt_token": CANARY, "jwt_token_path": "/f"}},
            "jwt_token and jwt_token_path are set",
        ),
        ("aws_iam", {"login": "AKIA"}, "an AWS access key in both"),
        ("aws_iam", {"extra": {"aws_assume_role": [1]}}, "expected the ARN"),
        ("cert", {}, "client_cert: not set"),
        ("userpass", {"password": SECRET}, "login: not set"),
        ("ldap", {"login": "alice"}, "password: not set"),
        ("userpass", {"login": "../sys", "password": SECRET}, "user name"),
        ("github", {"password": SECRET}, "supports token, approle, kubernetes, jwt, aws_iam"),
        ("", {}, "expected the token"),
    ],
)
def test_what_leads_to_no_login_is_refused(auth_type, more, expected):
    assert expected in refusal(login, auth_type=auth_type, **more)


def official(auth_type, **more):
    extra = {"auth_type": auth_type, "use_tls": True, "kv_engine_version": 2}
    extra |= more.pop("extra", {})
    return VaultConnection(fields("vault", "v.test", port=8200, extra=extra, **more))


def test_an_official_connection_is_taken_as_it_is():
    # As the official provider's form stores it: every field of it, most of them empty.
    form = {
        "gcp_key_path": "",
        "gcp_scopes": "",
        "azure_tenant_id": "",
        "radius_port": None,
        "token_path": "",
    }
    connection = official("approle", login="r", password=SECRET, schema="secret", extra=form)

    assert connection.server().url == "https://v.test:8200"
    assert (connection.login().role_id, connection.login().secret_id) == ("r", SECRET)


@pytest.mark.parametrize("method", ["gcp", "azure", "radius", "github"])
def test_an_official_way_to_log_in_that_is_not_here_is_told(method):
    text = refusal(official(method).login)

    assert f"auth_type {method!r}; this release supports token, approle" in text


@pytest.mark.parametrize("as_text", [False, True], ids=["object", "text"])
def test_the_official_client_kwargs_are_taken(as_text):
    import json

    kwargs = {
        "verify": "/ca.pem",
        "namespace": "ml",
        "timeout": 3,
        "cert": ["/c", "/k"],
        "assume_role_kwargs": {"RoleArn": "arn", "RoleSessionName": "mine"},
    }
    given = json.dumps(kwargs) if as_text else kwargs
    connection = official("aws_iam", extra={"client_kwargs": given})

    found = connection.server()

    assert (found.ca, found.namespace, found.timeout_s) == ("/ca.pem", "ml", 3.0)
    assert (found.client_cert, found.client_key) == ("/c", "/k")
    assert dict(connection.login().assume) == {"RoleArn": "arn", "RoleSessionName": "mine"}


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"verify": False}, "any server would be trusted"),
        ({"proxies": {"https": "http://evil"}}, "client_kwargs: expected an object of"),
        ({"token": CANARY}, "client_kwargs: expected an object of"),
        ([CANARY], "client_kwargs: expected an object of"),
        (CANARY, "client_kwargs: expected an object of"),
    ],
)
def test_official_client_kwargs_that_have_no_meaning_here_are_refused(kwargs, expected):
    assert expected in refusal(official, auth_type="token", extra={"client_kwargs": kwargs})


def test_the_ways_to_log_in_that_are_declared_are_those_that_there_are():
    declared = vault_fields()["auth_type"]["schema"]["enum"]

    assert declared == list(LOGINS)


class Noting(dict):
    """Notes which names are asked for."""

    def __init__(self, found):
        super().__init__(found)
        self.asked = set()

    def get(self, name, default=None):
        self.asked.add(name)
        return super().get(name, default)


def test_every_field_that_is_declared_is_read_and_no_other():
    needed = {"kubernetes_role": "r", "jwt_token": "j", "client_cert": "/c"}
    wrapped = {"wrapped_secret_id": "w"}
    asked = set()
    for method in LOGINS:
        password = None if method == "approle" else SECRET
        extra = Noting({"auth_type": method} | needed | (wrapped if method == "approle" else {}))
        connection = VaultConnection(fields(login="a", password=password, extra={}))
        connection._extra = extra
        connection.server()
        connection.login()
        asked |= extra.asked

    without_login = Noting({"auth_type": "approle", "role_id": "r"})
    connection = VaultConnection(fields())
    connection._extra = without_login
    connection.login()

    assert asked | without_login.asked == set(vault_fields())


def test_secret_fields_are_declared_as_such():
    secret = {
        name
        for name, declared in vault_fields().items()
        if declared["schema"].get("format") == "password"
    }

    assert secret == {"wrapped_secret_id", "jwt_token"}
    # Airflow masks a field in logs by its name.
    assert all("secret" in name or "token" in name for name in secret)


def test_every_field_is_explained():
    for declared in vault_fields().values():
        assert declared["label"]
        assert declared["description"].endswith(".")


def test_the_connection_type_is_declared_once():
    (declared,) = get_provider_info()["connection-types"]

    assert declared["connection-type"] == "vault_secure_ml"
