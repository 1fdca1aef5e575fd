"""A credential that somebody leases: its fields, how long it holds, and how it is given back.

What a field may be shown is decided here, once, for masking, for what a task may return and for
what an event may say.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError

# Fields that an engine hands out beside what is secret. Any other field is a secret.
_PUBLIC = frozenset(
    {
        "ca_chain",
        "certificate",
        "expiration",
        "ip",
        "issuing_ca",
        "key_type",
        "last_vault_rotation",
        "port",
        "private_key_type",
        "rotation_period",
        "serial_number",
        "signed_key",
        "ttl",
        "username",
    }
)
# Shorter texts stand in ordinary output by chance: masking them would hide everything else.
MIN_SECRET_CHARS = 5
MAX_FIELDS = 64
MAX_FIELD_CHARS = 65536
_PATH = re.compile(r"[A-Za-z0-9_.=+@-]+(/[A-Za-z0-9_.=+@-]+)+", re.ASCII)
# They change the server or make tokens; a task's credential is not among them.
_NOT_CREDENTIALS = ("sys/", "auth/", "cubbyhole/", "identity/", "v1/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a credential source handed out.

    Attributes:
        fields: By name; `username` and `password` where there is a login.
        lease_id: What renews and revokes it; None: the source does not lease it.
        ttl_s: Seconds it holds from now; None: it does not end, or nobody told.
        renewable: Whether it may be prolonged.
    """

    fields: Mapping[str, Secret]
    lease_id: Secret | None = None
    ttl_s: int | None = None
    renewable: bool = False

    @property
    def id_digest(self) -> str | None:
        """The lease id as events name it."""
        if self.lease_id is None:
            return None
        return lease_digest(self.lease_id.reveal())

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that nobody may see."""
        return tuple(
            text
            for name, field in self.fields.items()
            if name not in _PUBLIC and len(text := field.reveal()) >= MIN_SECRET_CHARS
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLine:
    """How a process without this package's libraries reaches the source to renew and revoke.

    Attributes:
        server: Address, certificates and time limits, as plain JSON values.
        token: The token that took the leases; they end with it.
        token_ttl_s: Seconds it holds; 0: it does not end.
        token_ours: Whether to revoke it when its owner is gone.
    """

    server: Mapping[str, Any]
    token: Secret
    token_ttl_s: int = 0
    token_ours: bool = False


def lease_digest(lease_id: str) -> str:
    """A lease id as events name it, `sha256:…`: the id itself would help whoever may revoke."""
    return "sha256:" + hashlib.sha256(lease_id.encode()).hexdigest()


def check_lease_path(name: str, path: str) -> str:
    """Return a path of a credential without slashes around it.

    Raises:
        ConfigurationError: Not a path, or one that hands out no credential.
    """
    bare = path.strip("/")
    parts = bare.split("/")
    if not _PATH.fullmatch(bare) or ".." in parts or "." in parts or len(bare) > 512:
        raise ConfigurationError(
            f"credentials[{name!r}]: {path[:80]!r} is no path; expected mount/… such as "
            "database/creds/reader"
        )
    if f"{bare}/".startswith(_NOT_CREDENTIALS):
        raise ConfigurationError(
            f"credentials[{name!r}]: {bare} hands out no credential; expected a path of a secrets "
            "engine, such as database/creds/reader"
        )
    return bare


def spellings(secret: str) -> Iterator[str]:
    """The forms in which a secret may turn up in a text: as it is, as a URL, JSON or Python hold it.

    Of the last two there are many where quotes are nested; these are the ones that libraries log.
    """
    in_url = (quote(secret), quote(secret, safe=""), quote_plus(secret))
    in_json = json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]
    # Beside a double quote a single one is escaped.
    in_python = repr(secret)[1:-1], repr(f'"{secret}')[2:-1]
    yield from dict.fromkeys((secret, *in_url, *in_json, *in_python))
    # Logs are masked line by line, and a private key has many.
    lines = secret.split("\n")
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= 16 and not line.startswith("-----"))


def holds_secret(value: Any, secrets: tuple[str, ...]) -> bool:
    """Whether a value, at any depth, holds one of these secrets in any spelling."""
    forms = [form for secret in secrets for form in spellings(secret)]
    return _holds(value, forms, {})


def _holds(value: Any, forms: list[str], seen: dict[int, Any]) -> bool:
    if isinstance(value, str):
        return any(form in value for form in forms)
    if isinstance(value, (bytes, bytearray)):
        return any(form.encode() in value for form in forms)
    if value is None or isinstance(value, (bool, int, float)) or id(value) in seen:
        return False
    # Kept alive: what a mapping makes for the moment would leave its id to the next.
    seen[id(value)] = value
    if isinstance(value, Mapping):
        return any(_holds(one, forms, seen) for pair in value.items() for one in pair)
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(_holds(one, forms, seen) for one in value)
    path = getattr(type(value), "__fspath__", None)
    if path is not None:
        return _holds(path(value), forms, seen)
    return any(_holds(one, forms, seen) for one in _attributes(value))


def _attributes(value: Any) -> list[Any]:
    """What an object holds, in its slots too."""
    fields = getattr(value, "__dict__", None)
    found = list(fields.values()) if isinstance(fields, dict) else []
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            # Python keeps a private name under its class's.
            private = name.startswith("__") and not name.endswith("__")
            stored = f"_{cls.__name__.lstrip('_')}{name}" if private else name
            found.append(getattr(value, stored, None))
    return found
