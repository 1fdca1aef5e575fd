"""Each way to log in, on the real Vault; what is wrong is refused and not shown."""

from __future__ import annotations

import json
import os

import pytest

from airflow_secure_ml.adapters.vault.logins import (
    AppRoleLogin,
    CertificateLogin,
    JwtLogin,
    PasswordLogin,
    TokenLogin,
)
from airflow_secure_ml.adapters.vault.secret_file import SecretFile
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError, SecureMLError, ServiceRefusedError
from tests.adapters.vault.client_place import ClientPlace, read_one
from tests.adapters.vault.responder import Responder, Said
from tests.servers import vault_setup

pytestmark = pytest.mark.vault
CANARY = "canary-4711"


@pytest.fixture
def place(vault):
    with ClientPlace(vault) as made:
        yield made


@pytest.fixture
def given(place):
    """Makes tokens, and revokes them."""
    made = []

    def make():
        made.append(vault_setup.token(place.vault, "kv-reader"))
        return made[-1]

    yield make
    for token in made:
        vault_setup.revoke(place.vault, token)


def refused(client):
    with pytest.raises(ServiceRefusedError) as raised:
        read_one(client)
    assert CANARY not in str(raised.value)
    return raised.value.reason


def test_a_given_token_is_used(place, given):
    assert read_one(place.client(TokenLogin(token=Secret(f" {given()}\n")))) == "first"


def test_a_tokens_file_is_read_anew_when_vault_calls_the_token_invalid(place, given, tmp_path):
    file = tmp_path / "sink"
    first = given()
    file.write_text(f"{first}\n")
    client = place.client(TokenLogin(token=SecretFile(path=str(file))))
    assert read_one(client) == "first"

    vault_setup.revoke(place.vault, first)
    file.write_text(given())

    assert read_one(client) == "first"
    assert place.asked("kv/data/one") == 3


def test_a_tokens_file_that_holds_the_same_dead_token_is_tried_once(place, given, tmp_path):
    file = tmp_path / "sink"
    dead = given()
    file.write_text(dead)
    vault_setup.revoke(place.vault, dead)
    client = place.client(TokenLogin(token=SecretFile(path=str(file))))

    assert refused(client) == "token not valid"
    assert place.asked("kv/data/one") == 1
    # An agent may bring another at any time: that is seen at once.
    file.write_text(given())
    assert read_one(client) == "first"


def test_approle_takes_its_secret_id_from_a_file(place, tmp_path):
    role = place.role()
    file = tmp_path / "secret-id"
    file.write_text(role.secret_id.reveal())

    client = place.client(AppRoleLogin(role_id=role.role_id, secret_id=SecretFile(path=str(file))))

    assert read_one(client) == "first"


def test_approle_works_without_a_secret_id_where_the_role_demands_none(place):
    role_id, _ = vault_setup.approle(place.vault, "unbound", "kv-reader")
    order = {"bind_secret_id": False, "token_bound_cidrs": ["127.0.0.0/8"]}
    place.vault.api("POST", "auth/approle/role/unbound", order)

    assert read_one(place.client(AppRoleLogin(role_id=role_id))) == "first"


def test_approle_is_found_where_it_is_mounted(place):
    path = vault_setup.enable_auth(place.vault, "approle", "teams/ml")
    order = {"token_policies": ["kv-reader"], "token_ttl": "60s"}
    place.vault.api("POST", f"auth/{path}/role/a", order)
    role_id = place.vault.api("GET", f"auth/{path}/role/a/role-id")["data"]["role_id"]
    made = place.vault.api("POST", f"auth/{path}/role/a/secret-id", {})["data"]["secret_id"]

    client = place.client(AppRoleLogin(role_id=role_id, secret_id=Secret(made), mount=path))

    assert read_one(client) == "first"
    assert place.asked("auth/teams/ml/login") == 1


@pytest.mark.parametrize("where", ["nowhere", "token"])
def test_a_mount_where_no_such_method_is_refuses(place, where):
    role = place.role()
    client = place.client(AppRoleLogin(role_id=role.role_id, secret_id=role.secret_id, mount=where))

    assert refused(client) in ("login not accepted", "nothing at that path")


def test_a_user_logs_in_with_a_password(place):
    path = vault_setup.userpass(place.vault, "alice", "correct horse", "kv-reader")
    login = PasswordLogin(
        user="alice", password=Secret("correct horse"), method="userpass", mount=path
    )

    assert read_one(place.client(login)) == "first"


def test_a_wrong_password_is_refused(place):
    path = vault_setup.userpass(place.vault, "alice", "correct horse", "kv-reader")
    login = PasswordLogin(user="alice", password=Secret(CANARY), method="userpass", mount=path)

    assert refused(place.client(login)) == "login not accepted"


@pytest.mark.parametrize("user", ["", ".", "..", "../../sys/seal", "a/b", "a\nb"])
@pytest.mark.parametrize("method", ["userpass", "ldap"])
def test_a_name_that_leads_to_another_path_is_refused(user, method):
    with pytest.raises(ConfigurationError, match="user name"):
        PasswordLogin(user=user, password=Secret(CANARY), method=method, mount=method)


@pytest.mark.parametrize("user", ["a b", "a?b", "a#b", "a%2Fb", "DOMAIN\\a", "ä"])
@pytest.mark.parametrize("method", ["userpass", "ldap"])
def test_a_name_stays_one_part_of_the_path(place, user, method):
    auth = {"client_token": "token", "lease_duration": 0}
    with Responder(lambda asked: Said(body=[_json({"auth": auth})])) as vault:
        login = PasswordLogin(user=user, password=Secret(CANARY), method=method, mount=method)
        client = place.client(login, url=vault.url, allow_http=True)
        client.token()
        sent = vault.asked[0].path
        place.clients.remove(client)

    assert sent.startswith(f"/v1/auth/{method}/login/")
    assert not set("?# \\") & set(sent)
    assert sent.count("/") == 5


@pytest.mark.ldap
def test_a_user_of_a_directory_logs_in(place, ldap_server):
    path = vault_setup.ldap(place.vault, ldap_server, "kv-reader")
    login = PasswordLogin(
        user=ldap_server.user,
        password=Secret(ldap_server.password),
        method="ldap",
        mount=path,
    )

    assert read_one(place.client(login)) == "first"


@pytest.mark.ldap
def test_a_wrong_password_of_a_directory_is_refused(place, ldap_server):
    path = vault_setup.ldap(place.vault, ldap_server, "kv-reader")
    login = PasswordLogin(user=ldap_server.user, password=Secret(CANARY), method="ldap", mount=path)

    assert refused(place.client(login)) == "login not accepted"


def test_a_jwt_logs_in(place):
    issuer = vault_setup.JwtIssuer.trusted(place.vault, "worker", "kv-reader")
    login = JwtLogin(jwt=Secret(issuer.jwt()), role="worker", mount=issuer.path)

    assert read_one(place.client(login)) == "first"


def test_a_jwts_file_is_read_anew_at_each_login(place, tmp_path):
    issuer = vault_setup.JwtIssuer.trusted(place.vault, "worker", "kv-reader")
    file = tmp_path / "jwt"
    file.write_text(issuer.jwt())
    login = JwtLogin(jwt=SecretFile(path=str(file)), role="worker", mount=issuer.path)
    client = place.client(login)
    first = client.token()
    vault_setup.revoke(place.vault, first.value.reveal())
    file.write_text(issuer.jwt(subject="another"))

    assert read_one(client) == "first"
    assert client.token().value != first.value


@pytest.mark.parametrize("wrong", ["role", "expired", "signature"])
def test_a_jwt_that_vault_does_not_believe_is_refused(place, wrong):
    issuer = vault_setup.JwtIssuer.trusted(place.vault, "worker", "kv-reader")
    role = "another" if wrong == "role" else "worker"
    jwt = issuer.jwt(seconds=-3600 if wrong == "expired" else 60)
    if wrong == "signature":
        head, body, _ = jwt.split(".")
        jwt = f"{head}.{body}.{'A' * 86}"

    client = place.client(JwtLogin(jwt=Secret(jwt), role=role, mount=issuer.path))

    assert refused(client) == "login not accepted"


@pytest.fixture
def certificate(place, tmp_path):
    return place.vault.authority.for_client(tmp_path, "worker-one")


def test_a_certificate_logs_in(place, certificate):
    path = vault_setup.cert(place.vault, "worker-one", "kv-reader")
    client = place.client(
        CertificateLogin(mount=path, role="worker-one"),
        client_cert=str(certificate.file),
        client_key=str(certificate.key_file),
    )

    assert read_one(client) == "first"


def test_a_certificate_and_its_key_may_be_in_one_file(place, certificate, tmp_path):
    path = vault_setup.cert(place.vault, "worker-one", "kv-reader")
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.file.read_bytes() + certificate.key_file.read_bytes())

    client = place.client(CertificateLogin(mount=path), client_cert=str(both))

    assert read_one(client) == "first"


def test_another_ones_certificate_is_refused(place, tmp_path):
    path = vault_setup.cert(place.vault, "worker-one", "kv-reader")
    other = place.vault.authority.for_client(tmp_path, "worker-two")
    client = place.client(
        CertificateLogin(mount=path),
        client_cert=str(other.file),
        client_key=str(other.key_file),
    )

    assert refused(client) == "login not accepted"


def test_a_login_by_certificate_needs_one(place):
    client = place.client(CertificateLogin())

    with pytest.raises(ConfigurationError, match="expected a client_cert"):
        read_one(client)


@pytest.mark.parametrize(
    ("auth", "reason"),
    [
        (None, "login not accepted"),
        ("text", "login not accepted"),
        ({}, "login not accepted"),
        ({"client_token": ""}, "login not accepted"),
        ({"client_token": 7}, "login not accepted"),
        (
            {"client_token": "", "mfa_requirement": {"mfa_request_id": "x"}},
            "login asks for a second factor",
        ),
    ],
    ids=["none", "text", "empty", "no token", "number", "second factor"],
)
def test_an_answer_without_a_token_is_a_refusal(place, auth, reason):
    with Responder(lambda asked: Said(body=[_json({"auth": auth})])) as vault:
        client = place.client(AppRoleLogin(role_id="r"), url=vault.url, allow_http=True)

        assert refused(client) == reason


def test_the_namespace_goes_with_every_request(place):
    with Responder(lambda asked: Said(body=[b'{"auth": {"client_token": "t"}}'])) as vault:
        client = place.client(
            AppRoleLogin(role_id="r"), url=vault.url, allow_http=True, namespace="teams/ml"
        )
        client.call("x", lambda hvac: hvac.adapter.get("/v1/x"))
        client.close()

    assert [one.headers["X-Vault-Namespace"] for one in vault.asked] == ["teams/ml"] * 3


@pytest.mark.parametrize(
    "text", ["", " \n", "two words", "line\nline", f"{CANARY}\x00", "tökén", "{}" * 40_000]
)
def test_what_is_not_one_word_is_never_sent(place, tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text)

    for source in (SecretFile(path=str(file)), Secret(text)):
        client = place.client(TokenLogin(token=source))
        if source == Secret("{}" * 40_000):
            continue  # A word, and as such long enough for nobody.
        with pytest.raises(ConfigurationError, match=r"expected one word|longer than") as raised:
            read_one(client)
        assert CANARY not in str(raised.value)

    assert place.asked("kv/data/one") == 0


@pytest.mark.parametrize("what", ["missing", "directory", "pipe"])
def test_a_file_that_cannot_be_read_is_named(place, tmp_path, what):
    path = tmp_path / "token"
    if what == "directory":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    client = place.client(TokenLogin(token=SecretFile(path=str(path))))

    with pytest.raises(SecureMLError, match=f"token in {path}"):
        read_one(client)


def _json(value):
    return json.dumps(value).encode()
