"""What tests set up on a running Vault: engines, ways to log in, policies, keys.

Through Vault's own interface, beside the library that the product uses. Enabling twice is fine, so
tests of one session may share an engine; they pick names of their own within it.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dags_examples.demo.postgres_server import RunningPostgres
from dags_examples.demo.vault_api import VaultAnswerError
from dags_examples.demo.vault_server import RunningVault
from tests.servers.ldap import RunningLdap

POLICIES = Path(__file__).parents[2] / "docker" / "vault"
CREATE_ROLE = """\
CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';
GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}";"""
# Whoever is connected would keep the role from being dropped, or go on with it.
DROP_ROLE = """\
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';
DROP OWNED BY "{{name}}";
DROP ROLE IF EXISTS "{{name}}";"""


def enable_engine(vault: RunningVault, kind: str, path: str = "", **options: str) -> str:
    """Mount a secrets engine; returns its path."""
    path = path or kind
    if f"{path}/" not in vault.api("GET", "sys/mounts")["data"]:
        vault.api("POST", f"sys/mounts/{path}", {"type": kind, "options": options})
    return path


def enable_auth(vault: RunningVault, kind: str, path: str = "") -> str:
    """Enable a way to log in; returns its path."""
    path = path or kind
    if f"{path}/" not in vault.api("GET", "sys/auth")["data"]:
        vault.api("POST", f"sys/auth/{path}", {"type": kind})
    return path


def policy(vault: RunningVault, name: str, text: str | None = None) -> str:
    """Write a policy; without a text, the one of that name that the project ships."""
    if text is None:
        text = (POLICIES / f"{name}.hcl").read_text()
    vault.api("PUT", f"sys/policies/acl/{name}", {"policy": text})
    return name


def token(vault: RunningVault, *policies: str, ttl: str = "60s", **more: Any) -> str:
    """A token for the holder of some policies; whoever asks for it revokes it."""
    order = {"policies": policies, "ttl": ttl, "no_default_policy": True, "no_parent": True}
    return str(vault.api("POST", "auth/token/create", order | more)["auth"]["client_token"])


def revoke(vault: RunningVault, which: str) -> None:
    """Revoke a token, and its leases, if it still lives."""
    try:
        vault.api("POST", "auth/token/revoke", {"token": which})
    except VaultAnswerError as error:
        if error.status not in (400, 403):
            raise


def approle(
    vault: RunningVault, name: str, *policies: str, token_ttl: str = "60s", **more: Any
) -> tuple[str, str]:
    """An AppRole of some policies: its role id and a secret id."""
    path = f"auth/{enable_auth(vault, 'approle')}/role/{name}"
    vault.api("POST", path, {"token_policies": policies, "token_ttl": token_ttl} | more)
    role_id = vault.api("GET", f"{path}/role-id")["data"]["role_id"]
    secret_id = vault.api("POST", f"{path}/secret-id", {})["data"]["secret_id"]
    return role_id, secret_id


def wrapped_secret_id(vault: RunningVault, name: str, ttl: str = "60s") -> str:
    """A token that gives an AppRole's new secret id once."""
    wrapping = replace(vault.client(), wrap_ttl=ttl)
    wrapped = wrapping.call("POST", f"auth/approle/role/{name}/secret-id", {})
    return str(wrapped["wrap_info"]["token"])


def userpass(vault: RunningVault, user: str, password: str, *policies: str) -> str:
    """A user with a password; returns the path of the way to log in."""
    path = enable_auth(vault, "userpass")
    order = {"password": password, "token_policies": policies, "token_ttl": "60s"}
    vault.api("POST", f"auth/{path}/users/{user}", order)
    return path


def ldap(vault: RunningVault, server: RunningLdap, *policies: str) -> str:
    """Let users of an LDAP server log in; returns the path of the way to log in."""
    path = enable_auth(vault, "ldap")
    config = {"url": server.url, "userdn": server.people, "userattr": "uid", "token_ttl": "60s"}
    vault.api("POST", f"auth/{path}/config", config | {"groupfilter": "(cn=nobody)"})
    vault.api("POST", f"auth/{path}/users/{server.user}", {"policies": ",".join(policies)})
    return path


def cert(vault: RunningVault, name: str, *policies: str) -> str:
    """Let holders of the authority's client certificates named `name` log in; returns the path."""
    path = enable_auth(vault, "cert")
    order = {
        "certificate": vault.ca.read_text(),
        "allowed_common_names": [name],
        "token_policies": policies,
        "token_ttl": "60s",
    }
    vault.api("POST", f"auth/{path}/certs/{name}", order)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtIssuer:
    """Somebody whose signed statements about who one is Vault believes.

    Attributes:
        path: Of the way to log in.
        role: At which the statements are good.
    """

    path: str
    role: str
    audience: str = "vault"
    _key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )

    @classmethod
    def trusted(cls, vault: RunningVault, role: str, *policies: str) -> Self:
        """Make Vault trust a new one, for one role; it replaces the one before."""
        issuer = cls(path=enable_auth(vault, "jwt"), role=role)
        public = issuer._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        keys = {"jwt_validation_pubkeys": [public.decode()]}
        vault.api("POST", f"auth/{issuer.path}/config", keys)
        order = {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": [issuer.audience],
            "token_policies": policies,
            "token_ttl": "60s",
        }
        vault.api("POST", f"auth/{issuer.path}/role/{role}", order)
        return issuer

    def jwt(self, subject: str = "worker", seconds: int = 60) -> str:
        """A statement about a subject, good for some seconds."""
        import jwt

        now = datetime.datetime.now(datetime.UTC)
        claims = {
            "sub": subject,
            "aud": self.audience,
            "iat": now,
            "exp": now + datetime.timedelta(seconds=seconds),
        }
        return jwt.encode(claims, self._key, algorithm="ES256")


def kv(vault: RunningVault, secrets: dict[str, dict[str, str]], path: str = "kv") -> str:
    """A KV engine of version 2 with some secrets; returns its path."""
    enable_engine(vault, "kv", path, version="2")
    for name, data in secrets.items():
        vault.api("POST", f"{path}/data/{name}", {"data": data})
    return path


def transit_key(vault: RunningVault, name: str, kind: str = "aes256-gcm96", **more: Any) -> str:
    """A key of Transit, derived where its kind allows it; returns the engine's path."""
    path = enable_engine(vault, "transit")
    # Without it a typo in a name makes a key.
    vault.api("POST", f"{path}/config/keys", {"disable_upsert": True})
    derived = {"derived": kind in ("aes256-gcm96", "chacha20-poly1305")}
    vault.api("POST", f"{path}/keys/{name}", {"type": kind} | derived | more)
    return path


def pki(vault: RunningVault, role: str, domain: str = "example.test") -> str:
    """A PKI engine with a root of its own and a role; returns its path."""
    path = enable_engine(vault, "pki")
    if not vault.client().names(f"{path}/issuers"):
        vault.api("POST", f"{path}/root/generate/internal", {"common_name": "root", "ttl": "24h"})
    order = {"allowed_domains": [domain], "allow_subdomains": True, "generate_lease": True}
    vault.api("POST", f"{path}/roles/{role}", order | {"max_ttl": "1h", "ttl": "60s"})
    return path


def ssh(vault: RunningVault, role: str) -> str:
    """An SSH engine with a role of one-time passwords; returns its path."""
    path = enable_engine(vault, "ssh")
    order = {"key_type": "otp", "default_user": "alice", "cidr_list": "127.0.0.0/8"}
    vault.api("POST", f"{path}/roles/{role}", order)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Vault's database engine over a running PostgreSQL.

    Attributes:
        path: Where the engine is mounted.
        postgres: Where the roles appear.
    """

    vault: RunningVault
    postgres: RunningPostgres
    path: str = "database"

    @classmethod
    def mount(cls, vault: RunningVault, postgres: RunningPostgres) -> Self:
        """Mount it, with a role `reader` of one minute, four at most."""
        made = cls(vault=vault, postgres=postgres)
        enable_engine(vault, "database", made.path)
        address = f"{postgres.host}:{postgres.port}/{postgres.database}?sslmode=disable"
        order = {
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": "*",
            "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@{address}",
            "username": postgres.admin,
            "password": postgres.password,
            "password_authentication": "scram-sha-256",
        }
        vault.api("POST", f"{made.path}/config/postgres", order)
        made.make_role("reader", "1m", "4m")
        return made

    def make_role(self, name: str, default_ttl: str, max_ttl: str) -> str:
        """A role whose logins live so long; returns the path to lease from."""
        order = {
            "db_name": "postgres",
            "creation_statements": [CREATE_ROLE],
            "revocation_statements": [DROP_ROLE],
            "default_ttl": default_ttl,
            "max_ttl": max_ttl,
        }
        self.vault.api("POST", f"{self.path}/roles/{name}", order)
        return f"{self.path}/creds/{name}"
