"""Which fields of a connection each way to log in to Vault takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from airflow_secure_ml.adapters.vault.client import Login
from airflow_secure_ml.adapters.vault.logins import (
    AppRoleLogin,
    CertificateLogin,
    JwtLogin,
    KubernetesLogin,
    PasswordLogin,
    TokenLogin,
)
from airflow_secure_ml.adapters.vault.secret_file import SecretFile
from airflow_secure_ml.adapters.vault.wrapped_secret_id import WrappedSecretIdLogin

if TYPE_CHECKING:
    from airflow_secure_ml.hooks.vault_connection import VaultConnection

DEFAULT_JWT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount/token"


def _token(connection: VaultConnection) -> Login:
    found = connection.one_of(
        password=connection.password, token_path=connection.file("token_path")
    )
    if found is None:
        raise connection.wrong("auth_type token: expected the token as password, or token_path")
    return TokenLogin(token=found[1])


def _approle(connection: VaultConnection) -> Login:
    role_id = connection.user or connection.text("role_id")
    role_id = connection.needed("login", role_id, "expected the role id")
    mount = connection.mount("approle")
    found = connection.one_of(
        password=connection.password,
        secret_id_path=connection.file("secret_id_path"),
        wrapped_secret_id=connection.secret("wrapped_secret_id"),
        wrapped_secret_id_path=connection.file("wrapped_secret_id_path"),
    )
    if found is not None and found[0].startswith("wrapped"):
        role = connection.text("approle_name")
        return WrappedSecretIdLogin(role_id=role_id, wrapping=found[1], mount=mount, role=role)
    secret_id = None if found is None else found[1]
    return AppRoleLogin(role_id=role_id, secret_id=secret_id, mount=mount)


def _kubernetes(connection: VaultConnection) -> Login:
    role = connection.needed(
        "kubernetes_role", connection.text("kubernetes_role"), "expected the role in Vault"
    )
    jwt = connection.file("kubernetes_jwt_path") or SecretFile(path=DEFAULT_JWT_PATH)
    return KubernetesLogin(role=role, jwt=jwt, mount=connection.mount("kubernetes"))


def _jwt(connection: VaultConnection) -> Login:
    found = connection.one_of(
        jwt_token=connection.secret("jwt_token"), jwt_token_path=connection.file("jwt_token_path")
    )
    if found is None:
        raise connection.wrong("auth_type jwt: expected jwt_token_path or jwt_token")
    role = connection.text("jwt_role")
    return JwtLogin(jwt=found[1], role=role, mount=connection.mount("jwt"))


def _aws_iam(connection: VaultConnection) -> Login:
    # Imported here: boto3 is slow to import.
    from airflow_secure_ml.adapters.vault.aws_login import GLOBAL_REGION, AwsIamLogin

    if (connection.user is None) != (connection.password is None):
        raise connection.wrong(
            "login and password: expected an AWS access key in both, or none in either and the "
            "credentials where boto3 looks"
        )
    return AwsIamLogin(
        role=connection.text("role_id"),
        region=connection.text("region") or GLOBAL_REGION,
        server_id=connection.text("aws_server_id"),
        assume=connection.assumed_role(),
        access_key=connection.user,
        secret_key=connection.password,
        mount=connection.mount("aws"),
    )


def _cert(connection: VaultConnection) -> Login:
    connection.needed(
        "client_cert", connection.text("client_cert"), "expected the path of the certificate"
    )
    return CertificateLogin(role=connection.text("cert_role"), mount=connection.mount("cert"))


def _by_password(method: str) -> Callable[[VaultConnection], Login]:
    def login(connection: VaultConnection) -> Login:
        user = connection.needed("login", connection.user, "expected the user's name")
        if connection.password is None:
            raise connection.wrong("password: not set; expected the user's")
        return PasswordLogin(
            user=user,
            password=connection.password,
            method=method,
            mount=connection.mount(method),
        )

    return login


LOGINS: Mapping[str, Callable[[VaultConnection], Login]] = {
    "token": _token,
    "approle": _approle,
    "kubernetes": _kubernetes,
    "jwt": _jwt,
    "aws_iam": _aws_iam,
    "cert": _cert,
    "userpass": _by_password("userpass"),
    "ldap": _by_password("ldap"),
}
