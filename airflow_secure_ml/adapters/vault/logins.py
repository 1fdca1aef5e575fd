"""The ways to get a Vault token that take one request: one value each, its secrets masked.

What hvac offers is used. AppRole with a wrapped secret id and AWS IAM have modules of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import hvac

from airflow_secure_ml.adapters.vault.client import Ask
from airflow_secure_ml.adapters.vault.failures import LOG_IN
from airflow_secure_ml.adapters.vault.secret_file import SecretFile, one_word
from airflow_secure_ml.adapters.vault.token import Token
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogin:
    """A token that was given; never renewed and never revoked here.

    Attributes:
        token: The token, or the file where an agent puts it.
    """

    token: Secret | SecretFile

    def log_in(self, ask: Ask) -> Token:
        """The token, without asking: what it may do shows when it is used."""
        return Token(value=one_word("token", self.token))


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRoleLogin:
    """AppRole with a plain secret id.

    Attributes:
        role_id: The role's id.
        secret_id: Its secret id; None where the role demands none.
        mount: Where the method is mounted.
    """

    role_id: str
    secret_id: Secret | SecretFile | None = None
    mount: str = "approle"

    def log_in(self, ask: Ask) -> Token:
        """Log in."""
        secret_id = None if self.secret_id is None else one_word("secret id", self.secret_id)
        return approle_token(ask, self.role_id, secret_id, self.mount)


def approle_token(ask: Ask, role_id: str, secret_id: Secret | None, mount: str) -> Token:
    """A token for a role id and a secret id."""

    def request(vault: hvac.Client) -> object:
        return vault.auth.approle.login(
            role_id,
            secret_id=None if secret_id is None else secret_id.reveal(),
            use_token=False,
            mount_point=mount,
        )

    return Token.of_login(ask(f"{LOG_IN} by AppRole at {mount}", request))


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesLogin:
    """The service account of a pod.

    Attributes:
        role: Vault's role.
        jwt: The service account's token.
        mount: Where the method is mounted.
    """

    role: str
    jwt: Secret | SecretFile
    mount: str = "kubernetes"

    def log_in(self, ask: Ask) -> Token:
        """Log in."""
        jwt = one_word("JWT", self.jwt)

        def request(vault: hvac.Client) -> object:
            return vault.auth.kubernetes.login(
                self.role, jwt.reveal(), use_token=False, mount_point=self.mount
            )

        return Token.of_login(ask(f"{LOG_IN} by Kubernetes at {self.mount}", request))


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtLogin:
    """A JWT, or an OIDC provider's token.

    Attributes:
        jwt: The token.
        role: Vault's role; None: the method's default role.
        mount: Where the method is mounted.
    """

    jwt: Secret | SecretFile
    role: str | None = None
    mount: str = "jwt"

    def log_in(self, ask: Ask) -> Token:
        """Log in."""
        jwt = one_word("JWT", self.jwt)

        def request(vault: hvac.Client) -> object:
            return vault.auth.jwt.jwt_login(
                self.role, jwt.reveal(), use_token=False, path=self.mount
            )

        return Token.of_login(ask(f"{LOG_IN} by JWT at {self.mount}", request))


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateLogin:
    """The client certificate that the server's connection shows.

    Attributes:
        role: Vault's role; None: any that fits.
        mount: Where the method is mounted.
    """

    role: str | None = None
    mount: str = "cert"

    def log_in(self, ask: Ask) -> Token:
        """Log in."""

        def request(vault: hvac.Client) -> object:
            if not vault.session.cert:
                raise ConfigurationError("vault: login by certificate; expected a client_cert")
            return vault.auth.cert.login(
                name=self.role or "", use_token=False, mount_point=self.mount
            )

        return Token.of_login(ask(f"{LOG_IN} by certificate at {self.mount}", request))


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordLogin:
    """A user's name and password, in Vault itself or in a directory.

    Attributes:
        user: The name.
        password: The password.
        method: `userpass` or `ldap`.
        mount: Where the method is mounted.
    """

    user: str
    password: Secret
    method: str
    mount: str

    def __post_init__(self) -> None:
        # It becomes a part of a path, where dots and slashes would lead elsewhere.
        if "/" in self.user or self.user in ("", ".", "..") or not self.user.isprintable():
            raise ConfigurationError(
                f"vault: user name {self.user[:80]!r}; expected one without / that is not dots"
            )

    def log_in(self, ask: Ask) -> Token:
        """Log in."""

        def request(vault: hvac.Client) -> object:
            if self.method == "ldap":
                return vault.auth.ldap.login(
                    self.user, self.password.reveal(), use_token=False, mount_point=self.mount
                )
            # hvac quotes the name for LDAP only.
            return vault.auth.userpass.login(
                quote(self.user, safe=""),
                self.password.reveal(),
                use_token=False,
                mount_point=self.mount,
            )

        return Token.of_login(ask(f"{LOG_IN} by {self.method} at {self.mount}", request))
