"""From a connection's fields to a Vault server and a way to log in; nothing is read or connected.

Connections of the official hashicorp provider are taken as they are, with two exceptions: plain
http needs `allow_http`, and `verify: false` is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_secure_ml.adapters.vault.secret_file import SecretFile
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.get_provider_info import vault_fields

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.vault.client import Login
    from airflow_secure_ml.hooks.connections import ConnectionFields

CONN_TYPE = "vault_secure_ml"
# The official provider's, and those that a URI of its kind may have.
OFFICIAL_TYPES = ("vault", "vaults", "http", "https")

_MOUNT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*", re.ASCII)
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_SCHEMES = {"https": "https", "vaults": "https", "vault": "https", "http": "http"}
_SESSION = "airflow-secure-ml"
# What of the official provider's client_kwargs has a meaning here.
_KWARGS = {"verify", "namespace", "timeout", "cert", "assume_role_kwargs"}


class VaultConnection:
    """A connection's fields, read as Vault's.

    Args:
        fields: The connection.

    Raises:
        ConfigurationError: A type, field or value that leads to no Vault; its name is told, and
            no secret.
    """

    def __init__(self, fields: ConnectionFields) -> None:
        self._fields, self._extra = fields, dict(fields.extra)
        self._is_official = fields.conn_type in OFFICIAL_TYPES
        if fields.conn_type != CONN_TYPE and not self._is_official:
            raise self.wrong(
                f"it is of type {fields.conn_type!r}; expected {CONN_TYPE}, or vault as the "
                "official hashicorp provider has it"
            )
        if self._is_official:
            self._take_kwargs()
        else:
            self._refuse_unknown()

    def wrong(self, what: str) -> ConfigurationError:
        """The error about this connection."""
        return ConfigurationError(f"connection {self._fields.conn_id}: {what}")

    def server(self) -> VaultServer:
        """Where Vault is."""
        try:
            return VaultServer(
                url=self._url(),
                namespace=self.text("namespace"),
                ca=self.text("ca"),
                client_cert=self.text("client_cert"),
                client_key=self.text("client_key"),
                allow_http=self._flag("allow_http") or False,
                timeout_s=self._seconds("timeout_s", 10.0),
                deadline_s=self._seconds("deadline_s", 30.0),
            )
        except ConfigurationError as error:
            if str(error).startswith("connection "):
                raise
            raise self.wrong(str(error)) from error

    def login(self) -> Login:
        """How to log in there."""
        from airflow_secure_ml.hooks.vault_logins import LOGINS

        method = self.method
        made = LOGINS.get(method)
        if made is None:
            raise self.wrong(f"auth_type {method!r}; this release supports {', '.join(LOGINS)}")
        try:
            return made(self)
        except ConfigurationError as error:
            if str(error).startswith("connection "):
                raise
            raise self.wrong(str(error)) from error

    @property
    def method(self) -> str:
        """Its `auth_type`."""
        return self.text("auth_type") or "token"

    @property
    def user(self) -> str | None:
        """Its login."""
        return self._fields.login

    @property
    def password(self) -> Secret | None:
        """Its password."""
        return self._fields.password

    def text(self, name: str) -> str | None:
        """A field of its extra; None: not set."""
        found = self._extra.get(name)
        if found is None or found == "":
            return None
        if not isinstance(found, str):
            raise self.wrong(f"{name}: expected a text")
        return found.strip() or None

    def needed(self, name: str, found: str | None, why: str) -> str:
        """A text that must be there; `name` says where it belongs."""
        if found is None:
            raise self.wrong(f"{name}: not set; {why}")
        return found

    def mount(self, default: str) -> str:
        """Where the method is mounted."""
        found = (self.text("auth_mount_point") or default).strip("/").removeprefix("auth/")
        if not _MOUNT.fullmatch(found):
            raise self.wrong(f"auth_mount_point {found[:80]!r}; expected a path such as {default}")
        return found

    def one_of(
        self, **places: Secret | SecretFile | None
    ) -> tuple[str, Secret | SecretFile] | None:
        """The one of several places that is set, with its name; None: none is."""
        found = [(name, one) for name, one in places.items() if one is not None]
        if len(found) > 1:
            names = " and ".join(name for name, _ in found)
            raise self.wrong(f"{names} are set; leave all but one empty")
        return found[0] if found else None

    def secret(self, name: str) -> Secret | None:
        """A secret field of its extra."""
        found = self.text(name)
        return None if found is None else Secret(found)

    def file(self, name: str) -> SecretFile | None:
        """A field of its extra that names a file with a secret."""
        found = self.text(name)
        return None if found is None else SecretFile(path=found)

    def assumed_role(self) -> tuple[tuple[str, str], ...]:
        """The arguments of AWS' AssumeRole: the role that is to be become first, if any."""
        found = self._extra.get("aws_assume_role") or {}
        if isinstance(found, str):
            found = {"RoleArn": found}
        if not isinstance(found, Mapping) or not all(
            isinstance(one, str) for one in found.values()
        ):
            raise self.wrong("aws_assume_role: expected the ARN of a role")
        return tuple(({"RoleSessionName": _SESSION} | dict(found)).items()) if found else ()

    def _url(self) -> str:
        host = self._fields.host
        if host is None:
            raise self.wrong("host: not set; expected https://vault.example.org:8200")
        scheme, found, rest = host.partition("://")
        if not found:
            scheme, rest = self._default_scheme(), host
        if scheme.lower() not in _SCHEMES:
            raise self.wrong(f"host: begins with {scheme[:20]}://; expected https://")
        if self._fields.schema and not self._is_official:
            raise self.wrong("schema: has no meaning for Vault; leave it empty")
        rest = rest.rstrip("/")
        if self._fields.port:
            if re.search(r":\d+$", rest):
                raise self.wrong("port: the host has one already; leave it empty")
            rest = f"{rest}:{self._fields.port}"
        return f"{_SCHEMES[scheme.lower()]}://{rest}"

    def _default_scheme(self) -> str:
        if not self._is_official:
            return "https"
        use_tls = self._flag("use_tls")
        if use_tls is None:
            use_tls = self._fields.conn_type in ("vaults", "https")
        if not use_tls and not self._flag("allow_http"):
            raise self.wrong(
                "the official provider would speak plain http here, and tokens would be readable "
                "on the way; set use_tls in its extra, or allow_http for a test"
            )
        return "https" if use_tls else "http"

    def _flag(self, name: str) -> bool | None:
        found = self._extra.get(name)
        if found is None or found == "":
            return None
        text = str(found).strip().lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise self.wrong(f"{name}: expected true or false")

    def _seconds(self, name: str, default: float) -> float:
        found = self._extra.get(name)
        if found is None or found == "":
            return default
        try:
            return float(str(found))
        except ValueError:
            raise self.wrong(f"{name}: expected a number of seconds") from None

    def _refuse_unknown(self) -> None:
        # A misspelt namespace would be the root's, silently.
        unknown = sorted(set(self._extra) - set(vault_fields()))
        if unknown:
            names = ", ".join(repr(name[:40]) for name in unknown[:5])
            raise self.wrong(
                f"its extra has {names}; expected none but {', '.join(vault_fields())}"
            )

    def _take_kwargs(self) -> None:
        """Put the official provider's client_kwargs where this package has the same."""
        given = self._extra.pop("client_kwargs", None) or {}
        try:
            kwargs = json.loads(given) if isinstance(given, str) else given
        except ValueError:
            kwargs = None
        if not isinstance(kwargs, Mapping) or set(kwargs) - _KWARGS:
            raise self.wrong(f"client_kwargs: expected an object of {', '.join(sorted(_KWARGS))}")
        if kwargs.get("verify") is False:
            raise self.wrong(
                "client_kwargs: verify is false, and any server would be trusted; give the path "
                "of its CA's certificates"
            )
        cert = kwargs.get("cert")
        pair = list(cert) if isinstance(cert, (list, tuple)) else [cert, None]
        taken = {
            "ca": None if kwargs.get("verify") is True else kwargs.get("verify"),
            "namespace": kwargs.get("namespace"),
            "timeout_s": kwargs.get("timeout"),
            "client_cert": pair[0],
            "client_key": pair[1] if len(pair) == 2 else None,
            "aws_assume_role": kwargs.get("assume_role_kwargs"),
        }
        self._extra |= {name: value for name, value in taken.items() if value is not None}
