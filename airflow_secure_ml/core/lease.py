"""A credential that somebody leases: its fields, how long it holds, and how it is given back.

What a field may be shown is decided here, once, for masking, for what a task may return and for
what an event may say. How a secret is known again is `secret_search`'s business.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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
# What a field holds that is a flag, as JSON writes it.
_WORDS = frozenset({"true", "false"})
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
        may_be_twice: Whether it was asked for more than once, so that there may be another of it
            that nobody heard of.
    """

    fields: Mapping[str, Secret]
    lease_id: Secret | None = None
    ttl_s: int | None = None
    renewable: bool = False
    may_be_twice: bool = False

    @property
    def id_digest(self) -> str | None:
        """The lease id as events name it."""
        if self.lease_id is None:
            return None
        return lease_digest(self.lease_id.reveal())

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that nobody may see; of a field that holds JSON, each text in it too."""
        shown = ((name, field.reveal()) for name, field in self.fields.items())
        found = [text for name, text in shown if name not in _PUBLIC]
        found += [leaf for text in found for leaf in _leaves(text)]
        return tuple(
            text
            for text in dict.fromkeys(found)
            if len(text) >= MIN_SECRET_CHARS and text not in _WORDS
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


def _leaves(text: str) -> Iterator[str]:
    """Texts inside a field that holds a JSON object or list; names apart, and what is no secret."""
    try:
        left = [json.loads(text)] if text[:1] in ("{", "[") else []
    except (ValueError, RecursionError):
        left = []
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += [value for name, value in one.items() if name not in _PUBLIC]
        elif isinstance(one, list):
            left += one
        elif isinstance(one, str):
            yield one


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
