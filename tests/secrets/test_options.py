"""`backend_kwargs`: everything that the official back end takes, what is refused, and our own."""

from __future__ import annotations

import inspect

import pytest

from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.hooks.vault_connection import VaultConnection
from airflow_secure_ml.secrets.options import parse_options

URL = "https://vault.example.org:8200"
CANARY = "canary-token"


def parse(**given):
    return parse_options({"url": URL, "token": CANARY, **given}, environment={})


def server_and_login(options):
    connection = VaultConnection(options.connection)
    return connection.server(), connection.login()


def test_the_defaults_are_the_official_ones():
    options = parse()

    assert options.paths == {
        "connections": ("connections",),
        "variables": ("variables",),
        "config": ("config",),
    }
    assert (options.mount, options.kv_version, options.team_paths) == ("secret", 2, True)
    assert options.absent == {"connections": False, "variables": False, "config": False}


def test_every_option_of_the_official_back_end_is_known():
    from airflow.providers.hashicorp.secrets.vault import VaultBackend

    names = set(inspect.signature(VaultBackend).parameters) - {"kwargs"}
    refused = set()
    for name in names:
        try:
            parse(**{name: None})
        except ConfigurationError as error:
            if "no such option" in str(error):
                refused.add(name)

    assert refused == set()


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({"connections_path": "a/"}, ("a",)),
        ({"connections_path": ["a", "b/c/"]}, ("a", "b/c")),
        ({"connections_path": None}, None),
        ({"connections_path": ""}, ("",)),
        ({"connections_path": []}, ()),
        ({"global_secrets_path": "shared/"}, ("connections", "shared")),
        ({"connections_path": None, "global_secrets_path": "shared"}, ("shared",)),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_paths_are_read_as_the_official_back_end_reads_them(given, paths):
    assert parse(**given).paths["connections"] == paths


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"auth_type": "token"}, "TokenLogin"),
        ({"auth_type": "token", "token_path": "/run/token"}, "TokenLogin"),
        ({"auth_type": "approle", "role_id": "r", "secret_id": "s"}, "AppRoleLogin"),
        ({"auth_type": "userpass", "username": "u", "password": "p"}, "PasswordLogin"),
        ({"auth_type": "ldap", "username": "u", "password": "p"}, "PasswordLogin"),
        ({"auth_type": "kubernetes", "kubernetes_role": "r"}, "KubernetesLogin"),
        ({"auth_type": "jwt", "jwt_role": "r", "jwt_token": "t"}, "JwtLogin"),
        (
            {"auth_type": "jwt", "jwt_role": "r", "jwt_token": "t", "jwt_token_path": "/j"},
            "JwtLogin",
        ),
        ({"auth_type": "aws_iam", "key_id": "k", "secret_id": "s", "role_id": "r"}, "AwsIamLogin"),
        ({"auth_type": "cert", "cert": ["/c.pem", "/k.pem"]}, "CertificateLogin"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_login_takes_what_the_official_back_end_calls_it(given, kind):
    _, login = server_and_login(parse(**given))

    assert type(login).__name__ == kind


@pytest.mark.parametrize("method", ["azure", "gcp", "github", "radius", "nonsense"])
def test_other_logins_are_refused_by_name(method):
    with pytest.raises(ConfigurationError, match=method):
        server_and_login(parse(auth_type=method))


def test_hvacs_own_options_have_their_meaning():
    options = parse(verify="/ca.pem", cert=["/c.pem", "/k.pem"], namespace="ml", timeout=3)
    server, _ = server_and_login(options)

    assert (server.ca, server.client_cert, server.client_key) == ("/ca.pem", "/c.pem", "/k.pem")
    assert (server.namespace, server.timeout_s, server.deadline_s) == ("ml", 3.0, 10.0)


def test_the_environment_of_the_official_back_end_is_read():
    environment = {"VAULT_ADDR": URL, "VAULT_TOKEN": CANARY}
    options = parse_options({"mount_point": "airflow"}, environment)
    server, login = server_and_login(options)

    assert server.url == URL
    assert type(login).__name__ == "TokenLogin"


@pytest.mark.parametrize(
    ("given", "ca"),
    [({}, "/env.pem"), ({"verify": "/own.pem"}, "/own.pem"), ({"verify": True}, None),
     ({"ca": "/own.pem"}, "/own.pem")],
    ids=["neither", "verify", "verify by the package", "ca"],
)  # fmt: skip
def test_the_ca_of_the_environment_is_used_as_hvac_uses_it(given, ca):
    options = parse_options(
        {"url": URL, "token": CANARY, **given}, environment={"VAULT_CACERT": "/env.pem"}
    )

    assert server_and_login(options)[0].ca == ca


def test_no_options_at_all_are_refused_since_airflow_drops_what_it_cannot_read():
    with pytest.raises(ConfigurationError, match="found none; Airflow gives none where"):
        parse_options({}, environment={"VAULT_ADDR": URL, "VAULT_TOKEN": CANARY})


def test_an_empty_secret_id_is_none():
    options = parse(auth_type="approle", role_id="r", secret_id="", secret_id_path="/run/id")

    assert options.connection.password is None
    assert type(server_and_login(options)[1]).__name__ == "AppRoleLogin"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"verify": False}, "any server would be trusted"),
        ({"verify": "false"}, "any server would be trusted"),
        ({"proxies": {}}, "no such option"),
        ({"conections_path": "x"}, "no such option"),
        ({"kv_engine_version": 3}, "expected 1 or 2"),
        ({"connections_path": 3}, "connections_path"),
        ({"connections_path": [3]}, "expected a text"),
        ({"mount_point": 3}, "expected a text"),
        ({"use_team_secrets_path": "maybe"}, "true or false"),
        ({"cache_ttl_s": -1}, "expected a number"),
        ({"cache_size": "many"}, "expected a number"),
        ({"lookups_per_s": float("nan")}, "expected a number"),
        ({"absent": "ignore"}, "next or deny"),
        ({"absent": {"connection": "deny"}}, "next or deny"),
        ({"rules": "x"}, "expected an object"),
        ({"rules": {"x": {}}}, "expected connections/"),
        ({"gcp_scopes": "x"}, "not supported"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_not_allowed_is_named(given, text):
    with pytest.raises(ConfigurationError, match=text) as caught:
        parse(**given)

    assert CANARY not in str(caught.value)


def test_plain_http_is_refused_unless_it_was_allowed():
    http = "http://127.0.0.1:8200"
    with pytest.raises(ConfigurationError, match="not encrypted"):
        server_and_login(parse(url=http))

    server, _ = server_and_login(parse(url=http, allow_http="true"))

    assert not server.is_encrypted


def test_texts_of_the_environment_are_read_as_values():
    options = parse(
        kv_engine_version="1",
        use_team_secrets_path="false",
        cache_ttl_s="5",
        cache_size="10",
        lookups_per_s="0",
        deadline_s="2",
    )

    assert (options.kv_version, options.team_paths) == (1, False)
    assert (options.limits.cache_ttl_s, options.limits.cache_size) == (5.0, 10)
    assert options.limits.per_s == 0.0
    assert server_and_login(options)[0].deadline_s == 2.0


def test_absence_may_be_denied_for_one_kind():
    assert parse(absent={"connections": "deny"}).absent == {
        "connections": True,
        "variables": False,
        "config": False,
    }


def test_no_secret_is_printed():
    options = parse(auth_type="approle", role_id="r", secret_id=CANARY)

    assert CANARY not in repr(options)
